//! Signals, timers, cron tables and file monitors, as `uwsgi` has them and for `appliance.signals`: conversions, and the
//! handlers. What is registered and where it goes is in the worker's `signals` and in the master.
use crate::host::Worker;
use crate::suspended::Suspended;
use crate::wait;
use appliance_worker::signals::{Cron, Ledger, Monitor, Registry, Target, Timer};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};
use std::path::{PathBuf, absolute};
use std::sync::{Arc, LazyLock};

/// What this process has registered: in the template what was registered at import, in a worker all of it.
static LEDGER: LazyLock<Arc<Ledger>> = LazyLock::new(Arc::default);
/// The handlers, by number.
static HANDLERS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// What this process has registered.
pub fn ledger() -> Arc<Ledger> {
    Arc::clone(&LEDGER)
}

fn handlers(py: Python<'_>) -> &Bound<'_, PyDict> {
    HANDLERS.get_or_init(py, || PyDict::new(py).unbind()).bind(py)
}

/// Calls the handler of a signal, in an errand; what it returns is waited for if it can be.
pub fn handle(py: Python<'_>, number: u8) -> PyResult<()> {
    let Some(handler) = handlers(py).get_item(number)? else { return Ok(()) };
    if let Ok((_, call)) = wait::current(py, "a signal") {
        call.signal.set(number);
    }
    let result = handler.call1((number,))?;
    if result.hasattr("__await__")? {
        wait::wait(py, result, None)?;
    }
    Ok(())
}

fn register(change: impl FnOnce(&mut Registry) -> Result<(), String>) -> PyResult<()> {
    LEDGER.register(change).map_err(PyValueError::new_err)
}

/// Text of a str or of bytes.
fn text(value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyBytes>() {
        Ok(bytes) => Ok(String::from_utf8_lossy(bytes.as_bytes()).into_owned()),
        Err(_) => value.extract(),
    }
}

/// Has `function(number)` called when a signal comes to the workers that are meant.
#[pyfunction]
#[pyo3(signature = (number, target, function, /))]
pub fn register_signal(
    py: Python<'_>,
    number: u8,
    target: &Bound<'_, PyAny>,
    function: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let target = Target::parse(&text(target)?).map_err(PyValueError::new_err)?;
    if !function.is_callable() {
        return Err(PyTypeError::new_err("register_signal(): the handler must be callable"));
    }
    handlers(py).set_item(number, function)?;
    register(|registry| {
        registry.handlers.insert(number, target);
        Ok(())
    })
}

/// Raises a signal. Nothing happens if nobody has registered it.
#[pyfunction]
#[pyo3(signature = (number, remote = None, /))]
pub fn signal(number: u8, remote: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    if remote.is_some_and(|remote| !remote.is_none()) {
        return Err(PyValueError::new_err(
            "signals go to the workers of this appliance only; call a procedure on other nodes (uwsgi.rpc)",
        ));
    }
    match LEDGER.raise(number) {
        true => Ok(()),
        false => Err(PyRuntimeError::new_err("signals can be raised in workers, once they serve")),
    }
}

/// `True` if the signal has a handler in this process, else `None`.
#[pyfunction]
#[pyo3(signature = (number, /))]
pub fn signal_registered(number: u8) -> Option<bool> {
    LEDGER.is_registered(number).then_some(true)
}

/// Waits until a signal, or this one, comes to this worker; only the request waits. [`signal_received`] says which it was.
#[pyfunction]
#[pyo3(signature = (number = None, /))]
pub fn signal_wait(py: Python<'_>, number: Option<u8>) -> PyResult<Bound<'_, PyBytes>> {
    let call = Worker::current().ok().map(|worker| worker.current_call(py)).transpose()?.flatten();
    let here = Suspended::here(py, "uwsgi.signal_wait()")?;
    let number = LEDGER.wait(number, &here).map_err(|error| here.raise(error))?;
    if let Some(call) = call {
        call.signal.set(number);
    }
    Ok(PyBytes::new(py, b""))
}

/// The signal that this request has waited for last, or that is being handled.
#[pyfunction]
pub fn signal_received(py: Python<'_>) -> PyResult<u8> {
    Ok(wait::current(py, "uwsgi.signal_received()")?.1.signal.get())
}

/// The first number that has no handler.
#[pyfunction]
pub fn signal_free() -> PyResult<u8> {
    LEDGER.free_number().ok_or_else(|| PyValueError::new_err("all 256 signals have a handler already"))
}

fn add_repeated(signal: u8, every_ms: f64, times: u32) -> PyResult<()> {
    if !every_ms.is_finite() {
        return Err(PyValueError::new_err("the time of a timer is not a number"));
    }
    let every_ms = every_ms.clamp(0.0, 1e15).round() as u64;
    register(|registry| registry.add_timer(Timer { signal, every_ms, times }))
}

/// Raises a signal every so many seconds, once in the whole appliance.
#[pyfunction]
#[pyo3(signature = (number, seconds, /))]
pub fn add_timer(number: u8, seconds: f64) -> PyResult<()> {
    add_repeated(number, seconds * 1000.0, 0)
}

/// The same, so often and no more; 0 is for ever.
#[pyfunction]
#[pyo3(signature = (number, seconds, iterations = 0, /))]
pub fn add_rb_timer(number: u8, seconds: f64, iterations: u32) -> PyResult<()> {
    add_repeated(number, seconds * 1000.0, iterations)
}

/// The same in milliseconds.
#[pyfunction]
#[pyo3(signature = (number, milliseconds, /))]
pub fn add_ms_timer(number: u8, milliseconds: f64) -> PyResult<()> {
    add_repeated(number, milliseconds, 0)
}

/// Raises a signal in the minutes of the local time that are meant: -1 is any, -N every Nth.
#[pyfunction]
#[pyo3(signature = (number, minute, hour, day, month, weekday, /))]
pub fn add_cron(number: u8, minute: i64, hour: i64, day: i64, month: i64, weekday: i64) -> PyResult<bool> {
    let cron = Cron::of_numbers([minute, hour, day, month, weekday]).map_err(PyValueError::new_err)?;
    register(|registry| registry.add_cron(number, cron)).map(|()| true)
}

/// The same for a line of a crontab, such as `*/5 * * * mon-fri`.
#[pyfunction]
#[pyo3(signature = (number, line, /))]
pub fn add_crontab(number: u8, line: &str) -> PyResult<()> {
    let cron = Cron::parse(line).map_err(PyValueError::new_err)?;
    register(|registry| registry.add_cron(number, cron))
}

/// Raises a signal when a file changes, or when another one takes its place.
#[pyfunction]
#[pyo3(signature = (number, path, /))]
pub fn add_file_monitor(number: u8, path: &Bound<'_, PyAny>) -> PyResult<()> {
    let path = match path.extract::<PathBuf>() {
        Ok(path) => path,
        Err(_) => PathBuf::from(text(path)?),
    };
    // Links are followed by whoever watches it, each time anew.
    let path = absolute(path)?;
    let path =
        path.to_str().ok_or_else(|| PyValueError::new_err("the path of a watched file is not UTF-8"))?;
    register(|registry| registry.add_monitor(Monitor { signal: number, path: path.to_owned() }))
}
