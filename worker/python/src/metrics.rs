//! The application's metrics for `appliance.metrics`: conversions only, the rest is in the worker's `metrics.rs`. They are there
//! from before the application is imported, in the template as in the workers, and may be used from any thread; nothing here
//! waits, or asks which request it is.
use appliance_worker::board::Board;
use appliance_worker::metrics::{Definition, Error, Family, Histogram, Kind, Metrics, Series};
use appliance_worker::reactor;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, OnceLock};

/// Where the workers say how they are; none in the template.
static BOARD: OnceLock<Arc<Board>> = OnceLock::new();

/// Maps the metrics, before any code of the application runs. The descriptor is this process's from here.
pub fn install(fd: RawFd) -> io::Result<()> {
    reactor::adopt(fd).and_then(Metrics::open).map(Metrics::install)
}

/// In a worker, which sees the board.
pub fn install_board(board: &Arc<Board>) {
    BOARD.get_or_init(|| Arc::clone(board));
}

/// The metrics of this appliance.
pub fn ours() -> PyResult<&'static Metrics> {
    Metrics::here().ok_or_else(|| {
        PyRuntimeError::new_err("metrics work only where the appliance has loaded the application")
    })
}

/// The board of this worker; none in the template.
pub fn board() -> Option<&'static Board> {
    BOARD.get().map(|board| &**board)
}

fn refused(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A metric; what it counts is in its series.
#[pyclass(frozen, module = "appliance")]
pub struct MetricFamily {
    family: Family,
    kind: Kind,
}

/// One number, or one histogram, of a metric.
#[pyclass(frozen, module = "appliance")]
pub struct MetricSeries {
    series: Series,
    is_counter: bool,
    histogram: Option<Histogram>,
}

/// The metric with this name, made if there is none; `kind` is `counter`, `gauge` or `histogram`.
#[pyfunction]
#[pyo3(signature = (name, kind, help, labels, buckets, /))]
pub fn metric_family(
    name: &str,
    kind: &str,
    help: &str,
    labels: Vec<String>,
    buckets: Vec<f64>,
) -> PyResult<MetricFamily> {
    let kind = match kind {
        "counter" => Kind::Counter,
        "gauge" => Kind::Gauge,
        "histogram" => Kind::Histogram,
        _ => return Err(PyValueError::new_err(format!("a metric is no {kind}"))),
    };
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let wanted = Definition { name, kind, help, labels: &labels, bounds: &buckets, initial: 0.0 };
    let family = ours()?.define(&wanted).map_err(refused)?;
    Ok(MetricFamily { family, kind })
}

#[pymethods]
impl MetricFamily {
    /// The series with these labels, names and values in turn, made if there is none.
    fn series(&self, labels: Vec<(String, String)>) -> PyResult<MetricSeries> {
        let metrics = ours()?;
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        let series = metrics.series(self.family, &labels);
        let histogram = (self.kind == Kind::Histogram).then(|| metrics.histogram(self.family, series));
        Ok(MetricSeries { series, is_counter: self.kind == Kind::Counter, histogram })
    }
}

#[pymethods]
impl MetricSeries {
    /// Adds to it; a counter only grows.
    fn add(&self, amount: f64) -> PyResult<()> {
        let metrics = ours()?;
        if self.is_counter {
            return metrics.grow(self.series, amount).map_err(refused);
        }
        metrics.add(self.series, amount);
        Ok(())
    }

    /// Replaces its value.
    fn set(&self, value: f64) -> PyResult<()> {
        ours()?.set(self.series, value);
        Ok(())
    }

    /// Makes it this value, unless it is more already.
    fn raise_to(&self, value: f64) -> PyResult<()> {
        ours()?.raise(self.series, value);
        Ok(())
    }

    /// Makes it this value, unless it is less already.
    fn lower_to(&self, value: f64) -> PyResult<()> {
        ours()?.lower(self.series, value);
        Ok(())
    }

    /// Its value.
    fn get(&self) -> PyResult<f64> {
        Ok(ours()?.get(self.series))
    }

    /// Counts an observation.
    fn observe(&self, value: f64) -> PyResult<()> {
        if let Some(histogram) = &self.histogram {
            ours()?.observe(histogram, value);
        }
        Ok(())
    }

    /// How many observations there were, and their sum.
    fn observed(&self) -> PyResult<(u64, f64)> {
        let metrics = ours()?;
        Ok(self.histogram.as_ref().map_or((0, 0.0), |histogram| metrics.observed(histogram)))
    }
}
