//! The front proxy: pingora, driven from our own accept loop, before the workers' unix sockets.
#![forbid(unsafe_code)]
use std::path::Path;

/// A worker's number, from 1; stable across respawns.
pub type WorkerId = u32;

/// What a worker says of itself on the board, at one moment. Plain untrusted numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// It serves requests (false: booting, draining or dead).
    pub ready: bool,
    /// Changes whenever another process takes the worker's place (its pid).
    pub instance: u32,
    /// Requests it can run at once.
    pub cores: u32,
    /// Requests it is running.
    pub busy: u32,
    /// Requests that wait for one of its cores.
    pub waiting: u32,
}

/// What the proxy needs to know of the workers. Implemented by the binary from the board.
pub trait Upstreams: Send + Sync + 'static {
    /// Number of workers; ids are `1..=count()`.
    fn count(&self) -> u32;
    /// The absolute path of a worker's unix socket (the same text that the master bound).
    fn socket(&self, worker: WorkerId) -> &Path;
    /// What the worker last published.
    fn load(&self, worker: WorkerId) -> Load;
}

/// Lives the proxy's life in a process of its own: serves `listeners` (already listening, non-blocking, in the order of
/// `settings.listen`) until SIGTERM, then drains within `timeouts.graceful`; returns the exit code of the process.
/// Starts threads and runtimes, so it must be called after the fork.
pub fn run(
    settings: &appliance_config::Settings,
    listeners: Vec<std::os::fd::OwnedFd>,
    admin: Option<std::net::TcpListener>,
    upstreams: std::sync::Arc<dyn Upstreams>,
) -> i32 {
    let _ = (settings, listeners, admin, upstreams);
    1
}
