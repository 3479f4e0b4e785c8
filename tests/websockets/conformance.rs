//! The public conformance cases (`cases.txt`), at both doors, with the client's bytes whole and in pieces.
use super::peer::{CLOSE, Peer, closing, frame, unmasked};
use crate::harness::{DOORS, Door, Doors, Setup};
use std::io;

/// More than this is not sent byte by byte.
const SMALL: usize = 1000;
/// A piece of what is larger.
const PIECE: usize = 4099;

#[derive(Clone, Debug, PartialEq)]
struct Frame {
    first: u8,
    payload: Vec<u8>,
    is_masked: bool,
}

fn opcode(kind: &str) -> u8 {
    match kind {
        "cont" => 0,
        "text" => 1,
        "bin" => 2,
        "close" => 8,
        "ping" => 9,
        "pong" => 10,
        other => other.strip_prefix("op").unwrap().parse().unwrap(),
    }
}

fn parse(text: &str) -> Frame {
    let (head, payload) = text.split_once(':').unwrap();
    let end = head.find(['+', '/', '!']).unwrap_or(head.len());
    let (kind, modifiers) = head.split_at(end);
    let reserved: u8 = modifiers.split_once('/').map_or(0, |(_, bits)| bits.parse().unwrap());
    let fin = if modifiers.contains('+') { 0 } else { 0x80 };
    let payload = match payload.get(..4).map(str::parse) {
        Some(Ok(code)) if kind == "close" => [closing(code, ""), bytes(&payload[4..])].concat(),
        _ => bytes(payload),
    };
    Frame { first: fin | reserved << 4 | opcode(kind), payload, is_masked: !modifiers.contains('!') }
}

fn bytes(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(c) = rest.chars().next() {
        rest = match (c, rest) {
            ('\\', escaped) if escaped.starts_with("\\x") => {
                bytes.push(u8::from_str_radix(&escaped[2..4], 16).unwrap());
                &escaped[4..]
            }
            ('\\', escaped) => {
                bytes.push(b' ');
                &escaped[2..]
            }
            ('{', _) => {
                let (count, rest) = rest[1..].split_once('}').unwrap();
                let last = bytes.pop().unwrap();
                bytes.extend(std::iter::repeat_n(last, count.parse().unwrap()));
                rest
            }
            (c, rest) => {
                bytes.push(c as u8);
                &rest[1..]
            }
        };
    }
    bytes
}

/// What the server answers to `sent`, as far as `expected` foresees; then the connection has come to its end.
fn play(doors: &Doors, door: Door, sent: &[u8], piece: usize, expected: &[Frame]) -> io::Result<Vec<Frame>> {
    let mut peer = Peer::open(doors.client(door), "/echo");
    sent.chunks(piece).for_each(|piece| peer.client.send(piece));
    let mut answered = Vec::new();
    for _ in expected {
        let (first, payload) = peer.try_frame()?;
        answered.push(Frame { first, payload, is_masked: true });
    }
    if answered.last().is_none_or(|last| last.first != CLOSE) {
        assert_eq!(peer.close(1000), 1000);
    } else {
        assert!(peer.client.rest().is_empty(), "nothing follows a close frame");
    }
    Ok(answered)
}

/// A close frame by its code: what else it says is for humans, unless it echoes.
fn same(answered: &Frame, expected: &Frame) -> bool {
    let is_ours = matches!(expected.payload.as_slice(), [3, 0xea | 0xef | 0xf1]);
    let code = |frame: &Frame| frame.payload.get(..2).map(<[u8]>::to_vec);
    answered == expected
        || (answered.first == CLOSE && expected.first == CLOSE && is_ours && code(answered) == code(expected))
}

#[test]
fn the_public_cases_pass_at_both_doors_however_their_bytes_arrive() {
    play_all(Setup::app("sockets:application"));
}

#[test]
fn they_pass_in_a_native_application_too() {
    play_all(Setup::bare().arg("native:echo").venv(None));
}

/// Plays every case with what echoes at `/echo`.
fn play_all(setup: Setup) {
    let doors = Doors::open(setup.set("websocket.max_message", "4MiB"));
    let cases =
        include_str!("cases.txt").lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let mut failed = Vec::new();
    for case in cases {
        let (sent, expected) = case.split_once("=>").unwrap();
        let sent = sent.split_whitespace().skip(1).map(parse).map(|f| match f.is_masked {
            true => frame(f.first, &f.payload),
            false => unmasked(f.first, &f.payload),
        });
        let sent = sent.collect::<Vec<_>>().concat();
        let expected: Vec<Frame> = expected.split_whitespace().map(parse).collect();
        let small = if sent.len() > SMALL { PIECE } else { 1 };
        for (door, piece) in DOORS.into_iter().flat_map(|door| [(door, usize::MAX), (door, small)]) {
            let answered = play(&doors, door, &sent, piece, &expected);
            let is_right = answered.as_ref().is_ok_and(|answered| {
                answered.len() == expected.len() && answered.iter().zip(&expected).all(|(a, b)| same(a, b))
            });
            if !is_right {
                let case: String = case.chars().take(80).collect();
                let answered: String = format!("{answered:?}").chars().take(200).collect();
                failed.push(format!("{case} ({door:?}, pieces of {piece}): {answered}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}
