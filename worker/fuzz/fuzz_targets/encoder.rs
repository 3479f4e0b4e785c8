//! What an application may say of its answer against a client: an answer is refused, or it reads as exactly one message
//! with the status, the header fields and the body that were given, whatever stands in them. How to run it: docs/http.md.
#![no_main]

use appliance_worker::http::declared::{self, Declared, Invalid};
use appliance_worker::http::plan::{Answer, Body, Length, Plan};
use appliance_worker::http::{Version, encode};
use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

/// Names and values that mean something to the server are rarely met by chance.
const NAMES: [&str; 8] =
    ["Content-Length", "connection", "Date", "Transfer-Encoding", "X-A", "Trailer", "Set-Cookie", "TE"];
const VALUES: [&str; 6] = ["0", "5", "close", "keep-alive, close", "chunked", "a\tb"];

#[derive(Arbitrary, Debug)]
enum Text {
    Known(u8),
    Any(Vec<u8>),
}

impl Text {
    fn bytes<'a>(&'a self, known: &[&'a str]) -> &'a [u8] {
        match self {
            Text::Known(index) => known[usize::from(*index) % known.len()].as_bytes(),
            Text::Any(bytes) => bytes,
        }
    }
}

#[derive(Arbitrary, Debug)]
struct Said {
    is_old: bool,
    head_only: bool,
    keep_alive: bool,
    /// The application is through with its body before the head leaves.
    is_whole: bool,
    status: u16,
    reason: Vec<u8>,
    fields: Vec<(Text, Text)>,
    pieces: Vec<Vec<u8>>,
}

/// What was written for an answer, and what a client must find in it.
struct Written {
    bytes: Vec<u8>,
    status: u16,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    plan: Plan,
    body: Vec<u8>,
}

fn write(said: &Said) -> Result<Written, Invalid> {
    let line = [said.status.to_string().as_bytes(), b" ", &said.reason].concat();
    let status = declared::status(&line)?;
    let (mut bytes, mut declared, mut fields) = (Vec::new(), Declared::default(), Vec::new());
    encode::status_line(&mut bytes, &line);
    for (name, value) in &said.fields {
        let (name, value) = (name.bytes(&NAMES), value.bytes(&VALUES));
        if declared.take(name, value)? {
            encode::header(&mut bytes, name, value);
            fields.push((name.to_vec(), value.trim_ascii().to_vec()));
        }
    }
    let version = if said.is_old { Version::Http10 } else { Version::Http11 };
    let plan = Answer {
        version,
        head_only: said.head_only,
        status,
        declared: declared.length,
        whole: said.is_whole.then(|| said.pieces.iter().map(|piece| piece.len() as u64).sum()),
        keep_alive: said.keep_alive && !declared.close,
    }
    .plan();
    assert!(!(declared.close && plan.keep_alive));
    encode::framing(&mut bytes, &plan);
    encode::end_of_head(&mut bytes);
    let body = write_body(&mut bytes, &plan, &said.pieces);
    Ok(Written { bytes, status, fields, plan, body })
}

/// Writes the pieces as planned: what the client must get of them.
fn write_body(bytes: &mut Vec<u8>, plan: &Plan, pieces: &[Vec<u8>]) -> Vec<u8> {
    let whole = pieces.concat();
    match plan.body {
        Body::None { .. } => Vec::new(),
        Body::Length(length) => {
            let mut counter = Length::new(length);
            let sent: Vec<u8> =
                pieces.iter().flat_map(|piece| &piece[..counter.take(piece.len())]).copied().collect();
            assert_eq!(sent.len() as u64 + counter.missing(), length);
            bytes.extend_from_slice(&sent);
            sent
        }
        Body::Chunked => {
            pieces.iter().for_each(|piece| encode::chunk(bytes, piece));
            bytes.extend_from_slice(encode::LAST_CHUNK);
            whole
        }
        Body::UntilClose => {
            bytes.extend_from_slice(&whole);
            whole
        }
    }
}

/// Reads the chunks of a body to the end of `bytes`.
fn read_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(bytes) else {
            panic!("no chunk: {}", bytes.escape_ascii());
        };
        let end = start + size as usize;
        body.extend_from_slice(&bytes[start..end]);
        assert_eq!(&bytes[end..end + 2], b"\r\n", "the end of a chunk");
        bytes = &bytes[end + 2..];
        if size == 0 {
            assert_eq!(bytes, b"", "something follows the last chunk");
            return body;
        }
    }
}

/// Reads the answer as a client does (RFC 9112 section 6.3).
fn check(written: &Written, head_only: bool) {
    let mut room = vec![httparse::EMPTY_HEADER; written.fields.len() + 2];
    let mut read = httparse::Response::new(&mut room);
    let Ok(httparse::Status::Complete(end)) = read.parse(&written.bytes) else {
        panic!("no head: {}", written.bytes.escape_ascii());
    };
    assert_eq!(read.code, Some(written.status));
    let (given, ours) = read.headers.split_at(written.fields.len());
    for (field, (name, value)) in given.iter().zip(&written.fields) {
        assert_eq!((field.name.as_bytes(), field.value.trim_ascii()), (&name[..], &value[..]));
    }
    let ours = |wanted: &str| ours.iter().find(|field| field.name == wanted).map(|field| field.value);
    let length =
        ours("Content-Length").map(|value| std::str::from_utf8(value).expect("digits").parse::<u64>());
    assert_eq!(length.transpose().expect("a number"), written.plan.length());
    assert_eq!(ours("Connection") == Some(b"close"), !written.plan.keep_alive);
    let rest = &written.bytes[end..];
    let is_empty = head_only || matches!(written.status, 204 | 304);
    match (ours("Transfer-Encoding"), written.plan.length()) {
        _ if is_empty => assert_eq!(rest, b"", "{}", written.bytes.escape_ascii()),
        (Some(coding), None) => {
            assert_eq!(coding, b"chunked");
            assert_eq!(read_chunks(rest), written.body);
        }
        (None, Some(length)) => {
            assert!(rest.len() as u64 <= length, "longer than announced");
            assert_eq!(rest, written.body);
        }
        (None, None) => {
            assert!(!written.plan.keep_alive && rest == written.body, "no end but that of the connection")
        }
        (Some(_), Some(_)) => panic!("two framings: {}", written.bytes.escape_ascii()),
    }
}

fuzz_target!(|said: Said| {
    if let Ok(written) = write(&said) {
        check(&written, said.head_only);
    }
});
