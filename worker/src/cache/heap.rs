//! The items that expire, as a heap with the soonest at the top: four below each, so that a way through it is short. Each slot
//! knows its place, and leaves from wherever it is. Changed by whoever has its turn, read by nobody else.
use super::layout::{Field, Head};
use super::table::Table;

/// Places below a place.
const WIDTH: u64 = 4;

/// What stands in a place: when, and which slot.
type Entry = (u64, u64);

impl Table {
    /// The slot that expires first, and when.
    pub fn soonest(&self) -> Option<Entry> {
        self.entry(0).filter(|_| self[Head::HeapLength].load() > 0)
    }

    /// Notes when a slot expires.
    pub fn await_expiry(&self, slot: u64, expires: u64) {
        let length = self[Head::HeapLength].load();
        self[Head::HeapLength].store(length.saturating_add(1));
        self.settle(length, (expires, slot));
    }

    /// Puts another slot in the place of one.
    pub fn inherit_expiry(&self, place: u64, slot: u64, expires: u64) {
        self.settle(place - 1, (expires, slot));
    }

    /// Forgets what has this place and one more; 0: nothing has it.
    pub fn forget_expiry(&self, place: u64) {
        let Some(last) = self[Head::HeapLength].load().checked_sub(1).filter(|_| place > 0) else { return };
        self[Head::HeapLength].store(last);
        if place - 1 < last
            && let Some(entry) = self.entry(last)
        {
            self.settle(place - 1, entry);
        }
    }

    fn entry(&self, at: u64) -> Option<Entry> {
        self.place(at).map(|[expires, slot]| (expires.load(), slot.load()))
    }

    fn put(&self, at: u64, (expires, slot): Entry) {
        if let Some(place) = self.place(at) {
            place[0].store(expires);
            place[1].store(slot);
        }
        if let Some(slot) = self.slot(slot) {
            slot[Field::Place].store(at + 1);
        }
    }

    /// Finds the place of an entry from a free one.
    fn settle(&self, mut at: u64, entry: Entry) {
        while at > 0 {
            let above = (at - 1) / WIDTH;
            let Some(found) = self.entry(above).filter(|found| found.0 > entry.0) else { break };
            self.put(at, found);
            at = above;
        }
        while let Some((below, found)) = self.soonest_below(at).filter(|(_, found)| found.0 < entry.0) {
            self.put(at, found);
            at = below;
        }
        self.put(at, entry);
    }

    fn soonest_below(&self, at: u64) -> Option<(u64, Entry)> {
        let length = self[Head::HeapLength].load();
        let first = at.saturating_mul(WIDTH).saturating_add(1);
        let below = first..first.saturating_add(WIDTH).min(length);
        below.filter_map(|at| Some((at, self.entry(at)?))).min_by_key(|(_, entry)| entry.0)
    }
}
