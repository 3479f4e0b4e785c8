//! The request corpus of `tests/requests` over the wire, on a worker's native listener and through the proxy: what is malformed
//! is refused and the connection closed, what is cut never reaches the application, what is valid is answered.
use crate::harness::{Answer, Appliance, Client, Setup, free_ports, root, until};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Malformed requests that the proxy lets pass, and why that harms nobody: what it sends on is written anew.
const PROXY_LETS_PASS: &[(&str, &str)] = &[
    ("003-two-empty-lines-first", "empty lines before a request are skipped"),
    ("019-fragment", "the fragment is not sent on"),
    ("160-chunk-size-too-large", "chunks are counted as they come, not as they are announced"),
    ("162-chunk-sum-too-large", "chunks are counted as they come, not as they are announced"),
    ("178-chunk-trailer-folded", "trailers are not sent on"),
    ("179-chunk-trailer-no-colon", "trailers are not sent on"),
    ("180-chunk-trailer-space-before-colon", "trailers are not sent on"),
    ("181-chunk-trailer-no-name", "trailers are not sent on"),
];

/// Valid requests that do not get through the proxy, and why.
const PROXY_REFUSES: &[(&str, &str)] = &[
    ("002-http10", "it is sent on as HTTP/1.1, which needs a Host"),
    ("006-http10-body", "it is sent on as HTTP/1.1, which needs a Host"),
    ("013-browser-query", "the proxy wants some characters of a target percent-encoded"),
    ("021-absolute-case", "a scheme in capitals"),
    ("037-most-headers", "with the proxy's own there are too many for the worker"),
    ("038-largest-head", "with the proxy's own it is too large for the worker"),
    ("068-expect-http10", "it is sent on as HTTP/1.1, which needs a Host"),
    ("073-chunked-leading-zeros", "the proxy wants a chunk size without leading zeros"),
];

struct Doors {
    appliance: Appliance,
    native: u16,
}

impl Doors {
    fn open() -> Doors {
        let native = free_ports(2);
        let appliance = Setup::app("facts:application").set("native.base_port", native).start();
        until("the worker listens", || Client::tcp(([127, 0, 0, 1], native + 1).into()).is_ok());
        Doors { appliance, native: native + 1 }
    }

    fn native(&self) -> Client {
        Client::tcp(([127, 0, 0, 1], self.native).into()).unwrap()
    }

    /// How many requests the application has seen before this one.
    fn seen(&self) -> usize {
        self.native().get("/seen").json().as_array().unwrap().len() - 1
    }
}

/// The cases of a folder, by name.
fn cases(folder: &str) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(root().join("tests/requests").join(folder)).unwrap();
    let paths = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "http"));
    let cases: BTreeMap<_, _> =
        paths.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path)).collect();
    assert!(!cases.is_empty(), "no cases in {folder}");
    cases
}

/// The bytes of an `.http` file; its form is described in `tests/requests/README.md`.
fn bytes_of(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    let message: String = text.lines().skip_while(|line| line.starts_with('#')).collect();
    unescaped(&message)
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (kind, tail) = after.split_at(1);
        rest = tail;
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "x" => {
                bytes.push(u8::from_str_radix(&tail[..2], 16).unwrap());
                rest = &tail[2..];
            }
            "{" => {
                let (inner, tail) = tail.split_once('}').unwrap();
                let (repeated, count) = inner.rsplit_once('*').unwrap();
                bytes.extend(unescaped(repeated).repeat(count.parse().unwrap()));
                rest = tail;
            }
            other => bytes.extend_from_slice(other.as_bytes()),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What came of a malformed request: how many good ones before it were answered, the status of the refusal, and whether the
/// connection was closed after it. A refusal that does not announce that leaves the connection in order: the next request on
/// it is understood.
fn outcome(mut client: Client, request: &[u8]) -> (usize, Option<u16>, bool) {
    client.send(request);
    let mut good = 0;
    loop {
        match client.try_answer() {
            Ok(answer) if answer.status < 200 => {}
            Ok(answer) if answer.status < 400 => good += 1,
            Ok(answer) if answer.header("connection") == Some("close") => {
                return (good, Some(answer.status), client.is_closed());
            }
            Ok(answer) => return (good + 1, Some(answer.status), client.get("/").status == 200),
            Err(_) => return (good, None, true),
        }
    }
}

#[test]
fn a_worker_refuses_what_is_malformed_and_closes() {
    let doors = Doors::open();
    let (mut answered, mut wrong) = (0, Vec::new());
    for (name, path) in cases("invalid") {
        let status = fs::read_to_string(path.with_extension("status")).unwrap();
        let expected: u16 = status.lines().next().unwrap().trim().parse().unwrap();
        let (good, status, is_closed) = outcome(doors.native(), &bytes_of(&path));
        answered += good;
        if status != Some(expected) || !is_closed {
            wrong.push(format!("{name}: {status:?} instead of {expected}, closed: {is_closed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(doors.seen(), answered, "a malformed request has reached the application");
}

#[test]
fn the_proxy_refuses_what_is_malformed_and_closes() {
    let doors = Doors::open();
    let (mut answered, mut wrong) = (0, Vec::new());
    for (name, path) in cases("invalid") {
        if PROXY_LETS_PASS.iter().any(|(case, _)| name == *case) {
            continue;
        }
        let (good, status, is_closed) = outcome(doors.appliance.client(), &bytes_of(&path));
        answered += good;
        if status.is_none() || !is_closed {
            wrong.push(format!("{name}: {status:?} after {good} answers, closed: {is_closed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(doors.seen(), answered, "a malformed request has reached the application");
}

#[test]
fn what_is_cut_never_reaches_the_application() {
    let doors = Doors::open();
    let mut answered = 0;
    for path in cases("cut").values() {
        for mut client in [doors.native(), doors.appliance.client()] {
            client.send(bytes_of(path));
            client.finish();
            let received = client.rest();
            answered += String::from_utf8_lossy(&received).matches("HTTP/1.1 200").count();
        }
    }
    // Good requests before the cut one are answered, and they are all that was seen.
    assert_eq!(doors.seen(), answered);
}

#[test]
fn what_is_valid_is_answered_on_both_doors() {
    let doors = Doors::open();
    let mut wrong = Vec::new();
    for (name, path) in cases("valid") {
        let expected = fs::read_to_string(path.with_extension("expect")).unwrap();
        let methods: Vec<&str> =
            expected.split("\n\n").filter_map(|block| block.split_whitespace().next()).collect();
        for (door, mut client) in [("worker", doors.native()), ("proxy", doors.appliance.client())] {
            if door == "proxy" && PROXY_REFUSES.iter().any(|(case, _)| name == *case) {
                continue;
            }
            client.send(bytes_of(&path));
            for method in &methods {
                let answer = if *method == "HEAD" {
                    client.answer_to_head()
                } else {
                    final_answer(&mut client, &name)
                };
                if answer.status != 200 {
                    wrong.push(format!("{name} on the {door}: {} {}", answer.status, answer.text()));
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The next answer that is not interim.
fn final_answer(client: &mut Client, name: &str) -> Answer {
    loop {
        let answer = client.try_answer().unwrap_or_else(|error| panic!("{name}: {error}"));
        if answer.status >= 200 {
            return answer;
        }
    }
}
