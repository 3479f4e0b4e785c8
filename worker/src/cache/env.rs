//! The files of one store: an LMDB environment on a file system in memory, mapped by every worker. LMDB keeps what was
//! committed whole when a writer is killed. It never syncs here: nothing in the store outlives the machine.
//!
//! LMDB writes through its map, so a full file system would end the process with a signal; [`Env::reserve`] takes the
//! memory before a write may touch it. The rules of LMDB that the callers keep: opened once in a process and after its fork,
//! and no transaction is left open.
#![expect(
    unsafe_code,
    reason = "LMDB maps files that other processes write to, so opening one is unsafe by signature"
)]

use super::Refusal;
use heed::types::Bytes;
use heed::{Database, EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithTls};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Keys and values as they are.
pub type Table = Database<Bytes, Bytes>;

/// Threads that may read at once, in all workers of two generations; more than that read in turns.
const READERS: u32 = 4096;
/// Pages are taken for so many bytes at a time.
const STEP: u64 = 1024 * 1024;
/// What one transaction may touch beyond the pages in use, but for the value itself: copies of what it changes.
const SLACK: u64 = 1024 * 1024;
const PAGE: u64 = 4096;
/// LMDB's own names for the file of items, and for the one in which readers have their places.
const DATA: &str = "data.mdb";
const READING: &str = "lock.mdb";

/// An open environment.
#[derive(Debug)]
pub struct Env {
    env: heed::Env,
    file: File,
    /// Never closed before the environment: that would take LMDB's locks on it from this process (POSIX, `fcntl`).
    _reading: File,
    reserved: AtomicU64,
    slack: u64,
    process: u32,
    /// Items by key.
    pub items: Table,
    /// Keys of items by the moment in which they expire.
    pub expiry: Table,
    /// Keys of items by their last use.
    pub order: Table,
    /// The counts.
    pub counts: Table,
}

impl Env {
    /// Opens the environment in `folder`, or makes it, for `size` bytes of items of which none is longer than `item_size`.
    pub fn open(folder: &Path, size: u64, item_size: u64) -> Result<Env, Refusal> {
        let mut options = EnvOpenOptions::new();
        // Never smaller than another generation has it: that would end whoever writes where the file was cut off.
        let there = fs::metadata(folder.join(DATA)).map_or(0, |found| found.len());
        options.map_size(map_size(size, there)).max_dbs(3).max_readers(READERS);
        // SAFETY: without syncs a crash of the machine could corrupt the files, but they do not outlive it.
        unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP | EnvFlags::NO_READ_AHEAD) };
        // SAFETY: the folder is the caches' own, and closed to everybody but the workers; they open it by this function only.
        let env = unsafe { options.open(folder) }.map_err(refusal)?;
        let open = |name| File::options().read(true).write(true).open(folder.join(name)).map_err(store);
        let (file, reading) = (open(DATA)?, open(READING)?);
        reading
            .metadata()
            .map_err(store)
            .and_then(|found| take(&reading, 0, found.len()).map_err(no_room))?;
        take(&file, 0, STEP).map_err(no_room)?;
        let mut txn = env.write_txn().map_err(refusal)?;
        let mut table = |name| env.create_database(&mut txn, Some(name)).map_err(refusal);
        let (items, expiry) = (table("items")?, table("expiry")?);
        let order = table("order")?;
        // Beside the names of the tables: that page changes with every transaction anyway.
        let counts = env.create_database(&mut txn, None).map_err(refusal)?;
        txn.commit().map_err(refusal)?;
        let process = std::process::id();
        let (reserved, slack) = (AtomicU64::new(0), SLACK + item_size + size / 256);
        Ok(Env { env, file, _reading: reading, reserved, slack, process, items, expiry, order, counts })
    }

    /// Begins to read: a moment of the store, which no writer changes. `None`: too many threads do.
    pub fn read(&self) -> Result<Option<RoTxn<'_, WithTls>>, Refusal> {
        self.require_own()?;
        match self.env.read_txn() {
            Ok(txn) => Ok(Some(txn)),
            Err(heed::Error::Mdb(MdbError::ReadersFull)) => Ok(None),
            Err(error) => Err(refusal(error)),
        }
    }

    /// Begins to write. The caller has its turn at the gate, and has asked for it as the process that opened this.
    pub fn write(&self) -> Result<RwTxn<'_>, Refusal> {
        self.reserve().map_err(|error| match error {
            Errno::ENOSPC | Errno::EDQUOT => Refusal::Full,
            other => Refusal::Store(other.to_string()),
        })?;
        self.env.write_txn().map_err(refusal)
    }

    /// Frees the places of readers that were killed; what they read could not be used again.
    pub fn forget_the_dead(&self) {
        if let Err(error) = self.env.clear_stale_readers() {
            tracing::warn!(%error, "the readers of a cache cannot be looked through");
        }
    }

    /// Bytes of memory that the store has.
    pub fn memory(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().map_or(0, |found| found.blocks() * 512)
    }

    fn reserve(&self) -> nix::Result<()> {
        let used = (self.env.info().last_page_number as u64 + 1) * PAGE;
        let needed = (used + self.slack).min(self.env.info().map_size as u64);
        let reserved = self.reserved.load(Relaxed);
        if needed <= reserved {
            return Ok(());
        }
        let end = needed.next_multiple_of(STEP);
        take(&self.file, reserved, end - reserved)?;
        self.reserved.store(end, Relaxed);
        Ok(())
    }

    /// Refuses a process that has it by a fork of the application's.
    pub fn require_own(&self) -> Result<(), Refusal> {
        if std::process::id() == self.process { Ok(()) } else { Err(Refusal::Forked) }
    }
}

/// Refuses a new store where there is no room for an empty one: its files are written through maps from the beginning.
pub fn require_room(folder: &Path) -> Result<(), Refusal> {
    if folder.join(DATA).exists() {
        return Ok(());
    }
    let path = folder.join(format!("room-{}", std::process::id()));
    let taken = File::create(&path).map_err(store).and_then(|file| take(&file, 0, 2 * STEP).map_err(no_room));
    let _ = fs::remove_file(path);
    taken
}

/// Takes the memory of a part of a file.
fn take(file: &File, from: u64, bytes: u64) -> nix::Result<()> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match fallocate(file, FallocateFlags::empty(), signed(from), signed(bytes)) {
        // A file system that cannot is not one in memory; its maps grow as they are written.
        Err(Errno::EOPNOTSUPP) => Ok(()),
        taken => taken,
    }
}

fn no_room(error: Errno) -> Refusal {
    Refusal::Store(format!("an empty one finds no room there: {}", error.desc()))
}

/// Address space for a store: pages are half empty at worst, and copies of changed ones come beside them. Only what is used
/// of it takes memory.
fn map_size(size: u64, there: u64) -> usize {
    const ROOM: u64 = 64 * 1024 * 1024;
    let wanted = size.saturating_mul(3).saturating_add(ROOM).max(there);
    usize::try_from(wanted.next_multiple_of(PAGE)).unwrap_or(usize::MAX)
}

/// What LMDB says, in our words.
pub fn refusal(error: heed::Error) -> Refusal {
    match error {
        heed::Error::Mdb(MdbError::MapFull) => Refusal::Full,
        other => Refusal::Store(other.to_string()),
    }
}

/// The same for a file.
pub fn store(error: io::Error) -> Refusal {
    Refusal::Store(error.to_string())
}
