//! What the worker's watch thread needs of Python: a signal whose handler looks after overdue requests, and the stacks of
//! everything, also when the interpreter's lock cannot be had. The loop's thread installs it before it serves; the rest is
//! called on the watch thread, which must not wait for the lock.
//!
//! Two real-time signals are sent to the loop's thread, and to no other: [`INTERRUPT`] to Python's own handling, and [`DUMP`],
//! for which `faulthandler` writes all stacks into a file without any lock. Neither is sent while nobody handles it, because
//! it would then end the process.
use crate::stacks::{self, Text};
use crate::{interpreter, timeout};
use appliance_worker::native;
use appliance_worker::report::StackReport;
use appliance_worker::roll::Roll;
use appliance_worker::watch::Watched;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::pthread::{Pthread, pthread_self};
use nix::unistd::{Pid, ftruncate, gettid};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Offsets from `SIGRTMIN` (34 with glibc), as the documentation names them.
const INTERRUPT: i32 = 10;
const DUMP: i32 = 11;

/// The interpreter's lock is waited for so long, and then the stacks are taken without it.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for the loop's thread to write them.
const WRITING: Duration = Duration::from_secs(1);
/// Pause between two looks whether it has.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of a dump that are read: 100 threads of 100 frames are the most that `faulthandler` writes.
const MOST_DUMP: u64 = 1024 * 1024;

/// See the module.
pub struct Watching {
    thread: Pthread,
    tid: Pid,
    roll: Arc<Roll>,
    /// What `faulthandler` writes to, for as long as the process lives.
    dump: File,
    /// A helper still waits for the interpreter's lock.
    is_waiting: Arc<AtomicBool>,
    is_warned: bool,
}

/// What the kernel says of a thread's signals, as masks.
#[derive(Clone, Copy, Debug, Default)]
struct Signals {
    pending: u64,
    blocked: u64,
    caught: u64,
}

impl Signals {
    /// From the text of `/proc/<pid>/task/<tid>/status`.
    fn parse(status: &str) -> Signals {
        let mask = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
        };
        Signals { pending: mask("SigPnd:"), blocked: mask("SigBlk:"), caught: mask("SigCgt:") }
    }
}

fn number(offset: i32) -> i32 {
    libc::SIGRTMIN() + offset
}

fn bit(offset: i32) -> u64 {
    1 << (number(offset) - 1)
}

impl Watching {
    /// On the loop's thread: installs the handlers of both signals.
    pub fn install(py: Python<'_>, roll: &Arc<Roll>, event_loop: &Py<PyAny>) -> PyResult<Watching> {
        let handler = wrap_pyfunction!(timeout::on_signal, py)?;
        py.import("signal")?.call_method1("signal", (number(INTERRUPT), handler))?;
        let dump = memfd_create(c"appliance-stacks", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?;
        // Whoever writes there begins at its end, also after it was emptied.
        fcntl(&dump, FcntlArg::F_SETFL(OFlag::O_APPEND)).map_err(io::Error::from)?;
        let keywords = PyDict::new(py);
        keywords.set_item("file", dump.as_raw_fd())?;
        keywords.set_item("all_threads", true)?;
        keywords.set_item("chain", false)?;
        py.import("faulthandler")?.call_method("register", (number(DUMP),), Some(&keywords))?;
        stacks::install(py, event_loop)?;
        Ok(Watching {
            thread: pthread_self(),
            tid: gettid(),
            roll: Arc::clone(roll),
            dump: dump.into(),
            is_waiting: Arc::default(),
            is_warned: false,
        })
    }

    fn signals(&self) -> Signals {
        let status = std::fs::read_to_string(format!("/proc/self/task/{}/status", self.tid));
        status.map_or_else(|_| Signals::default(), |status| Signals::parse(&status))
    }

    /// Sends a signal to the loop's thread, if anybody handles it there.
    fn signal(&mut self, offset: i32) -> bool {
        let is_handled = self.signals().caught & bit(offset) != 0;
        if is_handled {
            interpreter::signal_thread(self.thread, number(offset));
        } else if !std::mem::replace(&mut self.is_warned, true) {
            tracing::warn!(
                "the application has taken away the handler of signal SIGRTMIN+{offset}: requests that keep the loop are not \
                 interrupted any more, or their stacks not shown"
            );
        }
        is_handled
    }

    /// What `faulthandler` says of all threads; nothing if the loop's thread does not come to it.
    fn dumped(&mut self) -> String {
        if ftruncate(&self.dump, 0).is_err() || !self.signal(DUMP) {
            return String::new();
        }
        let deadline = Instant::now() + WRITING;
        let is_written = || {
            if self.dump.metadata().is_ok_and(|file| file.len() == 0) {
                return false;
            }
            // Its handler has begun, and it is blocked while that runs.
            let Signals { pending, blocked, .. } = self.signals();
            (pending | blocked) & bit(DUMP) == 0
        };
        while !is_written() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        let length = self.dump.metadata().map_or(0, |file| file.len().min(MOST_DUMP));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        match self.dump.read_exact_at(&mut bytes, 0) {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        }
    }

    /// Every stack as Python sees it, by a thread that may wait for the lock as long as it takes.
    fn collected(&self) -> Option<Vec<stacks::Found>> {
        if self.is_waiting.swap(true, Relaxed) {
            return None;
        }
        let (found, result) = mpsc::sync_channel(1);
        let is_waiting = Arc::clone(&self.is_waiting);
        let helper = std::thread::Builder::new().name("stacks".to_owned()).spawn(move || {
            let collected = Python::attach(stacks::collect);
            is_waiting.store(false, Relaxed);
            // Nobody may wait for it any more.
            let _ = found.send(collected);
        });
        if helper.is_err() {
            self.is_waiting.store(false, Relaxed);
            return None;
        }
        result.recv_timeout(PATIENCE).ok()?
    }
}

impl Watched for Watching {
    fn interrupt(&mut self) {
        self.signal(INTERRUPT);
    }

    fn loop_stack(&mut self) -> String {
        Text::parse(&self.dumped()).into_iter().find(|text| text.is_current).map_or_else(
            || "a place that cannot be seen: its thread does not handle signals".to_owned(),
            |text| text.stack,
        )
    }

    fn stacks(&mut self) -> Vec<StackReport> {
        let marks = self.roll.marks();
        let running = self.roll.running().unwrap_or_default();
        let mut reports: Vec<StackReport> = match self.collected() {
            Some(found) => {
                // Whatever began or ended meanwhile is not known to be the one whose stack was seen.
                let running = self.roll.running().filter(|now| *now == running).unwrap_or_default();
                found.into_iter().map(|found| found.report(&marks, &running)).collect()
            }
            None => {
                Text::parse(&self.dumped()).into_iter().map(|text| text.report(&marks, &running)).collect()
            }
        };
        reports.extend(native::stack_reports(&self.roll));
        reports
    }
}
