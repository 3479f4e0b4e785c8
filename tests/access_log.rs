//! The access log of the workers' own listeners: for the same request the same line as the proxy's, whatever becomes of it,
//! and never two lines for one request.
use crate::harness::{Admin, Appliance, Client, DOORS, Door, Doors, Setup, until};
use crate::websockets::peer::{Peer, TEXT};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

/// One function for each way to end.
const ENDINGS: &str = "endings:application";

/// Lines so far for targets that contain this.
fn count(appliance: &Appliance, part: &str) -> usize {
    let is_it = |event: &Value| event["kind"] == "access" && event["path"].as_str().unwrap().contains(part);
    appliance.log.events().into_iter().filter(is_it).count()
}

/// Status and reason of a line.
fn end(line: &Value) -> (u64, &str) {
    (line["status"].as_u64().unwrap(), line["reason"].as_str().unwrap_or("none"))
}

/// What must be the same on both ways: all of it but times, numbers that depend on the moment, and what the proxy alone knows.
fn comparable(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    for name in ["timestamp", "ms", "app_ms", "core", "id", "path"] {
        if let Some(value) = fields.get_mut(name) {
            *value = Value::Null;
        }
    }
    fields.remove("queue_ms");
    line
}

fn send(client: &mut Client, method: &str, target: &str) {
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
}

/// The lines of one request that was sent to the proxy, and of the same one that was sent to the worker.
#[track_caller]
fn both(doors: &Doors, method: &str, path: &str) -> [Value; 2] {
    [(Door::Proxy, "by-proxy"), (Door::Native, "direct")].map(|(door, mark)| {
        let target = format!("{path}?{method}-{mark}");
        let mut client = doors.client(door);
        send(&mut client, method, &target);
        client.rest();
        doors.appliance.log.access(&target)
    })
}

#[test]
fn a_worker_writes_what_the_proxy_would() {
    for suspend in ["greenlet", "thread"] {
        let doors = Doors::open(Setup::app(ENDINGS).set("app.suspend", suspend));
        for path in [
            "/hello",
            "/nothing",
            "/pieces",
            "/notes",
            "/own_failure",
            "/raises",
            "/notes_and_raises",
            "/raises_late",
            "/too_short",
        ] {
            for method in ["GET", "HEAD"] {
                let [by_proxy, direct] = both(&doors, method, path).map(comparable);
                assert_eq!(direct, by_proxy, "{suspend} {method} {path}");
            }
        }
    }
}

#[test]
fn an_answer_that_nobody_gives_is_named() {
    let doors = Doors::open(Setup::app(ENDINGS));
    for line in both(&doors, "GET", "/says_nothing") {
        assert_eq!(end(&line), (502, "app-cut"), "{line}");
    }
}

#[test]
fn requests_that_cannot_be_read_are_refused_for_the_same_reason() {
    let setup = Setup::app(ENDINGS)
        .set("limits.body", "1KiB")
        .set("limits.body_buffer", "1KiB")
        .set("limits.headers", 10);
    let doors = Doors::open(setup.set("limits.request_line", "1KiB").set("limits.header_bytes", "2KiB"));
    let (long, many) = ("x".repeat(4000), "A: b\r\n".repeat(20));
    let heads = [
        ("GET /TARGET HTTP/1.1\r\n\r\n", "no-host"),
        ("GET /TARGET HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "bad-host"),
        ("GET /TARGET HTTP/1.1\nHost: a\n\n", "bare-line-feed"),
        ("GET /TARGET HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", "bad-header"),
        ("GET /TARGET HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", "folded-header"),
        ("GET /TARGET HTTP/1.1 more\r\nHost: a\r\n\r\n", "bad-request-line"),
        ("GET /TARGET HTTP/3.0\r\nHost: a\r\n\r\n", "unknown-version"),
        ("CONNECT /TARGET HTTP/1.1\r\nHost: a\r\n\r\n", "tunnel"),
        ("POST /TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", "bad-length"),
        ("POST /TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown-coding"),
        ("POST /TARGET HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "bad-coding"),
        ("POST /TARGET HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "chunked-in-old-version"),
        (
            "POST /TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "length-and-chunked",
        ),
        (
            "POST /TARGET HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n",
            "unknown-expectation",
        ),
        ("POST /TARGET HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n", "body-too-large"),
        (&format!("GET /TARGET HTTP/1.1\r\nHost: a\r\nA: {long}\r\n\r\n"), "head-too-large"),
        (&format!("GET /TARGET HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "too-many-headers"),
    ];
    for (head, reason) in heads {
        for door in DOORS {
            let mut client = doors.client(door);
            client.send(head.replace("/TARGET", &format!("/{reason}-{door:?}")));
            let status = client.answer().status;
            let line = doors.appliance.log.access(&format!("/{reason}-{door:?}"));
            assert_eq!(end(&line), (status.into(), reason), "{line}");
        }
    }
}

#[test]
fn limits_of_time_and_clients_that_leave_are_named() {
    let setup = Setup::app(ENDINGS).set("timeouts.header", "200ms").set("timeouts.request", "500ms");
    let (setup, admin) = Admin::of(setup);
    let doors = Doors::open(setup);
    let mut slow = doors.client(Door::Native);
    slow.send("GET /slow HTTP/1.1\r\nHost: ");
    assert_eq!(slow.answer().status, 408);
    assert_eq!(end(&doors.appliance.log.access("/slow")), (408, "slow-head"));
    let mut late = doors.client(Door::Native);
    assert_eq!(late.get("/sleeps?late").status, 504);
    let said = doors.appliance.log.access("/sleeps?late");
    assert_eq!(end(&said), (504, "request-timeout"));
    assert!(said["ms"].as_f64().unwrap() >= 490.0, "{said}");
    let mut leaver = doors.client(Door::Native);
    send(&mut leaver, "GET", "/sleeps?left");
    until("it runs", || admin.workers("busy") == 1);
    drop(leaver);
    assert_eq!(end(&doors.appliance.log.access("/sleeps?left")), (499, "client-gone"));
    let mut halfway = doors.client(Door::Native);
    halfway.send("POST /halfway HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n1234");
    drop(halfway);
    assert_eq!(end(&doors.appliance.log.access("/halfway")), (499, "client-gone"));
}

#[test]
fn a_client_that_has_left_before_its_request_is_read_is_to_blame() {
    let doors = Doors::open(Setup::app(ENDINGS));
    let mut client = doors.client(Door::Native);
    assert_eq!(client.get("/hello").status, 200);
    let worker = doors.appliance.process("worker 1");
    worker.signal(Signal::SIGSTOP);
    client.send("POST /sleeps HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n123");
    client.finish();
    worker.signal(Signal::SIGCONT);
    assert_eq!(end(&doors.appliance.log.access("/sleeps")), (499, "client-gone"));
}

/// Writes to a client that leaves meanwhile, without giving the loop back: the query names a file that says when.
const UNAWARE: &str = r#"
import os, time

def application(environ, start):
    write = start("200 OK", [])
    write(b"begun")
    while not os.path.exists(environ["QUERY_STRING"]):
        time.sleep(0.001)
    for _ in range(100):
        write(b"more")
        time.sleep(0.001)
    return []
"#;

#[test]
fn a_client_that_leaves_while_it_is_written_to_is_to_blame() {
    let doors = Doors::open(Setup::code(UNAWARE));
    let left = doors.appliance.dir().path().join("left");
    let target = format!("/?{}", left.display());
    let mut client = doors.client(Door::Native);
    send(&mut client, "GET", &target);
    until("it has begun", || !client.arrived_within(Duration::from_millis(10)).is_empty());
    drop(client);
    std::fs::write(&left, "").unwrap();
    assert_eq!(end(&doors.appliance.log.access(&target)), (200, "client-gone"));
}

#[test]
fn a_request_says_how_long_it_has_waited_for_a_core() {
    let (setup, admin) = Admin::of(Setup::app(ENDINGS).set("workers.cores", 1).set("limits.waiting", 1));
    let doors = Doors::open(setup.set("timeouts.request", "700ms"));
    let mut clients: Vec<Client> = (0..3).map(|_| doors.client(Door::Native)).collect();
    send(&mut clients[0], "GET", "/sleeps");
    until("it runs", || admin.workers("busy") == 1);
    send(&mut clients[1], "GET", "/hello?waits");
    until("one waits", || admin.workers("waiting") == 1);
    send(&mut clients[2], "GET", "/hello?too-many");
    assert_eq!(clients[2].answer().status, 503);
    assert_eq!(end(&doors.appliance.log.access("/hello?too-many")), (503, "worker-busy"));
    assert_eq!(clients[1].answer().status, 200);
    let waited = doors.appliance.log.access("/hello?waits");
    let millis = |name: &str| waited[name].as_f64().unwrap();
    assert!(millis("queue_ms") > 1.0 && millis("ms") >= millis("queue_ms"), "{waited}");
}

#[test]
fn a_websocket_has_one_line_at_its_end() {
    for setup in [
        Setup::app("sockets:application"),
        Setup::app("asgi_starlette:app"),
        Setup::bare().arg("native:echo").venv(None),
    ] {
        let doors = Doors::open(setup);
        let mut peer = Peer::open(doors.client(Door::Native), "/echo");
        peer.send(TEXT, "hello");
        assert_eq!(peer.text(), "hello");
        assert_eq!(count(&doors.appliance, "/echo"), 0);
        peer.close(1000);
        let line = doors.appliance.log.access("/echo");
        assert_eq!((end(&line), &line["method"]), ((101, "none"), &"GET".into()), "{line}");
        assert!(line["bytes"].as_u64().is_some_and(|bytes| (7..20).contains(&bytes)), "{line}");
    }
}

#[test]
fn every_kind_of_application_has_lines_and_no_request_has_two() {
    let native = || Setup::bare().arg("native:hello").venv(None);
    for setup in [Setup::app(ENDINGS), native(), Setup::app("asgi_bare:app")] {
        let mut doors = Doors::open(setup);
        let mut kept = doors.client(Door::Native);
        for n in 0..3 {
            kept.get(&format!("/hello?native-{n}"));
            doors.appliance.get(&format!("/hello?proxy-{n}"));
            doors.appliance.worker_client(1).get(&format!("/hello?by-hand-{n}"));
        }
        doors.appliance.stop();
        let counts = ["native-", "proxy-", "by-hand-"].map(|part| count(&doors.appliance, part));
        assert_eq!(counts, [3, 3, 0], "{}", doors.appliance.log.text());
    }
}

#[test]
fn a_client_may_name_its_request() {
    let doors = Doors::open(Setup::app(ENDINGS));
    let mut client = doors.client(Door::Native);
    assert_eq!(client.get_with("/hello?named", "X-Request-ID: a\"b\r\n").status, 200);
    client.get("/hello?nameless");
    assert_eq!(doors.appliance.log.access("/hello?named")["id"], "a\"b");
    assert_eq!(doors.appliance.log.access("/hello?nameless")["id"], "-");
}

#[test]
fn it_can_be_turned_off_and_a_request_can_ask_for_a_line_all_the_same() {
    let mut doors = Doors::open(Setup::app(ENDINGS).set("log.access", false));
    let mut client = doors.client(Door::Native);
    client.get("/asks");
    client.get("/hello");
    doors.appliance.stop();
    let events = doors.appliance.log.events();
    assert!(events.iter().all(|event| event["kind"] != "access"));
    assert_eq!(events.iter().filter(|event| event["kind"] == "request").count(), 1);
}

#[test]
fn the_proxy_counts_only_its_own_requests() {
    let (setup, admin) = Admin::of(Setup::app(ENDINGS));
    let doors = Doors::open(setup);
    doors.client(Door::Native).get("/hello?native");
    doors.client(Door::Proxy).get("/hello?proxy");
    doors.appliance.log.access("/hello?proxy");
    doors.appliance.log.access("/hello?native");
    let metrics = admin.get("/metrics").text();
    assert!(metrics.contains("appliance_http_requests_total{code=\"200\",worker=\"1\"} 1\n"), "{metrics}");
}
