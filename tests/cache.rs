//! Caches: what uWSGI's calls answer, what all workers share and what outlives them, and what happens to it when writers are
//! killed, stopped or too many.
use crate::harness::{Appliance, DEADLINE, Setup, command, until, within};
use nix::sys::signal::Signal;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

fn setup() -> Setup {
    Setup::app("caches:application").set("cache.first.items", 1000).set("cache.second.items", 10)
}

fn start() -> Appliance {
    setup().start()
}

#[track_caller]
fn answers(name: &str, expected: &str) {
    assert_eq!(start().get(&format!("/{name}")).text(), expected);
}

#[test]
fn the_calls_answer_as_in_uwsgi() {
    answers("basic", "[None, True, None, b'1', True, b'3', True, True, None, None]");
}

#[test]
fn what_cannot_be_stored_is_none() {
    answers("refused", "[None, None, None, None, None, None, []]");
}

#[test]
fn numbers_are_counted_and_text_is_not_corrupted() {
    answers("numbers", "[True, True, True, True, 16, True, 4, 0, None, b'abc']");
}

#[test]
fn caches_have_names_and_the_first_one_is_meant_where_none_is_said() {
    answers("names", "[b'first', b'first', b'second', True, [b'a'], []]");
}

#[test]
fn the_python_face_has_plain_values_and_says_what_is_wrong() {
    let expected = [
        "b'1', True, False, b'made', b'made', 1, -4, False, \"KeyError: 'none'\", ",
        "'CacheError: cache second: is full; raise items or size, or let it drop what is used least: lru = true', ",
        "'LookupError: there is no cache \"third\"; configure it with [cache.third]', ",
        "'ValueError: cache first: the value is not a number', ",
        "'ValueError: cache first: a key has 1 to 1024 bytes, not 0; see key_size', True, 2",
    ];
    answers("face", &format!("[{}]", expected.concat()));
}

#[test]
fn every_call_is_safe_in_threads() {
    answers("in_threads", "1600");
}

#[test]
fn a_process_that_the_application_forks_is_refused_and_harms_nobody() {
    answers("in_a_fork", "('[None, None]', True)");
}

#[test]
fn without_a_cache_there_is_nothing() {
    let appliance = Setup::app("caches:application").start();
    assert_eq!(appliance.get("/set?key=a&value=1").text(), "None");
    assert_eq!(appliance.get("/get?key=a").text(), "None");
}

#[test]
fn workers_share_it_and_count_together() {
    let appliance = setup().workers(2).start();
    appliance.wait_for_workers();
    assert_eq!(appliance.worker_client(1).get("/set?key=a&value=1").text(), "True");
    assert_eq!(appliance.worker_client(2).get("/get?key=a").text(), "b'1'");
    let mut clients: Vec<_> = (0..4).map(|n| appliance.worker_client(1 + n % 2)).collect();
    for client in &mut clients {
        client.send("GET /inc?times=2500 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let workers: Vec<String> = clients.iter_mut().map(|client| client.answer().text()).collect();
    assert_eq!(workers, ["1", "2", "1", "2"]);
    assert_eq!(appliance.get("/num").text(), "10000");
}

#[test]
fn an_item_is_never_served_after_its_time() {
    let appliance = start();
    let mut client = appliance.client();
    let begun = Instant::now();
    assert_eq!(client.get("/set?key=a&value=1&expires=1").text(), "True");
    while client.get("/get?key=a").text() == "b'1'" {
        assert!(begun.elapsed() < DEADLINE);
    }
    assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
}

#[test]
fn a_reload_and_a_killed_worker_keep_the_contents() {
    let appliance = setup().workers(2).start();
    appliance.wait_for_workers();
    appliance.get("/set?key=a&value=kept");
    assert_eq!(appliance.tell(&["reload"]).0, Some(0));
    assert_eq!(appliance.get("/get?key=a").text(), "b'kept'");
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGKILL);
    appliance.successor(&worker);
    until("the successor serves", || appliance.worker_client(1).get("/get?key=a").text() == "b'kept'");
}

#[test]
fn a_reload_makes_it_larger_and_keeps_the_contents() {
    let setup = Setup::app("caches:application").workers(2);
    setup
        .dir()
        .write("appliance.toml", "[cache.first]\nitems = 20\nsize = \"64KiB\"\nitem_size = \"1KiB\"\n");
    let appliance = setup.start();
    let set = |n: u32| appliance.get(&format!("/set?key=k{n}&value=v{n}")).text();
    assert!((0..20).all(|n| set(n) == "True"));
    assert_eq!(set(20), "None", "it is full");
    appliance.dir().write("appliance.toml", "[cache.first]\nitems = 5000\n");
    let run_dir = format!("admin.run_dir={}", appliance.dir().path().join("run").display());
    let (code, _, why) = command(appliance.dir().path(), &["reload", "--set", &run_dir], &[]);
    assert_eq!(code, Some(0), "{why}");
    assert!((20..200).all(|n| set(n) == "True"));
    for n in 0..200 {
        assert_eq!(appliance.get(&format!("/get?key=k{n}")).text(), format!("b'v{n}'"));
    }
}

/// Folders in memory that belong to this appliance.
fn folders(appliance: &Appliance) -> Vec<std::path::PathBuf> {
    let pid = appliance.pid().to_string();
    let is_its = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("master.pid")).is_ok_and(|text| text.trim() == pid)
    };
    let entries = fs::read_dir("/dev/shm").unwrap().flatten().map(|entry| entry.path());
    let caches = appliance.dir().path().join("run/caches");
    entries.filter(is_its).chain(Some(caches).filter(|path| path.exists())).collect()
}

#[test]
fn nothing_of_it_is_left_in_the_end() {
    let mut appliance = start();
    let folders = folders(&appliance);
    assert_eq!(folders.len(), 1);
    assert_eq!(appliance.stop(), Some(0));
    assert!(!folders[0].exists(), "{folders:?}");
}

#[test]
fn what_is_to_persist_is_there_at_the_next_start_and_a_broken_file_is_put_aside() {
    let file = Setup::bare();
    let path = file.dir().path().join("kept");
    let setup = || setup().set("cache.first.persist", path.display());
    let mut appliance = setup().start();
    appliance.get("/set?key=a&value=kept");
    assert_eq!(appliance.stop(), Some(0));
    let mut appliance = setup().start();
    assert_eq!(appliance.get("/get?key=a").text(), "b'kept'");
    assert_eq!(appliance.stop(), Some(0));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let appliance = setup().start();
    assert_eq!(appliance.get("/get?key=a").text(), "None");
    assert!(appliance.log.text().contains("is put aside as"), "{}", appliance.log.text());
    assert!(path.with_extension("broken").exists());
}

#[test]
fn what_cannot_persist_is_said_at_the_start() {
    let setup = setup();
    let nowhere = setup.dir().path().join("nowhere/kept");
    let appliance = setup.set("cache.first.persist", nowhere.display()).start();
    appliance.log.wait_for("cannot be written, so the contents end with the appliance");
    assert_eq!(appliance.get("/set?key=a&value=1").text(), "True", "it is a cache all the same");
}

#[test]
fn the_command_line_looks_into_it_and_changes_it() {
    let appliance = start();
    appliance.get("/set?key=a&value=1");
    let ok = |out: &str| (Some(0), out.to_owned(), String::new());
    assert_eq!(appliance.tell(&["cache", "get", "a"]), ok("1"));
    assert_eq!(appliance.tell(&["cache", "set", "b", "two", "--expires", "100"]), ok(""));
    assert_eq!(appliance.get("/get?key=b").text(), "b'two'");
    assert_eq!(appliance.tell(&["cache", "keys"]), ok("a\nb\n"));
    assert_eq!(appliance.tell(&["cache", "del", "a"]), ok(""));
    let (code, _, why) = appliance.tell(&["cache", "get", "a"]);
    assert_eq!((code, why.as_str()), (Some(1), "appliance: cache first: it has no key \"a\"\n"));
    assert_eq!(appliance.tell(&["cache", "keys", "--cache", "second"]), ok(""));
    let (code, _, why) = appliance.tell(&["cache", "keys", "--cache", "third"]);
    assert_eq!(
        (code, why.as_str()),
        (Some(1), "appliance: there is no cache \"third\"; configured are first, second\n")
    );
    let (_, stats, _) = appliance.tell(&["cache", "stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!((&stats["items"], &stats["max_items"], &stats["sets"]), (&1.into(), &1000.into(), &2.into()));
    assert_eq!((&stats["hits"], &stats["misses"]), (&2.into(), &1.into()));
}

#[test]
fn a_stopped_writer_keeps_no_other_worker_from_reading_or_for_long_from_writing() {
    let appliance = setup().set("timeouts.hang", 0).workers(2).start();
    appliance.wait_for_workers();
    let ledger = appliance.dir().write("ledger", "");
    let mut writer = appliance.worker_client(1);
    let worker = appliance.process("worker 1");
    writer.send(format!("GET /storm?rounds=1000000&ledger={} HTTP/1.1\r\nHost: t\r\n\r\n", ledger.display()));
    until("it writes", || fs::metadata(&ledger).unwrap().len() > 0);
    let mut other = appliance.worker_client(2);
    for _ in 0..20 {
        worker.signal(Signal::SIGSTOP);
        let begun = Instant::now();
        for n in 0..20 {
            let written = other.get(&format!("/set?key=other&value={n}")).text();
            assert!(written == "True" || written == "None", "{written}");
            assert!(other.get("/get?key=text").text().starts_with("b'"), "a read waits for no writer");
        }
        assert!(begun.elapsed() < DEADLINE / 4, "{:?}", begun.elapsed());
        worker.signal(Signal::SIGCONT);
    }
    until("it can write again", || other.get("/set?key=other&value=last").text() == "True");
}

#[test]
fn a_storm_of_kills_loses_and_corrupts_nothing() {
    storm(Duration::from_secs(5));
}

#[test]
#[ignore = "ten minutes"]
fn a_long_storm_of_kills_loses_and_corrupts_nothing() {
    storm(Duration::from_secs(600));
}

/// Four workers write all the time, and one after the other is killed: every increment that somebody was told of is there,
/// and at most one for each kill that nobody could be told of.
fn storm(lasts: Duration) {
    let appliance = setup().workers(4).start();
    appliance.wait_for_workers();
    let ledger = appliance.dir().write("ledger", "");
    let target = format!("/storm?rounds=300&ledger={}", ledger.display());
    let end = Instant::now() + lasts;
    let kills = thread::scope(|scope| {
        for worker in 1..=4 {
            let (appliance, target) = (&appliance, &target);
            scope.spawn(move || {
                while Instant::now() < end {
                    let Ok(mut client) = crate::harness::Client::unix(&appliance.socket(worker)) else {
                        continue;
                    };
                    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
                    if let Ok(answer) = client.try_answer() {
                        assert_eq!(answer.text(), "ok");
                    }
                }
            });
        }
        let (mut kills, mut born) = (0, [Instant::now(); 4]);
        while Instant::now() < end {
            let (id, born) = (1 + kills as u32 % 4, &mut born[kills as usize % 4]);
            // Whoever is killed younger than this is replaced ever more slowly.
            until("it has lived for a while", || born.elapsed() > Duration::from_millis(1_200));
            let worker = appliance.process(&format!("worker {id}"));
            worker.signal(Signal::SIGKILL);
            appliance.successor(&worker);
            appliance.worker_client(id).get("/");
            *born = Instant::now();
            kills += 1;
        }
        kills
    });
    let told = fs::metadata(&ledger).unwrap().len();
    let counted = within(DEADLINE, || appliance.get("/num").text().parse::<u64>().ok()).unwrap();
    assert!(told > 0 && kills > 0);
    assert!((told..=told + kills).contains(&counted), "{counted} counted, {told} told of, {kills} kills");
    until("everybody can write", || {
        (1..=4).all(|worker| appliance.worker_client(worker).get("/set?key=last&value=1").text() == "True")
    });
}
