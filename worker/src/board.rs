//! The board: shared memory in which every worker publishes its state and counters. The master makes it before any fork;
//! each process maps the same `memfd`. Each field has one writer (the worker that owns the slot, or the master where
//! said), every access is a relaxed atomic, and a reader must treat what it finds as an untrusted number.
//!
//! The processes of a worker id follow each other; each is a *life* of the worker, and the master numbers them upwards. An id has
//! two slots, used by even and odd lives, so that a successor can boot beside its predecessor. The master starts no third one
//! while two are there, and may skip a number so that a life gets the slot that is free.
#![expect(unsafe_code, reason = "says that its layout may be shared")]

use crate::shared::{Plain, Shared};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the latency histogram's buckets in milliseconds; the last bucket has no bound.
pub const LATENCY_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000];
/// Slots of one worker id.
pub const BANKS: u32 = 2;
/// Worker ids that there is room for, as many as `workers.max` may be. Pages that nobody writes cost no memory, so every
/// board has them all, and the number of workers may change while it is in use.
pub const CAPACITY: u32 = 1024;

/// What a worker is doing.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No process.
    #[default]
    Dead = 0,
    /// Forked, not yet accepting.
    Booting = 1,
    /// Serving.
    Ready = 2,
    /// Finishing what it has; takes no new connections.
    Draining = 3,
}

impl State {
    fn from_number(n: u32) -> State {
        match n {
            1 => State::Booting,
            2 => State::Ready,
            3 => State::Draining,
            _ => State::Dead,
        }
    }
}

/// One worker's page. Written by that worker only, but for `state`, which the master sets to dead when it reaps.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Slot {
    /// Process id.
    pub pid: AtomicU32,
    /// Which of the processes of this worker id it is.
    pub life: AtomicU32,
    state: AtomicU32,
    /// Requests it can run at once.
    pub cores: AtomicU32,
    /// Requests it is running.
    pub busy: AtomicU32,
    /// Requests that wait for a core.
    pub waiting: AtomicU32,
    /// Open connections.
    pub connections: AtomicU32,
    /// Resident memory in KiB, refreshed about once a second.
    pub rss_kib: AtomicU32,
    /// Requests finished.
    pub requests: AtomicU64,
    /// Requests that ended with an error of the application.
    pub exceptions: AtomicU64,
    /// The same of all lives that have had this slot.
    pub all_exceptions: AtomicU64,
    /// Bytes sent, by all lives.
    pub bytes_out: AtomicU64,
    /// Last turn of the loop, in milliseconds of the monotonic clock.
    pub tick_ms: AtomicU64,
    /// How long the last turn kept the loop, in microseconds.
    pub lag_us: AtomicU64,
    /// Finished requests by duration, of all lives; bounds in [`LATENCY_MS`].
    pub latency: [AtomicU64; LATENCY_MS.len() + 1],
    /// How long these have taken together, in microseconds.
    pub latency_us: AtomicU64,
    /// Signals of the application that have come to a core.
    pub signals: AtomicU64,
}

impl Slot {
    /// Current state.
    pub fn state(&self) -> State {
        State::from_number(self.state.load(Relaxed))
    }

    /// Publishes a new state.
    pub fn set_state(&self, state: State) {
        self.state.store(state as u32, Relaxed);
    }

    /// A new process takes the slot: what it counts for itself starts again from nothing.
    pub fn claim(&self, pid: u32, life: u32, cores: u32) {
        self.set_state(State::Booting);
        for counter in [&self.busy, &self.waiting, &self.connections, &self.rss_kib] {
            counter.store(0, Relaxed);
        }
        for counter in [&self.requests, &self.exceptions, &self.tick_ms, &self.lag_us, &self.signals] {
            counter.store(0, Relaxed);
        }
        self.cores.store(cores, Relaxed);
        self.life.store(life, Relaxed);
        self.pid.store(pid, Relaxed);
    }

    /// Counts a finished request.
    pub fn count_latency(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LATENCY_MS.iter().position(|bound| micros <= bound * 1000).unwrap_or(LATENCY_MS.len());
        add(&self.latency[bucket], 1);
        add(&self.latency_us, micros);
    }

    /// Counts an error of the application.
    pub fn count_exception(&self) {
        add(&self.exceptions, 1);
        add(&self.all_exceptions, 1);
    }
}

/// Adds to a counter that only this process writes: cheaper than a locked read-modify-write.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Milliseconds of the monotonic clock, the same in every process of the machine.
pub fn monotonic_ms() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    now.map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000 + now.tv_nsec().unsigned_abs() / 1_000_000)
}

/// Resident and virtual memory of this process in bytes.
pub fn memory() -> (u64, u64) {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut sizes = statm.split_whitespace().map(|pages| pages.parse::<u64>().unwrap_or(0) * PAGE);
    let virtual_size = sizes.next().unwrap_or(0);
    (sizes.next().unwrap_or(0), virtual_size)
}

/// What an application may ask of a master that it may not signal, because that runs as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// `uwsgi.reload()`.
    Reload,
    /// `uwsgi.stop()`.
    Stop,
}

/// What stands before the slots. The number of workers and the end are written by the master, wishes are counted by whoever has one.
#[repr(C, align(64))]
#[derive(Debug)]
struct Header {
    workers: AtomicU32,
    reloads: AtomicU32,
    stops: AtomicU32,
    /// In milliseconds of the monotonic clock; 0: it does not.
    leaving_since: AtomicU64,
}

/// The whole of the shared memory.
#[repr(C)]
#[derive(Debug)]
struct Layout {
    header: Header,
    slots: [Slot; (CAPACITY * BANKS) as usize],
    /// Processes of each worker that the master has started.
    starts: [AtomicU32; CAPACITY as usize],
}

// SAFETY: atomics only.
unsafe impl Plain for Layout {}

/// The mapped board.
#[derive(Debug)]
pub struct Board(Shared<Layout>);

impl Board {
    /// Makes the board for workers `1..=workers`, at most [`CAPACITY`]. Master only, before the first fork.
    pub fn create(workers: u32) -> io::Result<Board> {
        let board = Board(Shared::create(c"appliance-board")?);
        board.set_workers(workers);
        Ok(board)
    }

    /// Maps a board that another process made.
    pub fn open(fd: OwnedFd) -> io::Result<Board> {
        Shared::open(fd).map(Board)
    }

    /// Number of worker ids in use: they are `1..=workers()`.
    pub fn workers(&self) -> u32 {
        self.0.header.workers.load(Relaxed).min(CAPACITY)
    }

    /// Changes the number of worker ids in use. Master only.
    pub fn set_workers(&self, workers: u32) {
        self.0.header.workers.store(workers.min(CAPACITY), Relaxed);
    }

    /// Whether the appliance is about to end: what has no end of its own ends now.
    pub fn is_leaving(&self) -> bool {
        self.0.header.leaving_since.load(Relaxed) != 0
    }

    /// How long it has been about to end.
    pub fn leaving_for(&self) -> Duration {
        match self.0.header.leaving_since.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(monotonic_ms().saturating_sub(since)),
        }
    }

    /// The appliance is about to end. Master only.
    pub fn set_leaving(&self) {
        self.0.header.leaving_since.store(monotonic_ms().max(1), Relaxed);
    }

    /// Asks the master for something; it looks once a second.
    pub fn ask(&self, wish: Wish) {
        self.wishes(wish).fetch_add(1, Relaxed);
    }

    /// How often this was asked for, modulo 2³². A difference to the last look is a wish, however large.
    pub fn asked(&self, wish: Wish) -> u32 {
        self.wishes(wish).load(Relaxed)
    }

    fn wishes(&self, wish: Wish) -> &AtomicU32 {
        match wish {
            Wish::Reload => &self.0.header.reloads,
            Wish::Stop => &self.0.header.stops,
        }
    }

    /// The memfd, to hand to another process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// The slot that this life of a worker writes. Ids outside `1..=CAPACITY` are an error of the caller.
    pub fn slot(&self, worker_id: u32, life: u32) -> &Slot {
        assert!((1..=CAPACITY).contains(&worker_id), "worker {worker_id} has no slot on the board");
        &self.0.slots[((worker_id - 1) * BANKS + life % BANKS) as usize]
    }

    /// Both slots of a worker: what all of its lives have counted is in them together.
    pub fn slots(&self, worker_id: u32) -> [&Slot; BANKS as usize] {
        [self.slot(worker_id, 0), self.slot(worker_id, 1)]
    }

    /// Another process of a worker is started. Master only.
    pub fn count_start(&self, worker_id: u32) {
        if let Some(starts) = self.0.starts.get(worker_id.wrapping_sub(1) as usize) {
            starts.fetch_add(1, Relaxed);
        }
    }

    /// Processes of a worker that were started.
    pub fn starts(&self, worker_id: u32) -> u32 {
        self.0.starts.get(worker_id.wrapping_sub(1) as usize).map_or(0, |starts| starts.load(Relaxed))
    }

    /// The slot that speaks for a worker now: the ready one of the newest life, else the one that is not dead.
    pub fn current(&self, worker_id: u32) -> &Slot {
        let (even, odd) = (self.slot(worker_id, 0), self.slot(worker_id, 1));
        let rank = |slot: &Slot| {
            let rank = match slot.state() {
                State::Ready => 3,
                State::Draining => 2,
                State::Booting => 1,
                State::Dead => 0,
            };
            (rank, slot.life.load(Relaxed))
        };
        if rank(odd) > rank(even) { odd } else { even }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_see_the_same_slot() {
        let here = Board::create(3).unwrap();
        let there = Board::open(here.fd().try_clone_to_owned().unwrap()).unwrap();
        here.slot(3, 0).claim(42, 0, 100);
        here.slot(3, 0).set_state(State::Ready);
        assert_eq!((there.current(3).pid.load(Relaxed), there.current(3).state()), (42, State::Ready));
        assert_eq!(there.current(2).state(), State::Dead);
    }

    #[test]
    fn the_ready_slot_of_the_newest_life_speaks() {
        let board = Board::create(1).unwrap();
        board.slot(1, 4).claim(10, 4, 1);
        board.slot(1, 4).set_state(State::Ready);
        board.slot(1, 5).claim(11, 5, 1);
        assert_eq!(board.current(1).pid.load(Relaxed), 10, "a booting successor does not speak yet");
        board.slot(1, 5).set_state(State::Ready);
        assert_eq!(board.current(1).pid.load(Relaxed), 11);
    }

    #[test]
    fn the_number_of_workers_may_change() {
        let here = Board::create(1).unwrap();
        let there = Board::open(here.fd().try_clone_to_owned().unwrap()).unwrap();
        here.set_workers(7);
        here.slot(7, 1).claim(42, 1, 1);
        assert_eq!((there.workers(), there.current(7).pid.load(Relaxed)), (7, 42));
        here.set_workers(u32::MAX);
        assert_eq!(there.workers(), CAPACITY);
    }

    #[test]
    fn a_wish_is_counted_for_the_master() {
        let here = Board::create(1).unwrap();
        let there = Board::open(here.fd().try_clone_to_owned().unwrap()).unwrap();
        there.ask(Wish::Reload);
        assert_eq!((here.asked(Wish::Reload), here.asked(Wish::Stop)), (1, 0));
    }

    #[test]
    fn what_is_counted_for_good_outlives_a_process() {
        let board = Board::create(1).unwrap();
        for life in 0..3 {
            let slot = board.slot(1, life);
            slot.claim(10 + life, life, 1);
            slot.count_exception();
            slot.count_latency(Duration::from_millis(3));
            board.count_start(1);
        }
        let sum = |of: fn(&Slot) -> &AtomicU64| {
            board.slots(1).map(|slot| of(slot).load(Relaxed)).iter().sum::<u64>()
        };
        assert_eq!((sum(|slot| &slot.all_exceptions), sum(|slot| &slot.latency[2])), (3, 3));
        assert_eq!((sum(|slot| &slot.latency_us), sum(|slot| &slot.exceptions)), (9000, 2));
        assert_eq!((board.starts(1), board.starts(0), board.starts(CAPACITY + 1)), (3, 0, 0));
    }

    #[test]
    fn garbage_in_the_state_reads_as_dead() {
        let slot = Slot::default();
        slot.state.store(77, Relaxed);
        assert_eq!(slot.state(), State::Dead);
    }
}
