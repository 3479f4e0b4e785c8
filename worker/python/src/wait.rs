//! How a request waits: its greenlet goes to the hub, and the engine brings it back; or its thread sleeps until the loop has
//! news for it. Every wait looks again at what it waits for when it comes back, because anybody may switch to a greenlet at
//! any time, and a thread is woken by whatever happens to its request.
use crate::host::Worker;
use crate::reach::{Bell, Reach};
use crate::suspended::Suspended;
use crate::threads::There;
use crate::wsgi::call::Call;
use crate::{disconnect, greenlet, timeout};
use appliance_worker::suspend::Suspend;
use appliance_worker::{BodyRead, CoreId, Engine};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Longest time that can be asked for; a year is for ever.
const LONGEST: f64 = 366.0 * 86_400.0;

/// The worker and the request of the running greenlet; an error that names `what` anywhere else.
pub fn current(py: Python<'_>, what: &str) -> PyResult<(Rc<Worker>, Rc<Call>)> {
    let worker = Worker::current()?;
    let call = worker.current_call(py)?;
    match call {
        Some(call) => Ok((worker, call)),
        None => Err(PyRuntimeError::new_err(format!(
            "{what} works only inside a request, not in a callback of the loop or a coroutine, which can await"
        ))),
    }
}

/// Gives the loop back until the engine, or anybody else, comes back to this greenlet. An exception that is thrown in
/// here ends the wait.
pub fn park(py: Python<'_>, worker: &Worker, call: &Call) -> PyResult<()> {
    match &worker.engine {
        Reach::Here(engine) => leave(py, worker, call, engine, || engine.park(call.core)),
        Reach::There(there) => {
            there.park(call.core);
            call.set_resumed();
            heed(py, there, call)
        }
    }
}

/// Gives the loop back for one turn (uWSGI `schedule_fix`).
pub fn again(py: Python<'_>, worker: &Worker, call: &Call) -> PyResult<()> {
    match &worker.engine {
        Reach::Here(engine) => leave(py, worker, call, engine, || engine.again(call.core)),
        Reach::There(there) => {
            // The loop is not ours to give: it has been going on all the time.
            there.post();
            heed(py, there, call)
        }
    }
}

/// Whether this is the loop itself, which cannot wait.
pub fn is_loop(py: Python<'_>, worker: &Worker) -> bool {
    worker.hub(py).is_some_and(|hub| greenlet::current(py).is_ok_and(|me| me.is(hub)))
}

/// Nobody can interrupt a thread that waits here, so its request finds out now that its client has left, or that it takes
/// longer than it may.
fn heed(py: Python<'_>, there: &There, call: &Call) -> PyResult<()> {
    if there.take_late(call.core) {
        there.forget_exception(py);
        return Err(PyErr::from_value(timeout::exception(py)?));
    }
    if !there.take_left(call.core) || call.is_answered() {
        return Ok(());
    }
    call.set_ending();
    Err(PyErr::from_value(disconnect::exception(py)?))
}

fn leave(py: Python<'_>, worker: &Worker, call: &Call, engine: &Engine, park: impl FnOnce()) -> PyResult<()> {
    let me = greenlet::current(py)?;
    let Some(hub) = worker.hub(py).filter(|hub| !me.is(hub)) else {
        return Err(PyRuntimeError::new_err("the loop itself cannot wait; do this inside a request"));
    };
    call.add_parked(&me);
    park();
    let back = greenlet::switch(py, &hub);
    call.remove_parked(&me);
    engine.run_again(call.core);
    if call.has_parked() {
        // Another greenlet of this request still waits, and must hear of the next wake-up.
        engine.park(call.core);
    }
    if let Err(error) = &back
        && greenlet::is_exit(py, error)
    {
        call.set_ending();
    }
    back.map(drop)
}

/// Runs `wait`, in which the request is woken at `deadline` if it has not come back before.
pub fn with_timer<T>(worker: &Worker, call: &Call, deadline: Option<Instant>, wait: impl FnOnce() -> T) -> T {
    let timer = deadline.map(|deadline| worker.engine.wake_at(call.core, deadline));
    let result = wait();
    if let Some(timer) = timer {
        worker.engine.cancel_timer(timer);
    }
    result
}

/// uWSGI's time-outs: seconds from now, and 0 means none.
pub fn deadline(timeout: f64) -> PyResult<Option<Instant>> {
    let pause = (timeout > 0.0).then(|| seconds(timeout)).transpose()?;
    Ok(pause.map(|pause| Instant::now() + pause))
}

/// Reads on in the body of the request on `core`; waits while nothing has arrived. `TimeoutError` when `deadline` has
/// passed, for which the caller keeps a timer.
pub fn for_body(
    py: Python<'_>,
    core: CoreId,
    into: &mut Vec<u8>,
    most: usize,
    deadline: Option<Instant>,
) -> PyResult<BodyRead> {
    let worker = Worker::current()?;
    loop {
        match worker.engine.read_body(core, into, most, deadline) {
            BodyRead::Wait => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(PyTimeoutError::new_err(
                        "the rest of the request body has not arrived in time",
                    ));
                }
                let Some(call) = worker.call_on(core) else {
                    return Ok(BodyRead::Cut("the request has ended"));
                };
                park(py, &worker, &call)?;
            }
            other => return Ok(other),
        }
    }
}

/// Seconds from Python as a duration.
pub fn seconds(seconds: f64) -> PyResult<Duration> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("the number of seconds is not a number"));
    }
    Ok(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST)))
}

/// The same for a whole number.
pub fn whole_seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(Duration::from_secs_f64(LONGEST))
}

/// `appliance.sleep(seconds)`: this request waits, the others go on; outside of requests this thread does.
#[pyfunction]
#[pyo3(signature = (seconds, /))]
pub fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    let pause = self::seconds(seconds)?;
    let here = Suspended::here(py, "appliance.sleep()")?;
    let slept = here.sleep_until(Instant::now() + pause);
    slept.map_err(|error| here.raise(error))
}

/// `appliance.wait(awaitable, timeout=None)`: runs a coroutine, or waits for a future, on the shared loop, and gives its
/// result or raises its exception, as if it were a blocking call. With a `timeout` in seconds it is cancelled and
/// `TimeoutError` raised when that has passed.
#[pyfunction]
#[pyo3(signature = (awaitable, timeout = None))]
pub fn wait<'py>(
    py: Python<'py>,
    awaitable: Bound<'py, PyAny>,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let (worker, call) = current(py, "appliance.wait()")?;
    let deadline = timeout.map(seconds).transpose()?.map(|pause| Instant::now() + pause);
    let future = match &worker.engine {
        Reach::Here(_) => worker.aio.future(py, awaitable)?,
        Reach::There(_) => worker.aio.submitted(py, awaitable)?,
    };
    let is_done = || future.call_method0(pyo3::intern!(py, "done"))?.is_truthy();
    if !is_done()? {
        let bell =
            worker.engine.bell(call.core).ok_or_else(|| PyRuntimeError::new_err("the request has ended"))?;
        let waker = Bound::new(py, Waker { core: call.core, bell })?;
        future.call_method1(pyo3::intern!(py, "add_done_callback"), (&waker,))?;
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let parked = with_timer(&worker, &call, deadline, || {
            let mut parked = Ok(());
            while parked.is_ok() && !is_done()? && !is_late() {
                parked = park(py, &worker, &call);
            }
            parked
        });
        if parked.is_err() || !is_done()? {
            // Its end is no news to anybody any more.
            let _ = future.call_method1(pyo3::intern!(py, "remove_done_callback"), (&waker,));
            future.call_method0(pyo3::intern!(py, "cancel"))?;
            parked?;
            return Err(PyTimeoutError::new_err(format!(
                "what appliance.wait() waited for was not done after {} s",
                timeout.unwrap_or_default()
            )));
        }
    }
    future.call_method0(pyo3::intern!(py, "result"))
}

/// Wakes a core when a future is done; a pool's future says so in one of the pool's threads.
#[pyclass(frozen, module = "appliance")]
struct Waker {
    core: CoreId,
    bell: Bell,
}

#[pymethods]
impl Waker {
    fn __call__(&self, _future: Bound<'_, PyAny>) -> PyResult<()> {
        match (&self.bell, Worker::current()) {
            (Bell::There(desk), _) => desk.wake(),
            (Bell::Here(_), Ok(worker)) => worker.engine.here()?.wake(self.core),
            (Bell::Here(remote), Err(_)) => remote.wake(self.core)?,
        }
        Ok(())
    }
}
