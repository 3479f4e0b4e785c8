//! What `appliance status` tells: the master, its processes, and what each worker publishes on the board. Put together
//! by the master from its own table of children, which says who is there, and the board, which says how busy they are.
//! Pure. The board's numbers come from processes that run application code, so none is passed on beyond its limit. A field
//! that is missing in what another release tells counts as nothing.
use crate::child::{Child, Role, Stage};
use crate::fleet::{Condition, Fleet};
use crate::mode::{self, Current};
use appliance_worker::board::{Slot, State};
use appliance_worker::panel::Pulse;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The master itself.
    pub master: Master,
    /// The proxy; two while one replaces the other, none while a new one is awaited.
    pub proxy: Vec<Proxy>,
    /// The template; two while a reload is under way.
    pub template: Vec<Process>,
    /// The workers in order of id; an id has two entries while a successor boots or its predecessor finishes.
    pub workers: Vec<Worker>,
}

/// The master itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// What the proxy does with requests: `serving`, `paused`, `maintenance`, `crash-loop` or `leaving`.
    pub mode: String,
    /// Seconds since it does; none while it serves.
    pub mode_seconds: Option<u64>,
    /// Where the proxy listens.
    pub listen: Vec<String>,
}

/// A proxy. Its counters begin at 0 in each process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxy {
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// Client connections.
    pub connections: u32,
    /// Requests whose answers are not complete.
    pub in_flight: u32,
    /// Requests that wait for a worker.
    pub queued: u32,
    /// Requests that have waited for a worker and wait no more.
    pub dequeued: u64,
    /// How long these have waited together, in microseconds.
    pub queue_us: u64,
    /// Milliseconds since all of its threads have had a turn; none before the first.
    pub tick_age_ms: Option<u64>,
}

/// A process: on its own that of a template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Generation that it was started in.
    pub generation: u32,
    /// `booting`, `ready` or `draining`.
    pub state: String,
    /// Seconds since it was forked.
    pub age: u64,
}

/// A worker. What it counts, it counts since its process began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// How long the last turn of its loop took, in microseconds.
    pub lag_us: u64,
    /// Milliseconds since its loop last began a turn, about a second at most if it is well; none before the first.
    pub tick_age_ms: Option<u64>,
}

/// The cores of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cores {
    /// Requests that run.
    pub busy: u32,
    /// Requests that may run at once.
    pub total: u32,
}

/// What the configuration lets a process say of itself.
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
    /// `limits.connections`.
    pub connections: u32,
    /// `limits.queue`.
    pub queue: u32,
}

/// Where processes say how they are.
#[derive(Clone, Copy, Debug)]
pub struct Sources<S, P> {
    /// From a worker's id and life to its slot on the board.
    pub slot: S,
    /// From a proxy's generation to its pulse on the panel.
    pub pulse: P,
    /// Now.
    pub now: Instant,
    /// Now, in milliseconds of the monotonic clock that they use.
    pub now_ms: u64,
}

impl Status {
    /// Puts it together.
    pub fn compose<'a, S, P>(master: Master, fleet: &Fleet, limits: Limits, sources: Sources<S, P>) -> Status
    where
        S: Fn(u32, u32) -> &'a Slot,
        P: Fn(u32) -> &'a Pulse,
    {
        let (now, now_ms) = (sources.now, sources.now_ms);
        let worker = |id| {
            let mut entries: Vec<Worker> = of_role(fleet, Role::Worker(id))
                .map(|child| Worker::of(id, child, (sources.slot)(id, child.life), limits, now_ms))
                .collect();
            if entries.is_empty() {
                entries.push(Worker::absent(id, fleet, limits));
            }
            entries
        };
        let process = |child: &Child| Process::of(child, now);
        let proxy =
            |child: &Child| Proxy::of(process(child), (sources.pulse)(child.generation), limits, now_ms);
        Status {
            master,
            proxy: of_role(fleet, Role::Proxy).map(proxy).collect(),
            template: of_role(fleet, Role::Template).map(process).collect(),
            workers: (1..=limits.workers).flat_map(worker).collect(),
        }
    }
}

fn of_role(fleet: &Fleet, role: Role) -> impl Iterator<Item = &Child> {
    fleet.children().iter().filter(move |child| child.role == role)
}

impl Master {
    /// The master of this fleet.
    pub fn of(
        pid: Pid,
        fleet: &Fleet,
        current: Current,
        began: Instant,
        now: Instant,
        listen: &[String],
    ) -> Master {
        let seconds_since = |then: Instant| now.saturating_duration_since(then).as_secs();
        let state = match fleet.condition() {
            Condition::Starting => "starting",
            Condition::Serving => "serving",
            Condition::Reloading => "reloading",
            Condition::CrashLoop => "crash-loop",
            Condition::Stopping => "stopping",
        };
        Master {
            pid: pid.as_raw(),
            uptime: seconds_since(began),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: fleet.generation(),
            state: state.to_owned(),
            reason: fleet.crash_loop(now).map(|(reason, _)| reason.to_owned()),
            mode: mode::name(current.mode).to_owned(),
            mode_seconds: current.since.map(seconds_since),
            listen: listen.to_vec(),
        }
    }
}

impl Process {
    fn of(child: &Child, now: Instant) -> Process {
        let state = stage(child.stage).to_owned();
        let age = now.saturating_duration_since(child.since).as_secs();
        Process { pid: child.pid.as_raw(), generation: child.generation, state, age }
    }
}

impl Proxy {
    fn of(process: Process, pulse: &Pulse, limits: Limits, now_ms: u64) -> Proxy {
        let mut proxy = Proxy { process, ..Proxy::default() };
        // Until it has taken its place, what stands there is that of another.
        if pulse.pid.load(Relaxed) != proxy.process.pid.unsigned_abs() {
            return proxy;
        }
        proxy.connections = pulse.connections.load(Relaxed).min(limits.connections);
        proxy.in_flight = pulse.in_flight.load(Relaxed);
        proxy.queued = pulse.queued.load(Relaxed).min(limits.queue);
        proxy.dequeued = pulse.dequeued.load(Relaxed);
        proxy.queue_us = pulse.queue_us.load(Relaxed);
        proxy.tick_age_ms = age_ms(pulse.tick_ms.load(Relaxed), now_ms);
        proxy
    }
}

/// How long ago a tick was; 0 stands for none yet.
fn age_ms(tick_ms: u64, now_ms: u64) -> Option<u64> {
    (tick_ms > 0).then(|| now_ms.saturating_sub(tick_ms))
}

impl Worker {
    fn of(id: u32, child: &Child, slot: &Slot, limits: Limits, now_ms: u64) -> Worker {
        let mut worker = Worker::at(id, child.generation, stage(child.stage), limits);
        worker.pid = Some(child.pid.as_raw());
        // Until it has taken its place, what stands there is that of another.
        if slot.pid.load(Relaxed) != child.pid.as_raw().unsigned_abs() {
            return worker;
        }
        if child.serves() && slot.state() == State::Draining {
            worker.state = stage(Stage::Leaving).to_owned();
        } else if child.stage == Stage::Ready && child.health.stands(limits.stall) {
            worker.state = "stalled".to_owned();
        }
        worker.cores.busy = slot.busy.load(Relaxed).min(limits.cores);
        worker.waiting = slot.waiting.load(Relaxed).min(limits.waiting);
        worker.requests = slot.requests.load(Relaxed);
        worker.exceptions = slot.exceptions.load(Relaxed);
        worker.rss_kib = slot.rss_kib.load(Relaxed);
        worker.lag_us = slot.lag_us.load(Relaxed);
        worker.tick_age_ms = age_ms(slot.tick_ms.load(Relaxed), now_ms);
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
mod tests;
