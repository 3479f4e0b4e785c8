//! The fleet against a made-up kernel: pids count up, time moves only when a test says so. A test reads as a session.
use super::stop::{LAST_WORDS, SAME_WISH};
use super::*;
use appliance_worker::engine::farewell;

mod configuration;
mod health;
mod scale;
mod walk;

const BOOT: Duration = Duration::from_secs(60);
const GRACEFUL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const KILLED: Ended = Ended::Signal(9);
const DONE: Ended = Ended::Code(0);

/// A fleet, its clock, and who runs.
struct Session {
    fleet: Fleet,
    began: Instant,
    now: Instant,
    last_pid: i32,
    /// Pids by role and generation, as the made-up kernel gave them; dead ones too.
    pids: BTreeMap<(Role, u32), Pid>,
    /// What the next configuration to be read says.
    configuration: Event,
    /// Whether a proxy is ready as soon as it is started.
    quick_proxy: bool,
}

impl Session {
    fn new(workers: u32) -> Session {
        Session::of(Plan { workers, ..Plan::default() })
    }

    fn of(plan: Plan) -> Session {
        let plan = Plan { boot: BOOT, graceful: GRACEFUL, ..plan };
        let next = Next { plan: plan.clone(), resizes: false, replaces_proxy: false, waiting: Vec::new() };
        let now = Instant::now();
        Session {
            fleet: Fleet::new(plan),
            began: now,
            now,
            last_pid: 100,
            pids: BTreeMap::new(),
            configuration: Event::Configured(next),
            quick_proxy: true,
        }
    }

    /// A fleet that serves, in its second hour.
    fn serving(workers: u32) -> Session {
        Session::serving_by(Plan { workers, ..Plan::default() })
    }

    fn serving_by(plan: Plan) -> Session {
        let workers = plan.workers;
        let mut session = Session::of(plan);
        session.tick();
        session.loaded(0);
        for worker in 1..=workers {
            session.forked(worker, 0);
            session.ready(worker, 0);
        }
        session.pass(Duration::from_secs(3600));
        session
    }

    /// Tells an event, and answers every `Start` and `Configure` as the master does.
    fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.fleet.on(event, self.now);
        let mut at = 0;
        while at < actions.len() {
            for event in self.answers(&actions[at].clone()) {
                actions.extend(self.fleet.on(event, self.now));
            }
            at += 1;
        }
        actions
    }

    fn answers(&mut self, action: &Action) -> Vec<Event> {
        match *action {
            Action::Configure { .. } => vec![self.configuration.clone()],
            Action::Start { role, generation } => {
                let pid = self.new_pid(role, generation);
                let ready = (role == Role::Proxy && self.quick_proxy).then_some(Event::Ready { pid });
                std::iter::once(Event::Started { role, generation, pid }).chain(ready).collect()
            }
            _ => Vec::new(),
        }
    }

    fn new_pid(&mut self, role: Role, generation: u32) -> Pid {
        self.last_pid += 1;
        let pid = Pid::from_raw(self.last_pid);
        self.pids.insert((role, generation), pid);
        pid
    }

    fn pid(&self, role: Role, generation: u32) -> Pid {
        self.pids[&(role, generation)]
    }

    fn worker(&self, worker: u32, generation: u32) -> Pid {
        self.pid(Role::Worker(worker), generation)
    }

    fn tick(&mut self) -> Vec<Action> {
        self.on(Event::Tick)
    }

    /// Lets time pass, in which the master is told something every second.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let (end, mut actions) = (self.now + time, Vec::new());
        while self.now + SECOND < end {
            self.now += SECOND;
            actions.extend(self.tick());
        }
        self.now = end;
        actions.extend(self.tick());
        actions
    }

    fn loaded(&mut self, generation: u32) -> Vec<Action> {
        let pid = self.pid(Role::Template, generation);
        self.on(Event::Loaded { pid, line: "CPython".into() })
    }

    fn load_failed(&mut self, generation: u32, code: i32) -> Vec<Action> {
        let pid = self.pid(Role::Template, generation);
        self.on(Event::LoadFailed { pid, code, text: "no module".into() })
    }

    fn forked(&mut self, worker: u32, generation: u32) -> Vec<Action> {
        let pid = self.new_pid(Role::Worker(worker), generation);
        let life = self.fleet.lives.get(&worker).copied().unwrap_or(0);
        self.on(Event::Forked { worker, generation, life, pid })
    }

    fn ready(&mut self, worker: u32, generation: u32) -> Vec<Action> {
        let pid = self.worker(worker, generation);
        self.on(Event::Ready { pid })
    }

    fn exited(&mut self, role: Role, generation: u32, ended: Ended) -> Vec<Action> {
        let pid = self.pid(role, generation);
        self.on(Event::Exited { pid, forked: None, ended })
    }
}

/// The actions that do something to a process. Which life of a worker they are about is left out.
fn deeds(actions: Vec<Action>) -> Vec<Action> {
    let without_life = |action| match action {
        Action::Fork { template, worker, .. } => Action::Fork { template, worker, life: 0 },
        Action::MarkDead { worker, .. } => Action::MarkDead { worker, life: 0 },
        other => other,
    };
    let is_deed = |action: &Action| {
        !matches!(action, Action::Say(_) | Action::Configure { .. } | Action::Adopt | Action::Abandon)
    };
    actions.into_iter().filter(is_deed).map(without_life).collect()
}

fn notices(actions: &[Action]) -> Vec<&Notice> {
    actions
        .iter()
        .filter_map(|action| if let Action::Say(notice) = action { Some(notice) } else { None })
        .collect()
}

fn start(role: Role, generation: u32) -> Action {
    Action::Start { role, generation }
}

// ---- start ----

#[test]
fn the_template_comes_first_then_the_proxy_and_all_workers_at_once() {
    let mut session = Session::new(2);
    assert_eq!(deeds(session.tick()), [start(Role::Template, 0)]);
    assert_eq!(deeds(session.tick()), [], "nothing is asked for twice");
    let template = session.pid(Role::Template, 0);
    assert_eq!(
        deeds(session.loaded(0)),
        [
            start(Role::Proxy, 0),
            Action::Fork { template, worker: 1, life: 0 },
            Action::Fork { template, worker: 2, life: 0 }
        ]
    );
    assert_eq!(deeds(session.forked(1, 0)), []);
    assert_eq!(session.ready(1, 0), [Action::Say(Notice::Serving)]);
    assert_eq!(session.forked(2, 0), []);
    assert_eq!(session.ready(2, 0), []);
}

#[test]
fn an_application_that_cannot_be_loaded_ends_the_start_with_its_code() {
    let mut session = Session::new(2);
    session.tick();
    let actions = session.load_failed(0, 64);
    assert_eq!(notices(&actions), [&Notice::Failed { text: "no module".into() }]);
    assert_eq!(deeds(actions), [Action::Kill(session.pid(Role::Template, 0))]);
    assert_eq!(deeds(session.exited(Role::Template, 0, KILLED)), [Action::Exit(64)]);
    assert_eq!(session.tick(), [], "nothing comes after the exit");
}

#[test]
fn a_template_that_dies_while_it_loads_ends_the_start() {
    let mut session = Session::new(1);
    session.tick();
    let actions = session.exited(Role::Template, 0, Ended::Signal(11));
    let text = "the template died while it loaded the application (SIGSEGV)".to_owned();
    assert_eq!(notices(&actions), [&Notice::Failed { text }]);
    assert_eq!(deeds(actions), [Action::Exit(1)]);
}

#[test]
fn a_template_that_takes_too_long_ends_the_start() {
    let mut session = Session::new(1);
    session.tick();
    assert_eq!(session.fleet.next_deadline(session.now), Some(session.now + BOOT));
    let actions = session.pass(BOOT);
    assert!(
        matches!(notices(&actions)[..], [Notice::Failed { text }] if text.contains("raise timeouts.boot"))
    );
    assert_eq!(deeds(actions), [Action::Kill(session.pid(Role::Template, 0))]);
    assert_eq!(deeds(session.exited(Role::Template, 0, KILLED)), [Action::Exit(1)]);
}

#[test]
fn a_worker_that_cannot_serve_ends_the_start_and_takes_all_others_along() {
    let mut session = Session::new(2);
    session.tick();
    session.loaded(0);
    session.forked(1, 0);
    session.forked(2, 0);
    let actions = deeds(session.exited(Role::Worker(1), 0, Ended::Code(abi::EXIT_BOOT)));
    let kills =
        [session.pid(Role::Template, 0), session.pid(Role::Proxy, 0), session.worker(2, 0)].map(Action::Kill);
    assert_eq!(actions[0], Action::MarkDead { worker: 1, life: 0 });
    assert!(kills.iter().all(|kill| actions.contains(kill)), "{actions:?}");
    session.exited(Role::Template, 0, KILLED);
    session.exited(Role::Worker(2), 0, KILLED);
    assert_eq!(deeds(session.exited(Role::Proxy, 0, KILLED)), [Action::Exit(1)]);
}

#[test]
fn a_worker_that_crashes_again_and_again_ends_the_start() {
    let mut session = Session::new(1);
    session.tick();
    session.loaded(0);
    for _ in 1..START_ATTEMPTS {
        session.forked(1, 0);
        assert!(matches!(
            notices(&session.exited(Role::Worker(1), 0, Ended::Signal(11)))[..],
            [Notice::Lost { .. }]
        ));
        session.pass(Backoff::LONGEST);
    }
    session.forked(1, 0);
    let actions = session.exited(Role::Worker(1), 0, Ended::Signal(11));
    assert!(matches!(notices(&actions)[..], [Notice::Failed { .. }]), "{actions:?}");
}

#[test]
fn a_proxy_that_cannot_start_ends_the_start() {
    let mut session = Session::new(1);
    session.tick();
    session.loaded(0);
    let actions = session.exited(Role::Proxy, 0, Ended::Code(1));
    assert!(matches!(notices(&actions)[..], [Notice::Failed { .. }]));
    assert_eq!(deeds(actions), [Action::Kill(session.pid(Role::Template, 0))]);
}

#[test]
fn a_first_fork_that_the_kernel_refuses_ends_the_start() {
    let mut session = Session::new(1);
    session.fleet.on(Event::Tick, session.now);
    let text = "Resource temporarily unavailable".to_owned();
    let refused = Event::NotStarted { role: Role::Template, generation: 0, text };
    assert_eq!(deeds(session.on(refused)), [Action::Exit(1)]);
}

// ---- replacement ----

#[test]
fn a_dead_worker_is_replaced_at_once() {
    let mut session = Session::serving(2);
    let template = session.pid(Role::Template, 0);
    let actions = session.exited(Role::Worker(2), 0, KILLED);
    assert!(matches!(notices(&actions)[..], [Notice::Lost { again_in: Duration::ZERO, .. }]));
    assert_eq!(
        deeds(actions),
        [Action::MarkDead { worker: 2, life: 0 }, Action::Fork { template, worker: 2, life: 0 }]
    );
}

#[test]
fn a_worker_that_keeps_dying_young_is_replaced_ever_later() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    for wait in [100, 200, 400, 800].map(Duration::from_millis) {
        session.forked(1, 0);
        session.ready(1, 0);
        let actions = session.exited(Role::Worker(1), 0, KILLED);
        assert!(matches!(notices(&actions)[..], [Notice::Lost { again_in, .. }] if *again_in == wait));
        assert_eq!(session.fleet.next_deadline(session.now), Some(session.now + wait));
        assert_eq!(deeds(session.pass(wait - Duration::from_millis(1))), []);
        assert_eq!(deeds(session.pass(Duration::from_millis(1))).len(), 1);
    }
    session.forked(1, 0);
    session.ready(1, 0);
    session.pass(Backoff::GOOD_LIFE);
    let actions = session.exited(Role::Worker(1), 0, KILLED);
    assert!(
        matches!(notices(&actions)[..], [Notice::Lost { again_in: Duration::ZERO, .. }]),
        "a good life resets"
    );
}

#[test]
fn once_served_a_worker_that_cannot_boot_is_no_reason_to_stop() {
    let mut session = Session::serving(2);
    session.exited(Role::Worker(1), 0, KILLED);
    session.forked(1, 0);
    let actions = session.exited(Role::Worker(1), 0, Ended::Code(abi::EXIT_BOOT));
    assert!(matches!(notices(&actions)[..], [Notice::Lost { .. }]));
    assert_eq!(deeds(actions), [Action::MarkDead { worker: 1, life: 0 }]);
}

#[test]
fn a_worker_that_is_never_ready_is_killed_and_replaced() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    session.forked(1, 0);
    assert_eq!(deeds(session.pass(BOOT)), [Action::Kill(session.worker(1, 0))]);
    assert_eq!(deeds(session.pass(BOOT)), [], "it is killed once");
    session.exited(Role::Worker(1), 0, KILLED);
    assert_eq!(deeds(session.pass(Backoff::FIRST)).len(), 1);
}

#[test]
fn a_dead_proxy_is_replaced_at_once() {
    let mut session = Session::serving(1);
    assert_eq!(deeds(session.exited(Role::Proxy, 0, KILLED)), [start(Role::Proxy, 0)]);
    assert_eq!(deeds(session.exited(Role::Proxy, 0, KILLED)), [], "the second one died young");
    assert_eq!(deeds(session.pass(Backoff::FIRST)), [start(Role::Proxy, 0)]);
}

#[test]
fn a_dead_template_is_replaced_and_its_workers_go_on() {
    let mut session = Session::serving(2);
    assert_eq!(deeds(session.exited(Role::Template, 0, KILLED)), [start(Role::Template, 0)]);
    assert_eq!(deeds(session.loaded(0)), []);
    let template = session.pid(Role::Template, 0);
    assert!(deeds(session.exited(Role::Worker(1), 0, KILLED)).contains(&Action::Fork {
        template,
        worker: 1,
        life: 0
    }));
}

#[test]
fn a_worker_that_dies_while_there_is_no_template_waits_for_one() {
    let mut session = Session::serving(1);
    session.exited(Role::Template, 0, KILLED);
    assert_eq!(deeds(session.exited(Role::Worker(1), 0, KILLED)), [Action::MarkDead { worker: 1, life: 0 }]);
    let template = session.pid(Role::Template, 0);
    assert_eq!(deeds(session.loaded(0)), [Action::Fork { template, worker: 1, life: 0 }]);
}

#[test]
fn a_new_template_that_cannot_load_is_tried_again_while_the_workers_serve() {
    let mut session = Session::serving(1);
    session.exited(Role::Template, 0, KILLED);
    let actions = session.load_failed(0, 1);
    assert!(matches!(notices(&actions)[..], [Notice::LoadFailed { again_in: Backoff::FIRST, .. }]));
    assert_eq!(deeds(session.exited(Role::Template, 0, Ended::Code(1))), []);
    assert_eq!(deeds(session.pass(Backoff::FIRST)), [start(Role::Template, 0)]);
}

#[test]
fn a_fork_that_its_template_did_not_survive_is_ordered_from_the_next() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    assert_eq!(deeds(session.exited(Role::Template, 0, KILLED)), [start(Role::Template, 0)]);
    let template = session.pid(Role::Template, 0);
    assert_eq!(deeds(session.loaded(0)), [Action::Fork { template, worker: 1, life: 0 }]);
}

#[test]
fn a_worker_that_speaks_up_after_its_template_died_takes_its_place_but_a_second_one_is_killed() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    session.exited(Role::Template, 0, KILLED);
    assert_eq!(deeds(session.forked(1, 0)), []);
    assert_eq!(deeds(session.loaded(0)), [], "the place is filled");
    let first = session.worker(1, 0);
    assert_eq!(deeds(session.forked(1, 0)), [Action::Kill(session.worker(1, 0))]);
    assert_eq!(deeds(session.exited(Role::Worker(1), 0, KILLED)), [], "the slot is the first one's");
    assert_eq!(deeds(session.on(Event::Ready { pid: first })), []);
}

#[test]
fn a_worker_that_died_before_it_could_speak_is_replaced() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    let (pid, template) = (Pid::from_raw(9999), session.pid(Role::Template, 0));
    let forked = Some((template, 1));
    assert_eq!(deeds(session.on(Event::Exited { pid, forked, ended: KILLED })), []);
    assert_eq!(deeds(session.pass(Backoff::FIRST)), [Action::Fork { template, worker: 1, life: 0 }]);
}

#[test]
fn a_template_that_does_not_fork_is_killed() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    assert_eq!(deeds(session.pass(BOOT))[..1], [Action::Kill(session.pid(Role::Template, 0))]);
}

#[test]
fn a_refused_fork_is_tried_again() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    let template = session.pid(Role::Template, 0);
    let actions = session.on(Event::ForkFailed { template, worker: 1, text: "no memory".into() });
    assert!(matches!(notices(&actions)[..], [Notice::NotForked { role: Role::Worker(1), .. }]));
    assert_eq!(deeds(session.pass(Backoff::FIRST)).len(), 1);
}

#[test]
fn orphans_and_strangers_change_nothing() {
    let mut session = Session::serving(1);
    let pid = Pid::from_raw(9999);
    assert_eq!(session.on(Event::Exited { pid, forked: None, ended: DONE }), []);
    assert_eq!(session.on(Event::Ready { pid }), []);
    assert_eq!(session.on(Event::Loaded { pid, line: String::new() }), []);
    assert_eq!(session.on(Event::Forked { worker: 7, generation: 0, life: 0, pid }), [Action::Kill(pid)]);
}

// ---- stop ----

#[test]
fn a_stop_goes_from_the_front_to_the_back() {
    let mut session = Session::serving(2);
    let actions = session.on(Event::Stop);
    assert_eq!(notices(&actions), [&Notice::Stopping]);
    assert_eq!(deeds(actions), [Action::Finish(session.pid(Role::Proxy, 0))]);
    assert_eq!(
        deeds(session.exited(Role::Proxy, 0, DONE)),
        [1, 2].map(|worker| Action::Finish(session.worker(worker, 0)))
    );
    assert_eq!(
        deeds(session.exited(Role::Worker(1), 0, DONE)),
        [Action::MarkDead { worker: 1, life: 0 }],
        "nobody is replaced any more"
    );
    let template = session.pid(Role::Template, 0);
    let actions = deeds(session.exited(Role::Worker(2), 0, DONE));
    assert_eq!(actions[1..], [Action::Quit { template }]);
    assert_eq!(deeds(session.exited(Role::Template, 0, DONE)), [Action::Exit(0)]);
}

#[test]
fn what_does_not_finish_in_time_is_killed() {
    let mut session = Session::serving(1);
    session.on(Event::Stop);
    session.exited(Role::Proxy, 0, DONE);
    assert_eq!(session.fleet.next_deadline(session.now), Some(session.now + GRACEFUL + LAST_WORDS));
    let actions = session.pass(GRACEFUL + LAST_WORDS);
    assert_eq!(notices(&actions), [&Notice::Cut { left: 2 }]);
    assert_eq!(deeds(actions).len(), 2);
    assert_eq!(session.fleet.next_deadline(session.now), None);
    session.exited(Role::Template, 0, KILLED);
    assert_eq!(deeds(session.exited(Role::Worker(1), 0, KILLED))[1..], [Action::Exit(0)]);
}

#[test]
fn a_proxy_whose_requests_do_not_end_leaves_the_workers_time_to_end() {
    let mut session = Session::serving(1);
    session.on(Event::Stop);
    let patience = GRACEFUL - farewell(GRACEFUL);
    assert_eq!(session.fleet.next_deadline(session.now), Some(session.now + patience));
    assert_eq!(deeds(session.pass(patience)), [Action::Finish(session.worker(1, 0))]);
    let actions = session.pass(farewell(GRACEFUL) + LAST_WORDS);
    assert_eq!(notices(&actions), [&Notice::Cut { left: 3 }]);
}

#[test]
fn a_second_signal_stops_now() {
    let mut session = Session::serving(1);
    session.on(Event::Stop);
    session.now += SAME_WISH / 2;
    assert_eq!(session.on(Event::Stop), [], "a wrapper has signalled the process and its group");
    session.now += SAME_WISH;
    let actions = session.on(Event::Stop);
    assert_eq!(notices(&actions), [&Notice::StopNow]);
    assert_eq!(deeds(actions).iter().filter(|action| matches!(action, Action::Kill(_))).count(), 3);
}

#[test]
fn a_stop_now_needs_no_first_wish() {
    let mut session = Session::serving(1);
    let actions = session.on(Event::StopNow);
    assert_eq!(notices(&actions), [&Notice::Stopping, &Notice::StopNow]);
    for role in [Role::Proxy, Role::Template, Role::Worker(1)] {
        assert!(actions.contains(&Action::Kill(session.pid(role, 0))), "{role}");
    }
    assert_eq!(session.fleet.condition(), Condition::Stopping);
}

#[test]
fn a_stop_while_the_application_loads_does_not_wait_for_it() {
    let mut session = Session::new(1);
    session.tick();
    assert_eq!(deeds(session.on(Event::Stop)), [Action::Kill(session.pid(Role::Template, 0))]);
    assert_eq!(deeds(session.exited(Role::Template, 0, KILLED)), [Action::Exit(0)]);
}

#[test]
fn a_worker_that_comes_during_the_stop_is_killed_and_waited_for() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    session.on(Event::Stop);
    assert_eq!(deeds(session.forked(1, 0)), [Action::Kill(session.worker(1, 0))]);
    session.exited(Role::Proxy, 0, DONE);
    session.exited(Role::Template, 0, DONE);
    let actions = deeds(session.exited(Role::Worker(1), 0, KILLED));
    assert_eq!(actions.last(), Some(&Action::Exit(0)));
}

// ---- lives that are neither short nor good ----

#[test]
fn who_ends_two_seconds_after_every_start_is_replaced_ever_more_rarely_until_one_lives_well() {
    let mut session = Session::serving(2);
    let role = Role::Worker(1);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let actions = session.exited(role, 0, KILLED);
        let again_in = notices(&actions).into_iter().find_map(|notice| match notice {
            Notice::Lost { again_in, .. } => Some(*again_in),
            _ => None,
        });
        let wait = again_in.unwrap();
        waits.push(wait.as_millis());
        session.pass(wait);
        session.forked(1, 0);
        session.ready(1, 0);
        session.pass(2 * SECOND);
    }
    assert_eq!(waits, [0, 0, 100, 200, 400], "one in its second hour, and then one that may be an accident");
    assert_eq!(session.fleet.condition(), Condition::Serving);
    session.pass(Backoff::GOOD_LIFE);
    let template = session.pid(Role::Template, 0);
    let actions = deeds(session.exited(role, 0, KILLED));
    assert!(
        matches!(actions[..], [_, Action::Fork { template: by, worker: 1, .. }] if by == template),
        "{actions:?}"
    );
}

#[test]
fn a_template_that_ends_two_seconds_after_every_start_waits_too() {
    let mut session = Session::serving(1);
    for wait in [0, 0, 100, 200] {
        let orders = deeds(session.exited(Role::Template, 0, KILLED));
        assert_eq!(orders.contains(&start(Role::Template, 0)), wait == 0, "{wait}: {orders:?}");
        session.pass(Duration::from_millis(wait));
        session.loaded(0);
        session.pass(2 * SECOND);
    }
}

#[test]
fn a_single_worker_that_ends_two_seconds_after_every_start_is_a_crash_loop() {
    let mut session = Session::serving(1);
    for _ in 0..7 {
        assert_eq!(session.fleet.condition(), Condition::Serving);
        session.exited(Role::Worker(1), 0, KILLED);
        let wait = session.fleet.backoffs.get(&Role::Worker(1)).and_then(|it| it.ends(session.now));
        session.pass(wait.map_or(Duration::ZERO, |at| at - session.now));
        if let Some((reason, _)) = session.fleet.crash_loop(session.now) {
            return assert!(reason.starts_with("worker 1 ended 2s after its start (SIGKILL)"), "{reason}");
        }
        session.forked(1, 0);
        session.ready(1, 0);
        session.pass(2 * SECOND);
    }
    panic!("it is none");
}

// ---- reload ----

#[test]
fn a_reload_replaces_one_worker_after_the_other_successor_first() {
    let mut session = Session::serving(2);
    assert_eq!(deeds(session.on(Event::Reload)), [start(Role::Template, 1)]);
    let template = session.pid(Role::Template, 1);
    assert_eq!(deeds(session.loaded(1)), [Action::Fork { template, worker: 1, life: 0 }]);
    assert_eq!(deeds(session.forked(1, 1)), []);
    assert_eq!(
        deeds(session.ready(1, 1)),
        [Action::Finish(session.worker(1, 0)), Action::Fork { template, worker: 2, life: 0 }]
    );
    session.forked(2, 1);
    assert_eq!(deeds(session.ready(2, 1)), [Action::Finish(session.worker(2, 0))]);
    session.exited(Role::Worker(1), 0, DONE);
    let actions = session.exited(Role::Worker(2), 0, DONE);
    assert_eq!(notices(&actions), [&Notice::Reloaded { generation: 1, waiting: Vec::new() }]);
    let old = session.pid(Role::Template, 0);
    assert_eq!(deeds(actions), [Action::MarkDead { worker: 2, life: 0 }, Action::Quit { template: old }]);
    assert_eq!(deeds(session.exited(Role::Template, 0, DONE)), []);
}

#[test]
fn a_reload_that_cannot_load_changes_nothing() {
    for crash in [false, true] {
        let mut session = Session::serving(2);
        session.on(Event::Reload);
        let actions = if crash {
            session.exited(Role::Template, 1, Ended::Signal(11))
        } else {
            session.load_failed(1, 1)
        };
        assert!(matches!(notices(&actions)[..], [Notice::ReloadFailed { .. }]), "{actions:?}");
        assert_eq!(deeds(actions), []);
        assert_eq!(deeds(session.on(Event::Reload)), [start(Role::Template, 2)], "the next one may succeed");
    }
}

#[test]
fn a_reload_that_takes_too_long_is_given_up() {
    let mut session = Session::serving(1);
    session.on(Event::Reload);
    assert_eq!(deeds(session.pass(BOOT)), [Action::Kill(session.pid(Role::Template, 1))]);
    let actions = session.exited(Role::Template, 1, KILLED);
    assert!(matches!(notices(&actions)[..], [Notice::ReloadFailed { .. }]));
}

#[test]
fn reloads_that_come_during_one_become_one_more() {
    let mut session = Session::serving(1);
    session.on(Event::Reload);
    assert_eq!(deeds(session.on(Event::Reload)), []);
    assert_eq!(deeds(session.on(Event::Reload)), []);
    session.loaded(1);
    session.forked(1, 1);
    assert_eq!(deeds(session.ready(1, 1)), [Action::Finish(session.worker(1, 0))]);
    let actions = deeds(session.exited(Role::Worker(1), 0, DONE));
    assert_eq!(
        actions[2..],
        [start(Role::Template, 2)],
        "not before the last one of generation 0 has left its slot"
    );
    session.loaded(2);
    session.forked(1, 2);
    session.ready(1, 2);
    let actions = session.exited(Role::Worker(1), 1, DONE);
    assert!(!actions.iter().any(|action| matches!(action, Action::Start { .. })));
}

#[test]
fn a_predecessor_that_does_not_finish_is_killed() {
    let mut session = Session::serving(1);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    session.ready(1, 1);
    assert_eq!(deeds(session.pass(GRACEFUL)), [Action::Kill(session.worker(1, 0))]);
}

#[test]
fn a_reload_whose_first_successor_dies_young_is_rolled_back() {
    let mut session = Session::serving(2);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    let template = session.pid(Role::Template, 1);
    let actions = session.exited(Role::Worker(1), 1, Ended::Code(abi::EXIT_BOOT));
    assert!(matches!(notices(&actions)[..], [Notice::ReloadFailed { .. }]), "{actions:?}");
    assert_eq!(
        deeds(actions),
        [Action::MarkDead { worker: 1, life: 0 }, Action::Quit { template }],
        "the predecessors serve on"
    );
    session.exited(Role::Template, 1, DONE);
    assert_eq!(deeds(session.on(Event::Reload)), [start(Role::Template, 2)], "the next one may succeed");
}

#[test]
fn a_new_template_that_dies_before_a_worker_is_ready_ends_the_reload() {
    let mut session = Session::serving(1);
    session.on(Event::Reload);
    session.loaded(1);
    let actions = session.exited(Role::Template, 1, KILLED);
    let text = "the new template ended before a worker was ready (SIGKILL)".to_owned();
    assert_eq!(notices(&actions), [&Notice::ReloadFailed { text }]);
    assert_eq!(deeds(actions), []);
    assert_eq!(session.fleet.condition(), Condition::Serving);
}

#[test]
fn what_was_ordered_for_a_failed_reload_is_not_taken_for_the_next() {
    let mut session = Session::serving(2);
    session.on(Event::Reload);
    session.loaded(1);
    session.exited(Role::Worker(2), 0, KILLED);
    session.forked(1, 1);
    session.exited(Role::Worker(1), 1, KILLED);
    session.on(Event::Reload);
    session.loaded(2);
    let orders = session.fleet.orders.len();
    session.exited(Role::Template, 1, DONE);
    assert_eq!(session.fleet.orders.len(), orders, "the next template has its own");
    assert_eq!(deeds(session.forked(2, 1)), [Action::Kill(session.worker(2, 1))]);
}

#[test]
fn a_template_that_is_stuck_is_no_reason_to_kill_its_successor() {
    let mut session = Session::serving(2);
    session.exited(Role::Worker(2), 0, KILLED);
    session.on(Event::Reload);
    session.pass(BOOT / 2);
    session.loaded(1);
    for worker in [1, 2] {
        session.forked(worker, 1);
        session.ready(worker, 1);
    }
    let actions = deeds(session.pass(BOOT / 2));
    assert!(actions.contains(&Action::Kill(session.pid(Role::Template, 0))), "{actions:?}");
    assert!(!actions.contains(&Action::Kill(session.pid(Role::Template, 1))), "{actions:?}");
}

#[test]
fn a_later_successor_that_dies_young_is_tried_again() {
    let mut session = Session::serving(2);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    session.ready(1, 1);
    session.forked(2, 1);
    session.exited(Role::Worker(2), 1, KILLED);
    let template = session.pid(Role::Template, 1);
    assert_eq!(deeds(session.pass(Backoff::FIRST)), [Action::Fork { template, worker: 2, life: 0 }]);
}

#[test]
fn a_worker_that_dies_during_a_reload_comes_back_in_the_new_generation() {
    let mut session = Session::serving(3);
    session.on(Event::Reload);
    session.loaded(1);
    let template = session.pid(Role::Template, 1);
    let actions = deeds(session.exited(Role::Worker(3), 0, KILLED));
    assert_eq!(
        actions[1..],
        [Action::Fork { template, worker: 3, life: 0 }],
        "although worker 1's successor still boots"
    );
}

#[test]
fn a_dead_template_is_replaced_during_a_reload_too() {
    let mut session = Session::serving(1);
    session.on(Event::Reload);
    assert_eq!(deeds(session.exited(Role::Template, 0, KILLED)), [start(Role::Template, 0)]);
    let template = session.pid(Role::Template, 1);
    assert_eq!(deeds(session.loaded(1)), [Action::Fork { template, worker: 1, life: 0 }]);
    assert_eq!(deeds(session.loaded(0)), [], "the old generation does not come back");
}

#[test]
fn a_new_application_clears_the_record_of_the_old_one() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    for _ in 0..8 {
        session.forked(1, 0);
        session.exited(Role::Worker(1), 0, KILLED);
        session.pass(Backoff::LONGEST);
    }
    session.forked(1, 0);
    session.exited(Role::Worker(1), 0, KILLED);
    session.on(Event::Reload);
    let template = session.pid(Role::Template, 1);
    assert_eq!(deeds(session.loaded(1)), [Action::Fork { template, worker: 1, life: 0 }]);
}

#[test]
fn a_stop_during_a_reload_takes_both_generations() {
    let mut session = Session::serving(1);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    session.on(Event::Stop);
    let actions = deeds(session.exited(Role::Proxy, 0, DONE));
    assert_eq!(actions, [session.worker(1, 0), session.worker(1, 1)].map(Action::Finish));
    session.exited(Role::Worker(1), 0, DONE);
    let actions = deeds(session.exited(Role::Worker(1), 1, DONE));
    let quits = [0, 1].map(|generation| Action::Quit { template: session.pid(Role::Template, generation) });
    assert_eq!(actions[1..], quits);
}
