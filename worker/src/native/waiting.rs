//! How a request of a native application waits: its coroutine suspends, the engine wakes the request's core, and every
//! coroutine of the request looks again at what it waits for. A request that is to end does not wait any more: whatever it
//! waits in says so at once (`ECANCELED`).
use super::call::{Call, Number};
use super::fiber;
use super::host::Native;
use super::stacks::Wait;
use crate::suspend::Suspend;
use crate::{BodyRead, Interest};
use nix::errno::Errno;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Instant;

/// Pieces of bodies and messages that a request may read and send before the loop has its turn, if it need not wait for any.
const STEPS_PER_TURN: u32 = 64;

/// The coroutine that runs on this thread, and its request.
#[derive(Clone, Debug)]
pub struct Here {
    pub(super) native: Rc<Native>,
    pub(super) call: Rc<Call>,
}

impl Here {
    /// An error (`EPERM`) where no coroutine runs: on any other thread, and on the loop itself.
    pub fn current() -> Result<Here, Errno> {
        Native::current().ok_or(Errno::EPERM)
    }

    /// Suspends the coroutine until its request is woken, for whatever reason.
    pub(super) fn park(&self, wait: Wait) -> Result<(), Errno> {
        self.may_go_on()?;
        self.call.steps.set(0);
        let roll = self.native.engine.roll();
        roll.set_mark(self.call.core, wait.mark());
        if !fiber::suspend() {
            return Err(Errno::EDEADLK);
        }
        roll.set_mark(self.call.core, Wait::Nothing.mark());
        self.may_go_on()
    }

    fn may_go_on(&self) -> Result<(), Errno> {
        if self.call.ending().is_some() { Err(Errno::ECANCELED) } else { Ok(()) }
    }

    /// Gives the loop back for one turn.
    pub(super) fn turn(&self) -> Result<(), Errno> {
        self.call.set_news();
        self.park(Wait::Nothing)
    }

    /// Before a piece or a message: gives the loop back if this request has had many of them without waiting.
    pub(super) fn take_turn(&self) -> Result<(), Errno> {
        let steps = self.call.steps.get() + 1;
        self.call.steps.set(steps);
        if steps < STEPS_PER_TURN { Ok(()) } else { self.turn() }
    }

    /// Waits until then, for one turn of the loop at least.
    pub(super) fn sleep(&self, when: Instant) -> Result<(), Errno> {
        if when <= Instant::now() {
            return self.turn();
        }
        self.with_timer(Some(when), || {
            while Instant::now() < when {
                self.park(Wait::Time)?;
            }
            self.may_go_on()
        })
    }

    /// Waits until a descriptor is ready; false if `deadline` has passed before.
    pub(super) fn fd(&self, fd: RawFd, interest: Interest, deadline: Option<Instant>) -> Result<bool, Errno> {
        self.may_go_on()?;
        let (engine, core) = (&self.native.engine, self.call.core);
        let raw = |error: io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        let wait = match engine.wake_on_fd(core, fd, interest).map_err(raw) {
            // A regular file is always ready.
            Err(Errno::EPERM) => return Ok(true),
            other => other?,
        };
        let ready = self.with_timer(deadline, || {
            while !engine.wait_fired(wait) {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Ok(false);
                }
                self.park(Wait::Fd { fd, is_read: interest.is_readable() })?;
            }
            Ok(true)
        });
        engine.cancel_wait(wait);
        ready
    }

    pub(super) fn with_timer<T>(&self, when: Option<Instant>, wait: impl FnOnce() -> T) -> T {
        let engine = &self.native.engine;
        let timer = when.map(|when| engine.wake_at(self.call.core, when));
        let result = wait();
        if let Some(timer) = timer {
            engine.cancel_timer(timer);
        }
        result
    }

    /// Waits until the client has taken some of what was sent.
    pub(super) fn room(&self) -> Result<(), Errno> {
        self.park(Wait::Room)
    }

    /// Waits until a coroutine of this request has ended.
    pub(super) fn join(&self, number: Number) -> Result<(), Errno> {
        if !self.call.set_joining(Some(number)) {
            return Err(Errno::EDEADLK);
        }
        let joined = self.end_of(number);
        self.call.set_joining(None);
        joined
    }

    fn end_of(&self, number: Number) -> Result<(), Errno> {
        while !self.call.is_over(number).ok_or(Errno::ESRCH)? {
            self.park(Wait::Coroutine)?;
        }
        Ok(())
    }

    /// Waits until `is_done`, for which another thread wakes this request's core.
    pub(super) fn done(&self, is_done: impl Fn() -> bool) -> Result<(), Errno> {
        while !is_done() {
            self.park(Wait::Thread)?;
        }
        Ok(())
    }

    /// Reads on in the body of the request, at most `most` bytes; none at its end.
    pub(super) fn body(&self, most: usize) -> Result<Vec<u8>, Errno> {
        let received = &self.call.request.received;
        let first = &received.body[self.call.read.get()..];
        if !first.is_empty() || received.complete || most == 0 {
            let taken = first[..first.len().min(most)].to_vec();
            self.call.read.set(self.call.read.get() + taken.len());
            return Ok(taken);
        }
        self.take_turn()?;
        let mut bytes = Vec::new();
        loop {
            match self.native.engine.read_body(self.call.core, &mut bytes, most) {
                BodyRead::Data | BodyRead::End => return Ok(bytes),
                BodyRead::Wait => self.park(Wait::Body)?,
                BodyRead::Cut(why) => {
                    self.call.note_failure(why);
                    return Err(Errno::ECONNRESET);
                }
            }
        }
    }
}

impl Suspend for Here {
    fn ready(&self, fd: RawFd, interest: Interest, deadline: Option<Instant>) -> io::Result<bool> {
        Ok(self.fd(fd, interest, deadline)?)
    }

    fn sleep_until(&self, when: Instant) -> io::Result<()> {
        Ok(self.sleep(when)?)
    }
}
