//! The coroutine that is a request's task: it calls the application in its first step, resumes it in all others, and ends the
//! request when that has come to its end and the connection has taken the answer. To asyncio it is a coroutine like any
//! other; its state is that of the call, so that it is nothing any more when the request has ended.
use super::call::Call;
use super::outgoing::Flushed;
use super::{Asgi, end};
use appliance_worker::{CoreId, Outcome};
use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyTuple};
use std::rc::Rc;

/// See the module.
#[pyclass(frozen, module = "appliance", name = "request")]
pub struct Life {
    core: CoreId,
    /// The application's, to be seen from any thread.
    coroutine: PyOnceLock<Py<PyAny>>,
}

impl Life {
    /// That of the request on this core.
    pub fn new(core: CoreId) -> Life {
        Life { core, coroutine: PyOnceLock::new() }
    }

    fn find(&self) -> Option<(Rc<Asgi>, Rc<Call>)> {
        let asgi = Asgi::current()?;
        let call = asgi.call_on(self.core)?;
        Some((asgi, call))
    }

    /// An attribute of the application's coroutine.
    fn of_coroutine<'py>(&self, py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
        self.coroutine.get(py)?.bind(py).getattr(name).ok()
    }

    /// Resumes the application, or enters it.
    fn resume<'py>(&self, py: Python<'py>, asgi: &Asgi, call: &Call) -> PyResult<PySendResult<'py>> {
        let iterator = match call.iterator(py) {
            Some(iterator) => iterator,
            None => {
                let coroutine = asgi.enter(py, call)?;
                let iterator = coroutine.call_method0(intern!(py, "__await__"));
                let iterator = iterator.map_err(|_| not_awaitable(&coroutine))?;
                call.set_coroutine(coroutine.clone().unbind(), iterator.clone().unbind());
                // Empty until now.
                let _ = self.coroutine.set(py, coroutine.unbind());
                iterator
            }
        };
        iterator.cast::<PyIterator>()?.send(&py.None().into_bound(py))
    }

    fn step<'py>(
        &self,
        py: Python<'py>,
        run: impl FnOnce(&Asgi, &Call) -> PyResult<PySendResult<'py>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((asgi, call)) = self.find() else { return Ok(None) };
        if call.is_over() {
            return leave(py, &asgi, &call);
        }
        call.set_steps(true);
        asgi.engine.roll().set_running(Some(self.core));
        let stepped = run(&asgi, &call);
        asgi.engine.roll().set_running(None);
        call.set_steps(false);
        let result = match stepped {
            Ok(PySendResult::Next(awaited)) => {
                // An error of a file that is being sent is that of whoever awaits it.
                let _ = call.flush(py, &asgi);
                return Ok(Some(awaited));
            }
            Ok(PySendResult::Return(_)) => Ok(()),
            Err(error) => Err(error),
        };
        call.set_over();
        end::settle(py, &asgi, &call, result);
        leave(py, &asgi, &call)
    }
}

/// The application has come to its end: waits until the connection has taken the answer, then gives the core back.
fn leave<'py>(py: Python<'py>, asgi: &Asgi, call: &Call) -> PyResult<Option<Bound<'py, PyAny>>> {
    match call.flush(py, asgi) {
        Ok(Flushed::Wait) => return call.waiter(py, asgi).map(Some),
        Ok(Flushed::All) => end::finish(py, asgi, call, None),
        Ok(Flushed::Gone) => end::finish(py, asgi, call, Some(Outcome::Cut)),
        Err(error) => {
            tracing::warn!(core = call.core.index, "{error}");
            end::finish(py, asgi, call, Some(Outcome::Cut));
        }
    }
    Ok(None)
}

fn not_awaitable(found: &Bound<'_, PyAny>) -> PyErr {
    let kind = found.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("the application must return an awaitable, not {kind} (ASGI 3)"))
}

/// Throws an exception into the application where it waits.
fn throw<'py>(py: Python<'py>, call: &Call, arguments: &Bound<'py, PyTuple>) -> PyResult<PySendResult<'py>> {
    let Some(iterator) = call.iterator(py) else {
        // Its task was cancelled before the first step.
        return Err(PyErr::from_value(arguments.get_item(0)?));
    };
    match iterator.call_method1(intern!(py, "throw"), arguments) {
        Ok(awaited) => Ok(PySendResult::Next(awaited)),
        Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
            Ok(PySendResult::Return(py.None().into_bound(py)))
        }
        Err(error) => Err(error),
    }
}

#[pymethods]
impl Life {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.step(py, |asgi, call| self.resume(py, asgi, call))
    }

    fn send<'py>(&self, py: Python<'py>, _value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.__next__(py)?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (*arguments))]
    fn throw<'py>(&self, py: Python<'py>, arguments: Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        if let Some((asgi, call)) = self.find().filter(|(_, call)| call.is_over()) {
            // Cancelled while its answer leaves: nobody waits for the rest.
            end::finish(py, &asgi, &call, Some(Outcome::Cut));
        }
        self.step(py, |_, call| throw(py, call, &arguments))?.ok_or_else(|| PyStopIteration::new_err(()))
    }

    /// Its task was destroyed, and with it the request.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some((asgi, call)) = self.find() else { return Ok(()) };
        let iterator = call.iterator(py);
        call.set_over();
        end::abandon(py, &asgi, &call);
        iterator.map_or(Ok(()), |iterator| iterator.call_method0(intern!(py, "close")).map(drop))
    }

    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.of_coroutine(py, "cr_frame")
    }

    #[getter]
    fn cr_await<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.of_coroutine(py, "cr_await")
    }
}
