//! One number in the memory that all workers share, and the order in which its changes are seen. A table is made of nothing
//! else, so a process that writes garbage can lead another one to a wrong number, and never to a wrong pointer.
//!
//! Whoever dies leaves the numbers that it stored before, and none that it would have stored after; [`Word::publish`] is
//! what the others may build on.
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence, fence};

/// A number that other processes see too.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// The number.
    pub fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The number, with all that was stored before it was published.
    pub fn acquire(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Changes it.
    pub fn store(&self, number: u64) {
        step();
        self.0.store(number, Ordering::Relaxed);
    }

    /// Changes it, after all that was stored before.
    pub fn publish(&self, number: u64) {
        step();
        self.0.store(number, Ordering::Release);
    }

    /// Counts in it, beside others who do.
    pub fn count(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// Between the stores that take something from readers and those that make something else of it: who sees one of these later
/// ones sees the earlier ones, if it looks [again](look_again).
pub fn taken_away() {
    fence(Ordering::Release);
}

/// Between what was read and the second look whether it was still valid then.
pub fn look_again() {
    fence(Ordering::Acquire);
}

/// Between a mark that only a successor of this process reads, and the stores that it is about.
pub fn marked() {
    compiler_fence(Ordering::SeqCst);
}

#[cfg(not(test))]
fn step() {}

#[cfg(test)]
use death::step;

#[cfg(test)]
pub mod death {
    //! A process that is killed between two stores, as a panic of the thread that was to make the second one.
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(super) fn step() {
        match LEFT.get() {
            Some(0) => {
                LEFT.set(None);
                std::panic::resume_unwind(Box::new("killed"));
            }
            left => LEFT.set(left.map(|left| left - 1)),
        }
    }

    /// Does something, but only for so many stores; false if that was too few.
    pub fn after(stores: u64, work: impl FnOnce()) -> bool {
        LEFT.set(Some(stores));
        let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        LEFT.set(None);
        lived
    }
}
