//! The only calls across the boundary: the worker's functions, with safe types around them. Every other file of this crate
//! calls these. A request that has been ended comes back as `-ECANCELED` and goes on as an unwinding of this crate's own, so
//! that destructors run and nothing unwinds across the boundary. Caches and metrics, which belong to no request, have files of
//! their own below.
#![expect(unsafe_code, reason = "calls the worker's functions")]

mod anywhere;
pub(crate) mod cache;
pub(crate) mod metrics;
pub(crate) mod websocket;

use crate::abi::{APPLIANCE_VERSION, ApplianceHost, ApplianceRun, ApplianceText};
use nix::errno::Errno;
use std::ffi::{c_char, c_void};
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::resume_unwind;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

static HOST: OnceLock<ApplianceHost> = OnceLock::new();

/// What unwinds the handler of a request that has been ended.
pub(crate) struct Ended;

/// Takes the worker's functions. A host of another version is not taken: it refuses the application anyway. An older one has
/// fewer functions, and those that it does not have are none.
///
/// # Safety
/// `host` is null or points to functions that live as long as the process, as many as its size says.
#[doc(hidden)]
pub unsafe fn install(host: *const ApplianceHost) {
    if host.is_null() {
        return;
    }
    // SAFETY: every version begins with these two.
    let (version, size) = unsafe { ((*host).version, (*host).size as usize) };
    if version != APPLIANCE_VERSION || size < offset_of!(ApplianceHost, reason) {
        return;
    }
    let mut taken = MaybeUninit::<ApplianceHost>::zeroed();
    let size = size.min(size_of::<ApplianceHost>());
    // SAFETY: the caller's promise, and there is room for so many bytes.
    unsafe { ptr::copy_nonoverlapping(host.cast::<u8>(), taken.as_mut_ptr().cast::<u8>(), size) };
    // SAFETY: all functions up to `reason` are there, and zeros are none of those that follow.
    HOST.get_or_init(|| unsafe { taken.assume_init() });
}

/// The worker's functions, if this process is one.
fn host() -> io::Result<&'static ApplianceHost> {
    HOST.get().ok_or_else(|| Errno::EPERM.into())
}

fn text(bytes: &[u8]) -> ApplianceText {
    ApplianceText { data: bytes.as_ptr().cast(), length: bytes.len() }
}

const NOTHING: ApplianceText = ApplianceText { data: ptr::null(), length: 0 };

/// # Safety
/// The worker has given the text, and the request that it belongs to outlives `'a`.
unsafe fn bytes<'a>(text: ApplianceText) -> &'a [u8] {
    if text.data.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(text.data.cast(), text.length) }
}

/// What the worker has answered, as a result.
fn answer<N: Copy + Into<i64>>(number: N) -> io::Result<N> {
    let wide: i64 = number.into();
    if wide >= 0 {
        return Ok(number);
    }
    let errno = Errno::from_raw(i32::try_from(-wide).unwrap_or_default());
    if errno == Errno::ECANCELED && !std::thread::panicking() {
        resume_unwind(Box::new(Ended));
    }
    Err(errno.into())
}

fn answer_size(number: isize) -> io::Result<usize> {
    Ok(usize::try_from(answer(number as i64)?).unwrap_or_default())
}

/// Nobody waits while a panic unwinds the stack: the others would find themselves in the middle of it.
fn may_wait() -> io::Result<()> {
    if std::thread::panicking() {
        return Err(io::Error::other("nothing can wait while a panic unwinds the stack"));
    }
    Ok(())
}

/// One of the texts of the request, for a caller who holds the request for `'a`.
pub(crate) fn request_text<'a>(what: u32) -> &'a [u8] {
    // SAFETY: a function of the worker; a `Request` exists only while its handler runs.
    host().map_or(&[], |host| unsafe { bytes((host.text)(what)) })
}

/// A header field of the request, likewise.
pub(crate) fn header<'a>(name: &[u8]) -> Option<&'a [u8]> {
    let mut value = NOTHING;
    // SAFETY: as above, and both pointers are valid during the call.
    let found = host().ok().is_some_and(|host| unsafe { (host.header)(text(name), &raw mut value) } == 0);
    // SAFETY: as above.
    found.then(|| unsafe { bytes(value) })
}

/// The header field at a place, likewise.
pub(crate) fn header_at<'a>(index: usize) -> Option<(&'a [u8], &'a [u8])> {
    let (mut name, mut value) = (NOTHING, NOTHING);
    // SAFETY: as above.
    let code = unsafe { (host().ok()?.header_at)(index, &raw mut name, &raw mut value) };
    // SAFETY: as above.
    (code == 0).then(|| unsafe { (bytes(name), bytes(value)) })
}

pub(crate) fn read(into: &mut [u8]) -> io::Result<usize> {
    may_wait()?;
    // SAFETY: the buffer is ours during the call.
    answer_size(unsafe { (host()?.read)(into.as_mut_ptr().cast(), into.len()) })
}

pub(crate) fn set_status(status: u16) -> io::Result<()> {
    // SAFETY: a function of the worker.
    anywhere::answer(unsafe { (host()?.set_status)(status) }).map(drop)
}

pub(crate) fn add_header(name: &[u8], value: &[u8]) -> io::Result<()> {
    // SAFETY: the texts are valid during the call.
    anywhere::answer(unsafe { (host()?.add_header)(text(name), text(value)) }).map(drop)
}

pub(crate) fn write(data: &[u8]) -> io::Result<()> {
    may_wait()?;
    // SAFETY: as above.
    answer(unsafe { (host()?.write)(text(data)) }).map(drop)
}

pub(crate) fn flush() -> io::Result<()> {
    may_wait()?;
    // SAFETY: a function of the worker.
    answer(unsafe { (host()?.flush)() }).map(drop)
}

pub(crate) fn send_file(fd: BorrowedFd<'_>, offset: u64, count: u64) -> io::Result<()> {
    may_wait()?;
    // SAFETY: the descriptor is open during the call.
    answer(unsafe { (host()?.send_file)(fd.as_raw_fd(), offset, count) }).map(drop)
}

/// Says why the request failed; what its handler answers then.
pub(crate) fn fail(why: &str) -> i32 {
    if let Ok(host) = host() {
        // SAFETY: the text is valid during the call. It answers what matters to nobody any more.
        unsafe { (host.fail)(text(why.as_bytes())) };
    }
    1
}

pub(crate) fn sleep(time: Duration) -> io::Result<()> {
    may_wait()?;
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    // SAFETY: a function of the worker.
    answer(unsafe { (host()?.sleep)(micros) }).map(drop)
}

pub(crate) fn ready(fd: BorrowedFd<'_>, what: u32, timeout: Option<Duration>) -> io::Result<bool> {
    may_wait()?;
    // SAFETY: the descriptor is open during the call.
    answer(unsafe { (host()?.ready)(fd.as_raw_fd(), what, micros(timeout)) }).map(|code| code == 1)
}

/// A time-out as the interface has it: none is a negative one.
fn micros(timeout: Option<Duration>) -> i64 {
    timeout.map_or(-1, |time| i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

/// # Safety
/// `run` may be called once with `data`, on this thread, during this call and after it.
pub(crate) unsafe fn spawn(run: ApplianceRun, data: *mut c_void) -> io::Result<i64> {
    may_wait()?;
    // SAFETY: the caller's promise.
    answer(unsafe { (host()?.spawn)(run, data) })
}

pub(crate) fn join(number: i64) -> io::Result<()> {
    may_wait()?;
    // SAFETY: a function of the worker.
    answer(unsafe { (host()?.join)(number) }).map(drop)
}

/// # Safety
/// `run` may be called once with `data`, on another thread, during this call and after it.
pub(crate) unsafe fn blocking(run: ApplianceRun, data: *mut c_void) -> io::Result<()> {
    may_wait()?;
    // SAFETY: the caller's promise.
    answer(unsafe { (host()?.blocking)(run, data) }).map(drop)
}

/// How much a line in the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Somebody must do something.
    Error = 0,
    /// Somebody should know.
    Warn = 1,
    /// News.
    Info = 2,
    /// For whoever debugs.
    Debug = 3,
}

/// Writes a line to the log of the appliance; nowhere outside of a worker.
pub fn log(level: Level, line: &str) {
    if let Ok(host) = host() {
        // SAFETY: the text is valid during the call.
        unsafe { (host.log)(level as u32, text(line.as_bytes())) };
    }
}

/// Number of this worker, from 1; 0 outside of workers.
pub fn worker_id() -> u32 {
    // SAFETY: a function of the worker.
    host().map_or(0, |host| u32::try_from(unsafe { (host.worker_id)() }).unwrap_or_default())
}

/// What this worker publishes of itself, as JSON.
pub fn status() -> io::Result<String> {
    let status = host()?.status;
    // SAFETY: the buffer is `filled`'s during the call.
    text_told(filled(|into, size| unsafe { status(into, size) }), answer)
}

/// Text, or the error that the number in its place stands for.
fn text_told(told: Result<Vec<u8>, isize>, error: impl Fn(i64) -> io::Result<i64>) -> io::Result<String> {
    let not_text = || io::Error::from(io::ErrorKind::InvalidData);
    match told {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| not_text()),
        Err(code) => Err(error(code as i64).err().unwrap_or_else(not_text)),
    }
}

/// What a function gives that copies bytes to where there is room for them, and says how many there are; or the number that it
/// answers in their place.
fn filled(give: impl Fn(*mut c_char, usize) -> isize) -> Result<Vec<u8>, isize> {
    /// Bytes of room for the first try.
    const ROOM: usize = 1024;
    let mut room = vec![0; ROOM];
    loop {
        let length = give(room.as_mut_ptr().cast(), room.len());
        let length = usize::try_from(length).map_err(|_| length)?;
        let is_whole = length <= room.len();
        room.resize(length, 0);
        if is_whole {
            return Ok(room);
        }
    }
}
