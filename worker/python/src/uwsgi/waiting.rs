//! uWSGI's way to wait: first announce what for, then `suspend()` or `yield`. Suspends only its own request.
use crate::host::Worker;
use crate::wait;
use crate::wsgi::call::Call;
use appliance_worker::waits::WaitId;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::RawFd;
use std::time::Instant;

/// Something that `suspend()` or the next `yield` is to wait for.
pub enum Pending {
    /// `async_sleep`.
    Until(Instant),
    /// `wait_fd_read` and `wait_fd_write`.
    Fd {
        /// The engine's name for it.
        wait: WaitId,
        /// As the application named it.
        fd: RawFd,
        /// When waiting ends without it.
        deadline: Option<Instant>,
    },
}

impl Pending {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Pending::Until(deadline) => Some(*deadline),
            Pending::Fd { deadline, .. } => *deadline,
        }
    }

    fn is_over(&self, worker: &Worker, call: &Call, now: Instant) -> bool {
        let fired = matches!(self, Pending::Fd { wait, .. } if worker.engine.wait_fired(call.core, *wait));
        fired || self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

/// Gives the loop back after a chunk of a generator: until what was announced has happened, else for one turn.
pub fn wait_pending(py: Python<'_>, worker: &Worker, call: &Call) -> PyResult<()> {
    if call.pending.borrow().is_empty() {
        return wait::again(py, worker, call);
    }
    let pending = call.pending.take();
    let over = || pending.iter().any(|one| one.is_over(worker, call, Instant::now()));
    park_for(py, worker, call, &pending, |parked| parked.is_ok() && !over())
}

/// Parks while `go_on` says so, with the timers of `pending` running, and ends all of them.
fn park_for(
    py: Python<'_>,
    worker: &Worker,
    call: &Call,
    pending: &[Pending],
    mut go_on: impl FnMut(&PyResult<()>) -> bool,
) -> PyResult<()> {
    call.ready_fd.set(-1);
    let nearest = pending.iter().filter_map(Pending::deadline).min();
    let parked = wait::with_timer(worker, call, nearest, || {
        let mut parked = wait::park(py, worker, call);
        while go_on(&parked) {
            parked = wait::park(py, worker, call);
        }
        parked
    });
    cancel(worker, call, pending);
    parked
}

fn cancel(worker: &Worker, call: &Call, pending: &[Pending]) {
    for one in pending {
        if let Pending::Fd { wait, fd, .. } = one {
            if worker.engine.wait_fired(call.core, *wait) {
                call.ready_fd.set(*fd);
            }
            worker.engine.cancel_wait(call.core, *wait);
        }
    }
}

/// At the end of a request: what was announced and never waited for.
pub fn forget_pending(worker: &Worker, call: &Call) {
    cancel(worker, call, &call.pending.take());
}

/// Waits for what `wait_fd_read`, `wait_fd_write` or `async_sleep` announced; otherwise until somebody switches back.
#[pyfunction]
pub fn suspend(py: Python<'_>) -> PyResult<bool> {
    let (worker, call) = wait::current(py, "uwsgi.suspend()")?;
    let pending = call.pending.take();
    if pending.is_empty() {
        let Some(hub) = worker.hub(py) else {
            return Err(PyRuntimeError::new_err(
                "uwsgi.suspend() would wait for ever: announce before what it waits for, with uwsgi.async_sleep(), \
                 wait_fd_read() or wait_fd_write(); nobody can switch back to a request that runs on a thread",
            ));
        };
        crate::greenlet::switch(py, &hub)?;
        return Ok(true);
    }
    let over = || pending.iter().any(|one| one.is_over(&worker, &call, Instant::now()));
    if over() {
        cancel(&worker, &call, &pending);
    } else {
        // Somebody's switch() ends it, a late wake-up of the engine's own does not.
        park_for(py, &worker, &call, &pending, |parked| parked.is_ok() && call.take_resumed() && !over())?;
    }
    Ok(true)
}

#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub fn async_sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyBytes>> {
    let (_, call) = wait::current(py, "uwsgi.async_sleep()")?;
    call.pending.borrow_mut().push(Pending::Until(Instant::now() + wait::seconds(seconds)?));
    Ok(PyBytes::new(py, b""))
}

fn wait_fd<'py>(
    py: Python<'py>,
    fd: RawFd,
    timeout: f64,
    interest: appliance_worker::Interest,
) -> PyResult<Bound<'py, PyBytes>> {
    let (worker, call) = wait::current(py, "waiting for a descriptor")?;
    let deadline = wait::deadline(timeout)?;
    // What has come on a WebSocket is not in its descriptor any more.
    let is_own = call.is_websocket() && worker.engine.connection_fd(call.core) == Some(fd);
    if is_own && interest.is_readable() && worker.engine.has_message(call.core) {
        call.pending.borrow_mut().push(Pending::Until(Instant::now()));
        return Ok(PyBytes::new(py, b""));
    }
    let wait = (worker.engine.wake_on_fd(call.core, fd, interest))
        .map_err(|error| PyOSError::new_err(format!("cannot wait for descriptor {fd}: {error}")))?;
    call.pending.borrow_mut().push(Pending::Fd { wait, fd, deadline });
    Ok(PyBytes::new(py, b""))
}

#[pyfunction]
#[pyo3(signature = (fd, timeout = 0.0, /))]
pub fn wait_fd_read(py: Python<'_>, fd: RawFd, timeout: f64) -> PyResult<Bound<'_, PyBytes>> {
    wait_fd(py, fd, timeout, appliance_worker::Interest::READABLE)
}

#[pyfunction]
#[pyo3(signature = (fd, timeout = 0.0, /))]
pub fn wait_fd_write(py: Python<'_>, fd: RawFd, timeout: f64) -> PyResult<Bound<'_, PyBytes>> {
    wait_fd(py, fd, timeout, appliance_worker::Interest::WRITABLE)
}

/// The descriptor that ended the last wait, -1 if a timeout did.
#[pyfunction]
pub fn ready_fd(py: Python<'_>) -> PyResult<RawFd> {
    Ok(wait::current(py, "uwsgi.ready_fd()")?.1.ready_fd.get())
}
