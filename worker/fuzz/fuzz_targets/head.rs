//! Any bytes against the parser of request heads: a head, a refusal or not complete, the same however they are cut, and
//! never a panic. What a head says is held against a second reading of the same bytes, which knows nothing of httparse.
//! How to run it: docs/http.md.
#![no_main]

use appliance_worker::http::{Framing, Head, Limits, Refusal, Scan, Version, head};
use libfuzzer_sys::fuzz_target;

/// Small, so that an input of some hundred bytes reaches them.
const LIMITS: Limits = Limits { request_line: 100, header_bytes: 600, headers: 12, body: 1000 };

/// What a parser found: the refusal, or what the head says, and after how many bytes it knew.
type Verdict = Option<Result<(usize, String), Refusal>>;

fn verdict(found: Result<Option<Head>, Refusal>) -> Verdict {
    match found {
        Ok(head) => head.map(|head| Ok((head.len(), format!("{head:?}")))),
        Err(refusal) => Some(Err(refusal)),
    }
}

/// The lines of a head, read as plainly as possible.
fn check_lines(head: &Head, bytes: &[u8]) {
    let text = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let mut lines =
        text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").expect("a bare line feed"));
    let version = if head.version() == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let first = [head.method().as_bytes(), b" ", head.target(), b" ", version.as_bytes()].concat();
    assert_eq!(lines.next(), Some(&first[..]), "the request line");
    let mut fields = head.headers();
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|b| *b == b':').expect("a line without a colon");
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !name.contains(&b'_') {
            assert_eq!(fields.next().map(|(name, value)| (name.as_bytes(), value)), Some((name, value)));
        }
    }
    assert!(fields.next().is_none(), "a field that was not sent");
}

/// What is promised of every head.
fn check_promises(head: &Head) {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    assert!(!head.method().is_empty() && head.method().bytes().all(is_token), "{head:?}");
    assert!(head.target().iter().all(u8::is_ascii_graphic), "{head:?}");
    assert!(head.path() == b"*" || head.path().starts_with(b"/"), "{head:?}");
    for (name, value) in head.headers() {
        assert!(!name.is_empty() && name.bytes().all(is_token), "{head:?}");
        assert!(value.iter().all(|b| *b == b'\t' || !b.is_ascii_control()), "{head:?}");
    }
    let all = |wanted: &str| -> Vec<&[u8]> {
        head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect()
    };
    assert!(all("host").len() == 1 || head.version() == Version::Http10, "{head:?}");
    match (&all("content-length")[..], &all("transfer-encoding")[..], head.framing()) {
        ([], [], Framing::None) => {}
        ([length], [], Framing::Length(n)) => {
            assert_eq!(std::str::from_utf8(length).expect("digits").parse(), Ok(n));
            assert!(n <= LIMITS.body && length.iter().all(u8::is_ascii_digit));
        }
        ([], [codings @ .., last], Framing::Chunked) => {
            assert!(last.eq_ignore_ascii_case(b"chunked") && codings.iter().all(|coding| coding.is_empty()));
            assert_eq!(head.version(), Version::Http11);
        }
        (lengths, codings, framing) => panic!("{framing:?} of {lengths:?} and {codings:?}"),
    }
    let closes = all("connection").iter().any(|value| {
        value.split(|b| *b == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    assert!(!(closes && head.keep_alive()), "{head:?}");
}

fuzz_target!(|bytes: &[u8]| {
    let whole = head::parse(bytes, &LIMITS, &mut Scan::default());
    if let Ok(Some(head)) = &whole {
        assert!(head.len() <= LIMITS.header_bytes + 2 && head.headers().count() <= LIMITS.headers);
        check_lines(head, &bytes[..head.len()]);
        check_promises(head);
    }
    let mut scan = Scan::default();
    let mut prefixes = (0..=bytes.len()).map(|end| verdict(head::parse(&bytes[..end], &LIMITS, &mut scan)));
    let trickled = prefixes.find(Option::is_some).flatten();
    assert_eq!(trickled, verdict(whole), "byte by byte, and at once");
});
