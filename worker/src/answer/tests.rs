//! Answers of both kinds of wire, cut as their framing wants it.
use super::*;

fn answer(declared: Option<u64>, status: u16) -> Answer {
    on(Wire::Http, declared, status)
}

fn on(wire: Wire, declared: Option<u64>, status: u16) -> Answer {
    let version = crate::http::Version::Http11;
    let facts = Facts { version, head_only: false, status, declared, whole: None, keep_alive: true };
    Answer::new(wire, status, facts.plan())
}

#[test]
fn an_announced_length_is_never_exceeded_and_a_lack_is_known() {
    let mut answer = answer(Some(5), 200);
    assert_eq!(answer.piece(b"abc").content, b"abc");
    assert_eq!(answer.missing(), 2);
    assert_eq!(answer.piece(b"defg").content, b"de");
    assert_eq!((answer.missing(), answer.dropped(), answer.end()), (0, 2, &b""[..]));
}

#[test]
fn chunks_are_framed_and_an_empty_one_is_not_sent() {
    let mut answer = answer(None, 200);
    let piece = answer.piece(b"0123456789");
    assert_eq!(
        (&*piece.before, piece.content, piece.after),
        (&b"a\r\n"[..], &b"0123456789"[..], &b"\r\n"[..])
    );
    let empty = answer.piece(b"");
    assert_eq!((&*empty.before, empty.content, empty.after), (&b""[..], &b""[..], &b""[..]));
    assert_eq!((answer.end(), answer.missing()), (&b"0\r\n\r\n"[..], 0));
}

#[test]
fn bytes_of_a_file_are_framed_like_others() {
    let piece = answer(None, 200).piece_of(1 << 20);
    assert_eq!((&*piece.before, piece.content, piece.after), (&b"100000\r\n"[..], 1 << 20, &b"\r\n"[..]));
    let mut answer = answer(Some(5), 200);
    let piece = answer.piece_of(9);
    assert_eq!((piece.content, piece.last, answer.dropped()), (5, true, 4));
}

#[test]
fn an_answer_without_body_sends_none() {
    let mut answer = answer(Some(3), 304);
    assert_eq!(answer.piece(b"abc").content, b"");
    assert_eq!((answer.end(), answer.missing(), answer.dropped()), (&b""[..], 0, 0));
    assert!(answer.has_no_body());
}

#[test]
fn a_stream_needs_no_framing_but_knows_its_last_piece() {
    let mut answer = on(Wire::Link, None, 200);
    let plain = |content: &'static [u8], last| Piece { before: Vec::new(), content, after: b"", last };
    assert_eq!(answer.piece(b"abc"), plain(b"abc", false));
    assert_eq!(answer.end(), b"");
    let mut answer = on(Wire::Link, Some(5), 200);
    assert_eq!(answer.piece(b"abc"), plain(b"abc", false));
    assert_eq!(answer.piece(b"defg"), plain(b"de", true));
}
