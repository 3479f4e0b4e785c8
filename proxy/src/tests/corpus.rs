//! The requests of `tests/requests` (its README describes the files): what the worker's parser refuses, the proxy refuses
//! with the same status; what is valid there passes here, and ends at the same byte.
use super::harness::{Proxy, echo};
use crate::strict::HeadCheck;
use appliance_config::settings::Limits;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

fn limits(limits: &mut Limits) {
    (limits.request_line, limits.header_bytes, limits.headers, limits.body) =
        (8 << 10, 64 << 10, 100, 16 << 20);
}

/// The cases of a folder: name, bytes to send, and the text of the file beside it.
fn cases(folder: &str, beside: &str) -> Vec<(String, Vec<u8>, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/requests").join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    paths.sort();
    assert!(!paths.is_empty());
    let case = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let sent: String = text.lines().skip_while(|line| line.starts_with('#')).collect();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, unescape(&sent), std::fs::read_to_string(path.with_extension(beside)).unwrap_or_default())
    };
    paths.into_iter().map(case).collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let Some((plain, rest)) = text.split_once('\\') else { return text.as_bytes().to_vec() };
    let (bytes, rest) = match rest.as_bytes()[0] {
        b'x' => (vec![u8::from_str_radix(&rest[1..3], 16).unwrap()], &rest[3..]),
        b'{' => {
            let (inner, rest) = rest[1..].split_once('}').unwrap();
            let (repeated, count) = inner.rsplit_once('*').unwrap();
            (unescape(repeated).repeat(count.parse().unwrap()), rest)
        }
        letter => (
            vec![*b"\r\n\t\0\\".get(b"rnt0\\".iter().position(|b| *b == letter).unwrap()).unwrap()],
            &rest[1..],
        ),
    };
    [plain.as_bytes(), &bytes, &unescape(rest)].concat()
}

#[test]
fn valid_requests_pass_and_end_where_the_worker_says() {
    let mut ours = crate::tests::harness::settings().limits;
    limits(&mut ours);
    for (name, bytes, expected) in cases("valid", "expect") {
        let mut rest = &bytes[..];
        let requests: Vec<_> = expected.trim().split("\n\n").collect();
        for _ in &requests {
            let passed = HeadCheck::default().advance(rest, &ours);
            let Ok(Some(passed)) = passed else { panic!("{name}: {passed:?}") };
            let mut body = passed.body;
            let taken = body.take(&rest[passed.size..]).unwrap_or_else(|failure| panic!("{name}: {failure}"));
            assert!(body.is_complete(), "{name}");
            rest = &rest[passed.size + taken..];
        }
        // What stands behind the last request of a connection is nobody's.
        let is_last = requests.last().is_some_and(|request| request.lines().any(|line| line == "close"));
        assert!(rest.is_empty() || is_last, "{name}");
    }
}

#[test]
fn invalid_requests_are_refused_with_the_same_status() {
    let proxy = Proxy::with(vec![echo()], |settings| limits(&mut settings.limits));
    let mut wrong = Vec::new();
    for (name, bytes, expected) in cases("invalid", "status") {
        let mut stream = proxy.client().stream;
        // Whoever refuses early need not read to the end.
        let _ = stream.write_all(&bytes);
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers);
        let answers = String::from_utf8_lossy(&answers);
        let statuses = answers.split("HTTP/1.1 ").filter_map(|rest| rest.get(..3)?.parse::<u16>().ok());
        let expected: u16 = expected.lines().next().unwrap().parse().unwrap();
        if statuses.last() != Some(expected) {
            wrong.push(format!("{name}: expected {expected}, got {answers:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
