//! More than one thing at once in a request: coroutines beside its own, and threads for what blocks.
#![expect(unsafe_code, reason = "hands closures over the boundary as pointers")]

use crate::host;
use nix::errno::Errno;
use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A coroutine beside that of the handler, or of another one of the same request.
#[derive(Debug)]
pub struct Task<T> {
    number: i64,
    work: Rc<Beside<T>>,
}

struct Beside<T> {
    run: Cell<Option<Box<dyn FnOnce() -> T>>>,
    result: Cell<Option<thread::Result<T>>>,
}

impl<T> std::fmt::Debug for Beside<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

/// Runs a function in a coroutine of this request, at once, until it first waits; then the caller goes on. Those that still run
/// when the handler returns are ended. An error if the request has 4096 of them already, or there is no memory for a stack.
pub fn spawn<T: 'static>(run: impl FnOnce() -> T + 'static) -> io::Result<Task<T>> {
    let work = Rc::new(Beside { run: Cell::new(Some(Box::new(run))), result: Cell::new(None) });
    let given = Given(Rc::into_raw(Rc::clone(&work)));
    // SAFETY: `run_beside` takes the reference that is given away, once.
    let number = unsafe { host::spawn(Some(run_beside::<T>), given.0.cast_mut().cast()) };
    match number {
        Ok(number) => {
            std::mem::forget(given);
            Ok(Task { number, work })
        }
        Err(error) => Err(explained(error)),
    }
}

/// What its number alone does not say.
fn explained(error: io::Error) -> io::Error {
    let why = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => {
            "the request has as many coroutines as it may have: let some of them end before it spawns more"
        }
        Some(Errno::EPERM) => "only a coroutine of a request can spawn another one, and no other thread",
        Some(Errno::EDEADLK) => "coroutines that wait for one another would wait for ever",
        _ => return error,
    };
    io::Error::new(error.kind(), why)
}

/// A reference that is about to be given away. It is still ours if the call fails, or unwinds because the request has been ended.
struct Given<T>(*const Beside<T>);

impl<T> Drop for Given<T> {
    fn drop(&mut self) {
        // SAFETY: it was made by `into_raw`, and nobody has taken it.
        drop(unsafe { Rc::from_raw(self.0) });
    }
}

/// # Safety
/// `data` is a reference to a `Beside<T>` that is given away.
unsafe extern "C" fn run_beside<T>(data: *mut c_void) {
    // SAFETY: the caller's promise.
    let work = unsafe { Rc::from_raw(data.cast::<Beside<T>>()) };
    contained(move || {
        if let Some(run) = work.run.take() {
            work.result.set(Some(catch_unwind(AssertUnwindSafe(run))));
        }
    });
}

/// Runs what must not unwind: a result that nobody takes is dropped in there, and its destructor may wait or panic.
fn contained(run: impl FnOnce()) {
    // The panic hook has logged where, and there is nobody whom it could be told.
    let _ = catch_unwind(AssertUnwindSafe(run));
}

impl<T> Task<T> {
    /// Waits for its end and gives what it returned. A panic in it goes on here. An error at once (`Deadlock`) if it would never
    /// end, because it waits itself for the coroutine that calls this, or is that one.
    pub fn join(self) -> io::Result<T> {
        host::join(self.number).map_err(explained)?;
        match self.work.result.take() {
            Some(Ok(result)) => Ok(result),
            Some(Err(panic)) => resume_unwind(panic),
            None => Err(Errno::ESRCH.into()),
        }
    }
}

struct Blocking<T> {
    run: Mutex<Option<Box<dyn FnOnce() -> T + Send>>>,
    result: Mutex<Option<thread::Result<T>>>,
}

/// Runs a function that blocks on a thread of a bounded pool, while the other requests go on, and gives what it returned. A panic
/// in it goes on here. If the request is ended meanwhile, the function runs to its end for nobody.
pub fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let work = Arc::new(Blocking { run: Mutex::new(Some(Box::new(run))), result: Mutex::new(None) });
    let data = Arc::into_raw(Arc::clone(&work)).cast_mut().cast::<c_void>();
    // SAFETY: `run_blocking` takes the reference that was given away, once, and what is in it may be sent to its thread.
    // It unwinds if the request has been ended, and then the function may still run; any other failure leaves it to us.
    match unsafe { host::blocking(Some(run_blocking::<T>), data) } {
        Ok(()) => {}
        // This is no coroutine, and the calling thread may block.
        // SAFETY: nobody has taken the reference.
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => unsafe {
            run_blocking::<T>(data);
        },
        Err(error) => {
            // SAFETY: as above.
            drop(unsafe { Arc::from_raw(data.cast::<Blocking<T>>()) });
            return Err(error);
        }
    }
    let result = work.result.lock().unwrap_or_else(PoisonError::into_inner).take();
    match result {
        Some(Ok(result)) => Ok(result),
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(Errno::ESRCH.into()),
    }
}

/// # Safety
/// `data` is a reference to a `Blocking<T>` that is given away.
unsafe extern "C" fn run_blocking<T>(data: *mut c_void) {
    // SAFETY: the caller's promise.
    let work = unsafe { Arc::from_raw(data.cast::<Blocking<T>>()) };
    contained(move || {
        let run = work.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(run) = run {
            let result = catch_unwind(AssertUnwindSafe(run));
            *work.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    });
}
