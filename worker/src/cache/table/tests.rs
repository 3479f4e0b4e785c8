//! What a table promises: beside a model, when a writer dies after each single store, when others read meanwhile, and when
//! its memory is overwritten.
use super::*;
use crate::cache::Moment;
use crate::cache::change::New;
use crate::cache::layout::{Field, NEVER};
use crate::cache::seek::{Copied, Torn};
use crate::cache::testing::Scratch;
use crate::cache::word::death;
use crate::cache::work::{Math, Round, Work};
use appliance_config::settings::Cache as Settings;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What is in a table: values, and when they expire.
type Contents = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

const ITEMS: u64 = 12;
const SIZE: u64 = 16 * 1024;

struct Fixture {
    table: Table,
    _folder: Scratch,
}

impl std::ops::Deref for Fixture {
    type Target = Table;
    fn deref(&self) -> &Table {
        &self.table
    }
}

fn table() -> Fixture {
    let folder = Scratch::new();
    // Few buckets, so that chains are long.
    let sizes = Geometry { buckets: 4, ..Geometry::of(ITEMS, SIZE, 4096) };
    Fixture { table: Table::create(&folder.path().join("table"), 1, sizes).unwrap(), _folder: folder }
}

fn settings(lru: bool) -> Settings {
    Settings {
        name: "test".into(),
        items: ITEMS,
        size: SIZE,
        item_size: 4096,
        key_size: 100,
        lru,
        expires: Duration::ZERO,
        persist: None,
        shared: appliance_config::remote::Shared::default(),
    }
}

/// One turn at the moment `now`.
fn turn<T>(
    table: &Table,
    settings: &Settings,
    now: u64,
    work: impl FnOnce(&Work<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    table.put_in_order()?;
    work(&Work::begin(table, settings, &Moment::at(now))?)
}

fn contents(table: &Table) -> Result<Contents, Torn> {
    let mut all = Contents::new();
    for bucket in 0..table.sizes().buckets {
        let mut items = Vec::new();
        table.read_bucket(bucket, &mut items)?;
        all.extend(items.into_iter().map(|item| (item.key, (item.value, item.expires))));
    }
    Ok(all)
}

/// Everything that is derived of the items says the same as they do.
fn assert_in_order(table: &Table) {
    let all = contents(table).unwrap();
    let count = all.len() as u64;
    let at = |name: Head| table[name].load();
    let cost: u64 =
        all.iter().map(|(key, (value, _))| table.sizes().cost(key.len() as u64, value.len() as u64)).sum();
    assert_eq!((at(Head::Dirty), at(Head::Items), at(Head::Bytes)), (0, count, cost));
    let chunks = |(key, (value, _)): (&Vec<u8>, &(Vec<u8>, u64))| {
        table.sizes().chunks_for(key.len() as u64, value.len() as u64)
    };
    let chain = |first: u64, next: &dyn Fn(u64) -> u64| {
        let is_one = |at: &u64| *at != 0;
        let all = std::iter::successors(Some(first).filter(is_one), |at| Some(next(*at)).filter(is_one));
        all.take(10_000).count() as u64
    };
    let field = |field: Field| move |at| table.slot(at).unwrap()[field].load();
    assert_eq!(chain(at(Head::SlotsFree), &field(Field::Newer)) + count, at(Head::SlotsMade) - 1);
    let free = chain(at(Head::ChunksFree), &|at| table.chunk(at).unwrap()[0].load());
    assert_eq!(free, at(Head::ChunksFreeCount));
    assert_eq!(free + all.iter().map(chunks).sum::<u64>(), at(Head::ChunksMade) - 1);
    assert_eq!(chain(at(Head::Oldest), &field(Field::Newer)), count);
    assert_eq!(chain(at(Head::Newest), &field(Field::Older)), count);
    let expiring = all.values().filter(|(_, expires)| *expires != NEVER).count() as u64;
    assert_eq!(at(Head::HeapLength), expiring);
    for place in 0..expiring {
        let [expires, slot] = table.place(place).unwrap().map(Word::load);
        let slot = table.slot(slot).unwrap();
        assert_eq!((slot[Field::Place].load(), slot[Field::Expires].load()), (place + 1, expires));
        assert!(table.soonest().unwrap().0 <= expires);
    }
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn key(n: u64) -> Vec<u8> {
    format!("{n}-{}", "k".repeat(n as usize * 3 % 40)).into_bytes()
}

/// Does at random what can be done, in a table and in the model.
fn live_beside_a_model(seed: u64, lru: bool) {
    let (table, settings, mut random) = (table(), settings(lru), Random(seed));
    let (mut model, mut now) = (Contents::new(), 1_000);
    for _ in 0..3_000 {
        now += random.below(3);
        model.retain(|_, (_, expires)| *expires == NEVER || *expires > now);
        let key = key(random.below(20));
        match random.below(10) {
            0..5 => {
                let value =
                    vec![random.below(256) as u8; random.below(3) as usize * random.below(400) as usize];
                let expires = if random.below(2) == 0 { NEVER } else { now + random.below(40) + 1 };
                let new = New { key: &key, value: &value, expires };
                match turn(&table, &settings, now, |work| work.store(new)).unwrap() {
                    Round::Done(()) => drop(model.insert(key, (value, expires))),
                    Round::Again | Round::Full => assert!(!lru),
                }
            }
            5..7 => {
                let there = model.remove(&key).is_some();
                assert_eq!(turn(&table, &settings, now, |work| work.remove(&key)), Ok(there));
            }
            7..9 => {
                let expected = model.get(&key).map_or(Ok(0), |(value, _)| {
                    value.as_slice().try_into().map(i64::from_ne_bytes).map_err(|_| Refusal::NotANumber)
                });
                match turn(&table, &settings, now, |work| work.calculate(&key, Math::Add(1), NEVER)) {
                    Ok(Round::Done((number, expires))) => {
                        assert_eq!(expected, Ok(number - 1));
                        model.insert(key, (number.to_ne_bytes().to_vec(), expires));
                    }
                    Ok(Round::Again | Round::Full) => assert!(!lru),
                    Err(why) => assert_eq!(expected, Err(why)),
                }
            }
            _ if random.below(50) == 0 => {
                turn(&table, &settings, now, |work| work.clear()).unwrap();
                model.clear();
            }
            _ => turn(&table, &settings, now, |work| work.touch(&key)).unwrap(),
        }
        let mut found = contents(&table).unwrap();
        found.retain(|_, (_, expires)| *expires == NEVER || *expires > now);
        if lru {
            model.retain(|key, _| found.contains_key(key));
        }
        assert_eq!(found, model);
        assert!(table[Head::Items].load() <= ITEMS && table[Head::Bytes].load() <= SIZE);
        assert_in_order(&table);
    }
    assert_eq!(table[Head::Evicted].load() > 0, lru);
    assert_eq!(table[Head::Refused].load() > 0, !lru);
}

#[test]
fn it_does_what_a_model_does() {
    live_beside_a_model(0x5eed, false);
}

#[test]
fn it_does_what_a_model_does_and_drops_only_what_makes_room() {
    live_beside_a_model(0xfeed, true);
}

fn put(table: &Table, n: u64, length: usize, expires: u64) -> Result<(), Refusal> {
    let (key, value) = (key(n), vec![n as u8; length]);
    let new = New { key: &key, value: &value, expires };
    turn(table, &settings(true), 10, |work| work.store(new)).map(drop)
}

fn some() -> Fixture {
    let table = table();
    for (n, length, expires) in
        [(0, 3, NEVER), (1, 300, 100), (2, 8, 80), (3, 520, NEVER), (4, 0, 90), (5, 60, 70)]
    {
        put(&table, n, length, expires).unwrap();
    }
    turn(&table, &settings(true), 10, |work| work.remove(&key(0))).unwrap();
    table
}

type Change = fn(&Table) -> Result<(), Refusal>;

/// Changes, each of which is to be there as a whole or not at all.
fn changes() -> Vec<Change> {
    vec![
        |table| put(table, 1, 400, 60),
        |table| put(table, 3, 20, NEVER),
        |table| put(table, 5, 60, NEVER),
        |table| put(table, 7, 600, 50),
        |table| {
            turn(table, &settings(true), 10, |work| work.calculate(&key(2), Math::Add(1), NEVER)).map(drop)
        },
        |table| turn(table, &settings(true), 10, |work| work.remove(&key(3))).map(drop),
        |table| turn(table, &settings(true), 75, |_| Ok(())),
        |table| turn(table, &settings(true), 10, |work| work.touch(&key(1))),
        |table| turn(table, &settings(true), 10, |work| work.clear()),
    ]
}

#[test]
fn whoever_dies_after_any_store_has_done_all_or_nothing() {
    for change in changes() {
        let (before, after) = (contents(&some()).unwrap(), some());
        change(&after).unwrap();
        let after = contents(&after).unwrap();
        for stores in 0.. {
            let table = some();
            let lived = death::after(stores, || change(&table).unwrap());
            let seen = contents(&table).expect("a reader waits for nobody");
            assert!(seen == before || seen == after, "after {stores} stores");
            table.put_in_order().unwrap();
            assert_in_order(&table);
            assert_eq!(contents(&table).unwrap(), seen, "after {stores} stores");
            put(&table, 9, 100, NEVER).unwrap();
            assert_in_order(&table);
            if lived {
                assert_eq!(seen, after);
                break;
            }
        }
    }
}

#[test]
fn whoever_dies_while_it_puts_in_order_leaves_it_to_the_next_one() {
    let prepared = |stores| {
        let table = some();
        assert!(!death::after(stores, || put(&table, 1, 400, 60).unwrap()));
        table
    };
    for stores in [20, 70, 80, 90] {
        let expected = contents(&prepared(stores)).unwrap();
        for more in (0..).step_by(3) {
            let table = prepared(stores);
            let lived = death::after(more, || table.put_in_order().unwrap());
            assert_eq!(contents(&table).unwrap(), expected);
            table.put_in_order().unwrap();
            assert_in_order(&table);
            assert_eq!(contents(&table).unwrap(), expected);
            if lived {
                break;
            }
        }
    }
}

#[test]
fn readers_neither_miss_nor_mix_what_is_replaced_meanwhile() {
    let table = table();
    for n in 0..4 {
        put(&table, n, 10, NEVER).unwrap();
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(7);
            for _ in 0..20_000 {
                let (key, other) = (key(random.below(4)), key(4 + random.below(7)));
                let byte = random.below(256) as u8;
                let value = vec![byte; random.below(600) as usize];
                let new = New { key: &key, value: &value, expires: NEVER };
                turn(&table, &settings(true), 10, |work| work.store(new)).unwrap();
                turn(&table, &settings(true), 10, |work| work.remove(&other)).unwrap();
                put(&table, 4 + random.below(7), 10, NEVER).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            for n in 0..4 {
                let mut copied = Copied::new();
                let found =
                    std::iter::repeat_with(|| table.read(&key(n), Some(&mut copied))).find_map(Result::ok);
                assert!(found.flatten().is_some(), "{n} is there all the time");
                assert!(copied.bytes().windows(2).all(|pair| pair[0] == pair[1]), "{:?}", copied.bytes());
            }
        }
    });
    assert_in_order(&table);
}

#[test]
fn whatever_is_written_over_it_nobody_panics_and_it_can_be_used_again() {
    for seed in 1..200 {
        let (table, mut random) = (some(), Random(seed * 0x9e37_79b9));
        let sizes = table.sizes();
        let ends = [
            (16, 46),
            (sizes.buckets_at(), 4),
            (sizes.slots_at(), 80),
            (sizes.heap_at(), 20),
            (sizes.chunks_at(), 300),
        ];
        for _ in 0..seed % 30 + 1 {
            let (at, length) = ends[random.below(5) as usize];
            let value = if random.below(2) == 0 { random.below(20) } else { random.below(u64::MAX) };
            table.word(at + random.below(length)).store(value);
        }
        let _ = contents(&table);
        for n in 0..12 {
            let _ = table.read(&key(n), Some(&mut Copied::new()));
            let _ = put(&table, n, 100 * n as usize % 700, n * 10);
            let _ = turn(&table, &settings(true), 30, |work| work.remove(&key(n / 2)));
        }
        table[Head::Dirty].store(1);
        table.put_in_order().unwrap();
        assert_in_order(&table);
        put(&table, 3, 300, NEVER).unwrap();
        assert_eq!(contents(&table).unwrap()[&key(3)], (vec![3; 300], NEVER));
    }
}
