//! WebSockets of an ASGI application, by Starlette. The protocol itself is tested elsewhere; here are ASGI's messages.
use crate::harness::{Answer, Client, DOORS, Doors, Setup, until};
use serde_json::json;
use std::time::Duration;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

fn start() -> Doors {
    Doors::open(Setup::app("asgi_starlette:app"))
}

/// What asks for a WebSocket.
const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn open(client: &mut Client, target: &str, lines: &str) -> Answer {
    client.get_with(target, &format!("{HANDSHAKE}{lines}"))
}

/// Sends a short frame; its mask is all zeros.
fn send(client: &mut Client, kind: u8, payload: &[u8]) {
    client.send([&[kind, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat());
}

/// Waits until a short frame is the last thing that has come.
#[track_caller]
fn expect(client: &mut Client, kind: u8, payload: &[u8]) {
    let frame = [&[kind, payload.len() as u8], payload].concat();
    let what = format!("{} has come", String::from_utf8_lossy(payload));
    until(&what, || client.arrived_within(Duration::from_millis(20)).ends_with(&frame));
}

#[test]
fn messages_go_to_and_fro_until_the_client_closes() {
    let doors = start();
    for door in DOORS {
        let mut client = doors.client(door);
        let answer = open(&mut client, "/echo", "Sec-WebSocket-Protocol: chat, superchat\r\n");
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("sec-websocket-protocol"), Some("superchat"));
        assert_eq!(answer.header("x-from"), Some("starlette"));
        send(&mut client, TEXT, "grüß".as_bytes());
        expect(&mut client, TEXT, "grüß".as_bytes());
        send(&mut client, BINARY, b"\x00\xff");
        expect(&mut client, BINARY, b"\x00\xff");
        send(&mut client, CLOSE, b"\x0f\xa0bye");
        expect(&mut client, CLOSE, b"\x0f\xa0bye");
        until("the application knows", || doors.appliance.get("/notes").json() == json!([[4000, "bye"]]));
    }
}

#[test]
fn a_client_that_vanishes_is_told_of() {
    let doors = start();
    for door in DOORS {
        let mut client = doors.client(door);
        assert_eq!(open(&mut client, "/echo", "").status, 101);
        drop(client);
        until("the application knows", || doors.appliance.get("/notes").json() == json!([[1006, ""]]));
    }
}

#[test]
fn a_task_of_its_own_receives_from_before_the_beginning_to_after_the_end() {
    let doors = start();
    for door in DOORS {
        let mut client = doors.client(door);
        assert_eq!(open(&mut client, "/eager", "").status, 101);
        send(&mut client, TEXT, b"hi");
        expect(&mut client, CLOSE, b"\x03\xe8");
        until("it has heard both", || {
            doors.appliance.get("/seen").json() == json!(["hi", "websocket.disconnect"])
        });
        doors.appliance.get("/notes");
    }
}

#[test]
fn who_never_finds_out_that_its_client_has_left_does_not_keep_its_core() {
    let doors = start();
    for door in DOORS {
        assert_eq!(open(&mut doors.client(door), "/deaf", "").status, 101);
    }
    until("both have been cancelled", || doors.appliance.get("/seen").json() == json!(["deaf", "deaf"]));
    assert!(!doors.appliance.log.text().contains("exception"), "{}", doors.appliance.log.text());
}

#[test]
fn a_client_that_leaves_before_it_is_accepted_is_no_error() {
    let doors = start();
    let mut client = doors.appliance.client();
    client.send(format!("GET /tardy HTTP/1.1\r\nHost: test\r\n{HANDSHAKE}\r\n"));
    until("it waits", || doors.appliance.tell(&["requests"]).1.contains("/tardy"));
    drop(client);
    doors.appliance.log.wait_for("/tardy");
    doors.appliance.get("/leave");
    until("it has ended", || !doors.appliance.tell(&["requests"]).1.contains("/tardy"));
    assert!(!doors.appliance.log.text().contains("exception"), "{}", doors.appliance.log.text());
}

#[test]
fn an_application_closes_refuses_denies_and_breaks() {
    let doors = start();
    for door in DOORS {
        let mut client = doors.client(door);
        assert_eq!(open(&mut client, "/closes?x=1", "").status, 101);
        expect(&mut client, CLOSE, b"\x0f\xa1enough");
        let seen = String::from_utf8_lossy(client.arrived_within(Duration::ZERO)).into_owned();
        assert!(seen.contains("ws 127.0.0.1 1"), "{seen}");
        assert_eq!(open(&mut doors.client(door), "/refuses", "").status, 403);
        let denied = open(&mut doors.client(door), "/denies", "");
        assert_eq!((denied.status, denied.text().as_str()), (401, "not you"));
        let mut client = doors.client(door);
        assert_eq!(open(&mut client, "/breaks", "").status, 101);
        expect(&mut client, CLOSE, b"\x03\xf3");
    }
    doors.appliance.log.wait_for("RuntimeError: in a socket");
}

#[test]
fn who_reads_slowly_holds_the_sender_and_leaves_it() {
    let doors = start();
    for door in DOORS {
        let mut client = doors.client(door);
        assert_eq!(open(&mut client, "/floods", "").status, 101);
        let mut before = json!(null);
        until("the sender waits", || {
            std::thread::sleep(Duration::from_millis(100));
            let now = doors.appliance.get("/seen").json();
            now != json!([]) && std::mem::replace(&mut before, now.clone()) == now
        });
        assert!(before[0].as_u64().unwrap() < 9_999, "{before}");
        drop(client);
        until("the sender knows", || doors.appliance.get("/seen").json() == json!(["left"]));
        doors.appliance.get("/notes");
    }
}

#[test]
fn who_waits_to_send_hears_of_the_end_of_the_request() {
    let doors = start();
    for door in DOORS {
        let mut slow = doors.client(door);
        assert_eq!(open(&mut slow, "/leaver", "").status, 101);
        let mut feeder = doors.client(door);
        feeder.send("GET /feed HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut before = json!(null);
        until("the feeder waits", || {
            std::thread::sleep(Duration::from_millis(100));
            let now = doors.appliance.get("/seen").json();
            now != json!([]) && std::mem::replace(&mut before, now.clone()) == now
        });
        doors.appliance.get("/leave");
        assert_eq!(feeder.answer().text(), "it has left");
        doors.appliance.get("/notes");
    }
}

#[test]
fn a_subprotocol_cannot_break_the_answer() {
    let doors = start();
    for door in DOORS {
        assert_eq!(open(&mut doors.client(door), "/named?name=chat.v1", "").status, 101);
        for name in ["x%0D%0ASet-Cookie:%20a=b", "a,b", "a%20b", "%C3%A9"] {
            let answer = open(&mut doors.client(door), &format!("/named?name={name}"), "");
            assert_eq!((answer.status, answer.header("set-cookie")), (500, None), "{name}");
        }
    }
    doors.appliance.log.wait_for("cannot be a subprotocol");
}
