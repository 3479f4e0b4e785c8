//! Walks `tests/requests`: every case is fed whole, byte by byte and cut in two at every place, and must come out the
//! same each time. The form of the files is described in their README.

use super::body::Decoder;
use super::{Framing, Head, Limits, Refusal, Scan, Version, head};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const LIMITS: Limits = Limits { request_line: 8 << 10, header_bytes: 64 << 10, headers: 100, body: 16 << 20 };
/// Longer cases are cut at some places only; a prime, so as not to hit the same place of every line.
const CUT_EVERYWHERE: usize = 2048;
const STRIDE: usize = 997;

/// What a connection made of the bytes it received.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Whole requests, as the lines of an `.expect` file.
    requests: Vec<Vec<Vec<u8>>>,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// Between two requests.
    Clean,
    /// In the head or the body of a request.
    Cut(&'static str),
    Refused(Refusal),
}

/// Does what a connection does, in memory: gathers bytes, reads heads and bodies from their front.
#[derive(Default)]
struct Reader {
    buf: Vec<u8>,
    scan: Scan,
    current: Option<(Head, Decoder, Vec<u8>)>,
    requests: Vec<Vec<Vec<u8>>>,
    /// The last request is over, and what follows is not looked at.
    is_over: bool,
}

impl Reader {
    fn feed(&mut self, bytes: &[u8], room: usize) -> Result<(), Refusal> {
        self.buf.extend_from_slice(bytes);
        while !self.is_over {
            let Some((head, decoder, body)) = &mut self.current else {
                let Some(head) = head::parse(&self.buf, &LIMITS, &mut self.scan)? else {
                    return Ok(());
                };
                self.buf.drain(..head.len());
                let decoder = Decoder::new(head.framing(), LIMITS.body);
                self.current = Some((head, decoder, Vec::new()));
                continue;
            };
            let before = body.len();
            let progress = decoder.decode(&self.buf, body, room)?;
            assert!(body.len() - before <= room, "the decoder wrote more than there was room for");
            self.buf.drain(..progress.consumed);
            if progress.done {
                self.requests.push(describe(head, body));
                self.is_over = !head.keep_alive();
                self.current = None;
            } else if progress.consumed == 0 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn end(&self) -> End {
        match &self.current {
            Some((_, decoder, _)) => {
                assert!(!decoder.is_done());
                End::Cut("body")
            }
            None if self.is_over || self.buf.is_empty() => End::Clean,
            None => End::Cut("head"),
        }
    }
}

/// What comes of `parts`, received one after another.
fn outcome<'a>(parts: impl IntoIterator<Item = &'a [u8]>, room: usize) -> Outcome {
    let mut reader = Reader::default();
    let refused = parts.into_iter().find_map(|part| reader.feed(part, room).err());
    let end = refused.map_or_else(|| reader.end(), End::Refused);
    Outcome { requests: reader.requests, end }
}

/// A request as all the lines that an `.expect` file may have, in their order.
fn describe(head: &Head, body: &[u8]) -> Vec<Vec<u8>> {
    let version = match head.version() {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    };
    // An empty value leaves no space at the end of a line, where no editor would show it.
    let line = |words: &[&[u8]]| words.concat().trim_ascii_end().to_vec();
    let mut lines = vec![
        line(&[head.method().as_bytes(), b" ", head.target(), b" ", version.as_bytes()]),
        line(&[b"path ", head.path()]),
        line(&[b"query ", head.query()]),
    ];
    lines.extend(head.host().map(|host| line(&[b"host ", host])));
    for (name, value) in head.headers() {
        assert!(head.header(&name.to_ascii_uppercase()).is_some());
        lines.push(line(&[b"header ", name.as_bytes(), b": ", value]));
    }
    match head.framing() {
        Framing::None => {}
        Framing::Length(n) => lines.push(format!("framing length {n}").into_bytes()),
        Framing::Chunked => lines.push(b"framing chunked".to_vec()),
    }
    let flags = [
        (!head.keep_alive(), "close"),
        (head.expect_continue(), "expect-continue"),
        (head.upgrade(), "upgrade"),
    ];
    lines.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| word.as_bytes().to_vec()));
    if !body.is_empty() {
        lines.push([b"body ", body].concat());
    }
    lines
}

/// The bytes that a text with escapes stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let (escape, after) = rest[at + 1..].split_at(1);
        rest = after;
        match escape {
            "r" => out.push(b'\r'),
            "n" => out.push(b'\n'),
            "t" => out.push(b'\t'),
            "0" => out.push(0),
            "\\" => out.push(b'\\'),
            "x" => {
                out.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                rest = &rest[2..];
            }
            "{" => {
                let (inner, after) = rest.split_once('}').unwrap();
                let (part, count) = inner.rsplit_once('*').unwrap();
                out.extend(unescape(part).repeat(count.parse().unwrap()));
                rest = after;
            }
            _ => panic!("\\{escape} is no escape"),
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

struct Case {
    path: PathBuf,
    sent: Vec<u8>,
    expected: String,
}

impl Case {
    fn read(path: PathBuf, extension: &str) -> Case {
        let text = fs::read_to_string(&path).unwrap();
        let sent = unescape(&text.lines().skip_while(|line| line.starts_with('#')).collect::<String>());
        let beside = path.with_extension(extension);
        let expected = fs::read_to_string(&beside).unwrap_or_else(|e| panic!("{}: {e}", beside.display()));
        Case { path, sent, expected }
    }

    /// What comes of the case, which is the same however it is cut.
    fn outcome(&self) -> Outcome {
        let whole = outcome([&self.sent[..]], usize::MAX);
        assert_eq!(outcome(self.sent.chunks(1), 1), whole, "{}: byte by byte", self.path.display());
        let stride = if self.sent.len() > CUT_EVERYWHERE { STRIDE } else { 1 };
        for at in (1..self.sent.len()).step_by(stride) {
            let (first, second) = self.sent.split_at(at);
            assert_eq!(outcome([first, second], 7), whole, "{}: cut at {at}", self.path.display());
        }
        whole
    }
}

fn cases(folder: &str, extension: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/requests").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == "http"));
    paths.sort();
    assert!(paths.len() > 10, "the cases are where this test looks for them");
    paths.into_iter().map(|path| Case::read(path, extension)).collect()
}

#[test]
fn valid_requests_are_understood() {
    /// Lines that are compared only where a case gives some of their kind.
    const OPTIONAL: [&str; 4] = ["path", "query", "host", "header"];
    for case in cases("valid", "expect") {
        let Outcome { requests, end } = case.outcome();
        assert_eq!(end, End::Clean, "{}", case.path.display());
        let expected: Vec<&str> = case.expected.trim_end().split("\n\n").collect();
        assert_eq!(requests.len(), expected.len(), "{}: requests", case.path.display());
        for (request, expected) in requests.iter().zip(expected) {
            let kind = |line: &[u8]| line.split(|&b| b == b' ').next().map(<[u8]>::to_vec);
            let expected: Vec<Vec<u8>> = expected.lines().map(unescape).collect();
            let told = |line: &&Vec<u8>| {
                let optional = OPTIONAL.iter().any(|word| kind(line).as_deref() == Some(word.as_bytes()));
                !optional || expected.iter().any(|other| kind(other) == kind(line))
            };
            let found: Vec<String> =
                request.iter().filter(told).map(|l| l.escape_ascii().to_string()).collect();
            let expected: Vec<String> = expected.iter().map(|l| l.escape_ascii().to_string()).collect();
            assert_eq!(found, expected, "{}", case.path.display());
        }
    }
}

#[test]
fn invalid_requests_are_refused_for_the_right_reason() {
    for case in cases("invalid", "status") {
        let End::Refused(Refusal { status, reason, .. }) = case.outcome().end else {
            panic!("{}: not refused", case.path.display());
        };
        assert_eq!(format!("{status}\n{reason}\n"), case.expected, "{}", case.path.display());
    }
}

#[test]
fn requests_that_are_cut_short_are_neither_served_nor_refused() {
    for case in cases("cut", "expect") {
        let End::Cut(place) = case.outcome().end else {
            panic!("{}: not noticed", case.path.display());
        };
        assert_eq!(place, case.expected.trim_end(), "{}", case.path.display());
    }
}

/// What all the cases of a folder send.
pub(crate) fn messages(folder: &str) -> Vec<Vec<u8>> {
    let extension = if folder == "invalid" { "status" } else { "expect" };
    cases(folder, extension).into_iter().map(|case| case.sent).collect()
}

/// Pseudo-random numbers (xorshift64), the same in every run.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub(crate) fn below(&mut self, range: Range<usize>) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        range.start + self.0 as usize % (range.end - range.start)
    }

    /// Replaces some bytes of a message by what parsers stumble over.
    pub(crate) fn damage(&mut self, sent: &mut Vec<u8>) {
        const DAMAGE: &[&[u8]] =
            &[b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"\x80", b"_", b"%"];
        for _ in 0..self.below(1..4) {
            let start = self.below(0..sent.len());
            let end = sent.len().min(start + self.below(0..3));
            sent.splice(start..end, DAMAGE[self.below(0..DAMAGE.len())].iter().copied());
        }
    }
}

#[test]
fn damaged_requests_come_out_the_same_however_they_are_cut() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut cases = [messages("valid"), messages("invalid")].concat();
    cases.retain(|sent| sent.len() < CUT_EVERYWHERE);
    for _ in 0..20_000 {
        let mut sent = cases[dice.below(0..cases.len())].clone();
        dice.damage(&mut sent);
        let whole = outcome([&sent[..]], usize::MAX);
        let size = dice.below(1..20);
        assert_eq!(outcome(sent.chunks(size), size), whole, "{}", sent.escape_ascii());
    }
}
