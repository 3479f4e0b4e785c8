//! Applications that break the rules: their request gets a 500, the log the reason, and nobody else notices.
use crate::harness::{Appliance, Client, Setup, until};

/// The mistakes of `tests/apps/mistakes.py`, and what the log must say about each.
const MISTAKES: [(&str, &str); 30] = [
    ("raises", "ValueError: a secret of the application"),
    ("raises_after_start", "ValueError: a secret"),
    ("raises_in_first_piece", "ValueError: a secret"),
    ("raises_base_exception", "Weird: a secret"),
    ("exits", "SystemExit: a secret"),
    ("interrupts", "KeyboardInterrupt"),
    ("says_that_the_client_has_left", "appliance.ClientDisconnected"),
    ("recurses", "RecursionError"),
    ("returns_none", "returned None"),
    ("returns_str", "must be bytes"),
    ("returns_int", "must return an iterable of bytes"),
    ("returns_list_of_str", "must be bytes"),
    ("yields_str", "must be bytes"),
    ("never_starts", "without calling start_response()"),
    ("starts_twice", "second time without exc_info"),
    ("status_without_reason_or_number", "status"),
    ("status_of_bytes", "status must be a str"),
    ("status_injects", "status"),
    ("value_injects", "header"),
    ("name_injects", "header"),
    ("value_has_nul", "control character"),
    ("value_ends_line", "control character"),
    ("hop_by_hop", "about the connection"),
    ("upgrades", "about the connection"),
    ("interim", "interim"),
    ("writes_str", "must be bytes"),
    ("value_is_int", "not a (str, str) tuple"),
    ("headers_of_tuple", "must be a list"),
    ("header_beyond_latin1", "UnicodeEncodeError"),
    ("length_is_no_number", "Content-Length"),
];

/// Makes all of them, and asks for something good after each.
pub fn make_all(appliance: &Appliance, connect: impl Fn() -> Client) {
    for (mistake, logged) in MISTAKES {
        let answer = connect().get(&format!("/{mistake}"));
        assert_eq!(answer.status, 500, "{mistake}: {answer:?}");
        assert!(
            !answer.text().contains("secret") && !answer.text().contains("Traceback"),
            "{mistake}: {answer:?}"
        );
        assert_eq!(answer.header("x-injected"), None, "{mistake}");
        let target = format!("GET /{mistake} ");
        let event = appliance.log.event(mistake, |event| {
            event["level"] == "ERROR" && event["message"].as_str().is_some_and(|text| text.contains(&target))
        });
        assert!(event["message"].as_str().unwrap().contains(logged), "{mistake}: {event}");
        assert_eq!(connect().get("/").text(), "fine", "after {mistake}");
    }
}

#[test]
fn a_mistake_is_a_500_and_a_traceback_in_the_log_through_the_proxy() {
    let appliance = Setup::app("mistakes:application").start();
    let worker = appliance.process("worker 1");
    make_all(&appliance, || appliance.client());
    assert!(worker.is_alive(), "no mistake ends the worker");
}

#[test]
fn a_mistake_is_a_500_and_a_traceback_in_the_log_on_the_workers_socket() {
    let appliance = Setup::app("mistakes:application").start();
    make_all(&appliance, || appliance.worker_client(1));
}

#[test]
fn the_connection_goes_on_after_a_500() {
    let appliance = Setup::app("mistakes:application").start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        for _ in 0..3 {
            assert_eq!(client.get("/raises").status, 500);
            assert_eq!(client.get("/").text(), "fine");
        }
    }
}

#[test]
fn others_are_served_while_one_fails() {
    let appliance = Setup::app("mistakes:application").start();
    let targets: Vec<&str> = (0..40).map(|n| if n % 2 == 0 { "/exits" } else { "/" }).collect();
    let (answers, _) = appliance.get_all(&targets);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, (0..40).map(|n| if n % 2 == 0 { 500 } else { 200 }).collect::<Vec<_>>());
}

#[test]
fn text_in_an_answer_that_has_begun_is_seen_to_be_cut() {
    let appliance = Setup::app("mistakes:application").start();
    for (count, mistake) in (1..).zip(["yields_str_late", "writes_str_late", "returns_str_with_length"]) {
        for mut client in [appliance.client(), appliance.worker_client(1)] {
            client.send(format!("GET /{mistake} HTTP/1.1\r\nHost: test\r\n\r\n"));
            client.try_answer().expect_err("an answer that was cut looks complete");
        }
        until("both are logged", || appliance.log.text().matches("must be bytes").count() == 2 * count);
    }
}
