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

/// The place of the application's own coroutine, which no other one has.
pub(super) const FIRST: usize = 0;

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

/// Most coroutines that a request has at once. Linux lets a process have 65,530 memory mappings (`vm.max_map_count`), each stack
/// takes two, and a request is to leave some for the others.
const MOST_FIBERS: usize = 4096;

/// Means one coroutine of a request for good, although its place is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// Where it is among those of its request.
    pub(super) place: usize,
    /// How many have had this place before; less than 2³¹.
    turn: u32,
}

/// A place for a coroutine.
#[derive(Debug)]
struct Slot {
    turn: u32,
    state: State,
    /// Whose end it waits for.
    joins: Option<Number>,
}

#[derive(Debug)]
enum State {
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
    /// Places whose coroutines are over, but for the application's own.
    free: RefCell<Vec<usize>>,
    /// The place of the coroutine that runs.
    running: Cell<usize>,
    ending: Cell<Option<Ending>>,
    /// A coroutine is to be resumed in the next turn of the loop.
    has_news: Cell<bool>,
    /// What it has read and sent since the loop last had its turn.
    pub(super) steps: Cell<u32>,
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
            free: RefCell::default(),
            running: Cell::new(FIRST),
            ending: Cell::new(None),
            has_news: Cell::new(false),
            steps: Cell::new(0),
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

    /// A place for a coroutine, which is about to run; none if there are too many.
    pub(super) fn reserve(&self) -> Option<Number> {
        let mut fibers = self.fibers.borrow_mut();
        if let Some(place) = self.free.borrow_mut().pop() {
            let slot = &mut fibers[place];
            slot.turn = (slot.turn + 1) & i32::MAX.cast_unsigned();
            (slot.state, slot.joins) = (State::Running, None);
            return Some(Number { place, turn: slot.turn });
        }
        let place = fibers.len();
        if place >= MOST_FIBERS {
            return None;
        }
        fibers.push(Slot { turn: 0, state: State::Running, joins: None });
        Some(Number { place, turn: 0 })
    }

    /// Takes a coroutine that waits, to resume it.
    pub(super) fn take_suspended(&self, place: usize) -> Option<Fiber> {
        let mut fibers = self.fibers.borrow_mut();
        let slot = fibers.get_mut(place).filter(|slot| matches!(slot.state, State::Suspended(_)))?;
        match std::mem::replace(&mut slot.state, State::Running) {
            State::Suspended(fiber) => Some(fiber),
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// The coroutine waits.
    pub(super) fn put_suspended(&self, place: usize, fiber: Fiber) {
        self.set_state(place, State::Suspended(fiber));
    }

    /// The coroutine has ended, and its place can be used again.
    pub(super) fn set_over(&self, place: usize) {
        self.set_state(place, State::Over);
        if place != FIRST {
            self.free.borrow_mut().push(place);
        }
        self.set_news();
    }

    /// The application's own coroutine is to begin anew.
    pub(super) fn begin_anew(&self) {
        self.set_state(FIRST, State::Running);
    }

    fn set_state(&self, place: usize, state: State) {
        if let Some(slot) = self.fibers.borrow_mut().get_mut(place) {
            slot.state = state;
        }
    }

    /// The coroutine at this place runs now; the one that ran before.
    pub(super) fn set_running(&self, place: usize) -> usize {
        self.running.replace(place)
    }

    /// Whether the application's own coroutine has ended.
    pub(super) fn is_first_over(&self) -> bool {
        self.fibers.borrow().first().is_some_and(|slot| matches!(slot.state, State::Over))
    }

    /// Whether the coroutine has ended; `None`: there is none of that number.
    pub(super) fn is_over(&self, Number { place, turn }: Number) -> Option<bool> {
        let fibers = self.fibers.borrow();
        let slot = fibers.get(place).filter(|slot| turn <= slot.turn)?;
        Some(turn < slot.turn || matches!(slot.state, State::Over))
    }

    /// The running coroutine waits for the end of another one from now on, or for none any more. False if that one waits for the
    /// running one, directly or not: neither would ever end.
    pub(super) fn set_joining(&self, joins: Option<Number>) -> bool {
        let mut fibers = self.fibers.borrow_mut();
        let place = self.running.get();
        let Some(turn) = fibers.get(place).map(|slot| slot.turn) else { return true };
        let mut next = joins;
        // Nobody begins to wait in a circle, so each step leads to another coroutine.
        while let Some(number) = next {
            if number == (Number { place, turn }) {
                return false;
            }
            let waiting = fibers.get(number.place).filter(|slot| slot.turn == number.turn);
            next = waiting.and_then(|slot| slot.joins);
        }
        fibers[place].joins = joins;
        true
    }

    /// How many places of coroutines there are.
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

    /// The application says what went wrong. What was noted before may be the cause, or it may have been forgiven.
    pub(super) fn fail(&self, why: &str) {
        let mut failure = self.failure.borrow_mut();
        let before = failure.take().filter(|before| before != why);
        *failure =
            Some(before.map_or_else(|| why.to_owned(), |before| format!("{why}; before that: {before}")));
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

impl Number {
    /// As the interface has it; not negative.
    pub(super) fn to_interface(self) -> i64 {
        i64::from(self.turn) << 32 | self.place as i64
    }

    /// Of what the interface has; `None` for less than 0.
    pub(super) fn of_interface(number: i64) -> Option<Number> {
        let turn = u32::try_from(number >> 32).ok()?;
        // What is cut off is the turn.
        Some(Number { place: number as u32 as usize, turn })
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
