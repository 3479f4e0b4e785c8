//! The calls of metrics.
#![expect(unsafe_code, reason = "calls the worker's functions")]

use super::anywhere::{answer, function};
use super::text;
use crate::abi::{ApplianceLabel, ApplianceMetric, ApplianceText};
use std::io;

/// The number of a metric, made if there is none.
pub(crate) fn metric(kind: u32, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> io::Result<i64> {
    let metric = function(|host| host.metric)?;
    let labels: Vec<ApplianceText> = labels.iter().map(|label| text(label.as_bytes())).collect();
    let wanted = ApplianceMetric {
        kind,
        name: text(name.as_bytes()),
        help: text(help.as_bytes()),
        labels: labels.as_ptr(),
        label_count: labels.len(),
        bounds: bounds.as_ptr(),
        bound_count: bounds.len(),
    };
    // SAFETY: everything that it points to is valid during the call.
    answer(unsafe { metric(&raw const wanted) })
}

/// The number of its series with these labels, names and values in turn.
pub(crate) fn series(metric: i64, labels: &[(&str, &str)]) -> io::Result<i64> {
    let series = function(|host| host.metric_series)?;
    let label = |(name, value): &(&str, &str)| ApplianceLabel {
        name: text(name.as_bytes()),
        value: text(value.as_bytes()),
    };
    let labels: Vec<ApplianceLabel> = labels.iter().map(label).collect();
    // SAFETY: the labels are valid during the call.
    answer(unsafe { series(metric, labels.as_ptr(), labels.len()) })
}

pub(crate) fn change(series: i64, how: u32, value: f64) -> io::Result<()> {
    let change = function(|host| host.metric_change)?;
    // SAFETY: a function of the worker.
    answer(unsafe { change(series, how, value) }).map(drop)
}

/// Its value, and of a histogram the sum of its observations and how many there were.
pub(crate) fn value(series: i64) -> io::Result<(f64, u64)> {
    let tell = function(|host| host.metric_value)?;
    let (mut value, mut observations) = (0.0, 0);
    // SAFETY: the places are there during the call.
    answer(unsafe { tell(series, &raw mut value, &raw mut observations) })?;
    Ok((value, observations))
}
