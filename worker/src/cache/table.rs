//! The file of a cache, mapped: its numbers by name, and its memory as it is taken. Made and opened by `tables.rs`. What is
//! done with it stands in `seek.rs` (reading, which waits for nobody), `change.rs` (writing, by whoever has its turn),
//! `chunks.rs`, `heap.rs` and `order.rs` (their parts), and `recover.rs` (after a writer was killed).
//!
//! Nothing in it is believed: every index is looked up within its bounds, and every way through it has an end.
use super::Refusal;
use super::layout::{Field, Geometry, Head, MAGIC, PLACE, SLOT, TALLIES, TALLY, TALLY_COUNT, WORD};
use super::map::{Map, PAGE, reserve};
use super::slot::Slot;
use super::word::{Word, marked};
use nix::errno::Errno;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher, RandomState};
use std::io;
use std::ops::Index;
use std::path::Path;

/// Memory is taken for so many bytes at a time, so that this seldom happens, and never takes long.
const STEP: u64 = 256 * 1024;
/// What the hash of a table is tried with.
const PROOF: &[u8] = b"appliance";

/// A table.
#[derive(Debug)]
pub struct Table {
    words: Map,
    file: File,
    sizes: Geometry,
    /// The hash of nothing, which knows the secret.
    hasher: DefaultHasher,
    /// Which one of those that a cache has had.
    number: u64,
    /// Where this process counts what it reads.
    tally: u64,
}

impl Table {
    /// Makes an empty one. Whoever has none of its file knows nothing of it until it is made.
    pub fn create(path: &Path, number: u64, sizes: Geometry) -> Result<Table, Refusal> {
        let file = File::options().read(true).write(true).create_new(true).open(path).map_err(store)?;
        file.set_len(sizes.bytes()).map_err(store)?;
        // The head and all buckets, and then the first of everything else.
        let taken = reserve(&file, 0, sizes.slots_at() * WORD);
        taken.map_err(|error| {
            store(io::Error::other(format!("an empty one finds no room: {}", error.desc())))
        })?;
        let words = Map::of(&file, sizes.bytes()).map_err(store)?;
        let random = || std::hash::BuildHasher::build_hasher(&RandomState::new()).finish();
        let secret = [random(), random()];
        let table = Table { words, file, sizes, hasher: hasher(secret), number, tally: tally() };
        for (name, number) in [
            (Head::Secret, secret[0]),
            (Head::Secret2, secret[1]),
            (Head::Proof, table.hash(PROOF)),
            (Head::Buckets, sizes.buckets),
            (Head::Slots, sizes.slots),
            (Head::Chunks, sizes.chunks),
            (Head::ChunkWords, sizes.chunk_words),
            (Head::SlotsMade, 1),
            (Head::SlotsTaken, 1),
            (Head::ChunksMade, 1),
            (Head::ChunksTaken, 1),
        ] {
            table[name].store(number);
        }
        table[Head::Magic].publish(MAGIC);
        Ok(table)
    }

    /// Opens the one that lies there.
    pub fn open(path: &Path, number: u64) -> Result<Table, Refusal> {
        let file = File::options().read(true).write(true).open(path).map_err(store)?;
        let odd = || store(io::Error::other("its file was made by another version of appliance"));
        let head = Map::of(&file, PAGE).map_err(|_| odd())?;
        let at = |name: Head| head[name as usize].load();
        let sizes = Geometry {
            buckets: at(Head::Buckets),
            slots: at(Head::Slots),
            chunks: at(Head::Chunks),
            chunk_words: at(Head::ChunkWords),
        };
        if head[Head::Magic as usize].acquire() != MAGIC || !sizes.is_possible() {
            return Err(odd());
        }
        let secret = [at(Head::Secret), at(Head::Secret2)];
        let words = Map::of(&file, sizes.bytes()).map_err(|_| odd())?;
        let table = Table { words, file, sizes, hasher: hasher(secret), number, tally: tally() };
        if table[Head::Proof].load() == table.hash(PROOF) { Ok(table) } else { Err(odd()) }
    }

    /// Which one of those that the cache has had.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its sizes.
    pub fn sizes(&self) -> Geometry {
        self.sizes
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().map_or(0, |found| found.blocks() * 512)
    }

    /// The hash of a key. Nobody who does not know the secret can choose keys that share a bucket.
    pub fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.clone();
        hasher.write(key);
        hasher.finish()
    }

    /// Which bucket has the keys of this hash.
    pub fn bucket_of(&self, hash: u64) -> u64 {
        hash & (self.sizes.buckets - 1)
    }

    /// The bucket of this number.
    pub fn bucket(&self, number: u64) -> &Word {
        self.word(self.sizes.buckets_at() + (number & (self.sizes.buckets - 1)))
    }

    /// The slot of this number; `None`: it is none.
    pub fn slot(&self, number: u64) -> Option<Slot<'_>> {
        let is_one = (1..self.sizes.slots).contains(&number);
        let at = self.sizes.slots_at().checked_add(number.checked_mul(SLOT)?)?;
        self.words(at, SLOT).filter(|_| is_one).and_then(Slot::of)
    }

    /// The words of the chunk of this number, which begin with the number of the next one.
    pub fn chunk(&self, number: u64) -> Option<&[Word]> {
        let is_one = (1..self.sizes.chunks).contains(&number);
        let at = self.sizes.chunks_at().checked_add(number.checked_mul(self.sizes.chunk_words)?)?;
        self.words(at, self.sizes.chunk_words).filter(|_| is_one)
    }

    /// A place in the heap.
    pub fn place(&self, number: u64) -> Option<[&Word; 2]> {
        let is_one = number < self.sizes.slots;
        let at = self.sizes.heap_at().checked_add(number.checked_mul(PLACE)?)?;
        self.words(at, PLACE).filter(|_| is_one).map(|words| [&words[0], &words[1]])
    }

    fn words(&self, at: u64, count: u64) -> Option<&[Word]> {
        let at = usize::try_from(at).ok()?;
        self.words.get(at..at.checked_add(usize::try_from(count).ok()?)?)
    }

    fn word(&self, at: u64) -> &Word {
        &self.words[usize::try_from(at).expect("a place in mapped memory is one of this machine")]
    }

    /// Counts a read.
    pub fn count(&self, is_hit: bool) {
        self.word(TALLIES + TALLY * self.tally + u64::from(!is_hit)).count(1);
    }

    /// Hits and misses of all.
    pub fn tallies(&self) -> (u64, u64) {
        let sum = |which| {
            let each = (0..TALLY_COUNT).map(|n| self.word(TALLIES + TALLY * n + which).load());
            each.fold(0_u64, u64::wrapping_add)
        };
        (sum(0), sum(1))
    }

    /// Counts what another table has counted.
    pub fn add_tallies(&self, (hits, misses): (u64, u64)) {
        self.word(TALLIES).count(hits);
        self.word(TALLIES + 1).count(misses);
    }

    /// One change, by whoever has its turn. If it ends early, because of an error or a death, the next turn begins with
    /// [`Table::recover`].
    pub fn change<T>(&self, change: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
        self[Head::Dirty].store(1);
        marked();
        let done = change()?;
        self[Head::Changes].store(self[Head::Changes].load().wrapping_add(1));
        self[Head::Dirty].publish(0);
        Ok(done)
    }

    /// A stamp that is later than all others.
    pub fn next_stamp(&self) -> u64 {
        let stamp = self[Head::Stamp].load().wrapping_add(1);
        self[Head::Stamp].store(stamp);
        stamp
    }

    /// Adds to a number, by whoever has its turn.
    pub fn add(&self, name: Head, more: u64) {
        self[name].store(self[name].load().wrapping_add(more));
    }

    /// Subtracts from one.
    pub fn subtract(&self, name: Head, less: u64) {
        self[name].store(self[name].load().saturating_sub(less));
    }

    /// What the caller has found cannot be. The next turn begins with looking through everything.
    pub fn broken(&self) -> Refusal {
        self[Head::Dirty].store(1);
        Refusal::Store(
            "its memory was overwritten; what is left of it will be found by the next write".to_owned(),
        )
    }

    /// Takes memory, so that there are a free slot and so many free chunks; [`Refusal::Full`]: there is none.
    pub fn make_ready(&self, chunks: u64) -> Result<(), Refusal> {
        if self[Head::SlotsFree].load() == 0 {
            self.take_slots()?;
        }
        let wanted = chunks.saturating_sub(self[Head::ChunksFreeCount].load());
        if wanted == 0 {
            return Ok(());
        }
        let needed = self[Head::ChunksMade].load().saturating_add(wanted);
        let taken = self[Head::ChunksTaken].load();
        if needed > self.sizes.chunks {
            return Err(Refusal::Full);
        }
        if needed > taken {
            let step = STEP / (self.sizes.chunk_words * WORD);
            let end = needed.max(taken.saturating_add(step)).min(self.sizes.chunks);
            self.take(self.sizes.chunks_at(), self.sizes.chunk_words, taken, end)?;
            self[Head::ChunksTaken].publish(end);
        }
        Ok(())
    }

    fn take_slots(&self) -> Result<(), Refusal> {
        let (made, taken) = (self[Head::SlotsMade].load(), self[Head::SlotsTaken].load().max(1));
        if made < taken {
            return Ok(());
        }
        let end = taken.saturating_add(STEP / (SLOT * WORD)).min(self.sizes.slots);
        if made >= end {
            return Err(Refusal::Full);
        }
        self.take(self.sizes.slots_at(), SLOT, taken, end)?;
        self.take(self.sizes.heap_at(), PLACE, taken - 1, end)?;
        self[Head::SlotsTaken].publish(end);
        Ok(())
    }

    fn take(&self, at: u64, words: u64, from: u64, end: u64) -> Result<(), Refusal> {
        let bytes = |count: u64| count.saturating_mul(words * WORD);
        match reserve(&self.file, at * WORD + bytes(from), bytes(end.saturating_sub(from))) {
            Ok(()) => Ok(()),
            Err(Errno::ENOSPC | Errno::EDQUOT | Errno::ENOMEM) => Err(Refusal::Full),
            Err(other) => Err(Refusal::Store(other.to_string())),
        }
    }

    /// A slot that nobody uses; there is one, for the caller has made ready.
    pub fn take_slot(&self) -> Result<(u64, Slot<'_>), Refusal> {
        let free = self[Head::SlotsFree].load();
        if free != 0 {
            let slot = self.slot(free).ok_or_else(|| self.broken())?;
            self[Head::SlotsFree].store(slot[Field::Newer].load());
            return Ok((free, slot));
        }
        let made = self[Head::SlotsMade].load();
        let slot = self.slot(made).ok_or_else(|| self.broken())?;
        self[Head::SlotsMade].store(made + 1);
        Ok((made, slot))
    }

    /// Gives one back.
    pub fn free_slot(&self, number: u64, slot: Slot<'_>) {
        slot[Field::Newer].store(self[Head::SlotsFree].load());
        self[Head::SlotsFree].store(number);
    }
}

impl Index<Head> for Table {
    type Output = Word;

    fn index(&self, name: Head) -> &Word {
        &self.words[name as usize]
    }
}

fn tally() -> u64 {
    u64::from(std::process::id()) % TALLY_COUNT
}

fn hasher(secret: [u64; 2]) -> DefaultHasher {
    let mut hasher = DefaultHasher::new();
    secret.into_iter().for_each(|half| hasher.write_u64(half));
    hasher
}

/// What a file says, in our words.
pub fn store(error: io::Error) -> Refusal {
    Refusal::Store(error.to_string())
}

#[cfg(test)]
mod tests;
