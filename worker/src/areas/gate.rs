//! Locks for the moments in which several words of shared memory are read or written together. They are the kernel's, on ranges
//! of the memory's own descriptor (`F_OFD_SETLK`): it frees them when their holder dies, whatever stands in the memory, and
//! nobody has to find out. Nobody ever waits in the kernel: whoever finds a lock taken is suspended for a moment.
//!
//! Such a lock belongs to an opened file, which a fork shares; so each process opens the memory for itself when it first comes.
use crate::suspend::Suspend;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Whoever holds a lock copies a few bytes: it is worth to ask again at once.
const TRIES: usize = 20;
/// Then again after this,
const PAUSE: Duration = Duration::from_millis(1);
/// so often. Only a process that was stopped in the middle holds one for so long.
const PAUSES: usize = 2000;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Beside others who read.
    Read,
    /// Alone.
    Write,
}

/// The locks of one memory.
#[derive(Debug)]
pub struct Gate {
    memory: OwnedFd,
    /// This process's own. One lock at a time: threads take turns.
    opened: Mutex<Option<Opened>>,
}

/// The memory as one process has opened it.
#[derive(Debug)]
struct Opened {
    process: u32,
    file: File,
}

impl Gate {
    /// Those of this memory.
    pub fn new(memory: OwnedFd) -> Gate {
        Gate { memory, opened: Mutex::default() }
    }

    /// Does `work`, which takes no time, while this process has the lock.
    pub fn pass<T>(
        &self,
        lock: u32,
        access: Access,
        suspend: &dyn Suspend,
        work: impl FnOnce() -> T,
    ) -> io::Result<T> {
        for _ in 0..PAUSES {
            for _ in 0..TRIES {
                if let Some(held) = self.try_hold(lock, access)? {
                    let done = work();
                    drop(held);
                    return Ok(done);
                }
                std::hint::spin_loop();
            }
            suspend.sleep_until(Instant::now() + PAUSE)?;
        }
        let why = "another process stands still in the middle of writing there";
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    /// `None`: somebody else has it.
    fn try_hold(&self, lock: u32, access: Access) -> io::Result<Option<Held<'_>>> {
        let mut opened = match self.opened.try_lock() {
            Ok(opened) => opened,
            // Whatever was half done is done again by whoever comes next.
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if opened.as_ref().is_none_or(|opened| opened.process != std::process::id()) {
            *opened = Some(Opened { process: std::process::id(), file: self.open()? });
        }
        let kind = match access {
            Access::Read => libc::F_RDLCK,
            Access::Write => libc::F_WRLCK,
        };
        let held = Held { opened, lock };
        Ok(held.set(kind)?.then_some(held))
    }

    /// The same memory, opened once more.
    fn open(&self) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", self.memory.as_raw_fd());
        OpenOptions::new().read(true).write(true).open(path)
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
struct Held<'a> {
    opened: MutexGuard<'a, Option<Opened>>,
    lock: u32,
}

impl Held<'_> {
    /// False: somebody else has it.
    fn set(&self, kind: i32) -> io::Result<bool> {
        let Some(opened) = &*self.opened else { return Ok(false) };
        let range = libc::flock {
            l_type: kind as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: self.lock.into(),
            l_len: 1,
            l_pid: 0,
        };
        match fcntl(&opened.file, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => Ok(true),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // A lock that is not held is given back without an error, and nothing else can go wrong.
        let _ = self.set(libc::F_UNLCK);
    }
}
