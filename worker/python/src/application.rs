//! The applications as objects: imported by the names in the configuration, and told apart by what they look like where their
//! interface is not said. Called in the template; every refusal names the key and what to write there instead.
use crate::load::Failure;
use crate::log;
use appliance_config::{Interface, Target};
use pyo3::exceptions::{PyModuleNotFoundError, PySystemExit};
use pyo3::prelude::*;

/// An application, by its interface.
pub enum Application {
    /// A WSGI callable.
    Wsgi(Py<PyAny>),
    /// An ASGI 3 callable.
    Asgi(Py<PyAny>),
    /// A `tornado.web.Application`, or what makes one in each worker.
    Tornado(Py<PyAny>),
}

impl Application {
    /// What it is called.
    pub fn interface(&self) -> &'static str {
        match self {
            Application::Wsgi(_) => "WSGI",
            Application::Asgi(_) => "ASGI",
            Application::Tornado(_) => "Tornado",
        }
    }
}

/// Where a name was written, to say so.
#[derive(Clone, Copy)]
struct Place<'a> {
    key: &'a str,
    spec: &'a str,
    target: Target<'a>,
}

/// Where a callable is looked for that nobody has named.
const USUAL: [&str; 2] = ["application", "app"];

/// Imports what `key` names: `module:callable`, `module:factory()`, or `module` alone with a callable named `application` or
/// `app`.
pub fn import(py: Python<'_>, key: &str, spec: &str) -> Result<Application, Failure> {
    let Some(target) = Target::parse(spec) else {
        return Err(Failure::usage(format!("{key}: {spec} does not name a Python application")));
    };
    let place = Place { key, spec, target };
    // An import like that of a statement: without the frames of the import system in the traceback.
    let module = py.import(target.module).map_err(|error| import_failure(py, place, &error))?;
    match target.callable {
        None => {
            let found = USUAL.into_iter().find_map(|name| Some((name, module.getattr(name).ok()?)));
            let (name, app) = found.ok_or_else(|| {
                Failure::usage(format!(
                    "module {0} has neither `application` nor `app`; name the callable: {key} = \"{0}:name\"",
                    target.module
                ))
            })?;
            judge(py, Place { spec: &format!("{}:{name}", target.module), ..place }, app)
        }
        Some(name) => judge(py, place, find_callable(py, &module, place, name)?),
    }
}

/// What the application is; refuses what would fail at every request: no callable, a factory that nobody calls.
fn judge(py: Python<'_>, place: Place<'_>, app: Bound<'_, PyAny>) -> Result<Application, Failure> {
    let Place { key, spec, target } = place;
    if !app.is_callable() {
        return Err(Failure::usage(format!("{spec} is not callable; {key} must name a callable")));
    }
    let looks = Looks::of(py, &app).map_err(|error| Failure::failed(log::traceback(py, &error)))?;
    let interface = target.interface.unwrap_or_else(|| looks.interface());
    let takes = match interface {
        Interface::Wsgi => (looks.takes_two, "(environ, start_response), so it is no WSGI application"),
        Interface::Asgi => (looks.takes_three, "(scope, receive, send), so it is no ASGI application"),
        Interface::Tornado => (true, ""),
    };
    match (interface, takes) {
        (_, (false, what)) => Err(Failure::usage(format!(
            "{spec} cannot be called with {what}; if it makes one, write {key} = \"{spec}()\""
        ))),
        (Interface::Wsgi, _) => Ok(Application::Wsgi(app.unbind())),
        (Interface::Asgi, _) => Ok(Application::Asgi(app.unbind())),
        (Interface::Tornado, _) => Ok(Application::Tornado(app.unbind())),
    }
}

/// What a callable shows of itself.
struct Looks {
    is_coroutine: bool,
    takes_two: bool,
    takes_three: bool,
}

impl Looks {
    fn of(py: Python<'_>, app: &Bound<'_, PyAny>) -> PyResult<Looks> {
        let inspect = py.import("inspect")?;
        let is_coroutine = |callable: &Bound<'_, PyAny>| -> PyResult<bool> {
            inspect.call_method1("iscoroutinefunction", (callable,))?.is_truthy()
        };
        // Without a signature (it may be written in C) there is nothing to judge.
        let signature = inspect.call_method1("signature", (app,)).ok();
        let none = || py.None();
        let takes = |bound: fn(&Bound<'_, PyAny>, Py<PyAny>) -> bool| {
            signature.as_ref().is_none_or(|signature| bound(signature, none()))
        };
        Ok(Looks {
            is_coroutine: is_coroutine(app)? || is_coroutine(&app.getattr("__call__")?)?,
            takes_two: takes(|signature, none| signature.call_method1("bind", (&none, &none)).is_ok()),
            takes_three: takes(|signature, none| {
                signature.call_method1("bind", (&none, &none, &none)).is_ok()
            }),
        })
    }

    /// A coroutine function cannot be WSGI's; a plain function with three parameters, which returns a coroutine, neither.
    fn interface(&self) -> Interface {
        if self.is_coroutine || (self.takes_three && !self.takes_two) {
            Interface::Asgi
        } else {
            Interface::Wsgi
        }
    }
}

fn find_callable<'py>(
    py: Python<'py>,
    module: &Bound<'py, PyAny>,
    place: Place<'_>,
    name: &str,
) -> Result<Bound<'py, PyAny>, Failure> {
    let (path, is_factory) = name.strip_suffix("()").map_or((name, false), |path| (path, true));
    let mut found = module.clone();
    for part in path.split('.') {
        found = found.getattr(part).map_err(|_| {
            Failure::usage(format!(
                "module {} has no `{path}`; correct {} = \"{}\"",
                place.target.module, place.key, place.spec
            ))
        })?;
    }
    if is_factory {
        found = found.call0().map_err(|error| raised(py, &format!("{} raised", place.spec), &error))?;
    }
    Ok(found)
}

fn import_failure(py: Python<'_>, place: Place<'_>, error: &PyErr) -> Failure {
    let Place { key, spec, target: Target { module, .. } } = place;
    if error.is_instance_of::<PyModuleNotFoundError>(py) {
        let missing: String =
            error.value(py).getattr("name").and_then(|name| name.extract()).unwrap_or_default();
        if module == missing || module.starts_with(&format!("{missing}.")) {
            return Failure::usage(format!(
                "{key} = \"{spec}\": there is no module {missing} in {}; check the name and app.chdir",
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
