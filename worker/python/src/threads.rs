//! The suspend engine `thread`: each request runs on a thread of a pool, so code that blocks keeps nobody but itself.
//! [`Threads`] is the [`Host`] on the loop's thread, which takes the GIL only when asyncio has something to do; `site`
//! has the threads, `there` is the engine as they see it. For the engine a core of such a request is parked all the time,
//! and resuming it means to carry out what its thread has left on its desk.
use crate::host::Worker;
use appliance_config::Settings;
use appliance_worker::{CoreId, Engine, Host, Next, Request};
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod site;
mod there;
pub use appliance_worker::desk::Desk;
use site::{Job, Site};
pub use there::There;

/// See the module.
pub struct Threads {
    worker: Rc<Worker>,
    engine: Rc<Engine>,
    site: Arc<Site>,
    /// The desks of the requests that run, by core.
    desks: RefCell<Vec<Option<Arc<Desk>>>>,
    /// When asyncio wants its turn, if no descriptor is ready before. Only its own turn can change that: other threads
    /// reach it through its self-pipe, which is a descriptor.
    due: Cell<Option<Instant>>,
}

impl Threads {
    /// Starts the first thread of the pool; `worker` is that of the loop's thread, which serves no requests itself.
    pub fn start(
        py: Python<'_>,
        engine: &Rc<Engine>,
        worker: &Rc<Worker>,
        settings: &Settings,
    ) -> PyResult<Threads> {
        let site = Arc::new(Site::new(py, engine, worker, settings)?);
        Site::start_thread(py, &site)?;
        let threads = Threads {
            worker: Rc::clone(worker),
            engine: Rc::clone(engine),
            site,
            desks: RefCell::default(),
            due: Cell::new(None),
        };
        threads.ask_when_due(py);
        Ok(threads)
    }

    /// Ends the pool; its threads are idle, unless the loop has failed.
    pub fn stop(&self, py: Python<'_>) {
        self.site.stop(py);
    }

    fn ask_when_due(&self, py: Python<'_>) {
        self.due.set(match self.worker.aio.next(py) {
            Next::Now => Some(Instant::now()),
            Next::In(pause) => Some(Instant::now() + pause),
            Next::Never => None,
        });
    }

    fn desk_of(&self, core: CoreId) -> Option<Arc<Desk>> {
        let desks = self.desks.borrow();
        desks.get(core.index as usize).cloned().flatten().filter(|desk| desk.core() == core)
    }

    fn set_desk(&self, core: CoreId, desk: Option<Arc<Desk>>) {
        let (mut desks, index) = (self.desks.borrow_mut(), core.index as usize);
        if desks.len() <= index {
            desks.resize(index + 1, None);
        }
        desks[index] = desk;
    }
}

impl Host for Threads {
    fn next(&self) -> Next {
        if self.worker.aio.has_events() {
            return Next::Now;
        }
        match self.due.get().map(|due| due.saturating_duration_since(Instant::now())) {
            None => Next::Never,
            Some(Duration::ZERO) => Next::Now,
            Some(pause) => Next::In(pause),
        }
    }

    fn poll(&self, _may_block: bool, poll: &mut dyn FnMut()) {
        poll();
    }

    fn on_fd(&self, fd: RawFd, readable: bool, writable: bool) {
        self.worker.aio.on_fd(fd, readable, writable);
    }

    fn turn(&self) {
        self.site.set_draining(self.engine.is_draining());
        if self.next() != Next::Now {
            return;
        }
        Python::attach(|py| {
            if let Err(error) = self.worker.aio.turn(py) {
                crate::log::exception(py, &error, "exception in the event loop");
            }
            self.ask_when_due(py);
        });
    }

    fn start(&self, core: CoreId, request: Request) {
        let desk = Arc::new(self.site.desk(core));
        self.set_desk(core, Some(Arc::clone(&desk)));
        self.engine.park(core);
        let is_call = request.errand.as_ref().is_some_and(|errand| errand.is_awaited());
        self.site.push(Job { desk, request, is_call });
    }

    fn resume(&self, core: CoreId) {
        let Some(desk) = self.desk_of(core) else { return };
        if desk.carry_out(&self.engine) {
            self.set_desk(core, None);
        } else {
            self.engine.park(core);
        }
    }

    fn client_left(&self, core: CoreId) {
        if let Some(desk) = self.desk_of(core) {
            desk.say_left();
        }
    }

    fn overdue(&self, core: CoreId) {
        if let Some(desk) = self.desk_of(core) {
            let before = desk.say_late(&self.engine);
            Python::attach(|py| self.site.interrupt(py, &desk, before));
        }
    }
}
