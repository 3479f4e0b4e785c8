//! Caches that all workers share: `[cache.NAME]` of the configuration makes one. Python in the same appliance sees the same.
//!
//! ```no_run
//! use appliance_app::cache::{Cache, Life};
//! use std::time::Duration;
//!
//! # fn main() -> std::io::Result<()> {
//! const SESSIONS: Cache = Cache::named("sessions");
//!
//! SESSIONS.set("abc", "Alice", Duration::from_secs(3600))?;
//! let name = SESSIONS.get("abc")?; // Some(b"Alice")
//! let visits = Cache::first().increment("visits", 1, Life::Forever)?;
//! # Ok(())
//! # }
//! ```
//!
//! Keys and values are bytes or text. Every call takes microseconds, suspends nobody, and may be made on any thread of a worker,
//! in [`blocking`](crate::blocking) too. An error is a sentence that says what to do: `NotFound` where a cache is not configured,
//! `InvalidInput` for a key or a number that cannot be, `StorageFull`, `ResourceBusy` and so on.
use crate::host::cache as host;
use std::io;
use std::time::Duration;

/// How long an item lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// As the cache's `expires` says.
    Configured,
    /// Until it is removed.
    Forever,
    /// So long.
    For(Duration),
}

impl From<Duration> for Life {
    fn from(time: Duration) -> Life {
        Life::For(time)
    }
}

impl Life {
    /// In microseconds, as the interface has it.
    fn micros(self) -> i64 {
        match self {
            Life::Configured => -1,
            Life::Forever => 0,
            // None at all would be for ever.
            Life::For(time) => i64::try_from(time.as_micros()).unwrap_or(i64::MAX).max(1),
        }
    }
}

/// A cache. It is found by its name each time, so one may be made anywhere, as a constant too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache<'a> {
    name: &'a str,
}

impl<'a> Cache<'a> {
    /// The cache of this name.
    pub const fn named(name: &'a str) -> Cache<'a> {
        Cache { name }
    }

    /// The first one of the configuration.
    pub const fn first() -> Cache<'static> {
        Cache { name: "" }
    }

    /// The value of a key.
    pub fn get(self, key: impl AsRef<[u8]>) -> io::Result<Option<Vec<u8>>> {
        host::get(self.name, key.as_ref())
    }

    /// Whether a key is there.
    pub fn contains(self, key: impl AsRef<[u8]>) -> io::Result<bool> {
        host::life(self.name, key.as_ref()).map(|found| found.is_some())
    }

    /// Stores a value.
    pub fn set(
        self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        life: impl Into<Life>,
    ) -> io::Result<()> {
        host::set(self.name, key.as_ref(), value.as_ref(), life.into().micros(), false).map(drop)
    }

    /// Stores a value if the key has none; whether it did. Of all who try at once one succeeds.
    pub fn add(
        self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        life: impl Into<Life>,
    ) -> io::Result<bool> {
        host::set(self.name, key.as_ref(), value.as_ref(), life.into().micros(), true)
    }

    /// The value of a key; if it has none, what `make` gives is stored first. Others may make it at the same time: the first one
    /// that is done is stored, and all get that.
    pub fn get_or_set<E: From<io::Error>>(
        self,
        key: impl AsRef<[u8]>,
        life: impl Into<Life>,
        mut make: impl FnMut() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let (key, life) = (key.as_ref(), life.into());
        loop {
            if let Some(value) = self.get(key)? {
                return Ok(value);
            }
            let made = make()?;
            if self.add(key, &made, life)? {
                return Ok(made);
            }
        }
    }

    /// Removes a key; whether it was there.
    pub fn delete(self, key: impl AsRef<[u8]>) -> io::Result<bool> {
        host::delete(self.name, key.as_ref())
    }

    /// Adds to the number of a key (or subtracts what is less than 0), which begins at 0 and has that life from then on, and gives
    /// it. Nothing is lost, however many workers count. [`Cache::get`] gives its 8 bytes, for [`i64::from_ne_bytes`].
    pub fn increment(self, key: impl AsRef<[u8]>, by: i64, life: impl Into<Life>) -> io::Result<i64> {
        host::count(self.name, key.as_ref(), by, life.into().micros())
    }

    /// What a key has left: [`Life::For`] or [`Life::Forever`]; `None` if it is not there.
    pub fn life(self, key: impl AsRef<[u8]>) -> io::Result<Option<Life>> {
        let left = |micros: i64| {
            u64::try_from(micros).map_or(Life::Forever, |micros| Life::For(Duration::from_micros(micros)))
        };
        Ok(host::life(self.name, key.as_ref())?.map(left))
    }

    /// Every key, in no order that means anything. It takes time in proportion to their number.
    pub fn keys(self) -> io::Result<Vec<Vec<u8>>> {
        host::keys(self.name)
    }

    /// Removes everything.
    pub fn clear(self) -> io::Result<()> {
        host::clear(self.name)
    }

    /// How full it is (`items`, `max_items`, `size`, `max_size`, `memory`), and what has happened in it since the appliance began
    /// (`sets`, `evicted`, `expired`, `refused`), as JSON.
    pub fn stats(self) -> io::Result<String> {
        host::stats(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_counts_lives_in_microseconds() {
        let lives = [Life::Configured, Life::Forever, Duration::ZERO.into(), Duration::MAX.into()];
        assert_eq!(lives.map(Life::micros), [-1, 0, 1, i64::MAX]);
    }

    #[test]
    fn where_no_appliance_is_a_sentence_says_so() {
        let error = Cache::named("pages").get("key").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(
            error.to_string().contains("only in an application that the appliance has loaded"),
            "{error}"
        );
    }
}
