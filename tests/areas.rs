//! The queue and the shared areas: the same for all workers and over reloads, whole whoever is killed, and nobody waits in vain.
use crate::harness::{Appliance, ENGINES, Setup, begin_with, command, meanwhile, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;

const MEMORY: &str = "[queue]\nslots = 1000\nslot_size = \"2KiB\"\n[[sharedarea]]\n";

fn setup(file: &str) -> Setup {
    let setup = Setup::app("areas:application").workers(2);
    setup.dir().write("appliance.toml", file);
    let ledger = setup.dir().path().join("ledger").display().to_string();
    setup.env("AREAS_LEDGER", ledger)
}

fn start() -> Appliance {
    let appliance = setup(MEMORY).start();
    appliance.wait_for_workers();
    appliance
}

fn ask(appliance: &Appliance, worker: u32, target: &str) -> Value {
    appliance.worker_client(worker).get(target).json()
}

#[test]
fn workers_have_the_same_queue_and_areas_also_after_a_death_and_a_reload() {
    let appliance = start();
    assert_eq!(ask(&appliance, 1, "/push?a&b&c"), json!([true, true, true]));
    assert_eq!(ask(&appliance, 2, "/pull"), "a");
    assert_eq!(ask(&appliance, 1, "/view?60&7"), 1);
    let killed = appliance.process("worker 1");
    killed.signal(Signal::SIGKILL);
    appliance.successor(&killed);
    assert_eq!(ask(&appliance, 1, "/byte?60"), 7);
    assert_eq!(ask(&appliance, 1, "/pull"), "b");
    assert_eq!(appliance.tell(&["reload"]).0, Some(0));
    assert_eq!((ask(&appliance, 2, "/byte?60"), ask(&appliance, 2, "/pull")), (json!(7), json!("c")));
    assert_eq!((ask(&appliance, 1, "/byte?100"), ask(&appliance, 1, "/pull")), (json!(b'm'), Value::Null));
}

#[test]
fn other_sizes_wait_for_a_restart() {
    let appliance = start();
    ask(&appliance, 1, "/push?kept");
    appliance.dir().write("appliance.toml", "[queue]\nslots = 5\n[[sharedarea]]\nsize = \"8KiB\"\n");
    let (code, out, err) = appliance.tell(&["reload"]);
    assert_eq!(code, Some(0), "{err}");
    for key in ["queue.slots", "queue.slot_size", "sharedarea[].size"] {
        assert!(format!("{out}{err}").contains(key), "{out}{err}");
    }
    assert_eq!(ask(&appliance, 2, "/pull"), "kept");
}

#[test]
fn whoever_waits_for_an_area_keeps_nobody_and_the_dead_hold_nothing() {
    let appliance = start();
    let mut holder = appliance.worker_client(1);
    holder.send("GET /hold?60 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is held", || ask(&appliance, 2, "/held") == 1);
    let mut waiters = [1, 2].map(|worker| {
        let mut waiter = appliance.worker_client(worker);
        waiter.send("GET /hold?0 HTTP/1.1\r\nHost: test\r\n\r\n");
        waiter
    });
    assert_eq!(ask(&appliance, 1, "/held"), 1, "its worker goes on");
    assert!(!waiters[1].is_ended());
    // Its worker's other requests end with it.
    appliance.process("worker 1").signal(Signal::SIGKILL);
    assert_eq!(waiters[1].answer().json(), 2);
}

#[test]
fn threads_count_and_push_beside_each_other() {
    for suspend in ENGINES {
        let appliance = setup(MEMORY).set("app.suspend", suspend).start();
        assert_eq!(appliance.get("/threads").json(), json!([400, 400, 400]));
    }
}

#[test]
fn a_storm_of_kills_leaves_everything_whole_and_loses_no_count() {
    let appliance = start();
    // One that died with its worker is repeated by the proxy, or answered with 502.
    let storm = |client| appliance.get(if client % 2 == 0 { "/storm?20&8" } else { "/storm?20&13" });
    meanwhile(4, storm, || appliance.kill_workers_in_turn(10, || {}));
    let finished = fs::metadata(appliance.dir().path().join("ledger")).unwrap().len();
    let found = appliance.get("/found").json();
    let [count, unaligned] = [&found[0][0], &found[0][1]].map(|count| count.as_u64().unwrap());
    // Each who was killed had begun one round at most that was not written down.
    assert!((finished..=finished + 10).contains(&count), "{finished} {found}");
    assert!(0 < unaligned && unaligned < count, "{found}");
    assert_eq!((&found[2], &found[4]), (&json!(true), &json!(true)), "{found}");
    assert!(found[1] == 8 && found[3].as_u64().unwrap() >= count.min(1000) - 40, "{finished} {found}");
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let appliance = start();
    let said = appliance.get("/said").json();
    let expected = [
        "ValueError: position 4090 of shared area 0: not all of it would be inside the area, which has 4096 bytes",
        "ValueError: there is no shared area 7",
        "ValueError: there is no shared area -1",
        "OverflowError: 65536 does not fit into 16 bits",
        "OverflowError: -129 does not fit into 8 bits",
        "ValueError: position -1 of shared area 0",
        "TypeError: the argument must be str or bytes, not int",
        "None",
        "ValueError: no farm f is configured: there are none here; use a thread",
        "ValueError: you can receive farm messages only in a mule: there are none here",
        "AttributeError: module 'uwsgi' has no attribute 'sharedarea_object': areas are made by the configuration",
        "AttributeError: module 'uwsgi' has no attribute 'sharedarea_typo'",
    ];
    begin_with(&said, &expected);
}

#[test]
fn calls_for_what_is_not_configured_are_not_there() {
    let appliance = setup("").start();
    let missing = appliance.get("/missing").json();
    for (n, end) in
        ["'queue_push': there is no queue; write `slots = 100` under [queue]", "[[sharedarea]]", "'other'"]
            .iter()
            .enumerate()
    {
        let said = missing[n].as_str().unwrap();
        assert!(said.starts_with("AttributeError: module 'uwsgi'") && said.ends_with(end), "{said}");
    }
}

#[test]
fn a_configuration_without_sense_is_refused() {
    let setup = Setup::app("areas:application");
    setup.dir().write(
        "appliance.toml",
        &format!("[queue]\nslots = -1\nslot_size = 10\n{}", "[[sharedarea]]\n".repeat(65)),
    );
    let (code, out, err) = command(setup.dir().path(), &["check"], &[]);
    assert_eq!(code, Some(64), "{out}");
    for sentence in
        ["queue.slots: -1 is not a number of slots", "queue.slot_size: 10 has no unit", "64 at most"]
    {
        assert!(err.contains(sentence), "{err}");
    }
}

#[test]
fn a_packet_of_a_spooler_is_read_and_a_file_is_sent_for_offload() {
    let appliance = start();
    assert_eq!(appliance.get("/parsed").json(), json!(["None", "{b'a': b'bc'}", null, null]));
    assert!(appliance.get("/offload").text().starts_with("\"\"\"The queue and the shared areas"));
}
