//! Frames there and back, and what is none.
use super::*;

const HEAD: usize = 1000;

fn one(bytes: &[u8]) -> Result<Option<Frame<&[u8]>>, Violation> {
    let Some(header) = Header::parse(bytes, HEAD)? else { return Ok(None) };
    header.with(&bytes[HEADER..HEADER + header.length]).map(Some)
}

fn made(kind: Kind, stream: StreamId, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, kind, stream, flags, payload);
    out
}

#[test]
fn every_kind_comes_back_as_it_was_sent() {
    let mut reset = Vec::new();
    put_reset(&mut reset, 7, Reason::Refused);
    let mut raised = Vec::new();
    put_reset(&mut raised, 7, Reason::Raised);
    let mut window = Vec::new();
    put_window(&mut window, 7, 70_000);
    for (bytes, expected) in [
        (
            made(Kind::Request, 7, END | ANNOUNCE, b"h"),
            Frame::Request { stream: 7, flags: 9, head: &b"h"[..] },
        ),
        (made(Kind::Response, 7, END, b"h"), Frame::Response { stream: 7, end: true, head: b"h" }),
        (made(Kind::Data, 7, 0, b"body"), Frame::Data { stream: 7, end: false, bytes: b"body" }),
        (reset, Frame::Reset { stream: 7, reason: Reason::Refused }),
        (raised, Frame::Reset { stream: 7, reason: Reason::Raised }),
        (window, Frame::Window { stream: 7, credit: 70_000 }),
        (made(Kind::Ping, 0, ACK, b"12345678"), Frame::Ping { ack: true, token: *b"12345678" }),
        (made(Kind::GoAway, 0, 0, b""), Frame::GoAway),
        (made(Kind::Entered, u32::MAX, 0, b""), Frame::Entered { stream: u32::MAX }),
    ] {
        for end in 0..bytes.len() {
            assert_eq!(one(&bytes[..end]), Ok(None), "{end} bytes of {expected:?}");
        }
        assert_eq!(one(&bytes), Ok(Some(expected)));
    }
}

#[test]
fn a_header_can_be_read_before_its_payload() {
    let bytes = made(Kind::Data, 7, END, b"body");
    let header = Header { kind: Kind::Data, flags: END, stream: 7, length: 4 };
    assert_eq!(Header::peek(&bytes[..HEADER - 1], HEAD), Ok(None));
    assert_eq!(Header::peek(&bytes[..HEADER], HEAD), Ok(Some(header)));
}

#[test]
fn a_head_is_written_in_place() {
    let mut out = b"before".to_vec();
    let at = begin(&mut out, Kind::Response, 3, 0);
    out.extend_from_slice(b"payload");
    finish(&mut out, at);
    assert_eq!(one(&out[6..]), Ok(Some(Frame::Response { stream: 3, end: false, head: &b"payload"[..] })));
}

#[test]
fn what_is_not_a_frame_is_a_violation() {
    let violation = |bytes: &[u8]| one(bytes).unwrap_err();
    assert_eq!(violation(&made(Kind::Data, 7, 2, b"")), Violation::UnknownFlags { kind: "Data", flags: 2 });
    let mut reserved = made(Kind::Data, 7, 0, b"");
    reserved[11] = 1;
    assert_eq!(violation(&reserved), Violation::UnknownFlags { kind: "Data", flags: 0 });
    let mut unknown = made(Kind::Data, 7, 0, b"");
    unknown[8] = 9;
    assert_eq!(violation(&unknown), Violation::UnknownKind(9));
    assert_eq!(violation(&made(Kind::Data, 0, 0, b"")), Violation::Misplaced("Data"));
    assert_eq!(violation(&made(Kind::Ping, 1, 0, b"12345678")), Violation::Misplaced("Ping"));
    assert_eq!(violation(&made(Kind::Window, 1, 0, b"123")), Violation::Malformed("Window"));
    assert_eq!(violation(&made(Kind::Ping, 0, 0, b"1234567")), Violation::Malformed("Ping"));
}

#[test]
fn a_frame_that_is_too_long_is_refused_by_its_header() {
    let header = |kind, length| Header { kind, flags: 0, stream: 1, length }.bytes();
    assert_eq!(Header::parse(&header(Kind::Data, MOST_DATA), HEAD), Ok(None));
    for (kind, most) in [(Kind::Data, MOST_DATA), (Kind::Request, HEAD), (Kind::Reset, 4)] {
        assert_eq!(
            Header::parse(&header(kind, most + 1), HEAD),
            Err(Violation::TooLong { kind: kind.name(), length: most as u32 + 1, most: most as u32 })
        );
    }
}

#[test]
fn an_unknown_reason_is_a_failure() {
    assert_eq!(
        one(&made(Kind::Reset, 1, 0, &[0; 4])),
        Ok(Some(Frame::Reset { stream: 1, reason: Reason::Failed }))
    );
}
