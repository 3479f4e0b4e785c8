//! One cache: its operations, each of which is done as a whole or not at all. Called from any thread of a worker, and by
//! `appliance cache`. A read waits for nobody; a write waits for its turn (`gate.rs`).
use super::change::New;
use super::gate::Gate;
use super::layout::{Head, NEVER, is_expired};
use super::map::Mark;
use super::mirror::Mirror;
use super::seek::{Copied, Item, Seen, Torn};
use super::table::{Table, store};
use super::tables::Tables;
use super::work::{Math, Round, Work};
use super::{MAX_KEY, Moment, Refusal, keeper};
use crate::Error;
use crate::wire::sync::News;
use appliance_config::settings::Cache as Settings;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long the opening of a store may wait for the others: each finds its tables, and the first one may have a file to load.
const BOOT: Duration = Duration::from_secs(30);
/// Turns that one item may need to find room: as many items as a long one can drive out.
const ROUNDS: usize = 1_000;
/// Looks at an item that others change all the time, before its reader waits for a turn in which nobody does.
const LOOKS: u32 = 1_000;
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
    /// Values that were asked for and found.
    pub hits: u64,
    /// Values that were asked for and not found.
    pub misses: u64,
}

/// An open cache.
#[derive(Debug)]
pub struct Cache {
    settings: Settings,
    folder: PathBuf,
    tables: Tables,
    gate: Gate,
    /// Of the process that opened it.
    process: Mark,
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
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(store)?;
            let gate = Gate::open(&folder.join("gate")).map_err(store)?;
            let turn = gate.enter_within(BOOT)?;
            let tables = Tables::open(&folder, settings)?;
            drop(turn);
            let (logged, process) = (AtomicU64::new(0), Mark::new());
            let mirror = Mirror::open(&settings.shared.nodes).map_err(store)?;
            let (settings, folder) = (settings.clone(), folder.clone());
            let cache = Cache { settings, folder, tables, gate, process, mirror, logged };
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

    /// The value of a key, shown to `use_it`; `None` if there is none or it has expired.
    pub fn look<T>(&self, key: &[u8], use_it: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Refusal> {
        let mut copied = Copied::new();
        let found = self.use_it(key, Some(&mut copied))?;
        self.tables.current()?.count(found.is_some());
        Ok(found.map(|_| use_it(copied.bytes())))
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        self.look(key, <[u8]>::to_vec)
    }

    /// Whether a key has a value.
    pub fn exists(&self, key: &[u8]) -> Result<bool, Refusal> {
        self.use_it(key, None).map(|found| found.is_some())
    }

    /// How long the item of a key has left; `Some(None)`: it does not expire.
    pub fn life(&self, key: &[u8]) -> Result<Option<Option<Duration>>, Refusal> {
        Ok(self.seen(key, None)?.map(|found| left(found.expires, super::now())))
    }

    /// Looks for the item of a key, which counts as a use of it.
    fn use_it(&self, key: &[u8], copied: Option<&mut Copied>) -> Result<Option<Seen>, Refusal> {
        let found = self.seen(key, copied)?;
        if let Some(found) = found.filter(|_| self.settings.lru) {
            let since = self.tables.current()?[Head::Stamp].load().wrapping_sub(found.used);
            if since > self.settings.items / RECENT {
                // It is no loss if this cannot be written down.
                let _ = self.write(&Moment::default(), |work| work.touch(key));
            }
        }
        Ok(found)
    }

    /// Looks for it only.
    fn seen(&self, key: &[u8], mut copied: Option<&mut Copied>) -> Result<Option<Seen>, Refusal> {
        self.require_own()?;
        if self.check_key(key).is_err() {
            return Ok(None);
        }
        let found = self.read(self.tables.current()?, |table| table.read(key, copied.as_deref_mut()))?;
        Ok(found.filter(|found| found.expires == NEVER || !is_expired(found.expires, super::now())))
    }

    /// Stores a value; false if it was only to be added and there is one. `life`: until it expires; `None` as the settings
    /// say. The item that it replaces takes its own expiry with it.
    pub fn put(&self, key: &[u8], value: &[u8], life: Option<Duration>, mode: Mode) -> Result<bool, Refusal> {
        let stored = self.put_quietly(key, value, life, mode)?;
        if stored && self.mirror.has_nodes() {
            let moment = Moment::default();
            self.mirror.say_written(key, value, self.expires(life, &moment), moment.now());
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
        let moment = Moment::default();
        let new = New { key, value, expires: self.expires(life, &moment) };
        self.rounds(&moment, |work| {
            if mode == Mode::Add && work.find(key)?.is_some() {
                return Ok(Round::Done(false));
            }
            Ok(work.store(new)?.map(|()| true))
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
        if self.check_key(key).is_err() {
            self.require_own()?;
            return Ok(false);
        }
        self.write(&Moment::default(), |work| work.remove(key))
    }

    /// Changes the number that a key has and answers it. One that is missing begins at 0 and lives for `life`; one that is
    /// there keeps its expiry. The value is 8 bytes in the machine's order.
    pub fn calculate(&self, key: &[u8], math: Math, life: Option<Duration>) -> Result<i64, Refusal> {
        self.check(key, size_of::<i64>())?;
        let moment = Moment::default();
        let first = self.expires(life, &moment);
        let (result, expires) = self.rounds(&moment, |work| work.calculate(key, math, first))?;
        if self.mirror.has_nodes() {
            self.mirror.say_written(key, &result.to_ne_bytes(), expires, moment.now());
        }
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
        let (table, moment) = (self.tables.current()?, Moment::default());
        table.put_in_order()?;
        let work = Work::begin(table, &self.settings, &moment)?;
        for (key, value, expires) in items {
            if !is_expired(expires, moment.now()) && self.check(&key, value.len()).is_ok() {
                work.store(New { key: &key, value: &value, expires })?;
            }
        }
        Ok(())
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.clear_quietly()?;
        self.mirror.say(News::Cleared);
        Ok(())
    }

    /// The same, and no other cache is told of it.
    pub(super) fn clear_quietly(&self) -> Result<(), Refusal> {
        self.write(&Moment::default(), |work| work.clear())
    }

    /// Every key, in no order that means anything.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, Refusal> {
        let mut keys = Vec::new();
        self.each(|key, _, _| keys.push(key.to_vec()))?;
        Ok(keys)
    }

    /// Shows every item that has not expired: key, value, and what it has left. Each is shown as it was at a moment of this
    /// call; what others change meanwhile may be seen or not.
    pub fn each(&self, mut show: impl FnMut(&[u8], &[u8], Option<Duration>)) -> Result<(), Refusal> {
        self.require_own()?;
        let (table, now) = (self.tables.current()?, super::now());
        let mut items: Vec<Item> = Vec::new();
        for bucket in 0..table.sizes().buckets {
            self.read(table, |table| {
                items.clear();
                table.read_bucket(bucket, &mut items)
            })?;
            for item in items.drain(..).filter(|item| !is_expired(item.expires, now)) {
                show(&item.key, &item.value, left(item.expires, now));
            }
        }
        Ok(())
    }

    /// How full it is.
    pub fn stats(&self) -> Result<Stats, Refusal> {
        self.require_own()?;
        let table = self.tables.current()?;
        let (hits, misses) = table.tallies();
        Ok(Stats {
            items: table[Head::Items].load(),
            max_items: self.settings.items,
            size: table[Head::Bytes].load(),
            max_size: self.settings.size,
            memory: table.memory(),
            sets: table[Head::Sets].load(),
            evicted: table[Head::Evicted].load(),
            expired: table[Head::Expired].load(),
            refused: table[Head::Refused].load(),
            hits,
            misses,
        })
    }

    /// The number of the last change: as long as it stays the same, so does the cache.
    pub fn last_change(&self) -> Result<u64, Refusal> {
        self.require_own()?;
        Ok(self.tables.current()?[Head::Changes].acquire())
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

    fn require_own(&self) -> Result<(), Refusal> {
        if self.process.is_here() { Ok(()) } else { Err(Refusal::Forked) }
    }

    fn check(&self, key: &[u8], length: usize) -> Result<(), Refusal> {
        self.check_key(key)?;
        let most = self.settings.item_size;
        if length as u64 > most { Err(Refusal::Value { length, most }) } else { Ok(()) }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Refusal> {
        let (length, most) = (key.len(), self.settings.key_size.min(MAX_KEY as u64));
        if (1..=most).contains(&(length as u64)) { Ok(()) } else { Err(Refusal::Key { length, most }) }
    }

    fn expires(&self, life: Option<Duration>, moment: &Moment) -> u64 {
        let life = life.unwrap_or(self.settings.expires);
        // The clock has whole milliseconds: an item may go a part of one too early, and never too late.
        let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
        if life.is_zero() { NEVER } else { moment.now().saturating_add(millis) }
    }

    fn read<T>(&self, table: &Table, mut read: impl FnMut(&Table) -> Result<T, Torn>) -> Result<T, Refusal> {
        for _ in 0..LOOKS {
            if let Ok(found) = read(table) {
                return Ok(found);
            }
            std::hint::spin_loop();
        }
        let _turn = self.gate.enter()?;
        table.put_in_order()?;
        read(table).map_err(|Torn| table.broken())
    }

    /// One turn.
    fn write<T>(
        &self,
        moment: &Moment,
        work_on: impl FnOnce(&Work<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.require_own()?;
        let _turn = self.gate.enter()?;
        let table = self.tables.current()?;
        table.put_in_order()?;
        work_on(&Work::begin(table, &self.settings, moment)?)
    }

    /// As many turns as it takes to make room.
    fn rounds<T>(
        &self,
        moment: &Moment,
        mut round: impl FnMut(&Work<'_>) -> Result<Round<T>, Refusal>,
    ) -> Result<T, Refusal> {
        for _ in 0..ROUNDS {
            match self.write(moment, &mut round)? {
                Round::Done(done) => return Ok(done),
                Round::Again => {}
                Round::Full => break,
            }
        }
        Err(Refusal::Full)
    }
}

fn number(value: &[u8]) -> Option<i64> {
    value.try_into().ok().map(i64::from_ne_bytes)
}

/// What is left of a life until `expires`; `None`: it has no end.
fn left(expires: u64, now: u64) -> Option<Duration> {
    (expires != NEVER).then(|| Duration::from_millis(expires.saturating_sub(now)))
}

#[cfg(test)]
mod tests;
