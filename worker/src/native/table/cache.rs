//! The functions of caches: arguments are converted, then one call into [`crate::cache`] does the work. They never suspend.
#![expect(unsafe_code, reason = "takes pointers over the C interface")]

use super::anywhere::{Refused, answer};
use super::{bytes, give, text_of};
use crate::cache::{Cache, Caches, Math, Mode, Refusal};
use appliance_app::abi::{ApplianceShow, ApplianceText};
use nix::errno::Errno;
use std::ffi::{c_char, c_void};
use std::time::Duration;

/// Why something is not done with a cache that is there.
enum Trouble {
    /// What was handed over.
    Argument(Errno),
    /// The cache itself.
    Cache(Refusal),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        Trouble::Argument(errno)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Trouble {
        Trouble::Cache(refusal)
    }
}

/// Calls `act` with the cache of this name; empty: with the first one.
///
/// # Safety
/// The bytes of the name are valid during the call.
unsafe fn with<T>(name: ApplianceText, act: impl FnOnce(&Cache) -> Result<T, Trouble>) -> Result<T, Refused> {
    // SAFETY: the caller's promise.
    let name = String::from_utf8_lossy(unsafe { bytes(name) }?);
    let caches = Caches::here();
    let found = if name.is_empty() { caches.first() } else { caches.named(&name) };
    let cache = found.ok_or_else(|| missing(&name))?;
    act(cache).map_err(|trouble| match trouble {
        Trouble::Argument(errno) => errno.into(),
        Trouble::Cache(refusal) => {
            Refused::new(number_of(&refusal), format!("cache {}: {refusal}", cache.name()))
        }
    })
}

fn missing(name: &str) -> Refused {
    let (which, configure) = match name {
        "" => ("no cache".to_owned(), "one with [cache.NAME]".to_owned()),
        name => (format!("no cache {name:?}"), format!("it with [cache.{name}]")),
    };
    let why = format!("there is {which} in this process; configure {configure}, and use it in a worker");
    Refused::new(Errno::ENOENT, why)
}

fn number_of(refusal: &Refusal) -> Errno {
    match refusal {
        Refusal::Key { .. } | Refusal::NotANumber => Errno::EINVAL,
        Refusal::Value { .. } => Errno::EFBIG,
        Refusal::Overflow => Errno::ERANGE,
        Refusal::Full => Errno::ENOSPC,
        Refusal::Busy => Errno::EBUSY,
        Refusal::Forked => Errno::EPERM,
        Refusal::Store(_) => Errno::EIO,
    }
}

/// Microseconds; less than none leave it to the cache.
fn life_of(micros: i64) -> Option<Duration> {
    u64::try_from(micros).ok().map(Duration::from_micros)
}

pub(super) unsafe extern "C" fn get(
    cache: ApplianceText,
    key: ApplianceText,
    into: *mut c_char,
    size: usize,
) -> isize {
    let length = answer(|| {
        // SAFETY: the caller promises bytes that are valid during the call, and room for `size` bytes.
        let found = unsafe {
            with(cache, |cache| Ok(cache.look(bytes(key)?, |value| give(value, into, size))?.transpose()?))
        }?;
        found.ok_or_else(|| Errno::ENODATA.into())
    });
    length as isize
}

pub(super) unsafe extern "C" fn set(
    cache: ApplianceText,
    key: ApplianceText,
    value: ApplianceText,
    micros: i64,
    add: u32,
) -> i32 {
    let mode = if add == 0 { Mode::Set } else { Mode::Add };
    let stored = answer(|| {
        // SAFETY: the caller promises bytes that are valid during the call.
        let stored = unsafe {
            with(cache, |cache| Ok(cache.put(bytes(key)?, bytes(value)?, life_of(micros), mode)?))
        }?;
        Ok(i64::from(!stored))
    });
    stored as i32
}

pub(super) unsafe extern "C" fn delete(cache: ApplianceText, key: ApplianceText) -> i32 {
    let deleted = answer(|| {
        // SAFETY: as above.
        let was_there = unsafe { with(cache, |cache| Ok(cache.delete(bytes(key)?)?)) }?;
        Ok(i64::from(!was_there))
    });
    deleted as i32
}

pub(super) unsafe extern "C" fn count(
    cache: ApplianceText,
    key: ApplianceText,
    by: i64,
    micros: i64,
    number: *mut i64,
) -> i32 {
    let counted = answer(|| {
        if number.is_null() {
            return Err(Errno::EFAULT.into());
        }
        // SAFETY: as above.
        let result = unsafe {
            with(cache, |cache| Ok(cache.calculate(bytes(key)?, Math::Add(by), life_of(micros))?))
        }?;
        // SAFETY: the caller promises a place for the number.
        unsafe { number.write(result) };
        Ok(0)
    });
    counted as i32
}

pub(super) unsafe extern "C" fn life(cache: ApplianceText, key: ApplianceText, micros: *mut i64) -> i32 {
    let found = answer(|| {
        if micros.is_null() {
            return Err(Errno::EFAULT.into());
        }
        // SAFETY: as above.
        let found = unsafe { with(cache, |cache| Ok(cache.life(bytes(key)?)?)) }?;
        let Some(left) = found else { return Ok(1) };
        let left = left.map_or(-1, |left| i64::try_from(left.as_micros()).unwrap_or(i64::MAX));
        // SAFETY: the caller promises a place for the number.
        unsafe { micros.write(left) };
        Ok(0)
    });
    found as i32
}

pub(super) unsafe extern "C" fn keys(cache: ApplianceText, show: ApplianceShow, data: *mut c_void) -> i32 {
    let shown = answer(|| {
        let show = show.ok_or(Errno::EFAULT)?;
        // SAFETY: as above.
        let keys = unsafe { with(cache, |cache| Ok(cache.keys()?)) }?;
        // The cache is not held any more: the function may do what it likes.
        // SAFETY: whoever handed it over promises that it may be called with its data.
        keys.iter().for_each(|key| unsafe { show(data, text_of(key)) });
        Ok(0)
    });
    shown as i32
}

pub(super) unsafe extern "C" fn clear(cache: ApplianceText) -> i32 {
    // SAFETY: as above.
    answer(|| unsafe { with(cache, |cache| Ok(cache.clear()?)) }.map(|()| 0)) as i32
}

pub(super) unsafe extern "C" fn stats(cache: ApplianceText, into: *mut c_char, size: usize) -> isize {
    let length = answer(|| {
        // SAFETY: as above.
        let stats = unsafe { with(cache, |cache| Ok(cache.stats()?)) }?;
        let text = serde_json::to_string(&stats).map_err(|_| Errno::EIO)?;
        // SAFETY: the caller promises room for `size` bytes.
        Ok(unsafe { give(text.as_bytes(), into, size) }?)
    });
    length as isize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_caches_there_is_a_number_and_a_sentence() {
        let refused = -(Errno::ENOENT as i32);
        // SAFETY: the texts are there, and there is no room to write to.
        let codes = unsafe { [clear(text_of(b"")), delete(text_of(b"pages"), text_of(b"key"))] };
        assert_eq!(codes, [refused; 2]);
        assert!(missing("pages").why.contains("configure it with [cache.pages]"));
        assert!(missing("").why.contains("configure one with [cache.NAME]"));
    }

    #[test]
    fn a_life_is_in_microseconds_and_less_than_none_is_left_to_the_cache() {
        assert_eq!(
            [-1, 0, 1500].map(life_of),
            [None, Some(Duration::ZERO), Some(Duration::from_micros(1500))]
        );
    }
}
