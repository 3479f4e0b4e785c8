//! Whole connections: any bytes in any pieces, any room to write, time that passes and a peer that leaves, against an
//! application that reads all, some or nothing of its bodies. Never a panic; never another request than a plain reading of
//! the same bytes finds; none after a last one; and what is sent are whole answers, up to one that closes.
//! How to run it: docs/http.md.
#![no_main]

use appliance_config::settings::Pace;
use appliance_worker::app::Received;
use appliance_worker::conn::{BodyRead, Conn, Context, Rules, Sent, Step, Stream};
use appliance_worker::http::body::Decoder;
use appliance_worker::http::{Limits, Scan, head};
use libfuzzer_sys::fuzz_target;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

/// Bytes of an input that say what happens; they are gone through again and again.
const SCRIPT: usize = 16;
const LIMITS: Limits = Limits { request_line: 100, header_bytes: 600, headers: 12, body: 1000 };
const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// The peer: what it has sent, what it has got, and how much it takes.
#[derive(Debug, Default)]
struct Wire {
    incoming: Vec<u8>,
    is_ended: bool,
    received: Vec<u8>,
    room: usize,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.incoming.len());
        if count == 0 && !self.is_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        into[..count].copy_from_slice(&self.incoming[..count]);
        self.incoming.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.received.extend_from_slice(&data[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Wire {
    fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) {}
}

/// A request as a plain reading of the whole stream finds it.
struct Expected {
    line: Vec<u8>,
    body: Vec<u8>,
    is_complete: bool,
    keep_alive: bool,
}

fn read_plainly(mut bytes: &[u8]) -> Vec<Expected> {
    let mut found = Vec::new();
    while let Ok(Some(head)) = head::parse(bytes, &LIMITS, &mut Scan::default()) {
        bytes = &bytes[head.len()..];
        let (mut decoder, mut body) = (Decoder::new(head.framing(), LIMITS.body), Vec::new());
        let progress = decoder.decode(bytes, &mut body, usize::MAX);
        let is_complete = decoder.is_done();
        found.push(Expected { line: line_of(&head), body, is_complete, keep_alive: head.keep_alive() });
        match progress {
            Ok(progress) if is_complete => bytes = &bytes[progress.consumed..],
            _ => break,
        }
    }
    found
}

fn line_of(head: &head::Head) -> Vec<u8> {
    [head.method().as_bytes(), b" ", head.target()].concat()
}

/// The request that runs.
struct Running {
    keep_alive: bool,
    is_complete: bool,
    /// The body will never be complete.
    is_cut: bool,
    body: Vec<u8>,
    answer: Vec<u8>,
}

struct World<'a> {
    conn: Conn<Wire>,
    rules: Rules,
    scratch: [u8; 64],
    now: Instant,
    expected: &'a [Expected],
    begun: usize,
    running: Option<Running>,
    /// The application has waited, and not been woken.
    is_parked: bool,
    is_over: bool,
    /// A deadline has passed, which may cut an answer.
    is_late: bool,
}

impl<'a> World<'a> {
    fn new(script: &[u8; SCRIPT], expected: &'a [Expected]) -> World<'a> {
        let rules = Rules {
            head: LIMITS,
            body_buffer: [1, 16, 100, 2000][usize::from(script[0] % 4)],
            write_buffer: 100,
            stream_window: 1000,
            header: Duration::from_secs(10),
            body: Pace { grace: Duration::from_secs(60), rate: 100 },
            write: Duration::from_secs(60),
            keepalive: Duration::from_secs(75),
            websocket: appliance_worker::websocket::Limits {
                max_message: 1000,
                ping_interval: Some(Duration::from_secs(30)),
                ping_timeout: Duration::from_secs(20),
            },
        };
        let now = Instant::now();
        let conn = Conn::new(Wire::default(), &rules, now);
        World {
            conn,
            rules,
            scratch: [0; 64],
            now,
            expected,
            begun: 0,
            running: None,
            is_parked: false,
            is_over: false,
            is_late: false,
        }
    }

    fn tell<T>(&mut self, tell: impl FnOnce(&mut Conn<Wire>, &mut Context<'_>) -> T) -> T {
        let (rules, now) = (&self.rules, self.now);
        let mut cx = Context { rules, scratch: &mut self.scratch, now, date: DATE, may_link: false };
        tell(&mut self.conn, &mut cx)
    }

    /// Does what the connection asks for.
    fn follow(&mut self, step: Step) {
        match step {
            Step::Wait => {}
            Step::Run(received) => self.begin(*received),
            Step::Wake | Step::Left => self.is_parked = false,
            Step::More => {
                let step = self.tell(|conn, cx| conn.advance(cx));
                self.follow(step);
            }
            Step::Drop => self.is_over = true,
            Step::Link => panic!("a stranger made a link"),
        }
    }

    fn begin(&mut self, received: Received) {
        assert!(self.running.is_none(), "two requests at once");
        assert!(!self.is_over, "a request of a connection that is over");
        let before = self.begun.checked_sub(1).map(|last| &self.expected[last]);
        assert!(
            before.is_none_or(|last| last.keep_alive && last.is_complete),
            "a request after the last one"
        );
        let expected = &self.expected[self.begun];
        assert_eq!(line_of(&received.head), expected.line);
        assert!(expected.body.starts_with(&received.body), "not the body that was sent");
        assert!(!received.complete || (expected.is_complete && expected.body == received.body));
        self.begun += 1;
        let keep_alive = received.head.keep_alive();
        let (body, is_complete) = (received.body, received.complete);
        self.running = Some(Running { keep_alive, is_complete, is_cut: false, body, answer: Vec::new() });
        self.is_parked = false;
    }

    /// Gives the application its turn: it reads on if `reads`, and answers otherwise.
    fn run(&mut self, reads: bool, most: usize) {
        let Some(mut running) = self.running.take_if(|_| !self.is_parked) else { return };
        if running.answer.is_empty() && reads && !running.is_complete && !running.is_cut {
            let expected = &self.expected[self.begun - 1];
            match self.tell(|conn, cx| conn.read_body(&mut running.body, most, cx)) {
                BodyRead::Data => {}
                BodyRead::Wait => self.is_parked = true,
                BodyRead::End => {
                    assert!(
                        expected.is_complete && running.body == expected.body,
                        "a body that is not complete"
                    );
                    running.is_complete = true;
                }
                BodyRead::Cut(_) => (running.is_cut, running.keep_alive) = (true, false),
            }
            assert!(expected.body.starts_with(&running.body), "not the body that was sent");
            self.running = Some(running);
            return;
        }
        if running.answer.is_empty() {
            running.keep_alive &= running.is_complete || self.conn.is_body_complete();
            let connection = if running.keep_alive { "" } else { "Connection: close\r\n" };
            running.answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {most}\r\n{connection}\r\n").into_bytes();
            running.answer.extend(vec![b'x'; most]);
        }
        match self.tell(|conn, cx| conn.send(&running.answer, cx)) {
            Sent::Part(count) => {
                running.answer.drain(..count);
                (self.is_parked, self.running) = (true, Some(running));
            }
            sent => {
                let keep = running.keep_alive && sent == Sent::All;
                let step = self.tell(|conn, cx| conn.finish(keep, cx));
                self.follow(step);
            }
        }
    }

    /// One event, as `what` says.
    fn happen(&mut self, what: u8, unsent: &mut &[u8]) {
        let size = usize::from(what / 8);
        match what % 8 {
            0..4 => {
                let (piece, rest) = unsent.split_at(unsent.len().min(size * size + 1));
                self.conn.stream().incoming.extend_from_slice(piece);
                *unsent = rest;
                let step = self.tell(|conn, cx| conn.on_readable(false, cx));
                self.follow(step);
            }
            4 => {
                self.conn.stream().room += size * 10;
                let step = self.tell(|conn, cx| conn.on_writable(cx));
                self.follow(step);
            }
            5 => {
                self.now += Duration::from_secs(size as u64);
                if self.conn.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.is_late = true;
                    let step = self.tell(|conn, cx| conn.on_deadline(cx));
                    self.follow(step);
                }
            }
            what => self.run(what == 6, size * 10 + 1),
        }
    }

    /// The peer has sent all, and takes all; the application comes to its end.
    fn end(&mut self) {
        self.conn.stream().is_ended = true;
        self.conn.stream().room = usize::MAX;
        let step = self.tell(|conn, cx| conn.on_readable(true, cx));
        self.follow(step);
        while !self.is_over {
            let step = self.tell(|conn, cx| conn.on_writable(cx));
            self.follow(step);
            if self.running.is_none() {
                break;
            }
            assert!(!self.is_parked, "nobody wakes the application at the end");
            self.run(true, 7);
        }
    }
}

/// What was sent are whole answers, of which only the last closes the connection; `is_cut`: but for its end.
fn check_answers(mut bytes: &[u8], is_cut: bool) {
    while !bytes.is_empty() {
        let mut room = [httparse::EMPTY_HEADER; 8];
        let mut answer = httparse::Response::new(&mut room);
        let Ok(httparse::Status::Complete(end)) = answer.parse(bytes) else {
            assert!(is_cut, "no answer: {}", bytes.escape_ascii());
            return;
        };
        let find =
            |wanted: &str| answer.headers.iter().find(|field| field.name == wanted).map(|field| field.value);
        let length = find("Content-Length").map_or(0, |value| {
            std::str::from_utf8(value).ok().and_then(|value| value.parse().ok()).expect("a length")
        });
        bytes = match bytes.get(end + length..) {
            Some(rest) => rest,
            // The refusal of a `HEAD` has no body, whatever its head says.
            None if bytes.len() == end && answer.code >= Some(400) => return,
            None => return assert!(is_cut, "half an answer: {}", bytes.escape_ascii()),
        };
        assert!(
            find("Connection") != Some(b"close") || bytes.is_empty(),
            "something follows the last answer"
        );
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((script, mut unsent)) = bytes.split_first_chunk::<SCRIPT>() else { return };
    let expected = read_plainly(unsent);
    let mut world = World::new(script, &expected);
    for what in script[1..].iter().cycle().take(4 * SCRIPT + unsent.len()) {
        if world.is_over {
            break;
        }
        world.happen(*what, &mut unsent);
    }
    let was_over = world.is_over;
    if !was_over {
        world.end();
    }
    let is_cut = was_over || world.is_late;
    check_answers(&world.conn.stream().received, is_cut);
});
