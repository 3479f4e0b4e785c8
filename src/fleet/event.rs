//! What goes into the fleet and what comes out of it: plain values, made and performed by `master.rs`.
use crate::child::Role;
use crate::message::Ended;
use crate::notice::Notice;
use appliance_config::Settings;
use appliance_config::settings::OnCrashLoop;
use appliance_worker::board::CAPACITY;
use nix::unistd::Pid;
use std::ops::RangeInclusive;
use std::time::Duration;

/// What the configuration says of processes. A time or number of zero is no limit, but for `boot` and `graceful`.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// `workers.count`.
    pub workers: u32,
    /// `workers.min`.
    pub min: u32,
    /// `workers.max`.
    pub max: u32,
    /// Most workers that there is room for.
    pub room: u32,
    /// `timeouts.boot`.
    pub boot: Duration,
    /// `timeouts.graceful`.
    pub graceful: Duration,
    /// `timeouts.drain_delay`.
    pub drain_delay: Duration,
    /// `timeouts.hang`.
    pub hang: Duration,
    /// `workers.max_requests`.
    pub max_requests: u64,
    /// `workers.max_memory`, in bytes.
    pub max_memory: Option<u64>,
    /// `workers.max_lifetime`.
    pub max_lifetime: Duration,
    /// `workers.on_crash_loop = "exit"`.
    pub exit_on_crash_loop: bool,
}

impl Plan {
    /// The plan of these settings.
    pub fn of(settings: &Settings) -> Plan {
        let Settings { workers, timeouts, .. } = settings;
        let ports = settings.native.base_port.map_or(CAPACITY, |base| u32::from(u16::MAX - base));
        Plan {
            workers: workers.count,
            min: workers.min,
            max: workers.max,
            room: ports.min(CAPACITY),
            boot: timeouts.boot,
            graceful: timeouts.graceful,
            drain_delay: timeouts.drain_delay,
            hang: timeouts.hang,
            max_requests: workers.max_requests,
            max_memory: workers.max_memory,
            max_lifetime: workers.max_lifetime,
            exit_on_crash_loop: workers.on_crash_loop == OnCrashLoop::Exit,
        }
    }

    /// How many workers somebody may ask for: what the configuration says, if it says so.
    pub fn bounds(&self) -> RangeInclusive<u32> {
        if self.min == self.max { 1..=self.room } else { self.min..=self.max }
    }
}

/// What a process publishes of itself, as the master has read it a moment ago: numbers of a process that runs application
/// code, so none of them is more than a reason to replace it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vitals {
    /// Whose they are.
    pub pid: Pid,
    /// Its last turn, in milliseconds of the monotonic clock; 0: it has had none.
    pub tick_ms: u64,
    /// Requests finished.
    pub requests: u64,
    /// Requests that it can run at once, that it runs, and that wait for a core.
    pub cores: u32,
    pub busy: u32,
    pub waiting: u32,
    /// Memory of its own in bytes, if it was measured.
    pub memory: Option<u64>,
}

/// What the proxies publish of the requests that wait for a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queue {
    /// Those that wait.
    pub queued: u64,
    /// Those that have waited and wait no more.
    pub dequeued: u64,
    /// How long these have waited together.
    pub waited: Duration,
}

impl Queue {
    /// How long the requests that have left the queue since `before` have waited there on average; if none has and some are
    /// waiting, as long as can be.
    pub fn waits_since(&self, before: &Queue) -> Duration {
        let left = self.dequeued.saturating_sub(before.dequeued);
        match u32::try_from(left).unwrap_or(u32::MAX) {
            0 if self.queued > 0 => Duration::MAX,
            0 => Duration::ZERO,
            left => self.waited.saturating_sub(before.waited) / left,
        }
    }
}

impl Vitals {
    /// Those of a process that has not published anything.
    pub fn of(pid: Pid) -> Vitals {
        Vitals { pid, tick_ms: 0, requests: 0, cores: 0, busy: 0, waiting: 0, memory: None }
    }
}

/// What a configuration that was read again asks for, once it is in force.
#[derive(Clone, Debug)]
pub struct Next {
    /// What it says of processes.
    pub plan: Plan,
    /// Whether it names another number of workers; otherwise the number stays, also one that was set by hand.
    pub resizes: bool,
    /// Whether the proxy that runs cannot take it up.
    pub replaces_proxy: bool,
    /// Keys that wait for a restart.
    pub waiting: Vec<String>,
}

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time has passed; also the first event of all.
    Tick,
    /// The master has forked what [`Action::Start`] asked for.
    Started { role: Role, generation: u32, pid: Pid },
    /// The master could not fork it.
    NotStarted { role: Role, generation: u32, text: String },
    /// A template has loaded the application.
    Loaded { pid: Pid, line: String },
    /// A template cannot load it.
    LoadFailed { pid: Pid, code: i32, text: String },
    /// A worker lives.
    Forked { worker: u32, generation: u32, life: u32, pid: Pid },
    /// A template could not fork a worker.
    ForkFailed { template: Pid, worker: u32, text: String },
    /// A worker is about to accept, or a proxy accepts.
    Ready { pid: Pid },
    /// A process has ended; if a template tells it, that template and the worker it was.
    Exited { pid: Pid, forked: Option<(Pid, u32)>, ended: Ended },
    /// The master has looked at what the processes publish.
    Looked { all: Vec<Vitals>, queue: Queue },
    /// A worker says that it has finished as many requests as it was made for, and so many it has published.
    Worn { pid: Pid, requests: u64 },
    /// The name of a worker's socket was gone; its next process gets a new socket.
    SocketRenewed { worker: u32 },
    /// `appliance scale`.
    Scale { workers: u32 },
    /// SIGTERM, SIGINT, `appliance stop`.
    Stop,
    /// `appliance stop --now`: nothing is finished.
    StopNow,
    /// SIGHUP, `appliance reload`, `uwsgi.reload()`, a touched path.
    Reload,
    /// The master has read the configuration that [`Action::Configure`] asked for.
    Configured(Next),
    /// It is refused, and why.
    Misconfigured { text: String },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Fork the proxy or a template, and answer with `Started` or `NotStarted`.
    Start { role: Role, generation: u32 },
    /// Read the configuration for this generation, and answer with `Configured` or `Misconfigured`.
    Configure { generation: u32 },
    /// The configuration that was read is in force from now on.
    Adopt,
    /// Nothing comes of it.
    Abandon,
    /// Order a template to fork a worker.
    Fork { template: Pid, worker: u32, life: u32 },
    /// Order a template to exit.
    Quit { template: Pid },
    /// SIGTERM: finish and go.
    Finish(Pid),
    /// SIGKILL.
    Kill(Pid),
    /// A worker is gone: its slot on the board is dead.
    MarkDead { worker: u32, life: u32 },
    /// So many places for workers are in use: open those that are new, close those that are not used any more.
    Resize { workers: u32 },
    /// Tell the user.
    Say(Notice),
    /// Nothing is left: exit with this code.
    Exit(i32),
}
