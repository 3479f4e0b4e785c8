//! The C interface between the `appliance` binary and the engine library (`libappliance_python.so`): the only types that
//! both see in memory. Everything richer crosses as JSON text. The binary refuses a library whose [`VERSION`] differs,
//! so these types may change freely as long as the number changes with them.

/// Version of this interface and of the board's layout.
pub const VERSION: u32 = 5;

/// Name of the exported `extern "C" fn() -> u32` that returns [`VERSION`].
pub const VERSION_SYMBOL: &str = "appliance_engine_version";
/// Name of the exported [`LoadFn`].
pub const LOAD_SYMBOL: &str = "appliance_engine_load";
/// Name of the exported [`ForkFn`].
pub const FORK_SYMBOL: &str = "appliance_engine_fork";
/// Name of the exported [`RunFn`].
pub const RUN_SYMBOL: &str = "appliance_engine_run";

/// Starts the language runtime and imports the application, in the template, before any fork. Returns an exit code:
/// 0 loaded, [`EXIT_USAGE`] the configuration names something that is not there, [`EXIT_FAILED`] it raised.
pub type LoadFn = unsafe extern "C" fn(args: *const LoadArgs) -> i32;
/// Must be called around every `fork` of the template; see [`ForkPhase`].
pub type ForkFn = unsafe extern "C" fn(phase: ForkPhase);
/// Lives one worker's life, in the forked child; returns the exit code of the process.
pub type RunFn = unsafe extern "C" fn(args: *const RunArgs) -> i32;

/// The process did what it was asked to.
pub const EXIT_DONE: i32 = 0;
/// Start-up failed.
pub const EXIT_FAILED: i32 = 1;
/// Usage or configuration (`EX_USAGE` of `sysexits.h`).
pub const EXIT_USAGE: i32 = 64;
/// A worker could not start serving (for example its native port is taken); its reason is in the log.
pub const EXIT_BOOT: i32 = 65;

/// Which side of a fork is being told.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkPhase {
    /// In the template, just before.
    Before = 0,
    /// In the template, just after.
    Parent = 1,
    /// In the child, just after.
    Child = 2,
}

/// Arguments of [`LoadFn`].
#[repr(C)]
#[derive(Debug)]
pub struct LoadArgs {
    /// [`appliance_config::Settings`] as JSON (UTF-8, not terminated).
    pub settings: *const u8,
    /// Length of `settings` in bytes.
    pub settings_len: usize,
    /// Process id of the master (uWSGI `masterpid()`).
    pub master_pid: i32,
    /// Generation that this template belongs to.
    pub generation: u32,
    /// Path of the folder in which the caches lie; bytes, not terminated. Empty if there are no caches.
    pub cache_dir: *const u8,
    /// Length of `cache_dir` in bytes.
    pub cache_dir_len: usize,
    /// The metrics' memfd, for the template and the workers that it forks; the library's to own.
    pub metrics: i32,
    /// The memfd of the queue and the shared areas, likewise.
    pub areas: i32,
    /// Called once before the return, with UTF-8 text: on success one line for humans such as
    /// `CPython 3.11.7, greenlet 3.1.1`; on failure the reason with the way out, and the traceback if there is one.
    pub report: extern "C" fn(context: *mut std::ffi::c_void, text: *const u8, len: usize),
    /// Handed to `report`.
    pub context: *mut std::ffi::c_void,
}

/// Arguments of [`RunFn`]. The descriptors are the worker's to own and close.
#[repr(C)]
#[derive(Debug)]
pub struct RunArgs {
    /// From 1; stable across respawns.
    pub worker_id: u32,
    /// Which of the processes of this worker id it is; see `board.rs`.
    pub life: u32,
    /// The worker's listening unix socket.
    pub socket: i32,
    /// The board's memfd.
    pub board: i32,
    /// The locks' memfd.
    pub locks: i32,
    /// The bell of the locks, an eventfd.
    pub lock_bell: i32,
    /// The worker's end of a packet socket on which the master asks what the worker is doing.
    pub questions: i32,
    /// Listeners of the uwsgi protocol and then UDP sockets of caches, in the order of [`appliance_config::remote`].
    pub doors: *const i32,
    /// How many.
    pub doors_len: usize,
    /// Called once, when the worker is about to accept its first request.
    pub ready: extern "C" fn(),
}
