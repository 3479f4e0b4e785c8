//! What an application may ask about its own request and connection, and do with them. Everything is about the request of
//! the running greenlet, also after a suspension; nothing here can reach the connection of another one.
use crate::wait;
use crate::wsgi::call::Call;
use crate::wsgi::files::FileWrapper;
use appliance_worker::Door;
use appliance_worker::reactor;
use pyo3::exceptions::{PyAttributeError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyString};
use std::borrow::Cow;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Whether the access log has a line for each request; the template sets it for its workers.
static ACCESS_LOG: AtomicBool = AtomicBool::new(false);

/// Notes whether `log.access` is on.
pub fn set_access_log(is_on: bool) {
    ACCESS_LOG.store(is_on, Relaxed);
}

/// Attributes of the module that are another one for each request.
#[pyfunction]
pub fn __getattr__(py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
    let arguments = match name {
        "env" | "start_response" => wait::current(py, "uwsgi").ok().and_then(|(_, call)| call.arguments(py)),
        _ => {
            let has = |name| py.import("uwsgi").and_then(|module| module.dict().contains(name));
            let missing = match name.split('_').next() {
                _ if name == "sharedarea_object" => {
                    ": areas are made by the configuration; write [[sharedarea]]"
                }
                Some("queue") if !has("queue_push")? => {
                    ": there is no queue; write `slots = 100` under [queue]"
                }
                Some("sharedarea") if !has("sharedarea_read")? => {
                    ": there is no shared area; write [[sharedarea]]"
                }
                _ => "",
            };
            let text = format!("module 'uwsgi' has no attribute '{name}'{missing}");
            return Err(PyAttributeError::new_err(text));
        }
    };
    match arguments {
        Some((environ, _)) if name == "env" => Ok(environ.into_any()),
        Some((_, start)) => Ok(start),
        None => Err(PyAttributeError::new_err(format!("uwsgi.{name} exists only inside a request"))),
    }
}

#[pyfunction]
pub fn async_id(py: Python<'_>) -> PyResult<u32> {
    Ok(wait::current(py, "uwsgi.async_id()")?.1.core.index)
}

#[pyfunction]
pub fn connection_fd(py: Python<'_>) -> PyResult<RawFd> {
    let (worker, call) = wait::current(py, "uwsgi.connection_fd()")?;
    Ok(worker.engine.connection_fd(call.core).unwrap_or(-1))
}

/// Whether that number names the connection of the request that runs here, if one does.
pub fn is_own_connection(py: Python<'_>, fd: RawFd) -> bool {
    is_client_connected(py, fd).is_some()
}

/// Whether the client of this request is still there, if the number is uWSGI's name for its connection.
pub fn is_client_connected(py: Python<'_>, fd: RawFd) -> Option<bool> {
    let (worker, call) = wait::current(py, "uwsgi.is_connected()").ok()?;
    let is_own = worker.engine.connection_fd(call.core) == Some(fd);
    is_own.then(|| worker.engine.is_connected(call.core))
}

/// Ends the response; the request runs on, and nothing that it sends can reach anybody.
#[pyfunction]
pub fn disconnect(py: Python<'_>) -> PyResult<()> {
    let (worker, call) = wait::current(py, "uwsgi.disconnect()")?;
    call.end_response(py, &worker)
}

/// Sends a piece of the body at once, the head before it if that has not left: `write()` by another name. Bytes that are no
/// part of an answer cannot be sent. `None` if the client has left.
pub fn send(py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    let (worker, call) = wait::current(py, "uwsgi.send()")?;
    let Ok(data) = data.cast::<PyBytes>() else {
        return Err(PyTypeError::new_err("uwsgi.send(): the data must be bytes"));
    };
    if !call.is_started(py) {
        return Err(PyValueError::new_err(
            "uwsgi.send() sends a part of the body: call start_response() before",
        ));
    }
    Ok(call.write(py, &worker, data)?.then_some(true))
}

/// The next piece of the request's body, empty at its end. A timeout in seconds raises `OSError`.
#[pyfunction]
#[pyo3(signature = (timeout = 0.0, /))]
pub fn chunked_read(py: Python<'_>, timeout: f64) -> PyResult<Bound<'_, PyBytes>> {
    let (worker, call) = wait::current(py, "uwsgi.chunked_read()")?;
    let (input, deadline) = (call.input(py)?, wait::deadline(timeout)?);
    wait::with_timer(&worker, &call, deadline, || input.get().read_some(py, deadline))
}

/// The same without waiting: `None` if nothing has arrived.
#[pyfunction]
pub fn chunked_read_nb(py: Python<'_>) -> PyResult<Option<Bound<'_, PyBytes>>> {
    let (_, call) = wait::current(py, "uwsgi.chunked_read_nb()")?;
    call.input(py)?.get().read_now(py)
}

/// Promises a file, or a part of one, as the body: `start_response` first, then return `[]`. `None` if it cannot be read.
#[pyfunction]
#[pyo3(signature = (file, chunk = 0, pos = 0, size = 0, /))]
pub fn sendfile(
    py: Python<'_>,
    file: Bound<'_, PyAny>,
    chunk: usize,
    pos: u64,
    size: u64,
) -> PyResult<Option<bool>> {
    let (_, call) = wait::current(py, "uwsgi.sendfile()")?;
    let file = match opened(&file) {
        Ok(file) => file,
        Err(error) if error.is_instance_of::<PyOSError>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    if pos > 0 {
        file.call_method1("seek", (pos,))?;
    }
    let part = FileWrapper::part(file.unbind(), chunk, (size > 0).then_some(size));
    call.sendfile.replace(Some(Py::new(py, part)?));
    Ok(Some(true))
}

/// The same, and an empty body to return. uWSGI's own does nothing but that.
#[pyfunction]
#[pyo3(signature = (file = None, size = 0, /))]
pub fn offload<'py>(
    py: Python<'py>,
    file: Option<Bound<'py, PyAny>>,
    size: u64,
) -> PyResult<Bound<'py, PyBytes>> {
    if let Some(file) = file
        && sendfile(py, file.clone(), 0, 0, size)?.is_none()
    {
        return Err(PyValueError::new_err(format!("uwsgi.offload(): {} cannot be read", file.repr()?)));
    }
    Ok(PyBytes::new(py, b""))
}

/// The file that somebody means by a path, a file-like object or a descriptor. The descriptor stays the caller's.
fn opened<'py>(file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if file.hasattr("read")? {
        return Ok(file.clone());
    }
    let open = file.py().import("io")?.getattr("open")?;
    let Ok(fd) = file.extract::<RawFd>() else { return open.call1((file, "rb")) };
    let copy = reactor::duplicate(fd)?;
    let file = open.call1((copy.as_raw_fd(), "rb"))?;
    // It is the file's only now: what cannot be opened, a folder for example, is not closed by Python.
    let _ = copy.into_raw_fd();
    Ok(file)
}

/// Bytes of a str (as UTF-8) or of bytes.
pub(super) fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    borrowed(value).map(Cow::into_owned)
}

/// The same where they lie, if nobody can change them there.
pub(super) fn borrowed<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        Ok(Cow::Borrowed(bytes.as_bytes()))
    } else if let Ok(text) = value.cast::<PyString>() {
        Ok(Cow::Borrowed(text.to_str()?.as_bytes()))
    } else if let Ok(bytes) = value.cast::<PyByteArray>() {
        Ok(Cow::Owned(bytes.to_vec()))
    } else {
        let kind = value.get_type().name()?;
        Err(PyTypeError::new_err(format!("the argument must be str or bytes, not {kind}")))
    }
}

fn set_variable(call: &Call, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let (key, value) = (bytes(key)?, bytes(value)?);
    let mut variables = call.logvars.borrow_mut();
    variables.retain(|(name, _)| *name != key);
    variables.push((key, value));
    Ok(())
}

#[pyfunction]
#[pyo3(signature = (key, value, /))]
pub fn set_logvar(py: Python<'_>, key: Bound<'_, PyAny>, value: Bound<'_, PyAny>) -> PyResult<()> {
    let (_, call) = wait::current(py, "uwsgi.set_logvar()")?;
    set_variable(&call, &key, &value)
}

/// uWSGI's request variables are seen by nobody but its log formats, so they are log variables here.
#[pyfunction]
#[pyo3(signature = (key, value, /))]
pub fn add_var(py: Python<'_>, key: Bound<'_, PyAny>, value: Bound<'_, PyAny>) -> PyResult<bool> {
    let (_, call) = wait::current(py, "uwsgi.add_var()")?;
    set_variable(&call, &key, &value).map(|()| true)
}

#[pyfunction]
#[pyo3(signature = (key, /))]
pub fn get_logvar<'py>(py: Python<'py>, key: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let (_, call) = wait::current(py, "uwsgi.get_logvar()")?;
    let key = bytes(&key)?;
    let variables = call.logvars.borrow();
    Ok(variables.iter().find(|(name, _)| *name == key).map(|(_, value)| PyBytes::new(py, value)))
}

/// `Content-Length` of the request.
#[pyfunction]
pub fn cl(py: Python<'_>) -> PyResult<u64> {
    let (_, call) = wait::current(py, "uwsgi.cl()")?;
    Ok(match call.request.received.head.framing() {
        appliance_worker::http::Framing::Length(n) => n,
        _ => 0,
    })
}

/// Number of the request among those of this worker, from 1.
#[pyfunction]
pub fn request_id(py: Python<'_>) -> PyResult<u64> {
    Ok(wait::current(py, "uwsgi.request_id()")?.1.request.number)
}

/// This request must end within so many seconds from now; 0 takes that back. Only the request ends, not the worker.
#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub fn set_user_harakiri(py: Python<'_>, seconds: i64) -> PyResult<()> {
    let (worker, call) = wait::current(py, "uwsgi.set_user_harakiri()")?;
    let limit = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    worker.engine.set_limit(call.core, limit.map(|seconds| Instant::now() + wait::whole_seconds(seconds)));
    Ok(())
}

/// There will be a log line for this request, also where there would be none.
#[pyfunction]
pub fn log_this_request(py: Python<'_>) -> PyResult<()> {
    wait::current(py, "uwsgi.log_this_request()")?.1.wants_line.set(true);
    Ok(())
}

/// At the end of a request: the line that its application has asked for, unless the access log has one.
pub fn log_if_asked(call: &Call) {
    if !call.wants_line.get() {
        return;
    }
    let is_listed = call.request.origin().is_some() || call.request.peer.door == Door::Native;
    if is_listed && ACCESS_LOG.load(Relaxed) {
        return;
    }
    let head = &call.request.received.head;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let variables = call.logvars.borrow();
    let variables: Vec<String> =
        variables.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect();
    tracing::info!(
        kind = "request",
        client = text(call.request.client()),
        method = head.method(),
        path = text(head.target()),
        status = call.status().unwrap_or_default(),
        ms = call.request.arrived.elapsed().as_secs_f64() * 1000.0,
        core = call.core.index,
        vars = variables.join(" "),
        "a request that asked for a log line"
    );
}
