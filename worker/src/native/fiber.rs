//! Coroutines with stacks of their own: the only place that switches stacks. A [`Fiber`] runs a function until it
//! [suspends](suspend) or returns; stacks are pooled, and a guard page lies below each. What happens when one overflows is in
//! `overflow`.
//!
//! Rules: a fiber is resumed and suspended on the loop's thread only; nothing suspends while it unwinds; nothing borrowed from
//! the engine, or from a `RefCell`, is held across [`suspend`]. A fiber that is told to end is resumed and returns: it is never
//! dropped in the middle, because foreign code on its stack cannot be unwound from here.
#![expect(unsafe_code, reason = "a suspended function is reached by the address of its stack")]

use corosensei::stack::DefaultStack;
use corosensei::trap::CoroutineTrapHandler;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::Cell;
use std::io;
use std::ptr;

/// How the function of a fiber has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Returned,
    /// It needed more stack than it has; nothing on the stack was dropped.
    Overflowed,
}

/// What a fiber did when it was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits.
    Suspended,
    /// It is over.
    Ended(End),
}

/// What is known of the fiber that runs.
#[derive(Clone, Copy)]
pub(super) struct Running {
    yielder: *const Yielder<(), ()>,
    pub(super) trap: CoroutineTrapHandler<End>,
}

thread_local! {
    static RUNNING: Cell<Option<Running>> = const { Cell::new(None) };
}

/// The fiber that runs on this thread.
pub(super) fn running() -> Option<Running> {
    RUNNING.get()
}

/// A function on a stack of its own.
pub struct Fiber {
    coroutine: Coroutine<(), (), End, DefaultStack>,
    yielder: *const Yielder<(), ()>,
}

impl std::fmt::Debug for Fiber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fiber").field("is_over", &self.coroutine.done()).finish_non_exhaustive()
    }
}

impl Fiber {
    /// A fiber that has not begun. `run` must not unwind.
    pub fn new(stack: DefaultStack, run: impl FnOnce() + 'static) -> Fiber {
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
            let yielder = ptr::from_ref(yielder);
            RUNNING.set(RUNNING.get().map(|running| Running { yielder, ..running }));
            run();
            End::Returned
        });
        Fiber { coroutine, yielder: ptr::null() }
    }

    /// Runs it until it suspends or ends. It must not be over.
    pub fn resume(&mut self) -> Step {
        let me = Running { yielder: self.yielder, trap: self.coroutine.trap_handler() };
        let before = RUNNING.replace(Some(me));
        let result = self.coroutine.resume(());
        if let Some(me) = RUNNING.replace(before) {
            self.yielder = me.yielder;
        }
        match result {
            CoroutineResult::Yield(()) => Step::Suspended,
            CoroutineResult::Return(end) => Step::Ended(end),
        }
    }

    /// The stack of a fiber that is over.
    pub fn into_stack(self) -> DefaultStack {
        self.coroutine.into_stack()
    }
}

/// Gives the thread back to whoever has resumed the running fiber, until it is resumed again. False if no fiber runs here, or
/// it unwinds: then nothing was done.
pub fn suspend() -> bool {
    let Some(me) = RUNNING.get().filter(|_| !std::thread::panicking()) else { return false };
    // SAFETY: the yielder lies on the stack of the fiber that runs, which is the one that calls this.
    unsafe { (*me.yielder).suspend(()) };
    true
}

/// Whether the running fiber has so many bytes of its stack left; true where none runs.
pub fn has_room(bytes: usize) -> bool {
    let here = 0u8;
    let below = (&raw const here).addr().saturating_sub(bytes);
    RUNNING.get().is_none_or(|me| me.trap.stack_ptr_in_bounds(below))
}

/// Stacks that no fiber uses now.
pub struct Stacks {
    free: Vec<DefaultStack>,
    size: usize,
    most: usize,
}

impl std::fmt::Debug for Stacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stacks")
            .field("free", &self.free.len())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Stacks {
    /// Stacks of `size` bytes, of which at most `most` are kept.
    pub fn new(size: usize, most: usize) -> Stacks {
        Stacks { free: Vec::new(), size, most }
    }

    /// A stack, the one used last if there is one.
    pub fn take(&mut self) -> io::Result<DefaultStack> {
        self.free.pop().map_or_else(|| DefaultStack::new(self.size), Ok)
    }

    /// Keeps a stack for the next fiber.
    pub fn put(&mut self, stack: DefaultStack) {
        if self.free.len() < self.most {
            self.free.push(stack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn stack() -> DefaultStack {
        DefaultStack::new(64 * 1024).unwrap()
    }

    #[test]
    fn a_fiber_goes_on_where_it_has_suspended() {
        let said = Rc::new(Cell::new(0));
        let mut fiber = Fiber::new(stack(), {
            let said = Rc::clone(&said);
            move || {
                said.set(1);
                assert!(suspend());
                said.set(2);
            }
        });
        assert_eq!((fiber.resume(), said.get()), (Step::Suspended, 1));
        assert_eq!((fiber.resume(), said.get()), (Step::Ended(End::Returned), 2));
        assert!(!suspend(), "here is no fiber");
    }

    #[test]
    fn a_fiber_may_run_another_one() {
        let mut fiber = Fiber::new(stack(), || {
            let mut inner = Fiber::new(stack(), || assert!(suspend()));
            assert_eq!(inner.resume(), Step::Suspended);
            assert!(suspend(), "the outer one suspends itself");
            assert_eq!(inner.resume(), Step::Ended(End::Returned));
        });
        assert_eq!(fiber.resume(), Step::Suspended);
        assert_eq!(fiber.resume(), Step::Ended(End::Returned));
    }

    #[test]
    fn stacks_are_used_again() {
        let mut stacks = Stacks::new(64 * 1024, 1);
        let (one, other) = (stacks.take().unwrap(), stacks.take().unwrap());
        stacks.put(one);
        stacks.put(other);
        assert_eq!(stacks.free.len(), 1);
        stacks.take().unwrap();
        assert_eq!(stacks.free.len(), 0);
    }
}
