//! `receive` and `send` as an application has them, for HTTP and for WebSockets. Each is its own awaitable: what is there is given at once and without a
//! future, since nothing has to wait; otherwise a future of the loop is waited for, and then looked again. `send` has done its
//! work when it returns; awaiting it means to wait until the connection has taken what was sent.
use super::Asgi;
use super::call::{Call, News};
use super::outgoing::Flushed;
use super::socket;
use crate::raw;
use appliance_worker::CoreId;
use appliance_worker::answer::Opening;
use appliance_worker::hints::Hints;
use appliance_worker::http::declared::Invalid;
use appliance_worker::websocket::Closed;
use nix::fcntl::OFlag;
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;

/// `receive`: gives the request's body, then waits for the client to leave.
#[pyclass(frozen, module = "appliance", name = "receive")]
pub struct Receive {
    core: CoreId,
    /// Whoever has it knows the messages of WebSockets only, also when the request has ended.
    is_socket: bool,
}

impl Receive {
    /// That of the request on this core.
    pub fn new(core: CoreId, is_socket: bool) -> Receive {
        Receive { core, is_socket }
    }
}

/// `send`: takes the messages of the answer.
#[pyclass(frozen, module = "appliance", name = "send")]
pub struct Send {
    core: CoreId,
}

impl Send {
    /// That of the request on this core.
    pub fn new(core: CoreId) -> Send {
        Send { core }
    }
}

/// The request on a core, if it is still that one.
fn find(core: CoreId) -> Option<(Rc<Asgi>, Rc<Call>)> {
    let asgi = Asgi::current()?;
    let call = asgi.call_on(core)?;
    Some((asgi, call))
}

#[pymethods]
impl Receive {
    fn __call__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some((asgi, call)) = find(self.core) else {
            let told = if self.is_socket { socket::gone(py, &Closed::gone()) } else { disconnect(py) };
            return Err(given(told?));
        };
        if let Some(socket) = &call.socket {
            return match socket.receive(py, &asgi, &call)? {
                Some(message) => Err(given(message)),
                None => call.waiter(py, &asgi),
            };
        }
        match call.receive(&asgi) {
            News::Body(body, more) => {
                let message = PyDict::new(py);
                message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
                message.set_item(intern!(py, "body"), PyBytes::new(py, &body))?;
                message.set_item(intern!(py, "more_body"), more)?;
                Err(given(message))
            }
            News::Disconnect => Err(given(disconnect(py)?)),
            News::Wait => call.waiter(py, &asgi),
        }
    }

    /// With the next two it counts as a coroutine, which `asyncio.create_task(receive())` wants.
    fn send<'py>(&self, py: Python<'py>, _value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (kind, value = None, _traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Err(thrown(kind, value))
    }

    fn close(&self) {}
}

#[pymethods]
impl Send {
    fn __call__<'py>(slf: &Bound<'py, Self>, message: Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let (asgi, call) = find(slf.get().core).ok_or_else(gone)?;
        let kind = message.get_item(intern!(slf.py(), "type"))?;
        let mut kind = kind.cast::<PyString>()?.to_str()?;
        if let Some(socket) = &call.socket {
            if socket.take(&asgi, &call, kind, &message)? {
                return Ok(slf.clone());
            }
            kind = &kind["websocket.".len()..];
        }
        if call.has_left() && !call.is_answered() {
            call.set_heard();
            return Err(gone());
        }
        take(&asgi, &call, kind, &message)?;
        Ok(slf.clone())
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((asgi, call)) = find(self.core) else { return Ok(None) };
        if let Some(socket) = &call.socket
            && !socket.flush(&asgi, &call)?
        {
            return call.waiter(py, &asgi).map(Some);
        }
        match call.flush(py, &asgi)? {
            Flushed::All => Ok(None),
            Flushed::Wait => call.waiter(py, &asgi).map(Some),
            Flushed::Gone => {
                call.set_heard();
                Err(gone())
            }
        }
    }

    /// As that of `receive`.
    fn send<'py>(&self, py: Python<'py>, _value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (kind, value = None, _traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        Err(thrown(kind, value))
    }

    fn close(&self) {}
}

/// What `send` raises when nobody is there; for ASGI any `OSError` would do.
pub fn gone() -> PyErr {
    PyConnectionResetError::new_err("the client has left, or has its answer")
}

/// What ends an `await` with this value.
fn given(message: Bound<'_, PyDict>) -> PyErr {
    PyStopIteration::new_err((message.unbind(),))
}

/// The exception that was thrown in, as a class or as an instance.
fn thrown(kind: Bound<'_, PyAny>, value: Option<Bound<'_, PyAny>>) -> PyErr {
    PyErr::from_value(value.filter(|value| !value.is_none()).unwrap_or(kind))
}

fn disconnect(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message)
}

/// Does what a message of the application says.
fn take(asgi: &Asgi, call: &Call, kind: &str, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let is_taken = match kind {
        "http.response.body" => body(asgi, call, message)?,
        "http.response.start" if call.outgoing.borrow().is_silent() => {
            let opening = opening(asgi, call, message)?;
            call.outgoing.borrow_mut().start(opening);
            true
        }
        "http.response.early_hint" if call.outgoing.borrow().is_silent() => {
            hint(asgi, call, message)?;
            true
        }
        "http.response.pathsend" => file(asgi, call, message)?,
        _ => false,
    };
    if is_taken { Ok(()) } else { Err(unexpected(call, kind)) }
}

fn unexpected(call: &Call, kind: &str) -> PyErr {
    let outgoing = call.outgoing.borrow();
    let reason = if outgoing.is_complete() {
        "after the response was complete"
    } else if outgoing.is_silent() {
        "where http.response.start was expected"
    } else {
        "where http.response.body was expected"
    };
    PyRuntimeError::new_err(format!("send(): the message {kind:?} came {reason}"))
}

/// An item of a message that may be absent.
pub fn get<'py>(
    message: &Bound<'py, PyAny>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match message.cast::<PyDict>() {
        Ok(message) => message.get_item(key),
        Err(_) => {
            let value = message.call_method1(intern!(message.py(), "get"), (key,))?;
            Ok((!value.is_none()).then_some(value))
        }
    }
}

fn opening(asgi: &Asgi, call: &Call, message: &Bound<'_, PyAny>) -> PyResult<Opening> {
    let py = message.py();
    let status: u16 = message.get_item(intern!(py, "status"))?.extract()?;
    let mut opening = Opening::new(&call.request, call.core, &asgi.reasons.line(status)).map_err(invalid)?;
    if let Some(headers) = get(message, intern!(py, "headers"))? {
        put_headers(&mut opening, &headers)?;
    }
    Ok(opening)
}

/// Adds the headers of a message to an answer.
pub fn put_headers(opening: &mut Opening, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    for item in headers.try_iter()? {
        let (name, value) = field(item?)?;
        // How the body is framed is the server's business, says ASGI.
        if !name.as_bytes().eq_ignore_ascii_case(b"transfer-encoding") {
            opening.header(name.as_bytes(), value.as_bytes()).map_err(invalid)?;
        }
    }
    Ok(())
}

fn field<'py>(item: Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let wrong =
        |_| PyTypeError::new_err("http.response.start: a header is not a pair of bytes (name, value)");
    let (name, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = match item.extract() {
        Ok(pair) => pair,
        // A list of two is as good as a tuple.
        Err(_) => (item.get_item(0)?, item.get_item(1)?),
    };
    Ok((
        name.cast_into::<PyBytes>().map_err(|_| wrong(()))?,
        value.cast_into::<PyBytes>().map_err(|_| wrong(()))?,
    ))
}

/// What `send` raises for an answer that cannot be sent.
pub fn invalid(error: Invalid) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn body(asgi: &Asgi, call: &Call, message: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = message.py();
    let more = match get(message, intern!(py, "more_body"))? {
        Some(more) => more.is_truthy()?,
        None => false,
    };
    let body = get(message, intern!(py, "body"))?.map(|body| raw::bytes_of(body)).transpose()?;
    let content = body.as_ref().map_or(&b""[..], |body| body.as_bytes());
    let is_taken = call.outgoing.borrow_mut().body(call.to(asgi), content, !more);
    call.release(py, asgi);
    Ok(is_taken)
}

fn file(asgi: &Asgi, call: &Call, message: &Bound<'_, PyAny>) -> PyResult<bool> {
    let path: PathBuf = message.get_item(intern!(message.py(), "path"))?.extract()?;
    // A pipe would keep the loop until somebody writes into it; to a regular file this means nothing.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(PyValueError::new_err(format!(
            "http.response.pathsend: {} is no regular file",
            path.display()
        )));
    }
    Ok(call.outgoing.borrow_mut().file(call.to(asgi), file, facts.len()))
}

fn hint(asgi: &Asgi, call: &Call, message: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(mut hints) = Hints::new(&call.request) else { return Ok(()) };
    if let Some(links) = get(message, intern!(message.py(), "links"))? {
        for link in links.try_iter()? {
            hints.header(b"link", raw::bytes_of(link?)?.as_bytes()).map_err(invalid)?;
        }
    }
    call.outgoing.borrow_mut().interim(call.to(asgi), hints.finish());
    Ok(())
}
