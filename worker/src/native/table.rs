//! The functions that a native application may call: the worker's side of `appliance_app::abi`. Each finds the coroutine that
//! calls it, checks what it was given, and calls one method of [`Here`]; none unwinds. What they mean stands in the interface.
//! Those that belong to no request are in `anywhere` (how they answer), `cache` and `metrics`.
#![expect(unsafe_code, reason = "takes pointers over the C interface")]

pub(super) mod anywhere;
mod cache;
mod metrics;

use super::call::Number;
use super::fiber;
use super::waiting::Here;
use crate::{Interest, reactor};
use anywhere::Refused;
use appliance_app::abi::{self, ApplianceHost, ApplianceRun, ApplianceText};
use nix::errno::Errno;
use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

mod websocket;

/// Bytes of stack that the functions below need, with what they call. A coroutine that has less left is not let in: it would
/// overflow in the middle of the engine's own business.
const ROOM: usize = 24 * 1024;

/// Longest wait; a year is for ever.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// See the module.
pub(super) static HOST: ApplianceHost = ApplianceHost {
    version: abi::APPLIANCE_VERSION,
    size: size_of::<ApplianceHost>() as u32,
    text,
    header,
    header_at,
    read,
    set_status,
    add_header,
    write,
    flush,
    send_file,
    fail,
    sleep,
    ready,
    spawn,
    join,
    blocking,
    worker_id,
    log,
    status,
    reason: Some(anywhere::reason),
    cache_get: Some(cache::get),
    cache_set: Some(cache::set),
    cache_delete: Some(cache::delete),
    cache_count: Some(cache::count),
    cache_life: Some(cache::life),
    cache_keys: Some(cache::keys),
    cache_clear: Some(cache::clear),
    cache_stats: Some(cache::stats),
    metric: Some(metrics::metric),
    metric_series: Some(metrics::series),
    metric_change: Some(metrics::change),
    metric_value: Some(metrics::value),
    websocket_offer: Some(websocket::offer),
    websocket_accept: Some(websocket::accept),
    websocket_receive: Some(websocket::receive),
    websocket_send: Some(websocket::send),
    websocket_close: Some(websocket::close),
    websocket_closed: Some(websocket::closed),
};

/// Runs the body of one of the functions: its result as a number, or a negative `errno`.
fn answer(act: impl FnOnce(Here) -> Result<i64, Errno>) -> i64 {
    let act = || {
        let here = Here::current()?;
        require_room(&here)?;
        act(here)
    };
    // The panic hook has logged where.
    let result = catch_unwind(AssertUnwindSafe(act)).unwrap_or(Err(Errno::EIO));
    result.unwrap_or_else(|error| -i64::from(error as i32))
}

/// Ends a request that has too little of its stack left.
fn require_room(here: &Here) -> Result<(), Errno> {
    if fiber::has_room(ROOM) {
        return Ok(());
    }
    here.call.note_failure("stack overflow: raise workers.stack, or put less on the stack");
    here.call.end(super::call::Ending::Overflowed);
    Err(Errno::ECANCELED)
}

fn short(act: impl FnOnce(Here) -> Result<(), Errno>) -> i32 {
    // An errno fits.
    answer(|here| act(here).map(|()| 0)) as i32
}

/// The same with a sentence for whoever asks, and for the log if the application fails without a word.
fn told(act: impl FnOnce(&Here) -> Result<(), Refused>) -> i32 {
    let act = || {
        let here = Here::current()?;
        act(&here).inspect_err(|refused| here.call.note_failure(&refused.why))?;
        Ok(0)
    };
    anywhere::answer(act) as i32
}

/// # Safety
/// The bytes are valid for `'a`.
unsafe fn bytes<'a>(text: ApplianceText) -> Result<&'a [u8], Errno> {
    if text.length == 0 {
        return Ok(&[]);
    }
    if text.data.is_null() || text.length > isize::MAX as usize {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(text.data.cast(), text.length) })
}

fn text_of(bytes: &[u8]) -> ApplianceText {
    ApplianceText { data: bytes.as_ptr().cast(), length: bytes.len() }
}

unsafe extern "C" fn text(what: u32) -> ApplianceText {
    let mut found = ApplianceText { data: std::ptr::null(), length: 0 };
    short(|here| {
        let request = &here.call.request;
        let head = &request.received.head;
        // The call, and what is borrowed of it, outlives its handler.
        found = text_of(match what {
            abi::APPLIANCE_METHOD => head.method().as_bytes(),
            abi::APPLIANCE_TARGET => head.target(),
            abi::APPLIANCE_PATH => head.path(),
            abi::APPLIANCE_QUERY => head.query(),
            abi::APPLIANCE_CLIENT => request.client(),
            abi::APPLIANCE_SCHEME => request.origin().map_or(b"http", |origin| origin.scheme),
            abi::APPLIANCE_REQUEST_ID => head.request_id().unwrap_or_default(),
            _ => return Err(Errno::EINVAL),
        });
        Ok(())
    });
    found
}

unsafe extern "C" fn header(name: ApplianceText, value: *mut ApplianceText) -> i32 {
    let found = answer(|here| {
        // SAFETY: the caller promises bytes that are valid during the call.
        let name = str::from_utf8(unsafe { bytes(name) }?).map_err(|_| Errno::EINVAL)?;
        let Some(found) = here.call.request.received.head.header(name) else { return Ok(1) };
        // SAFETY: the caller promises a place for the value, or null.
        unsafe { put(value, found) }.map(|()| 0)
    });
    found as i32
}

/// # Safety
/// `place` is null or may be written to.
unsafe fn put(place: *mut ApplianceText, bytes: &[u8]) -> Result<(), Errno> {
    if place.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the caller's promise.
    unsafe { place.write(text_of(bytes)) };
    Ok(())
}

unsafe extern "C" fn header_at(index: usize, name: *mut ApplianceText, value: *mut ApplianceText) -> i32 {
    let found = answer(|here| {
        let head = &here.call.request.received.head;
        let Some((found, said)) = head.headers().nth(index) else { return Ok(1) };
        // SAFETY: the caller promises places for both, or null.
        unsafe { put(name, found.as_bytes()).and(put(value, said)) }.map(|()| 0)
    });
    found as i32
}

unsafe extern "C" fn read(into: *mut c_char, size: usize) -> isize {
    let count = answer(|here| {
        if into.is_null() && size > 0 {
            return Err(Errno::EFAULT);
        }
        let bytes = here.body(size)?;
        let count = bytes.len().min(size);
        // SAFETY: the caller promises room for `size` bytes, and a wait does not change that.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into.cast(), count) };
        Ok(count as i64)
    });
    count as isize
}

unsafe extern "C" fn set_status(status: u16) -> i32 {
    told(|here| here.set_status(status))
}

unsafe extern "C" fn add_header(name: ApplianceText, value: ApplianceText) -> i32 {
    // SAFETY: the caller promises bytes that are valid during the call.
    told(|here| here.add_header(unsafe { bytes(name) }?, unsafe { bytes(value) }?))
}

unsafe extern "C" fn write(data: ApplianceText) -> i32 {
    // SAFETY: as above.
    short(|here| here.write(unsafe { bytes(data) }?))
}

unsafe extern "C" fn flush() -> i32 {
    short(|here| here.flush())
}

unsafe extern "C" fn send_file(fd: i32, offset: u64, count: u64) -> i32 {
    short(|here| {
        let raw = |error: std::io::Error| error.raw_os_error().map_or(Errno::EBADF, Errno::from_raw);
        here.send_file(reactor::duplicate(fd).map_err(raw)?.into(), offset, count)
    })
}

unsafe extern "C" fn fail(why: ApplianceText) -> i32 {
    // SAFETY: as above.
    let why = unsafe { bytes(why) }.map(String::from_utf8_lossy);
    if let (Err(Errno::EPERM), Ok(why)) = (Here::current(), &why) {
        anywhere::note(why);
        return 0;
    }
    short(|here| {
        here.call.fail(&why?);
        Ok(())
    })
}

unsafe extern "C" fn sleep(micros: u64) -> i32 {
    short(|here| here.sleep(Instant::now() + Duration::from_micros(micros).min(LONGEST)))
}

unsafe extern "C" fn ready(fd: i32, what: u32, micros: i64) -> i32 {
    let interest = match what {
        abi::APPLIANCE_READ => Some(Interest::READABLE),
        abi::APPLIANCE_WRITE => Some(Interest::WRITABLE),
        3 => Some(Interest::READABLE | Interest::WRITABLE),
        _ => None,
    };
    answer(|here| here.fd(fd, interest.ok_or(Errno::EINVAL)?, deadline(micros)).map(i64::from)) as i32
}

/// When a wait of so many microseconds is over; a negative number never is.
fn deadline(micros: i64) -> Option<Instant> {
    let micros = u64::try_from(micros).ok()?;
    Some(Instant::now() + Duration::from_micros(micros).min(LONGEST))
}

/// What crosses to a coroutine or a thread: a function, and what was handed over for it.
struct Work {
    run: unsafe extern "C" fn(*mut c_void),
    data: *mut c_void,
}

// SAFETY: whoever asks for a thread promises that the data may be sent to it.
unsafe impl Send for Work {}

impl Work {
    fn new(run: ApplianceRun, data: *mut c_void) -> Result<Work, Errno> {
        run.map(|run| Work { run, data }).ok_or(Errno::EFAULT)
    }

    fn call(self) {
        // SAFETY: whoever handed it over promises that it may be called once with its data.
        unsafe { (self.run)(self.data) };
    }
}

unsafe extern "C" fn spawn(run: ApplianceRun, data: *mut c_void) -> i64 {
    answer(|here| {
        let work = Work::new(run, data)?;
        if here.call.ending().is_some() {
            return Err(Errno::ECANCELED);
        }
        here.native.spawn(&here.call, move || work.call()).map(Number::to_interface)
    })
}

unsafe extern "C" fn join(number: i64) -> i32 {
    short(|here| here.join(Number::of_interface(number).ok_or(Errno::ESRCH)?))
}

unsafe extern "C" fn blocking(run: ApplianceRun, data: *mut c_void) -> i32 {
    short(|here| {
        let work = Work::new(run, data)?;
        let (core, remote) = (here.call.core, here.native.engine.remote());
        let done = here.native.blocking.run(move || work.call(), core, remote).map_err(|_| Errno::EAGAIN)?;
        here.done(|| done.load(Acquire))
    })
}

unsafe extern "C" fn worker_id() -> i32 {
    answer(|here| Ok(here.native.engine.worker_id().into())) as i32
}

unsafe extern "C" fn log(level: u32, line: ApplianceText) -> i32 {
    let logged = anywhere::answer(|| {
        // SAFETY: as above.
        let line = String::from_utf8_lossy(unsafe { bytes(line) }?);
        let worker = Here::current().ok().map(|here| here.native.engine.worker_id());
        match level {
            0 => tracing::error!(worker, "{line}"),
            1 => tracing::warn!(worker, "{line}"),
            2 => tracing::info!(worker, "{line}"),
            _ => tracing::debug!(worker, "{line}"),
        }
        Ok(0)
    });
    logged as i32
}

unsafe extern "C" fn status(into: *mut c_char, size: usize) -> isize {
    let length = answer(|here| {
        let text = super::builtin::status_text(&here.native.engine);
        // SAFETY: the caller promises room for `size` bytes.
        unsafe { give(text.as_bytes(), into, size) }
    });
    length as isize
}

/// Copies bytes to where there may be room for them, and says how many they are.
///
/// # Safety
/// `into` is null or has room for `size` bytes.
unsafe fn give(bytes: &[u8], into: *mut c_char, size: usize) -> Result<i64, Errno> {
    if into.is_null() && size > 0 {
        return Err(Errno::EFAULT);
    }
    if bytes.len() <= size {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy(bytes.as_ptr(), into.cast(), bytes.len()) };
    }
    Ok(bytes.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_coroutines_nothing_is_done() {
        let refused = -(Errno::EPERM as i32);
        // SAFETY: no pointers are handed over.
        let codes = unsafe { [sleep(1), flush(), set_status(200), join(0), worker_id()] };
        assert_eq!(codes, [refused; 5]);
    }
}
