//! One turn to write: what is done with the item of a key, and what makes room for it. Begun by `store.rs`, which has waited
//! for the turn, and limited by the settings of the process that has it.
use super::change::{Lying, New};
use super::layout::Head;
use super::table::Table;
use super::{Moment, Refusal};
use appliance_config::settings::Cache as Settings;

/// Expired items that one turn removes beside its own work.
const SWEEP: usize = 8;
/// Items that make room in one turn, so that it stays short.
const EVICTIONS: usize = 256;

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

/// How a turn went.
#[derive(Debug)]
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
}

/// A turn.
#[derive(Debug)]
pub struct Work<'a> {
    table: &'a Table,
    settings: &'a Settings,
    moment: &'a Moment,
}

impl<'a> Work<'a> {
    /// Begins with what a killed writer could not end, and removes some of what has expired.
    pub fn begin(table: &'a Table, settings: &'a Settings, moment: &'a Moment) -> Result<Work<'a>, Refusal> {
        table.put_in_order()?;
        let work = Work { table, settings, moment };
        for _ in 0..SWEEP {
            if !work.drop_expired()? {
                break;
            }
        }
        Ok(work)
    }

    /// The item of a key, unless it has expired.
    pub fn find(&self, key: &[u8]) -> Result<Option<Lying<'a>>, Refusal> {
        Ok(self.table.find(key)?.filter(|found| !found.is_expired(|| self.moment.now())))
    }

    /// Puts an item in, in the place of the one that is there.
    pub fn store(&self, new: New<'_>) -> Result<Round<()>, Refusal> {
        let (sizes, key, value) = (self.table.sizes(), new.key.len() as u64, new.value.len() as u64);
        let (cost, hash) = (sizes.cost(key, value), self.table.hash(new.key));
        // A reload may allow longer items while there was no memory for a larger table.
        let is_possible = cost <= self.settings.size && sizes.chunks_for(key, value) < sizes.chunks;
        for _ in 0..=EVICTIONS {
            let old = self.table.find_hashed(hash, new.key)?;
            let others = self.table[Head::Bytes].load();
            let others = others.saturating_sub(old.map_or(0, |old| self.table.cost_of(old)));
            let items = self.table[Head::Items].load().saturating_add(u64::from(old.is_none()));
            if items <= self.settings.items && others.saturating_add(cost) <= self.settings.size {
                match self.table.insert(hash, new, old) {
                    // There is no memory, or another generation uses more than this one may.
                    Err(Refusal::Full) => {}
                    done => return done.map(Round::Done),
                }
            }
            if !is_possible || !self.evict()? {
                self.table.add(Head::Refused, 1);
                return Ok(Round::Full);
            }
        }
        Ok(Round::Again)
    }

    /// Changes the number of a key, which begins at 0 with the expiry `first`; answers the new one, and when it expires.
    pub fn calculate(&self, key: &[u8], math: Math, first: u64) -> Result<Round<(i64, u64)>, Refusal> {
        let Some(found) = self.find(key)? else {
            let number = math.of(0)?;
            let new = New { key, value: &number.to_ne_bytes(), expires: first };
            return Ok(self.store(new)?.map(|()| (number, first)));
        };
        let number = math.of(self.table.number_of(found).ok_or(Refusal::NotANumber)?)?;
        self.table.set_number(found, number)?;
        Ok(Round::Done((number, found.expires())))
    }

    /// Takes the item of a key out, expired or not; false if there was none to be found.
    pub fn remove(&self, key: &[u8]) -> Result<bool, Refusal> {
        let Some(found) = self.table.find(key)? else { return Ok(false) };
        let was_there = !found.is_expired(|| self.moment.now());
        self.table.remove(found, None).map(|()| was_there)
    }

    /// Notes that the item of a key was used.
    pub fn touch(&self, key: &[u8]) -> Result<(), Refusal> {
        if let Some(found) = self.find(key)? {
            self.table.touch(found);
        }
        Ok(())
    }

    /// Removes everything.
    pub fn clear(&self) -> Result<(), Refusal> {
        self.table.clear()
    }

    /// Removes the item that has expired first; false if none has.
    fn drop_expired(&self) -> Result<bool, Refusal> {
        match self.table.soonest() {
            Some((moment, number)) if moment <= self.moment.now() => {
                self.table.remove(self.table.find_slot(number)?, Some(Head::Expired)).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Makes room by one item; false if there is nothing that may go.
    fn evict(&self) -> Result<bool, Refusal> {
        if self.drop_expired()? {
            return Ok(true);
        }
        let oldest = self.table[Head::Oldest].load();
        if !self.settings.lru || oldest == 0 {
            return Ok(false);
        }
        self.table.remove(self.table.find_slot(oldest)?, Some(Head::Evicted)).map(|()| true)
    }
}
