//! A socket against the frames of a client, written by hand; time is whatever the test says.
use super::*;

const LIMITS: Limits = Limits {
    max_message: 1000,
    ping_interval: Some(Duration::from_secs(30)),
    ping_timeout: Duration::from_secs(20),
    compression: true,
};

/// A masked frame with a short payload; `first` has FIN, the reserved bits and the opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let length: Vec<u8> = match payload.len() {
        n if n < 126 => vec![0x80 | n as u8],
        n => [&[0x80 | 126][..], &(n as u16).to_be_bytes()].concat(),
    };
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [vec![first], length, mask.to_vec(), masked.collect()].concat()
}

struct Bench {
    socket: Socket,
    now: Instant,
}

impl Bench {
    fn new() -> Bench {
        let now = Instant::now();
        Bench { socket: Socket::new(LIMITS, None, now), now }
    }

    fn compressed() -> Bench {
        let now = Instant::now();
        Bench { socket: Socket::new(LIMITS, Some(Deflate::USUAL), now), now }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.socket.feed(bytes, self.now);
    }

    fn output(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.socket.drain_output(&mut out);
        out
    }

    fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.socket.on_deadline(self.now);
    }

    fn closed(&mut self) -> u16 {
        match self.socket.receive() {
            Incoming::Closed(closed) => closed.code,
            other => panic!("{other:?}"),
        }
    }
}

fn text(text: &str) -> Incoming {
    Incoming::Message(Message::Text(text.into()))
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    [&[0x88, 2 + reason.len() as u8][..], &code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn a_message_is_the_same_however_its_bytes_arrive() {
    let all = [frame(0x01, b"ab"), frame(0x89, b"ping"), frame(0x80, b"c"), frame(0x82, b"\0")].concat();
    for cut in 0..all.len() {
        let mut bench = Bench::new();
        bench.feed(&all[..cut]);
        bench.feed(&all[cut..]);
        assert_eq!(bench.socket.receive(), text("abc"), "cut at {cut}");
        assert_eq!(bench.socket.receive(), Incoming::Message(Message::Binary(Bytes::from_static(b"\0"))));
        assert_eq!(bench.socket.receive(), Incoming::Wait);
        assert_eq!(bench.output(), b"\x8a\x04ping", "a pong has the ping's payload");
    }
}

#[test]
fn every_ping_has_its_pong() {
    let mut bench = Bench::new();
    bench.feed(&[frame(0x89, b"1"), frame(0x89, b"2"), frame(0x89, b"")].concat());
    assert_eq!(bench.output(), b"\x8a\x011\x8a\x012\x8a\0");
}

#[test]
fn violations_are_told_with_their_code() {
    for (bytes, code) in [
        (b"\x81\x02hi".to_vec(), code::PROTOCOL_ERROR),
        (frame(0xc1, b"a"), code::PROTOCOL_ERROR),
        (frame(0x83, b"a"), code::PROTOCOL_ERROR),
        (frame(0x80, b"a"), code::PROTOCOL_ERROR),
        (frame(0x09, b"a"), code::PROTOCOL_ERROR),
        (frame(0x89, &[b'a'; 126]), code::PROTOCOL_ERROR),
        (frame(0x88, b"\x03"), code::PROTOCOL_ERROR),
        ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), code::PROTOCOL_ERROR),
        (frame(0x81, b"\xff\xfe"), code::INVALID_DATA),
        ([frame(0x01, b"\xe2"), frame(0x80, b"a")].concat(), code::INVALID_DATA),
        (frame(0x88, b"\x03\xe8\xff"), code::INVALID_DATA),
        (frame(0x82, &[0; 1001]), code::TOO_BIG),
        ([frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat(), code::TOO_BIG),
    ] {
        let mut bench = Bench::new();
        bench.feed(&bytes);
        let output = bench.output();
        assert_eq!((output[0], &output[2..4]), (0x88, &code.to_be_bytes()[..]), "{bytes:?}");
        assert_eq!(bench.closed(), code);
        assert!(bench.socket.is_over());
        bench.feed(&frame(0x81, b"late"));
        assert_eq!(bench.output(), b"");
    }
}

#[test]
fn the_peer_closes_behind_its_last_message() {
    let mut bench = Bench::new();
    bench.feed(&[frame(0x81, b"last"), frame(0x88, b"\x0f\xa0bye")].concat());
    assert_eq!(bench.output(), b"");
    assert_eq!(bench.socket.receive(), text("last"));
    bench.socket.send(Message::Text("answer".into())).unwrap();
    let bye = Closed { code: 4000, reason: "bye".to_owned() };
    assert_eq!(bench.socket.receive(), Incoming::Closed(bye.clone()));
    assert_eq!(bench.output(), [&b"\x81\x06answer"[..], &close(4000, "bye")].concat());
    assert!(bench.socket.is_over());
    assert_eq!(bench.socket.send(Message::Text("x".into())), Err(bye));
}

#[test]
fn an_end_is_not_left_unanswered_for_long() {
    for end in [frame(0x88, b"\x0f\xa0"), frame(0x83, b"")] {
        let mut bench = Bench::new();
        bench.feed(&[frame(0x81, b"unread"), end, frame(0x81, b"late")].concat());
        assert!(!bench.socket.wants_input() && !bench.socket.is_over());
        bench.later(3);
        assert!(bench.socket.is_over() && bench.output()[0] == 0x88);
        assert_eq!(bench.socket.receive(), text("unread"));
        assert!(matches!(bench.socket.receive(), Incoming::Closed(_)));
    }
}

#[test]
fn codes_that_may_not_be_sent_are_violations_and_none_is_answered_by_none() {
    for (payload, answered, told) in [
        (&b""[..], &b"\x88\0"[..], code::NO_CODE),
        (b"\x03\xed", &close(1002, "Protocol violation"), code::PROTOCOL_ERROR),
        (b"\x13\x88", &close(1002, "Protocol violation"), code::PROTOCOL_ERROR),
    ] {
        let mut bench = Bench::new();
        bench.feed(&frame(0x88, payload));
        assert_eq!((&*bench.output(), bench.closed()), (answered, told));
    }
}

#[test]
fn we_close_and_wait_for_the_answer() {
    let mut bench = Bench::new();
    bench.socket.close(1000, "done", bench.now);
    assert_eq!(bench.output(), close(1000, "done"));
    assert_eq!(bench.closed(), 1000);
    bench.feed(&frame(0x81, b"crossed"));
    assert!(!bench.socket.is_over() && !bench.socket.is_open());
    assert_eq!(bench.closed(), 1000, "what the peer still sends is not for anybody");
    bench.feed(&frame(0x88, b"\x03\xe8"));
    assert!(bench.socket.is_over());

    let mut bench = Bench::new();
    bench.socket.close(1000, "", bench.now);
    bench.later(10);
    assert!(bench.socket.is_over(), "it has not been answered in time");
}

#[test]
fn a_reason_is_cut_to_what_a_frame_takes() {
    let mut bench = Bench::new();
    bench.socket.close(1000, &"é".repeat(100), bench.now);
    assert_eq!(bench.output(), close(1000, &"é".repeat(61)));
}

#[test]
fn the_end_of_the_stream_is_no_close() {
    let mut bench = Bench::new();
    bench.feed(&frame(0x01, b"never whole"));
    bench.socket.feed_end(bench.now);
    assert_eq!((bench.closed(), bench.socket.is_over()), (code::ABNORMAL, true));
}

#[test]
fn a_silent_peer_is_pinged_and_given_up() {
    let mut bench = Bench::new();
    bench.later(29);
    assert_eq!(bench.output(), b"");
    bench.later(1);
    assert_eq!(bench.output(), b"\x89\0");
    bench.feed(&frame(0x8a, b""));
    bench.later(20);
    assert!(bench.socket.is_open(), "it was heard");
    bench.later(10);
    assert_eq!(bench.output(), b"\x89\0");
    bench.later(20);
    assert_eq!((bench.closed(), bench.socket.is_over()), (code::INTERNAL_ERROR, true));
}

#[test]
fn whoever_is_not_asked_is_not_given_up() {
    let mut bench = Bench::new();
    for _ in 0..READ_AHEAD / MESSAGE_COST {
        bench.feed(&frame(0x82, b""));
    }
    assert!(!bench.socket.wants_input() && bench.socket.deadline().is_none());
    assert!(matches!(bench.socket.receive(), Incoming::Message(_)));
    assert!(bench.socket.wants_input() && bench.socket.deadline().is_some());
}

#[test]
fn nobody_asks_an_abandoned_socket() {
    let mut bench = Bench::new();
    bench.feed(&frame(0x81, b"unread"));
    bench.socket.abandon(code::NORMAL, bench.now);
    assert_eq!((bench.output(), bench.closed()), (close(1000, ""), 1000));
}

/// "Hello" (RFC 7692 section 7.2.3.1).
const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

#[test]
fn a_compressed_message_is_the_same_however_its_bytes_arrive() {
    let (first, rest) = HELLO.split_at(3);
    let all = [
        frame(0x41, first),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x80, rest),
        frame(0x81, b"plain"),
        frame(0x02, b"a"),
        frame(0x80, b"b"),
        frame(0xc2, HELLO),
    ]
    .concat();
    for cut in 0..all.len() {
        let mut bench = Bench::compressed();
        bench.feed(&all[..cut]);
        bench.feed(&all[cut..]);
        assert_eq!(bench.socket.receive(), text("Hello"), "cut at {cut}");
        assert_eq!(bench.socket.receive(), text("plain"));
        for bytes in [&b"ab"[..], b"Hello"] {
            let message = Message::Binary(Bytes::copy_from_slice(bytes));
            assert_eq!(bench.socket.receive(), Incoming::Message(message));
        }
        assert_eq!(bench.socket.receive(), Incoming::Wait);
        assert_eq!(bench.output(), b"\x8a\x04ping");
    }
    let mut bench = Bench::compressed();
    all.iter().for_each(|byte| bench.feed(&[*byte]));
    assert_eq!((bench.socket.receive(), bench.socket.receive()), (text("Hello"), text("plain")));
}

#[test]
fn what_is_not_asked_for_stays_compressed() {
    let mut bench = Bench::compressed();
    let bomb = frame(0xc2, &Deflate::USUAL.pack(&Bytes::from_static(&[0; 1000])).unwrap());
    bench.feed(&[bomb.repeat(1000), frame(0x88, b"\x0f\xa0")].concat());
    assert!(!bench.socket.wants_input() && bench.socket.held < READ_AHEAD + 2000, "{}", bench.socket.held);
    for _ in 0..1000 {
        assert!(matches!(bench.socket.receive(), Incoming::Message(_)));
        bench.socket.go_on(bench.now);
        assert!(bench.socket.has_news());
    }
    assert_eq!((bench.closed(), bench.socket.is_over()), (4000, true));

    let mut bench = Bench::compressed();
    bench.feed(&[bomb.repeat(1000), frame(0x88, b"\x0f\xa0")].concat());
    bench.socket.abandon(code::NORMAL, bench.now);
    bench.socket.go_on(bench.now);
    assert!(bench.socket.is_over(), "the peer's close frame lies behind what nobody wants");
}

#[test]
fn what_comes_behind_our_close_frame_is_not_unpacked() {
    let mut bench = Bench::compressed();
    bench.feed(&frame(0x41, HELLO));
    bench.socket.close(code::NORMAL, "", bench.now);
    bench.feed(&[frame(0x80, b""), frame(0xc2, b"\xff\xff\xff")].concat());
    assert!(!bench.socket.is_over());
    bench.feed(&frame(0x88, b"\x03\xe8"));
    assert!(bench.socket.is_over());
}

#[test]
fn violations_in_compressed_messages_are_told_with_their_code() {
    let unmasked = [&[0xc1, HELLO.len() as u8][..], HELLO].concat();
    for (bytes, code) in [
        (frame(0xc1, b"\xff\xff\xff"), code::INVALID_DATA),
        (frame(0xc1, b"\xfa\xff\x07\x00"), code::INVALID_DATA),
        (frame(0xc9, b""), code::PROTOCOL_ERROR),
        (frame(0xc0, HELLO), code::PROTOCOL_ERROR),
        (frame(0xe1, HELLO), code::PROTOCOL_ERROR),
        (frame(0xc3, b""), code::PROTOCOL_ERROR),
        (unmasked, code::PROTOCOL_ERROR),
        ([frame(0x41, HELLO), frame(0xc0, b"")].concat(), code::PROTOCOL_ERROR),
        ([frame(0x41, HELLO), frame(0x81, b"")].concat(), code::PROTOCOL_ERROR),
        ([frame(0x01, b"a"), frame(0xc1, HELLO)].concat(), code::PROTOCOL_ERROR),
        (frame(0xc2, &[0; 2000]), code::TOO_BIG),
        ([frame(0x42, &[0; 700]), frame(0x80, &[0; 700])].concat(), code::TOO_BIG),
        (frame(0xc2, &Deflate::USUAL.pack(&Bytes::from_static(&[0; 1001])).unwrap()), code::TOO_BIG),
    ] {
        let mut bench = Bench::compressed();
        bench.feed(&[frame(0x81, b"before"), bytes.clone(), frame(0x81, b"behind")].concat());
        assert_eq!(bench.socket.receive(), text("before"), "{bytes:?}");
        assert_eq!(bench.closed(), code, "{bytes:?}");
        let output = bench.output();
        assert_eq!((output[0], &output[2..4]), (0x88, &code.to_be_bytes()[..]), "{bytes:?}");
    }
}

#[test]
fn long_messages_are_sent_compressed() {
    let mut bench = Bench::compressed();
    bench.socket.send(Message::Text("short".into())).unwrap();
    assert_eq!(bench.output(), b"\x81\x05short");
    bench.socket.send(Message::Text("long".repeat(200).into())).unwrap();
    let output = bench.output();
    assert!(output[0] == 0xc1 && output.len() < 100, "{output:?}");
    bench.feed(&frame(0xc1, &output[2..]));
    assert_eq!(bench.socket.receive(), text(&"long".repeat(200)));
}
