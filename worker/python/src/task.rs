//! Blocking-style calls that coroutines await: each runs on a core of its own, as an errand, and tells whoever waits for it
//! what came of it. Those cores are not the requests', for a request may be what awaits it. `package/appliance/_awaitable.py`
//! makes futures of them. A call that nobody awaits any more is ended where it waits, like a request whose client has left.
use crate::errand::Work;
use crate::host::Worker;
use crate::load::Loaded;
use crate::reach::Bell;
use crate::wait;
use appliance_worker::{CoreId, Errand, Remote};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The loop of this process, once it serves.
static LOOP: OnceLock<Remote> = OnceLock::new();

/// From here on calls can be awaited.
pub fn set_loop(remote: Remote) {
    // A process serves once.
    let _ = LOOP.set(remote);
}

enum State {
    Waiting,
    Running(CoreId, Bell),
    /// It has ended, or was told to before it began.
    Over,
}

/// A call under way.
#[pyclass(frozen, module = "appliance")]
pub struct Task {
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing that can panic happens under this lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is called on the core, and who hears of it. One that is dropped says so, for nobody would ever come back otherwise.
struct Job {
    function: Py<PyAny>,
    deliver: Option<Py<PyAny>>,
    state: Arc<Mutex<State>>,
}

impl Job {
    fn run(mut self, py: Python<'_>) -> PyResult<()> {
        if !self.begin(py)? {
            self.deliver = None;
            return Ok(());
        }
        let result = self.function.call0(py);
        *lock(&self.state) = State::Over;
        self.tell(py, result)
    }

    /// False if nobody waits for it any more.
    fn begin(&self, py: Python<'_>) -> PyResult<bool> {
        let (worker, call) = wait::current(py, "an awaited call")?;
        let mut state = lock(&self.state);
        let (State::Waiting, Some(bell)) = (&*state, worker.engine.bell(call.core)) else { return Ok(false) };
        *state = State::Running(call.core, bell);
        Ok(true)
    }

    fn tell(&mut self, py: Python<'_>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
        let Some(deliver) = self.deliver.take() else { return Ok(()) };
        let said = match result {
            Ok(value) => (value, py.None()),
            Err(error) => (py.None(), error.into_value(py).into_any()),
        };
        deliver.call1(py, said).map(drop)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.deliver.is_none() {
            return;
        }
        Python::attach(|py| {
            let why = PyRuntimeError::new_err(
                "the call was given up before it began: as many others run as workers.cores says, and limits.waiting \
                 more wait for them, or the worker ends",
            );
            if let Err(error) = self.tell(py, Err(why)) {
                crate::log::exception(py, &error, "exception while a call was given up that somebody awaits");
            }
        });
    }
}

/// Has `function()` called on a core of its own; `deliver(result, exception)` is called there at the end of it.
#[pyfunction]
pub fn begin(name: String, function: Py<PyAny>, deliver: Py<PyAny>) -> PyResult<Task> {
    let Some(remote) = LOOP.get() else {
        return Err(PyRuntimeError::new_err(
            "nothing is served yet, so no core can run this: use the form that is not awaited",
        ));
    };
    let state = Arc::new(Mutex::new(State::Waiting));
    let job = Job { function, deliver: Some(deliver), state: Arc::clone(&state) };
    let work: Work = Box::new(move |py| job.run(py));
    // One that is given back tells `deliver` so when it is dropped.
    let _ = remote.run_errand(Errand::Host { kind: "CALL", name, work: Box::new(work) });
    Ok(Task { state })
}

#[pymethods]
impl Task {
    /// Ends the call, as far as it waits or has not begun. From any thread.
    fn cancel(slf: &Bound<'_, Task>) -> PyResult<()> {
        let py = slf.py();
        let (core, bell) = {
            let mut state = lock(&slf.get().state);
            match std::mem::replace(&mut *state, State::Over) {
                State::Running(core, bell) => (core, bell),
                State::Waiting | State::Over => return Ok(()),
            }
        };
        match (bell, Worker::current()) {
            (Bell::There(desk), _) => desk.say_left(),
            (Bell::Here(_), Ok(worker)) => {
                if let Some(call) = worker.call_on(core) {
                    call.cancel(py)?;
                }
            }
            (Bell::Here(remote), Err(_)) => {
                *lock(&slf.get().state) = State::Running(core, Bell::Here(remote));
                let Some(loaded) = Loaded::get() else { return Ok(()) };
                let cancel = slf.getattr("cancel")?;
                loaded.event_loop.bind(py).call_method1("call_soon_threadsafe", (cancel,))?;
            }
        }
        Ok(())
    }
}
