//! The engine as a thread of the pool sees it: the same methods, carried out on the loop's thread by way of the desk of the
//! request that the thread serves now. What needs no answer is held back until somebody has to wait or code of the
//! application runs again, so an ordinary answer wakes the loop once. The GIL is released wherever it waits.
use super::site::{Job, Site};
use crate::raw;
use appliance_worker::answer::Cause;
use appliance_worker::desk::{Desk, Order};
use appliance_worker::http::encode;
use appliance_worker::waits::WaitId;
use appliance_worker::{BodyRead, CoreId, Engine, FileSent, Interest, Outcome, Sent};
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// See the module.
pub struct There {
    site: Arc<Site>,
    /// Of the request that this thread serves.
    desk: RefCell<Option<Arc<Desk>>>,
    /// Its answer travels on a link, where the head is a thing of its own.
    is_linked: Cell<bool>,
    held: RefCell<Vec<Order>>,
    /// When the wait that comes next is over.
    deadline: Cell<Option<Instant>>,
}

/// Runs something that waits, with the GIL released.
fn unattached<T: Send>(wait: impl FnOnce() -> T + Send) -> T {
    Python::attach(|py| py.detach(wait))
}

/// The number of this thread, as Python's `threading.get_ident()` gives it.
fn this_thread() -> u64 {
    nix::sys::pthread::pthread_self()
}

impl There {
    /// For a thread that serves nothing yet.
    pub fn new(site: Arc<Site>) -> There {
        There {
            site,
            desk: RefCell::default(),
            is_linked: Cell::new(false),
            held: RefCell::default(),
            deadline: Cell::new(None),
        }
    }

    /// What all threads of the pool share.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// This thread serves another request from now on.
    pub fn begin(&self, job: &Job) {
        self.site.roll.set_mark(job.desk.core(), this_thread());
        self.is_linked.set(job.request.received.head.facts().is_some());
        self.deadline.set(None);
        self.desk.replace(Some(Arc::clone(&job.desk)));
    }

    /// The desk of the request on this core, if that is the one which this thread serves.
    pub fn desk(&self, core: CoreId) -> Option<Arc<Desk>> {
        self.desk.borrow().clone().filter(|desk| desk.core() == core)
    }

    fn hold(&self, core: CoreId, order: Order) {
        if self.desk(core).is_some() {
            self.held.borrow_mut().push(order);
        }
    }

    /// See [`Engine::send_head`].
    pub fn send_head(&self, core: CoreId, head: Vec<u8>, end: bool) -> Vec<u8> {
        if !self.is_linked.get() {
            return head;
        }
        self.hold(core, Order::Head { bytes: head, end });
        Vec::new()
    }

    /// See [`Engine::send_interim`].
    pub fn send_interim(&self, core: CoreId, head: Vec<u8>) -> Vec<u8> {
        if !self.is_linked.get() {
            return head;
        }
        self.hold(core, Order::Interim(head));
        Vec::new()
    }

    /// See [`Engine::send_file`]; waits until the client takes some of it.
    pub fn send_file(&self, core: CoreId, file: Arc<File>, offset: u64, count: usize) -> FileSent {
        if self.is_linked.get() {
            return FileSent::Unsupported;
        }
        let Some(desk) = self.desk(core) else { return FileSent::Gone };
        self.post();
        let try_send = move |engine: &Engine| {
            let sent = engine.send_file(core, Arc::clone(&file), offset, count);
            Some(sent).filter(|sent| *sent != FileSent::Wait)
        };
        unattached(|| desk.until(None, try_send)).unwrap_or(FileSent::Gone)
    }

    /// See [`Engine::send`]. What is taken here counts as sent, and is bounded by `limits.write_buffer`.
    pub fn send(&self, core: CoreId, data: &[u8], last: bool) -> Sent {
        let Some(desk) = self.desk(core) else { return Sent::Gone };
        let mut held = self.held.borrow_mut();
        let Some(room) = desk.room(held.iter().map(Order::unsent).sum()) else { return Sent::Gone };
        let n = room.min(data.len());
        match held.last_mut() {
            _ if n == 0 => {}
            Some(Order::Body { bytes, last: false }) if !last => bytes.extend_from_slice(&data[..n]),
            _ => held.push(Order::Body { bytes: data[..n].to_vec(), last: last && n == data.len() }),
        }
        if n == data.len() { Sent::All } else { Sent::Part(n) }
    }

    /// Lets the loop have what was held back.
    pub fn post(&self) {
        if let Some(desk) = &*self.desk.borrow() {
            desk.post(&mut self.held.borrow_mut());
        }
    }

    /// See [`Engine::read_body`]; waits until `deadline`.
    pub fn read_body(
        &self,
        core: CoreId,
        into: &mut Vec<u8>,
        most: usize,
        deadline: Option<Instant>,
    ) -> BodyRead {
        let Some(desk) = self.desk(core) else { return BodyRead::GONE };
        self.post();
        let try_read = move |engine: &Engine| {
            let mut bytes = Vec::new();
            (engine.read_body(core, &mut bytes, most), bytes)
        };
        let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
        let read = unattached(|| match is_over {
            true => desk.ask(try_read),
            false => desk.until(deadline, move |engine| {
                Some(try_read(engine)).filter(|(read, _)| *read != BodyRead::Wait)
            }),
        });
        let (read, mut bytes) = read.unwrap_or((BodyRead::Wait, Vec::new()));
        into.append(&mut bytes);
        read
    }

    /// Waits until the core is woken or the time that was set is over.
    pub fn park(&self, core: CoreId) {
        self.post();
        if let Some(desk) = self.desk(core) {
            let deadline = self.deadline.get();
            unattached(|| desk.park(deadline));
        }
    }

    /// Whether the client has left, and the request is to end. True once.
    pub fn take_left(&self, core: CoreId) -> bool {
        self.desk(core).is_some_and(|desk| desk.take_left())
    }

    /// Whether the request takes longer than it may, and this thread has waited meanwhile. True once.
    pub fn take_late(&self, core: CoreId) -> bool {
        self.desk(core).is_some_and(|desk| desk.take_late())
    }

    /// This thread has come back from the application; whether its request takes longer than it may. An exception that was to
    /// be raised in it, and was not yet, would hit the next one.
    pub fn leave_application(&self, py: Python<'_>, core: CoreId) -> bool {
        let Some(desk) = self.desk(core) else { return false };
        if desk.leave_application() {
            self.forget_exception(py);
        }
        desk.is_late()
    }

    /// Takes back an exception that was to be raised in this thread.
    pub fn forget_exception(&self, py: Python<'_>) {
        raw::set_exception_of(py, this_thread(), None);
    }

    /// Sets when the next wait is over; what was set before.
    pub fn set_deadline(&self, deadline: Option<Instant>) -> Option<Instant> {
        self.deadline.replace(deadline)
    }

    /// Asks the engine and waits for its answer; `None` for a request that has ended.
    pub fn ask<T: Send + 'static>(
        &self,
        core: CoreId,
        question: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let desk = self.desk(core)?;
        self.post();
        unattached(|| desk.ask(question))
    }

    /// Has the engine try something until it gives something or `deadline` has passed, and waits for that; `None` also for a
    /// request that has ended.
    pub fn until<T: Send + 'static>(
        &self,
        core: CoreId,
        deadline: Option<Instant>,
        attempt: impl FnMut(&Engine) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let desk = self.desk(core)?;
        self.post();
        unattached(|| desk.until(deadline, attempt))
    }

    /// Has the engine do something that needs no answer.
    pub fn command(&self, core: CoreId, command: impl FnOnce(&Engine) + Send + 'static) {
        if let Some(desk) = self.desk(core) {
            desk.command(command);
        }
    }

    /// See [`Engine::disconnect`].
    pub fn disconnect(&self, core: CoreId, outcome: Outcome) {
        self.hold(core, Order::Disconnect(outcome));
        self.post();
    }

    /// See [`Engine::abort`].
    pub fn abort(&self, core: CoreId, cause: Cause) {
        self.hold(core, Order::Abort(cause));
    }

    /// See [`Engine::finish`]. The thread has no request after this.
    pub fn finish(&self, core: CoreId, outcome: Outcome, failed: bool) {
        self.hold(core, Order::Finish { outcome, failed });
        self.post();
        self.desk.replace(None);
    }

    /// See [`Engine::wake_on_fd`].
    pub fn wake_on_fd(&self, core: CoreId, fd: RawFd, interest: Interest) -> io::Result<WaitId> {
        let ended = || io::Error::other("the request has ended");
        let desk = self.desk(core).ok_or_else(ended)?;
        let watch = move |engine: &Engine| {
            let wait = engine.wake_on_fd(core, fd, interest)?;
            desk.add_wait(wait);
            Ok(wait)
        };
        self.ask(core, watch).ok_or_else(ended)?
    }

    /// See [`Engine::wait_fired`].
    pub fn wait_fired(&self, core: CoreId, wait: WaitId) -> bool {
        self.desk(core).is_some_and(|desk| desk.wait_fired(wait))
    }

    /// See [`Engine::cancel_wait`].
    pub fn cancel_wait(&self, core: CoreId, wait: WaitId) {
        if let Some(desk) = self.desk(core) {
            desk.remove_wait(wait);
            desk.command(move |engine| engine.cancel_wait(wait));
        }
    }

    /// The value of a `Date` header field.
    pub fn date(&self) -> Vec<u8> {
        encode::date(SystemTime::now())
    }
}
