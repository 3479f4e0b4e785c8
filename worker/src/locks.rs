//! Locks that all workers share (uWSGI `uwsgi.lock`): whoever waits for one is suspended, not its worker, and what a dead
//! worker has held is free again. One [`Locks`] for each worker, opened after the fork and usable from any thread. The words
//! in shared memory are the truth (`table`); the bell, an eventfd that all workers watch, only says that it is worth looking
//! again, and whoever waits looks again now and then without it. The master frees what the dead have held.
//!
//! Inside of a worker those who wait for the same lock have it in the order they came; between workers the fastest wins.
use crate::bell::Bell;
use crate::cores::CoreId;
use crate::suspend::Suspend;
use mio::Interest;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

mod table;
pub use table::{Holder, MOST_NAME, MOST_NUMBER, NAMES, Place, Table};

/// Whoever waits looks again after this, should the bell ever be missed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who holds a lock in this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A request or an errand, at whose end it is freed.
    Core(CoreId),
    /// Somebody else: a thread of the application's, or a callback of the loop.
    Other,
}

/// Why there is no lock.
#[derive(Debug)]
pub enum Failed {
    /// The request holds it already, and would wait for itself.
    Held,
    /// Another worker holds what was to be unlocked.
    Foreign(u32),
    /// There is no room for another name.
    Full,
    /// This process was forked by the application from the worker, and would pass for it.
    Forked,
    /// The wait was ended, or nobody can wait here.
    Wait(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Wait(error)
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Held => write!(f, "the request holds this lock already, and would wait for itself"),
            Failed::Foreign(worker) => write!(f, "worker {worker} holds this lock: only it can unlock it"),
            Failed::Full => {
                write!(f, "there are {NAMES} locks with names already; names are never forgotten")
            }
            Failed::Forked => {
                write!(
                    f,
                    "a process that the application has forked has no locks; take them in the worker itself"
                )
            }
            Failed::Wait(error) => error.fmt(f),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Locks {
    table: Table,
    bell: Bell,
    me: Holder,
    /// The worker's process, for the application may fork others.
    process: u32,
    /// The highest number that may be used (`workers.locks`).
    most: u32,
    state: Mutex<State>,
    /// How many locks this worker holds, so that a request that ends need not look.
    held: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<Place, Owner>,
    waiting: BTreeMap<Place, VecDeque<Arc<Bell>>>,
}

impl Locks {
    /// Those of a worker, in its process.
    pub fn open(table: OwnedFd, bell: OwnedFd, me: Holder, most: u32) -> io::Result<Locks> {
        let bell = Bell::from_fd(bell);
        let (state, held, process) = (Mutex::default(), AtomicUsize::new(0), std::process::id());
        Ok(Locks { table: Table::open(table)?, bell, me, process, most, state, held })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes readable when somebody should look again ([`Locks::on_bell`]). It is never read: watch it edge-triggered.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The lock with a number; `None`: the configuration does not have so many.
    pub fn numbered(&self, number: i64) -> Option<Place> {
        u32::try_from(number).ok().filter(|&number| number <= self.most).map(Place::number)
    }

    /// The lock with a name of 1 to [`MOST_NAME`] bytes, from the first call that names it on.
    pub fn named(&self, name: &str) -> Result<Place, Failed> {
        self.table.named(name).ok_or(Failed::Full)
    }

    /// Refuses a process that has them by a fork of the application's. Ask before anything else.
    pub fn require_own(&self) -> Result<(), Failed> {
        if std::process::id() == self.process { Ok(()) } else { Err(Failed::Forked) }
    }

    /// Whether anybody holds it.
    pub fn is_locked(&self, place: Place) -> bool {
        self.table.holder(place).is_some()
    }

    /// Takes it if it is free and nobody here waits for it.
    pub fn try_lock(&self, place: Place, owner: Owner) -> bool {
        let mut state = self.state();
        let is_next = state.waiting.get(&place).is_none_or(VecDeque::is_empty);
        is_next && self.take(&mut state, place, owner)
    }

    fn take(&self, state: &mut State, place: Place, owner: Owner) -> bool {
        let is_taken = self.table.take(place, self.me);
        if is_taken {
            state.held.insert(place, owner);
            self.held.store(state.held.len(), Relaxed);
        }
        is_taken
    }

    /// Takes it; waits while somebody else holds it, until `deadline`. False: it has not come in time.
    pub fn lock(
        self: &Arc<Self>,
        place: Place,
        owner: Owner,
        suspend: &dyn Suspend,
        deadline: Option<Instant>,
    ) -> Result<bool, Failed> {
        if owner != Owner::Other && self.state().held.get(&place) == Some(&owner) {
            return Err(Failed::Held);
        }
        if self.try_lock(place, owner) {
            return Ok(true);
        }
        let turn = Turn::join(self, place)?;
        loop {
            if turn.try_take(owner) {
                return Ok(true);
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Ok(false);
            }
            let look = now + LOOK_AGAIN;
            let until = deadline.map_or(look, |deadline| deadline.min(look));
            suspend.ready(turn.bell.as_fd().as_raw_fd(), Interest::READABLE, Some(until))?;
            turn.bell.hush();
        }
    }

    /// Gives it back, whoever in this worker took it. A lock that nobody holds is left alone.
    pub fn unlock(&self, place: Place) -> Result<(), Failed> {
        let mut state = self.state();
        match self.table.holder(place) {
            None => Ok(()),
            Some(holder) if holder == self.me => {
                self.give(&mut state, place);
                Ok(())
            }
            Some(holder) => Err(Failed::Foreign(holder.worker())),
        }
    }

    fn give(&self, state: &mut State, place: Place) {
        state.held.remove(&place);
        self.held.store(state.held.len(), Relaxed);
        if self.table.give(place, self.me) {
            self.bell.ring();
        }
        call_next(state, place);
    }

    /// A request or an errand has ended: what it still holds is freed. How many that were.
    pub fn release_all_of(&self, core: CoreId) -> usize {
        if self.held.load(Relaxed) == 0 {
            return 0;
        }
        let mut state = self.state();
        let is_its = |owner: &Owner| *owner == Owner::Core(core);
        let places: Vec<Place> =
            state.held.iter().filter(|(_, owner)| is_its(owner)).map(|(&place, _)| place).collect();
        places.iter().for_each(|&place| self.give(&mut state, place));
        places.len()
    }

    /// The bell was rung: whoever is next here looks again.
    pub fn on_bell(&self) {
        let state = self.state();
        state.waiting.values().filter_map(VecDeque::front).for_each(|first| first.ring());
    }
}

fn call_next(state: &State, place: Place) {
    if let Some(first) = state.waiting.get(&place).and_then(VecDeque::front) {
        first.ring();
    }
}

/// A place among those who wait for a lock in this worker. However the wait ends, the next one is called.
#[derive(Debug)]
pub struct Turn {
    locks: Arc<Locks>,
    place: Place,
    bell: Arc<Bell>,
}

impl Turn {
    /// Behind those who wait already.
    pub fn join(locks: &Arc<Locks>, place: Place) -> io::Result<Turn> {
        let bell = Arc::new(Bell::new()?);
        locks.state().waiting.entry(place).or_default().push_back(Arc::clone(&bell));
        Ok(Turn { locks: Arc::clone(locks), place, bell })
    }

    /// Rung when it is worth to try again.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Takes the lock if it is free and this one is next.
    pub fn try_take(&self, owner: Owner) -> bool {
        // In this order: whoever gives it back after it was found taken has seen that it is wanted.
        self.locks.table.want(self.place);
        let mut state = self.locks.state();
        let is_first = (state.waiting.get(&self.place).and_then(VecDeque::front))
            .is_some_and(|first| Arc::ptr_eq(first, &self.bell));
        is_first && self.locks.take(&mut state, self.place, owner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.locks.state();
        if let Some(queue) = state.waiting.get_mut(&self.place) {
            queue.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
            if queue.is_empty() {
                state.waiting.remove(&self.place);
            }
        }
        call_next(&state, self.place);
    }
}

#[cfg(test)]
mod tests;
