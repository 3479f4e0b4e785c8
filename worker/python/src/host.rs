//! Python as a [`Host`] of the engine: which request is on which core, entering and leaving greenlets, and one turn of
//! asyncio. One [`Worker`] for each thread that serves: the loop's, or those of a pool (`threads`), which have no greenlets.
use crate::aio::Aio;
use crate::reach::Reach;
use crate::wsgi::call::Call;
use crate::wsgi::environ::Template;
use crate::wsgi::run;
use crate::{greenlet, interpreter};
use appliance_worker::{CoreId, Host, Next, Request};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

thread_local! {
    static WORKER: OnceCell<Rc<Worker>> = const { OnceCell::new() };
}

/// What a worker needs to serve Python.
pub struct Worker {
    /// The loop.
    pub engine: Reach,
    /// The WSGI callable; `None` of Python's where only other interfaces are served.
    pub app: Py<PyAny>,
    /// What every `environ` starts from.
    pub template: Arc<Template>,
    /// asyncio on the same loop.
    pub aio: Aio,
    /// The loop's greenlet, which the others go to when they wait; none where requests run on threads.
    hub: Option<Py<PyAny>>,
    run_core: Py<PyAny>,
    calls: RefCell<Vec<Option<Rc<Call>>>>,
    /// The request that is about to be entered.
    pub next: Cell<Option<Rc<Call>>>,
    /// Start-response callables that nobody else holds any more.
    pub spare: RefCell<Vec<crate::wsgi::start::Spare>>,
}

impl Worker {
    /// Makes this thread one that serves; requests run in greenlets if there is a hub for them.
    pub fn install(
        py: Python<'_>,
        engine: Reach,
        app: Py<PyAny>,
        template: Arc<Template>,
        aio: Aio,
        hub: Option<Py<PyAny>>,
    ) -> PyResult<Rc<Worker>> {
        let worker = Rc::new(Worker {
            engine,
            app,
            template,
            aio,
            hub,
            run_core: wrap_pyfunction!(run_core, py)?.into_any().unbind(),
            calls: RefCell::default(),
            next: Cell::new(None),
            spare: RefCell::default(),
        });
        WORKER.with(|cell| {
            cell.set(Rc::clone(&worker))
                .map(|()| worker)
                .map_err(|_| PyRuntimeError::new_err("this process has a worker already"))
        })
    }

    /// The worker of this thread. An error on any other thread, and in the template.
    pub fn current() -> PyResult<Rc<Worker>> {
        WORKER.with(|cell| cell.get().cloned()).ok_or_else(|| {
            PyRuntimeError::new_err("this call works only on the thread that serves requests, in a worker")
        })
    }

    /// The hub's greenlet; none where requests run on threads.
    pub fn hub<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.hub.as_ref().map(|hub| hub.bind(py).clone())
    }

    /// The request that the running greenlet, or one of its parents, serves; on a thread of a pool the thread's only one.
    pub fn current_call(&self, py: Python<'_>) -> PyResult<Option<Rc<Call>>> {
        if self.hub.is_none() {
            return Ok(self.calls.borrow().iter().flatten().next().cloned());
        }
        let mut greenlet = greenlet::current(py)?;
        let calls = self.calls.borrow();
        loop {
            let found = calls.iter().flatten().find(|call| call.is_greenlet(&greenlet));
            if found.is_some() {
                return Ok(found.cloned());
            }
            let parent = greenlet.getattr("parent")?;
            if parent.is_none() {
                return Ok(None);
            }
            greenlet = parent;
        }
    }

    /// Forgets a request that has ended.
    pub fn forget(&self, core: CoreId) {
        if let Some(call) = self.calls.borrow_mut().get_mut(core.index as usize) {
            *call = None;
        }
    }

    /// A request that runs from now on.
    pub fn remember(&self, call: &Rc<Call>) {
        let mut calls = self.calls.borrow_mut();
        let index = call.core.index as usize;
        if calls.len() <= index {
            calls.resize(index + 1, None);
        }
        calls[index] = Some(Rc::clone(call));
    }

    /// The request on a core, if it is still that one.
    pub fn call_on(&self, core: CoreId) -> Option<Rc<Call>> {
        self.calls.borrow().get(core.index as usize).cloned().flatten().filter(|call| call.core == core)
    }

    fn enter(&self, py: Python<'_>, call: &Rc<Call>) -> PyResult<()> {
        self.remember(call);
        self.next.set(Some(Rc::clone(call)));
        let greenlet = greenlet::new(py, self.run_core.bind(py))?;
        greenlet::switch(py, &greenlet)?;
        if self.call_on(call.core).is_some() {
            call.set_suspended(&greenlet)?;
        }
        // The greenlet's only reference here ends now: one that waits for the loop is held by its call, one that went
        // to the hub by itself lives as long as somebody else can switch to it, and is ended by this otherwise.
        Ok(())
    }
}

/// The body of every core's greenlet: serves one request.
#[pyfunction]
fn run_core(py: Python<'_>) -> PyResult<()> {
    let worker = Worker::current()?;
    let Some(call) = worker.next.take() else {
        return Err(PyRuntimeError::new_err("the greenlet of a finished request was started again"));
    };
    let me = greenlet::current(py)?;
    call.set_greenlet(&me);
    worker.engine.set_mark(call.core, me.as_ptr().addr() as u64);
    drop(me);
    run::serve(py, &worker, &call);
    Ok(())
}

impl Host for Worker {
    fn next(&self) -> Next {
        Python::attach(|py| self.aio.next(py))
    }

    fn poll(&self, may_block: bool, poll: &mut dyn FnMut()) {
        if may_block { interpreter::detached(poll) } else { poll() }
    }

    fn on_fd(&self, fd: RawFd, readable: bool, writable: bool) {
        self.aio.on_fd(fd, readable, writable);
    }

    fn turn(&self) {
        Python::attach(|py| {
            if let Err(error) = self.aio.turn(py) {
                crate::log::exception(py, &error, "exception in the event loop");
            }
        });
    }

    fn start(&self, core: CoreId, request: Request) {
        Python::attach(|py| {
            let call = Rc::new(Call::new(core, request));
            if let Err(error) = self.enter(py, &call) {
                // run_core answers every exception itself, so this is greenlet's own failure (no memory, for example).
                crate::log::exception(py, &error, "a request could not be started");
                call.abandon(py, self);
            }
        });
    }

    fn resume(&self, core: CoreId) {
        Python::attach(|py| {
            if let Some(call) = self.call_on(core)
                && let Err(error) = call.resume(py)
            {
                crate::log::exception(py, &error, "exception while a request was resumed");
            }
        });
    }

    fn client_left(&self, core: CoreId) {
        Python::attach(|py| {
            if let Some(call) = self.call_on(core)
                && let Err(error) = call.cancel(py)
            {
                crate::log::exception(
                    py,
                    &error,
                    "exception while a request was ended whose client has left",
                );
            }
        });
    }

    fn overdue(&self, core: CoreId) {
        let Reach::Here(engine) = &self.engine else { return };
        Python::attach(|py| {
            if let Some(call) = self.call_on(core)
                && let Err(error) = call.time_out(py, engine.roll())
            {
                crate::log::exception(py, &error, "exception while a request was ended that took too long");
            }
        });
    }
}
