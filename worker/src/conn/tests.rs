//! Connections over a stream in memory, which gives and takes as little as a test wants.
use super::*;
use crate::app::Received;
use crate::http::Limits;
use appliance_config::settings::Pace;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};

mod idle;
mod slow;
mod splits;

/// What the peer has sent piece by piece, what it has received, and how much it takes at once.
#[derive(Debug, Default)]
pub(super) struct Wire {
    pub(super) incoming: VecDeque<Vec<u8>>,
    pub(super) ended: bool,
    pub(super) received: Vec<u8>,
    pub(super) room: usize,
    pub(super) shut: bool,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.incoming.pop_front() {
            Some(mut piece) => {
                let n = piece.len().min(into.len());
                into[..n].copy_from_slice(&piece[..n]);
                if n < piece.len() {
                    self.incoming.push_front(piece.split_off(n));
                }
                Ok(n)
            }
            None if self.ended => Ok(0),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = data.len().min(self.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= n;
        self.received.extend_from_slice(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn shutdown(&mut self) -> io::Result<()> {
        self.shut = true;
        Ok(())
    }

    fn reset(&mut self) {}

    fn send_file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let mut bytes = vec![0; count];
        let n = std::os::unix::fs::FileExt::read_at(file, &mut bytes, offset)?;
        if n == 0 { Ok(0) } else { self.write(&bytes[..n]) }
    }
}

mod files;

/// A connection with everything it needs, at a time that the test sets.
pub(super) struct Bench {
    pub(super) conn: Conn<Wire>,
    rules: Rules,
    scratch: Vec<u8>,
    now: Instant,
    may_link: bool,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let rules = Rules {
            head: Limits { request_line: 200, header_bytes: 1000, headers: 10, body: 10_000 },
            body_buffer: 16,
            write_buffer: 100,
            stream_window: 1000,
            header: Duration::from_secs(10),
            body: Pace { grace: Duration::from_secs(60), rate: 100 },
            write: Duration::from_secs(60),
            keepalive: Duration::from_secs(75),
            websocket: crate::websocket::Limits {
                max_message: 1000,
                ping_interval: Some(Duration::from_secs(30)),
                ping_timeout: Duration::from_secs(20),
                compression: true,
            },
        };
        let now = Instant::now();
        let wire = Wire { room: usize::MAX, ..Wire::default() };
        Bench { conn: Conn::new(wire, &rules, now), rules, scratch: vec![0; 64], now, may_link: false }
    }

    pub(super) fn tell<T>(&mut self, tell: impl FnOnce(&mut Conn<Wire>, &mut Context<'_>) -> T) -> T {
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        let (rules, now) = (&self.rules, self.now);
        tell(
            &mut self.conn,
            &mut Context { rules, scratch: &mut self.scratch, now, date, may_link: self.may_link },
        )
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) -> Step {
        self.conn.stream().incoming.push_back(bytes.to_vec());
        self.tell(|conn, cx| conn.on_readable(false, cx))
    }

    pub(super) fn end(&mut self) -> Step {
        self.conn.stream().ended = true;
        self.tell(|conn, cx| conn.on_readable(true, cx))
    }

    pub(super) fn finish(&mut self, keep: bool) -> Step {
        self.tell(|conn, cx| conn.finish(keep, cx))
    }

    fn read_body(&mut self, most: usize) -> (BodyRead, Vec<u8>) {
        let mut into = Vec::new();
        (self.tell(|conn, cx| conn.read_body(&mut into, most, cx)), into)
    }

    fn later(&mut self, secs: u64) -> Step {
        self.now += Duration::from_secs(secs);
        assert!(self.conn.deadline().is_some_and(|deadline| deadline <= self.now), "no deadline has passed");
        self.tell(|conn, cx| conn.on_deadline(cx))
    }

    pub(super) fn sent(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.conn.stream().received)).unwrap()
    }
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

pub(super) fn request(step: Step) -> Received {
    match step {
        Step::Run(received) => *received,
        other => panic!("no request, but {other:?}"),
    }
}

pub(super) fn is_wait(step: Step) -> bool {
    matches!(step, Step::Wait)
}

#[test]
fn a_request_is_the_same_however_its_bytes_arrive() {
    let whole = b"POST /p?q HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    for cut in 1..whole.len() {
        let mut bench = Bench::new();
        assert!(is_wait(bench.receive(&whole[..cut])), "cut at {cut}");
        let received = request(bench.receive(&whole[cut..]));
        assert_eq!(
            (received.head.path(), &*received.body, received.complete),
            (&b"/p"[..], &b"hello"[..], true)
        );
    }
}

#[test]
fn pipelined_requests_are_served_one_after_the_other() {
    let mut bench = Bench::new();
    let two = [GET, b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    assert_eq!(request(bench.receive(&two)).head.path(), b"/a");
    assert!(is_wait(bench.tell(|conn, cx| conn.advance(cx))), "the second waits for the first");
    assert!(matches!(bench.finish(true), Step::More));
    assert_eq!(request(bench.tell(|conn, cx| conn.advance(cx))).head.path(), b"/b");
}

#[test]
fn the_rest_of_a_large_body_is_read_by_the_core() {
    let mut bench = Bench::new();
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n";
    let received = request(bench.receive(&[&head[..], &[b'a'; 20]].concat()));
    assert_eq!((received.body.len(), received.complete), (16, false));
    assert_eq!(bench.read_body(100), (BodyRead::Data, b"aaaa".to_vec()));
    assert_eq!(bench.read_body(100), (BodyRead::Wait, vec![]));
    assert!(matches!(bench.receive(&[b'b'; 10]), Step::Wake));
    assert_eq!(bench.read_body(6), (BodyRead::Data, b"bbbbbb".to_vec()));
    assert_eq!(bench.read_body(100), (BodyRead::Data, b"bbbb".to_vec()));
    assert_eq!(bench.read_body(100), (BodyRead::End, vec![]));
}

#[test]
fn a_body_that_is_cut_short_never_looks_complete() {
    let mut bench = Bench::new();
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n";
    request(bench.receive(&[&head[..], &[b'a'; 16]].concat()));
    bench.end();
    assert!(matches!(bench.read_body(100), (BodyRead::Cut(_), _)));

    let mut bench = Bench::new();
    bench.receive(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    bench.end();
    assert!(bench.sent().starts_with("HTTP/1.1 400 "), "a small one is refused before a core is taken");
}

#[test]
fn a_broken_chunk_ends_the_body() {
    let mut bench = Bench::new();
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    request(bench.receive(&[&head[..], b"14\r\n", &[b'a'; 20], b"\r\nnonsense"].concat()));
    assert!(matches!(bench.read_body(4), (BodyRead::Cut(_), _)));
}

#[test]
fn a_writer_waits_while_the_peer_takes_nothing() {
    let mut bench = Bench::new();
    request(bench.receive(GET));
    bench.conn.stream().room = 10;
    assert_eq!(bench.tell(|conn, cx| conn.send(&[b'x'; 300], cx)), Sent::Part(110));
    bench.conn.stream().room = 20;
    assert!(is_wait(bench.tell(|conn, cx| conn.on_writable(cx))), "80 are still unsent");
    bench.conn.stream().room = 40;
    assert!(matches!(bench.tell(|conn, cx| conn.on_writable(cx)), Step::Wake));
    bench.conn.stream().room = usize::MAX;
    bench.tell(|conn, cx| conn.on_writable(cx));
    assert_eq!(bench.tell(|conn, cx| conn.send(&[b'x'; 190], cx)), Sent::All);
    assert_eq!(bench.sent().len(), 300);
}

#[test]
fn an_answer_leaves_before_its_connection_closes() {
    let mut bench = Bench::new();
    request(bench.receive(GET));
    bench.conn.stream().room = 1;
    assert_eq!(bench.tell(|conn, cx| conn.send(b"answer", cx)), Sent::All);
    assert!(is_wait(bench.finish(false)));
    assert!(!bench.conn.stream().shut, "not everything is sent");
    bench.conn.stream().room = 100;
    assert!(is_wait(bench.tell(|conn, cx| conn.on_writable(cx))));
    assert_eq!((bench.sent().as_str(), bench.conn.stream().shut), ("answer", true));
    assert!(matches!(bench.end(), Step::Drop));
}

#[test]
fn what_is_left_of_a_body_is_skipped_or_closes_the_connection() {
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n";
    let mut bench = Bench::new();
    request(bench.receive(&[&head[..], &[b'a'; 20], GET].concat()));
    assert!(matches!(bench.finish(true), Step::More));
    assert_eq!(request(bench.tell(|conn, cx| conn.advance(cx))).head.path(), b"/a");

    let mut bench = Bench::new();
    request(bench.receive(&[&head[..], &[b'a'; 16]].concat()));
    assert!(is_wait(bench.finish(true)));
    assert!(bench.conn.stream().shut, "four bytes are still to come");
}

#[test]
fn each_phase_has_its_deadline() {
    let mut bench = Bench::new();
    bench.receive(b"GET / HT");
    bench.now += Duration::from_secs(9);
    bench.receive(b"TP/1.1\r\n");
    bench.later(1);
    assert!(bench.sent().starts_with("HTTP/1.1 408 "), "a trickle does not move the deadline of a head");

    let mut bench = Bench::new();
    bench.receive(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
    bench.later(60);
    assert!(bench.sent().starts_with("HTTP/1.1 408 "));

    let mut bench = Bench::new();
    request(bench.receive(GET));
    assert_eq!(bench.conn.deadline(), None, "an application may think as long as it wants");
    bench.finish(true);
    assert!(matches!(bench.later(75), Step::Drop), "an idle connection is closed without a word");
}

#[test]
fn a_reader_that_stops_is_given_up() {
    let mut bench = Bench::new();
    request(bench.receive(GET));
    bench.conn.stream().room = 0;
    assert_eq!(bench.tell(|conn, cx| conn.send(&[b'x'; 300], cx)), Sent::Part(100));
    assert!(matches!(bench.later(60), Step::Left));
    assert_eq!(bench.tell(|conn, cx| conn.send(b"x", cx)), Sent::Gone);
    assert!(matches!(bench.finish(true), Step::Drop));
}

#[test]
fn an_end_that_came_with_the_last_bytes_is_noticed() {
    let mut bench = Bench::new();
    bench.conn.stream().incoming.push_back(GET.to_vec());
    bench.conn.stream().ended = true;
    request(bench.tell(|conn, cx| conn.on_readable(true, cx)));
    assert_eq!(bench.tell(|conn, cx| conn.send(b"answer", cx)), Sent::All, "the peer may still read");
    assert!(matches!(bench.finish(true), Step::More));
    assert!(matches!(bench.tell(|conn, cx| conn.advance(cx)), Step::Drop));
}

#[test]
fn a_peer_that_leaves_is_reported_once_for_each_request() {
    let mut bench = Bench::new();
    request(bench.receive(&[GET, GET].concat()));
    assert!(bench.conn.is_connected());
    assert!(matches!(bench.end(), Step::Left));
    assert!(!bench.conn.is_connected());
    assert!(is_wait(bench.tell(|conn, cx| conn.on_gone(cx))));
    assert!(matches!(bench.finish(true), Step::Drop));

    let mut bench = Bench::new();
    request(bench.receive(&[GET, GET].concat()));
    assert!(matches!(bench.end(), Step::Left));
    assert!(matches!(bench.finish(true), Step::More), "it may still read");
    request(bench.tell(|conn, cx| conn.advance(cx)));
    assert!(matches!(bench.tell(|conn, cx| conn.advance(cx)), Step::Left));
}

#[test]
fn a_peer_that_leaves_behind_more_than_is_read_ahead_is_reported_too() {
    let mut bench = Bench::new();
    request(bench.receive(GET));
    bench.scratch = vec![0; READ_AHEAD];
    assert!(is_wait(bench.receive(&[b'x'; 2 * READ_AHEAD])));
    assert!(matches!(bench.end(), Step::Left));
    bench.conn.consume(1);
    assert!(
        !bench.conn.is_connected(),
        "it does not come back, although its end is not the next that is read"
    );
}

#[test]
fn a_core_that_waits_for_body_hears_that_nobody_sends_it() {
    let mut bench = Bench::new();
    request(
        bench.receive(
            &[&b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n"[..], &[b'a'; 16]].concat(),
        ),
    );
    assert_eq!(bench.read_body(10).0, BodyRead::Wait);
    assert!(matches!(bench.end(), Step::Left));
    assert_eq!(bench.read_body(10).0, BodyRead::GONE);
}

#[test]
fn a_malformed_request_gets_an_answer_and_nothing_after_it_is_read() {
    let mut bench = Bench::new();
    let step = bench.receive(&[b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", GET].concat());
    assert!(is_wait(step));
    let answer = bench.sent();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Connection: close\r\n"), "{answer}");
    assert!(is_wait(bench.receive(GET)));
    assert_eq!(bench.sent(), "");
}

#[test]
fn the_refusal_of_a_head_request_has_no_body() {
    let mut bench = Bench::new();
    bench.receive(b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
    bench.later(60);
    let answer = bench.sent();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn a_client_that_waits_is_asked_for_its_body() {
    let mut bench = Bench::new();
    bench.receive(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(bench.sent(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(request(bench.receive(b"ab")).body, b"ab");
}

#[test]
fn an_answer_that_is_still_leaving_is_no_idle_connection() {
    let mut bench = Bench::new();
    request(bench.receive(GET));
    bench.conn.stream().room = 0;
    assert_eq!(bench.tell(|conn, cx| conn.send(b"answer", cx)), Sent::All);
    assert!(is_wait(bench.finish(true)));
    assert!(!bench.conn.is_idle() && bench.conn.idle_since(&bench.rules).is_none());
    assert!(is_wait(bench.end()), "the peer has said all, but not heard all");
    bench.conn.stream().room = 100;
    assert!(matches!(bench.tell(|conn, cx| conn.on_writable(cx)), Step::Drop));
    assert_eq!(bench.sent(), "answer");
}

#[test]
fn an_idle_connection_knows_since_when() {
    let mut bench = Bench::new();
    request(bench.receive(GET));
    bench.finish(true);
    assert_eq!(bench.conn.idle_since(&bench.rules), Some(bench.now));
}

#[test]
fn body_that_has_arrived_is_never_late() {
    let mut bench = Bench::new();
    let head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 30\r\n\r\n";
    request(bench.receive(&[&head[..], &[b'a'; 16]].concat()));
    assert_eq!(bench.read_body(100).0, BodyRead::Wait);
    assert!(matches!(bench.receive(&[b'b'; 7]), Step::Wake));
    assert_eq!(bench.conn.deadline(), None, "the application may take its time now");
    assert_eq!(bench.read_body(100).0, BodyRead::Data);
    assert_eq!(bench.read_body(100).0, BodyRead::Wait);
    assert!(matches!(bench.later(60), Step::Wake));
    assert!(matches!(bench.read_body(100).0, BodyRead::Cut(_)));
}

#[test]
fn only_the_first_byte_of_a_trusted_connection_begins_a_link() {
    let hello = b"\0appliance";
    let mut bench = Bench { may_link: true, ..Bench::new() };
    assert!(matches!(bench.receive(hello), Step::Link));
    assert_eq!(bench.conn.into_parts().1, hello);
    let mut stranger = Bench::new();
    stranger.receive(hello);
    assert!(stranger.sent().starts_with("HTTP/1.1 400 "));
    let mut late = Bench { may_link: true, ..Bench::new() };
    request(late.receive(GET));
    late.finish(true);
    late.receive(hello);
    assert!(late.sent().starts_with("HTTP/1.1 400 "));
}

#[test]
fn what_has_been_used_is_forgotten_on_a_connection_that_is_never_empty() {
    let mut bench = Bench::new();
    bench.receive(&GET[..1]);
    for _ in 0..1000 {
        request(bench.receive(&[&GET[1..], &GET[..1]].concat()));
        assert!(matches!(bench.finish(true), Step::More));
    }
    let kept = bench.conn.input.capacity();
    assert!(kept < 10 * GET.len(), "{kept} bytes are kept");
}
