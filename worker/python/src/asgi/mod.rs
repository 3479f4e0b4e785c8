//! ASGI 3 applications on the loop that serves everything: each request is a task of asyncio's, on a core like any other.
//! [`Asgi`] has the applications and the requests that run
//! (the engine comes to it by `crate::beside`); `scope` says what
//! was asked, `channel` is `receive` and `send` as the application has them, `call` what they do, `life` the coroutine that is
//! the request's task, `end` how its answer ends, `lifespan` what comes before the first request and after the last.
//!
//! For the engine the core of such a request is parked all the time; to resume it is to wake the futures that it waits for.
//! Everything here runs on the loop's thread. What Python code may keep (`receive`, `send`, the task) holds only the number of
//! the core, and finds nothing when the request has ended.
use crate::application::Application;
use crate::host::Worker;
use crate::stacks;
use appliance_worker::{CoreId, Door, Engine, Request};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

mod call;
mod channel;
mod end;
mod life;
pub mod lifespan;
mod outgoing;
mod patience;
mod scope;
mod socket;

use call::Call;
use channel::{Receive, Send};
use life::Life;
use lifespan::Lifespan;
use scope::{Reasons, Shapes};

thread_local! {
    static ASGI: OnceCell<Rc<Asgi>> = const { OnceCell::new() };
}

/// An application, and what its lifespan has left for its requests.
struct Served {
    app: Py<PyAny>,
    lifespan: Lifespan,
}

impl Served {
    /// Runs what the application does before its first request; `None` if it is not ASGI's.
    fn start_up(
        py: Python<'_>,
        app: &Application,
        event_loop: &Py<PyAny>,
    ) -> Result<Option<Rc<Served>>, lifespan::Failure> {
        let Application::Asgi(app) = app else { return Ok(None) };
        let lifespan = Lifespan::start(py, app, event_loop)?;
        Ok(Some(Rc::new(Served { app: app.clone_ref(py), lifespan })))
    }
}

/// See the module.
pub struct Asgi {
    worker: Rc<Worker>,
    engine: Rc<Engine>,
    /// Behind the proxy, and on the native listener.
    proxy: Option<Rc<Served>>,
    native: Option<Rc<Served>>,
    calls: RefCell<Vec<Option<Rc<Call>>>>,
    /// The time of a worker that stops is nearly over.
    parts: Cell<bool>,
    /// A timer looks after WebSockets.
    looks: Cell<bool>,
    shapes: Shapes,
    reasons: Reasons,
    event_loop: Py<PyAny>,
    /// The core of the request whose context the running code is in, also in tasks that the request has made.
    current: Py<PyAny>,
}

impl Asgi {
    /// Takes the applications that are ASGI's, and runs what they do before their first request. `None`: there are none.
    /// `native` is `None` where that listener serves the same as the proxy.
    pub fn start_up(
        py: Python<'_>,
        worker: &Rc<Worker>,
        (proxy, native): (&Application, Option<&Application>),
    ) -> Result<Option<Rc<Asgi>>, lifespan::Failure> {
        let event_loop = worker.aio.event_loop(py);
        let serve = |app: &Application| Served::start_up(py, app, &event_loop);
        let proxy = serve(proxy)?;
        let native = native.map_or_else(|| Ok(proxy.clone()), serve)?;
        if proxy.is_none() && native.is_none() {
            return Ok(None);
        }
        let current = py.import("contextvars")?.call_method1("ContextVar", ("appliance_core",))?;
        let asgi = Rc::new(Asgi {
            worker: Rc::clone(worker),
            engine: Rc::clone(worker.engine.here()?),
            proxy,
            native,
            calls: RefCell::default(),
            parts: Cell::new(false),
            looks: Cell::new(false),
            shapes: Shapes::new(py)?,
            reasons: Reasons::new(py)?,
            event_loop,
            current: current.unbind(),
        });
        let set = ASGI.with(|cell| cell.set(Rc::clone(&asgi)));
        set.map_err(|_| PyRuntimeError::new_err("this process serves ASGI already"))?;
        Ok(Some(asgi))
    }

    /// That of this thread, if it is the loop's and serves ASGI.
    fn current() -> Option<Rc<Asgi>> {
        ASGI.with(|cell| cell.get().cloned())
    }

    /// Runs what the applications do after their last request. The loop does not serve any more.
    pub fn shut_down(&self, py: Python<'_>) {
        let is_same = match (&self.proxy, &self.native) {
            (Some(proxy), Some(native)) => Rc::ptr_eq(proxy, native),
            _ => false,
        };
        for served in self.proxy.iter().chain(self.native.iter().filter(|_| !is_same)) {
            served.lifespan.end(py);
        }
    }

    fn served(&self, door: Door) -> Option<&Rc<Served>> {
        match door {
            Door::Proxy => self.proxy.as_ref(),
            Door::Native => self.native.as_ref(),
        }
    }

    /// Whether that is a request for an ASGI application; an errand is none.
    pub fn serves(&self, request: &Request) -> bool {
        request.errand.is_none() && self.served(request.peer.door).is_some()
    }

    /// Whether the request on this core is.
    pub fn has(&self, core: CoreId) -> bool {
        self.call_on(core).is_some()
    }

    fn call_on(&self, core: CoreId) -> Option<Rc<Call>> {
        self.calls.borrow().get(core.index as usize).cloned().flatten().filter(|call| call.core == core)
    }

    fn remember(&self, call: &Rc<Call>) {
        let (mut calls, index) = (self.calls.borrow_mut(), call.core.index as usize);
        if calls.len() <= index {
            calls.resize(index + 1, None);
        }
        calls[index] = Some(Rc::clone(call));
    }

    fn forget(&self, core: CoreId) {
        if let Some(call) = self.calls.borrow_mut().get_mut(core.index as usize) {
            *call = None;
        }
    }

    /// Makes the task of a request that has just been given this core. It takes its first step in the loop's next turn.
    pub fn start(&self, py: Python<'_>, core: CoreId, request: Request) {
        self.engine.park(core);
        let call = Rc::new(Call::new(core, request));
        self.remember(&call);
        if let Err(error) = self.make_task(py, &call) {
            // The task factory of the application has failed, or there was no memory.
            crate::log::exception(py, &error, "a request could not be started");
            end::abandon(py, self, &call);
        }
        if self.parts.get() {
            patience::dismiss(py, self, &call);
        }
        self.worker.aio.stir();
    }

    fn make_task(&self, py: Python<'_>, call: &Call) -> PyResult<()> {
        let head = &call.request.received.head;
        let name = format!("{} {}", head.method(), String::from_utf8_lossy(head.path()));
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "name"), name)?;
        let life = Bound::new(py, Life::new(call.core))?;
        let event_loop = self.event_loop.bind(py);
        let task = event_loop.call_method(intern!(py, "create_task"), (life,), Some(&keywords))?;
        self.engine.roll().set_mark(call.core, task.as_ptr().addr() as u64);
        call.set_task(task.unbind());
        Ok(())
    }

    /// Enters the application, in the request's task; its coroutine.
    fn enter<'py>(&self, py: Python<'py>, call: &Call) -> PyResult<Bound<'py, PyAny>> {
        let served = self.served(call.request.peer.door).ok_or_else(no_application)?;
        self.current
            .bind(py)
            .call_method1(intern!(py, "set"), (Bound::new(py, Token { core: call.core })?,))?;
        let scope = self.shapes.scope(py, call, served.lifespan.state(py)?)?;
        let (receive, send) = (
            Bound::new(py, Receive::new(call.core, call.socket.is_some()))?,
            Bound::new(py, Send::new(call.core))?,
        );
        served.app.bind(py).call1((scope, receive, send))
    }

    /// Something has happened that the request on this core may wait for.
    pub fn resume(&self, py: Python<'_>, core: CoreId) {
        let Some(call) = self.call_on(core) else { return };
        call.wake(py, self);
        self.engine.park(call.core);
        self.worker.aio.stir();
    }

    /// The client has left: whoever listens has been told, any other request is cancelled where it waits. A WebSocket's finds
    /// out when it receives or sends, as it does of every other end, and has a while for that.
    pub fn client_left(&self, py: Python<'_>, core: CoreId) {
        let Some(call) = self.call_on(core) else { return };
        if call.socket.is_none() && !call.has_heard() && !call.is_answered() {
            self.cancel(py, &call);
        }
    }

    /// The worker is killed soon: what runs is cancelled, for its `finally` and for the end of the lifespan, and so is what
    /// begins now.
    pub fn farewell(&self, py: Python<'_>) {
        self.parts.set(true);
        patience::end(py, self);
    }

    /// The request takes longer than it may: it is cancelled where it waits.
    pub fn overdue(&self, py: Python<'_>, core: CoreId) {
        let Some(call) = self.call_on(core) else { return };
        let stack = call.coroutine(py).map(|coroutine| stacks::of_coroutine(py, &coroutine));
        let count = call.count_timeout();
        crate::timeout::log_stack(self.engine.roll(), call.core, &stack.unwrap_or_default(), count);
        self.cancel(py, &call);
    }

    fn cancel(&self, py: Python<'_>, call: &Call) {
        if let Some(task) = call.task(py)
            && let Err(error) = task.call_method0(py, intern!(py, "cancel"))
        {
            crate::log::exception(py, &error, "a request could not be cancelled");
        }
        self.worker.aio.stir();
    }
}

/// On the loop's thread: whether the code that runs there belongs to a request that is overdue and must be told so now. True
/// for each only once in a while; `told` is called then, with how often it was before.
pub fn take_overdue(py: Python<'_>, told: impl FnOnce(CoreId, u32)) -> bool {
    let Some(asgi) = Asgi::current() else { return false };
    let token = asgi.current.bind(py).call_method1(intern!(py, "get"), (py.None(),));
    let core = token.ok().and_then(|token| token.cast::<Token>().ok().map(|token| token.get().core));
    let Some(call) = core.and_then(|core| asgi.call_on(core)) else { return false };
    if call.is_over() || !asgi.engine.take_overdue(call.core) {
        return false;
    }
    told(call.core, call.count_timeout());
    true
}

/// What a context knows its request by.
#[pyclass(frozen, module = "appliance")]
struct Token {
    core: CoreId,
}

fn no_application() -> PyErr {
    PyRuntimeError::new_err("no ASGI application is served on this listener")
}
