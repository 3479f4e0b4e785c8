//! A request that has a core and is a task: what it has received, what it waits for, and how far its answer is.
use super::Asgi;
use super::outgoing::{Flushed, Outgoing, To};
use super::socket::Socket;
use appliance_worker::{BodyRead, CoreId, Request};
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};

/// Bytes asked of the connection at once.
const PIECE: usize = 64 * 1024;
/// Futures that are kept before those that nobody waits for any more are looked for.
const FEW: usize = 4;

/// What is known of the request's body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Incoming {
    /// What came with the head has not been received.
    First,
    /// More of it may come.
    More,
    /// All of it has been received.
    All,
}

/// What `receive` has to say.
pub enum News {
    /// A piece of the body, and whether more may come.
    Body(Vec<u8>, bool),
    /// The client has left, or has its answer.
    Disconnect,
    /// Nothing yet.
    Wait,
}

/// See the module.
pub struct Call {
    /// Where it runs.
    pub core: CoreId,
    /// What was asked.
    pub request: Request,
    /// Its answer.
    pub outgoing: RefCell<Outgoing>,
    /// What it may become instead of being answered.
    pub socket: Option<Socket>,
    task: RefCell<Option<Py<PyAny>>>,
    /// The application's coroutine, and how it is resumed.
    coroutine: RefCell<Option<(Py<PyAny>, Py<PyAny>)>>,
    body: RefCell<Vec<u8>>,
    incoming: Cell<Incoming>,
    /// Futures of those who wait for the connection.
    waiters: RefCell<Vec<Py<PyAny>>>,
    /// Its own task is running.
    steps: Cell<bool>,
    /// The client left before it had its answer.
    left: Cell<bool>,
    /// The application knows it.
    heard: Cell<bool>,
    /// The connection has been given back, and the task goes on.
    released: Cell<bool>,
    /// The application has come to its end.
    over: Cell<bool>,
    timeouts: Cell<u32>,
    /// It is not waited for any longer.
    dismissed: Cell<bool>,
    /// It counts as an exception of the application.
    failed: Cell<bool>,
}

impl Call {
    /// A request that was just given a core.
    pub fn new(core: CoreId, mut request: Request) -> Call {
        let body = std::mem::take(&mut request.received.body);
        Call {
            core,
            socket: Socket::of(&request.received.head),
            request,
            outgoing: RefCell::default(),
            task: RefCell::default(),
            coroutine: RefCell::default(),
            body: RefCell::new(body),
            incoming: Cell::new(Incoming::First),
            waiters: RefCell::default(),
            steps: Cell::new(false),
            left: Cell::new(false),
            heard: Cell::new(false),
            released: Cell::new(false),
            over: Cell::new(false),
            timeouts: Cell::new(0),
            dismissed: Cell::new(false),
            failed: Cell::new(false),
        }
    }

    /// Whom the answer goes to.
    pub fn to<'a>(&'a self, asgi: &'a Asgi) -> To<'a> {
        To { engine: &asgi.engine, core: self.core, request: &self.request }
    }

    /// Notes its task.
    pub fn set_task(&self, task: Py<PyAny>) {
        self.task.replace(Some(task));
    }

    /// Its task.
    pub fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task.borrow().as_ref().map(|task| task.clone_ref(py))
    }

    /// Notes what the application has given.
    pub fn set_coroutine(&self, coroutine: Py<PyAny>, iterator: Py<PyAny>) {
        self.coroutine.replace(Some((coroutine, iterator)));
    }

    /// What the application has given.
    pub fn coroutine<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.coroutine.borrow().as_ref().map(|(coroutine, _)| coroutine.bind(py).clone())
    }

    /// How it is resumed.
    pub fn iterator<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.coroutine.borrow().as_ref().map(|(_, iterator)| iterator.bind(py).clone())
    }

    /// What there is to receive now.
    pub fn receive(&self, asgi: &Asgi) -> News {
        if self.left.get() || self.is_answered() {
            self.heard.set(true);
            return News::Disconnect;
        }
        match self.incoming.get() {
            Incoming::First => {
                let more = !self.request.received.complete;
                self.incoming.set(if more { Incoming::More } else { Incoming::All });
                News::Body(self.body.take(), more)
            }
            Incoming::More => self.read_on(asgi),
            Incoming::All => News::Wait,
        }
    }

    fn read_on(&self, asgi: &Asgi) -> News {
        let mut piece = Vec::new();
        match asgi.engine.read_body(self.core, &mut piece, PIECE) {
            BodyRead::Data => News::Body(piece, true),
            BodyRead::End => {
                self.incoming.set(Incoming::All);
                News::Body(piece, false)
            }
            BodyRead::Wait => News::Wait,
            // It never looks complete.
            BodyRead::Cut(why) => {
                tracing::debug!(core = self.core.index, "{why}");
                self.left.set(true);
                self.heard.set(true);
                News::Disconnect
            }
        }
    }

    /// Sends what the connection has not taken yet, and gives the connection back when that was the answer's end. An error is
    /// that of a file which is being sent.
    pub fn flush(&self, py: Python<'_>, asgi: &Asgi) -> std::io::Result<Flushed> {
        let flushed = self.outgoing.borrow_mut().flush(self.to(asgi))?;
        match flushed {
            Flushed::All => self.release(py, asgi),
            Flushed::Gone => self.left.set(true),
            Flushed::Wait => {}
        }
        Ok(flushed)
    }

    /// The client has all of its answer: the connection is free for its next request, also if the application goes on. While
    /// the request's own task runs this waits for the end of its step, which is usually the end of the request.
    pub fn release(&self, py: Python<'_>, asgi: &Asgi) {
        let is_complete = self.outgoing.borrow().is_complete();
        if is_complete && !self.steps.get() && !self.over.get() && !self.released.replace(true) {
            asgi.engine.disconnect(self.core, self.outgoing.borrow().outcome());
            self.rouse(py, asgi);
        }
    }

    /// The request's own task runs, or gives the loop back.
    pub fn set_steps(&self, steps: bool) {
        self.steps.set(steps);
    }

    /// A future that is done when something has happened that the request may wait for. For the task that awaits it, it
    /// looks as if a coroutine had awaited it.
    pub fn waiter<'py>(&self, py: Python<'py>, asgi: &Asgi) -> PyResult<Bound<'py, PyAny>> {
        let future = asgi.event_loop.bind(py).call_method0(intern!(py, "create_future"))?;
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let mut waiters = self.waiters.take();
        if waiters.len() >= FEW {
            waiters.retain(|one| !is_done(one.bind(py)));
        }
        waiters.push(future.clone().unbind());
        self.waiters.replace(waiters);
        Ok(future)
    }

    /// Something has happened on the connection: whoever waits looks again.
    pub fn wake(&self, py: Python<'_>, asgi: &Asgi) {
        if !self.released.get() && !asgi.engine.is_connected(self.core) {
            self.left.set(true);
        }
        self.rouse(py, asgi);
    }

    /// Whoever waits for the connection looks again: also when nothing more will happen on it, since tasks of the application's
    /// own may wait, and those of other requests that send to a WebSocket.
    pub fn rouse(&self, py: Python<'_>, asgi: &Asgi) {
        for future in self.waiters.take() {
            let future = future.bind(py);
            if is_done(future) {
                continue;
            }
            // Whoever waits for this connection finds out that nobody is there.
            self.heard.set(self.heard.get() || self.left.get());
            if let Err(error) = future.call_method1(intern!(py, "set_result"), (py.None(),)) {
                crate::log::exception(py, &error, "exception while a request was resumed");
            }
            asgi.worker.aio.stir();
        }
    }

    /// Whether the client left before it had its answer.
    pub fn has_left(&self) -> bool {
        self.left.get()
    }

    /// It has, and something was to be sent to it.
    pub fn set_heard(&self) {
        self.left.set(true);
        self.heard.set(true);
    }

    /// Whether the application knows that the client has left.
    pub fn has_heard(&self) -> bool {
        self.heard.get()
    }

    /// Whether the client waits for nothing more.
    pub fn is_answered(&self) -> bool {
        self.outgoing.borrow().is_whole()
    }

    /// It is told now that it takes longer than it may; how often it was told before.
    pub fn count_timeout(&self) -> u32 {
        let before = self.timeouts.get();
        self.timeouts.set(before.saturating_add(1));
        before
    }

    /// Whether it was told that it takes longer than it may.
    pub fn was_timed_out(&self) -> bool {
        self.timeouts.get() > 0
    }

    /// It is not waited for any longer: it is no mistake that its task is cancelled.
    pub fn set_dismissed(&self) {
        self.dismissed.set(true);
    }

    /// See [`Call::set_dismissed`].
    pub fn was_dismissed(&self) -> bool {
        self.dismissed.get()
    }

    /// It counts as an exception of the application.
    pub fn set_failed(&self) {
        self.failed.set(true);
    }

    /// See [`Call::set_failed`].
    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether no code of the application runs in the request's own task any more.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// See [`Call::is_over`]. The coroutine is let go.
    pub fn set_over(&self) {
        self.over.set(true);
        drop(self.coroutine.take());
    }
}

fn is_done(future: &Bound<'_, PyAny>) -> bool {
    let done = future.call_method0(intern!(future.py(), "done"));
    done.and_then(|done| done.is_truthy()).unwrap_or(true)
}
