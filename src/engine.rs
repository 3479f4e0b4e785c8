//! What hosts the application. For Python it is the engine library (`libappliance_python.so`), behind four functions: a
//! template loads the interpreter's shared library and then this one, starts the application in it, and forks workers that run
//! in it. A native application is hosted by this binary itself. Nothing else calls foreign code.
#![expect(unsafe_code, reason = "loads shared libraries and calls C functions")]
use crate::error::Error;
use crate::interpreter::{self, Python};
use crate::privileges;
use appliance_config::Settings;
use appliance_config::settings::NativeApp;
use appliance_config::units::size_text;
use appliance_worker::abi::{self, ForkFn, ForkPhase, LoadArgs, LoadFn, RunArgs, RunFn};
use appliance_worker::begin::Given;
use appliance_worker::native::{self, Apps, serve, why_unloadable};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};
use nix::unistd::Pid;
use std::ffi::{OsStr, c_void};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// File name of the engine library.
pub const LIBRARY: &str = "libappliance_python.so";
/// Where a package puts it.
const PACKAGED: &str = "/usr/lib/appliance";

/// What hosts the application, which is loaded.
#[derive(Debug)]
pub enum Engine {
    /// The engine library, with Python.
    Python {
        /// Tells it of a fork.
        fork: ForkFn,
        /// Lives a worker's life.
        run: RunFn,
    },
    /// This binary itself, with a native application.
    Native {
        /// The application, and one beside it if there is one.
        apps: Apps,
        /// The effective configuration.
        settings: Box<Settings>,
        /// The folder of the caches; empty if there are none.
        cache_dir: PathBuf,
    },
}

/// What one worker is given.
#[derive(Debug)]
pub struct Seat {
    /// From 1.
    pub worker: u32,
    /// Which of the processes of this worker id it is.
    pub life: u32,
    /// Its listening unix socket.
    pub socket: OwnedFd,
    /// The board's memory.
    pub board: OwnedFd,
    /// The locks' memory.
    pub locks: OwnedFd,
    /// The bell of the locks.
    pub lock_bell: OwnedFd,
    /// Its end of the line on which the master asks.
    pub questions: OwnedFd,
    /// Where it speaks the uwsgi protocol, in the order that the configuration tells.
    pub doors: Vec<OwnedFd>,
    /// Called once, when it is about to accept its first request.
    pub ready: extern "C" fn(),
}

/// What an application is loaded with.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The effective configuration, which names it.
    pub settings: &'a Settings,
    /// Who asks for it.
    pub master: Pid,
    /// Which of the master's templates this is.
    pub generation: u32,
    /// The folder of the caches, if there are any.
    pub cache_dir: Option<&'a Path>,
    /// The metrics' memory, which it shares with others from its import on.
    pub metrics: &'a OwnedFd,
    /// The memory of the queue and the shared areas, likewise.
    pub areas: &'a OwnedFd,
}

/// Loads the application, and becomes its interpreter if it needs one. Answers the engine and its line for humans. Once per
/// process, while it has one thread.
pub fn start(start: Start<'_>) -> Result<(Engine, String), Error> {
    set_environment(&start.settings.app.env);
    if start.settings.app.native().is_some() {
        start_native(start.settings, start.cache_dir)
    } else {
        start_python(start)
    }
}

/// A native application needs no other engine than what this binary is made of.
fn start_native(settings: &Settings, cache_dir: Option<&Path>) -> Result<(Engine, String), Error> {
    enter_folder(settings)?;
    let usage = |text| Error::Engine { code: abi::EXIT_USAGE, text };
    let apps = Apps::load(settings).map_err(usage)?;
    let apps = apps.ok_or_else(|| usage("app.module names no native application".to_owned()))?;
    let line = format!("native, stacks of {}", size_text(settings.workers.stack as u64));
    let (settings, cache_dir) = (Box::new(settings.clone()), cache_dir.unwrap_or(Path::new("")).to_owned());
    Ok((Engine::Native { apps, settings, cache_dir }, line))
}

/// Loads a native application as a template would, but does not let it get ready. In a process that does nothing else.
pub fn examine(app: &NativeApp, settings: &Settings) -> Result<(), Error> {
    set_environment(&settings.app.env);
    enter_folder(settings)?;
    native::examine(app, settings).map_err(|text| Error::Engine { code: abi::EXIT_USAGE, text })
}

fn enter_folder(settings: &Settings) -> Result<(), Error> {
    let what = format!("app.chdir {}", settings.app.chdir.display());
    std::env::set_current_dir(&settings.app.chdir).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::OutOfReach { what, user: privileges::current() },
        _ => Error::system(what)(error),
    })
}

fn start_python(start: Start<'_>) -> Result<(Engine, String), Error> {
    let app = &start.settings.app;
    let python = interpreter::find(app)?;
    let plugin = find_library(
        std::env::var_os("APPLIANCE_ENGINE").as_deref(),
        std::env::current_exe().ok().as_deref(),
    )?;
    enter(&python, app.venv.as_deref());
    enter_folder(start.settings)?;
    open(&python.library, RTLD_NOW | RTLD_GLOBAL)?;
    let library = open(&plugin, RTLD_NOW | RTLD_LOCAL)?;
    require_version(library, &plugin)?;
    let load: LoadFn = symbol(library, &plugin, abi::LOAD_SYMBOL)?;
    let engine = Engine::Python {
        fork: symbol(library, &plugin, abi::FORK_SYMBOL)?,
        run: symbol(library, &plugin, abi::RUN_SYMBOL)?,
    };
    let line = load_application(load, start)?;
    Ok((engine, line))
}

fn set_environment<'a>(variables: impl IntoIterator<Item = &'a (String, String)>) {
    for (name, value) in variables {
        // SAFETY: the template has one thread until the application starts others.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Makes CPython find this interpreter's files, a venv's included, when it starts in our process.
fn enter(python: &Python, venv: Option<&Path>) {
    let bin = venv.map_or_else(|| python.bin.clone(), |venv| venv.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = interpreter::path_with(&bin, &path, Path::is_file);
    // SAFETY: as in `set_environment`.
    unsafe {
        std::env::set_var("PATH", path);
        if let Some(venv) = venv {
            std::env::set_var("VIRTUAL_ENV", venv);
        }
    }
}

/// The engine library: where the environment says, else beside the binary, else where packages put it.
fn find_library(named: Option<&OsStr>, binary: Option<&Path>) -> Result<PathBuf, Error> {
    let places = match named {
        // The current folder will be the application's when it is loaded.
        Some(path) => vec![std::path::absolute(path).unwrap_or_else(|_| path.into())],
        None => library_places(binary),
    };
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| {
        let searched: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        Error::NoEngine { searched: searched.join(", ") }
    })
}

fn library_places(binary: Option<&Path>) -> Vec<PathBuf> {
    let beside = binary.and_then(Path::parent);
    let prefix = beside.and_then(Path::parent).map(|prefix| prefix.join("lib/appliance"));
    let dirs = beside.map(Path::to_owned).into_iter().chain(prefix).chain([PACKAGED.into()]);
    dirs.map(|dir| dir.join(LIBRARY)).collect()
}

/// Loads a library for the life of the process: nothing that it started could survive its unloading.
fn open(path: &Path, flags: i32) -> Result<&'static Library, Error> {
    // SAFETY: runs the library's initialisers. It is the user's interpreter, or our own library.
    let library = unsafe { Library::open(Some(path), flags) };
    let library =
        library.map_err(|error| Error::Unloadable { path: path.to_owned(), why: why_unloadable(&error) })?;
    Ok(Box::leak(Box::new(library)))
}

fn symbol<T: Copy>(library: &Library, path: &Path, name: &str) -> Result<T, Error> {
    // SAFETY: `T` is the type that `abi` declares for this name; the version check has shown that the library agrees.
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found
        .map(|symbol| *symbol)
        .map_err(|_| Error::Unloadable { path: path.to_owned(), why: format!("it has no {name}") })
}

fn require_version(library: &Library, path: &Path) -> Result<(), Error> {
    let version: extern "C" fn() -> u32 = symbol(library, path, abi::VERSION_SYMBOL)?;
    match version() {
        abi::VERSION => Ok(()),
        found => Err(Error::EngineVersion { path: path.to_owned(), found }),
    }
}

fn load_application(load: LoadFn, start: Start<'_>) -> Result<String, Error> {
    extern "C" fn report(context: *mut c_void, text: *const u8, len: usize) {
        // SAFETY: `context` is the `String` below, which outlives the call of `load`; the library promises `len`
        // bytes.
        let (said, bytes) =
            unsafe { (&mut *context.cast::<String>(), std::slice::from_raw_parts(text, len)) };
        said.push_str(&String::from_utf8_lossy(bytes));
    }
    let mut said = String::new();
    let json = serde_json::to_string(start.settings);
    let json = json.map_err(|error| Error::Usage(format!("settings: {error}")))?;
    let cache_dir = start.cache_dir.map_or(&b""[..], |path| path.as_os_str().as_bytes());
    let copied = |fd: &OwnedFd| fd.try_clone().map_err(Error::system("hand over the shared memory"));
    let (metrics, areas) = (copied(start.metrics)?, copied(start.areas)?);
    let args = LoadArgs {
        settings: json.as_ptr(),
        settings_len: json.len(),
        master_pid: start.master.as_raw(),
        generation: start.generation,
        cache_dir: cache_dir.as_ptr(),
        cache_dir_len: cache_dir.len(),
        metrics: metrics.into_raw_fd(),
        areas: areas.into_raw_fd(),
        report,
        context: std::ptr::from_mut(&mut said).cast(),
    };
    // SAFETY: every pointer in `args` is valid until the call returns; the descriptors are the library's from here.
    match unsafe { load(&raw const args) } {
        abi::EXIT_DONE => Ok(said),
        code => Err(Error::Engine { code, text: said }),
    }
}

impl Engine {
    /// Tells the language runtime of a fork; see [`ForkPhase`].
    pub fn on_fork(&self, phase: ForkPhase) {
        if let Engine::Python { fork, .. } = self {
            // SAFETY: the library is loaded for the life of the process, and the caller forks as the phases say.
            unsafe { fork(phase) };
        }
    }

    /// Lives one worker's life; called in the forked child. Answers its exit code.
    pub fn run(&self, seat: Seat) -> i32 {
        let doors: Vec<RawFd> = seat.doors.into_iter().map(IntoRawFd::into_raw_fd).collect();
        let args = RunArgs {
            worker_id: seat.worker,
            life: seat.life,
            socket: seat.socket.into_raw_fd(),
            board: seat.board.into_raw_fd(),
            locks: seat.locks.into_raw_fd(),
            lock_bell: seat.lock_bell.into_raw_fd(),
            questions: seat.questions.into_raw_fd(),
            doors: doors.as_ptr(),
            doors_len: doors.len(),
            ready: seat.ready,
        };
        match self {
            // SAFETY: `args` is valid until the call returns; the descriptors are the library's from here.
            Engine::Python { run, .. } => unsafe { run(&raw const args) },
            Engine::Native { apps, settings, cache_dir } => {
                serve::serve(Given { args: &args, doors: &doors, cache_dir, settings }, *apps)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_looked_for_beside_the_binary_then_in_the_prefix_then_in_the_package() {
        let places = library_places(Some(Path::new("/opt/bin/appliance")));
        let expected = ["/opt/bin", "/opt/lib/appliance", PACKAGED].map(|dir| Path::new(dir).join(LIBRARY));
        assert_eq!(places, expected);
    }

    #[test]
    fn a_missing_library_names_every_place() {
        let error = find_library(Some(OsStr::new("/nowhere/engine.so")), None).unwrap_err();
        assert!(error.to_string().contains("looked for /nowhere/engine.so"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn what_is_no_library_is_said_so() {
        let error = open(Path::new("/etc/passwd"), RTLD_NOW).unwrap_err();
        assert!(error.to_string().starts_with("/etc/passwd: cannot be loaded"), "{error}");
    }
}
