//! What goes into the fleet and what comes out of it: plain values, made and performed by `master.rs`.
use crate::child::Role;
use crate::message::Ended;
use crate::notice::Notice;
use nix::unistd::Pid;
use std::time::Duration;

/// What the configuration says of processes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `workers.count`.
    pub workers: u32,
    /// `timeouts.boot`.
    pub boot: Duration,
    /// `timeouts.graceful`.
    pub graceful: Duration,
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
    ForkFailed { worker: u32, text: String },
    /// A worker is about to accept.
    Ready { pid: Pid },
    /// A process has ended; a worker's template also says which worker it was.
    Exited { pid: Pid, worker: Option<u32>, ended: Ended },
    /// SIGTERM, SIGINT, `appliance stop`.
    Stop,
    /// `appliance stop --now`: nothing is finished.
    StopNow,
    /// SIGHUP, `appliance reload`.
    Reload,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Fork the proxy or a template, and answer with `Started` or `NotStarted`.
    Start { role: Role, generation: u32 },
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
    /// Tell the user.
    Say(Notice),
    /// Nothing is left: exit with this code.
    Exit(i32),
}
