//! Any bytes against the decoder of bodies: however they are cut and however little room there is, the same bytes come
//! out with the same verdict, never more than allowed; and a second, plain reading of a complete body finds the same.
//! How to run it: docs/http.md.
#![no_main]

use appliance_worker::http::body::Decoder;
use appliance_worker::http::{Framing, Refusal};
use libfuzzer_sys::fuzz_target;

/// Bytes of an input that say how to read the others.
const SETTINGS: usize = 4;

#[derive(Debug, PartialEq)]
struct Outcome {
    body: Vec<u8>,
    /// Bytes that belong to a complete body.
    complete: Option<usize>,
    refused: Option<Refusal>,
}

/// Decodes pieces of `bytes` as they would arrive; `sizes` and `rooms` are gone through again and again.
fn decode(framing: Framing, limit: u64, bytes: &[u8], sizes: [usize; 2], rooms: [usize; 2]) -> Outcome {
    let mut decoder = Decoder::new(framing, limit);
    let mut outcome = Outcome { body: Vec::new(), complete: None, refused: None };
    let (mut used, mut received) = (0, 0);
    for turn in 0.. {
        let room = rooms[turn % 2];
        let before = outcome.body.len();
        match decoder.decode(&bytes[used..received], &mut outcome.body, room) {
            Ok(progress) => {
                used += progress.consumed;
                assert_eq!(progress.done, decoder.is_done());
                assert!(outcome.body.len() - before <= room, "more than there is room for");
                if progress.done {
                    outcome.complete = Some(used);
                    break;
                }
            }
            Err(refusal) => {
                outcome.refused = Some(refusal);
                break;
            }
        }
        if used == received && received == bytes.len() {
            break;
        }
        received = bytes.len().min(received.saturating_add(sizes[turn % 2]));
    }
    assert!(outcome.body.len() as u64 <= limit, "more than allowed");
    outcome
}

/// The content of a complete chunked body, with nothing behind it. Panics if it is none.
fn read_plainly(mut bytes: &[u8]) -> Vec<u8> {
    fn line<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line has an end");
        let line = &bytes[..end];
        *bytes = &bytes[end + 2..];
        line
    }
    let mut body = Vec::new();
    loop {
        let size = line(&mut bytes).split(|b| *b == b';').next().expect("there is always a first part");
        let size = std::str::from_utf8(size).expect("a size in ASCII");
        assert!(size.bytes().all(|b| b.is_ascii_hexdigit()), "{size}");
        match usize::from_str_radix(size, 16).expect("a size") {
            0 => break,
            size => body.extend_from_slice(&bytes[..size]),
        }
        bytes = &bytes[usize::from_str_radix(size, 16).expect("a size")..];
        assert_eq!(line(&mut bytes), b"", "the end of a chunk");
    }
    while !line(&mut bytes).is_empty() {}
    assert_eq!(bytes, b"", "the body was longer");
    body
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([limit, kind, size, room], bytes)) = bytes.split_first_chunk::<SETTINGS>() else { return };
    let limit = u64::from(*limit) * 4;
    let framing = match kind {
        0..200 => Framing::Chunked,
        // A length has been held against the limit before.
        length => Framing::Length(u64::from(*length).min(limit)),
    };
    let all = [usize::MAX; 2];
    let whole = decode(framing, limit, bytes, all, all);
    let (size, room) = (usize::from(*size), usize::from(*room));
    for (sizes, rooms) in
        [([1, 1], all), (all, [1, 1]), ([size % 7 + 1, size / 7 + 1], [room % 7 + 1, room / 7 + 1])]
    {
        assert_eq!(decode(framing, limit, bytes, sizes, rooms), whole, "{sizes:?} {rooms:?}");
    }
    match (framing, whole.complete) {
        (Framing::Chunked, Some(end)) => assert_eq!(read_plainly(&bytes[..end]), whole.body),
        (Framing::Length(length), Some(end)) => {
            assert_eq!((end as u64, &*whole.body), (length, &bytes[..end]))
        }
        _ => {}
    }
});
