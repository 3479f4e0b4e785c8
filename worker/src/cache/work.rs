//! A transaction that changes a cache, from its beginning to its commit. Made by `store.rs`, which has waited for its turn.
//!
//! An item is in the table of items, in the index of expiry if it expires, and in the order of use where that is kept. The
//! indexes may name items that have changed since: whoever follows one looks whether the item still says the same.
use super::Refusal;
use super::env::{Env, refusal};
use super::record::{self, Counts, HEAD, NEVER, Record};
use appliance_config::settings::Cache as Settings;
use heed::{RoTxn, RwTxn};

/// Expired items that one write removes beside its own work.
const SWEEP: usize = 8;
/// Items that make room in one transaction, so that it stays short.
const EVICTIONS: usize = 32;
const COUNTS: &[u8] = b"counts";

/// How one transaction went.
pub enum Round<T> {
    /// It is done.
    Done(T),
    /// It has made room, but not enough.
    Again,
    /// There is none to be made.
    Full,
}

impl<T> Round<T> {
    /// The same with another result.
    pub fn map<U>(self, then: impl FnOnce(T) -> U) -> Round<U> {
        match self {
            Round::Done(done) => Round::Done(then(done)),
            Round::Again => Round::Again,
            Round::Full => Round::Full,
        }
    }

    /// The result, if it is done.
    pub fn done(self) -> Option<T> {
        match self {
            Round::Done(done) => Some(done),
            Round::Again | Round::Full => None,
        }
    }
}

/// A write transaction and what it knows.
pub struct Work<'a> {
    env: &'a Env,
    settings: &'a Settings,
    txn: RwTxn<'a>,
    counts: Counts,
    /// The counts as they were.
    before: Counts,
    now: u64,
}

impl<'a> Work<'a> {
    /// Begins, and removes some of what has expired.
    pub fn begin(env: &'a Env, settings: &'a Settings, now: u64) -> Result<Work<'a>, Refusal> {
        let txn = env.write()?;
        let counts = counts(env, &txn)?;
        let mut work = Work { env, settings, txn, counts, before: counts, now };
        work.sweep()?;
        Ok(work)
    }

    /// Makes it so. Dropped before, it has never been.
    pub fn commit(mut self) -> Result<(), Refusal> {
        if self.counts != self.before {
            self.env.counts.put(&mut self.txn, COUNTS, &self.counts.write()).map_err(refusal)?;
        }
        self.txn.commit().map_err(refusal)
    }

    /// What a reader would see.
    pub fn view(&self) -> &RoTxn<'a> {
        &self.txn
    }

    /// Removes everything.
    pub fn clear(&mut self) -> Result<(), Refusal> {
        for table in [self.env.items, self.env.expiry, self.env.order] {
            table.clear(&mut self.txn).map_err(refusal)?;
        }
        (self.counts.bytes, self.counts.soonest) = (0, u64::MAX);
        self.counts.next_stamp();
        Ok(())
    }

    /// Notes that an item was used.
    pub fn touch(&mut self, key: &[u8]) -> Result<(), Refusal> {
        let Some(found) = self.find(key)? else { return Ok(()) };
        let (old, expires, value) = (found.stamp, found.expires, found.value.to_vec());
        let stamp = self.counts.next_stamp();
        let record = Record { stamp, expires, value: &value }.write();
        self.env.order.delete(&mut self.txn, &old.to_be_bytes()).map_err(refusal)?;
        self.env.order.put(&mut self.txn, &stamp.to_be_bytes(), key).map_err(refusal)?;
        self.env.items.put(&mut self.txn, key, &record).map_err(refusal)
    }

    /// The item of a key, unless it has expired.
    pub fn find(&self, key: &[u8]) -> Result<Option<Record<'_>>, Refusal> {
        find(self.env, &self.txn, key, self.now)
    }

    /// Puts an item in, in the place of the one that is there.
    pub fn store(&mut self, key: &[u8], value: &[u8], expires: u64) -> Result<Round<()>, Refusal> {
        let cost = record::cost(key.len(), value.len());
        for _ in 0..=EVICTIONS {
            let old = self.lying(key)?;
            let others = self.counts.bytes.saturating_sub(old.map_or(0, |old| old.cost));
            let items = self.env.items.len(&self.txn).map_err(refusal)? + u64::from(old.is_none());
            if items <= self.settings.items && others.saturating_add(cost) <= self.settings.size {
                self.insert(key, old, Record { stamp: 0, expires, value })?;
                self.counts.bytes = others.saturating_add(cost);
                return Ok(Round::Done(()));
            }
            if !self.evict()? {
                self.counts.refused += 1;
                return Ok(Round::Full);
            }
        }
        Ok(Round::Again)
    }

    fn insert(&mut self, key: &[u8], old: Option<Lying>, new: Record<'_>) -> Result<(), Refusal> {
        let stamp = self.counts.next_stamp();
        self.counts.sets += 1;
        let was_to_expire = old.map_or(NEVER, |old| old.expires);
        if was_to_expire != new.expires {
            self.set_expiry(key, was_to_expire, new.expires)?;
        }
        if self.settings.lru {
            if let Some(old) = old {
                self.env.order.delete(&mut self.txn, &old.stamp.to_be_bytes()).map_err(refusal)?;
            }
            self.env.order.put(&mut self.txn, &stamp.to_be_bytes(), key).map_err(refusal)?;
        }
        self.env.items.put(&mut self.txn, key, &Record { stamp, ..new }.write()).map_err(refusal)
    }

    fn set_expiry(&mut self, key: &[u8], old: u64, new: u64) -> Result<(), Refusal> {
        if old != NEVER {
            self.env.expiry.delete(&mut self.txn, &record::expiry_key(old, key)).map_err(refusal)?;
        }
        if new != NEVER {
            self.counts.soonest = self.counts.soonest.min(new);
            self.env.expiry.put(&mut self.txn, &record::expiry_key(new, key), b"").map_err(refusal)?;
        }
        Ok(())
    }

    /// Takes an item out, expired or not; nothing if there is none.
    pub fn remove(&mut self, key: &[u8]) -> Result<(), Refusal> {
        let Some(old) = self.lying(key)? else { return Ok(()) };
        self.set_expiry(key, old.expires, NEVER)?;
        self.env.order.delete(&mut self.txn, &old.stamp.to_be_bytes()).map_err(refusal)?;
        self.env.items.delete(&mut self.txn, key).map_err(refusal)?;
        self.counts.bytes = self.counts.bytes.saturating_sub(old.cost);
        self.counts.next_stamp();
        Ok(())
    }

    /// The item of a key as it lies there, expired or not.
    fn lying(&self, key: &[u8]) -> Result<Option<Lying>, Refusal> {
        let found = self.env.items.get(&self.txn, key).map_err(refusal)?;
        Ok(found.map(|bytes| {
            let cost = record::cost(key.len(), bytes.len().saturating_sub(HEAD));
            let record = Record::read(bytes).unwrap_or(Record { stamp: 0, expires: NEVER, value: b"" });
            Lying { stamp: record.stamp, expires: record.expires, cost }
        }))
    }

    /// Removes some of what has expired.
    fn sweep(&mut self) -> Result<(), Refusal> {
        for _ in 0..SWEEP {
            if self.counts.soonest > self.now || !self.drop_expired()? {
                break;
            }
        }
        Ok(())
    }

    /// Removes the item that has expired first; false if none has.
    fn drop_expired(&mut self) -> Result<bool, Refusal> {
        let first = self.env.expiry.first(&self.txn).map_err(refusal)?;
        let first = first.and_then(|(bytes, _)| record::read_expiry_key(bytes));
        let Some((moment, key)) = first.map(|(moment, key)| (moment, key.to_vec())) else {
            self.counts.soonest = u64::MAX;
            return Ok(false);
        };
        self.counts.soonest = moment;
        if moment > self.now {
            return Ok(false);
        }
        if self.lying(&key)?.is_some_and(|item| item.expires == moment) {
            self.remove(&key)?;
            self.counts.expired += 1;
        } else {
            self.set_expiry(&key, moment, NEVER)?;
        }
        Ok(true)
    }

    /// Makes room by one item; false if there is nothing that may go.
    fn evict(&mut self) -> Result<bool, Refusal> {
        if self.counts.soonest <= self.now && self.drop_expired()? {
            return Ok(true);
        }
        if !self.settings.lru {
            return Ok(false);
        }
        let oldest = self.env.order.first(&self.txn).map_err(refusal)?;
        let oldest = oldest.map(|(stamp, key)| (stamp.to_vec(), key.to_vec()));
        let key = match oldest {
            Some((stamp, key)) => {
                self.env.order.delete(&mut self.txn, &stamp).map_err(refusal)?;
                let is_its = |item: Lying| item.stamp.to_be_bytes()[..] == stamp[..];
                if !self.lying(&key)?.is_some_and(is_its) {
                    return Ok(true);
                }
                key
            }
            // They were stored when the order was not kept.
            None => match self.env.items.first(&self.txn).map_err(refusal)? {
                Some((key, _)) => key.to_vec(),
                None => return Ok(false),
            },
        };
        self.remove(&key)?;
        self.counts.evicted += 1;
        Ok(true)
    }

    /// Makes some room; answers by how many items.
    pub fn evict_some(&mut self) -> Result<usize, Refusal> {
        let mut evicted = 0;
        while evicted < EVICTIONS && self.evict()? {
            evicted += 1;
        }
        Ok(evicted)
    }
}

/// What is known of an item that is to be replaced or removed.
#[derive(Clone, Copy)]
struct Lying {
    stamp: u64,
    expires: u64,
    cost: u64,
}

/// The item of a key, unless it has expired.
pub fn find<'t>(env: &Env, txn: &'t RoTxn<'_>, key: &[u8], now: u64) -> Result<Option<Record<'t>>, Refusal> {
    let found = env.items.get(txn, key).map_err(refusal)?.and_then(Record::read);
    Ok(found.filter(|found| !found.is_expired(now)))
}

/// The counts of a moment.
pub fn counts(env: &Env, txn: &RoTxn<'_>) -> Result<Counts, Refusal> {
    Ok(Counts::read(env.counts.get(txn, COUNTS).map_err(refusal)?.unwrap_or_default()))
}
