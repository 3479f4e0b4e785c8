//! Everything that can keep the appliance from starting, or a command from reaching one that runs, as sentences for the
//! person who typed it: what object, what is wrong with it, and the way out. `main` prints one of them and exits with its code; a template sends it to
//! the master.
use appliance_worker::abi;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A reason not to start, or not to do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or the configuration; the text names every problem.
    #[error("{0}")]
    Usage(String),
    /// A system call that has no business failing.
    #[error("{operation}: {source}")]
    System {
        /// What was being done, with its object.
        operation: String,
        /// The kernel's reason.
        source: io::Error,
    },

    /// `bind` found the address taken.
    #[error(
        "{address}: address already in use; another program listens there. Stop it (if it is an appliance: `appliance stop`) or choose another with {choose}"
    )]
    AddressInUse {
        /// The address as configured.
        address: String,
        /// The flag that changes it.
        choose: &'static str,
    },
    /// `bind` found the address taken by one of our own listeners.
    #[error(
        "{address}: this appliance itself listens on {ours}; leave out one of the two, or, to change from the one to the \
         other, stop it and start it again"
    )]
    OwnAddress {
        /// The address as configured.
        address: String,
        /// The address in force.
        ours: SocketAddr,
    },
    /// `bind` or `listen` failed otherwise.
    #[error("{address}: cannot listen there: {why}; choose another with {choose}")]
    Listen {
        /// The address as configured.
        address: String,
        /// The kernel's reason, with what it usually means.
        why: String,
        /// The flag that changes it.
        choose: &'static str,
    },
    /// Something that is no socket lies where a unix socket should be.
    #[error("{}: exists and is not a socket; remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// The run directory cannot be used.
    #[error("admin.run_dir {}: {why}; choose a directory that only you can write to, with --set admin.run_dir=DIR", path.display())]
    RunDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another master runs in the same run directory.
    #[error("admin.run_dir {}: another appliance runs there (pid {pid}); stop it or choose another directory", path.display())]
    RunDirTaken {
        /// The directory.
        path: PathBuf,
        /// The other's process id, as it wrote it.
        pid: String,
    },

    /// No master listens where the one of this configuration would.
    #[error(
        "no appliance runs for {}: {why}; start it with `appliance run`, \
         or say which one is meant as it was said to `run`",
        of.display()
    )]
    NotRunning {
        /// The run directory, the configuration file or the folder.
        of: PathBuf,
        /// What was found.
        why: String,
    },
    /// A master's control socket cannot be spoken with.
    #[error("{}: {why}", socket.display())]
    Control {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it, or with who listens there.
        why: String,
    },
    /// There is nobody to look.
    #[error("`appliance top` needs a terminal; for programs there is `appliance status --json`")]
    NoTerminal,
    /// The master answered that it did not do what was asked; its own words.
    #[error("{0}")]
    Refused(String),

    /// `app.venv` is not one.
    #[error(
        "app.venv {path}: there is no bin/python in it; make one with `python3 -m venv {path}`, or correct app.venv",
        path = .0.display()
    )]
    NoVenv(PathBuf),
    /// The user that everything runs as may not go where the configuration sends it.
    #[error("{what} is out of reach of user {user}; give that user access, or set another security.user")]
    OutOfReach {
        /// What was to be reached, with its key.
        what: String,
        /// The user's name.
        user: String,
    },
    /// The interpreter cannot be started.
    #[error("python `{name}`: {why}; install Python 3.10 or newer, or name another with --python or --venv")]
    NoInterpreter {
        /// As configured.
        name: String,
        /// Why it cannot be started.
        why: String,
    },
    /// The interpreter started, but is not one that can host applications.
    #[error("{python}: {why}; use CPython 3.10 or newer (--python or --venv)")]
    WrongInterpreter {
        /// Path of the interpreter.
        python: String,
        /// What it is instead.
        why: String,
    },
    /// The interpreter was built without a shared library.
    #[error(
        "{python}: its shared library ({library}) is not installed; on Debian or Ubuntu: apt install libpython{version}; \
         with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install {version}"
    )]
    NoLibpython {
        /// Path of the interpreter.
        python: String,
        /// Name of the file that was looked for.
        library: String,
        /// Minor version, such as `3.11`.
        version: String,
    },
    /// greenlet cannot be imported.
    #[error(
        "{python}: greenlet is missing ({why}); install it with `{python} -m pip install greenlet`, \
             or let requests run on threads: app.suspend = \"thread\""
    )]
    NoGreenlet {
        /// Path of the interpreter.
        python: String,
        /// What the import said.
        why: String,
    },
    /// The engine library is nowhere.
    #[error(
        "{} not found (looked for {searched}); reinstall appliance, or say where it is with APPLIANCE_ENGINE",
        crate::engine::LIBRARY
    )]
    NoEngine {
        /// The paths that were tried.
        searched: String,
    },
    /// A library cannot be loaded, or lacks a function.
    #[error("{}: cannot be loaded: {why}", path.display())]
    Unloadable {
        /// Which library.
        path: PathBuf,
        /// The dynamic linker's reason.
        why: String,
    },
    /// The engine library belongs to another release.
    #[error("{}: speaks version {found} of the interface, this appliance {}; install both from the same release", path.display(), abi::VERSION)]
    EngineVersion {
        /// Which library.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The engine library could not start the application; its own words.
    #[error("{text}")]
    Engine {
        /// Exit code that it returned.
        code: i32,
        /// What it reported.
        text: String,
    },
}

impl Error {
    /// A system call that failed; made by `map_err(Error::system("open the board"))`.
    pub fn system<E: Into<io::Error>>(operation: impl Into<String>) -> impl FnOnce(E) -> Error {
        let operation = operation.into();
        move |source| Error::System { operation, source: source.into() }
    }

    /// Exit code of the process that fails with this: whose fault is it?
    pub fn exit_code(&self) -> i32 {
        match self {
            Error::Engine { code, .. } => *code,
            Error::Usage(_)
            | Error::NoVenv(_)
            | Error::NoInterpreter { .. }
            | Error::WrongInterpreter { .. }
            | Error::NoLibpython { .. }
            | Error::NoGreenlet { .. } => abi::EXIT_USAGE,
            _ => abi::EXIT_FAILED,
        }
    }
}
