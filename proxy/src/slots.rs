//! What belongs to the streams of one connection, found by their ids. An id is a slot and the number of its earlier uses, and
//! is never given out twice: what a worker still says of a stream that was reset must not be taken for the answer to
//! another request. `line.rs` owns one. Pure.
use appliance_link::StreamId;

/// Bits of an id that name the slot, counted from 1 because 0 is the connection itself. The others count its uses, so that
/// one connection serves 2^32 requests before there must be another.
const BITS: u32 = 16;
const MOST_SLOTS: usize = (1 << BITS) - 1;
const MOST_USES: u32 = u32::MAX >> BITS;

/// See the module.
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// Empty slots that can be used again; the one left last comes first, as its memory is warm.
    free: Vec<usize>,
    taken: usize,
}

struct Slot<T> {
    /// Uses that are over.
    uses: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), taken: 0 }
    }

    /// The id that the next stream gets; `None`: no more are left.
    pub(crate) fn next_id(&self) -> Option<StreamId> {
        match self.free.last() {
            Some(&index) => Some(id(index, self.slots[index].uses)),
            None => Some(id(self.slots.len(), 0)).filter(|_| self.slots.len() < MOST_SLOTS),
        }
    }

    /// Takes the slot of [`Slots::next_id`].
    pub(crate) fn insert(&mut self, value: T) {
        self.taken += 1;
        match self.free.pop() {
            Some(index) => self.slots[index].value = Some(value),
            None => self.slots.push(Slot { uses: 0, value: Some(value) }),
        }
    }

    pub(crate) fn get(&mut self, id: StreamId) -> Option<&mut T> {
        self.slot(id)?.value.as_mut()
    }

    /// Ends the use of a slot. After its last use it stays empty.
    pub(crate) fn take(&mut self, id: StreamId) -> Option<T> {
        let slot = self.slot(id)?;
        let value = slot.value.take()?;
        slot.uses += 1;
        if slot.uses <= MOST_USES {
            self.free.push(index(id));
        }
        self.taken -= 1;
        Some(value)
    }

    /// Whether no slot is in use.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }

    fn slot(&mut self, wanted: StreamId) -> Option<&mut Slot<T>> {
        let index = index(wanted);
        self.slots.get_mut(index).filter(|slot| slot.uses <= MOST_USES && id(index, slot.uses) == wanted)
    }
}

fn id(index: usize, uses: u32) -> StreamId {
    uses << BITS | (index as u32 + 1)
}

/// Beyond all slots for what is not the id of a stream.
fn index(id: StreamId) -> usize {
    (id as usize & MOST_SLOTS).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(slots: &mut Slots<u32>, value: u32) -> StreamId {
        let id = slots.next_id().unwrap();
        slots.insert(value);
        id
    }

    #[test]
    fn a_stream_is_found_until_it_is_taken() {
        let mut slots = Slots::new();
        let (first, second) = (put(&mut slots, 10), put(&mut slots, 20));
        assert_eq!(slots.take(second), Some(20));
        assert_eq!(slots.take(second), None);
        let third = put(&mut slots, 30);
        let found = [first, second, third, 0].map(|id| slots.get(id).copied());
        assert_eq!(found, [Some(10), None, Some(30), None]);
        assert!(!slots.is_empty());
        assert_eq!(slots.iter_mut().map(|value| *value).collect::<Vec<_>>(), [10, 30]);
    }

    #[test]
    fn an_id_is_never_given_out_twice() {
        let mut slots = Slots::new();
        let first = put(&mut slots, 0);
        slots.take(first);
        for use_ in 1..200_000 {
            let id = put(&mut slots, use_);
            assert_ne!(id, first);
            assert_eq!(slots.get(first), None);
            slots.take(id);
        }
        assert!(slots.is_empty());
    }

    #[test]
    fn ids_end() {
        let mut slots = Slots::new();
        while slots.next_id().is_some() {
            slots.insert(0);
        }
        assert_eq!(slots.iter_mut().count(), MOST_SLOTS);
        slots.take(5);
        assert_eq!(slots.next_id(), Some(1 << BITS | 5));
    }
}
