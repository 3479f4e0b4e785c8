//! The items in the order of their last use, as a list through their slots. It is kept in every cache, since a reload may
//! begin to ask for it. Changed by whoever has its turn, read by nobody else.
use super::layout::{Field, Head};
use super::slot::Slot;
use super::table::Table;

impl Table {
    /// Puts an item in as the one that was used last.
    pub fn begin_order(&self, number: u64, slot: Slot<'_>, stamp: u64) {
        let newest = self[Head::Newest].load();
        slot[Field::Used].store(stamp);
        slot[Field::Newer].store(0);
        slot[Field::Older].store(newest);
        match self.slot(newest) {
            Some(newest) => newest[Field::Newer].store(number),
            None => self[Head::Oldest].store(number),
        }
        self[Head::Newest].store(number);
    }

    /// Takes it out.
    pub fn end_order(&self, slot: Slot<'_>) {
        let (newer, older) = (slot[Field::Newer].load(), slot[Field::Older].load());
        match self.slot(newer) {
            Some(newer) => newer[Field::Older].store(older),
            None => self[Head::Newest].store(older),
        }
        match self.slot(older) {
            Some(older) => older[Field::Newer].store(newer),
            None => self[Head::Oldest].store(newer),
        }
    }

    /// Notes that it was used.
    pub fn renew_order(&self, number: u64, slot: Slot<'_>) {
        let stamp = self.next_stamp();
        if self[Head::Newest].load() == number {
            slot[Field::Used].store(stamp);
            return;
        }
        self.end_order(slot);
        self.begin_order(number, slot, stamp);
    }
}
