//! Who may write to a store: one thread of one process at a time. A worker's loop must not stand still because another worker
//! was stopped in the middle of a write, so everybody comes through this gate with a deadline. It is a word in a file that all
//! of them map, with the name of whoever is inside; the name of a process that does not live any more keeps nobody out. Used
//! by `store.rs`.
#![expect(unsafe_code, reason = "says that its word may be shared")]

use super::Refusal;
use super::map::reserve;
use crate::shared::{Plain, Shared};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a write waits for the others. They take microseconds, but one of them may have to wait for a processor first.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it waits when the last one waited in vain.
const IMPATIENCE: Duration = Duration::from_micros(200);
/// Tries before it is asked how whoever is inside is, and between two such questions. Who is stopped both times is not waited
/// for any longer.
const TRIES: u32 = 200;
/// Pause between two tries after the first question, so that there are some 10 ms between the first and the second.
const PAUSE: Duration = Duration::from_micros(50);
/// Nobody is inside.
const OPEN: u64 = 0;

#[repr(C)]
#[derive(Debug)]
struct Word(AtomicU64);

// SAFETY: one atomic.
unsafe impl Plain for Word {}

/// The gate of one store.
#[derive(Debug)]
pub struct Gate {
    word: Shared<Word>,
    /// This process, as it stands in the word.
    me: u64,
    /// Its threads take turns here, since they have one name.
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
        let pid = std::process::id();
        let me = name(pid).ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        Gate::open_as(path, me)
    }

    fn open_as(path: &Path, me: u64) -> io::Result<Gate> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        reserve(&file, 0, size_of::<Word>() as u64)?;
        let (word, threads) = (Shared::in_file(file)?, Mutex::new(()));
        Ok(Gate { word, me, threads, was_in_vain: AtomicBool::new(false) })
    }

    /// Waits for one's turn, but not long.
    pub fn enter(&self) -> Result<Turn<'_>, Refusal> {
        let was_in_vain = self.was_in_vain.load(Ordering::Relaxed);
        self.enter_within(if was_in_vain { IMPATIENCE } else { PATIENCE })
    }

    /// The same for so long.
    pub fn enter_within(&self, patience: Duration) -> Result<Turn<'_>, Refusal> {
        // Whoever holds the mutex waits at most as long as we would, and never for anything of ours.
        let thread = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.try_take(OPEN) || self.take(patience);
        if self.was_in_vain.load(Ordering::Relaxed) == taken {
            self.was_in_vain.store(!taken, Ordering::Relaxed);
        }
        if taken { Ok(Turn { gate: self, _thread: thread }) } else { Err(Refusal::Busy) }
    }

    fn try_take(&self, from: u64) -> bool {
        self.word.0.compare_exchange(from, self.me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn take(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        for tries in 1_u32.. {
            if self.try_take(OPEN) {
                return true;
            }
            let is_over = Instant::now() >= deadline;
            if is_over || tries.is_multiple_of(TRIES) {
                let inside = self.word.0.load(Ordering::Relaxed);
                match fate(inside) {
                    _ if inside == OPEN => {}
                    Fate::Gone if self.try_take(inside) => return true,
                    Fate::Stopped if tries > TRIES => break,
                    Fate::Gone | Fate::Stopped | Fate::Runs => {}
                }
            }
            match tries {
                _ if is_over => break,
                ..TRIES => thread::yield_now(),
                _ => thread::sleep(PAUSE),
            }
        }
        false
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let word = &self.gate.word.0;
        let _ = word.compare_exchange(self.gate.me, OPEN, Ordering::Release, Ordering::Relaxed);
    }
}

/// How a process is.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It has ended.
    Gone,
    /// Somebody has stopped it, and must make it go on.
    Stopped,
    /// It goes on, or will by itself.
    Runs,
}

/// A process by its number and its start, for numbers are used again. `None` if it does not live.
fn name(pid: u32) -> Option<u64> {
    look(pid).map(|(name, _)| name)
}

/// The same, and whether it is stopped.
fn look(pid: u32) -> Option<(u64, bool)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (state, start) = state_and_start(&stat)?;
    let name = u64::from(pid) << 32 | start & u64::from(u32::MAX);
    (!matches!(state, "Z" | "X")).then_some((name, matches!(state, "T" | "t")))
}

fn fate(process: u64) -> Fate {
    match u32::try_from(process >> 32).ok().and_then(look) {
        Some((name, true)) if name == process => Fate::Stopped,
        Some((name, false)) if name == process => Fate::Runs,
        _ => Fate::Gone,
    }
}

/// The third field of such a line, and the twenty-second: when the process began, in ticks of the kernel's clock.
fn state_and_start(stat: &str) -> Option<(&str, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    Some((fields.next()?, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::Scratch;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::process::Command;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn one_passes_at_a_time_and_the_next_one_is_not_kept_waiting_for_ever() {
        let scratch = Scratch::new();
        let path = scratch.path().join("gate");
        let here = Gate::open(&path).unwrap();
        let parent = name(nix::unistd::getppid().as_raw() as u32).unwrap();
        let there = Gate::open_as(&path, parent).unwrap();
        let turn = here.enter().unwrap();
        assert!(matches!(there.enter_within(SHORT), Err(Refusal::Busy)));
        assert!(matches!(there.enter(), Err(Refusal::Busy)));
        drop(turn);
        assert!(there.enter().is_ok() && here.enter().is_ok());
    }

    #[test]
    fn whoever_died_inside_keeps_nobody_out() {
        let scratch = Scratch::new();
        let path = scratch.path().join("gate");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let dead = Gate::open_as(&path, name(child.id()).unwrap()).unwrap();
        let turn = dead.enter().unwrap();
        let here = Gate::open(&path).unwrap();
        assert!(matches!(here.enter_within(SHORT), Err(Refusal::Busy)), "it lives, though it does nothing");
        let pid = Pid::from_raw(child.id() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        while fate(dead.me) != Fate::Stopped {
            thread::yield_now();
        }
        let forever = Duration::from_secs(3600);
        assert!(matches!(here.enter_within(forever), Err(Refusal::Busy)), "it does not go on by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(here.enter().is_ok());
        drop(turn);
    }

    #[test]
    fn garbage_keeps_nobody_out() {
        let scratch = Scratch::new();
        let path = scratch.path().join("gate");
        fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert!(Gate::open(&path).unwrap().enter().is_ok());
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
                        assert!(!inside.swap(true, Ordering::Relaxed));
                        inside.store(false, Ordering::Relaxed);
                    }
                });
            }
        });
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_start() {
        let stat = "12 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 0";
        assert_eq!(state_and_start(stat), Some(("S", 4711)));
        assert_eq!(state_and_start("12 (a"), None);
        let me = name(std::process::id()).unwrap();
        assert_eq!((fate(me), fate(me + 1)), (Fate::Runs, Fate::Gone));
    }
}
