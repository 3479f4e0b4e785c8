//! What the threads of the pool share, and their lives: they are started in the worker, one more whenever none waits for
//! the next request, and end when the worker stops. They are ordinary `threading.Thread`s that nobody waits for at the end
//! of a process; a stack has the size that `threading.stack_size()` and `ulimit -s` say.
use super::{Desk, There};
use crate::aio::Aio;
use crate::host::Worker;
use crate::reach::Reach;
use crate::wsgi::call::Call;
use crate::wsgi::environ::Template;
use crate::wsgi::run;
use crate::{raw, timeout};
use appliance_config::Settings;
use appliance_worker::pool::Pool;
use appliance_worker::roll::Roll;
use appliance_worker::{CoreId, Engine, Remote, Request};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Idle threads end at once; one that still runs code of the application is not waited for longer than this.
const FAREWELL: Duration = Duration::from_secs(1);

/// A request on its way to a thread.
pub struct Job {
    /// Where its thread and the loop meet.
    pub desk: Arc<Desk>,
    /// What was asked.
    pub request: Request,
    /// Somebody awaits it who may hold a thread himself.
    pub is_call: bool,
}

/// See the module.
pub struct Site {
    /// The requests that wait for a thread.
    pub pool: Pool<Job>,
    /// Number of the worker.
    pub worker_id: u32,
    /// Which request is on which core.
    pub roll: Arc<Roll>,
    app: Py<PyAny>,
    template: Arc<Template>,
    event_loop: Py<PyAny>,
    /// `contextvars.Context`, and what is run in one.
    context: Py<PyAny>,
    run: Py<PyAny>,
    remote: Remote,
    write_buffer: usize,
    is_draining: AtomicBool,
    /// How many threads may be started, and one more for each call that is under way.
    most: AtomicU32,
    calls: AtomicU32,
    started: AtomicU32,
    threads: Mutex<Vec<Py<PyAny>>>,
}

impl Site {
    /// For a pool with as many threads as there are cores. `worker` is that of the loop's thread.
    pub fn new(py: Python<'_>, engine: &Engine, worker: &Worker, settings: &Settings) -> PyResult<Site> {
        Ok(Site {
            pool: Pool::default(),
            worker_id: engine.worker_id(),
            roll: Arc::clone(engine.roll()),
            app: worker.app.clone_ref(py),
            template: Arc::clone(&worker.template),
            event_loop: worker.aio.event_loop(py),
            context: py.import("contextvars")?.getattr("Context")?.unbind(),
            run: wrap_pyfunction!(run_next, py)?.into_any().unbind(),
            remote: engine.remote(),
            write_buffer: settings.limits.write_buffer,
            is_draining: AtomicBool::new(false),
            most: AtomicU32::new(settings.workers.cores),
            calls: AtomicU32::new(0),
            started: AtomicU32::new(0),
            threads: Mutex::default(),
        })
    }

    /// The desk of a request that has just been given this core.
    pub fn desk(&self, core: CoreId) -> Desk {
        Desk::new(core, self.write_buffer, self.remote.clone())
    }

    /// Whether the worker has been told to stop.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Said by the loop.
    pub fn set_draining(&self, is_draining: bool) {
        self.is_draining.store(is_draining, Relaxed);
    }

    /// Lets a job wait for a thread; said by the loop.
    pub fn push(self: &Arc<Site>, job: Job) {
        let is_call = job.is_call;
        self.calls.fetch_add(is_call.into(), Relaxed);
        self.pool.push(job);
        // The last thread that began a request has started no other one if there were as many as cores.
        if is_call && self.pool.is_short() {
            Python::attach(|py| Site::start_another(py, self));
        }
    }

    /// Starts a thread, unless there are as many as cores and calls.
    pub fn start_thread(py: Python<'_>, site: &Arc<Site>) -> PyResult<()> {
        let number = site.started.load(Relaxed);
        if number >= site.most.load(Relaxed).saturating_add(site.calls.load(Relaxed)) {
            return Ok(());
        }
        // Only whoever holds the GIL comes here, and it is not released before this.
        site.started.store(number + 1, Relaxed);
        let keywords = PyDict::new(py);
        keywords.set_item("target", Bound::new(py, Thread { site: Arc::clone(site) })?)?;
        keywords.set_item("name", format!("appliance-{}", number + 1))?;
        keywords.set_item("daemon", true)?;
        let thread = py.import("threading")?.getattr("Thread")?.call((), Some(&keywords))?;
        thread.call_method0("start")?;
        site.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread.unbind());
        Ok(())
    }

    /// A thread must be there for the next request; if the system gives no more, those that are there must do.
    fn start_another(py: Python<'_>, site: &Arc<Site>) {
        if let Err(error) = Site::start_thread(py, site) {
            let count = site.started.load(Relaxed).saturating_sub(1);
            site.started.store(count, Relaxed);
            site.most.store(count, Relaxed);
            tracing::warn!(
                worker = site.worker_id,
                "a thread cannot be started ({error}): {count} requests run at once and the others wait for them; \
                 lower workers.cores, or allow more threads (ulimit -u, TasksMax, pids.max)"
            );
        }
    }

    /// Raises `appliance.RequestTimeout` in the thread of a request that takes too long, as soon as it runs Python code, unless
    /// it waits at its desk; it was told so `before`.
    pub fn interrupt(&self, py: Python<'_>, desk: &Desk, before: u32) {
        let (core, thread) = (desk.core(), self.roll.mark(desk.core()));
        let frames = py.import("sys").and_then(|sys| sys.call_method0("_current_frames"));
        let frame = frames.and_then(|frames| frames.get_item(thread)).ok();
        timeout::log(py, &self.roll, core, frame.as_ref(), before);
        let Ok(class) = timeout::class(py) else { return };
        // Nothing of Python's runs in between, so the thread cannot have come back from the application meanwhile.
        if thread != 0 && desk.take_interruptible() {
            raw::set_exception_of(py, thread, Some(class));
        }
    }

    /// Sends the threads home and waits for them, so that what belongs to each is let go in order.
    pub fn stop(&self, py: Python<'_>) {
        self.pool.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::now() + FAREWELL;
        for thread in threads {
            let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64();
            if let Err(error) = thread.call_method1(py, "join", (left,)) {
                crate::log::exception(py, &error, "a thread of the pool could not be waited for");
            }
        }
    }

    /// Makes the current thread one that serves.
    fn install(py: Python<'_>, site: &Arc<Site>) -> PyResult<Rc<Worker>> {
        let aio = Aio::new(py, site.event_loop.clone_ref(py))?;
        let (app, template) = (site.app.clone_ref(py), Arc::clone(&site.template));
        Worker::install(py, Reach::There(There::new(Arc::clone(site))), app, template, aio, None)
    }
}

/// What a thread of the pool runs.
#[pyclass(frozen, module = "appliance")]
struct Thread {
    site: Arc<Site>,
}

#[pymethods]
impl Thread {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let (site, worker) = (&self.site, Site::install(py, &self.site)?);
        loop {
            while let Some(taken) = site.pool.take() {
                if taken.is_last {
                    Site::start_another(py, site);
                }
                let is_call = taken.job.is_call;
                serve(py, site, &worker, taken.job);
                site.calls.fetch_sub(is_call.into(), Relaxed);
            }
            if !py.detach(|| site.pool.wait()) {
                return Ok(());
            }
            site.pool.arrive();
        }
    }
}

/// Serves a request in a context of its own, so that none finds the context variables of the one before.
fn serve(py: Python<'_>, site: &Site, worker: &Worker, job: Job) {
    if let Reach::There(there) = &worker.engine {
        there.begin(&job);
    }
    let call = Rc::new(Call::new(job.desk.core(), job.request));
    if job.desk.is_late() {
        // It has been answered before a thread was free for it.
        return call.abandon(py, worker);
    }
    worker.remember(&call);
    worker.next.set(Some(Rc::clone(&call)));
    let context = site.context.bind(py).call0();
    if let Err(error) = context.and_then(|context| context.call_method1(intern!(py, "run"), (&site.run,))) {
        // What runs answers every exception itself, so there was no memory for the context.
        crate::log::exception(py, &error, "a request could not be started");
        call.abandon(py, worker);
    }
}

/// Runs the request that this thread is to serve.
#[pyfunction]
fn run_next(py: Python<'_>) -> PyResult<()> {
    let worker = Worker::current()?;
    if let Some(call) = worker.next.take() {
        run::serve(py, &worker, &call);
    }
    Ok(())
}
