//! Lines of both styles, and how they wait.
use super::*;

fn entry() -> Entry<'static> {
    Entry {
        client: b"127.0.0.1",
        method: b"GET",
        path: b"/path",
        version: "HTTP/1.1",
        status: 200,
        bytes: 1234,
        took: Duration::from_micros(3210),
        queued: Duration::ZERO,
        app: Some(Duration::from_micros(1100)),
        worker: Some(2),
        core: Some(17),
        tries: 1,
        id: b"abc",
        reason: None,
        variables: &[],
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_709_164_799_042)
}

fn as_human(entry: &Entry<'_>) -> String {
    let mut line = Vec::new();
    human(&mut line, entry, &mut Clock::default(), now());
    String::from_utf8(line).unwrap()
}

fn as_json(entry: &Entry<'_>) -> String {
    let mut line = Vec::new();
    json(&mut line, entry, &mut Clock::default(), now());
    String::from_utf8(line).unwrap()
}

#[test]
fn a_human_line() {
    let expected = "2024-02-28T23:59:59.042Z 127.0.0.1 \"GET /path HTTP/1.1\" 200 1234B 3.2ms app=1.1ms worker=2 core=17 \
                    id=abc\n";
    assert_eq!(as_human(&entry()), expected);
    let failed = Entry {
        app: None,
        worker: None,
        core: None,
        tries: 3,
        status: 503,
        reason: Some("no-worker"),
        ..entry()
    };
    let expected = "2024-02-28T23:59:59.042Z 127.0.0.1 \"GET /path HTTP/1.1\" 503 1234B 3.2ms tries=3 id=abc \
                    reason=no-worker\n";
    assert_eq!(as_human(&failed), expected);
}

#[test]
fn a_json_line() {
    let line: serde_json::Value =
        serde_json::from_str(&as_json(&Entry { reason: Some("app-cut"), ..entry() })).unwrap();
    let expected = serde_json::json!({
        "timestamp": "2024-02-28T23:59:59.042Z", "level": "INFO", "kind": "access", "client": "127.0.0.1",
        "method": "GET", "path": "/path", "status": 200, "bytes": 1234, "ms": 3.21, "app_ms": 1.1,
        "worker": 2, "core": 17, "tries": 1, "id": "abc", "reason": "app-cut",
    });
    assert_eq!(line, expected);
}

#[test]
fn what_there_is_to_say_beside_is_added() {
    let variables = [Bytes::from_static(b"user=joe \"x\""), Bytes::from_static(b"n=")];
    let queued = Duration::from_micros(1500);
    let more = Entry { queued, reason: Some("app-error"), variables: &variables, ..entry() };
    let expected = "2024-02-28T23:59:59.042Z 127.0.0.1 \"GET /path HTTP/1.1\" 200 1234B 3.2ms queue=1.5ms app=1.1ms \
                    worker=2 core=17 id=abc reason=app-error user=\"joe \\x22x\\x22\" n=\"\"\n";
    assert_eq!(as_human(&more), expected);
    let line: serde_json::Value = serde_json::from_str(&as_json(&more)).unwrap();
    assert_eq!(line["vars"], serde_json::json!({"user": "joe \"x\"", "n": ""}));
    assert_eq!((&line["queue_ms"], &line["reason"]), (&1.5.into(), &"app-error".into()));
}

#[test]
fn hostile_bytes_cannot_leave_their_field() {
    let hostile = Entry { path: b"/\r\n\"\\\x1b[31m\x9b\xff", ..entry() };
    assert!(as_human(&hostile).contains(r#" /\x0D\x0A\x22\x5C\x1B[31m\x9B\xFF HTTP/1.1" "#));
    assert_eq!(as_human(&hostile).lines().count(), 1);
    let line = as_json(&hostile);
    assert_eq!(line.trim_end().matches(char::is_control).count(), 0);
    let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(parsed["path"], "/\r\n\"\\\u{1b}[31m\u{fffd}\u{fffd}");
}

#[test]
fn long_paths_are_cut() {
    let path = vec![b'a'; 100_000];
    let long = Entry { path: &path, ..entry() };
    assert!(as_human(&long).len() < PATH_BYTES + 200 && as_json(&long).len() < PATH_BYTES + 500);
}

#[test]
fn a_refused_request_can_still_be_named() {
    assert_eq!(named(b"\r\nGET /x\nrest"), (&b"GET"[..], &b"/x"[..]));
    assert_eq!(named(b""), (&b""[..], &b""[..]));
}

#[test]
fn a_request_without_an_id_has_a_dash() {
    let nameless = Entry { id: b"", ..entry() };
    assert!(as_human(&nameless).ends_with(" id=-\n"));
    assert!(as_json(&nameless).contains(",\"id\":\"-\""));
}

#[test]
fn lines_are_written_whole() {
    let line = |length: usize| [vec![b'a'; length - 1], vec![b'\n']].concat();
    assert_eq!(at_once(&line(ATOMIC_BYTES)), ATOMIC_BYTES);
    assert_eq!(at_once(&[line(3000), line(1000), line(1000)].concat()), 4000);
    assert_eq!(at_once(&[line(9000), line(10)].concat()), 9000, "one that is too long is alone");
}

#[test]
fn dates_are_gregorian() {
    assert_eq!(date(0), (1970, 1, 1));
    assert_eq!(date(59), (1970, 3, 1));
    assert_eq!(date(11_016), (2000, 2, 29));
    assert_eq!(date(20_636), (2026, 7, 2));
}
