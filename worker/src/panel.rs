//! The panel: shared memory between the master and its proxies, which no process that runs application code has. The master
//! says in which mode the proxies are to serve, among how many workers, and which of them is the last; each proxy says how much it has to do and that
//! it lives. Plain relaxed atomics, each with one writer, but for what all of them count (`tally`).
#![expect(unsafe_code, reason = "says that its page may be shared")]

use crate::board::CAPACITY;
use crate::shared::{Plain, Shared};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

mod tally;
pub use tally::{Annals, DURATION_MS, REASONS, Traffic};

/// What the proxies do with requests.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They pass them on.
    #[default]
    Serving = 0,
    /// They hold them, within `limits.queue` and `timeouts.queue` (`appliance pause`).
    Paused = 1,
    /// They answer 503 (`appliance maintenance on`).
    Maintenance = 2,
    /// No worker can live: they answer 503 with `Retry-After`.
    CrashLoop = 3,
    /// They still serve, but say that they are not ready: the end is near (`timeouts.drain_delay`).
    Leaving = 4,
}

impl Mode {
    fn from_number(n: u32) -> Mode {
        match n {
            1 => Mode::Paused,
            2 => Mode::Maintenance,
            3 => Mode::CrashLoop,
            4 => Mode::Leaving,
            _ => Mode::Serving,
        }
    }
}

/// What one proxy says of itself. Written by that proxy only.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Pulse {
    /// Process id.
    pub pid: AtomicU32,
    /// Client connections.
    pub connections: AtomicU32,
    /// Requests whose answers are not complete.
    pub in_flight: AtomicU32,
    /// Requests that wait for a worker.
    pub queued: AtomicU32,
    /// Requests that have ever waited for a worker and wait no more.
    pub dequeued: AtomicU64,
    /// How long these have waited together, in microseconds.
    pub queue_us: AtomicU64,
    /// When every one of its threads last had a turn, in milliseconds of the monotonic clock.
    pub tick_ms: AtomicU64,
}

impl Pulse {
    /// A new proxy takes the place: every counter starts again from nothing.
    pub fn claim(&self, pid: u32) {
        for counter in [&self.connections, &self.in_flight, &self.queued] {
            counter.store(0, Relaxed);
        }
        for counter in [&self.dequeued, &self.queue_us, &self.tick_ms] {
            counter.store(0, Relaxed);
        }
        self.pid.store(pid, Relaxed);
    }
}

#[repr(C, align(64))]
#[derive(Debug)]
struct Page {
    mode: AtomicU32,
    retry_after_s: AtomicU32,
    workers: AtomicU32,
    proxy: AtomicU32,
    pulses: [Pulse; 2],
    traffic: Traffic,
    annals: Annals,
}

// SAFETY: atomics only.
unsafe impl Plain for Page {}

/// The mapped panel.
#[derive(Debug)]
pub struct Panel(Shared<Page>);

impl Panel {
    /// Makes it. Master only, before the first fork.
    pub fn create() -> io::Result<Panel> {
        Shared::create(c"appliance-panel").map(Panel)
    }

    /// Maps what the master made.
    pub fn open(fd: OwnedFd) -> io::Result<Panel> {
        Shared::open(fd).map(Panel)
    }

    /// The memfd, to hand to a proxy.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// What the proxies are to do with requests.
    pub fn mode(&self) -> Mode {
        Mode::from_number(self.0.mode.load(Relaxed))
    }

    /// Says so. `retry_after` is what clients are told who get 503, in whole seconds.
    pub fn set_mode(&self, mode: Mode, retry_after: Duration) {
        let seconds = u32::try_from(retry_after.as_secs()).unwrap_or(u32::MAX);
        self.0.retry_after_s.store(seconds, Relaxed);
        self.0.mode.store(mode as u32, Relaxed);
    }

    /// When clients who get 503 may come again.
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(self.0.retry_after_s.load(Relaxed).into())
    }

    /// Number of worker ids in use: they are `1..=workers()`.
    pub fn workers(&self) -> u32 {
        self.0.workers.load(Relaxed).min(CAPACITY)
    }

    /// Changes it.
    pub fn set_workers(&self, workers: u32) {
        self.0.workers.store(workers.min(CAPACITY), Relaxed);
    }

    /// Generation of the proxy that is in force; an older one finishes what it has.
    pub fn proxy(&self) -> u32 {
        self.0.proxy.load(Relaxed)
    }

    /// Changes it.
    pub fn set_proxy(&self, generation: u32) {
        self.0.proxy.store(generation, Relaxed);
    }

    /// What the proxies have counted together.
    pub fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }

    /// What the master has counted.
    pub fn annals(&self) -> &Annals {
        &self.0.annals
    }

    /// The places of the proxies.
    pub fn pulses(&self) -> &[Pulse] {
        &self.0.pulses
    }

    /// The place of a proxy; two can run beside each other, of generations that follow each other.
    pub fn pulse(&self, generation: u32) -> &Pulse {
        &self.0.pulses[generation as usize % 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_master_says_is_seen() {
        let here = Panel::create().unwrap();
        let there = Panel::open(here.fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((there.mode(), there.workers()), (Mode::Serving, 0));
        here.set_mode(Mode::CrashLoop, Duration::from_millis(3500));
        here.set_workers(3);
        here.set_proxy(5);
        assert_eq!((there.mode(), there.retry_after()), (Mode::CrashLoop, Duration::from_secs(3)));
        assert_eq!((there.workers(), there.proxy()), (3, 5));
    }

    #[test]
    fn two_proxies_have_two_places() {
        let panel = Panel::create().unwrap();
        panel.pulse(4).claim(10);
        panel.pulse(5).claim(11);
        assert_eq!([4, 5].map(|generation| panel.pulse(generation).pid.load(Relaxed)), [10, 11]);
    }

    #[test]
    fn requests_are_counted_by_worker_status_duration_and_reason() {
        let panel = Panel::create().unwrap();
        let traffic = panel.traffic();
        let ms = Duration::from_millis;
        traffic.count(200, 2, ms(5), 10, None);
        traffic.count(200, 2, ms(6), 10, None);
        traffic.count(503, 0, ms(999_999), 0, Some(7));
        traffic.count(9999, CAPACITY, ms(0), 0, Some(REASONS));
        traffic.count(200, u32::MAX, ms(0), 0, None);
        assert_eq!(traffic.answers(2).collect::<Vec<_>>(), [(200, 2)]);
        assert_eq!(traffic.answers(0).collect::<Vec<_>>(), [(503, 1)]);
        assert_eq!(traffic.answers(CAPACITY).collect::<Vec<_>>(), [(599, 1)]);
        assert_eq!((traffic.failed(7), traffic.body_bytes.load(Relaxed)), (1, 20));
        let counts: Vec<u64> = traffic.durations.iter().map(|count| count.load(Relaxed)).collect();
        assert_eq!((counts[0], counts[1], counts[2], counts[DURATION_MS.len()]), (2, 1, 1, 1));
        panel.annals().count_start(2);
        panel.annals().count_start(0);
        assert_eq!([0, 1, 2].map(|worker| panel.annals().starts(worker)), [0, 0, 1]);
    }
}
