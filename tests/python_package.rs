//! The Python package `appliance`: what it has that the functions of the engine have not, in the server and outside of it.
use crate::harness::{Appliance, Setup};

/// Both engines (`app.suspend`) answer alike.
const ENGINES: [&str; 2] = ["greenlet", "thread"];

fn start_on(engine: &str) -> Appliance {
    Setup::app("package:application").set("app.suspend", engine).set("workers.cores", 20).start()
}

#[track_caller]
fn everywhere(cases: &[(&str, &str)]) {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for (target, expected) in cases {
            let answer = appliance.get(target);
            assert_eq!((answer.status, answer.text().as_str()), (200, *expected), "{target} on {engine}");
        }
    }
}

#[test]
fn blocking_calls_are_awaited_on_cores_of_their_own() {
    everywhere(&[
        ("/at_once", "['set', None]"),
        ("/many", "19900"),
        ("/raises", "'of the call'"),
        ("/context", "('blue', 'blue')"),
        ("/on_another_loop", "'result'"),
    ]);
}

#[test]
fn a_call_that_nobody_awaits_any_more_ends_where_it_waits() {
    everywhere(&[
        ("/cancelled", "['ClientDisconnected']"),
        ("/cancelled_elsewhere", "['ClientDisconnected']"),
        ("/never_began", "[]"),
    ]);
}

#[test]
fn an_awaited_call_may_not_take_longer_than_a_request() {
    everywhere(&[("/too_long", "'TimeoutError'")]);
}

#[test]
fn waiting_is_for_requests_and_threads_and_not_for_the_loop() {
    everywhere(&[("/sleeps_in_a_thread", "None")]);
    for engine in ENGINES {
        let text = start_on(engine).get("/on_the_loop").text();
        assert!(text.contains("works only inside a request or in a thread"), "{text}");
    }
}

#[test]
fn modules_are_the_servers_own_and_come_when_they_are_asked_for() {
    everywhere(&[
        ("/where", "['Embedded', 'Embedded']"),
        ("/lazily", r#"(False, "module 'appliance' has no attribute 'nonsense'")"#),
    ]);
}
