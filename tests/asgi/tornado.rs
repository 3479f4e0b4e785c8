//! A Tornado application on the workers' own listeners, by `native.app`.
use crate::harness::{Appliance, Client, Setup, free_ports, until};
use serde_json::json;
use std::time::Duration;

fn start(app: &str, change: impl FnOnce(Setup) -> Setup) -> (Appliance, u16) {
    let base = free_ports(3);
    let setup = Setup::app("tornado_app:application").workers(2);
    let setup = setup.set("native.base_port", base).set("native.app", app);
    (change(setup).start(), base)
}

fn connect(port: u16) -> Client {
    let address = ([127, 0, 0, 1], port).into();
    until("the worker listens", || Client::tcp(address).is_ok());
    Client::tcp(address).unwrap()
}

#[test]
fn each_worker_serves_it_beside_wsgi() {
    for (app, engine) in [("tornado:tornado_app:make_app", "greenlet"), ("tornado:tornado_app:app", "thread")]
    {
        let (appliance, base) = start(app, |setup| setup.set("app.suspend", engine));
        for worker in 1..=2 {
            let pid = connect(base + worker).get("/0.01").json()["pid"].to_string();
            assert_eq!(appliance.worker_client(worker.into()).get("/").text(), pid);
        }
    }
}

#[test]
fn its_requests_end_before_their_worker() {
    let (mut appliance, base) = start("tornado:tornado_app:make_app", |setup| setup);
    let (mut busy, mut idle) = (connect(base + 1), connect(base + 1));
    assert!(idle.get("/").json()["pid"].is_u64());
    busy.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\n");
    let stopping = std::thread::spawn(move || appliance.stop());
    assert!(busy.answer().json()["pid"].is_u64());
    assert!(idle.is_closed());
    assert_eq!(stopping.join().unwrap(), Some(0));
}

/// As those of all other listeners, unless the application has something else in mind.
#[test]
fn its_requests_have_lines_in_the_access_log() {
    let (appliance, base) = start("tornado:tornado_app:make_app", |setup| setup);
    let mut client = connect(base + 1);
    let length = client.get_with("/0.01?x=1", "X-Request-ID: one\r\n").body.len();
    client.send("HEAD /nothing HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer_to_head().status, 404);
    let line = |target: &str| {
        let line = appliance.log.access(target);
        let of = ["method", "status", "bytes", "worker", "id", "client"].map(|key| line[key].clone());
        (serde_json::Value::from(of.to_vec()), line["ms"].as_f64())
    };
    let (first, took) = line("/0.01?x=1");
    assert_eq!(first, json!(["GET", 200, length, 1, "one", "127.0.0.1"]));
    assert!(took.is_some_and(|took| took >= 10.0), "{took:?}");
    assert_eq!(line("/nothing").0, json!(["HEAD", 404, 0, 1, "-", "127.0.0.1"]));
    let (own, base) = start("tornado:tornado_app:make_app", |setup| setup.env("LOGS", "yes"));
    assert_eq!(connect(base + 1).get("/0").status, 200);
    own.log.wait_for("its own line for /0");
    assert!(!own.log.text().contains(r#""path":"/0""#), "{}", own.log.text());
}

/// Tornado lets their handlers go on.
#[test]
fn who_has_left_before_the_end_is_known_in_the_access_log() {
    let (appliance, base) = start("tornado:tornado_app:make_app", |setup| setup);
    let line = |target: &str| {
        let line = appliance.log.access(target);
        serde_json::Value::from(["status", "reason"].map(|key| line[key].clone()).to_vec())
    };
    let mut client = connect(base + 1);
    client.send("GET /0.5 HTTP/1.1\r\nHost: test\r\n\r\n");
    drop(client);
    assert_eq!(line("/0.5"), json!([499, "client-gone"]));
    assert_eq!(appliance.log.access("/0.5")["bytes"], 0);
    let mut client = connect(base + 1);
    client.send("GET /events HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the stream has begun", || {
        client.arrived_within(Duration::from_millis(20)).ends_with(b"tick\n\n\r\n")
    });
    drop(client);
    assert_eq!(line("/events"), json!([200, "client-gone"]));
    let mut client = connect(base + 1);
    client.send("GET /0.01 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(line("/0.01"), json!([200, null]), "who is sent away has not left");
}

/// Their worker would be killed with them.
#[test]
fn streams_are_cut_when_the_time_is_over() {
    let (mut appliance, base) =
        start("tornado:tornado_app:make_app", |setup| setup.set("timeouts.graceful", "4s"));
    let mut client = connect(base + 1);
    client.send("GET /events HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the stream has begun", || {
        client.arrived_within(Duration::from_millis(20)).ends_with(b"tick\n\n\r\n")
    });
    assert_eq!(appliance.stop(), Some(0));
    let log = appliance.log.text();
    assert!(log.contains("the stream has ended") && !log.contains("killed"), "{log}");
}

#[test]
fn what_cannot_be_made_stops_the_start() {
    let setup = Setup::app("tornado_app:application").env("FAILS", 1).set("native.base_port", free_ports(2));
    let refusal = setup.set("native.app", "tornado:tornado_app:make_app").refused();
    assert_eq!(refusal.code, Some(1), "{}", refusal.text);
    assert!(refusal.text.contains("RuntimeError: cannot be made"), "{}", refusal.text);
}
