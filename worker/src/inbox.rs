//! The engine's inbox: how other threads reach the loop. They leave the number of a core to wake and poke the poll; they
//! never touch the engine itself. Only the engine takes things out.
use crate::cores::CoreId;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    wakes: Mutex<Vec<CoreId>>,
    waker: mio::Waker,
}

impl Shared {
    fn wakes(&self) -> MutexGuard<'_, Vec<CoreId>> {
        // Nothing that can panic happens under this lock.
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// An empty inbox; `waker` ends the engine's wait.
    pub fn new(waker: mio::Waker) -> Inbox {
        Inbox { shared: Arc::new(Shared { wakes: Mutex::default(), waker }) }
    }

    /// An end for another thread.
    pub fn remote(&self) -> Remote {
        Remote { shared: Arc::clone(&self.shared) }
    }

    /// Takes everything that was left.
    pub fn take(&self) -> Vec<CoreId> {
        std::mem::take(&mut self.shared.wakes())
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
            let mut wakes = self.shared.wakes();
            wakes.push(core);
            wakes.len() == 1
        };
        // Whoever came before us has poked already, and the engine takes all at once.
        if first { self.shared.waker.wake() } else { Ok(()) }
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
}
