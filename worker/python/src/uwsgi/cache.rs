//! The `cache_*` calls of uWSGI. Argument conversion, then one call into [`appliance_worker::cache`]; no Python runs during
//! that, so the calls are safe from any thread and switch to nobody. Results are uWSGI's: a refusal is `None`, and those that
//! somebody should know of are in the log.
use super::remote_cache::There;
use super::request::borrowed;
use appliance_worker::cache::{Cache, Caches, Math, Mode, Refusal};
use appliance_worker::wire::asked::Action;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::time::Duration;

/// What uWSGI's functions take as key or value.
type Object<'py> = Bound<'py, PyAny>;

/// The cache that a call means; `None`: there is no such cache.
fn cache(name: Option<&str>) -> Option<&'static Cache> {
    match name {
        None => Caches::here().first(),
        Some(name) => Caches::here().named(name),
    }
}

/// uWSGI's seconds; 0 leaves it to the cache.
fn life(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().filter(|&seconds| seconds > 0).map(Duration::from_secs)
}

/// `True` or `None`.
fn done(cache: &Cache, result: Result<bool, Refusal>) -> Option<bool> {
    match result {
        Ok(done) => done.then_some(true),
        Err(refusal) => {
            cache.log(&refusal);
            None
        }
    }
}

#[pyfunction]
#[pyo3(signature = (key, cache = None, /))]
pub fn cache_get<'py>(
    py: Python<'py>,
    key: Object<'py>,
    cache: Option<&str>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let key = borrowed(&key)?;
    if let Some(there) = There::of(cache) {
        return Ok(there.get(py, &key)?.map(|value| PyBytes::new(py, &value)));
    }
    let Some(cache) = self::cache(cache) else { return Ok(None) };
    let found = cache.look(&key, |value| PyBytes::new(py, value));
    Ok(found.unwrap_or_else(|refusal| {
        cache.log(&refusal);
        None
    }))
}

#[pyfunction]
#[pyo3(signature = (key, cache = None, /))]
pub fn cache_exists(key: Object<'_>, cache: Option<&str>) -> PyResult<Option<bool>> {
    let (py, key) = (key.py(), borrowed(&key)?);
    if let Some(there) = There::of(cache) {
        return there.tell(py, &key, Action::Exists, 0, &[]);
    }
    Ok(self::cache(cache).and_then(|cache| done(cache, cache.exists(&key))))
}

fn put(
    key: &Object<'_>,
    value: &Object<'_>,
    expires: i64,
    cache: Option<&str>,
    mode: Mode,
) -> PyResult<Option<bool>> {
    let (py, key, value) = (key.py(), borrowed(key)?, borrowed(value)?);
    if let Some(there) = There::of(cache) {
        let size = value.len() as u64;
        let action = if mode == Mode::Set { Action::Update(size) } else { Action::Set(size) };
        return there.tell(py, &key, action, expires, &value);
    }
    // uWSGI stores no empty value.
    let cache = self::cache(cache).filter(|_| !value.is_empty());
    Ok(cache.and_then(|cache| done(cache, cache.put(&key, &value, life(expires), mode))))
}

#[pyfunction]
#[pyo3(signature = (key, value, expires = 0, cache = None, /))]
pub fn cache_set(
    key: Object<'_>,
    value: Object<'_>,
    expires: i64,
    cache: Option<&str>,
) -> PyResult<Option<bool>> {
    put(&key, &value, expires, cache, Mode::Add)
}

#[pyfunction]
#[pyo3(signature = (key, value, expires = 0, cache = None, /))]
pub fn cache_update(
    key: Object<'_>,
    value: Object<'_>,
    expires: i64,
    cache: Option<&str>,
) -> PyResult<Option<bool>> {
    put(&key, &value, expires, cache, Mode::Set)
}

#[pyfunction]
#[pyo3(signature = (key, cache = None, /))]
pub fn cache_del(key: Object<'_>, cache: Option<&str>) -> PyResult<Option<bool>> {
    let (py, key) = (key.py(), borrowed(&key)?);
    if let Some(there) = There::of(cache) {
        return there.tell(py, &key, Action::Delete, 0, &[]);
    }
    Ok(self::cache(cache).and_then(|cache| done(cache, cache.delete(&key))))
}

#[pyfunction]
#[pyo3(signature = (cache = None, /))]
pub fn cache_clear(py: Python<'_>, cache: Option<&str>) -> PyResult<Option<bool>> {
    if let Some(there) = There::of(cache) {
        return there.tell(py, &[], Action::Clear, 0, &[]);
    }
    Ok(self::cache(cache).and_then(|cache| done(cache, cache.clear().map(|()| true))))
}

#[pyfunction]
#[pyo3(signature = (cache = None, /))]
pub fn cache_keys<'py>(py: Python<'py>, cache: Option<&str>) -> PyResult<Bound<'py, PyList>> {
    let cache = self::cache(cache).ok_or_else(|| PyValueError::new_err("no local uWSGI cache available"))?;
    let keys = cache
        .keys()
        .map_err(|refusal| PyValueError::new_err(format!("cache {}: {refusal}", cache.name())))?;
    PyList::new(py, keys.iter().map(|key| PyBytes::new(py, key)))
}

fn calculate(key: &Object<'_>, math: Math, expires: i64, cache: Option<&str>) -> PyResult<Option<bool>> {
    let (py, key) = (key.py(), borrowed(key)?);
    if let Some(there) = There::of(cache) {
        return there.tell(py, &key, super::remote_cache::count(math), expires, &[]);
    }
    let calculated = |cache: &Cache| cache.calculate(&key, math, life(expires)).map(|_| true);
    Ok(self::cache(cache).and_then(|cache| done(cache, calculated(cache))))
}

#[pyfunction]
#[pyo3(signature = (key, n = 1, expires = 0, cache = None, /))]
pub fn cache_inc(key: Object<'_>, n: i64, expires: i64, cache: Option<&str>) -> PyResult<Option<bool>> {
    calculate(&key, Math::Add(n), expires, cache)
}

#[pyfunction]
#[pyo3(signature = (key, n = 1, expires = 0, cache = None, /))]
pub fn cache_dec(key: Object<'_>, n: i64, expires: i64, cache: Option<&str>) -> PyResult<Option<bool>> {
    calculate(&key, Math::Subtract(n), expires, cache)
}

#[pyfunction]
#[pyo3(signature = (key, n = 2, expires = 0, cache = None, /))]
pub fn cache_mul(key: Object<'_>, n: i64, expires: i64, cache: Option<&str>) -> PyResult<Option<bool>> {
    calculate(&key, Math::Multiply(n), expires, cache)
}

#[pyfunction]
#[pyo3(signature = (key, n = 2, expires = 0, cache = None, /))]
pub fn cache_div(key: Object<'_>, n: i64, expires: i64, cache: Option<&str>) -> PyResult<Option<bool>> {
    calculate(&key, Math::Divide(n), expires, cache)
}

/// The number that a key has; 0 if it has none.
#[pyfunction]
#[pyo3(signature = (key, cache = None, /))]
pub fn cache_num(key: Object<'_>, cache: Option<&str>) -> PyResult<i64> {
    let (py, key) = (key.py(), borrowed(&key)?);
    if let Some(there) = There::of(cache) {
        return Ok(there
            .get(py, &key)?
            .and_then(|value| value.try_into().ok())
            .map_or(0, i64::from_ne_bytes));
    }
    Ok(self::cache(cache).and_then(|cache| cache.number(&key).ok().flatten()).unwrap_or(0))
}
