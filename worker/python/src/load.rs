//! In the template: starts Python, puts our modules in place, imports the application, and gets ready to be forked.
use crate::{aio, greenlet, interpreter, locals, log, uwsgi};
use appliance_config::Settings;
use appliance_config::settings::Suspend;
use appliance_worker::abi::{EXIT_FAILED, EXIT_USAGE};
use appliance_worker::native;
use pyo3::exceptions::{PyModuleNotFoundError, PySystemExit};
use pyo3::prelude::*;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// Oldest CPython that the stable interface of this library works with.
const OLDEST: (u8, u8) = (3, 10);

/// What the binary has told us.
pub struct Facts {
    /// Effective settings.
    pub settings: Settings,
    /// Process id of the master.
    pub master_pid: i32,
    /// Number of the reload.
    pub generation: u32,
}

/// The application, loaded; what every worker starts from.
pub struct Loaded {
    /// Effective settings.
    pub settings: Settings,
    /// The WSGI callable.
    pub app: Py<PyAny>,
    /// The asyncio loop that was current while the application was imported.
    pub event_loop: Py<PyAny>,
    /// The native application beside it, if there is one.
    pub native: Option<native::Apps>,
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
}

/// A failed load: the exit code, and the text for the user.
pub struct Failure {
    /// [`EXIT_USAGE`] or [`EXIT_FAILED`].
    pub code: i32,
    /// A sentence with the way out, and the traceback where the application raised.
    pub text: String,
}

impl Failure {
    fn usage(text: impl Into<String>) -> Failure {
        Failure { code: EXIT_USAGE, text: text.into() }
    }

    fn failed(text: impl Into<String>) -> Failure {
        Failure { code: EXIT_FAILED, text: text.into() }
    }
}

/// Starts Python and imports the application. On success a line for humans, such as `CPython 3.11.7, greenlet 3.1.1`.
pub fn load(facts: Facts) -> Result<String, Failure> {
    MASTER.store(facts.master_pid, Relaxed);
    let native = native::Apps::load(&facts.settings).map_err(Failure::usage)?;
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
        let app = import_app(py, &facts.settings.app.module)?;
        freeze(py).map_err(internal)?;
        let line = describe(py, &facts.settings).map_err(internal)?;
        let loaded = Loaded { settings: facts.settings, app, event_loop, native };
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
        environ.call_method1("setdefault", ("DJANGO_ALLOW_ASYNC_UNSAFE", "true"))?;
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

/// `module:callable`, `module:factory()`, or `module` alone with a callable named `application` or `app`.
fn import_app(py: Python<'_>, spec: &str) -> Result<Py<PyAny>, Failure> {
    let (module, name) = spec.split_once(':').map_or((spec, None), |(module, name)| (module, Some(name)));
    let imported =
        py.import("importlib").and_then(|importlib| importlib.call_method1("import_module", (module,)));
    let module_object = imported.map_err(|error| import_failure(py, spec, module, &error))?;
    let app = match name {
        None => ["application", "app"].into_iter().find_map(|name| module_object.getattr(name).ok()).ok_or_else(|| {
            Failure::usage(format!(
                "module {module} has neither `application` nor `app`; name the callable: app.module = \"{module}:name\""
            ))
        })?,
        Some(name) => find_callable(py, &module_object, module, name)?,
    };
    check_callable(py, spec, &app)?;
    Ok(app.unbind())
}

/// Refuses what would fail at every request: no callable, an ASGI application, a factory that nobody calls.
fn check_callable(py: Python<'_>, spec: &str, app: &Bound<'_, PyAny>) -> Result<(), Failure> {
    if !app.is_callable() {
        return Err(Failure::usage(format!("{spec} is not callable; app.module must name a WSGI callable")));
    }
    let found = || -> PyResult<(bool, bool)> {
        let inspect = py.import("inspect")?;
        let is_coroutine = |callable: &Bound<'_, PyAny>| -> PyResult<bool> {
            inspect.call_method1("iscoroutinefunction", (callable,))?.is_truthy()
        };
        let is_asgi = is_coroutine(app)? || is_coroutine(&app.getattr("__call__")?)?;
        // Without a signature (it may be written in C) there is nothing to judge.
        let takes_two = match inspect.call_method1("signature", (app,)) {
            Ok(signature) => signature.call_method1("bind", (py.None(), py.None())).is_ok(),
            Err(_) => true,
        };
        Ok((is_asgi, takes_two))
    };
    match found().map_err(|error| Failure::failed(log::traceback(py, &error)))? {
        (true, _) => Err(Failure::usage(format!("{spec} is an ASGI application; only WSGI is served here"))),
        (false, false) => Err(Failure::usage(format!(
            "{spec} cannot be called with (environ, start_response), so it is no WSGI application; \
             if it makes one, write app.module = \"{spec}()\""
        ))),
        (false, true) => Ok(()),
    }
}

fn find_callable<'py>(
    py: Python<'py>,
    module: &Bound<'py, PyAny>,
    module_name: &str,
    name: &str,
) -> Result<Bound<'py, PyAny>, Failure> {
    let (path, is_factory) = name.strip_suffix("()").map_or((name, false), |path| (path, true));
    let mut found = module.clone();
    for part in path.split('.') {
        found = found.getattr(part).map_err(|_| {
            Failure::usage(format!(
                "module {module_name} has no `{path}`; correct app.module = \"{module_name}:{name}\""
            ))
        })?;
    }
    if is_factory {
        found = found.call0().map_err(|error| raised(py, &format!("{module_name}:{name} raised"), &error))?;
    }
    Ok(found)
}

fn import_failure(py: Python<'_>, spec: &str, module: &str, error: &PyErr) -> Failure {
    if error.is_instance_of::<PyModuleNotFoundError>(py) {
        let missing: String =
            error.value(py).getattr("name").and_then(|name| name.extract()).unwrap_or_default();
        if module == missing || module.starts_with(&format!("{missing}.")) {
            return Failure::usage(format!(
                "app.module = \"{spec}\": there is no module {missing} in {}; check the name and app.chdir",
                directories(py)
            ));
        }
    }
    raised(py, &format!("the application {module} cannot be imported"), error)
}

fn directories(py: Python<'_>) -> String {
    let path =
        py.import("sys").and_then(|sys| sys.getattr("path")).and_then(|path| path.extract::<Vec<String>>());
    path.unwrap_or_default().join(":")
}

fn raised(py: Python<'_>, what: &str, error: &PyErr) -> Failure {
    if error.is_instance_of::<PySystemExit>(py) {
        return Failure::failed(format!("{what}: it ended the process with {error}"));
    }
    Failure::failed(format!("{what}:\n{}", log::traceback(py, error)))
}

/// What exists now will be shared by all workers: kept out of the garbage collector, it is never written to by it.
fn freeze(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    gc.call_method0("freeze").map(drop)
}

fn describe(py: Python<'_>, settings: &Settings) -> PyResult<String> {
    let version = py.version_info();
    let engine = match settings.app.suspend {
        Suspend::Greenlet => {
            let greenlet: String = py.import("greenlet")?.getattr("__version__")?.extract()?;
            format!("greenlet {greenlet}")
        }
        Suspend::Thread => format!("up to {} threads a worker", settings.workers.cores),
    };
    Ok(format!("CPython {}.{}.{}, {engine}", version.major, version.minor, version.patch))
}
