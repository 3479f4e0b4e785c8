//! Locks that all workers share, as `uwsgi.lock` and for `appliance.locks`: conversions only, the rest is in the worker's
//! `locks.rs`. A request owns what it has locked, and cannot keep it beyond its end; whatever else locks (a thread, a callback
//! of the loop) keeps it until somebody in this worker unlocks it.
use crate::host::Worker;
use crate::suspended::Suspended;
use crate::wait;
use appliance_worker::locks::{Failed, Locks, MOST_NAME, Owner, Place, Turn};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// Those of this worker, for all of its threads.
static LOCKS: OnceLock<Arc<Locks>> = OnceLock::new();

/// Makes these the locks of this worker, once after the fork.
pub fn install(locks: &Arc<Locks>) {
    LOCKS.get_or_init(|| Arc::clone(locks));
}

fn ours() -> PyResult<&'static Arc<Locks>> {
    let none = || PyRuntimeError::new_err("locks work only in a worker, after the fork");
    let locks = LOCKS.get().ok_or_else(none)?;
    locks.require_own().map_err(|failed| refused(&failed))?;
    Ok(locks)
}

/// Whoever calls, as far as locks belong to somebody.
fn owner(py: Python<'_>) -> Owner {
    let call = Worker::current().and_then(|worker| worker.current_call(py));
    call.ok().flatten().map_or(Owner::Other, |call| Owner::Core(call.core))
}

fn numbered(locks: &Locks, number: i64) -> PyResult<Place> {
    locks.numbered(number).ok_or_else(|| {
        PyValueError::new_err(format!("Invalid lock number {number}: workers.locks says which there are"))
    })
}

/// The lock that a number or a name means.
fn place(locks: &Locks, key: &Bound<'_, PyAny>) -> PyResult<Place> {
    let Ok(name) = key.cast::<PyString>() else { return numbered(locks, key.extract()?) };
    let name = name.to_str()?;
    if name.is_empty() || name.len() > MOST_NAME || name.contains('\0') {
        return Err(PyValueError::new_err(format!(
            "the name of a lock has 1 to {MOST_NAME} bytes, none of them 0"
        )));
    }
    locks.named(name).map_err(|failed| refused(&failed))
}

fn refused(failed: &Failed) -> PyErr {
    PyRuntimeError::new_err(failed.to_string())
}

fn take(
    py: Python<'_>,
    locks: &Arc<Locks>,
    place: Place,
    timeout: Option<f64>,
    what: &str,
) -> PyResult<bool> {
    let (owner, pause) = (owner(py), timeout.map(wait::seconds).transpose()?);
    // Also the loop itself may take what is free.
    if locks.try_lock(place, owner) {
        return Ok(true);
    }
    if pause.is_some_and(|pause| pause.is_zero()) {
        return Ok(false);
    }
    let here = Suspended::here(py, what)?;
    let deadline = pause.map(|pause| Instant::now() + pause);
    locks.lock(place, owner, &here, deadline).map_err(|failed| match failed {
        Failed::Wait(error) => here.raise(error),
        failed => refused(&failed),
    })
}

fn give(locks: &Locks, place: Place) -> PyResult<()> {
    locks.unlock(place).map_err(|failed| refused(&failed))
}

/// Takes a lock that has neither number nor name, for the call `what`.
pub fn take_for(py: Python<'_>, place: Place, what: &str) -> PyResult<()> {
    take(py, ours()?, place, None, what).map(drop)
}

/// Gives it back.
pub fn give_back(place: Place) -> PyResult<()> {
    give(ours()?, place)
}

/// Waits until nobody else holds this lock; only the request waits.
#[pyfunction]
#[pyo3(signature = (number = 0, /))]
pub fn lock(py: Python<'_>, number: i64) -> PyResult<()> {
    let locks = ours()?;
    take(py, locks, numbered(locks, number)?, None, "uwsgi.lock()").map(drop)
}

#[pyfunction]
#[pyo3(signature = (number = 0, /))]
pub fn unlock(number: i64) -> PyResult<()> {
    let locks = ours()?;
    give(locks, numbered(locks, number)?)
}

#[pyfunction]
#[pyo3(signature = (number = 0, /))]
pub fn is_locked(number: i64) -> PyResult<bool> {
    let locks = ours()?;
    Ok(locks.is_locked(numbered(locks, number)?))
}

/// Takes a lock by its number or name; false if it has not come within `timeout` seconds.
#[pyfunction]
#[pyo3(signature = (key, timeout = None, /))]
pub fn lock_acquire(py: Python<'_>, key: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
    let locks = ours()?;
    take(py, locks, place(locks, key)?, timeout, "acquire() of a lock")
}

/// Gives a lock back.
#[pyfunction]
#[pyo3(signature = (key, /))]
pub fn lock_release(key: &Bound<'_, PyAny>) -> PyResult<()> {
    let locks = ours()?;
    give(locks, place(locks, key)?)
}

/// Whether anybody holds a lock.
#[pyfunction]
#[pyo3(signature = (key, /))]
pub fn lock_is_held(key: &Bound<'_, PyAny>) -> PyResult<bool> {
    let locks = ours()?;
    Ok(locks.is_locked(place(locks, key)?))
}

/// A place among those who wait for a lock, for code of the loop, which must not wait in a call.
#[pyclass(frozen, module = "appliance")]
pub struct LockTurn(Mutex<Option<Turn>>);

/// Joins them.
#[pyfunction]
#[pyo3(signature = (key, /))]
pub fn lock_turn(key: &Bound<'_, PyAny>) -> PyResult<LockTurn> {
    let locks = ours()?;
    let place = place(locks, key)?;
    Turn::join(locks, place).map(|turn| LockTurn(Mutex::new(Some(turn)))).map_err(PyOSError::new_err)
}

impl LockTurn {
    fn turn(&self) -> MutexGuard<'_, Option<Turn>> {
        // Nothing that can panic happens under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl LockTurn {
    /// Readable when it is worth to try again.
    fn fileno(&self) -> RawFd {
        self.turn().as_ref().map_or(-1, |turn| turn.bell().as_fd().as_raw_fd())
    }

    /// Takes the lock, if it is free and this is the next one; then it is held until somebody releases it.
    fn take(&self) -> bool {
        self.turn().as_ref().is_some_and(|turn| {
            turn.bell().hush();
            turn.try_take(Owner::Other)
        })
    }

    /// Waits no more.
    fn leave(&self) {
        drop(self.turn().take());
    }
}
