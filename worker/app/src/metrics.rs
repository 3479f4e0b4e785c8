//! Numbers for Prometheus, counted by all workers together, and by Python if there is some beside.
//!
//! ```no_run
//! use appliance_app::metrics;
//!
//! # fn main() -> std::io::Result<()> {
//! metrics::counter("shop_visits_total", "Visits.")?.inc();
//! metrics::counter_with("shop_orders_total", "Orders that were paid.", ["kind"])?.labels(["book"]).add(2.0)?;
//! metrics::gauge("shop_queue_depth", "Orders that wait.")?.set(7.0);
//!
//! let took = metrics::histogram("shop_payment_seconds", "How long the bank takes.", &metrics::BUCKETS)?;
//! let _timer = took.time();
//! # Ok(())
//! # }
//! ```
//!
//! A metric is made by whoever asks for it first, and is the same one for everybody who gives its name; who asks often keeps it
//! (`static VISITS: LazyLock<Counter>`). Counting is one atomic operation that waits for nobody, on any thread. Numbers are doubles:
//! whole ones are exact up to 2⁵³. They are told at `/metrics`, and live as long as the appliance: a reload keeps them.
use crate::abi;
use crate::host::metrics as host;
use std::io;
use std::marker::PhantomData;
use std::time::Instant;

/// Upper bounds of a histogram's ranges, for durations in seconds.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A number that only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter(Series);

/// A number that goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge(Series);

/// How many observations there were, in ranges of their size, and their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram(Series);

/// The counter with this name. An error: it is another kind of metric already, or cannot be one.
pub fn counter(name: &str, help: &str) -> io::Result<Counter> {
    only(abi::APPLIANCE_COUNTER, name, help, &[]).map(Counter)
}

/// The same with labels, which have a number for each combination of their values.
pub fn counter_with<const N: usize>(
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> io::Result<Labelled<Counter, N>> {
    Labelled::new(abi::APPLIANCE_COUNTER, name, help, labels, &[])
}

/// The gauge with this name, likewise.
pub fn gauge(name: &str, help: &str) -> io::Result<Gauge> {
    only(abi::APPLIANCE_GAUGE, name, help, &[]).map(Gauge)
}

/// The same with labels.
pub fn gauge_with<const N: usize>(
    name: &str,
    help: &str,
    labels: [&'static str; N],
) -> io::Result<Labelled<Gauge, N>> {
    Labelled::new(abi::APPLIANCE_GAUGE, name, help, labels, &[])
}

/// The histogram with this name, likewise; `buckets` are the upper bounds of its ranges, ascending, at most 24, such as
/// [`BUCKETS`].
pub fn histogram(name: &str, help: &str, buckets: &[f64]) -> io::Result<Histogram> {
    only(abi::APPLIANCE_HISTOGRAM, name, help, buckets).map(Histogram)
}

/// The same with labels.
pub fn histogram_with<const N: usize>(
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: [&'static str; N],
) -> io::Result<Labelled<Histogram, N>> {
    Labelled::new(abi::APPLIANCE_HISTOGRAM, name, help, labels, buckets)
}

fn only(kind: u32, name: &str, help: &str, bounds: &[f64]) -> io::Result<Series> {
    host::series(host::metric(kind, name, help, &[], bounds)?, &[]).map(Series)
}

/// A metric with labels.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<M, const N: usize> {
    metric: i64,
    names: [&'static str; N],
    kind: PhantomData<M>,
}

impl<M: From<Series>, const N: usize> Labelled<M, N> {
    fn new(
        kind: u32,
        name: &str,
        help: &str,
        names: [&'static str; N],
        bounds: &[f64],
    ) -> io::Result<Labelled<M, N>> {
        let metric = host::metric(kind, name, help, &names, bounds)?;
        Ok(Labelled { metric, names, kind: PhantomData })
    }

    /// The one with these values, in the order of the labels. Let them be few: what finds no room is not counted, and
    /// `appliance_metrics_refused_total` says so.
    pub fn labels(&self, values: [&str; N]) -> M {
        let labels: Vec<(&str, &str)> = self.names.into_iter().zip(values).collect();
        M::from(host::series(self.metric, &labels).map_or(Series::NOWHERE, Series))
    }
}

/// A number of a metric, which each kind wraps in what may be done to it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series(i64);

impl Series {
    /// What is counted in it is lost.
    const NOWHERE: Series = Series(-1);

    /// For changes that its kind allows: only a number that leads nowhere can refuse them.
    fn change(self, how: u32, value: f64) {
        let _ = host::change(self.0, how, value);
    }

    fn value(self) -> (f64, u64) {
        host::value(self.0).unwrap_or_default()
    }
}

impl From<Series> for Counter {
    fn from(series: Series) -> Counter {
        Counter(series)
    }
}

impl From<Series> for Gauge {
    fn from(series: Series) -> Gauge {
        Gauge(series)
    }
}

impl From<Series> for Histogram {
    fn from(series: Series) -> Histogram {
        Histogram(series)
    }
}

impl Counter {
    /// Adds 1.
    pub fn inc(&self) {
        self.0.change(abi::APPLIANCE_ADD, 1.0);
    }

    /// Adds to it. An error: what is less than 0 cannot be added.
    pub fn add(&self, amount: f64) -> io::Result<()> {
        host::change(self.0.0, abi::APPLIANCE_ADD, amount)
    }

    /// What all workers have counted.
    pub fn value(&self) -> f64 {
        self.0.value().0
    }
}

impl Gauge {
    /// Adds 1.
    pub fn inc(&self) {
        self.add(1.0);
    }

    /// Subtracts 1.
    pub fn dec(&self) {
        self.add(-1.0);
    }

    /// Adds to it; less than 0 subtracts.
    pub fn add(&self, amount: f64) {
        self.0.change(abi::APPLIANCE_ADD, amount);
    }

    /// Replaces it.
    pub fn set(&self, value: f64) {
        self.0.change(abi::APPLIANCE_SET, value);
    }

    /// Replaces it, unless it is more already.
    pub fn set_max(&self, value: f64) {
        self.0.change(abi::APPLIANCE_MAX, value);
    }

    /// Replaces it, unless it is less already.
    pub fn set_min(&self, value: f64) {
        self.0.change(abi::APPLIANCE_MIN, value);
    }

    /// Counts something for as long as what this gives is held. What a killed worker had begun stays in it.
    pub fn track_in_progress(&self) -> InProgress {
        self.inc();
        InProgress(*self)
    }

    /// What it is.
    pub fn value(&self) -> f64 {
        self.0.value().0
    }
}

/// Something that is counted while it runs.
#[must_use = "it is over when this is dropped"]
#[derive(Debug)]
pub struct InProgress(Gauge);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Histogram {
    /// Counts an observation.
    pub fn observe(&self, value: f64) {
        self.0.change(abi::APPLIANCE_OBSERVE, value);
    }

    /// Observes how many seconds it takes until what this gives is dropped.
    pub fn time(&self) -> Timer {
        Timer { histogram: *self, began: Instant::now() }
    }

    /// How many observations all workers have made.
    pub fn count(&self) -> u64 {
        self.0.value().1
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.0.value().0
    }
}

/// Observes a duration.
#[must_use = "it observes until this is dropped"]
#[derive(Debug)]
pub struct Timer {
    histogram: Histogram,
    began: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.histogram.observe(self.began.elapsed().as_secs_f64());
    }
}
