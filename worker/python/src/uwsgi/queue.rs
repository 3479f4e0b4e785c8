//! uWSGI's queue, which all workers share: conversions only, the rest is in the worker's `queue.rs`. As in uWSGI the functions are
//! there only where a queue is configured. They wait for moments at most, and may be called from anywhere.
use super::request;
use crate::areas;
use crate::suspended::Suspended;
use appliance_worker::queue::Queue;
use appliance_worker::suspend::Suspend;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::io;

/// Adds the functions, if there is a queue.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if areas::ours().is_none_or(|areas| areas.queue.is_none()) {
        return Ok(());
    }
    module.add_function(wrap_pyfunction!(queue_push, module)?)?;
    module.add_function(wrap_pyfunction!(queue_pop, module)?)?;
    module.add_function(wrap_pyfunction!(queue_pull, module)?)?;
    module.add_function(wrap_pyfunction!(queue_get, module)?)?;
    module.add_function(wrap_pyfunction!(queue_set, module)?)?;
    module.add_function(wrap_pyfunction!(queue_last, module)?)?;
    module.add_function(wrap_pyfunction!(queue_slot, module)?)?;
    module.add_function(wrap_pyfunction!(queue_pull_slot, module)?)
}

/// What `ask` says of the queue; `T::default()` if there is none.
fn with<T: Default>(
    py: Python<'_>,
    what: &str,
    ask: impl FnOnce(&Queue, &dyn Suspend) -> io::Result<T>,
) -> PyResult<T> {
    let Some(queue) = areas::ours().and_then(|areas| areas.queue.as_ref()) else { return Ok(T::default()) };
    let here = Suspended::anywhere(py, what);
    ask(queue, &here).map_err(|error| here.raise(error))
}

fn message<'py>(py: Python<'py>, message: Option<Vec<u8>>) -> Option<Bound<'py, PyBytes>> {
    message.map(|message| PyBytes::new(py, &message))
}

/// The number of a slot, if there can be one.
fn slot(index: i64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Adds a message; `None`: it is empty, or too long for a slot.
#[pyfunction]
#[pyo3(signature = (message, /))]
pub fn queue_push(py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    let message = request::bytes(message)?;
    Ok(with(py, "uwsgi.queue_push()", |queue, here| queue.push(&message, here))?.then_some(true))
}

/// Takes the newest message.
#[pyfunction]
pub fn queue_pop(py: Python<'_>) -> PyResult<Option<Bound<'_, PyBytes>>> {
    Ok(message(py, with(py, "uwsgi.queue_pop()", Queue::pop)?))
}

/// Takes the oldest message.
#[pyfunction]
pub fn queue_pull(py: Python<'_>) -> PyResult<Option<Bound<'_, PyBytes>>> {
    Ok(message(py, with(py, "uwsgi.queue_pull()", Queue::pull)?))
}

/// What stands in a slot.
#[pyfunction]
#[pyo3(signature = (index, /))]
pub fn queue_get(py: Python<'_>, index: i64) -> PyResult<Option<Bound<'_, PyBytes>>> {
    Ok(message(py, with(py, "uwsgi.queue_get()", |queue, here| queue.get(slot(index), here))?))
}

/// Writes a slot; `None`: there is no such slot, or the message is empty or too long.
#[pyfunction]
#[pyo3(signature = (index, message, /))]
pub fn queue_set(py: Python<'_>, index: i64, message: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
    let message = request::bytes(message)?;
    let set = with(py, "uwsgi.queue_set()", |queue, here| queue.set(slot(index), &message, here))?;
    Ok(set.then_some(true))
}

/// The newest message, or a list of so many, the newest first. They stay where they are.
#[pyfunction]
#[pyo3(signature = (num = 0, /))]
pub fn queue_last(py: Python<'_>, num: i64) -> PyResult<Option<Bound<'_, PyAny>>> {
    let wanted = slot(num.max(1));
    let messages = with(py, "uwsgi.queue_last()", |queue, here| queue.last(wanted, here))?;
    let mut messages = messages.into_iter().map(|one| message(py, one));
    if num <= 0 {
        return Ok(messages.next().flatten().map(Bound::into_any));
    }
    Ok(Some(PyList::new(py, messages.collect::<Vec<_>>())?.into_any()))
}

/// The slot that the next push writes.
#[pyfunction]
pub fn queue_slot(py: Python<'_>) -> PyResult<u32> {
    Ok(with(py, "uwsgi.queue_slot()", Queue::slots)?.0)
}

/// The slot that the next pull takes.
#[pyfunction]
pub fn queue_pull_slot(py: Python<'_>) -> PyResult<u32> {
    Ok(with(py, "uwsgi.queue_pull_slot()", Queue::slots)?.1)
}
