//! `appliance.RequestTimeout`: how a request learns that it takes longer than it may (`timeouts.request`, or what it has set for
//! itself). It is raised where the request is: thrown into its greenlet if that waits, by the handler of a signal if it keeps
//! the loop's thread (`watch` sends it), as an asynchronous exception if it runs on a thread of the pool. One line in the log
//! says so, with the stack, whatever the application does with the exception.
use crate::asgi;
use crate::host::Worker;
use crate::reach::Reach;
use appliance_worker::CoreId;
use appliance_worker::roll::Roll;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};
use std::time::Instant;

const MEANS: &std::ffi::CStr =
    c"The request has taken longer than it may. Raised wherever it is at that moment, to end it.";

static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class, as applications see it: no `except Exception` stops it.
pub fn class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let make = || {
        let base = py.get_type::<PyBaseException>();
        PyErr::new_type(py, c"appliance.RequestTimeout", Some(MEANS), Some(&base), None)
    };
    CLASS.get_or_try_init(py, make).map(|class| class.bind(py))
}

/// One to be raised.
pub fn exception(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    class(py)?.call1((appliance_worker::engine::OVERDUE,))
}

/// Whether an exception is ours.
pub fn is_said_by(py: Python<'_>, error: &PyErr) -> bool {
    class(py).is_ok_and(|class| error.is_instance(py, class))
}

/// Logs that the request on this core is ended, and where it was. `count`: how often it has been told before.
pub fn log(py: Python<'_>, roll: &Roll, core: CoreId, frame: Option<&Bound<'_, PyAny>>, count: u32) {
    log_stack(roll, core, &frame.and_then(|frame| stack(py, frame).ok()).unwrap_or_default(), count);
}

/// The same where the stack is text already.
pub fn log_stack(roll: &Roll, core: CoreId, stack: &str, count: u32) {
    let (who, age) = roll.describe(core, Instant::now());
    match count {
        0 => tracing::error!(
            "{who} takes longer than it may: it is ended after {:.1} s\n{stack}",
            age.as_secs_f64()
        ),
        1 => tracing::warn!(
            "{who} has not ended with appliance.RequestTimeout, which is raised in it every second now\n{stack}"
        ),
        _ => {}
    }
}

/// The stack of a frame as a traceback shows it, the innermost last.
fn stack(py: Python<'_>, frame: &Bound<'_, PyAny>) -> PyResult<String> {
    let lines = py.import("traceback")?.call_method1("format_stack", (frame,))?;
    let text: String = PyString::new(py, "").call_method1("join", (lines,))?.extract()?;
    Ok(format!("Stack (most recent call last):\n{}", text.trim_end()))
}

/// The handler of the signal that `watch` sends: raises the exception if the request that runs is overdue, and leaves every
/// other one alone. Python calls it on the loop's thread, between two instructions or in a system call that was interrupted.
#[pyfunction]
pub fn on_signal(py: Python<'_>, _signal: i32, frame: Bound<'_, PyAny>) -> PyResult<()> {
    let Ok(worker) = Worker::current() else { return Ok(()) };
    let Reach::Here(engine) = &worker.engine else { return Ok(()) };
    if asgi::take_overdue(py, |core, count| log(py, engine.roll(), core, Some(&frame), count)) {
        return Err(PyErr::from_value(exception(py)?));
    }
    let Ok(Some(call)) = worker.current_call(py) else { return Ok(()) };
    if call.is_over() || !engine.take_overdue(call.core) {
        return Ok(());
    }
    log(py, engine.roll(), call.core, Some(&frame), call.count_timeout());
    Err(PyErr::from_value(exception(py)?))
}
