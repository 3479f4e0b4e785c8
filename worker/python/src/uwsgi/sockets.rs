//! uWSGI's calls for descriptors that the application has opened itself: only whoever calls waits. "No" is -1 or `None`, as
//! there. The request's own connection is no such descriptor: what is sent on it is a part of the answer (`request`).
use super::request;
use crate::suspended::Suspended;
use crate::wait;
use appliance_worker::foreign;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

/// Connects to `IP:PORT`, `/PATH` or `@ABSTRACT`; the descriptor, or -1.
#[pyfunction]
#[pyo3(signature = (address, timeout = 0.0, /))]
pub fn connect(py: Python<'_>, address: &str, timeout: f64) -> PyResult<RawFd> {
    let here = Suspended::here(py, "uwsgi.connect()")?;
    let connected = foreign::connect(&here, address, wait::deadline(timeout)?);
    number(here, connected)
}

/// Starts to connect; the descriptor is writable when that is done, or -1.
#[pyfunction]
#[pyo3(signature = (address, /))]
pub fn async_connect(address: &str) -> PyResult<RawFd> {
    match foreign::start_connecting(address) {
        Ok(fd) => Ok(fd.into_raw_fd()),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(error.into()),
        Err(_) => Ok(-1),
    }
}

/// The application's from here on.
fn number(here: Suspended<'_>, connected: io::Result<OwnedFd>) -> PyResult<RawFd> {
    match connected {
        Ok(fd) => Ok(fd.into_raw_fd()),
        Err(error) => tell(here, error).map(|()| -1),
    }
}

/// An ended wait and a wrong argument are exceptions; whatever else goes wrong is the caller's "no".
fn tell(here: Suspended<'_>, error: io::Error) -> PyResult<()> {
    let is_mistake = error.kind() == io::ErrorKind::InvalidInput;
    match here.ended() {
        Some(raised) => Err(raised),
        None if is_mistake => Err(PyValueError::new_err(error.to_string())),
        None => Ok(()),
    }
}

/// `send(data)`: a piece of this request's answer. `send(fd, data)`: all of it to that descriptor; `None` if it takes no more.
#[pyfunction]
#[pyo3(signature = (first, second = None, /))]
pub fn send(
    py: Python<'_>,
    first: Bound<'_, PyAny>,
    second: Option<Bound<'_, PyAny>>,
) -> PyResult<Option<bool>> {
    let Some(data) = second else { return request::send(py, &first) };
    let fd: RawFd = first.extract()?;
    if request::is_own_connection(py, fd) {
        return request::send(py, &data);
    }
    let Ok(data) = data.cast::<PyBytes>() else {
        return Err(PyTypeError::new_err("uwsgi.send(): the data must be bytes"));
    };
    let here = Suspended::here(py, "uwsgi.send()")?;
    match foreign::transmit(&here, fd, data.as_bytes()) {
        Ok(()) => Ok(Some(true)),
        Err(error) => tell(here, error).map(|()| None),
    }
}

/// What a descriptor gives next; `None` at its end, or if it gives no more.
#[pyfunction]
#[pyo3(signature = (fd, max = 4096, /))]
pub fn recv(py: Python<'_>, fd: RawFd, max: usize) -> PyResult<Option<Bound<'_, PyBytes>>> {
    if request::is_own_connection(py, fd) {
        return Err(PyValueError::new_err(
            "uwsgi.recv(): this is the connection of the request, whose body is read with uwsgi.chunked_read() or from \
             environ[\"wsgi.input\"]",
        ));
    }
    let here = Suspended::here(py, "uwsgi.recv()")?;
    match foreign::receive(&here, fd, max) {
        Ok(data) => Ok(Some(data).filter(|data| !data.is_empty()).map(|data| PyBytes::new(py, &data))),
        Err(error) => tell(here, error).map(|()| None),
    }
}

/// Closes a descriptor; the request's own connection is left to its answer, which ends (`disconnect()`).
#[pyfunction]
#[pyo3(signature = (fd, /))]
pub fn close(py: Python<'_>, fd: RawFd) -> PyResult<()> {
    if request::is_own_connection(py, fd) {
        return request::disconnect(py);
    }
    // Of one that is closed already nobody wants to hear.
    let _ = nix::unistd::close(fd);
    Ok(())
}

/// Whether that is a connected socket; of the request's own connection, whether its client is there.
#[pyfunction]
#[pyo3(signature = (fd, /))]
pub fn is_connected(py: Python<'_>, fd: RawFd) -> bool {
    request::is_client_connected(py, fd).unwrap_or_else(|| foreign::is_connected(fd))
}
