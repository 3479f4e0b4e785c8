//! A request of a native application: its coroutines, what it has read and answered, and how it comes to its end. `host` runs
//! it, `waiting` and `reply` do what its application asks for. The first coroutine is the application's own; others are those
//! that it has spawned.
use super::fiber::Fiber;
use super::reply::Reply;
use super::socket::Socket;
use crate::answer::Cause;
use crate::{CoreId, Outcome, Request};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};

/// Why a request is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its client has left.
    Left,
    /// It takes longer than it may.
    Late,
    /// It is answered; what it has spawned is not needed any more.
    Over,
    /// One of its coroutines has overflowed its stack.
    Overflowed,
}

/// One coroutine.
#[derive(Debug)]
enum Slot {
    Suspended(Fiber),
    Running,
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) core: CoreId,
    pub(super) request: Request,
    /// Bytes of the body that came with the request and were read.
    pub(super) read: Cell<usize>,
    pub(super) reply: RefCell<Reply>,
    pub(super) socket: Socket,
    /// Nearly always there is only the application's own.
    fibers: RefCell<SmallVec<[Slot; 1]>>,
    ending: Cell<Option<Ending>>,
    /// A coroutine is to be resumed in the next turn of the loop.
    has_news: Cell<bool>,
    /// What the application says went wrong.
    pub(super) failure: RefCell<Option<String>>,
    /// How the answer has ended, and whether the request has failed.
    pub(super) outcome: Cell<(Outcome, bool)>,
}

impl Call {
    pub(super) fn new(core: CoreId, request: Request) -> Call {
        Call {
            core,
            request,
            read: Cell::new(0),
            reply: RefCell::default(),
            socket: Socket::default(),
            fibers: RefCell::default(),
            ending: Cell::new(None),
            has_news: Cell::new(false),
            failure: RefCell::default(),
            outcome: Cell::new((Outcome::Cut, true)),
        }
    }

    /// Why the request is to end, if it is: then nothing of it waits any more.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// The request is to end. The first reason counts; false if there was one.
    pub(super) fn end(&self, ending: Ending) -> bool {
        let is_first = self.ending.get().is_none();
        self.ending.set(self.ending.get().or(Some(ending)));
        is_first
    }

    /// A place for a coroutine, which is about to run. None is ever used again, so that a number means one coroutine.
    pub(super) fn reserve(&self) -> usize {
        let mut fibers = self.fibers.borrow_mut();
        fibers.push(Slot::Running);
        fibers.len() - 1
    }

    /// Takes a coroutine that waits, to resume it.
    pub(super) fn take_suspended(&self, number: usize) -> Option<Fiber> {
        let mut fibers = self.fibers.borrow_mut();
        let slot = fibers.get_mut(number).filter(|slot| matches!(slot, Slot::Suspended(_)))?;
        match std::mem::replace(slot, Slot::Running) {
            Slot::Suspended(fiber) => Some(fiber),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// The coroutine waits.
    pub(super) fn put_suspended(&self, number: usize, fiber: Fiber) {
        if let Some(slot) = self.fibers.borrow_mut().get_mut(number) {
            *slot = Slot::Suspended(fiber);
        }
    }

    /// The coroutine has ended.
    pub(super) fn set_over(&self, number: usize) {
        if let Some(slot) = self.fibers.borrow_mut().get_mut(number) {
            *slot = Slot::Over;
        }
        self.set_news();
    }

    /// The coroutine is to begin anew.
    pub(super) fn set_running(&self, number: usize) {
        if let Some(slot) = self.fibers.borrow_mut().get_mut(number) {
            *slot = Slot::Running;
        }
    }

    /// Whether the coroutine has ended; `None`: there is none of that number.
    pub(super) fn is_over(&self, number: usize) -> Option<bool> {
        self.fibers.borrow().get(number).map(|slot| matches!(slot, Slot::Over))
    }

    /// How many coroutines there are, or were.
    pub(super) fn count(&self) -> usize {
        self.fibers.borrow().len()
    }

    /// A coroutine of the request is to be resumed in the next turn.
    pub(super) fn set_news(&self) {
        self.has_news.set(true);
    }

    /// Whether one is, also because another one for which it may wait has ended; asked once.
    pub(super) fn take_news(&self) -> bool {
        self.has_news.take()
    }

    /// Says what went wrong; what was said first is kept.
    pub(super) fn note_failure(&self, why: &str) {
        self.failure.borrow_mut().get_or_insert_with(|| why.to_owned());
    }

    /// What the logs call the request.
    pub(super) fn describe(&self) -> String {
        let head = &self.request.received.head;
        let (method, target) = (head.method(), String::from_utf8_lossy(head.target()));
        let id = head.request_id().map_or_else(|| "-".into(), String::from_utf8_lossy);
        format!("{method} {target} (core {}, request {id})", self.core.index)
    }

    /// Why the request cannot be answered as its application wants; `code` is what that has returned.
    pub(super) fn trouble(&self, code: i32) -> Option<Trouble> {
        match self.ending.get() {
            Some(Ending::Left) => return Some(Trouble::Gone),
            Some(Ending::Late) => return Some(Trouble::Failed(Cause::TimedOut)),
            Some(Ending::Overflowed) => return Some(Trouble::Failed(Cause::Exception)),
            Some(Ending::Over) | None => {}
        }
        (code != 0).then_some(Trouble::Failed(Cause::Exception))
    }
}

/// See [`Call::trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The client is not there any more.
    Gone,
    /// The client is told that it went wrong.
    Failed(Cause),
}
