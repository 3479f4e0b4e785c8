//! `start_response` and the `write` callable that it returns (PEP 3333). They only note what the application wants; the
//! call sends it. Both may be kept by an application after its request, and then raise.
use crate::host::Worker;
use crate::raw;
use appliance_worker::CoreId;
use pyo3::exceptions::{PyAssertionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use std::cell::{Cell, RefCell};

/// What the application passed to `start_response`.
pub struct Started {
    /// Such as `200 OK`.
    pub status: Py<PyString>,
    /// A list of pairs.
    pub headers: Py<PyList>,
}

/// The `start_response` of one request at a time.
#[pyclass(unsendable, module = "appliance")]
pub struct StartResponse {
    core: Cell<Option<CoreId>>,
    started: RefCell<Option<Started>>,
    head_sent: Cell<bool>,
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
        let state =
            StartResponse { core: Cell::new(None), started: RefCell::default(), head_sent: Cell::new(false) };
        let object = Bound::new(py, state)?;
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
        spare.object.borrow(py).core.set(Some(core));
        Ok(spare)
    }

    /// Gives it back, unless the application has kept a reference: then a late call must find nothing.
    pub fn give_back(self, py: Python<'_>, worker: &Worker) {
        {
            let state = self.object.borrow(py);
            state.core.set(None);
            state.started.take();
            state.head_sent.set(false);
        }
        // One reference is the bound method's own.
        let kept = raw::references(self.callable.bind(py)) > 1 || raw::references(self.object.bind(py)) > 2;
        if !kept {
            worker.spare.borrow_mut().push(self);
        }
    }

    /// What the application has passed, if it has called.
    pub fn started(&self, py: Python<'_>) -> Option<(Py<PyString>, Py<PyList>)> {
        let state = self.object.borrow(py);
        let started = state.started.borrow();
        started.as_ref().map(|started| (started.status.clone_ref(py), started.headers.clone_ref(py)))
    }

    /// From now on the headers cannot be changed any more.
    pub fn set_head_sent(&self, py: Python<'_>) {
        self.object.borrow(py).head_sent.set(true);
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
        let this = slf.borrow();
        if this.core.get().is_none() {
            return Err(PyAssertionError::new_err("start_response() was called after its request had ended"));
        }
        match exc_info.filter(|info| !info.is_none()) {
            Some(info) if this.head_sent.get() => {
                return Err(PyErr::from_value(info.get_item(1)?));
            }
            None if this.started.borrow().is_some() => {
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
        this.started.replace(Some(Started { status: status.unbind(), headers: headers.unbind() }));
        // Nearly nobody uses write(), so the method is only looked up, not stored.
        slf.getattr(pyo3::intern!(py, "write"))
    }

    fn write(&self, py: Python<'_>, data: Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(data) = data.cast_into::<PyBytes>() else {
            return Err(PyTypeError::new_err("write(): the data must be bytes (PEP 3333)"));
        };
        let worker = Worker::current()?;
        let call = self.core.get().and_then(|core| worker.call_on(core));
        match call {
            Some(call) => call.write(py, &worker, &data),
            None => Err(PyAssertionError::new_err("write() was called after its request had ended")),
        }
    }
}
