//! The engine's inbox: how other threads reach the loop. They leave the number of a core to wake, or an errand, and poke the
//! poll; they never touch the engine itself. Only the engine takes things out.
use crate::cores::CoreId;
use crate::errand::Errand;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Errands that may lie there; the loop takes them in its next turn, so only one that stands still leaves so many.
const MOST_ERRANDS: usize = 1024;

/// The engine's end.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

/// The end of everybody else; may be cloned and sent to any thread, and outlive the engine.
#[derive(Clone, Debug)]
pub struct Remote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    left: Mutex<Left>,
    waker: mio::Waker,
}

/// What lies in the inbox.
#[derive(Debug, Default)]
struct Left {
    wakes: Vec<CoreId>,
    errands: Vec<Errand>,
    /// The engine takes nothing any more.
    is_closed: bool,
}

impl Shared {
    fn left(&self) -> MutexGuard<'_, Left> {
        // Nothing that can panic happens under this lock.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// An empty inbox; `waker` ends the engine's wait.
    pub fn new(waker: mio::Waker) -> Inbox {
        Inbox { shared: Arc::new(Shared { left: Mutex::default(), waker }) }
    }

    /// An end for another thread.
    pub fn remote(&self) -> Remote {
        Remote { shared: Arc::clone(&self.shared) }
    }

    /// Takes the cores that are to be woken.
    pub fn take(&self) -> Vec<CoreId> {
        std::mem::take(&mut self.shared.left().wakes)
    }

    /// Takes the errands that were left.
    pub fn take_errands(&self) -> Vec<Errand> {
        std::mem::take(&mut self.shared.left().errands)
    }

    /// Whether there are errands to take.
    pub fn has_errands(&self) -> bool {
        !self.shared.left().errands.is_empty()
    }

    /// Nothing is taken any more: errands that come now are given back.
    pub fn close(&self) {
        self.shared.left().is_closed = true;
        // They may call whoever waits for them, so not under the lock.
        drop(self.take_errands());
    }
}

impl Remote {
    /// Ends the loop's wait, so that it looks around.
    pub fn poke(&self) -> io::Result<()> {
        self.shared.waker.wake()
    }

    /// Wakes a core. A core that is not parked, or serves another request by now, is left alone.
    pub fn wake(&self, core: CoreId) -> io::Result<()> {
        let first = {
            let mut left = self.shared.left();
            left.wakes.push(core);
            left.wakes.len() == 1
        };
        // Whoever came before us has poked already, and the engine takes all of them at once.
        if first { self.shared.waker.wake() } else { Ok(()) }
    }

    /// Has an errand run on the loop's cores. It is given back if the loop takes none any more, or not as fast as they come.
    pub fn run_errand(&self, errand: Errand) -> Result<(), Errand> {
        let mut left = self.shared.left();
        if left.is_closed || left.errands.len() >= MOST_ERRANDS {
            return Err(errand);
        }
        left.errands.push(errand);
        let first = left.errands.len() == 1;
        drop(left);
        if first && let Err(error) = self.shared.waker.wake() {
            tracing::error!(%error, "a thread cannot wake the loop");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::Cores;
    use crate::reactor::{Reactor, Source};
    use std::time::Duration;

    #[test]
    fn another_thread_ends_the_wait_and_leaves_a_core() {
        let mut reactor = Reactor::new().unwrap();
        let inbox = Inbox::new(reactor.waker().unwrap());
        let core = Cores::<()>::new(1).claim().unwrap();
        let remote = inbox.remote();
        let thread = std::thread::spawn(move || remote.wake(core).unwrap());
        let mut events = Vec::new();
        reactor.poll(Some(Duration::from_secs(10))).unwrap();
        reactor.take_events(&mut events);
        thread.join().unwrap();
        assert_eq!(events.iter().map(|event| event.source).collect::<Vec<_>>(), [Source::Inbox]);
        assert_eq!(inbox.take(), [core]);
        assert_eq!(inbox.take(), []);
    }

    #[test]
    fn errands_are_taken_in_order_and_given_back_when_there_are_too_many_or_nobody_takes_them() {
        let reactor = Reactor::new().unwrap();
        let inbox = Inbox::new(reactor.waker().unwrap());
        let remote = inbox.remote();
        let errand = |n: usize| Errand::Host { kind: "TASK", name: n.to_string(), work: Box::new(()) };
        assert!((0..MOST_ERRANDS).all(|n| remote.run_errand(errand(n)).is_ok()));
        assert!(remote.run_errand(errand(0)).is_err(), "there are too many");
        let taken = inbox.take_errands();
        assert_eq!(taken.len(), MOST_ERRANDS);
        assert_eq!((taken[0].name(), taken[1].name()), ("0".to_owned(), "1".to_owned()));
        inbox.close();
        assert!(remote.run_errand(errand(0)).is_err(), "nobody takes it");
    }
}
