//! Counting and measuring: what may be done to a series, from any thread and any process, each in one atomic operation.
//! Numbers are doubles, as Prometheus' are; whole ones are exact up to 2⁵³.
use super::layout::MOST_BOUNDS;
use super::{Error, Family, Metrics, Series};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

impl Metrics {
    /// Its value.
    pub fn get(&self, series: Series) -> f64 {
        f64::from_bits(self.record(series).cells[0].load(Relaxed))
    }

    /// Replaces its value.
    pub fn set(&self, series: Series, value: f64) {
        self.record(series).cells[0].store(value.to_bits(), Relaxed);
    }

    /// Adds to its value; less than nothing subtracts.
    pub fn add(&self, series: Series, amount: f64) {
        add(&self.record(series).cells[0], amount);
    }

    /// Adds to a counter.
    pub fn grow(&self, series: Series, amount: f64) -> Result<(), Error> {
        if !(amount >= 0.0 && amount.is_finite()) {
            return Err(Error::Shrinks(amount));
        }
        self.add(series, amount);
        Ok(())
    }

    /// Makes of its value what `change` says; `None`: it stays. What it is afterwards.
    pub fn change(&self, series: Series, change: impl Fn(f64) -> Option<f64>) -> Option<f64> {
        change_cell(&self.record(series).cells[0], change)
    }

    /// Makes it this value, unless it is more already.
    pub fn raise(&self, series: Series, value: f64) {
        self.change(series, |now| (value > now).then_some(value));
    }

    /// Makes it this value, unless it is less already.
    pub fn lower(&self, series: Series, value: f64) {
        self.change(series, |now| (value < now).then_some(value));
    }

    /// How a metric of this kind is observed.
    pub fn histogram(&self, family: Family, series: Series) -> Histogram {
        Histogram { series, bounds: self.bounds(family).into() }
    }

    /// Counts an observation.
    pub fn observe(&self, histogram: &Histogram, value: f64) {
        let record = self.record(histogram.series);
        let range =
            histogram.bounds.iter().position(|bound| value <= *bound).unwrap_or(histogram.bounds.len());
        record.cells[range.min(MOST_BOUNDS)].fetch_add(1, Relaxed);
        add(record.sum(), value);
    }

    /// How many observations there were, and their sum.
    pub fn observed(&self, histogram: &Histogram) -> (u64, f64) {
        let record = self.record(histogram.series);
        let ranges = &record.cells[..=histogram.bounds.len().min(MOST_BOUNDS)];
        let count = ranges.iter().fold(0, |count: u64, cell| count.wrapping_add(cell.load(Relaxed)));
        (count, f64::from_bits(record.sum().load(Relaxed)))
    }
}

/// A series of observations with its ranges, which do not change.
#[derive(Clone, Debug)]
pub struct Histogram {
    series: Series,
    bounds: Box<[f64]>,
}

fn add(cell: &AtomicU64, amount: f64) {
    change_cell(cell, |value| Some(value + amount));
}

fn change_cell(cell: &AtomicU64, change: impl Fn(f64) -> Option<f64>) -> Option<f64> {
    let changed = |bits: u64| change(f64::from_bits(bits)).map(f64::to_bits);
    let before = cell.fetch_update(Relaxed, Relaxed, changed).ok()?;
    change(f64::from_bits(before))
}
