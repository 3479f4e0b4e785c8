//! The front proxy: pingora, driven from our own accept loop, before the workers' unix sockets.
//!
//! A request's way: `accept` → `conn` (idle, head, `strict`) → pingora, which calls `gateway` phase by phase: `forwarded`
//! (who is the client), `workers`, `balance` and `queue` (who serves it, and when), `relay` (how it gets there: over `link`;
//! upgrades over `hop`, and then in a `tunnel`), `retry` (what if it fails) → `access_log`. `runtime` starts and `drain` ends it all; `pulse` says that
//! it lives. The pure files, where the rules are: `strict`, `framing`, `framed`, `balance`, `retry`, `forwarded`, `error`.
//!
//! pingora logs through the `log` crate. Its lines about single requests are suppressed, because the access log names the
//! reason; what remains is seen if the process's subscriber listens to `log` (tracing-subscriber's feature `tracing-log`).
#![forbid(unsafe_code)]

mod accept;
mod access_log;
mod admin;
mod balance;
mod carrier;
mod client;
mod conn;
mod drain;
mod error;
mod exchange;
mod forwarded;
mod framed;
mod framing;
mod gateway;
mod hop;
mod inbox;
mod line;
mod link;
mod patience;
mod pulse;
mod queue;
mod relay;
mod request_id;
mod retry;
mod runtime;
mod slots;
mod socket;
mod stats;
mod stream;
mod strict;
mod target;
mod told;
mod tunnel;
mod upload;
mod workers;

#[cfg(test)]
mod tests;

use appliance_config::settings::Log;
pub use appliance_link::access::Style;
use std::path::Path;
use std::time::Duration;

/// A worker's number, from 1; stable across respawns.
pub type WorkerId = u32;

/// What a worker says of itself on the board, at one moment. Plain untrusted numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// It serves requests (false: booting, draining or dead).
    pub ready: bool,
    /// Its loop stands still: what it has stays there, but it gets no new requests (`timeouts.stall`).
    pub stalled: bool,
    /// Changes whenever another process takes the worker's place (its pid).
    pub instance: u32,
    /// Requests it can run at once.
    pub cores: u32,
    /// Requests it is running.
    pub busy: u32,
    /// Requests that wait for one of its cores.
    pub waiting: u32,
}

/// What the proxy does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It passes them on.
    #[default]
    Serving,
    /// It holds them in its queue.
    Paused,
    /// It answers 503; what runs is finished.
    Maintenance,
    /// No worker can live: it answers 503, unless one lives after all.
    CrashLoop,
    /// It serves, but says that it is not ready, and that each answer is the last on its connection.
    Leaving,
}

/// How much the proxy has to do, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Client connections that are open.
    pub connections: u64,
    /// Requests whose answers are not complete.
    pub in_flight: u64,
    /// Requests that wait for a worker.
    pub queued: u64,
    /// Requests that have ever waited for a worker and wait no more.
    pub dequeued: u64,
    /// How long these have waited together, in microseconds.
    pub queue_us: u64,
    /// How long ago every one of the proxy's threads had a turn.
    pub age: Duration,
}

/// What is counted for as long as the appliance lives, however often its proxy is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// A request is over, and has its line in the access log.
    Ended {
        /// What the client got, or would have got (499).
        status: u16,
        /// The last worker that it was sent to.
        worker: Option<WorkerId>,
        /// From the complete head to the end of the answer.
        took: Duration,
        /// Bytes of the answer's body that were sent to the client.
        bytes: u64,
        /// Why it failed: its place in [`reasons`].
        reason: Option<usize>,
    },
    /// A request is tried once more, at another worker or connection.
    Retried,
    /// A connection was accepted.
    Connected,
    /// A connection was closed at once, because there were `limits.connections`.
    Refused,
}

/// What the access log may say as `reason`.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    error::Failure::ALL.iter().map(|failure| failure.reason())
}

/// What the proxy needs to know of the workers, and of what the master wants, and where it says what has happened. Implemented
/// by the binary from shared memory.
pub trait Upstreams: Send + Sync + 'static {
    /// Number of workers at this moment; ids are `1..=count()`.
    fn count(&self) -> u32;
    /// The most that [`Upstreams::count`] can ever say.
    fn capacity(&self) -> u32;
    /// The absolute path of a worker's unix socket (the same text that the master bound).
    fn socket(&self, worker: WorkerId) -> &Path;
    /// What the worker last published.
    fn load(&self, worker: WorkerId) -> Load;
    /// Whether another proxy has taken the place of this one, which only finishes what it has.
    fn is_replaced(&self) -> bool {
        false
    }

    /// What to do with requests.
    fn mode(&self) -> Mode;
    /// When clients may come again that get 503 because of the mode.
    fn retry_after(&self) -> Duration;
    /// Tells the master; called about twice a second.
    fn publish(&self, pulse: &Pulse);
    /// Counts what has happened, in memory that outlives this process. Called by all threads, for every request.
    fn count_in(&self, what: Occurrence);
    /// How lines of the access log look where the log is configured so; `None`: there are none.
    fn log_style(&self, log: &Log) -> Option<Style>;
    /// Writes lines to the log, and does not wait for a reader who has stopped reading. Called by all threads.
    fn write_log(&self, lines: &[u8]);
    /// Whether a worker has ever been ready since the appliance was started.
    fn has_served(&self) -> bool;
    /// Everything that is counted or measured, as Prometheus reads it; `pulse` is how things are in this process.
    fn metrics(&self, pulse: &Pulse) -> String;
}

/// Lives the proxy's life in a process of its own: serves `listeners` (already listening, non-blocking, in the order of
/// `settings.listen`) until SIGTERM, then drains within `timeouts.graceful`; returns the exit code of the process. `ready` is
/// called once, when all listeners are being accepted from. Starts threads and runtimes, so it must be called after the fork.
pub fn run(
    settings: &appliance_config::Settings,
    listeners: Vec<std::os::fd::OwnedFd>,
    admin: Option<std::net::TcpListener>,
    upstreams: std::sync::Arc<dyn Upstreams>,
    ready: impl FnOnce(),
) -> i32 {
    match runtime::serve(settings, listeners, admin, &upstreams, ready, drain::terminated) {
        Ok(_cut) => 0,
        Err(error) => {
            tracing::error!("the proxy cannot start: {error}");
            1
        }
    }
}
