//! Native applications as a [`Host`] of the engine: which request is on which core, running its coroutines, and ending it.
//! The engine calls it on the loop's thread, never from inside a coroutine.
use super::blocking::Blocking;
use super::call::{Call, Ending, FIRST, Number};
use super::fiber::{End, Fiber, Stacks, Step};
use super::library::{Apps, Loaded};
use super::overflow;
use super::routes::is_beside;
use super::waiting::Here;
use crate::beside::Guest;
use crate::{CoreId, Engine, Errand, Host, Next, Outcome, Request};
use appliance_config::Settings;
use appliance_config::settings::Route;
use nix::errno::Errno;
use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Instant;

thread_local! {
    static NATIVE: OnceCell<Rc<Native>> = const { OnceCell::new() };
}

/// See the module.
#[derive(Debug)]
pub struct Native {
    pub(super) engine: Rc<Engine>,
    apps: Apps,
    /// What leads to the one beside the main application.
    routes: Vec<Route>,
    pub(super) blocking: Blocking,
    stacks: RefCell<Stacks>,
    calls: RefCell<Vec<Option<Rc<Call>>>>,
    /// Whose coroutine runs.
    current: RefCell<Option<Rc<Call>>>,
}

impl Native {
    /// Makes this thread, the loop's, one that serves these applications; once in a worker.
    pub fn install(engine: Rc<Engine>, apps: Apps, settings: &Settings) -> io::Result<Rc<Native>> {
        overflow::install()?;
        let cores = settings.workers.cores;
        let native = Rc::new(Native {
            engine,
            apps,
            routes: settings.routes.clone(),
            blocking: Blocking::default(),
            stacks: RefCell::new(Stacks::new(settings.workers.stack, cores as usize)),
            calls: RefCell::new(vec![None; cores as usize]),
            current: RefCell::default(),
        });
        NATIVE.with(|cell| {
            let taken = || io::Error::other("this thread serves a native application already");
            cell.set(Rc::clone(&native)).map(|()| native).map_err(|_| taken())
        })
    }

    /// The coroutine that runs on this thread.
    pub(super) fn current() -> Option<Here> {
        // A thread that ends has none, whatever its own destructors call.
        let native = NATIVE.try_with(|cell| cell.get().cloned()).ok()??;
        let call = native.current.borrow().clone()?;
        Some(Here { native, call })
    }

    /// The application that a request is for, if it is one of ours.
    fn app_for(&self, request: &Request) -> Option<Loaded> {
        self.apps.beside.filter(|_| is_beside(request, &self.routes)).or(self.apps.main)
    }

    pub(super) fn call_on(&self, core: CoreId) -> Option<Rc<Call>> {
        self.calls.borrow().get(core.index as usize)?.clone().filter(|call| call.core == core)
    }

    /// Runs a function in a new coroutine of a request, until it first waits; its number. `EAGAIN`: the request has too many,
    /// `ENOMEM`: there is no stack for it.
    pub(super) fn spawn(&self, call: &Rc<Call>, run: impl FnOnce() + 'static) -> Result<Number, Errno> {
        let stack = self.stacks.borrow_mut().take().map_err(|_| Errno::ENOMEM)?;
        let Some(number) = call.reserve() else {
            self.stacks.borrow_mut().put(stack);
            return Err(Errno::EAGAIN);
        };
        self.resume_fiber(call, number.place, Fiber::new(stack, guarded(call, run)));
        Ok(number)
    }

    fn resume_fiber(&self, call: &Rc<Call>, place: usize, mut fiber: Fiber) {
        let before = self.current.replace(Some(Rc::clone(call)));
        let spawner = call.set_running(place);
        let step = fiber.resume();
        call.set_running(spawner);
        self.current.replace(before);
        match step {
            Step::Suspended => call.put_suspended(place, fiber),
            Step::Ended(end) => {
                call.set_over(place);
                if end == End::Returned {
                    self.stacks.borrow_mut().put(fiber.into_stack());
                } else {
                    self.on_overflow(call, place);
                }
            }
        }
    }

    /// A coroutine has used up its stack, and nothing on it was dropped. Its request fails; if the coroutine was the
    /// application's own, another one answers in its place.
    fn on_overflow(&self, call: &Rc<Call>, place: usize) {
        call.note_failure("stack overflow: raise workers.stack, or put less on the stack");
        call.end(Ending::Overflowed);
        if place == FIRST {
            let answer = self.stacks.borrow_mut().take();
            if let Ok(stack) = answer {
                call.begin_anew();
                self.resume_fiber(call, FIRST, Fiber::new(stack, guarded(call, || complete(1))));
            }
        }
    }

    /// Resumes every coroutine of a request that waits; each looks again at what it waits for.
    fn resume_all(&self, call: &Rc<Call>) {
        for place in 0..call.count() {
            if let Some(fiber) = call.take_suspended(place) {
                self.resume_fiber(call, place, fiber);
            }
        }
    }

    /// The loop comes back from a request: it is over, or waits.
    fn leave(&self, call: &Rc<Call>) {
        if !call.is_first_over() {
            if call.take_news() {
                self.engine.again(call.core);
            } else {
                self.engine.park(call.core);
            }
            return;
        }
        // Whatever it has spawned is told to end, and does not wait any more.
        call.end(Ending::Over);
        self.resume_all(call);
        self.forget(call.core);
        let (outcome, has_failed) = call.outcome.get();
        self.engine.finish(call.core, outcome, has_failed);
    }

    fn forget(&self, core: CoreId) {
        if let Some(call) = self.calls.borrow_mut().get_mut(core.index as usize) {
            *call = None;
        }
    }

    /// Tells a request to end, and goes on with it.
    fn end(&self, core: CoreId, ending: Ending) {
        let Some(call) = self.call_on(core) else { return };
        if call.end(ending) {
            if ending == Ending::Late {
                let (who, age) = self.engine.roll().describe(core, Instant::now());
                tracing::error!(
                    "{who} takes longer than it may: it is ended after {:.1} s",
                    age.as_secs_f64()
                );
            }
            self.resume_all(&call);
            self.leave(&call);
        }
    }
}

/// A function of a coroutine, which must not unwind into the one that has resumed it.
fn guarded(call: &Rc<Call>, run: impl FnOnce() + 'static) -> impl FnOnce() + 'static {
    let call = Rc::clone(call);
    move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            // The panic hook has logged where.
            call.note_failure("the worker itself panicked in the request");
        }
    }
}

/// Native applications register nothing that an errand could be for; whoever waits for its result hears so at once.
fn refuse(errand: Errand) {
    match errand {
        Errand::Rpc { name, reply, .. } => {
            let why = format!("there is no procedure {name:?} in this worker: native applications have none");
            tracing::warn!("rpc {name:?}, called from outside: {why}");
            reply.send(Err(why));
        }
        // It is over, and does not come again.
        Errand::Signal(mut ticket) => ticket.begin(),
        Errand::Host { .. } => {}
    }
}

/// Ends the answer of the request whose coroutine runs.
fn complete(code: i32) {
    if let Some(here) = Native::current() {
        here.complete(code);
    }
}

impl Host for Native {
    fn next(&self) -> Next {
        Next::Never
    }

    fn poll(&self, _may_block: bool, poll: &mut dyn FnMut()) {
        poll();
    }

    fn on_fd(&self, _fd: RawFd, _readable: bool, _writable: bool) {}

    fn turn(&self) {}

    fn start(&self, core: CoreId, mut request: Request) {
        if let Some(errand) = request.errand.take() {
            refuse(*errand);
            return self.engine.finish(core, Outcome::Cut, false);
        }
        let call = Rc::new(Call::new(core, request));
        if let Some(place) = self.calls.borrow_mut().get_mut(core.index as usize) {
            *place = Some(Rc::clone(&call));
        }
        let app = self.app_for(&call.request);
        match self.spawn(&call, move || complete(app.map_or(1, Loaded::handle))) {
            Ok(_) => self.leave(&call),
            Err(error) => {
                tracing::error!(%error, "a native request has no stack: raise vm.max_map_count, or lower workers.cores");
                self.engine.abort(core, crate::answer::Cause::Exception);
                self.forget(core);
                self.engine.finish(core, Outcome::Cut, true);
            }
        }
    }

    fn resume(&self, core: CoreId) {
        if let Some(call) = self.call_on(core) {
            self.resume_all(&call);
            self.leave(&call);
        }
    }

    fn client_left(&self, core: CoreId) {
        self.end(core, Ending::Left);
    }

    fn overdue(&self, core: CoreId) {
        self.end(core, Ending::Late);
    }
}

/// Beside another host.
impl Guest for Native {
    fn serves(&self, request: &Request) -> bool {
        self.app_for(request).is_some()
    }

    fn has(&self, core: CoreId) -> bool {
        self.call_on(core).is_some()
    }

    fn start(&self, core: CoreId, request: Request) {
        Host::start(self, core, request);
    }

    fn resume(&self, core: CoreId) {
        Host::resume(self, core);
    }

    fn client_left(&self, core: CoreId) {
        Host::client_left(self, core);
    }

    fn overdue(&self, core: CoreId) {
        Host::overdue(self, core);
    }
}
