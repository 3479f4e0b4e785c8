//! asyncio on the engine's loop. The loop object is made in the template by `loop.py`, so that code which asks for it at
//! import time has the one that will serve; here it is driven: the engine says when descriptors are ready, asyncio's own
//! `_run_once` does the rest.
use crate::host::Worker;
use appliance_worker::Next;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::time::Duration;

const READ: i32 = 1;
const WRITE: i32 = 2;

/// The loop object and the parts of it that are looked at in every turn.
pub struct Aio {
    event_loop: Py<PyAny>,
    ready: Py<PyAny>,
    run_once: Py<PyAny>,
    events: RefCell<Vec<(RawFd, i32)>>,
    in_turn: Cell<bool>,
    /// Somebody on this thread has scheduled something outside of a turn.
    stirred: Cell<bool>,
    serves: Cell<bool>,
}

/// Makes the loop of the template and makes it current. `_appliance` must be importable.
pub fn make(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let code = std::ffi::CString::new(include_str!("loop.py"))?;
    let module = PyModule::from_code(py, &code, c"appliance/loop.py", c"_appliance_loop")?;
    Ok(module.call_method0("make")?.unbind())
}

impl Aio {
    /// Wraps the loop that [`make`] gave.
    pub fn new(py: Python<'_>, event_loop: Py<PyAny>) -> PyResult<Aio> {
        let bound = event_loop.bind(py);
        Ok(Aio {
            ready: bound.getattr("_ready")?.unbind(),
            run_once: bound.getattr("_run_once")?.unbind(),
            events: RefCell::default(),
            in_turn: Cell::new(false),
            stirred: Cell::new(false),
            serves: Cell::new(false),
            event_loop,
        })
    }

    /// Moves the loop from the template into this process.
    pub fn adopt(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop.call_method0(py, "adopt").map(drop)
    }

    /// Marks the loop as running.
    pub fn serve(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop.call_method0(py, "serve")?;
        self.serves.set(true);
        Ok(())
    }

    /// Whether requests are served on this thread's loop: it must not be kept from them any more.
    pub fn serves(&self) -> bool {
        self.serves.get()
    }

    /// The loop does not serve any more: whoever has something to finish may run it.
    pub fn rest(&self, py: Python<'_>) -> PyResult<()> {
        self.event_loop.call_method0(py, "rest").map(drop)
    }

    /// Ends whatever of the application's still runs on the loop, which is at [`Aio::rest`].
    pub fn wind_up(&self, py: Python<'_>) -> PyResult<()> {
        let left: Vec<String> = self.event_loop.call_method0(py, "wind_up")?.extract(py)?;
        if !left.is_empty() {
            let names = left.join(", ");
            tracing::warn!("tasks that were cancelled at the end of the worker go on and are cut: {names}");
        }
        Ok(())
    }

    /// A future for anything that can be awaited; one of `concurrent.futures` is taken as it is.
    pub fn future<'py>(&self, py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let pooled = py.import("concurrent.futures")?.getattr("Future")?;
        if awaitable.is_instance(&pooled)? {
            return Ok(awaitable);
        }
        let keywords = PyDict::new(py);
        keywords.set_item("loop", &self.event_loop)?;
        py.import("asyncio")?.call_method("ensure_future", (awaitable,), Some(&keywords))
    }

    /// The loop object.
    pub fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    /// The same for a thread that is not the loop's: a future of `concurrent.futures`.
    pub fn submitted<'py>(
        &self,
        py: Python<'py>,
        awaitable: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop.bind(py).call_method1("submit", (awaitable,))
    }

    /// Whether a descriptor is ready of which asyncio has not heard, or its ready queue is known to have grown.
    pub fn has_events(&self) -> bool {
        self.stirred.get() || !self.events.borrow().is_empty()
    }

    /// Something was scheduled from this thread, though not by what asyncio runs: it wants its turn now.
    pub fn stir(&self) {
        self.stirred.set(true);
    }

    /// When asyncio wants its turn.
    pub fn next(&self, py: Python<'_>) -> Next {
        if self.has_events() || self.has_ready(py) {
            return Next::Now;
        }
        match self.first_timer(py) {
            None => Next::Never,
            Some(when) => {
                let left = when - monotonic();
                if left <= 0.0 { Next::Now } else { Next::In(Duration::from_secs_f64(left.min(86_400.0))) }
            }
        }
    }

    /// A descriptor is ready; asyncio hears of it in the next [`Aio::turn`].
    pub fn on_fd(&self, fd: RawFd, readable: bool, writable: bool) {
        let mask = if readable { READ } else { 0 } | if writable { WRITE } else { 0 };
        self.events.borrow_mut().push((fd, mask));
    }

    /// Runs what is due: callbacks of ready descriptors, timers, and what was scheduled before this turn.
    pub fn turn(&self, py: Python<'_>) -> PyResult<()> {
        if self.next(py) != Next::Now {
            return Ok(());
        }
        self.stirred.set(false);
        self.in_turn.set(true);
        let result = self.run_once.call0(py);
        self.in_turn.set(false);
        result.map(drop)
    }

    fn has_ready(&self, py: Python<'_>) -> bool {
        self.ready.bind(py).len().unwrap_or(0) > 0
    }

    fn first_timer(&self, py: Python<'_>) -> Option<f64> {
        // Not kept: asyncio makes a new list when it clears out many cancelled timers.
        let scheduled = self.event_loop.bind(py).getattr(pyo3::intern!(py, "_scheduled")).ok()?;
        let scheduled = scheduled.cast::<PyList>().ok()?;
        // Asking an empty list would make an exception in every turn.
        if scheduled.is_empty() {
            return None;
        }
        let first = scheduled.get_item(0).ok()?;
        first.getattr(pyo3::intern!(py, "_when")).ok()?.extract().ok()
    }

    fn take_events(&self) -> Vec<(RawFd, i32)> {
        std::mem::take(&mut *self.events.borrow_mut())
    }
}

/// `loop.time()`.
fn monotonic() -> f64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0.0, |now| Duration::from(now).as_secs_f64())
}

fn wants(events: i32) -> (bool, bool) {
    (events & READ != 0, events & WRITE != 0)
}

/// Starts to watch a descriptor for the selector of the loop.
#[pyfunction]
pub fn watch(fd: RawFd, events: i32) -> PyResult<()> {
    let ((readable, writable), worker) = (wants(events), Worker::current()?);
    let engine = worker.engine.here()?;
    Ok(appliance_worker::reactor::with_fd(fd, |fd| engine.host_watch(fd, readable, writable))?)
}

/// Changes what is watched.
#[pyfunction]
pub fn change(fd: RawFd, events: i32) -> PyResult<()> {
    let ((readable, writable), worker) = (wants(events), Worker::current()?);
    let engine = worker.engine.here()?;
    Ok(appliance_worker::reactor::with_fd(fd, |fd| engine.host_change(fd, readable, writable))?)
}

/// Stops to watch. A descriptor that was closed before has been forgotten by the kernel already.
#[pyfunction]
pub fn unwatch(fd: RawFd) -> PyResult<()> {
    let worker = Worker::current()?;
    let engine = worker.engine.here()?;
    let _ = appliance_worker::reactor::with_fd(fd, |fd| engine.host_unwatch(fd));
    Ok(())
}

/// Ready descriptors: those that the engine has reported; outside a turn (a `@postfork` hook that runs the loop itself)
/// it waits for them.
#[pyfunction]
pub fn select(timeout: Option<f64>) -> PyResult<Vec<(RawFd, i32)>> {
    let worker = Worker::current()?;
    if !worker.aio.in_turn.get() {
        let timeout = timeout.map(|timeout| Duration::from_secs_f64(timeout.clamp(0.0, 86_400.0)));
        (worker.engine.here()?)
            .poll_once(&*worker, timeout)
            .map_err(|error| pyo3::exceptions::PyOSError::new_err(error.to_string()))?;
    }
    Ok(worker.aio.take_events())
}
