//! The requests that wait for a worker, first come, first served, over all threads of the proxy. `workers.rs` lets requests in
//! and looks at the workers for whoever is first; all others sleep until it is their turn, so that a thousand of them cost no
//! more than one. It must never know what they wait for.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;

/// The first one looks again after this time, though nobody has said that something has changed: a worker that comes back from
/// its fork says it on the board only.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A request's number in the order of arrival.
pub(crate) type Ticket = u64;

/// See the module.
pub(crate) struct Queue {
    /// How many may wait.
    most: usize,
    waiting: Mutex<BTreeMap<Ticket, Arc<Notify>>>,
    /// How many do, for those who ask without the lock.
    length: AtomicUsize,
    dequeued: AtomicU64,
    waited_us: AtomicU64,
}

/// A request's place in the queue; given up when dropped.
pub(crate) struct Place<'a> {
    queue: &'a Queue,
    ticket: Ticket,
    turn: Arc<Notify>,
    since: Instant,
}

impl Queue {
    /// `most`: `limits.queue`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            waiting: Mutex::default(),
            length: AtomicUsize::new(0),
            dequeued: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
        }
    }

    /// Requests that wait.
    pub(crate) fn length(&self) -> usize {
        self.length.load(Relaxed)
    }

    /// How many may wait.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Requests that have waited and do not any more, and the microseconds that they have waited together.
    pub(crate) fn served(&self) -> (u64, u64) {
        (self.dequeued.load(Relaxed), self.waited_us.load(Relaxed))
    }

    /// A place behind everybody who came before; `None`: it is full. A request that `was_admitted` before comes back to where
    /// it would be, also if it is full: there are no more of those than there are cores.
    pub(crate) fn enter(&self, ticket: Ticket, was_admitted: bool) -> Option<Place<'_>> {
        let turn = Arc::new(Notify::new());
        let mut waiting = self.waiting();
        if waiting.len() >= self.most && !was_admitted {
            return None;
        }
        waiting.insert(ticket, turn.clone());
        self.length.store(waiting.len(), Relaxed);
        Some(Place { queue: self, ticket, turn, since: Instant::now() })
    }

    /// There may be room for the first one.
    pub(crate) fn wake_first(&self) {
        if self.length() > 0
            && let Some(first) = self.waiting().first_entry()
        {
            first.get().notify_one();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Ticket, Arc<Notify>>> {
        // Nothing under this lock panics half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Whether nobody came before.
    pub(crate) fn is_first(&self) -> bool {
        self.queue.waiting().first_key_value().is_some_and(|(first, _)| *first == self.ticket)
    }

    /// Waits until the first one should look at the workers again, or until this one may be the first.
    pub(crate) async fn next_look(&self) {
        if self.is_first() {
            // Either will do.
            let _ = timeout(LOOK_AGAIN, self.turn.notified()).await;
        } else {
            self.turn.notified().await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waited = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.queue.dequeued.fetch_add(1, Relaxed);
        self.queue.waited_us.fetch_add(waited, Relaxed);
        let mut waiting = self.queue.waiting();
        // In one step with leaving: of two that leave at once, one must see that it was the first.
        let was_first = waiting.first_key_value().is_some_and(|(first, _)| *first == self.ticket);
        waiting.remove(&self.ticket);
        self.queue.length.store(waiting.len(), Relaxed);
        if was_first && let Some(next) = waiting.first_entry() {
            next.get().notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn is_awake(look: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        look.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn whoever_came_first_is_first() {
        let queue = Queue::new(9);
        let second = queue.enter(2, false).unwrap();
        assert!(second.is_first());
        let first = queue.enter(1, false).unwrap();
        let third = queue.enter(3, false).unwrap();
        assert_eq!([&first, &second, &third].map(Place::is_first), [true, false, false]);
        drop(first);
        assert!(second.is_first());
        drop(second);
        assert!(third.is_first());
    }

    #[test]
    fn it_has_an_end() {
        let queue = Queue::new(1);
        let one = queue.enter(1, false).unwrap();
        assert!(queue.enter(2, false).is_none());
        let back = queue.enter(0, true);
        assert!(back.is_some_and(|place| place.is_first()), "one that had been admitted comes back");
        drop(one);
        assert_eq!((queue.length(), queue.served().0), (0, 2));
        assert!(queue.enter(3, false).is_some());
    }

    #[test]
    fn only_the_first_one_is_woken() {
        let queue = Queue::new(9);
        let (first, second) = (queue.enter(1, false).unwrap(), queue.enter(2, false).unwrap());
        let mut second_look = std::pin::pin!(second.next_look());
        assert!(!is_awake(second_look.as_mut()));
        queue.wake_first();
        assert!(!is_awake(second_look.as_mut()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(first.next_look());
        drop(first);
        assert!(is_awake(second_look.as_mut()), "it is the first now");
    }

    #[test]
    fn whoever_is_left_is_woken_though_many_leave_at_once() {
        let queue = Queue::new(usize::MAX);
        for round in 0..200 {
            let others: Vec<_> = (0..8).filter_map(|number| queue.enter(number, false)).collect();
            let last = queue.enter(8, false).unwrap();
            let mut look = std::pin::pin!(last.next_look());
            assert!(!is_awake(look.as_mut()));
            std::thread::scope(|scope| {
                others.into_iter().for_each(|other| drop(scope.spawn(|| drop(other))))
            });
            assert!(is_awake(look.as_mut()), "round {round}");
        }
    }
}
