//! Links against a proxy that has lost its mind: whatever comes, the link goes on or is over; it never panics and never
//! holds more than its bounds.
use super::*;

/// Numbers without a pattern, the same in each run (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize
    }
}

impl Bench {
    /// Serves whatever there is to serve, as an application would that reads all and answers with much.
    fn carry_on(&mut self) {
        for news in self.news() {
            if let News::Run(arrived) = news
                && let Some(core) = self.cores.claim()
            {
                let id = arrived.stream;
                self.link.enter(id, core);
                while self.link.read_body(id, core, &mut Vec::new(), 700) == BodyRead::Data {}
                self.send_head(id, core);
                let sent = self.link.send(id, core, &[b'x'; 20_000], false);
                self.link.finish(id, core, if sent == Sent::All { Outcome::Keep } else { Outcome::Cut });
                self.cores.release(core);
            }
        }
        self.link.flush();
    }

    /// What ended the link.
    fn violation(&mut self) -> Option<Violation> {
        match self.news().pop() {
            Some(News::Over(violation)) => violation,
            other => panic!("the link goes on: {other:?}"),
        }
    }
}

#[test]
fn a_breach_of_the_protocol_ends_the_link() {
    let frame = |kind, stream, payload: &[u8]| {
        let mut out = Vec::new();
        frame::put(&mut out, kind, stream, 0, payload);
        out
    };
    let mut window = Vec::new();
    frame::put_window(&mut window, 1, u32::MAX);
    for (bytes, expected) in [
        (frame(Kind::Response, 1, b""), Violation::Misplaced("Response")),
        (frame(Kind::Entered, 1, b""), Violation::Misplaced("Entered")),
        (frame(Kind::GoAway, 0, b""), Violation::Misplaced("GoAway")),
        (frame(Kind::Request, 1, b"short"), Violation::Malformed("Request")),
        ([get(1), get(1)].concat(), Violation::OpenedTwice(1)),
        ([get(1), data(1, 0, 1)].concat(), Violation::AfterEnd(1)),
        ([get(1), window].concat(), Violation::WindowOverflow(1)),
        ([request(1, 0, None), data(1, 0, WINDOW), data(1, 0, 1)].concat(), Violation::Overrun(1)),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Violation::UnknownKind(b'T')),
    ] {
        let mut bench = Bench::new();
        bench.receive(&bytes);
        assert_eq!(bench.violation(), Some(expected));
        assert!(bench.link.streams.is_empty());
    }
}

#[test]
fn a_head_that_is_too_long_is_refused_by_its_header() {
    let mut bench = Bench::new();
    let header = Header { kind: Kind::Request, flags: END, stream: 1, length: 10_000 };
    bench.receive(&header.bytes());
    assert!(matches!(bench.violation(), Some(Violation::TooLong { kind: "Request", .. })));
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3000 {
        let mut bench = Bench::new();
        let bytes: Vec<u8> = (0..random.next() % 300).map(|_| random.next() as u8).collect();
        bench.receive(&bytes);
        bench.carry_on();
    }
}

#[test]
fn frames_with_broken_bytes_never_panic() {
    let whole = [
        get(1),
        request(2, 0, Some(1500)),
        data(2, 0, 1200),
        request(3, EXPECT | ANNOUNCE, None),
        data(2, END, 300),
        reset(3),
        get(4),
        request(3, 0, None),
        data(3, 0, BODY_BUFFER),
        reset(4),
    ]
    .concat();
    let mut random = Random(0xdead_beef_cafe_f00d);
    for _ in 0..5000 {
        let mut broken = whole.clone();
        for _ in 0..random.next() % 4 {
            let at = random.next() % broken.len();
            broken[at] = random.next() as u8;
        }
        let mut bench = Bench::with_window(1024 + random.next() % 30_000);
        let mut rest = &broken[..];
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(rest.len().min(1 + random.next() % 900));
            bench.link.socket().room = random.next() % 5000;
            bench.receive(piece);
            bench.carry_on();
            bench.link.on_writable();
            rest = others;
        }
    }
}

#[test]
fn who_takes_no_answers_is_not_read_any_more() {
    let mut bench = Bench::new();
    bench.give_room(0);
    let mut pings = Vec::new();
    while pings.len() < MOST_UNSENT + 1024 * 1024 {
        frame::put(&mut pings, Kind::Ping, 0, 0, b"12345678");
    }
    bench.link.socket().incoming = pings;
    for _ in 0..100 {
        bench.read();
    }
    assert!(bench.link.outbox.len() < MOST_UNSENT + 128 * 1024, "{}", bench.link.outbox.len());
    assert!(!bench.link.socket().incoming.is_empty());
    while !bench.link.socket().incoming.is_empty() {
        bench.give_room(usize::MAX);
        bench.link.advance(&mut [0; 64 * 1024]);
    }
}

#[test]
fn large_answers_that_nobody_takes_count_too() {
    let mut bench = Bench::new();
    bench.give_room(0);
    for id in 1..1000 {
        bench.receive(&get(id));
        bench.carry_on();
    }
    assert!(bench.link.outbox.len() < MOST_UNSENT + WRITE_BUFFER, "{}", bench.link.outbox.len());
    assert!(!bench.link.socket().incoming.is_empty());
}
