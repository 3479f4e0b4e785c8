//! ASGI's lifespan: what an application does in each worker before its first request and after its last. The conversation is
//! Python's (`lifespan.py`), on the loop that will serve; here its outcome is judged.
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Why a worker must not serve.
pub enum Failure {
    /// The application says so, or has raised, with the reason.
    Refused(String),
    /// Something of ours.
    Python(PyErr),
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Failure {
        Failure::Python(error)
    }
}

/// The lifespan of one application.
pub struct Lifespan {
    conversation: Py<PyAny>,
}

impl Lifespan {
    /// Says that the worker starts, and waits until the application has done what it has to.
    pub fn start(py: Python<'_>, app: &Py<PyAny>, event_loop: &Py<PyAny>) -> Result<Lifespan, Failure> {
        let code = std::ffi::CString::new(include_str!("lifespan.py")).map_err(PyErr::from)?;
        let module = PyModule::from_code(py, &code, c"appliance/lifespan.py", c"_appliance_lifespan")?;
        let conversation = module.getattr("Lifespan")?.call1((app, event_loop))?;
        let (failure, remark): (Option<String>, Option<String>) =
            conversation.call_method0("start")?.extract()?;
        if let Some(reason) = failure {
            return Err(Failure::Refused(reason));
        }
        if let Some(remark) = remark {
            tracing::info!("the application does not take part in ASGI's lifespan: {remark}");
        }
        Ok(Lifespan { conversation: conversation.unbind() })
    }

    /// A copy of what the application has left for its requests.
    pub fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let state = self.conversation.bind(py).getattr(pyo3::intern!(py, "state"))?;
        state.cast_into::<PyDict>()?.copy()
    }

    /// Says that the worker ends, and waits likewise.
    pub fn end(&self, py: Python<'_>) {
        let ended = self.conversation.bind(py).call_method0("end").and_then(|failure| failure.extract());
        match ended {
            Ok(None) => {}
            Ok(Some(reason)) => {
                let reason: String = reason;
                tracing::error!("the application could not shut down in order: {reason}");
            }
            Err(error) => {
                crate::log::exception(py, &error, "exception at the end of the application's lifespan")
            }
        }
    }
}

/// Says that the application's coroutine has ended with an exception while the worker serves.
#[pyfunction]
pub fn log_lifespan_end(reason: &str) {
    tracing::error!("the application's lifespan has ended, and its worker goes on without it: {reason}");
}
