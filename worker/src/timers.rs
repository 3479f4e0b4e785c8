//! Deadlines of the engine: a heap that knows what to wake and when. Called by the engine and by what runs on it; never
//! reads the clock itself.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

/// Cancelled entries that the heap may carry before it is rebuilt without them.
const SLACK: usize = 64;

/// Names one timer; never used again after it fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(u64);

/// Deadlines with a payload each, earliest first; equal deadlines fire in the order they were added.
#[derive(Debug)]
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<(Instant, TimerId)>>,
    live: HashMap<TimerId, T>,
    next: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { heap: BinaryHeap::new(), live: HashMap::new(), next: 0 }
    }
}

impl<T> Timers<T> {
    /// Fires `payload` at `when` or soon after.
    pub fn add(&mut self, when: Instant, payload: T) -> TimerId {
        let id = TimerId(self.next);
        self.next += 1;
        self.live.insert(id, payload);
        self.heap.push(Reverse((when, id)));
        id
    }

    /// Takes a timer back; `None` if it has fired already.
    pub fn cancel(&mut self, id: TimerId) -> Option<T> {
        let payload = self.live.remove(&id);
        if self.heap.len() > 2 * self.live.len() + SLACK {
            let live = &self.live;
            self.heap.retain(|Reverse((_, id))| live.contains_key(id));
        }
        payload
    }

    /// The nearest deadline, if there is one.
    pub fn nearest(&mut self) -> Option<Instant> {
        while let Some(&Reverse((when, id))) = self.heap.peek() {
            if self.live.contains_key(&id) {
                return Some(when);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes the next payload whose deadline is not after `now`.
    pub fn take_due(&mut self, now: Instant) -> Option<T> {
        while let Some(&Reverse((when, id))) = self.heap.peek() {
            if !self.live.contains_key(&id) {
                self.heap.pop();
                continue;
            }
            if when > now {
                return None;
            }
            self.heap.pop();
            return self.live.remove(&id);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(base: Instant, ms: u64) -> Instant {
        base + Duration::from_millis(ms)
    }

    #[test]
    fn fires_in_order_of_deadline_then_of_arrival() {
        let (mut timers, t) = (Timers::default(), Instant::now());
        timers.add(at(t, 20), "late");
        timers.add(at(t, 10), "first");
        timers.add(at(t, 10), "second");
        assert_eq!(timers.take_due(t), None);
        assert_eq!(timers.nearest(), Some(at(t, 10)));
        let fired: Vec<_> = std::iter::from_fn(|| timers.take_due(at(t, 20))).collect();
        assert_eq!(fired, ["first", "second", "late"]);
        assert_eq!(timers.nearest(), None);
    }

    #[test]
    fn a_cancelled_timer_never_fires() {
        let (mut timers, t) = (Timers::default(), Instant::now());
        let id = timers.add(t, 1);
        assert_eq!(timers.cancel(id), Some(1));
        assert_eq!(timers.cancel(id), None);
        assert_eq!((timers.nearest(), timers.take_due(at(t, 1))), (None, None));
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let (mut timers, t) = (Timers::default(), Instant::now());
        for _ in 0..10_000 {
            let id = timers.add(at(t, 60_000), ());
            timers.cancel(id);
        }
        assert!(timers.heap.len() <= SLACK + 1, "{} entries left", timers.heap.len());
    }
}
