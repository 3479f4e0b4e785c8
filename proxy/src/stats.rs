//! Counters of the proxy process, for the admin endpoint and the drain. All threads add, nobody waits: relaxed atomics.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// The counters.
pub(crate) struct Stats {
    pub(crate) started: Instant,
    /// Client connections that are open.
    pub(crate) connections: Gauge,
    /// Requests that are being served.
    pub(crate) active: Gauge,
    /// Requests since the start, refused ones included.
    pub(crate) requests: AtomicU64,
    /// Further tries at another worker or connection.
    pub(crate) retries: AtomicU64,
    /// Requests that failed: those that the proxy or a worker answered with 5xx instead of the application, also because of
    /// its exception, and those whose answer was cut.
    pub(crate) errors: AtomicU64,
}

/// How many of something there are now.
#[derive(Clone, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

/// One of them; counted until it is dropped.
pub(crate) struct Counted(Arc<AtomicU64>);

impl Stats {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            connections: Gauge::default(),
            active: Gauge::default(),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }
}

impl Gauge {
    pub(crate) fn count(&self) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted(self.0.clone())
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
