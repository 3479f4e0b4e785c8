//! WebSockets as Python sees them: `appliance.websocket`, and what `uwsgi.websocket_*` are made of. A WebSocket belongs to
//! the request that has accepted it and ends with it; only that request receives, and every request of the worker may send.
use crate::host::Worker;
use crate::wait;
use crate::wsgi::call::Call;
use appliance_worker::CoreId;
use appliance_worker::websocket::{
    self, Bytes, Closed, Incoming, MOST_PING, MOST_REASON, Message, Posted, Text, code,
};
use pyo3::exceptions::{
    PyBlockingIOError, PyOSError, PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString, PyType};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Instant;

static CLOSED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static NO_HANDSHAKE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    name: &std::ffi::CStr,
    means: &std::ffi::CStr,
) -> PyResult<&'py Bound<'py, PyType>> {
    let make = || PyErr::new_type(py, name, Some(means), Some(&py.get_type::<PyOSError>()), None);
    cell.get_or_try_init(py, make).map(|class| class.bind(py))
}

/// `appliance.websocket.ConnectionClosed`.
pub fn connection_closed(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    const MEANS: &std::ffi::CStr =
        c"The WebSocket is closed: `code` and `reason` say how. A request that ends with it has ended well.";
    class(py, &CLOSED, c"appliance.websocket.ConnectionClosed", MEANS)
}

/// `appliance.websocket.HandshakeError`.
pub fn handshake_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    const MEANS: &std::ffi::CStr =
        c"The request cannot become a WebSocket. If nobody catches it, the client is answered 400 or 426.";
    class(py, &NO_HANDSHAKE, c"appliance.websocket.HandshakeError", MEANS)
}

/// Whether an exception only says that a WebSocket is closed.
pub fn is_closed(py: Python<'_>, error: &PyErr) -> bool {
    connection_closed(py).is_ok_and(|class| error.is_instance(py, class))
}

/// Whether an exception says that a request cannot become a WebSocket.
pub fn is_no_handshake(py: Python<'_>, error: &PyErr) -> bool {
    handshake_error(py).is_ok_and(|class| error.is_instance(py, class))
}

/// The exception for a WebSocket that was closed like this; `what` could not be done.
pub fn closed(py: Python<'_>, what: &str, closed: &Closed) -> PyErr {
    let Closed { code, reason } = closed;
    let raise = || -> PyResult<PyErr> {
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let error = connection_closed(py)?.call1((format!("{what}: it is closed with {code}{because}"),))?;
        error.setattr("code", *code)?;
        error.setattr("reason", reason)?;
        Ok(PyErr::from_value(error))
    };
    raise().unwrap_or_else(|error| error)
}

fn no_handshake(py: Python<'_>, reason: &str) -> PyErr {
    handshake_error(py).map_or_else(|error| error, |class| PyErr::from_type(class.clone(), reason.to_owned()))
}

/// Opens the WebSocket of this request, with the first of our `protocols` that the client speaks, or with `protocol`
/// whatever it speaks. The subprotocol.
pub fn open(
    py: Python<'_>,
    worker: &Worker,
    call: &Call,
    choose: impl FnOnce(&websocket::handshake::Offer) -> (Vec<u8>, Option<String>),
    headers: &[Bound<'_, PyAny>],
) -> PyResult<Option<String>> {
    if call.has_answer() {
        return Err(no_handshake(
            py,
            "the answer has begun already; accept a WebSocket before anything is sent",
        ));
    }
    let offer = call.offer().map_err(|refusal| no_handshake(py, refusal.reason))?;
    let (key, protocol) = choose(&offer);
    if !call.switch(worker, &key, protocol.as_deref(), headers)? {
        return Err(closed(py, "the WebSocket could not be opened", &Closed::gone()));
    }
    Ok(protocol)
}

/// The next message of this request's WebSocket; waits for it. `TimeoutError` after `deadline`.
pub fn receive(
    py: Python<'_>,
    worker: &Worker,
    call: &Call,
    what: &str,
    deadline: Option<Instant>,
) -> PyResult<Message> {
    wait::with_timer(worker, call, deadline, || {
        loop {
            match worker.engine.await_message(call.core, deadline) {
                Incoming::Message(message) => return Ok(message),
                Incoming::Closed(how) => return Err(closed(py, what, &how)),
                Incoming::Wait if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return Err(PyTimeoutError::new_err("no message has come in time"));
                }
                Incoming::Wait => wait::park(py, worker, call)?,
            }
        }
    })
}

/// Sends a message on the WebSocket of `core`; waits while its client is slower than we are.
pub fn send(
    py: Python<'_>,
    worker: &Worker,
    core: CoreId,
    by: Option<&Rc<Call>>,
    what: &str,
    message: &Message,
) -> PyResult<()> {
    loop {
        match worker.engine.send_message(core, by.map(|call| call.core), message) {
            Posted::Taken => return Ok(()),
            Posted::Closed(how) => return Err(closed(py, what, &how)),
            Posted::Full => match by {
                Some(call) => wait::park(py, worker, call)?,
                None => {
                    return Err(PyBlockingIOError::new_err(
                        "too much waits to be sent on this WebSocket, and a callback of the loop cannot wait",
                    ));
                }
            },
        }
    }
}

/// Text of a `str`, bytes of what is bytes-like.
fn message(data: &Bound<'_, PyAny>) -> PyResult<Message> {
    if let Ok(text) = data.cast::<PyString>() {
        return Ok(Message::Text(text.to_str()?.into()));
    }
    match bytes_like(data) {
        Some(bytes) => Ok(Message::Binary(bytes)),
        None => {
            let kind = data.get_type().name()?;
            Err(PyTypeError::new_err(format!("a message is str or bytes-like, not {kind}")))
        }
    }
}

/// The bytes of `bytes`, `bytearray` or `memoryview`.
pub fn bytes_like(data: &Bound<'_, PyAny>) -> Option<Bytes> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Some(Bytes::copy_from_slice(bytes.as_bytes()));
    }
    let bytes = data.py().import("builtins").ok()?.getattr("memoryview").ok()?.call1((data,)).ok()?;
    let bytes = bytes.call_method0("tobytes").ok()?;
    Some(Bytes::copy_from_slice(bytes.cast::<PyBytes>().ok()?.as_bytes()))
}

/// As Python gets a message.
fn object<'py>(py: Python<'py>, message: &Message) -> Bound<'py, PyAny> {
    match message {
        Message::Text(text) => PyString::new(py, text).into_any(),
        Message::Binary(bytes) => PyBytes::new(py, bytes).into_any(),
    }
}

/// Text from bytes that must be UTF-8.
pub fn text(bytes: Bytes) -> Option<Message> {
    Text::try_from(bytes).ok().map(Message::Text)
}

/// `appliance.websocket.WebSocket`: one that is open. It iterates over its messages, and as a context manager it closes itself.
#[pyclass(frozen, module = "appliance.websocket")]
pub struct WebSocket {
    core: CoreId,
    /// The subprotocol that was chosen, or `None`.
    #[pyo3(get)]
    subprotocol: Option<String>,
    /// How it was closed, once that was noticed.
    how: Mutex<Option<Closed>>,
}

/// `appliance.websocket.accept(subprotocols=(), headers=())`: makes the connection of this request a WebSocket. The first of
/// our subprotocols that the client speaks is chosen.
#[pyfunction]
#[pyo3(signature = (subprotocols = None, headers = None))]
pub fn accept_websocket(
    py: Python<'_>,
    subprotocols: Option<Bound<'_, PyAny>>,
    headers: Option<Bound<'_, PyAny>>,
) -> PyResult<WebSocket> {
    let (worker, call) = wait::current(py, "appliance.websocket.accept()")?;
    let (subprotocols, headers) = (items(subprotocols)?, items(headers)?);
    let subprotocols: Vec<String> = subprotocols.iter().map(|one| one.extract()).collect::<PyResult<_>>()?;
    let choose = |offer: &websocket::handshake::Offer| {
        let chosen = offer.choose(subprotocols.iter().map(String::as_str)).map(str::to_owned);
        (offer.key.clone(), chosen)
    };
    let subprotocol = open(py, &worker, &call, choose, &headers)?;
    Ok(WebSocket { core: call.core, subprotocol, how: Mutex::default() })
}

/// What was given as a list. A text would be a list of its letters.
fn items<'py>(given: Option<Bound<'py, PyAny>>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    match given {
        None => Ok(Vec::new()),
        Some(text) if text.is_instance_of::<PyString>() => {
            Err(PyTypeError::new_err("subprotocols and headers are lists, and this is one text"))
        }
        Some(given) => given.try_iter()?.collect(),
    }
}

/// Puts what `appliance.websocket` is made of into `_appliance`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("WebSocket", py.get_type::<WebSocket>())?;
    module.add("ConnectionClosed", connection_closed(py)?)?;
    module.add("HandshakeError", handshake_error(py)?)?;
    module.add_function(wrap_pyfunction!(accept_websocket, module)?)
}

impl WebSocket {
    /// Notes how it was closed, for whoever asks later.
    fn noted<T>(&self, py: Python<'_>, result: PyResult<T>) -> PyResult<T> {
        if let Err(error) = &result
            && is_closed(py, error)
        {
            let value = error.value(py);
            self.note(value.getattr("code")?.extract()?, value.getattr("reason")?.extract()?);
        }
        result
    }

    fn note(&self, code: u16, reason: String) {
        self.how().get_or_insert(Closed { code, reason });
    }

    fn how(&self) -> std::sync::MutexGuard<'_, Option<Closed>> {
        // Nothing that can panic happens under this lock.
        self.how.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[pymethods]
impl WebSocket {
    /// The next message, text as `str` and binary as `bytes`; this request waits for it. `TimeoutError` after so many seconds,
    /// `ConnectionClosed` when there will be none any more.
    #[pyo3(signature = (timeout = None))]
    fn receive<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let (worker, call) = wait::current(py, "WebSocket.receive()")?;
        if call.core != self.core {
            return Err(PyRuntimeError::new_err(
                "only the request that has accepted a WebSocket can receive from it; others can send",
            ));
        }
        let deadline = timeout.map(wait::seconds).transpose()?.map(|pause| Instant::now() + pause);
        let received = receive(py, &worker, &call, "no message can be received on this WebSocket", deadline);
        self.noted(py, received).map(|message| object(py, &message))
    }

    /// Sends a message, `str` as text and bytes-like as binary, also from another request of this worker, which waits while the
    /// client is slower. A callback of the loop cannot wait: `BlockingIOError`.
    #[pyo3(signature = (data, /))]
    fn send(&self, py: Python<'_>, data: Bound<'_, PyAny>) -> PyResult<()> {
        let message = message(&data)?;
        let worker = Worker::current()?;
        let by = worker.current_call(py)?;
        let what = "no message can be sent on this WebSocket";
        let sent = send(py, &worker, self.core, by.as_ref(), what, &message);
        self.noted(py, sent)
    }

    /// The same to be awaited on the loop; it takes a core only while the client is slower.
    #[pyo3(signature = (data, /))]
    fn asend<'py>(slf: Bound<'py, Self>, data: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let forms = slf.py().import("appliance._awaitable")?;
        forms.call_method1("at_once_or_on_core", (slf.getattr("send")?, data))
    }

    /// Sends a ping. The server does so by itself (`websocket.ping_interval`); nothing waits for the answer.
    #[pyo3(signature = (payload = None, /))]
    fn ping(&self, py: Python<'_>, payload: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let payload = match payload {
            None => Bytes::new(),
            Some(data) => message(&data).map(|message| Bytes::copy_from_slice(message.bytes()))?,
        };
        if payload.len() > MOST_PING {
            return Err(PyValueError::new_err(format!("a ping has at most {MOST_PING} bytes")));
        }
        let worker = Worker::current()?;
        let by = worker.current_call(py)?.map(|call| call.core);
        worker.engine.ping_websocket(self.core, by, payload.to_vec());
        Ok(())
    }

    /// Closes it. Whoever waits for a message of it gets `ConnectionClosed`. Once is enough, more does nothing.
    #[pyo3(signature = (code = code::NORMAL, reason = ""))]
    fn close(&self, py: Python<'_>, code: u16, reason: &str) -> PyResult<()> {
        if !websocket::is_sendable(code) {
            return Err(PyValueError::new_err(format!(
                "{code} is no code to close a WebSocket with; applications use 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999"
            )));
        }
        if reason.len() > MOST_REASON {
            return Err(PyValueError::new_err(format!("a reason has at most {MOST_REASON} bytes as UTF-8")));
        }
        let worker = Worker::current()?;
        let by = worker.current_call(py)?.map(|call| call.core);
        worker.engine.close_websocket(self.core, by, code, reason.to_owned());
        self.note(code, reason.to_owned());
        Ok(())
    }

    /// The code with which it was closed, as far as that was noticed; 1006: without any. `None`: it is open.
    #[getter]
    fn close_code(&self) -> Option<u16> {
        self.how().as_ref().map(|how| how.code)
    }

    /// The reason that goes with it.
    #[getter]
    fn close_reason(&self) -> Option<String> {
        self.how().as_ref().map(|how| how.reason.clone())
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// Ends when it is closed, however that was.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.receive(py, None) {
            Err(error) if is_closed(py, &error) => Ok(None),
            received => received.map(Some),
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (kind, _value, _traceback))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Bound<'_, PyAny>,
        _value: Bound<'_, PyAny>,
        _traceback: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let is_well = kind.is_none() || kind.is(connection_closed(py)?);
        self.close(py, if is_well { code::NORMAL } else { code::INTERNAL_ERROR }, "")
    }

    fn __repr__(&self) -> String {
        let state = self.how().as_ref().map_or("open".to_owned(), |how| format!("closed with {}", how.code));
        format!("<appliance.websocket.WebSocket of core {}, {state}>", self.core.index)
    }
}
