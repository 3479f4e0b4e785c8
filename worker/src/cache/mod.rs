//! Caches: key and value in memory that all workers share, over reloads too. `[cache.NAME]` makes one. Python, native
//! applications and the server for other machines call the same functions of [`Cache`]; none of them waits for anything but
//! its turn to write, and for that only milliseconds. Safe from any thread.
//!
//! Below: `store` (the operations, each one transaction), `work` (what a transaction does), `env` (the files of LMDB), `gate`
//! (who may write), `record` (bytes), `keeper` and `snapshot` (contents that outlive the appliance). The master and the proxy never open a store:
//! its bytes are written by processes that run application code.
mod env;
mod gate;
mod keeper;
mod mirror;
pub mod record;
mod snapshot;
mod store;
mod work;

pub use store::{Cache, Math, Mode, Stats};

use crate::Error;
use keeper::Keeper;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Longest key in bytes.
pub const MAX_KEY: usize = 1024;

/// Why something was not done. Reads as the rest of a sentence that begins with the name of the cache.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is empty or too long.
    #[error("a key has 1 to {MAX_KEY} bytes, not {0}")]
    Key(usize),
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
    /// Opens the caches of `settings` below `folder`, which the master has made. In a worker: after its fork, for an LMDB
    /// environment must not cross one.
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

/// Milliseconds of the clock that all stores use: the same in every process, going on while the machine sleeps, and not set
/// by anybody.
pub fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000 + now.tv_nsec().unsigned_abs() / 1_000_000)
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
