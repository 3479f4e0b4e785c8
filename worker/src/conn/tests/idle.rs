//! What a connection costs while nothing happens on it: thousands of them wait for the next request of a browser.
use super::*;
use crate::listen::Socket;

/// Bytes that the buffers of an idle connection may keep together.
const KEPT: usize = 2048;

fn kept(bench: &Bench) -> usize {
    bench.conn.input.capacity() + bench.conn.output.capacity()
}

#[test]
fn a_connection_is_small() {
    let size = size_of::<Conn<Socket>>();
    assert!(size <= 512, "{size} bytes");
}

#[test]
fn a_large_request_and_a_large_answer_leave_nothing_behind() {
    let mut bench = Bench::new();
    bench.rules.body_buffer = 10_000;
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n";
    request(bench.receive(&[&head[..], &[b'a'; 9000]].concat()));
    bench.tell(|conn, cx| conn.send(&[b'x'; 9000], cx));
    assert!(is_wait(bench.finish(true)));
    assert!(kept(&bench) <= KEPT, "{} bytes", kept(&bench));
}

#[test]
fn an_answer_that_leaves_late_leaves_nothing_behind_either() {
    let mut bench = Bench::new();
    bench.rules.write_buffer = 10_000;
    request(bench.receive(GET));
    bench.conn.stream().room = 10;
    assert_eq!(bench.tell(|conn, cx| conn.send(&[b'x'; 9000], cx)), Sent::All);
    assert!(is_wait(bench.finish(true)));
    bench.conn.stream().room = 10_000;
    assert!(is_wait(bench.tell(|conn, cx| conn.on_writable(cx))));
    assert!(bench.conn.is_idle());
    assert!(kept(&bench) <= KEPT, "{} bytes", kept(&bench));
}
