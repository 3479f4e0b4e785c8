//! Where the record of a name is: a hash table of numbers, into which many processes write at once without waiting for each
//! other. A record is complete before its number is put in, with one atomic exchange, so there is nothing to see of a process
//! that is killed in between; the record that it had taken is lost, and no name is. Numbers are never taken out.
use std::sync::atomic::{AtomicU32, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

/// Spreads numbers over 64 bits (the golden ratio).
pub(super) const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// FNV-1a: names are short, and nobody gains anything from collisions.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The next of `most` records; `None`: all are taken. The counter may be overwritten, so it is believed only below `most`.
pub(super) fn take(taken: &AtomicU32, most: u32) -> Option<u32> {
    // Looked at first, so that it never overflows.
    let is_full = taken.load(Relaxed) >= most;
    let n = (!is_full).then(|| taken.fetch_add(1, Relaxed))?;
    (n < most).then_some(n)
}

/// `N` places: a power of two, twice the number of records, so that the search is short. A place holds 0, or a record's number
/// counted from 1.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Index<const N: usize>([AtomicU32; N]);

impl<const N: usize> Index<N> {
    /// The places at which a name may be, in order.
    fn places(&self, hash: u64) -> impl Iterator<Item = &AtomicU32> {
        // The upper half has been mixed best.
        let first = (hash >> 32) as usize;
        (0..N).map(move |n| &self.0[first.wrapping_add(n) % N])
    }

    /// The number of the record that `is` recognises; it must look at its own bounds.
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let numbers = self.places(hash).map(|place| place.load(Acquire)).take_while(|number| *number > 0);
        numbers.map(|number| number - 1).find(|record| is(*record))
    }

    /// Puts in the number of a complete record, unless another record of the same name is there: that one's number.
    /// `None`: there is no place.
    pub(super) fn publish(&self, hash: u64, record: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        for place in self.places(hash) {
            let there = match place.compare_exchange(0, record + 1, AcqRel, Acquire) {
                Ok(_) => return Some(record),
                Err(there) => there - 1,
            };
            if is(there) {
                return Some(there);
            }
        }
        None
    }

    /// Every record that was published, in the order in which they were taken. Not to be believed.
    pub(super) fn all(&self) -> Vec<u32> {
        let numbers = self.0.iter().map(|place| place.load(Acquire)).filter(|number| *number > 0);
        let mut records: Vec<u32> = numbers.map(|number| number - 1).collect();
        records.sort_unstable();
        records.dedup();
        records
    }
}
