//! The proxy's pulse: every thread notes twice a second that it has had a turn, and the control thread tells the master how
//! long ago all of them had one, and what there is to do. `runtime.rs` starts both. It must never wait for anything but time.
use crate::Pulse;
use crate::gateway::Shared;
use crate::link::Links;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Pause between two beats. What reads the pulse believes that a proxy stands still after seconds.
const BEAT: Duration = Duration::from_millis(500);

/// When each thread last had a turn.
pub(crate) struct Heart {
    began: Instant,
    /// Milliseconds from `began`.
    beats: Box<[AtomicU64]>,
}

impl Heart {
    /// Of so many threads, all of which have just had a turn.
    pub(crate) fn new(threads: u32, now: Instant) -> Self {
        Self { began: now, beats: (0..threads).map(|_| AtomicU64::new(0)).collect() }
    }

    fn beat(&self, thread: usize, now: Instant) {
        self.beats[thread].store(self.since_beginning(now), Relaxed);
    }

    /// How long ago every one of them had a turn.
    fn age(&self, now: Instant) -> Duration {
        let first = self.beats.iter().map(|beat| beat.load(Relaxed)).min().unwrap_or_default();
        Duration::from_millis(self.since_beginning(now).saturating_sub(first))
    }

    fn since_beginning(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What a proxy thread does regularly, for as long as its runtime lives.
pub(crate) async fn keep_thread(shared: Arc<Shared>, thread: usize, links: Arc<Links>) {
    loop {
        shared.heart.beat(thread, Instant::now());
        links.tend();
        sleep(BEAT).await;
    }
}

/// Tells the master, for as long as the runtime of the control thread lives.
pub(crate) async fn report(shared: Arc<Shared>) {
    loop {
        shared.workers.publish(&pulse(&shared, Instant::now()));
        sleep(BEAT).await;
    }
}

/// How things are.
pub(crate) fn pulse(shared: &Shared, now: Instant) -> Pulse {
    let queue = &shared.workers.queue;
    let (dequeued, queue_us) = queue.served();
    Pulse {
        connections: shared.stats.connections.get(),
        in_flight: shared.stats.active.get(),
        queued: queue.length() as u64,
        dequeued,
        queue_us,
        age: shared.heart.age(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_that_stands_still_tells() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let heart = Heart::new(2, began);
        heart.beat(0, at(5));
        heart.beat(1, at(6));
        assert_eq!(heart.age(at(7)), Duration::from_secs(2));
        heart.beat(0, at(7));
        assert_eq!(heart.age(at(7)), Duration::from_secs(1));
    }
}
