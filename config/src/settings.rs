//! What the configuration *means*: validated, typed values, ready to use. Made only by `check.rs`; read by the master,
//! the proxy and the workers. They serialize, because the engine library receives them as JSON over its C interface.
//! Nothing in here reads a file, the environment or the clock.
use crate::remote::Rpc;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

mod memory;
pub use memory::{Cache, MOST_AREAS, Metric, MetricKind, Queue, SharedArea};

/// Every effective setting of one appliance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The application that the workers host.
    pub app: App,
    /// Public listeners of the proxy; never empty.
    pub listen: Vec<Listen>,
    /// How many workers, and how much each may do at once.
    pub workers: Workers,
    /// The listener that each worker opens itself.
    pub native: Native,
    /// Paths of the native application's, in the order written.
    pub routes: Vec<Route>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How large things may be.
    pub limits: Limits,
    /// WebSockets.
    pub websocket: WebSocket,
    /// The front proxy.
    pub proxy: Proxy,
    /// The caches; the first one is meant where none is named.
    pub caches: Vec<Cache>,
    /// The queue of all workers.
    pub queue: Queue,
    /// Memory that all workers share, by number.
    pub areas: Vec<SharedArea>,
    /// Procedures that others may call.
    pub rpc: Rpc,
    /// Logs.
    pub log: Log,
    /// Run directory and the read-only admin endpoint.
    pub admin: Admin,
    /// The application's metrics that are there from the beginning.
    pub metrics: Vec<Metric>,
    /// Users and permissions.
    pub security: Security,
}

/// `[app]`: the application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct App {
    /// `module:callable` (`module` alone means `module:application`, else `module:app`; `module:make()` calls a factory),
    /// or a native application; see [`Target`](crate::Target) and [`NativeApp`].
    pub module: String,
    /// Absolute working directory of template and workers; first entry of `sys.path`.
    pub chdir: PathBuf,
    /// Absolute path of a virtual environment, if one is used.
    pub venv: Option<PathBuf>,
    /// Interpreter to take when there is no `venv`; looked up on `PATH` unless it has a slash.
    pub python: String,
    /// Further absolute directories for `sys.path`, after `chdir`.
    pub pythonpath: Vec<PathBuf>,
    /// How a request waits.
    pub suspend: Suspend,
    /// Whether a request is ended when its client leaves.
    pub cancel_on_disconnect: bool,
    /// Environment variables set for the application before it is imported, in order of name.
    pub env: Vec<(String, String)>,
    /// Options that only the application knows (uWSGI `--set`), in order of name.
    pub options: Vec<(String, String)>,
}

/// The suspend engine: how a core gives the loop back while its request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suspend {
    /// One greenlet per request, on the loop's own thread.
    Greenlet,
    /// One thread of a pool per request, for code that blocks.
    Thread,
}

/// `[[listen]]`: one public listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    /// Where to listen.
    pub address: Endpoint,
}

/// A listening address: `127.0.0.1:8080`, `[::1]:8080`, `:8080` (all addresses) or `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// The absolute path of a unix socket.
    Unix(PathBuf),
}

/// `[workers]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// Number of worker processes, at least 1 (`"auto"` has been resolved to the usable CPUs).
    pub count: u32,
    /// Requests that one worker runs at once (uWSGI `--async` / `--tornado`), at least 1.
    pub cores: u32,
    /// Bytes of stack that each native request has.
    pub stack: usize,
    /// Fewest workers; at most `count`, and equal to it unless the user says otherwise.
    pub min: u32,
    /// Most workers; at least `count`, and equal to it unless the user says otherwise.
    pub max: u32,
    /// Requests after which a worker is replaced (uWSGI `--max-requests`); 0: never.
    pub max_requests: u64,
    /// Proportional memory in bytes above which a worker is replaced (uWSGI `--reload-on-rss`).
    pub max_memory: Option<u64>,
    /// Age at which a worker is replaced (uWSGI `--max-worker-lifetime`); zero: never.
    pub max_lifetime: Duration,
    /// The highest number of a lock.
    pub locks: u32,
    /// Absolute paths; a change of one's modification time reloads (uWSGI `--touch-reload`).
    pub touch_reload: Vec<PathBuf>,
    /// What follows when workers crash again and again.
    pub on_crash_loop: OnCrashLoop,
}

/// What the master does when no worker can live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCrashLoop {
    /// It stays and tries again, ever more rarely, while the proxy answers 503.
    Stay,
    /// It exits with 1, for a supervisor that restarts containers.
    Exit,
}

/// An application of machine code, which needs no interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NativeApp {
    /// `native:NAME`: one that is built in.
    BuiltIn(String),
    /// The path of a shared library that exports one (`./libhello.so`).
    Library(PathBuf),
}

/// As it is configured.
impl std::fmt::Display for NativeApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NativeApp::BuiltIn(name) => write!(f, "native:{name}"),
            NativeApp::Library(path) => write!(f, "{}", path.display()),
        }
    }
}

impl App {
    /// The native application that is meant, if it is one.
    pub fn native(&self) -> Option<NativeApp> {
        crate::units::native(&self.module)
    }
}

impl Native {
    /// The native application of the workers' own listeners and of routes, if there is one.
    pub fn native(&self) -> Option<NativeApp> {
        self.app.as_deref().and_then(crate::units::native)
    }
}

/// `[native]`: each worker's own listener on `base_port + worker_id`, bound after the fork, and what is served there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Native {
    /// What is served there instead of the application: a native one, where a library's path is absolute, or
    /// `interface:module:callable`.
    pub app: Option<String>,
    /// Absolute folder that `native:static` serves.
    pub folder: Option<PathBuf>,
    /// `None`: no such listener.
    pub base_port: Option<u16>,
    /// Address to bind; loopback unless the user says otherwise.
    pub address: IpAddr,
}

/// `[[route]]`: requests that go to the native application of `[native]`, whatever the main application is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The path, and all below it; decoded, without a slash at its end.
    pub path: String,
}

/// `[timeouts]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeouts {
    /// From the first byte of a request head to its last.
    pub header: Duration,
    /// Longest pause without progress while a request body arrives.
    pub body: Duration,
    /// Longest pause without progress while a response leaves.
    pub write: Duration,
    /// An idle keep-alive connection is closed after this.
    pub keepalive: Duration,
    /// Proxy: connecting to a worker.
    pub connect: Duration,
    /// Proxy: longest silence of a worker while it owes a response (0 = none).
    pub response: Duration,
    /// One request in the application (uWSGI `--harakiri`; 0 = no limit).
    pub request: Duration,
    /// Proxy: waiting for a worker.
    pub queue: Duration,
    /// A worker whose loop stands still so long gets no new requests (0 = never).
    pub stall: Duration,
    /// A worker whose loop stands still so long is killed (0 = never).
    pub hang: Duration,
    /// From the load of the application to the first ready worker.
    pub boot: Duration,
    /// From SIGTERM until what is still running is cut.
    pub graceful: Duration,
    /// From SIGTERM until no connection is accepted any more, while readiness is false (0 = at once).
    pub drain_delay: Duration,
    /// From the connection to another server's cache or procedure to the last byte of its answer.
    pub remote: Duration,
}

/// `[limits]`; sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Request line, with method, target and version (else 414).
    pub request_line: usize,
    /// The whole request head (else 431).
    pub header_bytes: usize,
    /// Header fields in a request (else 431).
    pub headers: usize,
    /// Request body (else 413).
    pub body: u64,
    /// Bytes of a request body that must arrive in each second on average, at least 1; see [`Pace`].
    pub body_rate: u64,
    /// Part of a request body that is read before a core is taken.
    pub body_buffer: usize,
    /// Unsent response bytes above which the producing core waits.
    pub write_buffer: usize,
    /// Bytes of one body that may be under way between proxy and worker, each way.
    pub stream_window: usize,
    /// Requests that may wait for a core in one worker (else 503).
    pub waiting: usize,
    /// Requests that may wait for a worker in the proxy (else 503).
    pub queue: usize,
    /// Client connections of the whole proxy (more are closed at once).
    pub connections: usize,
    /// Listen backlog of every socket.
    pub backlog: u32,
    /// Longest value or result that is taken from another server, or given to one.
    pub remote: usize,
}

/// `[websocket]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebSocket {
    /// Bytes of one message (else it is closed with 1009).
    pub max_message: usize,
    /// A client that has been silent for so long is pinged (0 = never).
    pub ping_interval: Duration,
    /// A client that stays silent for so long after a ping is given up.
    pub ping_timeout: Duration,
    /// Messages are compressed where the client can.
    pub compression: bool,
}

/// How slowly a request body may arrive before it is given up (408): a client that keeps sending single bytes makes progress,
/// but it must not hold a connection for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Longest pause, and what a client may be late in all (`timeouts.body`).
    pub grace: Duration,
    /// Bytes a second that give it further time (`limits.body_rate`).
    pub rate: u64,
}

impl Pace {
    /// How long to wait for the next piece of a body of which so many bytes have come, when so much time has been spent on
    /// waiting for them; zero: no longer.
    pub fn patience(&self, received: u64, waited: Duration) -> Duration {
        let earned = Duration::from_secs_f64(received as f64 / self.rate.max(1) as f64);
        self.grace.saturating_add(earned).saturating_sub(waited).min(self.grace)
    }
}

impl Settings {
    /// The pace of request bodies.
    pub fn body_pace(&self) -> Pace {
        Pace { grace: self.timeouts.body, rate: self.limits.body_rate }
    }
}

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proxy {
    /// Threads, each with its own runtime and accept loop; at least 1.
    pub threads: u32,
    /// Peers whose `X-Forwarded-*` headers are believed.
    pub trusted: Vec<Network>,
}

/// An address range in CIDR notation (`10.0.0.0/8`, `::1/128`); a plain address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Any address of the range.
    pub address: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Network {
    /// Whether `ip` lies in this range. An IPv4-mapped IPv6 address counts as the IPv4 address it stands for.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix.min(32));
                u32::from(net).checked_shr(shift).unwrap_or(0)
                    == u32::from(ip).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix.min(128));
                u128::from(net).checked_shr(shift).unwrap_or(0)
                    == u128::from(ip).checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a tracing-subscriber filter such as `info,appliance_proxy=debug`.
    pub level: String,
    /// Human or JSON.
    pub format: LogFormat,
    /// Whether the proxy writes one line per request.
    pub access: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// One aligned line for a human.
    Human,
    /// One JSON object per line.
    Json,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admin {
    /// Read-only HTTP endpoint (`/metrics`, `/readyz`, `/status` …); `None`: off.
    pub listen: Option<SocketAddr>,
    /// Absolute directory for the workers' sockets and the control socket; `None`: a fresh private directory for each
    /// run, and the control socket at a well-known place of the user's.
    pub run_dir: Option<PathBuf>,
}

/// `[security]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// User that proxy, template and workers run as, if the master is root.
    pub user: Option<String>,
    /// Group likewise; default: the user's own.
    pub group: Option<String>,
    /// File mode creation mask of all processes.
    pub umask: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_pause_and_be_late_but_not_for_ever() {
        let pace = Pace { grace: Duration::from_secs(60), rate: 100 };
        let seconds = Duration::from_secs;
        assert_eq!(pace.patience(0, seconds(0)), seconds(60));
        assert_eq!(pace.patience(0, seconds(50)), seconds(10));
        assert_eq!(pace.patience(1_000_000, seconds(50)), seconds(60), "a pause is never longer than that");
        assert_eq!(pace.patience(1000, seconds(69)), seconds(1));
        assert_eq!(pace.patience(1000, seconds(70)), seconds(0));
    }
}
