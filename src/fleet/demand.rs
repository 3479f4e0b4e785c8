//! From what the workers have to do to whether there should be more or fewer of them. Growth is quick, because somebody waits;
//! shrinking is slow, because nobody does, and between the two lies a wide band in which nothing changes.
use super::event::Queue;
use std::time::{Duration, Instant};

/// Weight of one look, a second's worth, in the smoothed occupancy: four full ones in a row ask for growth, one does not.
const WEIGHT: f64 = 0.3;
/// Occupancy above which there should be more workers.
const BUSY: f64 = 0.75;
/// Occupancy of the others below which one worker is not needed: much less than [`BUSY`], so that the next one to come would
/// not bring it back at once.
const CALM: f64 = 0.5;
/// Average time in the proxies' queue at which requests count as waiting.
const QUEUED: Duration = Duration::from_millis(50);
/// A new worker needs time to show what it changes.
const AFTER_GROWTH: Duration = Duration::from_secs(3);
/// So long there must be less to do before a worker goes, each time.
const CALM_FOR: Duration = Duration::from_secs(60);

/// What all workers together have to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// How many there are.
    pub workers: u32,
    /// Requests that they can run at once.
    pub cores: u32,
    /// Requests that they run.
    pub busy: u32,
    /// Requests that wait for a core.
    pub waiting: u32,
    /// Whether the one that would go first has nothing to do.
    pub is_last_idle: bool,
}

/// What should change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wish {
    Stay,
    Grow,
    Shrink,
}

/// The load of the last while.
#[derive(Debug, Default)]
pub(super) struct Demand {
    occupancy: f64,
    queue: Queue,
    calm_since: Option<Instant>,
    grown: Option<Instant>,
}

impl Demand {
    /// Takes what was seen now, once a second, and answers what should change; the caller does it.
    pub(super) fn decide(&mut self, seen: Seen, queue: Queue, now: Instant) -> Wish {
        let waits = seen.waiting > 0 || queue.waits_since(&self.queue) >= QUEUED;
        self.queue = queue;
        let occupancy = if waits { 1.0 } else { f64::from(seen.busy) / f64::from(seen.cores.max(1)) };
        self.occupancy += (occupancy - self.occupancy) * WEIGHT;
        if self.occupancy >= BUSY {
            self.calm_since = None;
            let rests = self.grown.is_some_and(|grown| now < grown + AFTER_GROWTH);
            return if rests { Wish::Stay } else { self.grow(now) };
        }
        let others = f64::from(seen.workers.saturating_sub(1));
        if self.occupancy * f64::from(seen.workers) >= CALM * others {
            self.calm_since = None;
            return Wish::Stay;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now < since + CALM_FOR || !seen.is_last_idle {
            return Wish::Stay;
        }
        self.calm_since = None;
        Wish::Shrink
    }

    fn grow(&mut self, now: Instant) -> Wish {
        self.grown = Some(now);
        Wish::Grow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays loads against the policy; what it wishes comes true at once.
    struct Play {
        demand: Demand,
        now: Instant,
        workers: u32,
    }

    impl Play {
        fn new(workers: u32) -> Play {
            Play { demand: Demand::default(), now: Instant::now(), workers }
        }

        /// So many requests at once, spread over workers of ten cores, for so many seconds; how many workers there are then.
        fn load(&mut self, requests: u32, seconds: u32) -> u32 {
            for _ in 0..seconds {
                let cores = self.workers * 10;
                let seen = Seen {
                    workers: self.workers,
                    cores,
                    busy: requests.min(cores),
                    waiting: requests.saturating_sub(cores),
                    is_last_idle: requests < cores - 10,
                };
                self.take(seen, Queue::default());
            }
            self.workers
        }

        fn take(&mut self, seen: Seen, queue: Queue) {
            self.now += Duration::from_secs(1);
            match self.demand.decide(seen, queue, self.now) {
                Wish::Stay => {}
                Wish::Grow => self.workers += 1,
                Wish::Shrink => self.workers -= 1,
            }
        }
    }

    #[test]
    fn a_load_that_lasts_brings_workers_until_there_are_enough() {
        let mut play = Play::new(1);
        assert_eq!(play.load(25, 60), 4, "25 requests keep 4 workers of 10 cores at 62 %");
        assert_eq!(play.load(25, 3600), 4, "and it stays so");
    }

    #[test]
    fn a_moment_of_load_brings_nobody() {
        let mut play = Play::new(1);
        for _ in 0..20 {
            play.load(10, 2);
            assert_eq!(play.load(0, 10), 1);
        }
    }

    #[test]
    fn after_the_load_they_go_one_by_one_each_after_a_calm_minute() {
        let mut play = Play::new(4);
        assert_eq!(play.load(0, 60), 4);
        assert_eq!(play.load(0, 2), 3);
        assert_eq!(play.load(0, 58), 3);
        assert_eq!(play.load(0, 180), 1);
        assert_eq!(play.load(0, 3600), 1, "the last one is needed");
    }

    #[test]
    fn a_load_at_the_edge_does_not_swing() {
        for requests in 1..40 {
            let mut play = Play::new(4);
            let settled = play.load(requests, 600);
            assert_eq!(play.load(requests, 3600), settled, "{requests} requests");
        }
    }

    #[test]
    fn a_worker_with_a_request_is_not_sent_away() {
        let mut play = Play::new(2);
        let seen = Seen { workers: 2, cores: 20, busy: 1, waiting: 0, is_last_idle: false };
        (0..300).for_each(|_| play.take(seen, Queue::default()));
        assert_eq!(play.workers, 2);
        play.take(Seen { is_last_idle: true, ..seen }, Queue::default());
        assert_eq!(play.workers, 1);
    }

    #[test]
    fn requests_that_wait_in_the_proxies_ask_for_workers_too() {
        let mut play = Play::new(1);
        let seen = Seen { workers: 1, cores: 10, busy: 2, waiting: 0, is_last_idle: false };
        for look in 1..=5 {
            let waited = Duration::from_millis(80) * 10 * look;
            play.take(seen, Queue { queued: 0, dequeued: 10 * u64::from(look), waited });
        }
        assert_eq!(play.workers, 2);
    }
}
