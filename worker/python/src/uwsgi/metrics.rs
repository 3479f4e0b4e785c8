//! uWSGI's metrics: the application's own, which the configuration names or `appliance.metrics` makes, and uWSGI's built-in names,
//! which are read from the board. Numbers are whole ones here; what is unknown, built in or an alias cannot be changed, and that
//! is answered with `None`.
use crate::metrics::{board, ours};
use appliance_worker::board::{Board, Slot, State};
use appliance_worker::metrics::{Kind, Series};
use pyo3::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

/// The number of a metric; 0 for one that there is not.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn metric_get(name: &str) -> PyResult<i64> {
    let metrics = ours()?;
    let Some(family) = metrics.family(name) else {
        return Ok(board().and_then(|board| built_in(board, name)).unwrap_or(0));
    };
    let family = metrics.target(family);
    let Some(series) = metrics.only(family) else { return Ok(0) };
    Ok(match metrics.kind(family) {
        Some(Kind::Histogram) => metrics.observed(&metrics.histogram(family, series)).0 as i64,
        _ => metrics.get(series) as i64,
    })
}

/// The series that may be changed under this name.
fn changeable(name: &str) -> PyResult<Option<Series>> {
    let metrics = ours()?;
    let family = metrics.family(name);
    let family = family.filter(|family| matches!(metrics.kind(*family), Some(Kind::Counter | Kind::Gauge)));
    Ok(family.and_then(|family| metrics.only(family)))
}

/// Makes of a number what `change` says; `None`: there is no such metric, or it stays what it is.
fn change(name: &str, change: impl Fn(i64) -> Option<i64>) -> PyResult<Option<bool>> {
    let Some(series) = changeable(name)? else { return Ok(None) };
    Ok(ours()?.change(series, |value| change(value as i64).map(|value| value as f64)).map(|_| true))
}

#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
pub fn metric_set(name: &str, value: i64) -> PyResult<Option<bool>> {
    change(name, |_| Some(value))
}

#[pyfunction]
#[pyo3(signature = (name, amount = 1, /))]
pub fn metric_inc(name: &str, amount: i64) -> PyResult<Option<bool>> {
    let Some(series) = changeable(name)? else { return Ok(None) };
    ours()?.add(series, amount as f64);
    Ok(Some(true))
}

#[pyfunction]
#[pyo3(signature = (name, amount = 1, /))]
pub fn metric_dec(name: &str, amount: i64) -> PyResult<Option<bool>> {
    let Some(series) = changeable(name)? else { return Ok(None) };
    ours()?.add(series, -(amount as f64));
    Ok(Some(true))
}

#[pyfunction]
#[pyo3(signature = (name, factor = 1, /))]
pub fn metric_mul(name: &str, factor: i64) -> PyResult<Option<bool>> {
    change(name, |value| Some(value.wrapping_mul(factor)))
}

#[pyfunction]
#[pyo3(signature = (name, divisor = 1, /))]
pub fn metric_div(name: &str, divisor: i64) -> PyResult<Option<bool>> {
    change(name, |value| (divisor != 0).then(|| value.wrapping_div(divisor)))
}

/// Keeps the larger one.
#[pyfunction]
#[pyo3(signature = (name, value, /))]
pub fn metric_set_max(name: &str, value: i64) -> PyResult<Option<bool>> {
    change(name, |now| Some(now.max(value)))
}

/// Keeps the smaller one.
#[pyfunction]
#[pyo3(signature = (name, value, /))]
pub fn metric_set_min(name: &str, value: i64) -> PyResult<Option<bool>> {
    change(name, |now| Some(now.min(value)))
}

/// What uWSGI collects by itself: `core.…` of all workers, `worker.N.…` of one, 0 being all. What nobody counts here is 0.
fn built_in(board: &Board, name: &str) -> Option<i64> {
    let (scope, rest) = name.split_once('.')?;
    let all = 1..=board.workers();
    let number = match scope {
        "core" => of_all(board, rest)?,
        "worker" => {
            let (id, what) = rest.split_once('.')?;
            match id.parse::<u32>().ok()? {
                0 => of_workers(board, all, what)?,
                id if all.contains(&id) => of_workers(board, id..=id, what)?,
                _ => return None,
            }
        }
        _ => return None,
    };
    i64::try_from(number).ok()
}

fn of_all(board: &Board, what: &str) -> Option<u64> {
    let all = 1..=board.workers();
    let serving = |is_busy: bool| {
        let current = all.clone().map(|id| board.current(id));
        let ready = current.filter(|slot| slot.state() == State::Ready);
        ready.filter(|slot| (slot.busy.load(Relaxed) > 0) == is_busy).count() as u64
    };
    match what {
        "busy_workers" => Some(serving(true)),
        "idle_workers" => Some(serving(false)),
        "total_tx" => of_workers(board, all, "total_tx"),
        "total_rss" => of_workers(board, all, "rss_size"),
        "avg_response_time" => of_workers(board, all, "avg_response_time"),
        "total_running_time" => of_workers(board, all, "running_time"),
        _ => None,
    }
}

/// Sums over workers; times are in microseconds, sizes in bytes.
fn of_workers(board: &Board, ids: std::ops::RangeInclusive<u32>, what: &str) -> Option<u64> {
    let ever = |count: &dyn Fn(&Slot) -> u64| {
        let slots = ids.clone().flat_map(|id| board.slots(id));
        slots.fold(0, |sum: u64, slot| sum.wrapping_add(count(slot)))
    };
    let now = |count: &dyn Fn(&Slot) -> u64| {
        let current = ids.clone().map(|id| board.current(id));
        current.fold(0, |sum: u64, slot| sum.wrapping_add(count(slot)))
    };
    let requests =
        || ever(&|slot| slot.latency.iter().fold(0, |sum: u64, n| sum.wrapping_add(n.load(Relaxed))));
    let running = || ever(&|slot| slot.latency_us.load(Relaxed));
    Some(match what {
        "requests" => requests(),
        "delta_requests" => now(&|slot| slot.requests.load(Relaxed)),
        "failed_requests" => ever(&|slot| slot.all_exceptions.load(Relaxed)),
        "respawns" => ids.clone().map(|id| u64::from(board.starts(id).saturating_sub(1))).sum(),
        "avg_response_time" => running().checked_div(requests()).unwrap_or(0),
        "running_time" => running(),
        "total_tx" => ever(&|slot| slot.bytes_out.load(Relaxed)),
        "rss_size" => now(&|slot| u64::from(slot.rss_kib.load(Relaxed)) * 1024),
        _ => return None,
    })
}
