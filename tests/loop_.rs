//! One loop for everything: requests that wait let the others go on, and asyncio, callbacks and threads resume them.
use crate::harness::{Appliance, Setup};
use std::time::Duration;

fn start() -> Appliance {
    Setup::app("waits:application").start()
}

#[track_caller]
fn assert_answers(cases: &[(&str, &str)]) {
    let appliance = start();
    for (target, expected) in cases {
        let answer = appliance.get(target);
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, *expected),
            "{target}:\n{}",
            appliance.log.text()
        );
    }
}

#[test]
fn as_many_requests_as_cores_wait_together() {
    let appliance = Setup::app("waits:application").set("workers.cores", 20).start();
    let (answers, took) = appliance.get_all(&["/pause?s=0.5"; 20]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!((Duration::from_millis(500)..Duration::from_millis(1500)).contains(&took), "{took:?}");
    assert_eq!(appliance.get("/pause?s=0").text(), "20", "requests that ran at once");
}

#[test]
fn more_requests_than_cores_wait_their_turn() {
    let appliance = Setup::app("waits:application").set("workers.cores", 2).start();
    let (answers, took) = appliance.get_all(&["/pause?s=0.3"; 5]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert_eq!(appliance.get("/pause?s=0").text(), "2", "requests that ran at once");
}

#[test]
fn wait_gives_results_and_raises_exceptions() {
    assert_answers(&[
        ("/result", "'result'"),
        ("/gathered", "[1, 2, 3]"),
        ("/exception", "'caught from the coroutine'"),
        ("/timeout", "(True, True)"),
        ("/cancelled", "'cancelled'"),
        ("/done_already", "'there'"),
        ("/thread", "'from a thread'"),
        ("/thread_exception", "'caught division by zero'"),
        ("/no_awaitable", "'TypeError'"),
        ("/inner_greenlet", "'inner'"),
    ]);
}

#[test]
fn a_callback_cannot_wait_and_is_told_so() {
    assert!(start().get("/in_a_callback").text().contains("appliance.sleep() works only inside a request"));
}

#[test]
fn the_loop_is_the_same_at_import_in_requests_and_in_coroutines() {
    assert_answers(&[("/loops", "[True, True, True]")]);
}

#[test]
fn callbacks_resume_requests() {
    assert_answers(&[
        ("/callback_switches", "'switched'"),
        ("/callback_throws", "'caught thrown'"),
        ("/thrown_into_sleep", "'caught thrown'"),
        ("/switched_too_early", "True"),
        ("/", "'here'"),
    ]);
}

#[test]
fn the_functions_of_uwsgi_wait() {
    assert_answers(&[
        ("/suspend", "True"),
        ("/async_sleep", "True"),
        ("/wait_fd_read", "(True, b'x')"),
        ("/wait_fd_read_timeout", "(-1, True)"),
        ("/wait_fd_write", "True"),
    ]);
}

#[test]
fn the_functions_of_uwsgi_know_where_they_are() {
    let appliance = Setup::app("waits:application").set("workers.cores", 3).start();
    assert_eq!(appliance.get("/me").text(), format!("(0, 1, True, {}, 1, 3)", appliance.pid()));
}

#[test]
fn every_request_has_its_own_context() {
    let appliance = start();
    let (answers, _) = appliance.get_all(&["/context?v=a", "/context?v=b", "/context?v=c"]);
    let texts: Vec<String> = answers.iter().map(|answer| answer.text()).collect();
    assert_eq!(texts, ["('unset', 'a', 'a')", "('unset', 'b', 'b')", "('unset', 'c', 'c')"]);
    assert_eq!(appliance.get("/context?v=d").text(), "('unset', 'd', 'd')", "a core that was used before");
}

#[test]
fn every_request_has_its_own_thread_local_storage() {
    let appliance = Setup::app("waits:application").start();
    let (answers, _) = appliance.get_all(&["/thread_local?v=a", "/thread_local?v=b", "/thread_local?v=c"]);
    let texts: Vec<String> = answers.iter().map(|answer| answer.text()).collect();
    assert_eq!(texts, ["('unset', 'a', 'unset')", "('unset', 'b', 'unset')", "('unset', 'c', 'unset')"]);
    let after = appliance.get("/thread_local?v=d").text();
    assert_eq!(after, "('unset', 'd', 'unset')", "a core that was used before");
}

#[test]
fn a_thread_local_can_be_referred_to_weakly() {
    assert_answers(&[("/weak_thread_local", "True")]);
}

#[test]
fn an_exception_thrown_from_a_callback_ends_that_request_only() {
    let appliance = start();
    let (answers, _) = appliance.get_all(&["/pause?s=0.3", "/thrown_and_not_caught", "/pause?s=0.3"]);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 500, 200]);
    appliance.log.wait_for("LookupError: thrown and not caught");
}

#[test]
fn a_request_that_nobody_can_resume_is_ended() {
    let appliance = Setup::app("waits:application").set("workers.cores", 1).start();
    assert_eq!(appliance.get("/nobody_resumes").status, 500);
    appliance.log.wait_for("nothing could resume it any more");
    assert_eq!(appliance.get("/").text(), "'here'", "its core is free again");
}

#[test]
fn other_connections_are_served_while_a_request_waits_for_its_body() {
    let appliance = Setup::app("inputs:application").set("workers.cores", 1).start();
    let mut slow = appliance.client();
    slow.send("POST /read HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhel");
    assert_eq!(appliance.get("/read").text(), "b''", "a half-sent request holds the only core");
    slow.send("lo");
    assert_eq!(slow.answer().text(), "b'hello'");
}
