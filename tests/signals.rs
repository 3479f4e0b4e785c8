//! Signals, timers and file monitors: they reach the workers that are meant, on the loop, once, and also those to come.
use crate::harness::{Appliance, ENGINES, Setup, until};
use nix::sys::signal::Signal;
use std::fs;

fn setup() -> Setup {
    let setup = Setup::app("signals:application").workers(2);
    let folder = setup.dir().path().display().to_string();
    setup.env("SIGNALS_FOLDER", folder)
}

fn start() -> Appliance {
    let appliance = setup().start();
    appliance.wait_for_workers();
    appliance
}

/// The workers that have noted this, in order.
fn notes(appliance: &Appliance, what: &str) -> Vec<u32> {
    let text = fs::read_to_string(appliance.dir().path().join("notes")).unwrap_or_default();
    let worker = |line: &str| line.split_once(' ').filter(|(name, _)| *name == what)?.1.parse().ok();
    text.lines().filter_map(worker).collect()
}

/// Waits until that has been noted so often, or more often.
#[track_caller]
fn until_noted(appliance: &Appliance, what: &str, times: usize) -> Vec<u32> {
    until(&format!("{what} has run {times} times"), || notes(appliance, what).len() >= times);
    let mut workers = notes(appliance, what);
    workers.sort_unstable();
    workers
}

fn fire(appliance: &Appliance, numbers: &str) {
    assert_eq!(appliance.get(&format!("/fire?{numbers}")).status, 200);
}

#[test]
fn a_signal_reaches_the_workers_that_are_meant_on_greenlets_and_threads() {
    for suspend in ENGINES {
        let appliance = setup().set("app.suspend", suspend).start();
        appliance.wait_for_workers();
        fire(&appliance, "17,18,19,20,99");
        assert_eq!(until_noted(&appliance, "one:17", 1).len(), 1);
        assert_eq!(until_noted(&appliance, "each", 2), [1, 2]);
        assert_eq!(until_noted(&appliance, "second:19", 1), [2]);
        assert_eq!(until_noted(&appliance, "awaited", 2), [1, 2]);
        appliance.get("/thread?18");
        assert_eq!(until_noted(&appliance, "each", 4), [1, 1, 2, 2]);
        assert_eq!(until_noted(&appliance, "loud", 2), [1, 2]);
    }
}

#[test]
fn an_exception_of_a_handler_is_logged_and_ends_nothing() {
    let appliance = start();
    fire(&appliance, "21");
    appliance.log.wait_for("exception in the application: SIGNAL 21 (core");
    appliance.log.wait_for("ZeroDivisionError: on purpose");
    fire(&appliance, "17");
    until_noted(&appliance, "one:17", 1);
}

#[test]
fn a_handler_runs_once_at_a_time_in_a_worker_and_as_often_as_it_is_called() {
    let appliance = start();
    fire(&appliance, "22,22,22");
    until_noted(&appliance, "slow-ends", 3);
    let text = fs::read_to_string(appliance.dir().path().join("notes")).unwrap();
    let slow: Vec<_> = text.lines().filter(|line| line.starts_with("slow")).collect();
    assert_eq!(slow, ["slow-begins 1", "slow-ends 1"].repeat(3));
}

#[test]
fn timers_fire_and_keep_firing_in_whoever_comes_after_a_reload_or_a_death() {
    let appliance = start();
    let running = ["quick", "modern", "postfork", "tick"];
    let all_run = |appliance: &Appliance| {
        for what in running {
            until_noted(appliance, what, notes(appliance, what).len() + 2);
        }
    };
    all_run(&appliance);
    assert_eq!(until_noted(&appliance, "twice", 2).len(), 2);
    assert!(notes(&appliance, "modern").iter().all(|&worker| worker == 2));
    let worker = appliance.process("worker 2");
    worker.signal(Signal::SIGKILL);
    appliance.successor(&worker);
    all_run(&appliance);
    assert_eq!(notes(&appliance, "twice").len(), 2, "another worker begins nothing anew");
    assert_eq!(appliance.tell(&["reload"]).0, Some(0));
    all_run(&appliance);
}

#[test]
fn a_signal_for_a_worker_that_is_not_there_waits_for_its_successor() {
    let appliance = start();
    let worker = appliance.process("worker 2");
    worker.signal(Signal::SIGKILL);
    // What reaches it before the master knows of its end goes with it.
    appliance.log.wait_for("worker 2 ended");
    appliance.worker_client(1).get("/fire?19");
    appliance.successor(&worker);
    until_noted(&appliance, "second:19", 1);
}

#[test]
fn a_file_that_changes_or_is_replaced_is_told() {
    let appliance = start();
    let (watched, other) = (appliance.dir().path().join("watched"), appliance.dir().path().join("other"));
    until_noted(&appliance, "quick", 1);
    fs::write(&watched, "written").unwrap();
    until_noted(&appliance, "changed", 1);
    // To be emptied and to be written are two changes, and a worker may hear of both before the other one hears of any.
    until("both workers reread it", || {
        [1, 2].iter().all(|worker| notes(&appliance, "reread").contains(worker))
    });
    for _ in 0..2 {
        let before = notes(&appliance, "changed").len();
        fs::write(&other, "replaced").unwrap();
        fs::rename(&other, &watched).unwrap();
        until_noted(&appliance, "changed", before + 1);
    }
    let before = notes(&appliance, "changed").len();
    fs::write(&watched, "written again").unwrap();
    until_noted(&appliance, "changed", before + 1);
}

#[test]
fn a_request_waits_for_a_signal_and_nobody_else_does() {
    let appliance = start();
    let mut waiter = appliance.worker_client(2);
    waiter.send("GET /wait?19 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it waits", || {
        let (_, out, _) = appliance.tell(&["requests"]);
        out.contains("/wait?19")
    });
    // It may still be about to wait; then the next one is for it.
    let answer = std::thread::scope(|scope| {
        let answer = scope.spawn(|| waiter.answer().json());
        until("it is told", || {
            fire(&appliance, "19");
            answer.is_finished()
        });
        answer.join().unwrap()
    });
    assert_eq!(answer, 19);
}

#[test]
fn what_one_worker_registers_later_is_its_own() {
    let appliance = start();
    assert!(appliance.get("/registered").json().as_array().unwrap().contains(&19.into()));
    appliance.worker_client(2).get("/register?77");
    fire(&appliance, "77");
    assert_eq!(until_noted(&appliance, "registered", 1), [2]);
}

#[test]
fn a_flood_of_signals_keeps_neither_the_master_nor_the_other_workers() {
    let appliance = start();
    let mut flood = appliance.worker_client(1);
    flood.send("GET /flood?1.5 HTTP/1.1\r\nHost: test\r\n\r\n");
    let before = notes(&appliance, "modern").len();
    until_noted(&appliance, "modern", before + 3);
    assert_eq!(appliance.tell(&["status"]).0, Some(0));
    assert_eq!(flood.answer().status, 200);
    fire(&appliance, "19");
    until_noted(&appliance, "second:19", 1);
}

#[test]
fn what_cannot_be_registered_is_said_in_a_sentence() {
    let said = start().get("/refused").json();
    let said: Vec<_> = said.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    for (said, expected) in said.iter().zip([
        "ValueError: there is no signal target \"mule1\" here",
        "ValueError: a timer fires every 10ms at most",
        "ValueError: the minute is 0 to 59",
        "ValueError: '3 days' is no time",
        "ValueError: signals go to the workers of this appliance only",
        "OverflowError",
    ]) {
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(said.len(), 6);
}
