//! Clients and applications that are too slow: each time-out ends what it is for, and nothing else.
use crate::harness::{Client, Setup, within};
use std::time::{Duration, Instant};

/// A short time-out for the tests; long enough that a busy machine does not run into it by itself.
const SHORT: &str = "400ms";
/// What `SHORT` may become on a busy machine, and far from every default.
const SOON: Duration = Duration::from_secs(5);

/// What the server sends before it closes, which it must do soon; `drip` is sent again and again meanwhile.
#[track_caller]
fn end_of(client: &mut Client, drip: &str) -> String {
    let ended = within(SOON, || {
        client.send(drip);
        client.arrived_within(Duration::from_millis(50));
        client.is_ended().then_some(())
    });
    assert!(ended.is_some(), "the connection is still open");
    String::from_utf8_lossy(&client.rest()).into_owned()
}

#[test]
fn a_head_that_never_ends_is_given_up_however_much_comes() {
    let appliance = Setup::app("facts:application").set("timeouts.header", SHORT).start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ");
        let received = end_of(&mut client, "x");
        assert!(received.is_empty() || received.starts_with("HTTP/1.1 408 "), "{received}");
    }
}

#[test]
fn a_link_whose_hello_never_ends_is_given_up() {
    let appliance = Setup::app("facts:application").set("timeouts.header", SHORT).start();
    let mut client = appliance.worker_client(1);
    client.send("\0appliance");
    assert_eq!(end_of(&mut client, ""), "");
}

#[test]
fn a_body_that_stops_is_given_up() {
    let appliance = Setup::app("facts:application").set("timeouts.body", SHORT).start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        client.send("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello");
        let received = end_of(&mut client, "");
        assert!(received.starts_with("HTTP/1.1 408 "), "{received}");
    }
}

/// Before a core is taken, and while the application reads.
#[test]
fn a_body_that_comes_byte_by_byte_is_given_up() {
    let appliance = Setup::app("facts:application")
        .set("workers.cores", 1)
        .set("timeouts.body", "1s")
        .set("limits.body_rate", "10KiB")
        .set("limits.body_buffer", "1KiB")
        .start();
    for (length, begun, status) in [(1_000, 1, 408), (100_000, 2_000, 500)] {
        let mut client = appliance.worker_client(1);
        let began = Instant::now();
        client.send(format!("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
        client.send("x".repeat(begun));
        let received = end_of(&mut client, "x");
        assert!(received.starts_with(&format!("HTTP/1.1 {status} ")), "{received}");
        assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    }
    assert_eq!(appliance.get("/").status, 200, "the core is free again");
}

#[test]
fn an_idle_connection_is_closed() {
    let appliance = Setup::app("facts:application").set("timeouts.keepalive", SHORT).start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        let began = Instant::now();
        client.get("/");
        assert_eq!(end_of(&mut client, ""), "");
        assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    }
}

#[test]
fn a_silent_application_is_answered_for_only_if_that_was_asked() {
    let silent = Setup::app("facts:application").set("timeouts.response", SHORT).start();
    assert_eq!(silent.get("/sleep?s=10").status, 504);
    assert_eq!(silent.get("/").status, 200);
    let patient = Setup::app("facts:application").start();
    assert_eq!(patient.get("/sleep?s=1").status, 200);
}

#[test]
fn slow_clients_hold_no_core() {
    let appliance = Setup::app("facts:application").set("workers.cores", 1).start();
    let heads =
        ["GET / HTTP/1.1\r\nHost: te", "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n"];
    let mut slow = Vec::new();
    for head in heads.iter().cycle().take(100) {
        let mut client = if slow.len() % 4 < 2 { appliance.client() } else { appliance.worker_client(1) };
        client.send(head);
        slow.push(client);
    }
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(appliance.get("/").status, 200);
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
