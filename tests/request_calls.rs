//! The calls of `uwsgi` that are about the request, through the proxy and on the worker's own socket, also after a suspension
//! and in a greenlet of the request's own.
use crate::harness::{Appliance, Client, Setup, until};

/// Both engines (`app.suspend`) answer alike.
const ENGINES: [&str; 2] = ["greenlet", "thread"];

fn start() -> Appliance {
    start_on("greenlet")
}

fn start_on(engine: &str) -> Appliance {
    let setup = Setup::app("request_calls:application").set("app.suspend", engine);
    setup.set("limits.body_buffer", "4KiB").start()
}

fn doors(appliance: &Appliance) -> [Client; 2] {
    [appliance.client(), appliance.worker_client(1)]
}

/// What `/name` answers, on both engines, at both doors and in every situation.
#[track_caller]
fn everywhere(name: &str, expected: &str) {
    for engine in ENGINES {
        for mut client in doors(&start_on(engine)) {
            for target in [format!("/{name}"), format!("/slept/{name}"), format!("/inner/{name}")] {
                assert_eq!(client.get(&target).text(), expected, "{target} on {engine}");
            }
        }
    }
}

#[test]
fn variables_belong_to_their_request() {
    everywhere("logvars", r"[None, b'me', None, b'\xff', None, True, b'value', False]");
}

#[test]
fn arguments_of_other_types_are_type_errors() {
    everywhere("wrong_types", &format!("{:?}", ["TypeError"; 9]).replace('"', "'"));
}

#[test]
fn a_request_knows_its_connection() {
    everywhere("connection", "[True, True, False, False]");
}

#[test]
fn the_module_has_the_environ_of_the_request_that_runs() {
    everywhere("env", "[True, True, 'AttributeError']");
    let (answers, _) = start().get_all(&["/slept/env"; 10]);
    assert!(answers.iter().all(|answer| answer.text() == "[True, True, 'AttributeError']"));
}

#[test]
fn elsewhere_the_calls_of_a_request_are_errors() {
    everywhere("elsewhere", &format!("{:?}", ["RuntimeError"; 5]).replace('"', "'"));
}

#[test]
fn the_length_of_the_body_is_what_the_client_said() {
    let appliance = start();
    for mut client in doors(&appliance) {
        assert_eq!(client.post("/cl", "12345").text(), "5");
        assert_eq!(client.get("/cl").text(), "0");
        assert_eq!(client.post_chunks("/cl", &[b"12345"]).text(), "0");
    }
}

#[test]
fn requests_are_numbered_in_the_worker() {
    let appliance = start();
    let mut client = appliance.client();
    let numbers: Vec<u64> = (0..3).map(|_| client.get("/slept/request_id").text().parse().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let (answers, _) = appliance.get_all(&["/slept/request_id"; 5]);
    let mut numbers: Vec<u64> = answers.iter().map(|answer| answer.text().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [4, 5, 6, 7, 8]);
    assert_eq!(appliance.worker_client(1).get("/request_id").text(), "9");
}

#[test]
fn a_request_that_asks_for_a_line_has_one() {
    for is_logged in [true, false] {
        let appliance = Setup::app("request_calls:application").set("log.access", is_logged).start();
        for (mut client, name) in doors(&appliance).into_iter().zip(["proxied", "direct"]) {
            assert_eq!(client.get(&format!("/logged?{name}")).text(), "None");
            client.get(&format!("/cl?{name}"));
        }
        let line = appliance.log.event("the line", |event| event["path"] == "/logged?direct");
        assert_eq!((&line["status"], &line["vars"]), (&200.into(), &"who=line\nbreak".into()));
        appliance.log.event("the line", |event| event["path"] == "/logged?proxied");
        let of_worker = appliance.log.events().into_iter().filter(|event| event["kind"] == "request");
        assert_eq!(of_worker.count(), if is_logged { 1 } else { 2 }, "{}", appliance.log.text());
    }
}

/// Sends a body in pieces, each when the application has read the one before.
fn in_pieces(appliance: &Appliance, mut client: Client, target: &str) -> String {
    client.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
    // More than is read before the application is called.
    client.send([b"1388\r\n", &*b"x".repeat(5000), b"\r\n"].concat());
    for (read, piece) in [
        (5000, "5\r\nhello\r\n"),
        (5005, "1\r\n,"),
        (5006, "\r\n1\r\n \r"),
        (5007, "\n5\r\nworld\r\n"),
        (5012, "0\r\n\r\n"),
    ] {
        until("the piece before is read", || appliance.get("/arrived").text() == read.to_string());
        client.send(piece);
    }
    client.answer().text().replace(&"x".repeat(5000), "…")
}

#[test]
fn a_body_can_be_read_as_it_comes() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for (name, expected) in [
            ("pieces", "(b'…hello, world', b'', b'')"),
            ("slept/pieces", "(b'…hello, world', b'', b'')"),
            ("polled", "(b'…hello, world', True)"),
            ("waited", "b'…hello, world'"),
            ("inner/pieces", "(b'…hello, world', b'', b'')"),
        ] {
            for client in doors(&appliance) {
                assert_eq!(in_pieces(&appliance, client, &format!("/{name}")), expected, "{name}");
            }
        }
        for mut client in doors(&appliance) {
            // uWSGI would look for chunks in a body that has a length.
            assert_eq!(client.post("/pieces", "hello").text(), "(b'hello', b'', b'')");
            assert_eq!(client.get("/pieces").text(), "(b'', b'', b'')");
        }
    }
}

#[test]
fn a_piece_that_does_not_come_is_an_oserror_in_time() {
    let appliance = start();
    for mut client in doors(&appliance) {
        client.send("POST /late HTTP/1.1\r\nHost: test\r\nContent-Length: 5001\r\n\r\n");
        client.send(b"x".repeat(5000));
        assert_eq!(client.answer().text(), "(5000, <class 'TimeoutError'>)");
    }
}

#[test]
fn what_is_sent_is_a_part_of_the_body() {
    let appliance = start();
    for target in ["/sends", "/slept/sends", "/inner/sends"] {
        for mut client in doors(&appliance) {
            let expected = "sent and sent [True, True, 'TypeError', 'TypeError', 'TypeError', 'ValueError']";
            assert_eq!(client.get(target).text(), expected);
            assert_eq!(client.get("/cl").text(), "0", "the connection goes on");
        }
    }
}

#[test]
fn after_disconnect_the_application_runs_on_and_reaches_nobody() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for target in ["/leaves", "/slept/leaves", "/inner/leaves", "/leaves?6"] {
            for mut client in doors(&appliance) {
                assert_eq!(client.get(target).text(), "before");
                // The same connection, and others that might get the same descriptor.
                for _ in 0..20 {
                    assert_eq!(client.get("/cl").text(), "0");
                    assert_eq!(appliance.worker_client(1).get("/cl").text(), "0");
                }
            }
        }
        let ran = || appliance.get("/ran").text();
        until("all have run to their end", || ran().matches("[False, -1, None, None]").count() == 8);
    }
}

#[test]
fn disconnect_sends_what_was_said_and_cuts_what_was_not() {
    let appliance = start();
    for mut client in doors(&appliance) {
        let answer = client.get("/leaves_unsaid");
        assert_eq!((answer.status, answer.text().as_str()), (202, ""));
        assert_eq!(client.get("/leaves_generating").text(), "before");
        client.send("GET /leaves?10 HTTP/1.1\r\nHost: test\r\n\r\n");
        client.try_answer().expect_err("an answer that is too short looks complete");
    }
    let mut client = appliance.worker_client(1);
    client.send("GET /leaves_unstarted HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.rest(), b"");
    assert_eq!(appliance.get("/leaves_unstarted").status, 502);
    appliance.log.wait_for("FileNotFoundError: after the answer");
    let ran = || appliance.get("/ran").text();
    for (word, count) in [("unsaid", 2), ("generating", 2), ("unstarted", 2), ("never", 0)] {
        until(word, || ran().matches(word).count() >= count);
        assert_eq!(ran().matches(word).count(), count, "{word}");
    }
}
