//! What is changed in a table, by whoever has its turn. Each change is there as a whole once one number was stored (the
//! state of a slot, the number of a counter, the stamp of a clearing), and not at all before that. What follows is order, which
//! `recover.rs` makes when a writer has died before it could.
use super::Refusal;
use super::chunks::Run;
use super::layout::{Field, Head, NEVER, is_expired};
use super::seek::LONGEST_CHAIN;
use super::slot::{Slot, State};
use super::table::Table;
use super::word::{Word, marked, taken_away};

/// What is stored.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// When it expires, or [`NEVER`].
    pub expires: u64,
}

/// An item where it lies. It is true until the next change.
#[derive(Clone, Copy, Debug)]
pub struct Lying<'a> {
    number: u64,
    slot: Slot<'a>,
    /// The slot before it in its chain; the first one has none.
    before: Option<Slot<'a>>,
}

impl Lying<'_> {
    /// Whether its time is over.
    pub fn is_expired(&self, now: impl FnOnce() -> u64) -> bool {
        let expires = self.expires();
        expires != NEVER && is_expired(expires, now())
    }

    /// When it expires.
    pub fn expires(&self) -> u64 {
        self.slot[Field::Expires].load()
    }
}

impl Table {
    /// Finds the item of a key.
    pub fn find(&self, key: &[u8]) -> Result<Option<Lying<'_>>, Refusal> {
        self.find_hashed(self.hash(key), key)
    }

    /// The same for whoever knows its hash.
    pub fn find_hashed(&self, hash: u64, key: &[u8]) -> Result<Option<Lying<'_>>, Refusal> {
        self.find_in(self.bucket_of(hash), |_, slot| {
            slot[Field::Hash].load() == hash
                && slot.lengths().0 == key.len() as u64
                && Run::along(self, slot[Field::Data].load()).is(key)
        })
    }

    /// The item that has this slot.
    pub fn find_slot(&self, number: u64) -> Result<Lying<'_>, Refusal> {
        let slot = self.slot(number).ok_or_else(|| self.broken())?;
        let bucket = self.bucket_of(slot[Field::Hash].load());
        self.find_in(bucket, |found, _| found == number)?.ok_or_else(|| self.broken())
    }

    fn find_in(
        &self,
        bucket: u64,
        is_it: impl Fn(u64, Slot<'_>) -> bool,
    ) -> Result<Option<Lying<'_>>, Refusal> {
        let (mut number, mut before) = (self.bucket(bucket).load(), None);
        for _ in 0..LONGEST_CHAIN {
            if number == 0 {
                return Ok(None);
            }
            let slot = self.slot(number).ok_or_else(|| self.broken())?;
            if is_it(number, slot) {
                return Ok(Some(Lying { number, slot, before }));
            }
            (number, before) = (slot[Field::Next].load(), Some(slot));
        }
        Err(self.broken())
    }

    /// What an item costs.
    pub fn cost_of(&self, lying: Lying<'_>) -> u64 {
        let (key, value) = lying.slot.lengths();
        self.sizes().cost(key, value)
    }

    /// Puts an item in, whose key has this hash, in the place of `old`, which has its key. [`Refusal::Full`]: there is no room,
    /// and nothing was done.
    pub fn insert(&self, hash: u64, new: New<'_>, old: Option<Lying<'_>>) -> Result<(), Refusal> {
        let (key, value) = (new.key.len() as u64, new.value.len() as u64);
        self.make_ready(self.sizes().chunks_for(key, value))?;
        self.change(|| {
            let data = self.write_item(new.key, new.value)?;
            let (number, slot) = self.take_slot()?;
            let head = self.bucket(self.bucket_of(hash));
            slot[Field::Hash].store(hash);
            slot.set_lengths(key, value);
            slot[Field::Expires].store(new.expires);
            slot[Field::Data].store(data);
            slot[Field::Place].store(0);
            slot[Field::Next].store(head.load());
            let stamp = self.next_stamp();
            slot.become_(State::absent(stamp));
            head.publish(number);
            slot.become_(State::there(stamp));
            self.begin_order(number, slot, stamp);
            self.add(Head::Items, 1);
            self.add(Head::Bytes, self.sizes().cost(key, value));
            self.add(Head::Sets, 1);
            if let Some(old) = old {
                // The new one is the first of the chain.
                let before = old.before.unwrap_or(slot);
                let place = self.retire(Lying { before: Some(before), ..old })?;
                self.set_expiry(place, number, new.expires);
            } else {
                self.set_expiry(0, number, new.expires);
            }
            Ok(())
        })
    }

    /// Takes an item out, and counts it as `why`.
    pub fn remove(&self, lying: Lying<'_>, why: Option<Head>) -> Result<(), Refusal> {
        self.change(|| {
            if let Some(why) = why {
                self.add(why, 1);
            }
            let place = self.retire(lying)?;
            self.forget_expiry(place);
            Ok(())
        })
    }

    /// Ends an item, but for its place in the heap, which it answers.
    fn retire(&self, Lying { number, slot, before }: Lying<'_>) -> Result<u64, Refusal> {
        let (key, value) = slot.lengths();
        let next = slot[Field::Next].load();
        slot.become_(State::absent(slot.state().stamp()));
        match before {
            Some(before) => before[Field::Next].publish(next),
            None => self.bucket(self.bucket_of(slot[Field::Hash].load())).publish(next),
        }
        slot.become_(State::FREE);
        taken_away();
        self.free_chunks(slot[Field::Data].load(), self.sizes().chunks_for(key, value))?;
        self.end_order(slot);
        self.subtract(Head::Items, 1);
        self.subtract(Head::Bytes, self.sizes().cost(key, value));
        let place = slot[Field::Place].load();
        self.free_slot(number, slot);
        Ok(place)
    }

    /// Puts a slot into the heap if it expires, in the place that another one leaves, if it does.
    fn set_expiry(&self, place: u64, number: u64, expires: u64) {
        match (place, expires) {
            (_, NEVER) => self.forget_expiry(place),
            (0, _) => self.await_expiry(number, expires),
            _ => self.inherit_expiry(place, number, expires),
        }
    }

    /// The number that an item has; `None`: its value is none.
    pub fn number_of(&self, lying: Lying<'_>) -> Option<i64> {
        self.counter(lying).map(|word| i64::from_ne_bytes(word.load().to_ne_bytes()))
    }

    /// Changes it, for readers and whoever is killed in one step.
    pub fn set_number(&self, lying: Lying<'_>, number: i64) -> Result<(), Refusal> {
        self.change(|| {
            let word = self.counter(lying).ok_or_else(|| self.broken())?;
            word.publish(u64::from_ne_bytes(number.to_ne_bytes()));
            self.renew_order(lying.number, lying.slot);
            self.add(Head::Sets, 1);
            Ok(())
        })
    }

    fn counter(&self, lying: Lying<'_>) -> Option<&Word> {
        let (key, value) = lying.slot.lengths();
        let data = lying.slot[Field::Data].load();
        (value == size_of::<i64>() as u64).then(|| Run::along(self, data).word_after(key)).flatten()
    }

    /// Notes that an item was used.
    pub fn touch(&self, lying: Lying<'_>) {
        // No change of the contents, and if it ends early, the order is made anew.
        self[Head::Dirty].store(1);
        marked();
        self.renew_order(lying.number, lying.slot);
        self[Head::Dirty].publish(0);
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.change(|| {
            self[Head::Cleared].publish(self.next_stamp());
            (0..self.sizes().buckets).map(|n| self.bucket(n)).for_each(|bucket| {
                if bucket.load() != 0 {
                    bucket.publish(0);
                }
            });
            (1..self[Head::SlotsMade].load())
                .map_while(|n| self.slot(n))
                .for_each(|slot| slot.become_(State::FREE));
            taken_away();
            for name in [Head::SlotsMade, Head::ChunksMade] {
                self[name].store(1);
            }
            for name in [Head::SlotsFree, Head::ChunksFree, Head::ChunksFreeCount, Head::Newest, Head::Oldest]
            {
                self[name].store(0);
            }
            for name in [Head::HeapLength, Head::Items, Head::Bytes] {
                self[name].store(0);
            }
            Ok(())
        })
    }
}
