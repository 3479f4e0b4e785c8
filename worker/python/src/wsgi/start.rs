//! `start_response` and the `write` callable that it returns (PEP 3333). They only note what the application wants; the
//! call sends it. Both may be kept by an application after its request, and then raise.
use crate::host::Worker;
use crate::raw;
use appliance_worker::CoreId;
use pyo3::exceptions::{PyAssertionError, PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the application passed to `start_response`.
pub struct Started {
    /// Such as `200 OK`.
    pub status: Py<PyString>,
    /// A list of pairs.
    pub headers: Py<PyList>,
}

/// The `start_response` of one request at a time.
#[pyclass(frozen, module = "appliance")]
pub struct StartResponse {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    core: Option<CoreId>,
    started: Option<Started>,
    head_sent: bool,
}

impl StartResponse {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way, and nothing under it waits or runs Python.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `start_response` together with its bound method, ready for the next request.
pub struct Spare {
    /// The state.
    pub object: Py<StartResponse>,
    /// What the application calls.
    pub callable: Py<PyAny>,
}

impl Spare {
    /// One that was never used.
    pub fn new(py: Python<'_>) -> PyResult<Spare> {
        let object = Bound::new(py, StartResponse { state: Mutex::default() })?;
        let callable = object.getattr("start")?.unbind();
        Ok(Spare { object: object.unbind(), callable })
    }

    /// Takes one from the worker's pool, for the request on this core.
    pub fn take(py: Python<'_>, worker: &Worker, core: CoreId) -> PyResult<Spare> {
        let pooled = worker.spare.borrow_mut().pop();
        let spare = match pooled {
            Some(spare) => spare,
            None => Spare::new(py)?,
        };
        spare.object.get().state().core = Some(core);
        Ok(spare)
    }

    /// Gives it back, unless the application has kept a reference: then a late call must find nothing.
    pub fn give_back(self, py: Python<'_>, worker: &Worker) {
        // Dropped after the lock is released.
        let _last = std::mem::take(&mut *self.object.get().state());
        // One reference is the bound method's own.
        let kept = raw::references(self.callable.bind(py)) > 1 || raw::references(self.object.bind(py)) > 2;
        if !kept {
            worker.spare.borrow_mut().push(self);
        }
    }

    /// What the application has passed, if it has called.
    pub fn started(&self, py: Python<'_>) -> Option<(Py<PyString>, Py<PyList>)> {
        let state = self.object.get().state();
        state.started.as_ref().map(|started| (started.status.clone_ref(py), started.headers.clone_ref(py)))
    }

    /// From now on the headers cannot be changed any more.
    pub fn set_head_sent(&self) {
        self.object.get().state().head_sent = true;
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info = None, /))]
    fn start<'py>(
        slf: &Bound<'py, Self>,
        status: Bound<'py, PyAny>,
        headers: Bound<'py, PyAny>,
        exc_info: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (live, called, head_sent) = {
            let state = slf.get().state();
            (state.core.is_some(), state.started.is_some(), state.head_sent)
        };
        if !live {
            return Err(PyAssertionError::new_err("start_response() was called after its request had ended"));
        }
        match exc_info.filter(|info| !info.is_none()) {
            Some(info) if head_sent => return Err(PyErr::from_value(info.get_item(1)?)),
            None if called => {
                return Err(PyAssertionError::new_err(
                    "start_response() was called a second time without exc_info (PEP 3333)",
                ));
            }
            _ => {}
        }
        let Ok(status) = status.cast_into::<PyString>() else {
            return Err(PyTypeError::new_err(
                "start_response(): the status must be a str, such as \"200 OK\"",
            ));
        };
        let Ok(headers) = headers.cast_into::<PyList>() else {
            return Err(PyTypeError::new_err(
                "start_response(): the headers must be a list of (name, value) tuples",
            ));
        };
        let started = Started { status: status.unbind(), headers: headers.unbind() };
        let _first = slf.get().state().started.replace(started);
        // Nearly nobody uses write(), so the method is only looked up, not stored.
        slf.getattr(pyo3::intern!(py, "write"))
    }

    fn write(&self, py: Python<'_>, data: Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast_into::<PyBytes>() else {
            return Err(PyTypeError::new_err("write(): the data must be bytes (PEP 3333)"));
        };
        let worker = Worker::current()?;
        let core = self.state().core;
        let call = core.and_then(|core| worker.call_on(core));
        match call {
            Some(call) if call.write(py, &worker, &data)? => Ok(()),
            Some(_) => Err(PyOSError::new_err("write(): the client has left")),
            None => Err(PyAssertionError::new_err("write() was called after its request had ended")),
        }
    }
}
