//! The functions behind `appliance.cache`: argument conversion, then one call into [`appliance_worker::cache`], as in
//! `uwsgi/cache.rs`. Here a refusal is an exception that says what is wrong: `ValueError` for a key or a value, `LookupError`
//! for a cache that is not there, `CacheError` for everything else. Names with an `@` are other servers' (`remote`): asking them
//! suspends whoever asks, and nothing else here ever does.
use appliance_worker::cache::{Cache, Caches, Math, Mode, Refusal};
use pyo3::exceptions::{PyException, PyLookupError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyType};
use std::time::Duration;

mod remote;
use remote::There;

static ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The class of the exceptions that say why a cache could not do something.
pub fn error_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let means = c"A cache is full, or cannot be used at the moment.";
    let base = py.get_type::<PyException>();
    let make = || PyErr::new_type(py, c"appliance.cache.CacheError", Some(means), Some(&base), None);
    ERROR.get_or_try_init(py, make).map(|class| class.bind(py))
}

/// The cache of this name; empty: the first one.
fn cache(name: &str) -> PyResult<&'static Cache> {
    let caches = Caches::here();
    let found = if name.is_empty() { caches.first() } else { caches.named(name) };
    found.ok_or_else(|| {
        PyLookupError::new_err(match name {
            "" => "there is no cache; configure one with [cache.NAME]".to_owned(),
            name => format!("there is no cache {name:?}; configure it with [cache.{name}]"),
        })
    })
}

fn raised(py: Python<'_>, cache: &Cache, refusal: &Refusal) -> PyErr {
    let text = format!("cache {}: {refusal}", cache.name());
    match refusal {
        Refusal::Key { .. } | Refusal::Value { .. } | Refusal::NotANumber => PyValueError::new_err(text),
        Refusal::Overflow => PyOverflowError::new_err(text),
        Refusal::Full | Refusal::Busy | Refusal::Forked | Refusal::Store(_) => match error_class(py) {
            Ok(class) => PyErr::from_type(class.clone(), text),
            Err(error) => error,
        },
    }
}

/// Seconds, as a float; `None` leaves it to the cache.
fn life(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let convert = |seconds| {
        Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(format!("ttl {seconds}: {error}")))
    };
    seconds.map(convert).transpose()
}

/// The value of a key, or `None`.
#[pyfunction]
#[pyo3(signature = (name, key, /))]
pub fn cache_read<'py>(py: Python<'py>, name: &str, key: &[u8]) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if let Some(there) = There::of(name) {
        return Ok(there.read(py, key)?.map(|value| PyBytes::new(py, &value)));
    }
    let cache = cache(name)?;
    cache.look(key, |value| PyBytes::new(py, value)).map_err(|refusal| raised(py, cache, &refusal))
}

/// Whether there is such a key.
#[pyfunction]
#[pyo3(signature = (name, key, /))]
pub fn cache_has(py: Python<'_>, name: &str, key: &[u8]) -> PyResult<bool> {
    if let Some(there) = There::of(name) {
        return there.has(py, key);
    }
    let cache = cache(name)?;
    cache.exists(key).map_err(|refusal| raised(py, cache, &refusal))
}

/// Stores a value; false if it was only to be added and there is one.
#[pyfunction]
#[pyo3(signature = (name, key, value, ttl, only_add, /))]
pub fn cache_write(
    py: Python<'_>,
    name: &str,
    key: &[u8],
    value: &[u8],
    ttl: Option<f64>,
    only_add: bool,
) -> PyResult<bool> {
    if let Some(there) = There::of(name) {
        return there.write(py, key, value, ttl, only_add);
    }
    let (cache, life) = (cache(name)?, life(ttl)?);
    let mode = if only_add { Mode::Add } else { Mode::Set };
    cache.put(key, value, life, mode).map_err(|refusal| raised(py, cache, &refusal))
}

/// Removes an item; false if there was none.
#[pyfunction]
#[pyo3(signature = (name, key, /))]
pub fn cache_remove(py: Python<'_>, name: &str, key: &[u8]) -> PyResult<bool> {
    if let Some(there) = There::of(name) {
        return there.remove(py, key);
    }
    let cache = cache(name)?;
    cache.delete(key).map_err(|refusal| raised(py, cache, &refusal))
}

/// Adds to the number of a key, and gives it.
#[pyfunction]
#[pyo3(signature = (name, key, n, ttl, /))]
pub fn cache_count(py: Python<'_>, name: &str, key: &[u8], n: i64, ttl: Option<f64>) -> PyResult<i64> {
    if let Some(there) = There::of(name) {
        return there.count(py, key, n, ttl);
    }
    let (cache, life) = (cache(name)?, life(ttl)?);
    cache.calculate(key, Math::Add(n), life).map_err(|refusal| raised(py, cache, &refusal))
}

/// Whether a key is there, and how many seconds it has left, `None` if it does not expire.
#[pyfunction]
#[pyo3(signature = (name, key, /))]
pub fn cache_left(py: Python<'_>, name: &str, key: &[u8]) -> PyResult<(bool, Option<f64>)> {
    if let Some(there) = There::of(name) {
        return Err(there.cannot(py, "what is left of a life"));
    }
    let cache = cache(name)?;
    let left = cache.life(key).map_err(|refusal| raised(py, cache, &refusal))?;
    Ok((left.is_some(), left.flatten().map(|left| left.as_secs_f64())))
}

/// Every key.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn cache_list<'py>(py: Python<'py>, name: &str) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    if let Some(there) = There::of(name) {
        return Err(there.cannot(py, "its keys"));
    }
    let cache = cache(name)?;
    let keys = cache.keys().map_err(|refusal| raised(py, cache, &refusal))?;
    Ok(keys.iter().map(|key| PyBytes::new(py, key)).collect())
}

/// Removes everything.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn cache_wipe(py: Python<'_>, name: &str) -> PyResult<()> {
    if let Some(there) = There::of(name) {
        return there.wipe(py);
    }
    let cache = cache(name)?;
    cache.clear().map_err(|refusal| raised(py, cache, &refusal))
}

/// How full it is, and what has happened in it.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn cache_facts<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    if let Some(there) = There::of(name) {
        return Err(there.cannot(py, "its figures"));
    }
    let cache = cache(name)?;
    let stats = cache.stats().map_err(|refusal| raised(py, cache, &refusal))?;
    let facts = PyDict::new(py);
    for (name, value) in [
        ("items", stats.items),
        ("max_items", stats.max_items),
        ("size", stats.size),
        ("max_size", stats.max_size),
        ("memory", stats.memory),
        ("sets", stats.sets),
        ("evicted", stats.evicted),
        ("expired", stats.expired),
        ("refused", stats.refused),
        ("hits", stats.hits),
        ("misses", stats.misses),
    ] {
        facts.set_item(name, value)?;
    }
    Ok(facts)
}
