//! uWSGI's shared areas: conversions only, the rest is in the worker's `areas.rs`. As in uWSGI the functions are there only where
//! an area is configured. Numbers are signed when they are read, and may be written with a sign or without.
use super::{locks, request};
use crate::suspended::Suspended;
use crate::{areas, raw};
use appliance_worker::areas::{Area, Failed, Width};
use appliance_worker::locks::Place;
use appliance_worker::suspend::Suspend;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Adds the functions, if there is an area.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    if areas::ours().is_none_or(|areas| areas.count() == 0) {
        return Ok(());
    }
    macro_rules! add {
        ($($function:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($function, module)?)?;)* };
    }
    add!(sharedarea_read, sharedarea_write, sharedarea_memoryview);
    add!(sharedarea_rlock, sharedarea_wlock, sharedarea_unlock);
    add!(sharedarea_read8, sharedarea_read16, sharedarea_read32, sharedarea_read64);
    add!(sharedarea_write8, sharedarea_write16, sharedarea_write32, sharedarea_write64);
    add!(sharedarea_inc8, sharedarea_inc16, sharedarea_inc32, sharedarea_inc64);
    add!(sharedarea_dec8, sharedarea_dec16, sharedarea_dec32, sharedarea_dec64);
    let others = [
        ("readbyte", "read8"),
        ("writebyte", "write8"),
        ("readlong", "read64"),
        ("writelong", "write64"),
        ("inclong", "inc64"),
        ("declong", "dec64"),
    ];
    for (other, name) in others {
        module.add(format!("sharedarea_{other}"), module.getattr(format!("sharedarea_{name}"))?)?;
    }
    Ok(())
}

fn area(id: i64) -> PyResult<&'static Area> {
    let found = usize::try_from(id).ok().and_then(|id| areas::ours()?.area(id));
    found.ok_or_else(|| {
        PyValueError::new_err(format!(
            "there is no shared area {id}: each [[sharedarea]] of the configuration is one, from number 0 on"
        ))
    })
}

/// What `ask` does in an area at a position.
fn with<T>(
    py: Python<'_>,
    id: i64,
    position: i64,
    ask: impl FnOnce(&Area, usize, &dyn Suspend) -> Result<T, Failed>,
) -> PyResult<T> {
    let area = area(id)?;
    // What no memory is large enough for is outside like anything else.
    let at = usize::try_from(position).unwrap_or(usize::MAX);
    let here = Suspended::anywhere(py, "a call of a shared area");
    ask(area, at, &here).map_err(|failed| match failed {
        Failed::Wait(error) => here.raise(error),
        Failed::Outside(size) => PyValueError::new_err(format!(
            "position {position} of shared area {id}: not all of it would be inside the area, which has {size} bytes"
        )),
    })
}

/// A copy of so many bytes; 0: all from there on.
#[pyfunction]
#[pyo3(signature = (id, pos, len = 0, /))]
pub fn sharedarea_read(py: Python<'_>, id: i64, pos: i64, len: i64) -> PyResult<Bound<'_, PyBytes>> {
    let length = usize::try_from(len).unwrap_or(usize::MAX);
    let read = with(py, id, pos, |area, at, here| area.read(at, length, here))?;
    Ok(PyBytes::new(py, &read))
}

/// Writes bytes, or text as UTF-8.
#[pyfunction]
#[pyo3(signature = (id, pos, data, /))]
pub fn sharedarea_write(py: Python<'_>, id: i64, pos: i64, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let data = request::bytes(data)?;
    with(py, id, pos, |area, at, here| area.write(at, &data, here))
}

/// The memory itself, which may be read and written without a copy and without a lock.
#[pyfunction]
#[pyo3(signature = (id, /))]
pub fn sharedarea_memoryview(py: Python<'_>, id: i64) -> PyResult<Bound<'_, PyAny>> {
    raw::view(py, area(id)?.bytes())
}

fn lock_of(id: i64) -> PyResult<Place> {
    area(id)?;
    let place = usize::try_from(id).ok().and_then(Place::area);
    place.ok_or_else(|| PyValueError::new_err(format!("shared area {id} has no lock")))
}

/// Waits until nobody else holds the lock of the area; only the request waits. Those who read exclude each other, too.
#[pyfunction]
#[pyo3(signature = (id, /))]
pub fn sharedarea_rlock(py: Python<'_>, id: i64) -> PyResult<()> {
    locks::take_for(py, lock_of(id)?, "uwsgi.sharedarea_rlock()")
}

/// The same.
#[pyfunction]
#[pyo3(signature = (id, /))]
pub fn sharedarea_wlock(py: Python<'_>, id: i64) -> PyResult<()> {
    locks::take_for(py, lock_of(id)?, "uwsgi.sharedarea_wlock()")
}

/// Gives it back.
#[pyfunction]
#[pyo3(signature = (id, /))]
pub fn sharedarea_unlock(id: i64) -> PyResult<()> {
    locks::give_back(lock_of(id)?)
}

/// Refuses what no integer of this size, with or without a sign, can hold.
fn fitting(value: i128, width: Width) -> PyResult<i64> {
    let bits = 8 * width.bytes();
    let (least, most) = (-(1_i128 << (bits - 1)), (1_i128 << bits) - 1);
    if !(least..=most).contains(&value) {
        return Err(PyOverflowError::new_err(format!("{value} does not fit into {bits} bits")));
    }
    Ok(value as i64)
}

/// The functions for one width.
macro_rules! numbers {
    ($width:expr, $read:ident, $write:ident, $inc:ident, $dec:ident) => {
        /// The number at a position, with its sign.
        #[pyfunction]
        #[pyo3(signature = (id, pos, /))]
        pub fn $read(py: Python<'_>, id: i64, pos: i64) -> PyResult<i64> {
            with(py, id, pos, |area, at, here| area.number(at, $width, here))
        }

        /// Writes a number.
        #[pyfunction]
        #[pyo3(signature = (id, pos, value, /))]
        pub fn $write(py: Python<'_>, id: i64, pos: i64, value: i128) -> PyResult<()> {
            let value = fitting(value, $width)?;
            with(py, id, pos, |area, at, here| area.set_number(at, $width, value, here))
        }

        /// Adds to a number.
        #[pyfunction]
        #[pyo3(signature = (id, pos, amount = 1, /))]
        pub fn $inc(py: Python<'_>, id: i64, pos: i64, amount: i128) -> PyResult<()> {
            let amount = fitting(amount, $width)?;
            with(py, id, pos, |area, at, here| area.add(at, $width, amount, here))
        }

        /// Subtracts from a number.
        #[pyfunction]
        #[pyo3(signature = (id, pos, amount = 1, /))]
        pub fn $dec(py: Python<'_>, id: i64, pos: i64, amount: i128) -> PyResult<()> {
            let amount = fitting(amount, $width)?.wrapping_neg();
            with(py, id, pos, |area, at, here| area.add(at, $width, amount, here))
        }
    };
}

numbers!(Width::W8, sharedarea_read8, sharedarea_write8, sharedarea_inc8, sharedarea_dec8);
numbers!(Width::W16, sharedarea_read16, sharedarea_write16, sharedarea_inc16, sharedarea_dec16);
numbers!(Width::W32, sharedarea_read32, sharedarea_write32, sharedarea_inc32, sharedarea_dec32);
numbers!(Width::W64, sharedarea_read64, sharedarea_write64, sharedarea_inc64, sharedarea_dec64);
