//! What a killed writer has left is put in order by whoever has the next turn. The chains are whole at every moment, since
//! readers follow them all the time; what hangs in one as an item is an item, and all the rest (what is free, the order of
//! use, the heap, the sums) is made anew of that. It takes a look at every slot, and may itself be killed and begun again.
//!
//! It believes nothing either: an item whose parts cannot be is dropped, and a chain that leads astray is cut.
use super::MAX_KEY;
use super::Refusal;
use super::chunks::Run;
use super::layout::{Field, Head, NEVER};
use super::slot::{Slot, State};
use super::table::Table;
use super::word::{marked, taken_away};

/// Numbers that were seen.
struct Numbers(Vec<u64>);

impl Numbers {
    fn below(end: u64) -> Numbers {
        Numbers(vec![0; usize::try_from(end.div_ceil(64)).unwrap_or(0)])
    }

    /// Notes one; false if it was there, or is none of these.
    fn add(&mut self, number: u64) -> bool {
        let Some(word) = self.0.get_mut((number / 64) as usize) else { return false };
        let is_new = *word & 1 << (number % 64) == 0;
        *word |= 1 << (number % 64);
        is_new
    }

    fn remove(&mut self, number: u64) {
        if let Some(word) = self.0.get_mut((number / 64) as usize) {
            *word &= !(1 << (number % 64));
        }
    }

    fn has(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| *word & 1 << (number % 64) != 0)
    }
}

/// What is known of a table that is put in order.
struct Survey<'a> {
    table: &'a Table,
    /// Slots and chunks that were ever in use end here.
    slots_made: u64,
    chunks_made: u64,
    /// Slots that a chain has led to.
    seen: Numbers,
    /// Those of them that are items.
    kept: Numbers,
    /// Chunks that items have.
    owned: Numbers,
    /// Items: the stamp of the last use, and the slot.
    items: Vec<(u64, u64)>,
    cleared: u64,
}

impl Table {
    /// Puts the table in order if a writer could not. The caller has its turn.
    pub fn put_in_order(&self) -> Result<(), Refusal> {
        if self[Head::Dirty].acquire() == 0 { Ok(()) } else { self.recover() }
    }

    /// Puts the table in order. Readers may go on meanwhile.
    fn recover(&self) -> Result<(), Refusal> {
        self[Head::Dirty].store(1);
        marked();
        let end = |made: Head, taken: Head, most: u64| {
            let taken = self[taken].load().clamp(1, most);
            self[made].load().clamp(1, taken)
        };
        let slots_made = end(Head::SlotsMade, Head::SlotsTaken, self.sizes().slots);
        let chunks_made = end(Head::ChunksMade, Head::ChunksTaken, self.sizes().chunks);
        let mut survey = Survey {
            table: self,
            slots_made,
            chunks_made,
            seen: Numbers::below(slots_made),
            kept: Numbers::below(slots_made),
            owned: Numbers::below(chunks_made),
            items: Vec::new(),
            cleared: self[Head::Cleared].load(),
        };
        (0..self.sizes().buckets).for_each(|bucket| survey.look_through(bucket));
        survey.items.sort_unstable();
        survey.free_slots();
        survey.free_chunks();
        survey.order();
        survey.expiries();
        survey.sums();
        self.add(Head::Changes, 1);
        self[Head::Dirty].publish(0);
        Ok(())
    }
}

impl<'a> Survey<'a> {
    /// Follows the chain of a bucket. Of two versions of an item the first one is the later one.
    fn look_through(&mut self, bucket: u64) {
        let table = self.table;
        let mut link = table.bucket(bucket);
        let mut here: Vec<Slot<'a>> = Vec::new();
        loop {
            let number = link.load();
            let found = Some(number).filter(|number| *number < self.slots_made && !self.seen.has(*number));
            let Some(slot) = found.and_then(|number| table.slot(number)) else {
                if number != 0 {
                    link.publish(0);
                }
                return;
            };
            self.seen.add(number);
            let is_its = table.bucket_of(slot[Field::Hash].load()) == bucket;
            if is_its && !here.iter().any(|later| self.have_one_key(*later, slot)) && self.own(slot) {
                self.items.push((slot[Field::Used].load(), number));
                self.kept.add(number);
                here.push(slot);
                link = slot.next();
            } else {
                slot.become_(State::absent(slot.state().stamp()));
                link.publish(slot[Field::Next].load());
            }
        }
    }

    fn have_one_key(&self, one: Slot<'_>, other: Slot<'_>) -> bool {
        let is_alike = |field| one[field].load() == other[field].load();
        let (length, _) = one.lengths();
        let run = |slot: Slot<'_>| Run::along(self.table, slot[Field::Data].load());
        let mut key = vec![0; usize::try_from(length).unwrap_or(0).min(MAX_KEY)];
        is_alike(Field::Hash) && other.lengths().0 == length && run(one).copy(&mut key) && run(other).is(&key)
    }

    /// Notes the chunks of an item as its own; false if it is none, or cannot have them.
    fn own(&mut self, slot: Slot<'_>) -> bool {
        let (key, value) = slot.lengths();
        let count = self.table.sizes().chunks_for(key, value);
        let is_possible = (1..=MAX_KEY as u64).contains(&key) && count < self.chunks_made;
        if !slot.state().is_there(self.cleared) || !is_possible {
            return false;
        }
        let mut mine = Vec::new();
        let mut next = slot[Field::Data].load();
        for _ in 0..count {
            let chunk = self.table.chunk(next).filter(|_| next < self.chunks_made && self.owned.add(next));
            let Some(chunk) = chunk else {
                mine.into_iter().for_each(|number| self.owned.remove(number));
                return false;
            };
            mine.push(next);
            next = chunk[0].load();
        }
        true
    }

    fn free_slots(&self) {
        let table = self.table;
        let free = (1..self.slots_made).rev().filter(|number| !self.kept.has(*number));
        let free: Vec<_> = free.filter_map(|number| Some((number, table.slot(number)?))).collect();
        free.iter().for_each(|(_, slot)| slot.become_(State::FREE));
        taken_away();
        table[Head::SlotsMade].store(self.slots_made);
        table[Head::SlotsFree].store(0);
        free.into_iter().for_each(|(number, slot)| table.free_slot(number, slot));
    }

    fn free_chunks(&self) {
        let (mut first, mut count) = (0, 0);
        for number in (1..self.chunks_made).rev().filter(|number| !self.owned.has(*number)) {
            if let Some(chunk) = self.table.chunk(number) {
                chunk[0].store(first);
                (first, count) = (number, count + 1);
            }
        }
        self.table[Head::ChunksMade].store(self.chunks_made);
        self.table[Head::ChunksFree].store(first);
        self.table[Head::ChunksFreeCount].store(count);
    }

    fn order(&self) {
        let table = self.table;
        table[Head::Newest].store(0);
        table[Head::Oldest].store(0);
        for (used, number) in &self.items {
            if let Some(slot) = table.slot(*number) {
                table.begin_order(*number, slot, *used);
            }
        }
    }

    fn expiries(&self) {
        self.table[Head::HeapLength].store(0);
        for (_, number) in &self.items {
            let Some(slot) = self.table.slot(*number) else { continue };
            slot[Field::Place].store(0);
            let expires = slot[Field::Expires].load();
            if expires != NEVER {
                self.table.await_expiry(*number, expires);
            }
        }
    }

    fn sums(&self) {
        let table = self.table;
        let slots = || self.items.iter().filter_map(|(_, number)| table.slot(*number));
        let cost = |slot: Slot<'_>| {
            let (key, value) = slot.lengths();
            table.sizes().cost(key, value)
        };
        let latest = slots().map(|slot| slot.state().stamp().max(slot[Field::Used].load())).max();
        table[Head::Items].store(self.items.len() as u64);
        table[Head::Bytes].store(slots().map(cost).fold(0, u64::saturating_add));
        table[Head::Stamp].store(table[Head::Stamp].load().max(latest.unwrap_or(0)).max(self.cleared));
    }
}
