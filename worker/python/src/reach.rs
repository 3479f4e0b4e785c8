//! How Python hosting reaches the loop engine: directly where requests run on the loop's own thread, through a desk where
//! they run on threads of a pool. Both have the same methods, those of [`Engine`], so whoever serves a request does not ask
//! where it runs. It decides nothing.
use crate::threads::{Desk, There};
use appliance_worker::answer::{Cause, Moment};
use appliance_worker::timers::TimerId;
use appliance_worker::waits::WaitId;
use appliance_worker::{BodyRead, CoreId, Engine, FileSent, Interest, Outcome, Remote, Sent};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

mod websocket;

/// See the module.
pub enum Reach {
    /// This thread is the loop's.
    Here(Rc<Engine>),
    /// This thread is one of the pool's.
    There(There),
}

/// A timer of the engine, or the time-out that a pool thread had before.
pub enum Timer {
    /// On the loop.
    Here(TimerId),
    /// In a pool thread, which keeps its time itself.
    There(Option<Instant>),
}

/// Wakes a request from any thread.
pub enum Bell {
    /// One that runs on the loop's thread.
    Here(Remote),
    /// One that runs in a pool thread.
    There(Arc<Desk>),
}

impl Reach {
    /// The engine itself; an error on a pool thread, where nobody may touch it.
    pub fn here(&self) -> PyResult<&Rc<Engine>> {
        match self {
            Reach::Here(engine) => Ok(engine),
            Reach::There(_) => Err(PyRuntimeError::new_err(
                "the event loop belongs to another thread than this request's; reach it with appliance.wait() or \
                 loop.call_soon_threadsafe()",
            )),
        }
    }

    /// See [`Engine::send_head`].
    pub fn send_head(&self, core: CoreId, head: Vec<u8>, end: bool) -> Vec<u8> {
        match self {
            Reach::Here(engine) => engine.send_head(core, head, end),
            Reach::There(there) => there.send_head(core, head, end),
        }
    }

    /// See [`Engine::send_interim`].
    pub fn send_interim(&self, core: CoreId, head: Vec<u8>) -> Vec<u8> {
        match self {
            Reach::Here(engine) => engine.send_interim(core, head),
            Reach::There(there) => there.send_interim(core, head),
        }
    }

    /// See [`Engine::send_file`]. A pool thread waits in here, and never gives `Wait`.
    pub fn send_file(&self, core: CoreId, file: Arc<File>, offset: u64, count: usize) -> FileSent {
        match self {
            Reach::Here(engine) => engine.send_file(core, file, offset, count),
            Reach::There(there) => there.send_file(core, file, offset, count),
        }
    }

    /// See [`Engine::send`]. From a pool thread it leaves with the next [`Reach::post`], or when the request waits or ends.
    pub fn send(&self, core: CoreId, data: &[u8], last: bool) -> Sent {
        match self {
            Reach::Here(engine) => engine.send(core, data, last),
            Reach::There(there) => there.send(core, data, last),
        }
    }

    /// What was sent before must leave now: code of the application runs next, and nobody knows for how long.
    pub fn post(&self) {
        if let Reach::There(there) = self {
            there.post();
        }
    }

    /// See [`Engine::read_body`]. A pool thread waits in here, until `deadline`, and gives `Wait` only after that.
    pub fn read_body(
        &self,
        core: CoreId,
        into: &mut Vec<u8>,
        most: usize,
        deadline: Option<Instant>,
    ) -> BodyRead {
        match self {
            Reach::Here(engine) => engine.read_body(core, into, most),
            Reach::There(there) => there.read_body(core, into, most, deadline),
        }
    }

    /// See [`Engine::is_connected`].
    pub fn is_connected(&self, core: CoreId) -> bool {
        match self {
            Reach::Here(engine) => engine.is_connected(core),
            Reach::There(there) => there.ask(core, move |engine| engine.is_connected(core)).unwrap_or(false),
        }
    }

    /// See [`Engine::connection_fd`].
    pub fn connection_fd(&self, core: CoreId) -> Option<RawFd> {
        match self {
            Reach::Here(engine) => engine.connection_fd(core),
            Reach::There(there) => there.ask(core, move |engine| engine.connection_fd(core)).flatten(),
        }
    }

    /// See [`Engine::disconnect`].
    pub fn disconnect(&self, core: CoreId, outcome: Outcome) {
        match self {
            Reach::Here(engine) => engine.disconnect(core, outcome),
            Reach::There(there) => there.disconnect(core, outcome),
        }
    }

    /// See [`Engine::abort`].
    pub fn abort(&self, core: CoreId, cause: Cause) {
        match self {
            Reach::Here(engine) => engine.abort(core, cause),
            Reach::There(there) => there.abort(core, cause),
        }
    }

    /// See [`Engine::finish`].
    pub fn finish(&self, core: CoreId, outcome: Outcome, failed: bool) {
        match self {
            Reach::Here(engine) => engine.finish(core, outcome, failed),
            Reach::There(there) => there.finish(core, outcome, failed),
        }
    }

    /// See [`Engine::set_limit`].
    pub fn set_limit(&self, core: CoreId, when: Option<Instant>) {
        match self {
            Reach::Here(engine) => engine.set_limit(core, when),
            Reach::There(there) => there.command(core, move |engine| engine.set_limit(core, when)),
        }
    }

    /// The request on this core has come back from its application; true if it was told there that it takes too long, by the
    /// loop to a pool thread.
    pub fn leave_application(&self, py: Python<'_>, core: CoreId) -> bool {
        match self {
            Reach::Here(_) => false,
            Reach::There(there) => there.leave_application(py, core),
        }
    }

    /// Notes by what Python knows the request on this core: see [`Roll::set_mark`](appliance_worker::roll::Roll::set_mark).
    pub fn set_mark(&self, core: CoreId, mark: u64) {
        match self {
            Reach::Here(engine) => engine.roll().set_mark(core, mark),
            Reach::There(there) => there.site().roll.set_mark(core, mark),
        }
    }

    /// What wakes the request on this core.
    pub fn bell(&self, core: CoreId) -> Option<Bell> {
        match self {
            Reach::Here(engine) => Some(Bell::Here(engine.remote())),
            Reach::There(there) => there.desk(core).map(Bell::There),
        }
    }

    /// See [`Engine::wake_at`].
    pub fn wake_at(&self, core: CoreId, when: Instant) -> Timer {
        match self {
            Reach::Here(engine) => Timer::Here(engine.wake_at(core, when)),
            Reach::There(there) => Timer::There(there.set_deadline(Some(when))),
        }
    }

    /// See [`Engine::cancel_timer`].
    pub fn cancel_timer(&self, timer: Timer) {
        match (self, timer) {
            (Reach::Here(engine), Timer::Here(id)) => engine.cancel_timer(id),
            (Reach::There(there), Timer::There(before)) => drop(there.set_deadline(before)),
            // A timer never leaves the thread that made it.
            (Reach::Here(_), Timer::There(_)) | (Reach::There(_), Timer::Here(_)) => {}
        }
    }

    /// See [`Engine::wake_on_fd`].
    pub fn wake_on_fd(&self, core: CoreId, fd: RawFd, interest: Interest) -> io::Result<WaitId> {
        match self {
            Reach::Here(engine) => engine.wake_on_fd(core, fd, interest),
            Reach::There(there) => there.wake_on_fd(core, fd, interest),
        }
    }

    /// See [`Engine::wait_fired`].
    pub fn wait_fired(&self, core: CoreId, wait: WaitId) -> bool {
        match self {
            Reach::Here(engine) => engine.wait_fired(wait),
            Reach::There(there) => there.wait_fired(core, wait),
        }
    }

    /// See [`Engine::cancel_wait`].
    pub fn cancel_wait(&self, core: CoreId, wait: WaitId) {
        match self {
            Reach::Here(engine) => engine.cancel_wait(wait),
            Reach::There(there) => there.cancel_wait(core, wait),
        }
    }
}

impl Moment for Reach {
    fn with_date(&self, then: impl FnOnce(&[u8])) {
        match self {
            Reach::Here(engine) => engine.with_date(then),
            Reach::There(there) => then(&there.date()),
        }
    }

    fn is_draining(&self) -> bool {
        match self {
            Reach::Here(engine) => engine.is_draining(),
            Reach::There(there) => there.site().is_draining(),
        }
    }

    fn is_body_complete(&self, core: CoreId) -> bool {
        match self {
            Reach::Here(engine) => engine.is_body_complete(core),
            Reach::There(there) => {
                there.ask(core, move |engine| engine.is_body_complete(core)).unwrap_or(true)
            }
        }
    }
}
