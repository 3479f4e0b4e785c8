//! What `appliance status` tells: the master, its processes, and what each worker publishes on the board. Put together
//! by the master from its own table of children, which says who is there, and the board, which says how busy they are.
//! Pure. The board's numbers come from processes that run application code, so none is passed on beyond its limit.
use crate::child::{Child, Role, Stage};
use crate::fleet::{Condition, Fleet};
use appliance_worker::board::{Slot, State};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The master itself.
    pub master: Master,
    /// The proxy; two while one replaces the other, none while a new one is awaited.
    pub proxy: Vec<Process>,
    /// The template; two while a reload is under way.
    pub template: Vec<Process>,
    /// The workers in order of id; an id has two entries while a successor boots or its predecessor finishes.
    pub workers: Vec<Worker>,
}

/// The master itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Master {
    /// Process id.
    pub pid: i32,
    /// Seconds since it was started.
    pub uptime: u64,
    /// Release of the binary.
    pub version: String,
    /// Number of reloads that have succeeded; new workers carry it.
    pub generation: u32,
    /// `starting`, `serving`, `reloading`, `crash-loop` or `stopping`.
    pub state: String,
    /// In a crash loop: why the last worker or template has ended, with the traceback if the application could not be
    /// loaded.
    pub reason: Option<String>,
    /// Where the proxy listens.
    pub listen: Vec<String>,
}

/// A proxy or a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Generation that it was started in.
    pub generation: u32,
    /// `booting`, `ready` or `draining`.
    pub state: String,
}

/// A worker. What it counts, it counts since its process began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub id: u32,
    /// Process id; none while it is dead or about to be forked.
    pub pid: Option<i32>,
    /// Generation that it was started in.
    pub generation: u32,
    /// `booting`, `ready`, `stalled` (its loop stands still for `timeouts.stall`), `retiring` (its successor is on the way),
    /// `draining` or `dead`.
    pub state: String,
    /// Requests that it runs, and may run at once.
    pub cores: Cores,
    /// Requests that wait for a core.
    pub waiting: u32,
    /// Requests finished.
    pub requests: u64,
    /// Requests that ended with an error of the application.
    pub exceptions: u64,
    /// Resident memory in KiB.
    pub rss_kib: u32,
}

/// The cores of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cores {
    /// Requests that run.
    pub busy: u32,
    /// Requests that may run at once.
    pub total: u32,
}

/// What the configuration lets a worker say of itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `workers.count`.
    pub workers: u32,
    /// `workers.cores`.
    pub cores: u32,
    /// `limits.waiting`.
    pub waiting: u32,
    /// `timeouts.stall`.
    pub stall: Duration,
}

impl Status {
    /// Puts it together; `slot` is the place of a worker's life on the board.
    pub fn compose<'a>(
        master: Master,
        fleet: &Fleet,
        limits: Limits,
        slot: impl Fn(u32, u32) -> &'a Slot,
    ) -> Status {
        let processes = |role| of_role(fleet, role).map(Process::of).collect();
        let worker = |id| {
            let mut entries: Vec<Worker> = of_role(fleet, Role::Worker(id))
                .map(|child| Worker::of(id, child, slot(id, child.life), limits))
                .collect();
            if entries.is_empty() {
                entries.push(Worker::absent(id, fleet, limits));
            }
            entries
        };
        Status {
            master,
            proxy: processes(Role::Proxy),
            template: processes(Role::Template),
            workers: (1..=limits.workers).flat_map(worker).collect(),
        }
    }
}

fn of_role(fleet: &Fleet, role: Role) -> impl Iterator<Item = &Child> {
    fleet.children().iter().filter(move |child| child.role == role)
}

impl Master {
    /// The master of this fleet.
    pub fn of(pid: Pid, fleet: &Fleet, began: Instant, now: Instant, listen: &[String]) -> Master {
        let state = match fleet.condition() {
            Condition::Starting => "starting",
            Condition::Serving => "serving",
            Condition::Reloading => "reloading",
            Condition::CrashLoop => "crash-loop",
            Condition::Stopping => "stopping",
        };
        Master {
            pid: pid.as_raw(),
            uptime: now.saturating_duration_since(began).as_secs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: fleet.generation(),
            state: state.to_owned(),
            reason: fleet.crash_loop(now).map(|(reason, _)| reason.to_owned()),
            listen: listen.to_vec(),
        }
    }
}

impl Process {
    fn of(child: &Child) -> Process {
        let state = stage(child.stage).to_owned();
        Process { pid: child.pid.as_raw(), generation: child.generation, state }
    }
}

impl Worker {
    fn of(id: u32, child: &Child, slot: &Slot, limits: Limits) -> Worker {
        let mut worker = Worker::at(id, child.generation, stage(child.stage), limits);
        worker.pid = Some(child.pid.as_raw());
        // Until it has taken its place, what stands there is that of another.
        if slot.pid.load(Relaxed) != child.pid.as_raw().unsigned_abs() {
            return worker;
        }
        if child.serves() && slot.state() == State::Draining {
            worker.state = stage(Stage::Leaving).to_owned();
        } else if child.stage == Stage::Ready && !limits.stall.is_zero() && child.health.stood >= limits.stall
        {
            worker.state = "stalled".to_owned();
        }
        worker.cores.busy = slot.busy.load(Relaxed).min(limits.cores);
        worker.waiting = slot.waiting.load(Relaxed).min(limits.waiting);
        worker.requests = slot.requests.load(Relaxed);
        worker.exceptions = slot.exceptions.load(Relaxed);
        worker.rss_kib = slot.rss_kib.load(Relaxed);
        worker
    }

    fn absent(id: u32, fleet: &Fleet, limits: Limits) -> Worker {
        let state = if fleet.is_ordered(Role::Worker(id)) { "booting" } else { "dead" };
        Worker::at(id, fleet.generation(), state, limits)
    }

    fn at(id: u32, generation: u32, state: &str, limits: Limits) -> Worker {
        let cores = Cores { busy: 0, total: limits.cores };
        Worker { id, generation, state: state.to_owned(), cores, ..Worker::default() }
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Booting => "booting",
        Stage::Ready => "ready",
        Stage::Retiring => "retiring",
        Stage::Leaving => "draining",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Event, Plan};

    const LIMITS: Limits = Limits { workers: 2, cores: 10, waiting: 100, stall: Duration::from_secs(2) };

    /// A fleet of two, of whom worker 1 has been forked and worker 2 has not been seen yet.
    fn fleet(now: Instant) -> Fleet {
        let (boot, graceful) = (Duration::from_secs(9), Duration::from_secs(9));
        let plan = Plan { workers: 2, boot, graceful, ..Plan::default() };
        let mut fleet = Fleet::new(plan);
        let pid = Pid::from_raw;
        for event in [
            Event::Tick,
            Event::Started { role: Role::Template, generation: 0, pid: pid(2) },
            Event::Loaded { pid: pid(2), line: String::new() },
            Event::Started { role: Role::Proxy, generation: 0, pid: pid(3) },
            Event::Forked { worker: 1, generation: 0, life: 0, pid: pid(4) },
        ] {
            fleet.on(event, now);
        }
        fleet
    }

    fn status(fleet: &Fleet, slot: &Slot) -> Status {
        Status::compose(Master::default(), fleet, LIMITS, |_, _| slot)
    }

    #[test]
    fn every_worker_is_told_of_whether_it_is_there_or_not() {
        let now = Instant::now();
        let mut fleet = fleet(now);
        let slot = Slot::default();
        let told = status(&fleet, &slot);
        assert_eq!(told.template, [Process { pid: 2, generation: 0, state: "ready".into() }]);
        assert_eq!(told.proxy, [Process { pid: 3, generation: 0, state: "ready".into() }]);
        let of = |told: &Status| -> Vec<(u32, Option<i32>, String)> {
            told.workers.iter().map(|worker| (worker.id, worker.pid, worker.state.clone())).collect()
        };
        assert_eq!(of(&told), [(1, Some(4), "booting".into()), (2, None, "booting".into())]);
        fleet.on(Event::Ready { pid: Pid::from_raw(4) }, now);
        fleet.on(Event::ForkFailed { worker: 2, text: "no memory".into() }, now);
        assert_eq!(of(&status(&fleet, &slot)), [(1, Some(4), "ready".into()), (2, None, "dead".into())]);
    }

    #[test]
    fn numbers_are_those_of_the_process_and_within_their_limits() {
        let fleet = fleet(Instant::now());
        let slot = Slot::default();
        slot.claim(4, 0, 10);
        slot.busy.store(u32::MAX, Relaxed);
        slot.waiting.store(7, Relaxed);
        slot.requests.store(12, Relaxed);
        let worker = &status(&fleet, &slot).workers[0];
        assert_eq!((worker.cores, worker.waiting, worker.requests), (Cores { busy: 10, total: 10 }, 7, 12));
        slot.pid.store(99, Relaxed);
        let worker = &status(&fleet, &slot).workers[0];
        assert_eq!((worker.cores.busy, worker.requests), (0, 0), "those were its predecessor's");
    }

    #[test]
    fn the_master_says_what_it_is_at() {
        let now = Instant::now();
        let mut fleet = fleet(now);
        let state = |fleet: &Fleet| {
            let later = now + Duration::from_secs(5);
            let master = Master::of(Pid::from_raw(1), fleet, now, later, &[]);
            assert_eq!(master.uptime, 5);
            master.state
        };
        assert_eq!(state(&fleet), "starting");
        fleet.on(Event::Ready { pid: Pid::from_raw(4) }, now);
        assert_eq!(state(&fleet), "serving");
        fleet.on(Event::Reload, now);
        assert_eq!(state(&fleet), "reloading");
        fleet.on(Event::StopNow, now);
        assert_eq!(state(&fleet), "stopping");
    }
}
