//! Reading a table while others write to it, without a lock and without waiting for anybody. What is read is believed when the
//! stamps that it was found with are still the same afterwards; otherwise it is [`Torn`], and read again.
//!
//! Nothing is missed either: a new version of an item hangs at the head of its chain before the old one leaves it, so an item
//! that was there all the time is found, unless the head has changed; then the way begins anew.
use super::chunks::Run;
use super::layout::{Field, Head};
use super::slot::{Slot, State};
use super::table::Table;
use super::word::look_again;

/// Slots in a chain, at most: many more than there ever are in one of a hash that nobody can foresee.
pub const LONGEST_CHAIN: u32 = 10_000;
/// Bytes of a value that need no memory of their own when they are copied.
const SHORT: usize = 256;

/// It changed while it was read, or it is no table.
#[derive(Debug)]
pub struct Torn;

/// What a reader learns of an item beside its value.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When it expires.
    pub expires: u64,
    /// The stamp of its last use.
    pub used: u64,
}

/// An item as a whole.
#[derive(Debug)]
pub struct Item {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// When it expires.
    pub expires: u64,
}

/// Where a value is copied to.
#[derive(Debug)]
pub struct Copied {
    short: [u8; SHORT],
    long: Vec<u8>,
    length: usize,
}

impl Copied {
    /// Room for one.
    pub fn new() -> Copied {
        Copied { short: [0; SHORT], long: Vec::new(), length: 0 }
    }

    /// The value.
    pub fn bytes(&self) -> &[u8] {
        if self.length <= SHORT { &self.short[..self.length] } else { &self.long }
    }

    fn room(&mut self, length: usize) -> &mut [u8] {
        self.length = length;
        if length <= SHORT {
            return &mut self.short[..length];
        }
        self.long.resize(length, 0);
        &mut self.long
    }
}

impl Table {
    /// Reads the item of a key, and copies its value if that is asked for.
    pub fn read(&self, key: &[u8], mut copied: Option<&mut Copied>) -> Result<Option<Seen>, Torn> {
        let hash = self.hash(key);
        self.walk(self.bucket_of(hash), |slot| {
            let (key_length, length) = slot.lengths();
            if slot[Field::Hash].load() != hash || key_length != key.len() as u64 {
                return Ok(None);
            }
            let mut run = Run::along(self, slot[Field::Data].load());
            if !run.is(key) {
                return Ok(None);
            }
            if let Some(copied) = &mut copied {
                copy(&mut run, copied.room(self.possible(length)?))?;
            }
            Ok(Some(Seen { expires: slot[Field::Expires].load(), used: slot[Field::Used].load() }))
        })
    }

    /// Copies all items of a bucket.
    pub fn read_bucket(&self, bucket: u64, items: &mut Vec<Item>) -> Result<(), Torn> {
        let read = self.walk(bucket, |slot| {
            let item = self.item(slot)?;
            // While it is replaced, the old version hangs behind the new one.
            if !items.iter().any(|newer| newer.key == item.key) {
                items.push(item);
            }
            Ok(None::<()>)
        });
        read.map(drop)
    }

    /// The item of a slot.
    pub fn item(&self, slot: Slot<'_>) -> Result<Item, Torn> {
        let (key, value) = slot.lengths();
        let mut run = Run::along(self, slot[Field::Data].load());
        let mut bytes = |length| {
            let mut bytes = vec![0; self.possible(length)?];
            copy(&mut run, &mut bytes).map(|()| bytes)
        };
        let (key, value) = (bytes(key)?, bytes(value)?);
        Ok(Item { key, value, expires: slot[Field::Expires].load() })
    }

    /// A length, if so much can lie here at all.
    fn possible(&self, length: u64) -> Result<usize, Torn> {
        let length = Some(length).filter(|length| *length <= self.sizes().bytes());
        length.and_then(|length| usize::try_from(length).ok()).ok_or(Torn)
    }

    /// Shows the items of a bucket until `visit` has found what it wants.
    fn walk<T>(
        &self,
        bucket: u64,
        mut visit: impl FnMut(Slot<'_>) -> Result<Option<T>, Torn>,
    ) -> Result<Option<T>, Torn> {
        let cleared = self[Head::Cleared].acquire();
        let head = self.bucket(bucket);
        let first = head.acquire();
        let state_of = |number| self.slot(number).map_or(State::FREE, Slot::state);
        let (mut at, before) = (first, state_of(first));
        for _ in 0..LONGEST_CHAIN {
            if at == 0 {
                look_again();
                return if head.load() == first && state_of(first) == before { Ok(None) } else { Err(Torn) };
            }
            let slot = self.slot(at).ok_or(Torn)?;
            let state = slot.state();
            if state.stamp() == 0 || self.bucket_of(slot[Field::Hash].load()) != bucket {
                return Err(Torn);
            }
            let found = if state.is_there(cleared) { visit(slot)? } else { None };
            let next = slot[Field::Next].acquire();
            look_again();
            let after = State::of(slot[Field::State].load());
            if found.is_some() {
                return if after == state { Ok(found) } else { Err(Torn) };
            }
            if after.stamp() != state.stamp() {
                return Err(Torn);
            }
            at = next;
        }
        Err(Torn)
    }
}

fn copy(run: &mut Run<'_>, bytes: &mut [u8]) -> Result<(), Torn> {
    if run.copy(bytes) { Ok(()) } else { Err(Torn) }
}
