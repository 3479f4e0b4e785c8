//! The calls of caches.
#![expect(unsafe_code, reason = "calls the worker's functions")]

use super::anywhere::{answer, function};
use super::{filled, text, text_told};
use crate::abi::ApplianceText;
use nix::errno::Errno;
use std::ffi::c_void;
use std::io;

pub(crate) fn get(cache: &str, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let get = function(|host| host.cache_get)?;
    // SAFETY: the texts are valid during the call, and the buffer is `filled`'s.
    let found = filled(|into, size| unsafe { get(text(cache.as_bytes()), text(key), into, size) });
    match found {
        Ok(value) => Ok(Some(value)),
        Err(code) if code == -(Errno::ENODATA as isize) => Ok(None),
        Err(code) => answer(code as i64).map(|_| None),
    }
}

/// `micros`: 0 is for ever, less than none leaves it to the cache. False if it was only to be added, and is there.
pub(crate) fn set(cache: &str, key: &[u8], value: &[u8], micros: i64, only_add: bool) -> io::Result<bool> {
    let set = function(|host| host.cache_set)?;
    // SAFETY: the texts are valid during the call.
    let code = unsafe { set(text(cache.as_bytes()), text(key), text(value), micros, only_add.into()) };
    answer(code).map(|code| code == 0)
}

/// False if it was not there.
pub(crate) fn delete(cache: &str, key: &[u8]) -> io::Result<bool> {
    let delete = function(|host| host.cache_delete)?;
    // SAFETY: as above.
    answer(unsafe { delete(text(cache.as_bytes()), text(key)) }).map(|code| code == 0)
}

/// `micros` as for [`set`].
pub(crate) fn count(cache: &str, key: &[u8], by: i64, micros: i64) -> io::Result<i64> {
    let count = function(|host| host.cache_count)?;
    let mut number = 0;
    // SAFETY: as above, and there is a place for the number.
    answer(unsafe { count(text(cache.as_bytes()), text(key), by, micros, &raw mut number) }).map(|_| number)
}

/// Microseconds, less than none without end; `None` if it is not there.
pub(crate) fn life(cache: &str, key: &[u8]) -> io::Result<Option<i64>> {
    let life = function(|host| host.cache_life)?;
    let mut micros = 0;
    // SAFETY: as above.
    let code = answer(unsafe { life(text(cache.as_bytes()), text(key), &raw mut micros) })?;
    Ok((code == 0).then_some(micros))
}

pub(crate) fn keys(cache: &str) -> io::Result<Vec<Vec<u8>>> {
    unsafe extern "C" fn show(data: *mut c_void, key: ApplianceText) {
        // SAFETY: `data` is the vector below, and the key is valid during this call.
        let (keys, key) = unsafe { (&mut *data.cast::<Vec<Vec<u8>>>(), super::bytes(key)) };
        keys.push(key.to_vec());
    }
    let list = function(|host| host.cache_keys)?;
    let mut keys: Vec<Vec<u8>> = Vec::new();
    // SAFETY: the function may be called with the vector during the call.
    answer(unsafe { list(text(cache.as_bytes()), Some(show), (&raw mut keys).cast()) })?;
    Ok(keys)
}

pub(crate) fn clear(cache: &str) -> io::Result<()> {
    let clear = function(|host| host.cache_clear)?;
    // SAFETY: the text is valid during the call.
    answer(unsafe { clear(text(cache.as_bytes())) }).map(drop)
}

pub(crate) fn stats(cache: &str) -> io::Result<String> {
    let stats = function(|host| host.cache_stats)?;
    // SAFETY: as above, and the buffer is `filled`'s.
    let told = filled(|into, size| unsafe { stats(text(cache.as_bytes()), into, size) });
    text_told(told, answer)
}
