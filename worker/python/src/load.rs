//! In the template: starts Python, puts our modules in place, imports the application, and gets ready to be forked.
use crate::application::{self, Application};
use crate::{aio, greenlet, interpreter, locals, log, uwsgi};
use appliance_config::Settings;
use appliance_config::settings::Suspend;
use appliance_worker::abi::{EXIT_FAILED, EXIT_USAGE};
use appliance_worker::native as compiled;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Oldest CPython that the stable interface of this library works with.
const OLDEST: (u8, u8) = (3, 10);

/// The environment variable that lets Django's ORM work on a thread that has a running loop.
const ALLOW_UNSAFE: &str = "DJANGO_ALLOW_ASYNC_UNSAFE";

/// What the binary has told us.
pub struct Facts {
    /// Effective settings.
    pub settings: Settings,
    /// Process id of the master.
    pub master_pid: i32,
    /// Number of the reload.
    pub generation: u32,
    /// Where the caches lie.
    pub cache_dir: PathBuf,
}

/// The application, loaded; what every worker starts from.
pub struct Loaded {
    /// Effective settings.
    pub settings: Settings,
    /// Where the caches lie.
    pub cache_dir: PathBuf,
    /// The application behind the proxy.
    pub app: Application,
    /// That of the workers' own listeners; `None`: the same, or no Python.
    pub native: Option<Application>,
    /// The asyncio loop that was current while the application was imported.
    pub event_loop: Py<PyAny>,
    /// The applications in machine code beside them, if there are any.
    pub compiled: Option<compiled::Apps>,
}

static LOADED: OnceLock<Loaded> = OnceLock::new();
static MASTER: AtomicI32 = AtomicI32::new(0);

/// Process id of the master, known before any code of the application runs.
pub fn master_pid() -> i32 {
    MASTER.load(Relaxed)
}

impl Loaded {
    /// The application of this process, if [`load`] has succeeded.
    pub fn get() -> Option<&'static Loaded> {
        LOADED.get()
    }

    /// The WSGI callable; `None` of Python's where there is none.
    pub fn wsgi(&self, py: Python<'_>) -> Py<PyAny> {
        match (&self.app, &self.native) {
            (Application::Wsgi(app), _) | (_, Some(Application::Wsgi(app))) => app.clone_ref(py),
            _ => py.None(),
        }
    }
}

/// A failed load: the exit code, and the text for the user.
pub struct Failure {
    /// [`EXIT_USAGE`] or [`EXIT_FAILED`].
    pub code: i32,
    /// A sentence with the way out, and the traceback where the application raised.
    pub text: String,
}

impl Failure {
    /// The configuration names something that is not there.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { code: EXIT_USAGE, text: text.into() }
    }

    /// It raised.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure { code: EXIT_FAILED, text: text.into() }
    }
}

/// Starts Python and imports the application. On success a line for humans, such as `CPython 3.11.7, greenlet 3.1.1`.
pub fn load(facts: Facts) -> Result<String, Failure> {
    MASTER.store(facts.master_pid, Relaxed);
    let compiled = compiled::Apps::load(&facts.settings).map_err(Failure::usage)?;
    interpreter::start();
    Python::attach(|py| {
        let internal = |error: PyErr| Failure::failed(log::traceback(py, &error));
        check_version(py)?;
        if facts.settings.app.suspend == Suspend::Greenlet {
            greenlet::import(py).map_err(|error| {
                Failure::usage(format!(
                    "greenlet cannot be imported: {error}; install it with: {} -m pip install greenlet, or let requests \
                     run on threads: app.suspend = \"thread\"",
                    executable(py)
                ))
            })?;
        }
        prepare(py, &facts).map_err(internal)?;
        let event_loop = aio::make(py).map_err(internal)?;
        if facts.settings.app.suspend == Suspend::Greenlet {
            locals::install(py).map_err(internal)?;
        }
        let (app, native) = import_apps(py, &facts.settings)?;
        freeze(py).map_err(internal)?;
        let line = describe(py, &facts.settings, &app, native.as_ref()).map_err(internal)?;
        let loaded = Loaded {
            settings: facts.settings,
            cache_dir: facts.cache_dir,
            app,
            native,
            event_loop,
            compiled,
        };
        LOADED
            .set(loaded)
            .map_err(|_| Failure::failed("the engine library was loaded twice in one process"))?;
        Ok(line)
    })
}

fn check_version(py: Python<'_>) -> Result<(), Failure> {
    let version = py.version_info();
    if (version.major, version.minor) < OLDEST {
        return Err(Failure::usage(format!(
            "Python {}.{} is too old: 3.10 or newer is needed; name another one with app.venv or app.python",
            version.major, version.minor
        )));
    }
    Ok(())
}

fn executable(py: Python<'_>) -> String {
    let name = py.import("sys").and_then(|sys| sys.getattr("executable")).and_then(|name| name.extract());
    name.unwrap_or_else(|_| "python3".to_owned())
}

/// Paths, streams and our modules, before any code of the application runs.
fn prepare(py: Python<'_>, facts: &Facts) -> PyResult<()> {
    let (sys, app) = (py.import("sys")?, &facts.settings.app);
    let path = sys.getattr("path")?;
    for directory in app.pythonpath.iter().rev().chain([&app.chdir]) {
        path.call_method1("insert", (0, directory.as_os_str()))?;
    }
    sys.setattr("argv", ["appliance"])?;
    if app.suspend == Suspend::Greenlet {
        // A request runs on a thread that has a running loop, as Django's ORM finds out and refuses to work. It may: no
        // coroutine is interrupted by it.
        let environ = py.import("os")?.getattr("environ")?;
        environ.call_method1("setdefault", (ALLOW_UNSAFE, "true"))?;
    }
    for stream in ["stdout", "stderr"] {
        // print() must reach the log when it is called, not when a buffer of 8 KiB is full.
        let keywords = pyo3::types::PyDict::new(py);
        keywords.set_item("line_buffering", true)?;
        let stream = sys.getattr(stream)?;
        if !stream.is_none() {
            stream.call_method("reconfigure", (), Some(&keywords))?;
        }
    }
    crate::modules::install(py)?;
    uwsgi::install(py, facts)
}

/// The application of the proxy, and that of the workers' own listeners if it is another one of Python's.
fn import_apps(py: Python<'_>, settings: &Settings) -> Result<(Application, Option<Application>), Failure> {
    let app = application::import(py, "app.module", &settings.app.module)?;
    let native = settings.native.app.as_deref().filter(|_| settings.native.native().is_none());
    let native = native.map(|spec| application::import(py, "native.app", spec)).transpose()?;
    if let (Application::Wsgi(_), Some(Application::Wsgi(_))) = (&app, &native) {
        return Err(Failure::usage(
            "native.app: a worker serves one WSGI application; leave native.app out to serve that of app.module there too",
        ));
    }
    if matches!(app, Application::Asgi(_)) {
        // Django checks its asynchronous views again: what blocks in one of them keeps the whole worker.
        let environ = py.import("os").and_then(|os| os.getattr("environ"));
        let taken_back = environ.and_then(|environ| environ.call_method1("pop", (ALLOW_UNSAFE, py.None())));
        taken_back.map_err(|error| Failure::failed(log::traceback(py, &error)))?;
    }
    Ok((app, native))
}

/// What exists now will be shared by all workers: kept out of the garbage collector, it is never written to by it.
fn freeze(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    gc.call_method0("freeze").map(drop)
}

fn describe(
    py: Python<'_>,
    settings: &Settings,
    app: &Application,
    native: Option<&Application>,
) -> PyResult<String> {
    let version = py.version_info();
    let engine = match settings.app.suspend {
        Suspend::Greenlet => {
            let greenlet: String = py.import("greenlet")?.getattr("__version__")?.extract()?;
            format!("greenlet {greenlet}")
        }
        Suspend::Thread => format!("up to {} threads a worker", settings.workers.cores),
    };
    let native = native.map(|native| format!(", {} on the native listener", native.interface()));
    Ok(format!(
        "CPython {}.{}.{}, {engine}, {}{}",
        version.major,
        version.minor,
        version.patch,
        app.interface(),
        native.unwrap_or_default()
    ))
}
