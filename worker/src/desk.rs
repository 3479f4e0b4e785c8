//! A desk stands between one request that runs on a thread of its own and the loop. The thread leaves orders on it and goes
//! on, or waits for what the loop puts there; the loop carries them out on its own thread, as far as the connection takes
//! them, whenever the core is woken. So the core of such a request is parked for the engine all the time, and no thread ever
//! touches the engine. A desk serves one request and is then forgotten: whatever comes too late finds nobody.
//!
//! Called by a host whose requests run on threads: the methods that wait on the request's thread, [`Desk::carry_out`] and
//! [`Desk::say_left`] on the loop's. It knows nothing of the language that is hosted; whoever waits here must let go
//! before of all that the loop may need.
use crate::answer::Cause;
use crate::conn::{Outcome, Sent};
use crate::cores::CoreId;
use crate::engine::Engine;
use crate::inbox::Remote;
use crate::waits::WaitId;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Instant;

/// What a request's thread wants to be done, in this order.
#[derive(Debug)]
pub enum Order {
    /// Send the head of the answer on a link; `end`: no body follows.
    Head {
        /// As [`Engine::send_head`] takes it.
        bytes: Vec<u8>,
        /// Nothing follows.
        end: bool,
    },
    /// Send an interim answer on a link, as [`Engine::send_interim`] takes it.
    Interim(Vec<u8>),
    /// Send response bytes.
    Body {
        /// As they go on the wire.
        bytes: Vec<u8>,
        /// They end the answer.
        last: bool,
    },
    /// See [`Engine::disconnect`].
    Disconnect(Outcome),
    /// See [`Engine::abort`].
    Abort(Cause),
    /// The request has ended; nothing may follow.
    Finish {
        /// How its answer has ended.
        outcome: Outcome,
        /// The application has raised an exception.
        failed: bool,
    },
}

/// A question to the engine, which sends its answer by itself.
type Question = Box<dyn FnOnce(&Engine) + Send>;
/// The same that may have to be asked again; true when it is answered.
type Attempt = Box<dyn FnMut(&Engine) -> bool + Send>;

/// See the module.
#[derive(Debug)]
pub struct Desk {
    core: CoreId,
    /// Unsent bytes above which the thread has to wait.
    limit: usize,
    remote: Remote,
    state: Mutex<State>,
    /// Something has changed on the desk.
    bell: Condvar,
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    questions: Vec<Question>,
    /// Bytes of body in `orders`.
    unsent: usize,
    /// What the thread waits for.
    attempt: Option<Attempt>,
    /// The loop has been told that there is something on the desk.
    told: bool,
    /// The core was woken, and the thread has not looked after it yet.
    woken: bool,
    /// Nothing that is sent can reach anybody.
    gone: bool,
    /// The client has left, and the request is to end.
    left: bool,
    /// The request takes longer than it may, and its thread is to be told so when it has waited.
    late: bool,
    /// How often it was said.
    lates: u32,
    /// Its thread was interrupted because of that.
    interrupted: bool,
    /// Its thread has come back from the application.
    over: bool,
    /// Its thread waits in [`Desk::park`].
    parked: bool,
    /// Some of the answer, or all of it, is on its way.
    begun: bool,
    /// Descriptors that are waited for, and whether they were ready.
    waits: Vec<(WaitId, bool)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("orders", &self.orders)
            .field("unsent", &self.unsent)
            .finish_non_exhaustive()
    }
}

/// What became of the orders that were carried out together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    sent: usize,
    gone: bool,
    ended: bool,
}

impl Desk {
    /// The desk of a request that has just been given this core. `limit`: unsent bytes above which its thread waits.
    pub fn new(core: CoreId, limit: usize, remote: Remote) -> Desk {
        Desk { core, limit, remote, state: Mutex::default(), bell: Condvar::new() }
    }

    /// Whose it is.
    pub fn core(&self) -> CoreId {
        self.core
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the loop, unless it knows already, that there is something to do.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        if !mem::replace(&mut state.told, true) {
            drop(state);
            if let Err(error) = self.remote.wake(self.core) {
                tracing::error!(%error, "a thread cannot wake the loop");
            }
        }
    }

    /// Leaves orders for the loop.
    pub fn post(&self, orders: &mut Vec<Order>) {
        if orders.is_empty() {
            return;
        }
        let mut state = self.state();
        state.begun |= orders.iter().any(|order| !matches!(order, Order::Interim(_)));
        state.unsent += orders.iter().map(Order::unsent).sum::<usize>();
        state.orders.extend(orders.drain(..));
        self.tell(state);
    }

    /// How many bytes may be sent now, if `held` bytes wait to be posted; `None`: nobody would receive them.
    pub fn room(&self, held: usize) -> Option<usize> {
        let state = self.state();
        (!state.gone).then(|| self.limit.saturating_sub(state.unsent + held))
    }

    /// Asks the engine, on its own thread, and waits for the answer; `None` if it was never asked.
    pub fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Engine) -> T + Send + 'static) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.command(move |engine| {
            // Whoever has asked waits for it.
            let _ = answer.send(question(engine));
        });
        answered.recv().ok()
    }

    /// Has the engine do something, without waiting for it and before any order that is not carried out yet.
    pub fn command(&self, question: impl FnOnce(&Engine) + Send + 'static) {
        let mut state = self.state();
        state.questions.push(Box::new(question));
        self.tell(state);
    }

    /// Has the engine try something, when all orders are carried out, whenever the core is woken, until it gives something or
    /// `deadline` has passed; waits for that.
    pub fn until<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut(&Engine) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let mut state = self.state();
        state.attempt = Some(Box::new(move |engine| match attempt(engine) {
            Some(result) => answer.send(result).is_ok(),
            None => false,
        }));
        self.tell(state);
        let Some(deadline) = deadline else { return answered.recv().ok() };
        match answered.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(result) => Some(result),
            // Nothing is tried any more behind this lock; what was a moment ago counts.
            Err(_) => {
                self.state().attempt = None;
                answered.try_recv().ok()
            }
        }
    }

    /// Waits until the core is woken, the client has left, or `deadline` has passed.
    pub fn park(&self, deadline: Option<Instant>) {
        let (mut state, goes_on) =
            (self.state(), |state: &mut State| !state.woken && !state.left && !state.late);
        state.parked = true;
        let mut state = match deadline {
            None => self.bell.wait_while(state, goes_on).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let pause = deadline.saturating_duration_since(Instant::now());
                self.bell.wait_timeout_while(state, pause, goes_on).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        (state.woken, state.parked) = (false, false);
    }

    /// Ends a [`Desk::park`], from any thread.
    pub fn wake(&self) {
        self.state().woken = true;
        self.bell.notify_all();
    }

    /// The client has left and the request is to end. Its thread finds out when it next waits or sends.
    pub fn say_left(&self) {
        self.state().left = true;
        self.bell.notify_all();
    }

    /// Whether the client has left, and the request is to end. True once.
    pub fn take_left(&self) -> bool {
        mem::take(&mut self.state().left)
    }

    /// On the loop's thread: the request takes longer than it may. Its client is answered, unless it has the answer already,
    /// and its thread finds out if it waits here. How often this was said before.
    pub fn say_late(&self, engine: &Engine) -> u32 {
        let (begun, before) = {
            let mut state = self.state();
            state.late |= state.parked;
            state.lates += 1;
            (state.begun, state.lates - 1)
        };
        engine.answer_overdue(self.core, begun);
        self.bell.notify_all();
        before
    }

    /// Whether the request takes longer than it may.
    pub fn is_late(&self) -> bool {
        self.state().lates > 0
    }

    /// Whether the thread may be interrupted: it runs code of the application, and does not wait here. It counts as
    /// interrupted then. Called under a lock of the host's, as is [`Desk::leave_application`].
    pub fn take_interruptible(&self) -> bool {
        let mut state = self.state();
        let is_interruptible = !state.over && !state.parked;
        state.interrupted |= is_interruptible;
        is_interruptible
    }

    /// The thread has come back from the application; whether it was interrupted there.
    pub fn leave_application(&self) -> bool {
        let mut state = self.state();
        state.over = true;
        state.interrupted
    }

    /// Whether the request takes longer than it may, and its thread has waited. True once.
    pub fn take_late(&self) -> bool {
        mem::take(&mut self.state().late)
    }

    /// A descriptor is waited for; on the loop's thread, where it cannot be ready unnoticed.
    pub fn add_wait(&self, wait: WaitId) {
        self.state().waits.push((wait, false));
    }

    /// A descriptor is not waited for any more.
    pub fn remove_wait(&self, wait: WaitId) {
        self.state().waits.retain(|(one, _)| *one != wait);
    }

    /// Whether a descriptor was ready.
    pub fn wait_fired(&self, wait: WaitId) -> bool {
        self.state().waits.contains(&(wait, true))
    }

    /// On the loop's thread, when the core was woken: does what can be done now. True: the request has ended.
    pub fn carry_out(&self, engine: &Engine) -> bool {
        let (questions, mut orders) = {
            let mut state = self.state();
            state.told = false;
            (mem::take(&mut state.questions), mem::take(&mut state.orders))
        };
        questions.into_iter().for_each(|question| question(engine));
        let mut progress = Progress::default();
        while let Some(order) = orders.pop_front() {
            if let Some(rest) = perform(engine, self.core, order, &mut progress) {
                orders.push_front(rest);
                break;
            }
        }
        if progress.ended {
            return true;
        }
        let mut state = self.state();
        // Newer ones may have come meanwhile.
        orders.append(&mut state.orders);
        state.orders = orders;
        state.unsent -= progress.sent;
        state.gone |= progress.gone;
        if state.orders.is_empty() {
            state.attempt =
                state.attempt.take().and_then(|mut attempt| (!attempt(engine)).then_some(attempt));
        }
        for (wait, fired) in &mut state.waits {
            *fired = *fired || engine.wait_fired(*wait);
        }
        state.woken = true;
        drop(state);
        self.bell.notify_all();
        false
    }
}

impl Order {
    /// Bytes that count as unsent.
    pub fn unsent(&self) -> usize {
        match self {
            Order::Body { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// Carries out one order; what is left of it must wait until the core is woken again.
fn perform(engine: &Engine, core: CoreId, order: Order, progress: &mut Progress) -> Option<Order> {
    match order {
        Order::Head { bytes, end } => drop(engine.send_head(core, bytes, end)),
        Order::Interim(bytes) => drop(engine.send_interim(core, bytes)),
        Order::Body { mut bytes, last } => match engine.send(core, &bytes, last) {
            Sent::Part(n) => {
                progress.sent += n;
                bytes.drain(..n);
                return Some(Order::Body { bytes, last });
            }
            sent => {
                progress.sent += bytes.len();
                progress.gone |= sent == Sent::Gone;
            }
        },
        Order::Disconnect(outcome) => engine.disconnect(core, outcome),
        Order::Abort(cause) => engine.abort(core, cause),
        Order::Finish { outcome, failed } => {
            engine.finish(core, outcome, failed);
            progress.ended = true;
        }
    }
    None
}

#[cfg(test)]
mod tests;
