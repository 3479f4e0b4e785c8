//! uWSGI's calls for WebSockets: everything is `bytes`, and the request's own WebSocket is meant. An empty message cannot be
//! told from none with `websocket_recv_nb`; `appliance.websocket` has no such riddles.
use crate::wait;
use crate::websocket::{bytes_like, closed, open, receive, send, text};
use appliance_worker::websocket::handshake::{Offer, is_protocol};
use appliance_worker::websocket::{Bytes, Closed, Incoming, Message};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

const NO_RECEIVE: &str = "unable to receive websocket message";
const NO_SEND: &str = "unable to send websocket message";

/// Opens it. `key` stands for the request's own, `proto` is the subprotocol whatever the client speaks; `origin` was a header of
/// an old draft and means nothing.
#[pyfunction]
#[pyo3(signature = (key = None, _origin = None, proto = None, /))]
pub fn websocket_handshake(
    py: Python<'_>,
    key: Option<Bound<'_, PyAny>>,
    _origin: Option<Bound<'_, PyAny>>,
    proto: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let (worker, call) = wait::current(py, "uwsgi.websocket_handshake()")?;
    let given = |value: Option<Bound<'_, PyAny>>| -> PyResult<Option<Bytes>> {
        let value = value.map(|value| data(&value)).transpose()?;
        Ok(value.filter(|value| !value.is_empty()))
    };
    let (key, proto) = (given(key)?, given(proto)?);
    let proto = proto.map(|proto| String::from_utf8(proto.to_vec())).transpose()?;
    if proto.as_ref().is_some_and(|proto| !is_protocol(proto)) {
        return Err(PyValueError::new_err("uwsgi.websocket_handshake(): the subprotocol is not a name"));
    }
    let choose = |offer: &Offer| (key.map_or_else(|| offer.key.clone(), |key| key.to_vec()), proto);
    open(py, &worker, &call, choose, &[]).map(drop)
}

/// The next message, text and binary alike.
#[pyfunction]
pub fn websocket_recv(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let (worker, call) = wait::current(py, "uwsgi.websocket_recv()")?;
    let message = receive(py, &worker, &call, NO_RECEIVE, None)?;
    Ok(PyBytes::new(py, message.bytes()))
}

/// The same without waiting: empty if nothing has come.
#[pyfunction]
pub fn websocket_recv_nb(py: Python<'_>) -> PyResult<Bound<'_, PyBytes>> {
    let (worker, call) = wait::current(py, "uwsgi.websocket_recv_nb()")?;
    match worker.engine.receive_message(call.core) {
        Incoming::Message(message) => Ok(PyBytes::new(py, message.bytes())),
        Incoming::Wait => Ok(PyBytes::new(py, b"")),
        Incoming::Closed(how) => Err(closed(py, NO_RECEIVE, &how)),
    }
}

/// Sends text.
#[pyfunction]
#[pyo3(signature = (message, /))]
pub fn websocket_send(py: Python<'_>, message: Bound<'_, PyAny>) -> PyResult<()> {
    let message = text(data(&message)?).ok_or_else(|| {
        PyValueError::new_err(
            "uwsgi.websocket_send() sends text, and this is not UTF-8; use uwsgi.websocket_send_binary()",
        )
    })?;
    post(py, "uwsgi.websocket_send()", &message)
}

/// Sends bytes.
#[pyfunction]
#[pyo3(signature = (message, /))]
pub fn websocket_send_binary(py: Python<'_>, message: Bound<'_, PyAny>) -> PyResult<()> {
    post(py, "uwsgi.websocket_send_binary()", &Message::Binary(data(&message)?))
}

fn post(py: Python<'_>, name: &str, message: &Message) -> PyResult<()> {
    let (worker, call) = wait::current(py, name)?;
    if !call.is_websocket() {
        return Err(closed(py, NO_SEND, &Closed::gone()));
    }
    send(py, &worker, call.core, Some(&call), NO_SEND, message)
}

/// Bytes of a str (as UTF-8) or of what is bytes-like.
fn data(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_str()?.as_bytes()));
    }
    let wrong = || Ok(format!("the argument must be str or bytes-like, not {}", value.get_type().name()?));
    bytes_like(value).ok_or_else(|| wrong().map_or_else(|error: PyErr| error, PyTypeError::new_err))
}
