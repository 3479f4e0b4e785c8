//! The request corpus of `tests/requests` over the wire, on a worker's native listener and through the proxy: what is malformed
//! is refused and the connection closed, what is cut never reaches the application. What is valid is in `doors`.
use crate::doors::Doors;
use crate::harness::{Client, root};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many requests the application has seen before this one.
fn seen(doors: &Doors) -> usize {
    doors.native().get("/seen").json().as_array().unwrap().len() - 1
}

/// The cases of a folder, by name.
pub fn cases(folder: &str) -> BTreeMap<String, PathBuf> {
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
pub fn bytes_of(path: &Path) -> Vec<u8> {
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

/// What came of a malformed request.
#[derive(Debug)]
struct Outcome {
    /// Requests that the application has answered.
    answered: usize,
    /// Status of the refusal.
    refused: Option<u16>,
    then: Then,
}

/// What became of the connection.
#[derive(Debug, PartialEq)]
enum Then {
    Closed,
    /// The next request on it was understood.
    InOrder,
    Stuck,
}

/// Reads answers up to a refusal, and sees what becomes of the connection.
fn outcome(mut client: Client) -> Outcome {
    let mut answered = 0;
    loop {
        let (refused, then) = match client.try_answer() {
            Ok(answer) if answer.status < 200 => continue,
            Ok(answer) if answer.status < 400 => {
                answered += 1;
                continue;
            }
            Ok(answer) if answer.header("connection") == Some("close") => {
                (Some(answer.status), if client.is_closed() { Then::Closed } else { Then::Stuck })
            }
            Ok(answer) => {
                let is_understood = client.get("/").status == 200;
                answered += usize::from(is_understood);
                (Some(answer.status), if is_understood { Then::InOrder } else { Then::Stuck })
            }
            Err(_) => (None, if client.is_ended() { Then::Closed } else { Then::Stuck }),
        };
        return Outcome { answered, refused, then };
    }
}

#[test]
fn a_worker_refuses_what_is_malformed_and_closes() {
    let doors = Doors::open("facts:application");
    let (mut answered, mut wrong) = (0, Vec::new());
    for (name, path) in cases("invalid") {
        let status = fs::read_to_string(path.with_extension("status")).unwrap();
        let expected: u16 = status.lines().next().unwrap().trim().parse().unwrap();
        let mut client = doors.native();
        client.send(bytes_of(&path));
        let outcome = outcome(client);
        answered += outcome.answered;
        if outcome.refused != Some(expected) || outcome.then != Then::Closed {
            wrong.push(format!("{name}: {outcome:?} instead of {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen(&doors), answered, "a malformed request has reached the application");
}

#[test]
fn the_proxy_refuses_what_is_malformed_and_keeps_no_connection_in_disorder() {
    let doors = Doors::open("facts:application");
    let (mut answered, mut wrong) = (0, Vec::new());
    for (name, path) in cases("invalid") {
        let mut client = doors.appliance.client();
        client.send(bytes_of(&path));
        let outcome = outcome(client);
        answered += outcome.answered;
        if outcome.refused.is_none() || outcome.then == Then::Stuck {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen(&doors), answered, "a malformed request has reached the application");
}

#[test]
fn what_is_cut_never_reaches_the_application() {
    let doors = Doors::open("facts:application");
    let mut answered = 0;
    for path in cases("cut").values() {
        for mut client in [doors.native(), doors.appliance.client()] {
            client.send(bytes_of(path));
            client.finish();
            let received = client.rest();
            answered += String::from_utf8_lossy(&received).matches("HTTP/1.1 200").count();
        }
    }
    // Before two of them there is a good request, which may be seen on each door. The proxy need not answer it: its client
    // has left.
    let seen = seen(&doors);
    assert!((answered..=4).contains(&seen), "{seen} requests were seen, {answered} answered");
}
