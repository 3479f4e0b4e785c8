//! What the functions of caches and metrics have in common: any thread may call them, an older worker does not have them, and
//! what they refuse is a sentence, as it is of a status and of header fields.
#![expect(unsafe_code, reason = "calls the worker's functions")]

use super::{HOST, filled};
use crate::abi::ApplianceHost;
use std::io;

/// One of the functions that not every worker has.
pub(super) fn function<F>(choose: impl FnOnce(&ApplianceHost) -> Option<F>) -> io::Result<F> {
    let needs = |what| io::Error::new(io::ErrorKind::Unsupported, what);
    let host = HOST.get().ok_or_else(|| {
        needs("caches and metrics are there only in an application that the appliance has loaded")
    })?;
    choose(host).ok_or_else(|| {
        needs("the appliance that has loaded this application is too old to offer it caches and metrics")
    })
}

/// What one of them has answered, as a result.
pub(super) fn answer<N: Copy + Into<i64>>(number: N) -> io::Result<N> {
    super::answer(number)
        .map_err(|error| io::Error::new(error.kind(), reason().unwrap_or_else(|| error.to_string())))
}

/// Why the last of them that failed on this thread did so.
fn reason() -> Option<String> {
    let give = function(|host| host.reason).ok()?;
    // SAFETY: the buffer is `filled`'s during the call.
    let told = filled(|into, size| unsafe { give(into, size) });
    String::from_utf8(told.ok()?).ok().filter(|told| !told.is_empty())
}
