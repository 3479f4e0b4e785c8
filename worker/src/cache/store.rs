//! One cache: its operations, each of them one transaction that is there as a whole or not at all. Called from any thread
//! of a worker, and by `appliance cache`. A read waits for nobody; a write waits for its turn (`gate.rs`).
use super::env::{Env, refusal};
use super::gate::Gate;
use super::mirror::Mirror;
use super::record::{NEVER, Record};
use super::work::{Round, Work, counts, find};
use super::{MAX_KEY, Refusal, keeper};
use crate::Error;
use crate::wire::sync::News;
use appliance_config::settings::Cache as Settings;
use heed::RoTxn;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long the opening of a store may wait for the others: each finds its tables, and the first one may have a file to load.
const BOOT: Duration = Duration::from_secs(30);
/// Transactions that one item may need to find room: as many items as a long one can drive out.
const ROUNDS: usize = 1_000;
/// An item counts as used again when so many others were used since: one in so many of the most.
const RECENT: u64 = 8;

/// Whether an item that is there stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It stays, and nothing is stored.
    Add,
    /// It is replaced.
    Set,
}

/// What is done with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Math {
    /// It is added to.
    Add(i64),
    /// It is subtracted from.
    Subtract(i64),
    /// It is multiplied.
    Multiply(i64),
    /// It is divided; by 0 it becomes 0.
    Divide(i64),
}

impl Math {
    fn of(self, number: i64) -> Result<i64, Refusal> {
        let result = match self {
            Math::Add(n) => number.checked_add(n),
            Math::Subtract(n) => number.checked_sub(n),
            Math::Multiply(n) => number.checked_mul(n),
            Math::Divide(0) => Some(0),
            Math::Divide(n) => number.checked_div(n),
        };
        result.ok_or(Refusal::Overflow)
    }
}

/// How full a cache is, and what has happened in it since the appliance began.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    /// Items, with those that have expired and were not removed yet.
    pub items: u64,
    /// The most there may be.
    pub max_items: u64,
    /// Bytes that they are reckoned to take.
    pub size: u64,
    /// The most they may take.
    pub max_size: u64,
    /// Bytes of memory in use.
    pub memory: u64,
    /// Items that were stored or changed.
    pub sets: u64,
    /// Items that made room for others.
    pub evicted: u64,
    /// Items that were removed because they had expired.
    pub expired: u64,
    /// Items that found no room.
    pub refused: u64,
}

/// An open cache.
#[derive(Debug)]
pub struct Cache {
    settings: Settings,
    folder: PathBuf,
    env: Env,
    gate: Gate,
    /// Who is told of changes.
    mirror: Mirror,
    /// When something about it was last logged, in seconds of the stores' clock.
    logged: AtomicU64,
}

impl Cache {
    /// Opens the cache in its folder below `folder`.
    pub fn open(folder: &Path, settings: &Settings) -> Result<Cache, Error> {
        let what = || format!("open the cache {:?} in {}", settings.name, folder.display());
        let folder = folder.join(&settings.name);
        let opened = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(super::env::store)?;
            super::env::require_room(&folder)?;
            let gate = Gate::open(&folder.join("gate")).map_err(super::env::store)?;
            let turn = gate.enter_within(BOOT)?;
            let env = Env::open(&folder, settings.size, settings.item_size)?;
            env.forget_the_dead();
            drop(turn);
            let logged = AtomicU64::new(0);
            let mirror = Mirror::open(&settings.shared.nodes).map_err(super::env::store)?;
            let (settings, folder) = (settings.clone(), folder.clone());
            let cache = Cache { settings, folder, env, gate, mirror, logged };
            let turn = cache.gate.enter_within(BOOT)?;
            keeper::load(&cache)?;
            drop(turn);
            Ok(cache)
        };
        opened().map_err(|why: Refusal| Error::Io { what: what(), source: io::Error::other(why) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The value of a key, shown to `use_it` where it lies; `None` if there is none or it has expired.
    pub fn look<T>(&self, key: &[u8], use_it: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Refusal> {
        if check_key(key).is_err() {
            return Ok(None);
        }
        let now = super::now();
        let Some(txn) = self.env.read()? else {
            return self.write(now, |work| Ok(work.find(key)?.map(|found| use_it(found.value))));
        };
        let Some(found) = find(&self.env, &txn, key, now)? else { return Ok(None) };
        let touched = self.settings.lru.then_some(found.stamp);
        let used = use_it(found.value);
        if let Some(stamp) = touched {
            let last = counts(&self.env, &txn)?.stamp;
            drop(txn);
            if last.wrapping_sub(stamp) > self.settings.items / RECENT {
                self.touch(key, now);
            }
        }
        Ok(Some(used))
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        self.look(key, <[u8]>::to_vec)
    }

    /// Whether a key has a value.
    pub fn exists(&self, key: &[u8]) -> Result<bool, Refusal> {
        self.look(key, |_| ()).map(|found| found.is_some())
    }

    /// How long the item of a key has left; `Some(None)`: it does not expire.
    pub fn life(&self, key: &[u8]) -> Result<Option<Option<Duration>>, Refusal> {
        let now = super::now();
        let left = |found: Record<'_>| {
            (found.expires != NEVER).then(|| Duration::from_millis(found.expires.saturating_sub(now)))
        };
        self.view(|txn| {
            if check_key(key).is_err() { Ok(None) } else { Ok(find(&self.env, txn, key, now)?.map(left)) }
        })
    }

    /// Stores a value; false if it was only to be added and there is one. `life`: until it expires; `None` as the settings
    /// say. The item that it replaces takes its own expiry with it.
    pub fn put(&self, key: &[u8], value: &[u8], life: Option<Duration>, mode: Mode) -> Result<bool, Refusal> {
        let now = super::now();
        let stored = self.put_quietly(key, value, life, mode)?;
        if stored {
            self.mirror.say_written(key, value, self.expires(life, now), now);
        }
        Ok(stored)
    }

    /// The same, and no other cache is told of it.
    pub(super) fn put_quietly(
        &self,
        key: &[u8],
        value: &[u8],
        life: Option<Duration>,
        mode: Mode,
    ) -> Result<bool, Refusal> {
        self.check(key, value.len())?;
        let now = super::now();
        let expires = self.expires(life, now);
        self.rounds(now, |work| {
            if mode == Mode::Add && work.find(key)?.is_some() {
                return Ok(Round::Done(false));
            }
            work.store(key, value, expires).map(|stored| stored.map(|()| true))
        })
    }

    /// Removes an item; false if there was none.
    pub fn delete(&self, key: &[u8]) -> Result<bool, Refusal> {
        let was_there = self.delete_quietly(key)?;
        if was_there {
            self.mirror.say(News::Removed(key));
        }
        Ok(was_there)
    }

    /// The same, and no other cache is told of it.
    pub(super) fn delete_quietly(&self, key: &[u8]) -> Result<bool, Refusal> {
        if check_key(key).is_err() {
            return Ok(false);
        }
        self.write(super::now(), |work| {
            let is_there = work.find(key)?.is_some();
            work.remove(key)?;
            Ok(is_there)
        })
    }

    /// Changes the number that a key has and answers it. One that is missing begins at 0 and lives for `life`; one that is
    /// there keeps its expiry. The value is 8 bytes in the machine's order.
    pub fn calculate(&self, key: &[u8], math: Math, life: Option<Duration>) -> Result<i64, Refusal> {
        self.check(key, size_of::<i64>())?;
        let now = super::now();
        let first = self.expires(life, now);
        let (result, expires) = self.rounds(now, |work| {
            let (number, expires) = match work.find(key)? {
                Some(found) => (number(found.value).ok_or(Refusal::NotANumber)?, found.expires),
                None => (0, first),
            };
            let result = math.of(number)?;
            let stored = work.store(key, &result.to_ne_bytes(), expires)?;
            Ok(stored.map(|()| (result, expires)))
        })?;
        self.mirror.say_written(key, &result.to_ne_bytes(), expires, now);
        Ok(result)
    }

    /// The number that a key has; `None` if it has no value.
    pub fn number(&self, key: &[u8]) -> Result<Option<i64>, Refusal> {
        let Some(found) = self.look(key, number)? else { return Ok(None) };
        found.map(Some).ok_or(Refusal::NotANumber)
    }

    /// A file of this name beside its store.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Stores items as they come, with the moment in which each expires, as far as there is room. The caller has its turn.
    pub(super) fn fill(&self, items: Vec<(Vec<u8>, Vec<u8>, u64)>) -> Result<(), Refusal> {
        let now = super::now();
        let mut work = Work::begin(&self.env, &self.settings, now)?;
        for (key, value, expires) in items {
            let is_over = expires != NEVER && expires <= now;
            if !is_over && self.check(&key, value.len()).is_ok() {
                work.store(&key, &value, expires)?;
            }
        }
        work.commit()
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.clear_quietly()?;
        self.mirror.say(News::Cleared);
        Ok(())
    }

    /// The same, and no other cache is told of it.
    pub(super) fn clear_quietly(&self) -> Result<(), Refusal> {
        self.write(super::now(), |work| work.clear())
    }

    /// Every key, in no order that means anything.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut keys = Vec::new();
        self.each(|key, _, _| keys.push(key.to_vec()))?;
        Ok(keys)
    }

    /// Shows every item that has not expired: key, value, and what it has left.
    pub fn each(&self, mut show: impl FnMut(&[u8], &[u8], Option<Duration>)) -> Result<(), Refusal> {
        let now = super::now();
        self.view(|txn| {
            for item in self.env.items.iter(txn).map_err(refusal)? {
                let (key, bytes) = item.map_err(refusal)?;
                let Some(found) = Record::read(bytes).filter(|found| !found.is_expired(now)) else {
                    continue;
                };
                let left = Duration::from_millis(found.expires.saturating_sub(now));
                show(key, found.value, (found.expires != NEVER).then_some(left));
            }
            Ok(())
        })
    }

    /// How full it is.
    pub fn stats(&self) -> Result<Stats, Refusal> {
        self.view(|txn| {
            let counts = counts(&self.env, txn)?;
            Ok(Stats {
                items: self.env.items.len(txn).map_err(refusal)?,
                max_items: self.settings.items,
                size: counts.bytes,
                max_size: self.settings.size,
                memory: self.env.memory(),
                sets: counts.sets,
                evicted: counts.evicted,
                expired: counts.expired,
                refused: counts.refused,
            })
        })
    }

    /// The stamp of the last change: as long as it stays the same, so does the cache.
    pub fn last_change(&self) -> Result<u64, Refusal> {
        self.view(|txn| counts(&self.env, txn).map(|counts| counts.stamp))
    }

    /// Says in the log what an operator should know of, for callers whose own answer has no room for it. Not more often than
    /// every ten seconds: a full cache refuses much.
    pub fn log(&self, refusal: &Refusal) {
        const PAUSE: u64 = 10;
        let now = super::now() / 1_000 + PAUSE;
        let is_due = now.saturating_sub(self.logged.load(Relaxed)) >= PAUSE;
        let name = self.name();
        match refusal {
            Refusal::Full | Refusal::Busy | Refusal::Forked | Refusal::Store(_) if is_due => {
                self.logged.store(now, Relaxed);
                tracing::warn!("cache {name}: {refusal}");
            }
            _ => tracing::debug!("cache {name}: {refusal}"),
        }
    }

    fn check(&self, key: &[u8], length: usize) -> Result<(), Refusal> {
        check_key(key)?;
        let most = self.settings.item_size;
        if length as u64 > most { Err(Refusal::Value { length, most }) } else { Ok(()) }
    }

    fn expires(&self, life: Option<Duration>, now: u64) -> u64 {
        let life = life.unwrap_or(self.settings.expires);
        // The clock has whole milliseconds: an item may go a part of one too early, and never too late.
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        if life.is_zero() { NEVER } else { now.saturating_add(millis) }
    }

    fn view<T>(&self, see: impl FnOnce(&RoTxn<'_>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        match self.env.read()? {
            Some(txn) => see(&txn),
            None => self.write(super::now(), |work| see(work.view())),
        }
    }

    /// One transaction: whole, or not at all if it ends with an error.
    fn write<T>(
        &self,
        now: u64,
        work_on: impl FnOnce(&mut Work<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.env.require_own()?;
        let _turn = self.gate.enter()?;
        let mut work = Work::begin(&self.env, &self.settings, now)?;
        let done = work_on(&mut work)?;
        work.commit()?;
        Ok(done)
    }

    /// As many transactions as it takes to make room.
    fn rounds<T>(
        &self,
        now: u64,
        mut round: impl FnMut(&mut Work<'_>) -> Result<Round<T>, Refusal>,
    ) -> Result<T, Refusal> {
        for _ in 0..ROUNDS {
            match self.write(now, &mut round) {
                Ok(Round::Done(done)) => return Ok(done),
                Ok(Round::Again) => {}
                Ok(Round::Full) => return Err(Refusal::Full),
                Err(Refusal::Full) => {
                    // Pages that a dead reader may have held are free after this; if not, it stays full.
                    self.env.forget_the_dead();
                    return self
                        .write(now, |work| match work.evict_some()? {
                            0 => Err(Refusal::Full),
                            _ => Ok(()),
                        })
                        .and_then(|()| self.write(now, &mut round))
                        .and_then(|round| round.done().ok_or(Refusal::Full));
                }
                Err(other) => return Err(other),
            }
        }
        Err(Refusal::Full)
    }

    /// Notes that an item was used. It is no loss if this cannot be written down.
    fn touch(&self, key: &[u8], now: u64) {
        let _ = self.write(now, |work| work.touch(key));
    }
}

fn number(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_ne_bytes)
}

fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if (1..=MAX_KEY).contains(&key.len()) { Ok(()) } else { Err(Refusal::Key(key.len())) }
}

#[cfg(test)]
mod tests;
