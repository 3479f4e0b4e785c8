//! Procedures: what the application registers for others to call, and its calls of its own, of another worker's and of other
//! servers'. A procedure is any callable of bytes that gives bytes or text. One that is registered while the application is
//! imported is there in every worker, one that a request registers only in that worker. `uwsgi.rpc` says `None` where nothing
//! came of a call, as uWSGI does, and the log says why; `appliance.rpc` raises.
use crate::remote;
use crate::{log, timeout};
use appliance_worker::errand::Reply;
use appliance_worker::wire::address::Address;
use appliance_worker::wire::client::Failure;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Longest name: uWSGI's own limit.
const LONGEST_NAME: usize = 254;
/// Most procedures of one worker: nobody has so many, and whoever registers one in each request hears of it.
const MOST: usize = 4096;

/// Each procedure twice, by its name as text and as bytes: whichever a call gives needs no conversion.
static PROCEDURES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
static ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
/// The worker's own number, and the folder that all workers' sockets lie in.
static PLACE: OnceLock<(u32, PathBuf)> = OnceLock::new();

/// From here on the other workers of this appliance can be called; `socket` is the path of this worker's own.
pub fn set_place(worker: u32, socket: &Path) {
    if let Some(folder) = socket.parent() {
        // A process is one worker all its life.
        let _ = PLACE.set((worker, folder.to_owned()));
    }
}

/// The class of the exceptions that say why nothing came of a call.
pub fn error_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let means = c"A procedure is not there, has failed, or cannot be reached.";
    let base = py.get_type::<PyException>();
    let make = || PyErr::new_type(py, c"appliance.rpc.RpcError", Some(means), Some(&base), None);
    ERROR.get_or_try_init(py, make).map(|class| class.bind(py))
}

/// Why nothing came of a call.
enum Fault {
    /// The application raised an exception.
    Raised(PyErr),
    /// Anything else, as a sentence.
    Said(String),
    /// Another server has said no; uWSGI's says no more than that.
    Refused(String),
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Fault {
        Fault::Raised(error)
    }
}

type Called<'py> = Result<Bound<'py, PyBytes>, Fault>;

fn procedures(py: Python<'_>) -> &Bound<'_, PyDict> {
    PROCEDURES.get_or_init(py, || PyDict::new(py).unbind()).bind(py)
}

/// Which procedure is called, and with what.
struct Question<'py> {
    /// Text or bytes.
    name: Bound<'py, PyAny>,
    /// Bytes each.
    args: Bound<'py, PyTuple>,
}

impl<'py> Question<'py> {
    /// From the arguments of a call; `skip` of them say something else.
    fn of(args: &Bound<'py, PyTuple>, skip: usize) -> PyResult<Question<'py>> {
        let Ok(name) = args.get_item(skip) else {
            return Err(PyValueError::new_err("unable to call rpc function: it has no name"));
        };
        let is_plain = name.is_exact_instance_of::<PyBytes>() || name.is_exact_instance_of::<PyString>();
        let name = if is_plain { name } else { PyString::new(args.py(), &text(&name)?).into_any() };
        Ok(Question { name, args: all_bytes(args.get_slice(skip + 1, args.len()))? })
    }

    /// The name, as messages say it.
    fn name(&self) -> String {
        text(&self.name).unwrap_or_default()
    }
}

/// The same, each made bytes.
fn all_bytes<'py>(args: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
    if args.iter_borrowed().all(|arg| arg.is_exact_instance_of::<PyBytes>()) {
        return Ok(args);
    }
    let made = args.iter().map(|arg| bytes(&arg)).collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(args.py(), made)
}

/// Calls a procedure of this worker.
fn call_here<'py>(py: Python<'py>, question: &Question<'py>) -> Called<'py> {
    let Some(function) = procedures(py).get_item(&question.name)? else {
        let name = question.name();
        return Err(Fault::Said(format!(
            "there is no procedure {name:?} in this worker; see appliance.rpc.names()"
        )));
    };
    let result = function.call1(&question.args)?;
    if let Ok(text) = result.cast::<PyString>() {
        return Ok(PyBytes::new(py, text.to_str()?.as_bytes()));
    }
    if let Ok(bytes) = result.cast_into::<PyBytes>() {
        return Ok(bytes);
    }
    Err(Fault::Said(format!("the procedure {:?} gave neither bytes nor text", question.name())))
}

/// Calls a procedure of somebody else's.
fn call_there<'py>(py: Python<'py>, node: &str, question: &Question<'py>) -> Called<'py> {
    let sibling = node.strip_prefix("worker:");
    let address = match sibling {
        Some(number) => match worker(number)? {
            Some(address) => address,
            None => return call_here(py, question),
        },
        None => node
            .parse()
            .map_err(|error: <Address as std::str::FromStr>::Err| Fault::Said(error.to_string()))?,
    };
    let name = &*question.name();
    let args = question.args.iter().map(|arg| bytes(&arg)).collect::<PyResult<Vec<_>>>()?;
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    let called = remote::ask(py, "a call of another server", |remote| match sibling {
        Some(_) => remote.call_worker(&address, name, &args),
        None => remote.call(&address, name, &args),
    })?;
    match (called, sibling) {
        (Ok(result), _) => Ok(PyBytes::new(py, &result)),
        (Err(Failure::Unreachable(_, why)), Some(number)) => {
            Err(Fault::Said(format!("worker {number} cannot be reached ({why}); is there one?")))
        }
        (Err(failure @ Failure::Refused(_)), _) => {
            Err(Fault::Refused(format!("{failure}: it has no procedure {name:?}, or that failed")))
        }
        (Err(failure), _) => Err(Fault::Said(failure.to_string())),
    }
}

/// The socket of another worker, `None` for this one.
fn worker(number: &str) -> Result<Option<Address>, Fault> {
    let wrong = || Fault::Said(format!("\"worker:{number}\" is no worker; write \"worker:1\" for the first"));
    let number: u32 = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    match PLACE.get() {
        Some((own, _)) if *own == number => Ok(None),
        Some((_, folder)) => Ok(Some(Address::Unix(folder.join(format!("worker-{number}.sock"))))),
        None => Err(Fault::Said("other workers can be called only in a worker".to_owned())),
    }
}

fn call_anywhere<'py>(py: Python<'py>, node: &str, question: &Question<'py>) -> Called<'py> {
    if node.is_empty() { call_here(py, question) } else { call_there(py, node, question) }
}

/// Bytes, from bytes or text.
fn bytes<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(PyBytes::new(value.py(), text.to_str()?.as_bytes()));
    }
    let py = value.py();
    // Whatever has a buffer; `bytes(3)` would be three zeros.
    if let Ok(view) = py.import("builtins")?.getattr("memoryview")?.call1((value,)) {
        return Ok(py.get_type::<PyBytes>().call1((view,))?.cast_into()?);
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("a procedure takes bytes or text, not {kind}")))
}

/// Text, from text or bytes.
fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(String::from_utf8_lossy(bytes.as_bytes()).into_owned()),
        Err(_) => value.extract(),
    }
}

#[pyfunction]
#[pyo3(signature = (name, function, argc = 0, /))]
pub fn register_rpc(name: Bound<'_, PyAny>, function: Bound<'_, PyAny>, argc: u32) -> PyResult<bool> {
    // uWSGI takes it and does not use it either.
    let _ = argc;
    let (py, name) = (name.py(), text(&name)?);
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(PyValueError::new_err(format!(
            "the name of a procedure has 1 to {LONGEST_NAME} bytes: {name:?}"
        )));
    }
    if !function.is_callable() {
        return Err(PyTypeError::new_err(format!("the procedure {name:?} cannot be called")));
    }
    let procedures = procedures(py);
    if procedures.len() / 2 >= MOST && !procedures.contains(&name)? {
        return Err(PyValueError::new_err(format!("there are {MOST} procedures already, which is the most")));
    }
    procedures.set_item(PyBytes::new(py, name.as_bytes()), &function)?;
    procedures.set_item(name, function)?;
    Ok(true)
}

/// The names of this worker's procedures.
#[pyfunction]
pub fn rpc_list(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    let names = procedures(py).keys().iter().filter(|name| name.is_instance_of::<PyBytes>());
    PyTuple::new(py, names.collect::<Vec<_>>())
}

/// What uWSGI answers: bytes, or `None` and a line in the log.
fn forgiving<'py>(question: &Question<'py>, called: Called<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let (py, name) = (question.name.py(), || question.name());
    match called {
        Ok(result) => Ok(Some(result).filter(|result| !result.as_bytes().is_empty())),
        // What ends a request ends it here too.
        Err(Fault::Raised(error)) if !error.is_instance_of::<PyException>(py) => Err(error),
        Err(Fault::Raised(error)) => {
            log::exception(py, &error, &format!("exception in the procedure {:?}", name()));
            Ok(None)
        }
        Err(Fault::Said(why)) => {
            tracing::warn!("rpc {:?}: {why}", name());
            Ok(None)
        }
        Err(Fault::Refused(why)) => {
            tracing::debug!("rpc {:?}: {why}", name());
            Ok(None)
        }
    }
}

#[pyfunction]
#[pyo3(signature = (*args))]
pub fn rpc<'py>(py: Python<'py>, args: Bound<'py, PyTuple>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let question = Question::of(&args, 1)?;
    let node = args.get_item(0)?;
    let node = if node.is_none() { String::new() } else { text(&node)? };
    forgiving(&question, call_anywhere(py, &node, &question))
}

#[pyfunction]
#[pyo3(signature = (*args))]
pub fn call<'py>(py: Python<'py>, args: Bound<'py, PyTuple>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let question = Question::of(&args, 0)?;
    forgiving(&question, call_here(py, &question))
}

/// The same for `appliance.rpc`: `RpcError` says why nothing came of it, and what the procedure here has raised is raised.
#[pyfunction]
pub fn rpc_call<'py>(
    py: Python<'py>,
    node: &str,
    name: Bound<'py, PyString>,
    args: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyBytes>> {
    let question = Question { name: name.into_any(), args: all_bytes(args)? };
    let raise = |why: String| Ok::<_, PyErr>(PyErr::from_value(error_class(py)?.call1((why,))?));
    match call_anywhere(py, node, &question) {
        Ok(result) => Ok(result),
        Err(Fault::Raised(error)) => Err(error),
        Err(Fault::Said(why) | Fault::Refused(why)) => Err(raise(why)?),
    }
}

/// Somebody outside of this worker calls: runs the procedure on this core, and sends what came of it. An exception is logged
/// by whoever runs errands.
pub fn serve(py: Python<'_>, name: &str, args: &[Vec<u8>], reply: Reply) -> PyResult<()> {
    let args = PyTuple::new(py, args.iter().map(|arg| PyBytes::new(py, arg)))?;
    let question = Question { name: PyString::new(py, name).into_any(), args };
    let (replied, ended) = match call_here(py, &question) {
        Ok(result) => (Ok(result.as_bytes().to_vec()), Ok(())),
        Err(Fault::Said(why) | Fault::Refused(why)) => {
            tracing::warn!("rpc {name:?}, called from outside: {why}");
            (Err(why), Ok(()))
        }
        Err(Fault::Raised(error)) => {
            let late = timeout::is_said_by(py, &error);
            let why =
                if late { "it took longer than timeouts.request".to_owned() } else { error.to_string() };
            (Err(format!("the procedure {name:?} failed: {why}")), Err(error))
        }
    };
    reply.send(replied);
    ended
}
