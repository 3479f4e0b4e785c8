//! Random walks: a made-up kernel answers slowly and in any order, while somebody reloads, scales and kills. Whatever
//! happens, no place on the board has two processes, nobody who does its work is killed, and in the end there is what was
//! asked for.
use super::*;
use appliance_worker::board::BANKS;

const MILLIS: Duration = Duration::from_millis(1);
const ROOM: u32 = 5;

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    /// Below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[self.roll(all.len() as u64) as usize])
    }
}

/// A process of the made-up kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    role: Role,
    generation: u32,
    life: u32,
    pid: Pid,
    is_ready: bool,
    /// It was told to finish, or to quit.
    is_told: bool,
    is_killed: bool,
}

/// What goes wrong, by chance.
#[derive(Clone, Copy, PartialEq)]
enum Luck {
    Good,
    Bad,
}

struct World {
    dice: Dice,
    fleet: Fleet,
    now: Instant,
    last_pid: i32,
    processes: Vec<Process>,
    /// Orders that a template has not followed yet.
    forks: Vec<(Pid, u32, u32)>,
    luck: Luck,
    /// Something has gone wrong already.
    is_scarred: bool,
    exit: Option<i32>,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let (boot, graceful) = (BOOT, GRACEFUL);
        let plan = Plan { workers: 3, room: ROOM, boot, graceful, max_requests: 10, ..Plan::default() };
        World {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            fleet: Fleet::new(plan),
            now: Instant::now(),
            last_pid: 100,
            processes: Vec::new(),
            forks: Vec::new(),
            luck: Luck::Good,
            is_scarred: false,
            exit: None,
            log: Vec::new(),
        }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.luck == Luck::Bad && self.dice.roll(100) < percent
    }

    fn tell(&mut self, event: Event) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if !matches!(event, Event::Tick | Event::Looked { .. }) {
                self.log.push(format!("{event:?}"));
            }
            for action in self.fleet.on(event, self.now) {
                self.log.push(format!("    {action:?}"));
                events.extend(self.perform(action));
            }
        }
        self.check();
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        assert_eq!(self.exit, None, "nothing comes after the exit");
        match action {
            Action::Start { role, generation } => {
                if self.chance(10) {
                    return Some(Event::NotStarted { role, generation, text: "no memory".into() });
                }
                let pid = self.spawn(role, generation, 0);
                Some(Event::Started { role, generation, pid })
            }
            Action::Configure { .. } => Some(self.configuration()),
            Action::Fork { template, worker, life } => {
                self.forks.push((template, worker, life));
                None
            }
            Action::Quit { template: pid } | Action::Finish(pid) => {
                self.by_pid(pid).is_told = true;
                None
            }
            Action::Kill(pid) => {
                let good = !self.is_scarred && self.fleet.stop_told.is_none();
                let process = self.by_pid(pid);
                let did_its_work = process.is_ready && !process.is_told;
                process.is_killed = true;
                assert!(!(good && did_its_work), "{pid} did its work");
                None
            }
            Action::Exit(code) => {
                self.exit = Some(code);
                None
            }
            _ => None,
        }
    }

    fn configuration(&mut self) -> Event {
        if self.chance(20) {
            return Event::Misconfigured { text: "line 3".into() };
        }
        let workers = self.dice.roll(u64::from(ROOM)) as u32 + 1;
        let plan = Plan { workers, ..self.fleet.plan.clone() };
        let (resizes, replaces_proxy) = (self.dice.roll(2) == 0, self.dice.roll(2) == 0);
        Event::Configured(Next { plan, resizes, replaces_proxy, waiting: Vec::new() })
    }

    fn spawn(&mut self, role: Role, generation: u32, life: u32) -> Pid {
        self.last_pid += 1;
        let pid = Pid::from_raw(self.last_pid);
        let process =
            Process { role, generation, life, pid, is_ready: false, is_told: false, is_killed: false };
        self.processes.push(process);
        pid
    }

    fn by_pid(&mut self, pid: Pid) -> &mut Process {
        self.processes.iter_mut().find(|process| process.pid == pid).expect("it lives")
    }

    /// Whatever must hold at every moment.
    fn check(&self) {
        for process in &self.processes {
            let same_place = |other: &&Process| {
                other.role == process.role
                    && other.life % BANKS == process.life % BANKS
                    && !other.is_killed
                    && matches!(other.role, Role::Worker(_))
            };
            let living = self.processes.iter().filter(same_place).count();
            assert!(living <= 1, "two on the place of {process:?}");
        }
        let ready = |role: fn(Role) -> bool| {
            self.processes.iter().any(|one| role(one.role) && one.is_ready && !one.is_told && !one.is_killed)
        };
        if !self.is_scarred && self.fleet.phase == Phase::Serving && self.fleet.stop_told.is_none() {
            assert!(ready(|role| role == Role::Proxy), "no proxy");
            assert!(ready(|role| matches!(role, Role::Worker(_))), "no worker");
        }
    }

    /// One process does what is next for it; false: nobody has anything to do.
    fn step(&mut self) -> bool {
        let busy: Vec<Process> = self
            .processes
            .iter()
            .filter(|one| !one.is_ready || one.is_told || one.is_killed)
            .copied()
            .collect();
        let forks = self.forks.len() as u64;
        let total = forks + busy.len() as u64;
        if total == 0 {
            return false;
        }
        let at = self.dice.roll(total);
        if at < forks {
            self.follow(at as usize);
        } else {
            self.go_on(busy[(at - forks) as usize]);
        }
        true
    }

    /// A template follows an order, if it still lives.
    fn follow(&mut self, at: usize) {
        let (template, worker, life) = self.forks.remove(at);
        let Some(found) = self.processes.iter().find(|one| one.pid == template && !one.is_killed) else {
            return;
        };
        let generation = found.generation;
        if self.chance(10) {
            return self.tell(Event::ForkFailed { template, worker, text: "no memory".into() });
        }
        if self.chance(5) {
            let pid = Pid::from_raw(1);
            return self.tell(Event::Exited { pid, forked: Some((template, worker)), ended: KILLED });
        }
        let pid = self.spawn(Role::Worker(worker), generation, life);
        self.tell(Event::Forked { worker, generation, life, pid });
    }

    fn go_on(&mut self, process: Process) {
        let pid = process.pid;
        if process.is_killed || process.is_told {
            return self.end(pid, if process.is_killed { KILLED } else { DONE });
        }
        if self.chance(15) {
            return self.end(pid, KILLED);
        }
        if process.role == Role::Template && self.chance(15) {
            self.tell(Event::LoadFailed { pid, code: 1, text: "no module".into() });
            return self.end(pid, Ended::Code(1));
        }
        self.by_pid(pid).is_ready = true;
        self.tell(match process.role {
            Role::Template => Event::Loaded { pid, line: String::new() },
            _ => Event::Ready { pid },
        });
    }

    fn end(&mut self, pid: Pid, ended: Ended) {
        self.processes.retain(|one| one.pid != pid);
        self.tell(Event::Exited { pid, forked: None, ended });
    }

    /// Somebody wants something, or a process dies.
    fn meddle(&mut self) {
        match self.dice.roll(9) {
            0 | 1 => self.tell(Event::Reload),
            2 | 3 => {
                let workers = self.dice.roll(u64::from(ROOM)) as u32 + 1;
                self.tell(Event::Scale { workers });
            }
            4 => {
                let worker = self.dice.roll(u64::from(ROOM)) as u32 + 1;
                self.tell(Event::SocketRenewed { worker });
            }
            5 => {
                let all: Vec<Pid> = self.processes.iter().map(|one| one.pid).collect();
                if let Some(pid) = self.dice.pick(&all) {
                    self.tell(Event::Worn { pid, requests: 20 });
                }
            }
            _ if self.luck == Luck::Bad => {
                let all: Vec<Pid> = self.processes.iter().map(|one| one.pid).collect();
                if let Some(pid) = self.dice.pick(&all) {
                    self.end(pid, KILLED);
                }
            }
            _ => {}
        }
    }

    fn look(&mut self) {
        self.tell(Event::Looked { all: Vec::new(), queue: Queue::default() });
    }

    /// Lets everything come to rest.
    fn rest(&mut self) {
        for _ in 0..2000 {
            if !self.step() {
                let next = self.fleet.next_deadline(self.now).filter(|&at| at > self.now);
                if next.is_none() && self.is_settled() {
                    return;
                }
                self.now = next.unwrap_or(self.now + SECOND).min(self.now + SECOND);
            }
            self.now += MILLIS;
            self.look();
            if self.exit.is_some() {
                return;
            }
        }
        panic!("it does not come to rest: {:#?}", self.fleet);
    }

    fn is_settled(&self) -> bool {
        let fleet = &self.fleet;
        fleet.reload == Reload::Idle && !fleet.is_scaling && fleet.is_in_order()
    }

    /// There is exactly what was asked for.
    fn check_rest(&self) {
        let fleet = &self.fleet;
        let mut there: Vec<(Role, u32)> =
            self.processes.iter().map(|one| (one.role, one.generation)).collect();
        there.sort_unstable();
        let workers = (1..=fleet.plan.workers).map(|id| (Role::Worker(id), fleet.generation));
        let mut wanted = vec![(Role::Proxy, fleet.proxy), (Role::Template, fleet.generation)];
        wanted.extend(workers);
        assert_eq!(there, wanted);
        assert_eq!(fleet.orders.len(), 0);
    }

    fn walk(&mut self, steps: u32) {
        for _ in 0..steps {
            if self.dice.roll(6) == 0 {
                self.meddle();
            } else {
                self.step();
            }
            self.now += MILLIS * self.dice.roll(60) as u32;
            self.look();
        }
    }

    fn stop(&mut self) {
        let event = if self.dice.roll(3) == 0 { Event::StopNow } else { Event::Stop };
        self.tell(event);
        self.rest();
        assert_eq!(self.exit, Some(0));
        assert_eq!(self.processes, []);
    }
}

/// Shows how it came to a failure.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.log.len().saturating_sub(120);
            eprintln!("{}", self.log[last..].join("\n"));
        }
    }
}

fn walks(luck: Luck) {
    for seed in 1..1000 {
        let mut world = World::new(seed);
        world.log.push(format!("seed {seed}"));
        world.tell(Event::Tick);
        world.rest();
        (world.luck, world.is_scarred) = (luck, luck == Luck::Bad);
        world.walk(200);
        world.luck = Luck::Good;
        if luck == Luck::Bad || seed % 2 == 0 {
            world.rest();
            world.check_rest();
        }
        world.stop();
    }
}

#[test]
fn reloads_and_scaling_in_any_order_end_with_what_was_asked_for() {
    walks(Luck::Good);
}

#[test]
fn deaths_and_refusals_at_any_moment_leave_nothing_behind() {
    walks(Luck::Bad);
}
