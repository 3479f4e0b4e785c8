//! Caches: key and value in memory that all workers share, over reloads too. `[cache.NAME]` makes one. Python, native
//! applications and the server for other machines call the same functions of [`Cache`]; none of them waits for anything but
//! its turn to write, and for that only milliseconds. Safe from any thread.
//!
//! Below: `store` (the operations), `gate` (who may write), `work` (what is done in one turn to write), `tables` (the files, one
//! after the other), `table` and the files that it names (what lies in one, and how it is read and changed), `keeper` and
//! `snapshot` (contents that outlive the appliance), `mirror` (other servers). The master and the proxy never open a store: its
//! bytes are written by processes that run application code.
mod change;
mod chunks;
mod gate;
mod heap;
mod keeper;
mod layout;
mod map;
mod mirror;
mod moment;
mod order;
mod recover;
mod seek;
mod slot;
mod snapshot;
mod store;
mod table;
mod tables;
mod word;
mod work;

pub use moment::now;
pub use store::{Cache, Mode, Stats};
pub use work::Math;

use crate::Error;
use keeper::Keeper;
use moment::Moment;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Longest key in bytes that any cache takes.
pub const MAX_KEY: usize = 1024;

/// Why something was not done. Reads as the rest of a sentence that begins with the name of the cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is empty or too long.
    #[error("a key has 1 to {most} bytes, not {length}; see key_size")]
    Key {
        /// Its length.
        length: usize,
        /// The longest that is taken.
        most: u64,
    },
    /// The value is too long.
    #[error("a value has at most {most} bytes, not {length}; see item_size")]
    Value {
        /// Its length.
        length: usize,
        /// The longest that is taken.
        most: u64,
    },
    /// There is no room, and nothing makes room.
    #[error("is full; raise items or size, or let it drop what is used least: lru = true")]
    Full,
    /// Another process holds the store and does not run.
    #[error("is held by a process that does not go on; try again")]
    Busy,
    /// The value is no number of 8 bytes.
    #[error("the value is not a number")]
    NotANumber,
    /// The result would not fit 64 bits.
    #[error("the number would not fit 64 bits")]
    Overflow,
    /// This process was forked by the application from one that had opened the cache.
    #[error("cannot be used in a process that the application has forked; use it in the worker itself")]
    Forked,
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
}

/// The caches of this process, in the order of the configuration.
#[derive(Debug, Default)]
pub struct Caches {
    caches: Vec<Cache>,
    keeper: Mutex<Option<Keeper>>,
}

static HERE: OnceLock<Caches> = OnceLock::new();
static NONE: Caches = Caches { caches: Vec::new(), keeper: Mutex::new(None) };

impl Caches {
    /// Opens the caches of `settings` below `folder`, which the master has made. In a worker: after its fork, for an open
    /// cache must not cross one.
    pub fn open(folder: &Path, settings: &[appliance_config::settings::Cache]) -> Result<Caches, Error> {
        let open = |settings| Cache::open(folder, settings);
        let caches = settings.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(Caches { caches, keeper: Mutex::new(None) })
    }

    /// Makes them those of this process, for the rest of its life, and keeps those that are to outlive it.
    pub fn install(self) -> Result<(), Error> {
        let here = HERE.get_or_init(|| self);
        let keeper =
            Keeper::start(&here.caches).map_err(Error::io("start the thread that keeps the caches"))?;
        *here.keeper.lock().unwrap_or_else(PoisonError::into_inner) = keeper;
        Ok(())
    }

    /// Writes those that are to outlive the appliance, at the end of a worker.
    pub fn close(&self) {
        if let Some(keeper) = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.stop();
        }
    }

    /// Those of this process; none where none were opened.
    pub fn here() -> &'static Caches {
        HERE.get().unwrap_or(&NONE)
    }

    /// The cache of that name.
    pub fn named(&self, name: &str) -> Option<&Cache> {
        self.caches.iter().find(|cache| cache.name() == name)
    }

    /// The one that is meant where none is named.
    pub fn first(&self) -> Option<&Cache> {
        self.caches.first()
    }

    /// All of them.
    pub fn all(&self) -> &[Cache] {
        &self.caches
    }
}

#[cfg(test)]
mod testing {
    //! A folder that goes when its test ends.
    use std::path::{Path, PathBuf};

    pub struct Scratch(PathBuf);

    impl Scratch {
        pub fn new() -> Scratch {
            Scratch(nix::unistd::mkdtemp("/tmp/appliance-cache-XXXXXX").unwrap())
        }

        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
