//! What an application may ask about its own request and connection, and do with them.
use crate::wait;
use crate::wsgi::files::FileWrapper;
use appliance_worker::reactor;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::{IntoRawFd, RawFd};

#[pyfunction]
pub fn async_id(py: Python<'_>) -> PyResult<u32> {
    Ok(wait::current(py, "uwsgi.async_id()")?.1.core.index)
}

#[pyfunction]
pub fn connection_fd(py: Python<'_>) -> PyResult<RawFd> {
    let (worker, call) = wait::current(py, "uwsgi.connection_fd()")?;
    Ok(worker.engine.connection_fd(call.core).unwrap_or(-1))
}

/// Whether the client of this request is still there. The number is uWSGI's way to name its connection.
#[pyfunction]
#[pyo3(signature = (fd, /))]
pub fn is_connected(py: Python<'_>, fd: RawFd) -> PyResult<bool> {
    let (worker, call) = wait::current(py, "uwsgi.is_connected()")?;
    Ok(worker.engine.connection_fd(call.core) == Some(fd) && worker.engine.is_connected(call.core))
}

/// Ends the response; the request runs on, and nothing that it sends can reach anybody.
#[pyfunction]
pub fn disconnect(py: Python<'_>) -> PyResult<()> {
    let (worker, call) = wait::current(py, "uwsgi.disconnect()")?;
    call.end_response(py, &worker);
    Ok(())
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

/// The file that somebody means by a path, a file-like object or a descriptor. The descriptor stays the caller's.
fn opened<'py>(file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if file.hasattr("read")? {
        return Ok(file.clone());
    }
    let open = file.py().import("io")?.getattr("open")?;
    match file.extract::<RawFd>() {
        Ok(fd) => open.call1((reactor::duplicate(fd)?.into_raw_fd(), "rb")),
        Err(_) => open.call1((file, "rb")),
    }
}

/// Bytes of a str (as UTF-8) or of a bytes-like argument.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match value.extract::<&str>() {
        Ok(text) => Ok(text.as_bytes().to_vec()),
        Err(_) => value.extract(),
    }
}

#[pyfunction]
#[pyo3(signature = (key, value, /))]
pub fn set_logvar(py: Python<'_>, key: Bound<'_, PyAny>, value: Bound<'_, PyAny>) -> PyResult<()> {
    let (_, call) = wait::current(py, "uwsgi.set_logvar()")?;
    let (key, value) = (bytes(&key)?, bytes(&value)?);
    let mut variables = call.logvars.borrow_mut();
    variables.retain(|(name, _)| *name != key);
    variables.push((key, value));
    Ok(())
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
