//! What a cache promises, in one process.
use super::*;
use crate::cache::testing::Scratch;
use std::thread;
use std::time::{Duration, Instant};

struct Fixture {
    cache: Cache,
    _folder: Scratch,
}

impl std::ops::Deref for Fixture {
    type Target = Cache;
    fn deref(&self) -> &Cache {
        &self.cache
    }
}

fn cache(change: impl FnOnce(&mut Settings)) -> Fixture {
    let mut settings = Settings {
        name: "test".into(),
        items: 1_000,
        size: 1024 * 1024,
        item_size: 64 * 1024,
        key_size: MAX_KEY as u64,
        lru: false,
        expires: Duration::ZERO,
        persist: None,
        shared: appliance_config::remote::Shared::default(),
    };
    change(&mut settings);
    let folder = Scratch::new();
    Fixture { cache: Cache::open(folder.path(), &settings).unwrap(), _folder: folder }
}

fn set(cache: &Cache, key: &str, value: &str) -> Result<bool, Refusal> {
    cache.put(key.as_bytes(), value.as_bytes(), None, Mode::Set)
}

fn get(cache: &Cache, key: &str) -> Option<String> {
    cache.get(key.as_bytes()).unwrap().map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn what_is_stored_is_found_and_what_is_there_stays_when_it_is_only_added() {
    let cache = cache(|_| ());
    assert_eq!(get(&cache, "a"), None);
    assert_eq!(cache.put(b"a", b"1", None, Mode::Add), Ok(true));
    assert_eq!(cache.put(b"a", b"2", None, Mode::Add), Ok(false));
    assert_eq!(get(&cache, "a").as_deref(), Some("1"));
    assert_eq!(set(&cache, "a", "3"), Ok(true));
    assert_eq!((get(&cache, "a").as_deref(), cache.exists(b"a")), (Some("3"), Ok(true)));
    assert_eq!((cache.delete(b"a"), cache.delete(b"a")), (Ok(true), Ok(false)));
    assert_eq!(cache.exists(b"a"), Ok(false));
}

#[test]
fn an_item_is_never_found_after_its_time() {
    let cache = cache(|settings| settings.expires = Duration::from_secs(100));
    let life = Duration::from_millis(30);
    let begun = Instant::now();
    cache.put(b"a", b"1", Some(life), Mode::Set).unwrap();
    cache.put(b"b", b"1", None, Mode::Set).unwrap();
    while cache.exists(b"a").unwrap() {
        assert!(begun.elapsed() < life + Duration::from_secs(1));
        thread::yield_now();
    }
    assert!(begun.elapsed() >= life - Duration::from_millis(1));
    assert_eq!(cache.keys().unwrap(), [b"b"]);
    assert!(cache.life(b"b").unwrap().flatten().is_some_and(|left| left > Duration::from_secs(50)));
    assert_eq!(
        cache.put(b"a", b"2", Some(Duration::ZERO), Mode::Add),
        Ok(true),
        "it is as if it were not there"
    );
    assert_eq!(cache.life(b"a"), Ok(Some(None)), "for ever");
    assert_eq!(cache.stats().unwrap().expired, 1);
}

#[test]
fn numbers_are_counted_and_text_is_left_alone() {
    let cache = cache(|_| ());
    assert_eq!(cache.calculate(b"n", Math::Add(5), None), Ok(5));
    assert_eq!(cache.calculate(b"n", Math::Subtract(7), None), Ok(-2));
    assert_eq!(cache.calculate(b"n", Math::Multiply(-21), None), Ok(42));
    assert_eq!(cache.calculate(b"n", Math::Divide(4), None), Ok(10));
    assert_eq!((cache.number(b"n"), cache.number(b"none")), (Ok(Some(10)), Ok(None)));
    assert_eq!(cache.calculate(b"n", Math::Multiply(i64::MAX), None), Err(Refusal::Overflow));
    assert_eq!(cache.calculate(b"n", Math::Divide(0), None), Ok(0));
    set(&cache, "text", "abc").unwrap();
    assert_eq!(cache.calculate(b"text", Math::Add(1), None), Err(Refusal::NotANumber));
    assert_eq!(get(&cache, "text").as_deref(), Some("abc"));
}

#[test]
fn a_number_keeps_its_expiry() {
    let cache = cache(|_| ());
    cache.calculate(b"n", Math::Add(1), Some(Duration::from_secs(5))).unwrap();
    cache.calculate(b"n", Math::Add(1), Some(Duration::from_secs(5000))).unwrap();
    assert!(cache.life(b"n").unwrap().flatten().unwrap() <= Duration::from_secs(5));
}

#[test]
fn what_is_too_long_is_refused_and_changes_nothing() {
    let cache = cache(|settings| settings.item_size = 10);
    let most = MAX_KEY as u64;
    assert_eq!(set(&cache, "", "x"), Err(Refusal::Key { length: 0, most }));
    assert_eq!(set(&cache, &"k".repeat(MAX_KEY + 1), "x"), Err(Refusal::Key { length: MAX_KEY + 1, most }));
    assert_eq!(set(&cache, "a", "01234567890"), Err(Refusal::Value { length: 11, most: 10 }));
    let longest = "k".repeat(MAX_KEY);
    cache.put(longest.as_bytes(), b"", Some(Duration::from_secs(9)), Mode::Set).unwrap();
    assert_eq!(get(&cache, &longest).as_deref(), Some(""));
    assert_eq!((get(&cache, ""), cache.delete(b"")), (None, Ok(false)));
}

#[test]
fn a_full_cache_refuses_what_is_new_and_takes_what_replaces() {
    let cache = cache(|settings| settings.items = 3);
    for key in ["a", "b", "c"] {
        set(&cache, key, "1").unwrap();
    }
    assert_eq!(set(&cache, "d", "1"), Err(Refusal::Full));
    assert_eq!(set(&cache, "a", "2"), Ok(true));
    cache.delete(b"b").unwrap();
    assert_eq!(set(&cache, "d", "1"), Ok(true));
    assert_eq!(cache.stats().unwrap().refused, 1);
}

#[test]
fn what_has_expired_makes_room_in_any_cache() {
    let cache = cache(|settings| settings.items = 2);
    cache.put(b"a", b"1", Some(Duration::from_millis(1)), Mode::Set).unwrap();
    set(&cache, "b", "1").unwrap();
    while cache.exists(b"a").unwrap() {
        thread::yield_now();
    }
    assert_eq!(set(&cache, "c", "1"), Ok(true));
    assert_eq!(get(&cache, "b").as_deref(), Some("1"));
}

#[test]
fn the_least_used_item_makes_room() {
    let cache = cache(|settings| (settings.items, settings.lru) = (3, true));
    for key in ["a", "b", "c"] {
        set(&cache, key, "1").unwrap();
    }
    assert!(get(&cache, "a").is_some());
    set(&cache, "d", "1").unwrap();
    let there = ["a", "b", "c", "d"].map(|key| get(&cache, key).is_some());
    assert_eq!(there, [true, false, true, true]);
    assert_eq!(cache.stats().unwrap().evicted, 1);
}

#[test]
fn a_long_item_drives_out_as_many_as_it_needs() {
    let cache = cache(|settings| {
        (settings.items, settings.size, settings.lru) = (100_000, 128 * 1024, true);
    });
    for n in 0..2_000 {
        set(&cache, &format!("key {n}"), "some value").unwrap();
    }
    let long = "x".repeat(60_000);
    set(&cache, "long", &long).unwrap();
    assert_eq!(get(&cache, "long"), Some(long));
    let stats = cache.stats().unwrap();
    assert!(stats.size <= stats.max_size && stats.evicted > 1_000, "{stats:?}");
}

#[test]
fn it_can_be_full_and_emptied_again_and_again() {
    let cache = cache(|settings| settings.size = 256 * 1024);
    let mut memory = 0;
    for round in 0..20 {
        let stored =
            (0..1_000).take_while(|n| set(&cache, &format!("{n}"), &"v".repeat(n * 7)).is_ok()).count();
        assert!(stored > 50, "only {stored} in round {round}");
        if round % 2 == 0 {
            cache.clear().unwrap();
        } else {
            cache.keys().unwrap().iter().for_each(|key| assert!(cache.delete(key).unwrap()));
        }
        let stats = cache.stats().unwrap();
        assert_eq!((stats.items, stats.size), (0, 0));
        memory = if round == 3 { stats.memory } else { memory };
        assert!(round <= 3 || stats.memory <= memory + 1024 * 1024, "{} grew to {}", memory, stats.memory);
    }
}

#[test]
fn a_cache_takes_memory_as_it_fills() {
    let cache = cache(|settings| (settings.items, settings.size) = (100_000, 64 * 1024 * 1024));
    let empty = cache.stats().unwrap().memory;
    assert!(empty < 2 * 1024 * 1024, "{empty}");
    for n in 0..100 {
        set(&cache, &format!("{n}"), &"v".repeat(60_000)).unwrap();
    }
    let memory = cache.stats().unwrap().memory;
    assert!((6_000_000..9_000_000).contains(&memory), "{memory}");
}

#[test]
fn a_cache_may_have_shorter_keys() {
    let cache = cache(|settings| settings.key_size = 3);
    assert_eq!(set(&cache, "key", "1"), Ok(true));
    assert_eq!(set(&cache, "long", "1"), Err(Refusal::Key { length: 4, most: 3 }));
    assert_eq!((get(&cache, "long"), cache.delete(b"long")), (None, Ok(false)));
}

#[test]
fn what_is_found_is_counted_and_what_is_not() {
    let cache = cache(|_| ());
    set(&cache, "a", "1").unwrap();
    assert!(get(&cache, "a").is_some() && get(&cache, "a").is_some() && get(&cache, "b").is_none());
    cache.exists(b"a").unwrap();
    let stats = cache.stats().unwrap();
    assert_eq!((stats.hits, stats.misses), (2, 1));
}

#[test]
fn a_cache_grows_with_its_settings_and_those_who_have_it_follow() {
    let folder = Scratch::new();
    let open = |items, lru| {
        let settings = Settings { items, lru, ..cache(|_| ()).settings.clone() };
        Cache::open(folder.path(), &settings).unwrap()
    };
    let before = open(3, false);
    for key in ["a", "b", "c"] {
        set(&before, key, key).unwrap();
    }
    before.put(b"b", b"new", Some(Duration::from_secs(100)), Mode::Set).unwrap();
    assert!(get(&before, "a").is_some());
    let after = open(10_000, true);
    assert_eq!(get(&after, "b").as_deref(), Some("new"));
    assert!(after.life(b"b").unwrap().flatten().is_some());
    for n in 0..5_000 {
        set(&after, &format!("{n}"), &"v".repeat(9)).unwrap();
    }
    assert_eq!(get(&before, "4999").as_deref(), Some("vvvvvvvvv"));
    assert_eq!(set(&before, "z", "1"), Err(Refusal::Full), "it keeps to its own settings");
    assert_eq!((get(&after, "c").as_deref(), after.stats().unwrap().hits), (Some("c"), 4));
    let third = open(50_000, false);
    assert_eq!(third.delete(b"a"), Ok(true));
    assert_eq!((get(&before, "a"), get(&after, "a"), get(&third, "a")), (None, None, None));
    let late = open(10, false);
    assert_eq!(late.stats().unwrap(), third.stats().map(|stats| Stats { max_items: 10, ..stats }).unwrap());
    let files = std::fs::read_dir(folder.path().join("test")).unwrap();
    let is_table = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("table-");
    assert_eq!(files.flatten().filter(|entry| is_table(&entry.file_name())).count(), 1);
}

#[test]
fn threads_count_together() {
    let cache = cache(|_| ());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    cache.calculate(b"n", Math::Add(1), None).unwrap();
                }
            });
        }
    });
    assert_eq!(cache.number(b"n"), Ok(Some(2_000)));
}

#[test]
fn what_is_kept_is_there_again_but_not_what_has_expired() {
    let folder = Scratch::new();
    let file = folder.path().join("kept");
    let open = |name: &str| {
        let settings =
            Settings { name: name.into(), persist: Some(file.clone()), ..cache(|_| ()).settings.clone() };
        Cache::open(folder.path(), &settings).unwrap()
    };
    let first = open("first");
    set(&first, "a", "1").unwrap();
    first.put(b"b", b"2", Some(Duration::from_secs(50)), Mode::Set).unwrap();
    first.put(b"over", b"3", Some(Duration::from_millis(1)), Mode::Set).unwrap();
    keeper::save(&first, Duration::ZERO);
    let second = open("second");
    assert_eq!((get(&second, "a").as_deref(), get(&second, "b").as_deref()), (Some("1"), Some("2")));
    assert!(second.life(b"b").unwrap().flatten().is_some_and(|left| left <= Duration::from_secs(51)));
    assert_eq!(get(&second, "over"), None);
}

#[test]
fn a_cache_that_lives_already_is_written_to_a_new_place_and_not_filled_from_it() {
    let folder = Scratch::new();
    let files = ["one", "other"].map(|name| folder.path().join(name));
    let open = |persist: Option<&PathBuf>| {
        let settings = Settings { persist: persist.cloned(), ..cache(|_| ()).settings.clone() };
        Cache::open(folder.path(), &settings).unwrap()
    };
    let before = Fixture { cache: open(Some(&files[0])), _folder: Scratch::new() };
    set(&before, "a", "old").unwrap();
    keeper::save(&before, Duration::ZERO);
    std::fs::remove_dir_all(folder.path().join("test")).unwrap();
    drop(before);
    let plain = open(None);
    set(&plain, "a", "new").unwrap();
    drop(plain);
    let kept = open(Some(&files[0]));
    assert_eq!(get(&kept, "a").as_deref(), Some("new"), "what lives is newer than a file");
    keeper::save(&kept, Duration::ZERO);
    drop(kept);
    keeper::save(&open(Some(&files[1])), Duration::ZERO);
    assert_eq!(std::fs::read(&files[0]).unwrap(), std::fs::read(&files[1]).unwrap());
}

#[test]
fn a_broken_file_is_put_aside_and_the_cache_begins_empty() {
    let folder = Scratch::new();
    let file = folder.path().join("kept");
    std::fs::write(&file, "garbage").unwrap();
    let settings = Settings { persist: Some(file.clone()), ..cache(|_| ()).settings.clone() };
    let cache = Cache::open(folder.path(), &settings).unwrap();
    assert_eq!(cache.keys().unwrap(), Vec::<Vec<u8>>::new());
    assert!(!file.exists() && folder.path().join("kept.broken").exists());
}
