//! Links over a socket in memory, which gives and takes as little as a test wants.
use super::*;
use crate::answer::Cause;
use crate::conn::{BodyRead, Outcome, Sent};
use crate::cores::Cores;
use crate::http::Limits;
use appliance_config::settings::Pace;
use appliance_link::frame::MOST_DATA;
use appliance_link::head::{RequestFacts, Response, put_request};
use std::io::{self, IoSlice};
use std::time::Duration;

mod hostile;
mod sending;

/// What the proxy has sent and not been read, what it has received, and how much of either the kernel moves at once.
#[derive(Debug)]
struct Wire {
    incoming: Vec<u8>,
    ended: bool,
    received: Vec<u8>,
    /// Bytes that may still be written.
    room: usize,
    /// Bytes of one read.
    piece: usize,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.piece.min(self.incoming.len()).min(into.len());
        if n == 0 && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        into[..n].copy_from_slice(&self.incoming[..n]);
        self.incoming.drain(..n);
        Ok(n)
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(data)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = self.received.len();
        slices.iter().for_each(|slice| self.received.extend_from_slice(slice));
        self.received.truncate(before.saturating_add(self.room));
        let count = self.received.len() - before;
        self.room -= count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";
const BODY_BUFFER: usize = 1000;
const WRITE_BUFFER: usize = 64 * 1024;
const WINDOW: usize = 4000;
const MOST_HEAD: usize = 2 * 1024 * 1024;

/// What a worker has sent, without its hello: `(stream, what)`, and the bodies' lengths.
type Seen = (StreamId, String);

/// A link whose hellos have been exchanged, and cores to serve its requests.
struct Bench {
    link: Link<Wire>,
    cores: Cores<()>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with_window(1 << 20)
    }

    /// `window`: what the proxy takes on each stream.
    fn with_window(window: usize) -> Bench {
        let rules = Rules {
            head: Limits { request_line: 200, header_bytes: 1000, headers: 10, body: 10_000 },
            body_buffer: BODY_BUFFER,
            write_buffer: WRITE_BUFFER,
            stream_window: WINDOW,
            header: Duration::ZERO,
            body: Pace { grace: Duration::ZERO, rate: 1 },
            write: Duration::ZERO,
            keepalive: Duration::ZERO,
            websocket: crate::websocket::Limits {
                max_message: 1000,
                ping_interval: Some(Duration::from_secs(30)),
                ping_timeout: Duration::from_secs(20),
                compression: true,
            },
        };
        let wire = Wire {
            incoming: Vec::new(),
            ended: false,
            received: Vec::new(),
            room: usize::MAX,
            piece: usize::MAX,
        };
        let mut bench = Bench { link: Link::new(wire, false, &rules, Instant::now()), cores: Cores::new(10) };
        bench.receive(&Hello::new(window).bytes());
        bench.link.flush();
        let hello = std::mem::take(&mut bench.link.socket().received);
        assert_eq!(Hello::parse(&hello), Ok(Some(Hello { window: WINDOW as u32 })));
        bench
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.link.socket().incoming.extend_from_slice(bytes);
        self.read();
    }

    fn read(&mut self) {
        self.link.on_readable(false, &mut [0; 64 * 1024]);
    }

    fn news(&mut self) -> Vec<News> {
        std::iter::from_fn(|| self.link.next_news()).collect()
    }

    /// The request that has come.
    fn arrived(&mut self) -> Arrived {
        match self.news().pop() {
            Some(News::Run(arrived)) => *arrived,
            other => panic!("no request, but {other:?}"),
        }
    }

    /// A `GET` on this stream comes and is given a core.
    fn serve(&mut self, id: StreamId) -> CoreId {
        self.receive(&get(id));
        self.enter(id)
    }

    fn enter(&mut self, id: StreamId) -> CoreId {
        self.arrived();
        let core = self.cores.claim().unwrap();
        self.link.enter(id, core);
        core
    }

    /// A head without fields.
    fn send_head(&mut self, id: StreamId, core: CoreId) {
        let mut payload = Vec::new();
        head::put_response(&mut payload, &ResponseFacts { status: 200, ..Default::default() });
        self.link.send_head(id, core, &payload, false);
    }

    /// How much is written from now on; the socket says that there is room.
    fn give_room(&mut self, room: usize) {
        self.link.socket().room = room;
        self.link.on_writable();
    }

    /// Everything that was sent, as text: `200`, `data 5`, `data 5 end`, `reset Gone`, …
    fn sent(&mut self) -> Vec<Seen> {
        self.give_room(usize::MAX);
        let bytes = std::mem::take(&mut self.link.socket().received);
        let mut seen = Vec::new();
        let mut rest = &bytes[..];
        while let Some(header) = Header::parse(rest, MOST_HEAD).unwrap() {
            let frame = header.with(&rest[HEADER..][..header.length]).unwrap();
            seen.push((header.stream, words(&frame)));
            rest = &rest[HEADER + header.length..];
        }
        assert!(rest.is_empty(), "a frame is not whole");
        seen
    }
}

fn words(frame: &Frame<&[u8]>) -> String {
    let mark = |end: bool| if end { " end" } else { "" };
    match frame {
        Frame::Response { end, head, .. } => {
            format!("{}{}", Response::parse(head).unwrap().facts.status, mark(*end))
        }
        Frame::Data { end, bytes, .. } => format!("data {}{}", bytes.len(), mark(*end)),
        Frame::Reset { reason, .. } => format!("reset {reason:?}"),
        Frame::Window { credit, .. } => format!("window {credit}"),
        Frame::Ping { ack, token } => format!("ping {ack} {}", token[0]),
        Frame::GoAway => "go away".to_owned(),
        Frame::Entered { .. } => "entered".to_owned(),
        Frame::Request { .. } => panic!("a worker sends no requests"),
    }
}

fn seen(frames: &[(StreamId, &str)]) -> Vec<Seen> {
    frames.iter().map(|(stream, what)| (*stream, (*what).to_owned())).collect()
}

fn request(id: StreamId, flags: u8, length: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out, Kind::Request, id, flags);
    put_request(&mut out, &RequestFacts { length, method: b"GET", target: b"/a", ..Default::default() });
    frame::finish(&mut out, at);
    out
}

fn get(id: StreamId) -> Vec<u8> {
    request(id, END, None)
}

fn data(id: StreamId, flags: u8, count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Data, id, flags, &vec![b'x'; count]);
    out
}

fn reset(id: StreamId) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_reset(&mut out, id, Reason::Gone);
    out
}

#[test]
fn a_request_is_the_same_however_its_bytes_arrive() {
    let whole = [request(7, 0, Some(5)), data(7, 0, 2), data(7, END, 3)].concat();
    for piece in 1..=whole.len() {
        let mut bench = Bench::new();
        bench.link.socket().piece = piece;
        bench.link.socket().incoming = whole.clone();
        let mut news = Vec::new();
        while !bench.link.socket().incoming.is_empty() {
            bench.read();
            news.extend(bench.news().into_iter().filter(|news| !matches!(news, News::More)));
        }
        let [News::Run(arrived)] = &news[..] else { panic!("{news:?} in pieces of {piece}") };
        assert_eq!((arrived.stream, arrived.received.head.path()), (7, &b"/a"[..]));
        assert_eq!((&*arrived.received.body, arrived.received.complete), (&b"xxxxx"[..], true));
    }
}

#[test]
fn a_request_runs_when_enough_of_its_body_is_there() {
    let mut bench = Bench::new();
    bench.receive(&[request(1, 0, None), data(1, 0, BODY_BUFFER - 1)].concat());
    assert!(bench.news().is_empty());
    bench.receive(&data(1, 0, 1));
    let arrived = bench.arrived();
    assert_eq!((arrived.received.body.len(), arrived.received.complete), (BODY_BUFFER, false));
}

#[test]
fn a_client_that_waits_is_asked_for_the_body() {
    let mut bench = Bench::new();
    bench.receive(&request(1, EXPECT, Some(5)));
    assert_eq!(bench.sent(), seen(&[(1, "100")]));
    bench.receive(&data(1, END, 5));
    bench.enter(1);
}

#[test]
fn a_core_reads_the_rest_and_the_proxy_may_send_more() {
    let mut bench = Bench::new();
    bench.receive(&[request(1, 0, None), data(1, 0, WINDOW)].concat());
    let core = bench.enter(1);
    let mut into = Vec::new();
    assert_eq!(bench.link.read_body(1, core, &mut into, 100), BodyRead::Wait);
    assert_eq!(bench.sent(), seen(&[(1, "window 4000")]), "all that came went with the request");
    bench.receive(&data(1, 0, 300));
    let news = bench.news();
    assert!(matches!(news[..], [News::Wake(woken)] if woken == core), "{news:?}");
    assert_eq!((bench.link.read_body(1, core, &mut into, 200), into.len()), (BodyRead::Data, 200));
    bench.receive(&data(1, END, 0));
    assert_eq!((bench.link.read_body(1, core, &mut into, 200), into.len()), (BodyRead::Data, 300));
    assert!(bench.news().is_empty() && bench.link.is_body_complete(1, core));
    assert_eq!(bench.link.read_body(1, core, &mut into, 200), BodyRead::End);
}

#[test]
fn a_waiting_request_can_be_taken_back() {
    let mut bench = Bench::new();
    bench.receive(&get(1));
    bench.arrived();
    bench.receive(&reset(1));
    let news = bench.news();
    assert!(matches!(news[..], [News::Left(1)]), "{news:?}");
    bench.receive(&[request(2, 0, None), reset(2), reset(3), data(4, 0, 9)].concat());
    assert!(bench.news().is_empty(), "it was not even complete, and others are not known");
}

#[test]
fn a_core_whose_client_has_gone_finds_out() {
    let mut bench = Bench::new();
    bench.receive(&[request(1, 0, None), data(1, 0, BODY_BUFFER)].concat());
    let core = bench.enter(1);
    assert_eq!(bench.link.read_body(1, core, &mut Vec::new(), 100), BodyRead::Wait);
    bench.sent();
    bench.receive(&reset(1));
    let news = bench.news();
    assert!(matches!(news[..], [News::Gone(whose)] if whose == core), "{news:?}");
    assert_eq!(bench.link.read_body(1, core, &mut Vec::new(), 100), BodyRead::GONE);
    assert_eq!(bench.link.send(1, core, b"late", false), Sent::Gone);
    assert!(!bench.link.is_connected(1, core));
    bench.link.finish(1, core, Outcome::Keep);
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_late_core_never_reaches_the_next_request_of_its_stream() {
    let mut bench = Bench::new();
    let old = bench.serve(1);
    bench.receive(&reset(1));
    let new = bench.serve(1);
    bench.send_head(1, old);
    assert_eq!(bench.link.send(1, old, b"x", true), Sent::Gone);
    bench.link.finish(1, old, Outcome::Cut);
    assert!(bench.link.is_connected(1, new) && !bench.link.is_connected(1, old));
    assert_eq!(bench.sent(), []);
}

#[test]
fn who_goes_away_serves_what_was_on_its_way_and_refuses_the_rest() {
    let mut bench = Bench::new();
    let core = bench.serve(1);
    let now = Instant::now();
    bench.link.go_away(now);
    let on_its_way = bench.serve(2);
    let mut heeded = Vec::new();
    frame::put(&mut heeded, Kind::Ping, 0, ACK, &GOING);
    bench.receive(&[heeded, get(3), data(3, END, 5)].concat());
    assert_eq!(bench.link.idle_since(), None);
    for (id, core) in [(1, core), (2, on_its_way)] {
        bench.send_head(id, core);
        bench.link.finish(id, core, Outcome::Keep);
    }
    let expected = [(0, "go away"), (0, "ping false 103"), (3, "reset Refused")];
    let answers = [(1, "200"), (1, "data 0 end"), (2, "200"), (2, "data 0 end")];
    assert_eq!(bench.sent(), seen(&[&expected[..], &answers].concat()));
    assert_eq!(bench.link.idle_since(), Some(now));
}

#[test]
fn the_end_of_the_socket_is_the_end_of_every_request() {
    let mut bench = Bench::new();
    let waiting = bench.serve(1);
    bench.serve(2);
    bench.link.read_body(1, waiting, &mut Vec::new(), 1);
    bench.receive(&[request(3, 0, None), data(3, 0, BODY_BUFFER)].concat());
    let reading = bench.enter(3);
    bench.link.read_body(3, reading, &mut Vec::new(), 1);
    bench.receive(&get(4));
    bench.arrived();
    bench.link.socket().ended = true;
    bench.read();
    let news = bench.news();
    let (end, others) = news.split_last().unwrap();
    assert!(matches!(end, News::Over(None)));
    let told = others.iter().filter(|news| matches!(news, News::Gone(core) if *core == reading));
    let withdrawn = others.iter().filter(|news| matches!(news, News::Withdrawn(4)));
    assert_eq!((told.count(), withdrawn.count(), others.len()), (1, 1, 4), "{others:?}");
}

#[test]
fn pings_come_back() {
    let mut bench = Bench::new();
    let mut pings = Vec::new();
    frame::put(&mut pings, Kind::Ping, 0, 0, b"12345678");
    frame::put(&mut pings, Kind::Ping, 0, ACK, b"87654321");
    bench.receive(&pings);
    assert_eq!(bench.sent(), seen(&[(0, "ping true 49")]));
}

#[test]
fn nothing_is_watched_for_room_unless_somebody_needs_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.link.take_interest(), None);
    bench.link.on_writable();
    assert_eq!((bench.link.take_interest(), bench.link.take_interest()), (Some(false), None));
    let core = bench.serve(1);
    bench.link.socket().room = 0;
    bench.send_head(1, core);
    assert!(bench.link.is_to_be_scheduled() && !bench.link.is_to_be_scheduled());
    bench.link.flush();
    assert_eq!(bench.link.take_interest(), Some(true));
    assert!(!bench.link.outbox.is_empty() && !bench.link.is_to_be_scheduled());
    bench.give_room(usize::MAX);
    assert_eq!((bench.link.outbox.is_empty(), bench.link.take_interest()), (true, None));
}
