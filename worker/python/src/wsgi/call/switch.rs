//! A request that becomes a WebSocket: the answer that says so, and what is left to do when it could not.
use super::Call;
use crate::host::Worker;
use crate::raw;
use appliance_worker::answer::Opening;
use appliance_worker::http::declared::Invalid;
use appliance_worker::websocket::handshake::{Offer, Refusal};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

impl Call {
    /// What the client offers; a refusal if this is no WebSocket handshake.
    pub fn offer(&self) -> Result<Offer, Refusal> {
        Offer::of(&self.request.received.head)
    }

    /// Whether the head of the answer has been decided.
    pub fn has_answer(&self) -> bool {
        self.answer.borrow().is_some()
    }

    /// Whether it has become a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.status() == Some(101)
    }

    /// Makes it one, with further header fields of the application's. False if the client has left.
    pub fn switch(
        &self,
        worker: &Worker,
        key: &[u8],
        protocol: Option<&str>,
        headers: &[Bound<'_, PyAny>],
    ) -> PyResult<bool> {
        let invalid = |error: Invalid| PyValueError::new_err(error.to_string());
        let mut opening = Opening::switching(&self.request, key, protocol);
        self.put_variables(&mut opening);
        for header in headers {
            let wrong = |_| PyTypeError::new_err("a header is not a (str, str) tuple");
            let (name, value): (Bound<'_, PyString>, Bound<'_, PyString>) =
                header.extract().map_err(wrong)?;
            opening.header(&raw::latin1_bytes(&name)?, &raw::latin1_bytes(&value)?).map_err(invalid)?;
        }
        let (answer, head) = opening.finish(&worker.engine, self.core, &self.request, None);
        let is_open = worker.engine.open_websocket(self.core, head);
        if is_open {
            self.answer.replace(Some(answer));
        }
        Ok(is_open)
    }
}
