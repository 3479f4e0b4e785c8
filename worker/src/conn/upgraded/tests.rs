//! An upgraded connection over a stream that the test fills and empties.
use crate::conn::tests::{Bench, is_wait, request};
use crate::conn::{Conn, Step};
use crate::websocket::{Incoming, Message, Posted, code};

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// Masked with zeros.
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";

fn upgraded(behind: &[u8]) -> Bench {
    let mut bench = Bench::new();
    request(bench.receive(&[UPGRADE, behind].concat()));
    assert!(bench.tell(|conn, cx| conn.open_socket(b"101 ", cx)));
    assert_eq!(bench.sent(), "101 \r\n");
    bench
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

fn receive(bench: &mut Bench) -> Incoming {
    bench.tell(Conn::receive_message)
}

#[test]
fn what_came_with_the_request_is_the_first_message() {
    let mut bench = upgraded(HELLO);
    assert_eq!(receive(&mut bench), Incoming::Message(text("hello")));
    assert_eq!(receive(&mut bench), Incoming::Wait);
    assert!(matches!(bench.receive(HELLO), Step::Wake));
    assert_eq!(receive(&mut bench), Incoming::Message(text("hello")));
}

#[test]
fn what_is_unpacked_later_is_missed_by_nobody() {
    let mut bench = Bench::new();
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let upgrade = std::str::from_utf8(UPGRADE).unwrap().replace("\r\n\r\n", offer);
    request(bench.receive(upgrade.as_bytes()));
    assert!(bench.tell(|conn, cx| conn.open_socket(b"101 ", cx)));
    // A thousand zeros, as zlib packs them.
    let zeros = b"\xc2\x8e\0\0\0\0\x62\x60\x18\x05\xa3\x21\x30\x1a\x02\xc3\x3d\x04\0\0";
    bench.receive(&[&zeros.repeat(100)[..], b"\x89\x81\0\0\0\0p"].concat());
    for number in 0..100 {
        let incoming = receive(&mut bench);
        assert!(
            matches!(&incoming, Incoming::Message(message) if message.len() == 1000),
            "{number}: {incoming:?}"
        );
    }
    assert_eq!(receive(&mut bench), Incoming::Wait);
    assert!(bench.conn.stream().received.ends_with(b"\x8a\x01p"));
}

#[test]
fn a_ping_is_answered_although_nobody_asks() {
    let mut bench = upgraded(b"");
    assert!(is_wait(bench.receive(b"\x89\x81\0\0\0\0p")));
    assert_eq!(bench.conn.stream().received, b"\x8a\x01p");
}

#[test]
fn a_sender_waits_while_the_peer_takes_nothing() {
    let mut bench = upgraded(b"");
    bench.conn.stream().room = 0;
    let send = |bench: &mut Bench| bench.tell(|conn, cx| conn.send_message(&text(&"x".repeat(60)), cx));
    assert_eq!(
        [send(&mut bench), send(&mut bench), send(&mut bench)],
        [Posted::Taken, Posted::Taken, Posted::Full]
    );
    bench.conn.stream().room = 62;
    assert!(is_wait(bench.tell(|conn, cx| conn.on_writable(cx))), "62 of 124 are still unsent");
    bench.conn.stream().room = 62;
    assert!(matches!(bench.tell(|conn, cx| conn.on_writable(cx)), Step::Wake));
    assert_eq!(send(&mut bench), Posted::Taken);
}

#[test]
fn a_peer_that_reads_no_pongs_is_not_read_either() {
    let mut bench = upgraded(b"");
    bench.conn.stream().room = 0;
    let ping = [b"\x89\xfd\0\0\0\0", &[b'p'; 125][..]].concat();
    bench.receive(&ping.repeat(101));
    assert!(bench.conn.unsent() < 1000, "{} bytes are kept", bench.conn.unsent());
    bench.conn.stream().room = usize::MAX;
    while !is_wait(bench.tell(|conn, cx| conn.on_writable(cx))) {}
    while !is_wait(bench.tell(|conn, cx| conn.advance(cx))) {}
    assert_eq!(bench.conn.stream().received.len(), 101 * 127);
}

#[test]
fn an_unread_message_outlives_its_connection() {
    let mut bench = upgraded(b"");
    bench.receive(HELLO);
    bench.end();
    assert!(bench.conn.stream().shut, "the peer sees our end at once");
    assert_eq!(receive(&mut bench), Incoming::Message(text("hello")));
    assert!(matches!(receive(&mut bench), Incoming::Closed(closed) if closed.code == code::ABNORMAL));
    assert!(matches!(bench.finish(true), Step::Drop));
}

#[test]
fn the_end_of_the_request_closes_and_waits_for_the_peer() {
    let mut bench = upgraded(b"");
    assert!(is_wait(bench.finish(true)));
    assert_eq!(bench.conn.stream().received, b"\x88\x02\x03\xe8");
    assert!(!bench.conn.stream().shut);
    assert!(is_wait(bench.receive(b"\x88\x82\0\0\0\0\x03\xe8")));
    assert!(bench.conn.stream().shut);
    assert!(matches!(bench.end(), Step::Drop));
}

#[test]
fn a_request_that_fails_says_so_in_a_close_frame() {
    let mut bench = upgraded(b"");
    bench.tell(|conn, cx| conn.abort(cx));
    bench.finish(false);
    assert_eq!(bench.conn.stream().received, b"\x88\x02\x03\xf3");
}

#[test]
fn nothing_that_is_no_frame_is_ever_sent() {
    let mut bench = upgraded(b"");
    bench.tell(|conn, cx| conn.reject(504, "too late", false, cx));
    assert_eq!(bench.conn.stream().received, b"\x88\x02\x03\xf3");
}
