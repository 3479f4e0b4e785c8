//! The locks in shared memory: one word for each, which says who holds it, and a table of names. A process that is killed
//! between any two instructions leaves nothing behind but its own number in a word, and the master takes that out
//! ([`Table::free_dead`]). A name is one word too, so that nobody ever waits for somebody who is writing one. Every access is atomic, and whatever is found is only a number.
#![expect(unsafe_code, reason = "says that its layout may be shared")]

use crate::shared::{Plain, Shared};
use appliance_config::settings::MOST_AREAS;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The highest number that a lock may have.
pub const MOST_NUMBER: u32 = 1000;
/// How many locks may have names.
pub const NAMES: usize = 256;
/// Longest name in bytes.
pub const MOST_NAME: usize = 64;
const NUMBERS: usize = MOST_NUMBER as usize + 1;

/// Nobody, and no name.
const FREE: u64 = 0;

/// One process of a worker, as it stands in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(u64);

impl Holder {
    /// This life of a worker, whose id is not 0.
    pub fn new(worker: u32, life: u32) -> Holder {
        Holder(u64::from(worker) << 32 | u64::from(life))
    }

    /// The worker's id.
    pub fn worker(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Which of its processes.
    pub fn life(self) -> u32 {
        self.0 as u32
    }
}

/// Where a lock lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(usize);

impl Place {
    /// Of a lock with a number, [`MOST_NUMBER`] at most.
    pub fn number(number: u32) -> Place {
        Place((number as usize).min(NUMBERS - 1))
    }

    /// Of a shared area; `None`: it would be more than [`MOST_AREAS`].
    pub fn area(number: usize) -> Option<Place> {
        (number < MOST_AREAS).then_some(Place(NUMBERS + NAMES + number))
    }
}

#[repr(C)]
#[derive(Debug)]
struct Word {
    holder: AtomicU64,
    /// Somebody waits, or did.
    wanted: AtomicU64,
}

#[repr(C)]
#[derive(Debug)]
struct Layout {
    words: [Word; NUMBERS + NAMES + MOST_AREAS],
    /// [`FREE`], or the [`mark`] of a name, which stays.
    names: [AtomicU64; NAMES],
}

// SAFETY: atomics only.
unsafe impl Plain for Layout {}

/// The mapped locks.
#[derive(Debug)]
pub struct Table(Shared<Layout>);

impl Table {
    /// Makes them, all free. Master only, before the first fork.
    pub fn create() -> io::Result<Table> {
        Shared::create(c"appliance-locks").map(Table)
    }

    /// Maps what the master made.
    pub fn open(fd: OwnedFd) -> io::Result<Table> {
        Shared::open(fd).map(Table)
    }

    /// The memfd, to hand to another process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    fn word(&self, place: Place) -> &Word {
        &self.0.words[place.0]
    }

    /// Who holds it.
    pub fn holder(&self, place: Place) -> Option<Holder> {
        Some(self.word(place).holder.load(SeqCst)).filter(|&holder| holder != FREE).map(Holder)
    }

    /// Takes it, if it is free.
    pub fn take(&self, place: Place, me: Holder) -> bool {
        self.word(place).holder.compare_exchange(FREE, me.0, SeqCst, SeqCst).is_ok()
    }

    /// Says that somebody waits for it; say so before every [`Table::take`] that may fail for good.
    pub fn want(&self, place: Place) {
        self.word(place).wanted.store(1, SeqCst);
    }

    /// Gives it back, if `me` holds it. True: somebody waits, and the bell must be rung.
    pub fn give(&self, place: Place, me: Holder) -> bool {
        let word = self.word(place);
        let is_given = word.holder.compare_exchange(me.0, FREE, SeqCst, SeqCst).is_ok();
        is_given && word.wanted.swap(0, SeqCst) != 0
    }

    /// Frees what is held by nobody who `lives`; for how many workers' sakes, each as often as it held one. Whoever is freed
    /// must be gone for good. Ring the bell afterwards.
    pub fn free_dead(&self, lives: impl Fn(Holder) -> bool) -> Vec<Holder> {
        let mut freed = Vec::new();
        for word in &self.0.words {
            let holder = word.holder.load(SeqCst);
            if holder != FREE
                && !lives(Holder(holder))
                && word.holder.compare_exchange(holder, FREE, SeqCst, SeqCst).is_ok()
            {
                freed.push(Holder(holder));
            }
        }
        freed
    }

    /// The lock with this name; one that is new is given the first place that has none. So whoever adds a name has seen all
    /// that were before it, and no name is there twice. `None`: it is not there, and there is no room.
    pub fn named(&self, name: &str) -> Option<Place> {
        let wanted = mark(name);
        let is_its = |slot: &AtomicU64| {
            let found = match slot.load(SeqCst) {
                FREE => slot.compare_exchange(FREE, wanted, SeqCst, SeqCst).err().unwrap_or(wanted),
                found => found,
            };
            found == wanted
        };
        self.0.names.iter().position(is_its).map(|at| Place(NUMBERS + at))
    }
}

/// What stands for a name: its FNV-1a hash of 64 bits, which is the same in every build. Two of [`NAMES`] names have the same
/// one with a probability of 2⁻⁴⁹, and would be one lock then.
fn mark(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.max(FREE + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Holder = Holder(1 << 32 | 7);
    const YOU: Holder = Holder(2 << 32);

    #[test]
    fn one_holds_it_and_only_that_one_gives_it_back() {
        let table = Table::create().unwrap();
        let place = Place::number(3);
        assert!(table.take(place, ME) && !table.take(place, YOU) && !table.take(place, ME));
        assert_eq!(table.holder(place).map(|holder| (holder.worker(), holder.life())), Some((1, 7)));
        assert!(!table.give(place, YOU));
        assert_eq!(table.holder(place), Some(ME));
        table.want(place);
        assert!(table.give(place, ME), "somebody waits");
        assert!(table.take(place, YOU) && !table.give(place, YOU), "nobody waits any more");
    }

    #[test]
    fn what_the_dead_held_is_free_and_nothing_else() {
        let table = Table::create().unwrap();
        assert!(table.take(Place::number(0), ME) && table.take(Place::number(MOST_NUMBER), YOU));
        assert_eq!(table.free_dead(|holder| holder == YOU), [ME]);
        assert_eq!(table.holder(Place::number(0)), None);
        assert_eq!(table.holder(Place::number(MOST_NUMBER)), Some(YOU));
    }

    #[test]
    fn a_name_is_found_again_by_everybody() {
        let here = Table::create().unwrap();
        let there = Table::open(here.fd().try_clone_to_owned().unwrap()).unwrap();
        let place = here.named("mail").unwrap();
        assert_eq!(there.named("mail"), Some(place));
        assert_ne!(there.named("mai"), Some(place));
        assert_ne!(place, Place::number(MOST_NUMBER));
    }

    #[test]
    fn a_name_stands_for_the_same_in_every_build() {
        // The vectors of those who invented it.
        assert_eq!(mark(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(mark("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn names_that_many_add_at_once_are_there_once() {
        let table = Table::create().unwrap();
        let all = || (0..NAMES).map(|n| table.named(&n.to_string()).unwrap()).collect::<Vec<_>>();
        let found = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(all)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(found.iter().all(|places| *places == found[0]));
        assert_eq!(found[0].iter().collect::<std::collections::BTreeSet<_>>().len(), NAMES);
    }

    #[test]
    fn names_have_a_bound_and_any_bytes_in_the_memory_harm_nobody() {
        let table = Table::create().unwrap();
        for n in 0..NAMES {
            assert!(table.named(&n.to_string()).is_some());
        }
        assert_eq!(table.named("one more"), None);
        assert!(table.named("7").is_some());
        table.0.names.iter().for_each(|name| name.store(0x1234_5678_9abc_def0, SeqCst));
        table.0.words.iter().for_each(|word| word.holder.store(u64::MAX, SeqCst));
        assert_eq!(table.named("one more"), None);
        assert_eq!(table.free_dead(|holder| holder.worker() == 1).len(), NUMBERS + NAMES + MOST_AREAS);
    }
}
