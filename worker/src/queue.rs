//! The queue in memory that all workers share (uWSGI `queue`): a ring of slots of one size, each of which may also be read and
//! written by its number. What is pushed to a full queue takes the place of the oldest message.
//!
//! One word says where the oldest message is and how many there are, so there are no two heads that could part. Every slot has
//! room for two messages and a word that says which one counts: a message is written beside the one that counts, then the word
//! is changed. So whoever is killed in the middle leaves a slot as it was. All of it happens under one lock ([`Gate`]). What
//! stands in the memory is believed only as far as it is in bounds.
//!
//! A message that was set by its number where the ring is not (before the oldest or behind the newest) is there for
//! [`Queue::get`] only, until a push comes along.
use crate::areas::copy;
use crate::areas::{Access, Gate};
use crate::shared::at;
use crate::suspend::Suspend;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

const WORD: usize = size_of::<AtomicU64>();
/// In the word of a slot: the second of its two rooms counts.
const SECOND: u64 = 1 << 63;

/// Bytes of shared memory that a queue takes.
pub fn size(slots: u32, most: usize) -> usize {
    let slots = slots as usize;
    WORD + slots * WORD + slots * 2 * room(most)
}

/// Bytes of one message's room.
fn room(most: usize) -> usize {
    most.next_multiple_of(WORD)
}

/// Which part of the ring holds messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Filled {
    /// Slot of the oldest one.
    first: u32,
    count: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Queue {
    bytes: &'static [AtomicU8],
    slots: u32,
    /// Bytes of the longest message.
    most: usize,
    gate: Arc<Gate>,
    lock: u32,
}

impl Queue {
    /// In these bytes, which are [`size`] of them; `lock` is its number at the gate.
    pub fn new(bytes: &'static [AtomicU8], slots: u32, most: usize, gate: Arc<Gate>, lock: u32) -> Queue {
        Queue { bytes, slots, most, gate, lock }
    }

    fn reading<T>(&self, suspend: &dyn Suspend, work: impl FnOnce() -> T) -> io::Result<T> {
        self.gate.pass(self.lock, Access::Read, suspend, work)
    }

    fn writing<T>(&self, suspend: &dyn Suspend, work: impl FnOnce() -> T) -> io::Result<T> {
        self.gate.pass(self.lock, Access::Write, suspend, work)
    }

    /// Adds a message, in place of the oldest one if there is no room; false: it is empty, or longer than a slot.
    pub fn push(&self, message: &[u8], suspend: &dyn Suspend) -> io::Result<bool> {
        self.writing(suspend, || {
            if !self.fits(message) {
                return false;
            }
            let mut filled = self.filled();
            if filled.count == self.slots {
                // Before it is written over: the newest must not stand where the oldest is looked for.
                filled = Filled { first: (filled.first + 1) % self.slots, count: filled.count - 1 };
                self.set_filled(filled);
            }
            self.store(self.slot_of(filled, filled.count), message);
            self.set_filled(Filled { count: filled.count + 1, ..filled });
            true
        })
    }

    /// Takes the newest message (uWSGI `queue_pop`).
    pub fn pop(&self, suspend: &dyn Suspend) -> io::Result<Option<Vec<u8>>> {
        self.writing(suspend, || {
            let filled = self.filled();
            let left = Filled { count: filled.count.checked_sub(1)?, ..filled };
            self.take(self.slot_of(filled, left.count), left)
        })
    }

    /// Takes the oldest message (uWSGI `queue_pull`).
    pub fn pull(&self, suspend: &dyn Suspend) -> io::Result<Option<Vec<u8>>> {
        self.writing(suspend, || {
            let filled = self.filled();
            let first = (filled.first + 1) % self.slots;
            self.take(filled.first, Filled { first, count: filled.count.checked_sub(1)? })
        })
    }

    /// What stands in a slot.
    pub fn get(&self, slot: u32, suspend: &dyn Suspend) -> io::Result<Option<Vec<u8>>> {
        self.reading(suspend, || self.load(slot))
    }

    /// Writes a slot; false: there is none with this number, or the message is empty or too long.
    pub fn set(&self, slot: u32, message: &[u8], suspend: &dyn Suspend) -> io::Result<bool> {
        self.writing(suspend, || {
            let is_good = slot < self.slots && self.fits(message);
            if is_good {
                self.store(slot, message);
            }
            is_good
        })
    }

    /// As many messages as are wanted, the newest first; `None` where there are no more, and never more than slots.
    pub fn last(&self, wanted: u32, suspend: &dyn Suspend) -> io::Result<Vec<Option<Vec<u8>>>> {
        self.reading(suspend, || {
            let filled = self.filled();
            let ages = 1..=wanted.min(self.slots);
            ages.map(|age| self.load(self.slot_of(filled, filled.count.checked_sub(age)?))).collect()
        })
    }

    /// The slot that the next push writes, and the one that the next pull takes.
    pub fn slots(&self, suspend: &dyn Suspend) -> io::Result<(u32, u32)> {
        self.reading(suspend, || {
            let filled = self.filled();
            (self.slot_of(filled, filled.count), filled.first)
        })
    }

    // ---- under the lock ----

    fn fits(&self, message: &[u8]) -> bool {
        (1..=self.most).contains(&message.len())
    }

    fn filled(&self) -> Filled {
        let word = at::<AtomicU64>(self.bytes, 0).map_or(0, |word| word.load(SeqCst));
        Filled { first: (word >> 32) as u32 % self.slots, count: (word as u32).min(self.slots) }
    }

    fn set_filled(&self, filled: Filled) {
        if let Some(word) = at::<AtomicU64>(self.bytes, 0) {
            word.store(u64::from(filled.first) << 32 | u64::from(filled.count), SeqCst);
        }
    }

    /// The slot of the message that so many are older than.
    fn slot_of(&self, filled: Filled, older: u32) -> u32 {
        // Both are at most the number of slots, which is far below half of what there is room for.
        (filled.first + older) % self.slots
    }

    fn word(&self, slot: u32) -> Option<&AtomicU64> {
        at(self.bytes, WORD * (1 + slot as usize)).filter(|_| slot < self.slots)
    }

    /// One of the two rooms of a slot.
    fn room(&self, slot: u32, is_second: bool) -> &[AtomicU8] {
        let before = 2 * slot as usize + usize::from(is_second);
        let start = WORD * (1 + self.slots as usize) + before * room(self.most);
        self.bytes.get(start..start + self.most).unwrap_or_default()
    }

    fn load(&self, slot: u32) -> Option<Vec<u8>> {
        let word = self.word(slot)?.load(SeqCst);
        let length = usize::try_from(word & !SECOND).unwrap_or(usize::MAX).min(self.most);
        let room = self.room(slot, word & SECOND != 0);
        (length > 0).then(|| copy::out(&room[..length.min(room.len())]))
    }

    fn store(&self, slot: u32, message: &[u8]) {
        let Some(word) = self.word(slot) else { return };
        let is_second = word.load(SeqCst) & SECOND == 0;
        copy::into(self.room(slot, is_second), message);
        word.store(message.len() as u64 | if is_second { SECOND } else { 0 }, SeqCst);
    }

    /// Takes a message out, which leaves `left`.
    fn take(&self, slot: u32, left: Filled) -> Option<Vec<u8>> {
        let message = self.load(slot);
        self.set_filled(left);
        if let Some(word) = self.word(slot) {
            word.store(0, SeqCst);
        }
        message
    }
}

#[cfg(test)]
mod tests;
