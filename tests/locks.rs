//! Locks that all workers share: one holder at most, nobody waits in vain, and nothing stays locked behind the dead.
use crate::harness::{Appliance, ENGINES, Setup, meanwhile, until};
use serde_json::Value;
use std::collections::BTreeSet;

fn setup() -> Setup {
    let setup = Setup::app("locks:application").workers(2);
    let folder = setup.dir().path().display().to_string();
    setup.env("LOCKS_FOLDER", folder)
}

fn start() -> Appliance {
    let appliance = setup().start();
    appliance.wait_for_workers();
    appliance
}

/// Asks for all of these at once, half of them of each worker; the spans in which they held the lock.
fn spans(appliance: &Appliance, targets: &[&str]) -> Vec<(f64, f64)> {
    let ask = |(n, target): (usize, &&str)| {
        let mut client = appliance.worker_client(1 + n as u32 % 2);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client
    };
    let clients: Vec<_> = targets.iter().enumerate().map(ask).collect();
    let span = |said: Value| match (said[0].as_f64(), said[1].as_f64()) {
        (Some(began), Some(ended)) => (began, ended),
        _ => panic!("{said}"),
    };
    clients.into_iter().map(|mut client| span(client.answer().json())).collect()
}

#[track_caller]
fn assert_apart(mut spans: Vec<(f64, f64)>) {
    spans.sort_by(|one, other| one.0.total_cmp(&other.0));
    let is_apart = spans.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    assert!(is_apart, "two held it at once: {spans:?}");
}

fn state(appliance: &Appliance, worker: u32) -> Value {
    appliance.worker_client(worker).get("/state").json()
}

#[test]
fn a_lock_has_one_holder_among_the_requests_threads_and_tasks_of_all_workers() {
    for suspend in ENGINES {
        let appliance = setup().set("app.suspend", suspend).start();
        appliance.wait_for_workers();
        assert_apart(spans(&appliance, &["/decorated?0.05"; 6]));
        let mixed = [
            "/named?0.02",
            "/named?0.02",
            "/threaded?0.02",
            "/threaded?0.02",
            "/tasked?0.02",
            "/tasked?0.02",
        ];
        assert_apart(spans(&appliance, &mixed));
        assert_eq!(state(&appliance, 1), serde_json::json!([false, false, false, false, false]));
    }
}

#[test]
fn whoever_waits_keeps_nobody_but_itself() {
    let appliance = start();
    let mut holder = appliance.worker_client(1);
    holder.send("GET /take?30 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is locked", || state(&appliance, 2)[2] == true);
    let mut waiter = appliance.worker_client(1);
    waiter.send("GET /take?0 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(state(&appliance, 1)[2], true, "its worker goes on");
    // Its request ends with it.
    drop(holder);
    assert_eq!(waiter.answer().json(), 1);
}

#[test]
fn what_a_request_holds_at_its_end_is_free_again_and_the_log_says_so() {
    let appliance = start();
    assert_eq!(appliance.worker_client(1).get("/kept?0").json(), "kept");
    until("it is free", || state(&appliance, 2)[3] == false);
    appliance.log.wait_for("GET /kept?0 (core");
    appliance.log.wait_for("has ended with locks");
}

#[test]
fn a_holder_whose_client_leaves_or_whose_time_is_over_gives_it_back() {
    let appliance = setup().set("timeouts.request", "1s").start();
    let mut leaver = appliance.worker_client(1);
    leaver.send("GET /take?30 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is locked", || state(&appliance, 2)[2] == true);
    drop(leaver);
    until("it is free", || state(&appliance, 2)[2] == false);
    assert_eq!(appliance.worker_client(1).get("/take?30").status, 504);
    until("it is free", || state(&appliance, 2)[2] == false);
}

#[test]
fn what_cannot_be_locked_is_said_in_a_sentence() {
    let appliance = start();
    let twice = appliance.get("/twice?0").text();
    assert!(twice.contains("RuntimeError: the request holds this lock already"), "{twice}");
    let refused = appliance.get("/refused?0").text();
    assert_eq!(refused.matches("Invalid lock number").count(), 2, "{refused}");
    assert_eq!(refused.matches("1 to 64 bytes").count(), 2, "{refused}");
    let mut holder = appliance.worker_client(1);
    holder.send("GET /named?30 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is locked", || state(&appliance, 2)[4] == true);
    let late = appliance.worker_client(2).get("/late?0.05").text();
    assert!(late.contains("TimeoutError: appliance.lock('mail') was not free within 0.05 s"), "{late}");
}

#[test]
fn a_process_that_the_application_forks_cannot_pass_for_its_worker() {
    let told = start().worker_client(1).get("/forked?0").json();
    let sentence = "a process that the application has forked has no locks; take them in the worker itself";
    assert_eq!(told, serde_json::json!([sentence, true]));
}

#[test]
fn a_killed_holder_leaves_no_lock_behind() {
    let appliance = start();
    for worker in [1, 2, 1, 2] {
        let killed = appliance.process(&format!("worker {worker}"));
        // One that had left might have its request ended before it has the lock.
        let mut doomed = appliance.worker_client(worker);
        doomed.send("GET /die?0 HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut waiter = appliance.worker_client(3 - worker);
        assert!(waiter.get("/named?0").json().is_array());
        appliance.successor(&killed);
    }
    appliance.log.wait_for("a worker has died with locks");
}

#[test]
fn no_write_under_a_lock_is_lost_in_a_storm_of_kills() {
    let appliance = start();
    // A request that died with its worker is repeated by the proxy, or answered with 502.
    let count = |_| appliance.get("/counted?0.001").text().trim().parse::<u64>().ok();
    let counted = meanwhile(4, count, || appliance.kill_workers_in_turn(10, || {}));
    let mut numbers: Vec<u64> = counted.into_iter().flatten().collect();
    numbers.sort_unstable();
    let different: BTreeSet<u64> = numbers.iter().copied().collect();
    assert_eq!(different.len(), numbers.len(), "two counted the same: {numbers:?}");
    assert!(numbers.len() > 50, "only {numbers:?}");
    until("it is free", || state(&appliance, 1)[4] == false);
}
