//! What is counted for as long as the appliance lives, in memory that no process with application code has: requests by the
//! proxies, two of which may run beside each other, and the ends of processes by the master. Plain relaxed atomics that only grow.
use crate::board::CAPACITY;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Statuses that an answer may have; others count as the last one.
pub const STATUSES: RangeInclusive<u16> = 100..=599;
/// Upper bounds of the ranges of durations, in milliseconds; the last range has none. Prometheus clients' own, and longer ones.
pub const DURATION_MS: [u64; 14] =
    [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];
/// Reasons of failures that there is room for.
pub const REASONS: usize = 64;

/// Answers by status.
type ByStatus = [AtomicU64; 500];

/// What the proxies count.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Traffic {
    /// Connections that were accepted.
    pub connections: AtomicU64,
    /// Connections that were closed at once, because of `limits.connections`.
    pub refused: AtomicU64,
    /// Further tries at another worker or connection.
    pub retries: AtomicU64,
    /// Bytes of answers' bodies that clients were sent.
    pub body_bytes: AtomicU64,
    /// Requests that have waited for a worker and wait no more.
    pub dequeued: AtomicU64,
    /// How long these have waited together, in microseconds.
    pub queue_us: AtomicU64,
    /// Finished requests by duration; bounds in [`DURATION_MS`].
    pub durations: [AtomicU64; DURATION_MS.len() + 1],
    /// How long they took together, in microseconds.
    pub duration_us: AtomicU64,
    failures: [AtomicU64; REASONS],
    answers: [ByStatus; CAPACITY as usize + 1],
}

impl Traffic {
    /// Counts a request that is over. `worker` is 0 if none has had it, `reason` the number of what went wrong.
    pub fn count(&self, status: u16, worker: u32, took: Duration, bytes: u64, reason: Option<usize>) {
        let status = if STATUSES.contains(&status) { status } else { *STATUSES.end() };
        if let Some(answers) = self.answers.get(worker as usize) {
            answers[usize::from(status - STATUSES.start())].fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let range = DURATION_MS.iter().position(|bound| micros <= bound * 1000).unwrap_or(DURATION_MS.len());
        self.durations[range].fetch_add(1, Relaxed);
        self.duration_us.fetch_add(micros, Relaxed);
        self.body_bytes.fetch_add(bytes, Relaxed);
        if let Some(count) = reason.and_then(|reason| self.failures.get(reason)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// How many answers of each status the requests of a worker got, of 0 those that no worker has had.
    pub fn answers(&self, worker: u32) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.answers.get(worker as usize).into_iter().flatten();
        STATUSES.zip(counts.map(|count| count.load(Relaxed))).filter(|(_, count)| *count > 0)
    }

    /// How often this went wrong.
    pub fn failed(&self, reason: usize) -> u64 {
        self.failures.get(reason).map_or(0, |count| count.load(Relaxed))
    }
}

/// What the master counts and says.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Annals {
    /// When it began, in milliseconds since 1970.
    pub began_ms: AtomicU64,
    /// Not 0: it has served once.
    pub has_served: AtomicU32,
    /// Number of the reload that is in force.
    pub generation: AtomicU32,
    /// Reloads that succeeded.
    pub reloads: AtomicU64,
    /// Reloads that failed.
    pub failed_reloads: AtomicU64,
    /// Proxies, templates and workers that ended though nobody had told them to.
    pub lost: [AtomicU64; 3],
    starts: [AtomicU32; CAPACITY as usize],
}

impl Annals {
    /// Another process of this worker is started.
    pub fn count_start(&self, worker: u32) {
        if let Some(starts) = self.starts.get(worker.wrapping_sub(1) as usize) {
            starts.fetch_add(1, Relaxed);
        }
    }

    /// Processes of this worker that were started.
    pub fn starts(&self, worker: u32) -> u32 {
        self.starts.get(worker.wrapping_sub(1) as usize).map_or(0, |starts| starts.load(Relaxed))
    }
}
