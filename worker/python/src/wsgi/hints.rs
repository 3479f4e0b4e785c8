//! Early hints for the client of the running request: `appliance.early_hints` and `environ["wsgi.early_hints"]`, which is
//! the same function under the name that gunicorn gave it. Checks what it is given before a byte is sent.
use super::call::Trouble;
use crate::{raw, wait};
use appliance_worker::hints::Hints;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Sends `103 Early Hints` with these headers, a list of `(name, value)`, at once. As often as one likes before the answer
/// begins; afterwards, and for a client that knows only HTTP/1.0 or has left, it does nothing, as in gunicorn.
#[pyfunction]
#[pyo3(signature = (headers, /))]
pub fn early_hints(py: Python<'_>, headers: Bound<'_, PyAny>) -> PyResult<()> {
    let (worker, call) = wait::current(py, "early_hints()")?;
    let hints = Hints::new(&call.request);
    let Some(mut hints) = hints.filter(|_| call.answer.borrow().is_none()) else { return Ok(()) };
    for item in headers.try_iter()? {
        let wrong = |_| PyTypeError::new_err("early_hints(): a header is not a (str, str) tuple");
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract().map_err(wrong)?;
        let checked = hints.header(&text(&name)?, &text(&value)?);
        checked.map_err(|error| PyValueError::new_err(format!("early_hints(): {error}")))?;
    }
    let out = worker.engine.send_interim(call.core, hints.finish());
    let sent = call.send(py, &worker, &out, false);
    worker.engine.post();
    match sent {
        Err(Trouble::Raised(error)) => Err(error),
        Ok(()) | Err(Trouble::Gone) => Ok(()),
    }
}

fn text(text: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(bytes) = text.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    match text.cast::<PyString>() {
        Ok(text) => Ok(raw::latin1_bytes(text)?.into_owned()),
        Err(_) => Err(PyTypeError::new_err("early_hints(): names and values are str")),
    }
}
