//! A slot: one version of an item. It is written while nobody can see it, hung into the chain of its bucket, and then becomes
//! the item by one change of its state; it ends in the same way. So whatever moment a writer is killed in, the state says
//! what is there, and everything else can be made of it again (`recover.rs`).
//!
//! A state is a stamp, which no other version of any item has, and one bit more. A reader that finds the same stamp before
//! and after knows that it has read one version: slots and chunks are used again only after the stamp was taken away.
use super::layout::{Field, SLOT};
use super::word::Word;
use std::ops::Index;

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u64);

impl State {
    /// It belongs to nothing.
    pub const FREE: State = State(0);

    /// It hangs in its chain, but is not there yet, or not any more.
    pub fn absent(stamp: u64) -> State {
        State(stamp << 1)
    }

    /// It is an item.
    pub fn there(stamp: u64) -> State {
        State(stamp << 1 | 1)
    }

    /// What a word says.
    pub fn of(word: u64) -> State {
        State(word)
    }

    /// As a word.
    pub fn word(self) -> u64 {
        self.0
    }

    /// Its stamp; 0: it is free.
    pub fn stamp(self) -> u64 {
        self.0 >> 1
    }

    /// Whether it is an item, where everything until the stamp `cleared` is gone.
    pub fn is_there(self, cleared: u64) -> bool {
        self.0 & 1 == 1 && self.stamp() > cleared
    }
}

/// The words of a slot.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a>(&'a [Word; SLOT as usize]);

impl<'a> Slot<'a> {
    /// The number of the slot after it in its chain.
    pub fn next(self) -> &'a Word {
        &self.0[Field::Next as usize]
    }

    /// The slot in these words.
    pub fn of(words: &'a [Word]) -> Option<Slot<'a>> {
        words.try_into().ok().map(Slot)
    }

    /// Its state, and all that was written before it became so.
    pub fn state(self) -> State {
        State::of(self[Field::State].acquire())
    }

    /// Changes its state, after all that was written before.
    pub fn become_(self, state: State) {
        self[Field::State].publish(state.word());
    }

    /// Bytes of its key and of its value.
    pub fn lengths(self) -> (u64, u64) {
        let both = self[Field::Lengths].load();
        (both >> 32, both & u64::from(u32::MAX))
    }

    /// Notes them.
    pub fn set_lengths(self, key: u64, value: u64) {
        self[Field::Lengths].store(key << 32 | value);
    }
}

impl Index<Field> for Slot<'_> {
    type Output = Word;

    fn index(&self, field: Field) -> &Word {
        &self.0[field as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_item_later_than_the_last_clearing_is_there() {
        assert!(State::there(8).is_there(7));
        assert!(!State::there(8).is_there(8));
        assert!(!State::absent(8).is_there(0) && !State::FREE.is_there(0));
        assert_eq!((State::absent(8).stamp(), State::there(8).stamp(), State::FREE.stamp()), (8, 8, 0));
    }
}
