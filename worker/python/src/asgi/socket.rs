//! A WebSocket of an ASGI application: which messages may come next, as ASGI says it; the protocol itself is the engine's
//! (`appliance_worker::websocket`). Nothing in here waits.
use super::Asgi;
use super::call::Call;
use super::channel::{get, gone as nobody, invalid, put_headers};
use super::patience;
use crate::raw;
use appliance_worker::answer::Opening;
use appliance_worker::http::Head;
use appliance_worker::websocket::handshake::{Offer, is_protocol};
use appliance_worker::websocket::{self, Bytes, Closed, Incoming, MOST_REASON, Message, Posted, code};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Where a WebSocket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The application has not received `websocket.connect`.
    New,
    /// It has, and has not answered.
    Connecting,
    /// It refuses with an answer of its own, and what follows is that of HTTP.
    Denied,
    /// It has accepted.
    Open,
    /// It has closed.
    Closed,
}

/// See the module.
pub struct Socket {
    /// What the client offers.
    pub offer: Offer,
    phase: Cell<Phase>,
    is_accepted: Cell<bool>,
    /// Messages that the application has received, and how many they were when its client was first seen to have left.
    received: Cell<u32>,
    left_after: Cell<Option<u32>>,
    /// Messages that there was no room for.
    unsent: RefCell<VecDeque<Message>>,
}

impl Socket {
    /// What a request with this head may become; `None` if it is no handshake, and so a request like any other.
    pub fn of(head: &Head) -> Option<Socket> {
        // Most are none, and this is known without looking at all of their fields.
        let offer = head.upgrade().then(|| Offer::of(head).ok())??;
        Some(Socket {
            offer,
            phase: Cell::new(Phase::New),
            is_accepted: Cell::new(false),
            received: Cell::new(0),
            left_after: Cell::new(None),
            unsent: RefCell::default(),
        })
    }

    /// Whether the connection has become a WebSocket.
    pub fn has_begun(&self) -> bool {
        self.is_accepted.get()
    }

    /// Whether the application has closed it.
    pub fn has_closed(&self) -> bool {
        self.phase.get() == Phase::Closed
    }

    /// Its client is seen to have left. Whether it was so before, and the application has received nothing since.
    pub fn see_left(&self) -> bool {
        let received = Some(self.received.get());
        self.left_after.replace(received) == received
    }

    /// What there is to receive now; `None`: nothing yet.
    pub fn receive<'py>(
        &self,
        py: Python<'py>,
        asgi: &Asgi,
        call: &Call,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        match self.phase.get() {
            Phase::New => {
                self.phase.set(Phase::Connecting);
                message(py, "websocket.connect").map(Some)
            }
            Phase::Connecting | Phase::Denied if !asgi.engine.is_connected(call.core) => {
                call.set_heard();
                gone(py, &Closed::gone()).map(Some)
            }
            Phase::Connecting | Phase::Denied => Ok(None),
            Phase::Open | Phase::Closed => match asgi.engine.receive_message(call.core) {
                Incoming::Message(found) => {
                    self.received.set(self.received.get().wrapping_add(1));
                    let told = message(py, "websocket.receive")?;
                    match found {
                        Message::Text(text) => {
                            told.set_item(intern!(py, "text"), PyString::new(py, &text))?
                        }
                        Message::Binary(bytes) => {
                            told.set_item(intern!(py, "bytes"), PyBytes::new(py, &bytes))?;
                        }
                    }
                    Ok(Some(told))
                }
                Incoming::Wait => Ok(None),
                Incoming::Closed(how) => {
                    call.set_heard();
                    gone(py, &how).map(Some)
                }
            },
        }
    }

    /// Does what a message of the application says. False: it belongs to the answer that HTTP would have.
    pub fn take(&self, asgi: &Asgi, call: &Call, kind: &str, message: &Bound<'_, PyAny>) -> PyResult<bool> {
        match (self.phase.get(), kind) {
            (Phase::New | Phase::Connecting, "websocket.accept") => self.accept(asgi, call, message)?,
            (Phase::New | Phase::Connecting, "websocket.close") => {
                self.phase.set(Phase::Closed);
                deny(asgi, call)?;
            }
            (Phase::New | Phase::Connecting | Phase::Denied, kind)
                if kind.starts_with("websocket.http.response.") =>
            {
                self.phase.set(Phase::Denied);
                return Ok(false);
            }
            (Phase::Open, "websocket.send") => self.send(asgi, call, message)?,
            (Phase::Open, "websocket.close") => self.close(asgi, call, message)?,
            (phase, kind) => {
                let expected = match phase {
                    Phase::New | Phase::Connecting => "websocket.accept or websocket.close was expected",
                    Phase::Denied => "websocket.http.response.body was expected",
                    Phase::Open => "websocket.send or websocket.close was expected",
                    Phase::Closed => "the application has closed the WebSocket",
                };
                return Err(PyRuntimeError::new_err(format!(
                    "send(): the message {kind:?} came where {expected}"
                )));
            }
        }
        Ok(true)
    }

    fn accept(&self, asgi: &Asgi, call: &Call, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = message.py();
        let protocol: Option<String> = match get(message, intern!(py, "subprotocol"))? {
            Some(protocol) => protocol.extract()?,
            None => None,
        };
        if let Some(name) = protocol.as_ref().filter(|name| !is_protocol(name)) {
            return Err(PyValueError::new_err(format!("websocket.accept: {name:?} cannot be a subprotocol")));
        }
        let mut opening = Opening::switching(&call.request, &self.offer.key, protocol.as_deref());
        if let Some(headers) = get(message, intern!(py, "headers"))? {
            put_headers(&mut opening, &headers)?;
        }
        let (_, head) = opening.finish(&*asgi.engine, call.core, &call.request, None);
        if !asgi.engine.open_websocket(call.core, &head) {
            call.set_heard();
            return Err(nobody());
        }
        self.phase.set(Phase::Open);
        self.is_accepted.set(true);
        patience::look_after_sockets(py, asgi);
        // Who waits to receive since before now has asked nobody for messages yet.
        call.rouse(py, asgi);
        Ok(())
    }

    fn send(&self, asgi: &Asgi, call: &Call, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = message.py();
        let given = |key| get(message, key).map(|found| found.filter(|found| !found.is_none()));
        let message = match (given(intern!(py, "bytes"))?, given(intern!(py, "text"))?) {
            (Some(bytes), _) => Message::Binary(Bytes::copy_from_slice(raw::bytes_of(bytes)?.as_bytes())),
            (None, Some(text)) => Message::Text(text.cast::<PyString>()?.to_str()?.into()),
            (None, None) => {
                return Err(PyValueError::new_err("websocket.send: the message has neither text nor bytes"));
            }
        };
        self.unsent.borrow_mut().push_back(message);
        self.flush(asgi, call).map(drop)
    }

    /// Sends what there was no room for; false: there is none yet.
    pub fn flush(&self, asgi: &Asgi, call: &Call) -> PyResult<bool> {
        let mut unsent = self.unsent.borrow_mut();
        while let Some(message) = unsent.front() {
            match asgi.engine.send_message(call.core, None, message) {
                Posted::Taken => drop(unsent.pop_front()),
                Posted::Full => return Ok(false),
                Posted::Closed(_) => {
                    call.set_heard();
                    return Err(nobody());
                }
            }
        }
        Ok(true)
    }

    fn close(&self, asgi: &Asgi, call: &Call, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = message.py();
        let code = match get(message, intern!(py, "code"))?.filter(|code| !code.is_none()) {
            Some(code) => code.extract()?,
            None => code::NORMAL,
        };
        let reason = match get(message, intern!(py, "reason"))?.filter(|reason| !reason.is_none()) {
            Some(reason) => reason.extract()?,
            None => String::new(),
        };
        if !websocket::is_sendable(code) || reason.len() > MOST_REASON {
            return Err(PyValueError::new_err(format!(
                "websocket.close: the code {code} is not one that an application may send, or the reason is longer than \
                 {MOST_REASON} bytes"
            )));
        }
        self.phase.set(Phase::Closed);
        asgi.engine.close_websocket(call.core, code, &reason);
        Ok(())
    }
}

/// What HTTP says to a client whose WebSocket was not accepted.
fn deny(asgi: &Asgi, call: &Call) -> PyResult<()> {
    let mut opening = Opening::new(&call.request, call.core, b"403 Forbidden").map_err(invalid)?;
    opening.header(b"content-type", b"text/plain; charset=utf-8").map_err(invalid)?;
    let mut outgoing = call.outgoing.borrow_mut();
    outgoing.start(opening);
    outgoing.body(call.to(asgi), b"", true);
    Ok(())
}

fn message<'py>(py: Python<'py>, kind: &str) -> PyResult<Bound<'py, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), PyString::intern(py, kind))?;
    Ok(message)
}

/// What `receive` says of a WebSocket that is over.
pub fn gone<'py>(py: Python<'py>, how: &Closed) -> PyResult<Bound<'py, PyDict>> {
    let told = message(py, "websocket.disconnect")?;
    told.set_item(intern!(py, "code"), how.code)?;
    told.set_item(intern!(py, "reason"), &how.reason)?;
    Ok(told)
}
