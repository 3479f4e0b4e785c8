//! Who may write to a store: one thread of one process at a time. LMDB has a lock of its own, but that can only be waited
//! for without an end, and a worker's loop must not stand still because another worker was stopped in the middle of a
//! write. So everybody comes through this gate first, with a deadline; whoever is killed leaves it open, for the kernel
//! takes the lock back. Used by `store.rs`.
use super::Refusal;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a write waits for the others; they take microseconds.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long it waits when the last one waited in vain: the store is held by a process that does not run.
const IMPATIENCE: Duration = Duration::from_micros(200);
/// Tries before the pauses between them become longer than a turn of the scheduler.
const QUICK_TRIES: u32 = 200;
/// That longer pause.
const PAUSE: Duration = Duration::from_micros(50);

/// The gate of one store.
#[derive(Debug)]
pub struct Gate {
    /// Locked by one process; its threads share the lock and come through the mutex first.
    file: File,
    threads: Mutex<()>,
    was_in_vain: AtomicBool,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    gate: &'a Gate,
    _thread: MutexGuard<'a, ()>,
}

impl Gate {
    /// Opens it for this process; its file is made by whoever comes first.
    pub fn open(path: &Path) -> io::Result<Gate> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Gate { file, threads: Mutex::new(()), was_in_vain: AtomicBool::new(false) })
    }

    /// Waits for one's turn, but not long.
    pub fn enter(&self) -> Result<Turn<'_>, Refusal> {
        self.enter_within(if self.was_in_vain.load(Relaxed) { IMPATIENCE } else { PATIENCE })
    }

    /// The same for so long.
    pub fn enter_within(&self, patience: Duration) -> Result<Turn<'_>, Refusal> {
        // Whoever holds the mutex waits at most as long as we would, and never for anything of ours.
        let thread = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.take(patience)?;
        self.was_in_vain.store(!taken, Relaxed);
        if taken { Ok(Turn { gate: self, _thread: thread }) } else { Err(Refusal::Busy) }
    }

    fn take(&self, patience: Duration) -> Result<bool, Refusal> {
        let mut tries = 0;
        let mut deadline = None;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(Refusal::Store(format!("its lock: {error}"))),
            }
            if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + patience) {
                return Ok(false);
            }
            tries += 1;
            if tries < QUICK_TRIES { thread::yield_now() } else { thread::sleep(PAUSE) }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // It was locked by us; the kernel has no reason to refuse.
        let _ = self.gate.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::Scratch;

    #[test]
    fn one_passes_at_a_time_and_the_next_one_is_not_kept_waiting_for_ever() {
        let scratch = Scratch::new();
        let path = scratch.path().join("gate");
        let (here, there) = (Gate::open(&path).unwrap(), Gate::open(&path).unwrap());
        let turn = here.enter().unwrap();
        assert!(matches!(there.enter(), Err(Refusal::Busy)));
        assert!(matches!(there.enter(), Err(Refusal::Busy)));
        drop(turn);
        assert!(there.enter().is_ok());
    }

    #[test]
    fn threads_of_one_process_take_turns() {
        let scratch = Scratch::new();
        let gate = Gate::open(&scratch.path().join("gate")).unwrap();
        let inside = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _turn = gate.enter().unwrap();
                        assert!(!inside.swap(true, Relaxed));
                        inside.store(false, Relaxed);
                    }
                });
            }
        });
    }
}
