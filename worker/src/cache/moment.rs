//! The clock of all stores, and the moment of one call: looked up when it is first needed, since that takes longer than most
//! calls do beside it.
use std::cell::Cell;

/// Milliseconds of the clock that all stores use: the same in every process, going on while the machine sleeps, and not set
/// by anybody.
pub fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000 + now.tv_nsec().unsigned_abs() / 1_000_000)
}

/// The moment of a call: the same from the first look to the last.
#[derive(Debug, Default)]
pub struct Moment(Cell<Option<u64>>);

impl Moment {
    /// A moment that is known.
    #[cfg(test)]
    pub fn at(now: u64) -> Moment {
        Moment(Cell::new(Some(now)))
    }

    /// When it is.
    pub fn now(&self) -> u64 {
        let now = self.0.get().unwrap_or_else(now);
        self.0.set(Some(now));
        now
    }
}
