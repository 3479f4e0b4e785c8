//! [`Suspend`] for Python: how a subsystem's code, which knows neither greenlets nor the GIL, waits. In a request only that
//! request waits; in any other Python thread that thread does, with the GIL released; on the loop nobody may.
//!
//! Used like this: `let here = Suspended::here(py, "cache.get()")?;` then `subsystem.get(&here).map_err(|error|
//! here.raise(error))`, so that whatever ended the wait (the client has left, the time is over) reaches the application as it
//! was.
use crate::host::Worker;
use crate::wait;
use crate::wsgi::call::Call;
use appliance_worker::Interest;
use appliance_worker::suspend::Suspend;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A thread that waits looks this often whether a signal has a handler to be run: there may be another thread for them.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whoever calls, for as long as one call of a subsystem takes.
pub struct Suspended<'py> {
    py: Python<'py>,
    place: Place,
    /// What has ended the wait.
    raised: RefCell<Option<PyErr>>,
}

enum Place {
    /// In a request, whether its greenlet or its thread.
    Request(Rc<Worker>, Rc<Call>),
    /// In a thread of the application's own, in the template, or in a `@postfork` function.
    Thread,
}

impl<'py> Suspended<'py> {
    /// For whoever calls now; `what` names the call to an application that must not wait here.
    pub fn here(py: Python<'py>, what: &str) -> PyResult<Suspended<'py>> {
        let place = match Worker::current() {
            Err(_) => Place::Thread,
            Ok(worker) => match worker.current_call(py)? {
                Some(call) => Place::Request(worker, call),
                None if worker.aio.serves() => {
                    return Err(PyRuntimeError::new_err(format!(
                        "{what} works only inside a request or in a thread (asyncio.to_thread()): it would keep the loop from all \
                         requests; in a coroutine await its form with an `a` before its name, or appliance.on_core(), and take \
                         locks by `async with`"
                    )));
                }
                None => Place::Thread,
            },
        };
        Ok(Suspended { py, place, raised: RefCell::default() })
    }

    /// For a call that waits for moments only, and hardly ever: on the loop too.
    pub fn anywhere(py: Python<'py>, what: &str) -> Suspended<'py> {
        let raised = RefCell::default();
        Suspended::here(py, what).unwrap_or(Suspended { py, place: Place::Thread, raised })
    }

    /// The exception for an error that a subsystem has given: that which ended the wait, if one did.
    pub fn raise(self, error: io::Error) -> PyErr {
        self.ended().unwrap_or_else(|| error.into())
    }

    /// What has ended the wait, if something did.
    pub fn ended(self) -> Option<PyErr> {
        self.raised.into_inner()
    }

    /// Notes why nobody waits any more.
    fn note(&self, error: PyErr) -> io::Error {
        self.raised.replace(Some(error));
        io::Error::new(io::ErrorKind::Interrupted, "what waited here was told to end")
    }

    fn in_request(
        &self,
        worker: &Worker,
        call: &Call,
        deadline: Option<Instant>,
        is_over: impl Fn() -> bool,
    ) -> io::Result<()> {
        wait::with_timer(worker, call, deadline, || {
            while !is_over() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
                wait::park(self.py, worker, call).map_err(|error| self.note(error))?;
            }
            Ok(())
        })
    }

    /// Waits with the GIL released, for at most [`PATIENCE`] at a time.
    fn in_thread<T>(
        &self,
        deadline: Option<Instant>,
        wait: impl Fn(Duration) -> io::Result<Option<T>> + Sync,
    ) -> io::Result<Option<T>>
    where
        T: Send,
    {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let pause = left.map_or(PATIENCE, |left| left.min(PATIENCE));
            if let Some(done) = self.py.detach(|| wait(pause))? {
                return Ok(Some(done));
            }
            if left == Some(pause) {
                return Ok(None);
            }
            self.py.check_signals().map_err(|error| self.note(error))?;
        }
    }
}

impl Suspend for Suspended<'_> {
    fn ready(&self, fd: RawFd, interest: Interest, deadline: Option<Instant>) -> io::Result<bool> {
        let Place::Request(worker, call) = &self.place else {
            // Whoever owns the descriptor may close it in another thread meanwhile.
            let fd = appliance_worker::reactor::duplicate(fd)?;
            return Ok(self.in_thread(deadline, |pause| poll(fd.as_fd(), interest, pause))?.is_some());
        };
        let watched = worker.engine.wake_on_fd(call.core, fd, interest)?;
        let has_fired = || worker.engine.wait_fired(call.core, watched);
        let waited = self.in_request(worker, call, deadline, has_fired);
        let is_ready = has_fired();
        worker.engine.cancel_wait(call.core, watched);
        waited.map(|()| is_ready)
    }

    fn sleep_until(&self, when: Instant) -> io::Result<()> {
        match &self.place {
            Place::Request(worker, call) => self.in_request(worker, call, Some(when), || false),
            Place::Thread => {
                let sleep = |pause| {
                    std::thread::sleep(pause);
                    Ok(None::<()>)
                };
                self.in_thread(Some(when), sleep).map(drop)
            }
        }
    }
}

/// Waits until a descriptor is ready; `None` if it is not after `pause`.
fn poll(fd: std::os::fd::BorrowedFd<'_>, interest: Interest, pause: Duration) -> io::Result<Option<()>> {
    let mut events = PollFlags::empty();
    events.set(PollFlags::POLLIN, interest.is_readable());
    events.set(PollFlags::POLLOUT, interest.is_writable());
    // Rounded up, so that nobody who waits for the end of a millisecond spins.
    let pause = pause.as_nanos().div_ceil(1_000_000);
    let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
    match nix::poll::poll(&mut [PollFd::new(fd, events)], pause) {
        Ok(0) | Err(Errno::EINTR) => Ok(None),
        Ok(_) => Ok(Some(())),
        Err(error) => Err(error.into()),
    }
}
