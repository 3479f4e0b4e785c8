//! Answers from files, which leave past the connection's buffer.
use super::*;

/// A file with these bytes that nobody else can open.
fn file(name: &str, bytes: &[u8]) -> File {
    let path = std::env::temp_dir().join(format!("appliance-conn-{}-{name}", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let file = File::open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

/// A connection whose request is being served.
fn busy() -> Bench {
    let mut bench = Bench::new();
    let step = bench.receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(step, Step::Run(_)));
    bench
}

fn send_file(bench: &mut Bench, file: &File, offset: u64, count: usize) -> FileSent {
    bench.tell(|conn, cx| conn.send_file(file, offset, count, cx))
}

#[test]
fn a_file_leaves_from_any_place_and_has_an_end() {
    let (mut bench, file) = (busy(), file("any-place", b"0123456789"));
    assert_eq!(send_file(&mut bench, &file, 3, 4), FileSent::Part(4));
    assert_eq!(send_file(&mut bench, &file, 8, 4), FileSent::Part(2));
    assert_eq!(send_file(&mut bench, &file, 10, 4), FileSent::End);
    assert_eq!(bench.sent(), "345689");
}

#[test]
fn what_was_sent_before_leaves_first() {
    let (mut bench, file) = (busy(), file("before", b"0123456789"));
    bench.conn.stream().room = 3;
    assert_eq!(bench.tell(|conn, cx| conn.send(b"head", cx)), Sent::All);
    assert_eq!(send_file(&mut bench, &file, 0, 10), FileSent::Wait);
    bench.conn.stream().room = 5;
    assert!(matches!(bench.tell(|conn, cx| conn.on_writable(cx)), Step::Wake));
    assert_eq!(send_file(&mut bench, &file, 0, 10), FileSent::Part(4));
    assert_eq!(bench.sent(), "head0123");
}

#[test]
fn a_file_waits_for_room_and_for_progress() {
    let (mut bench, file) = (busy(), file("progress", b"0123456789"));
    bench.conn.stream().room = 0;
    assert_eq!(send_file(&mut bench, &file, 0, 10), FileSent::Wait);
    bench.conn.stream().room = 5;
    assert!(matches!(bench.tell(|conn, cx| conn.on_writable(cx)), Step::Wake));
    assert!(matches!(bench.tell(|conn, cx| conn.on_writable(cx)), Step::Wait), "nobody waits any more");
    assert_eq!(send_file(&mut bench, &file, 0, 10), FileSent::Part(5));
    assert_eq!(bench.conn.deadline(), None, "the client has made progress");
    assert_eq!(send_file(&mut bench, &file, 5, 5), FileSent::Wait);
    assert!(matches!(bench.later(60), Step::Left));
    assert_eq!(send_file(&mut bench, &file, 5, 5), FileSent::Gone);
}
