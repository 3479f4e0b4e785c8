//! `appliance.ClientDisconnected`: how a request learns that nobody waits for it any more. It is raised where the request
//! waits, and ends it like greenlet's own order to end: no `except Exception` stops it, every `finally` runs. A call
//! throws it into its greenlet, a thread raises it itself (`wait`); this file only makes it and tells it from others.
use crate::greenlet;
use pyo3::exceptions::{PyBaseException, PyOSError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

const MEANS: &std::ffi::CStr =
    c"The client has left before it had its answer. Raised where a request waits, to end it.";

static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class, as applications see it.
pub fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let make = || {
        let name = c"appliance.ClientDisconnected";
        let base = match greenlet::exit(py) {
            Some(exit) => exit.cast_into::<PyType>()?,
            None => py.get_type::<PyBaseException>(),
        };
        PyErr::new_type(py, name, Some(MEANS), Some(&base), None)
    };
    CLASS.get_or_try_init(py, make).map(|class| class.bind(py))
}

/// One to be raised.
pub fn exception(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    class(py)?.call1(("the client has left",))
}

/// Whether an exception says that the client has left: ours, or the `OSError` of somebody who reads on in its body. An
/// application may raise either by itself, so it is believed only of a client that has.
pub fn is_said_by(py: Python<'_>, error: &PyErr) -> bool {
    let is_ours = class(py).is_ok_and(|class| error.is_instance(py, class));
    is_ours || error.is_instance_of::<PyOSError>(py)
}
