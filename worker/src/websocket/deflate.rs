//! Compressed messages, the extension `permessage-deflate` (RFC 7692): what is agreed in the handshake, and messages one way
//! and the other. Each message stands for itself (`no_context_takeover` on both sides), so that a WebSocket that says nothing
//! holds no window of 32 KiB; the codecs belong to the thread. `socket.rs` packs with it, `unpack.rs` unpacks.
use super::handshake::values;
use super::{Bytes, code};
use crate::http::grammar;
use crate::http::head::Head;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::cell::RefCell;

const NAME: &[u8] = b"permessage-deflate";
/// What ends every message and is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Shorter messages are sent as they are: they would hardly become shorter.
const LEAST: usize = 256;
/// Longer ones too, for the loop does nothing else meanwhile.
const MOST: usize = 1024 * 1024;
/// The lowest level whose codes are made for the message.
const LEVEL: Compression = Compression::new(2);
/// The usual window, as a power of two, and the smallest that zlib has.
const WINDOW: u8 = 15;
const SMALLEST_WINDOW: u8 = 9;

/// What a client has broken, and with which code it is told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// See [`code`].
    pub code: u16,
    /// For humans.
    pub reason: &'static str,
}

impl Fault {
    /// A message is above the limit.
    pub const TOO_BIG: Fault = Fault { code: code::TOO_BIG, reason: "the message is larger than it may be" };

    const GARBLED: Fault =
        Fault { code: code::INVALID_DATA, reason: "the compressed message cannot be read" };
}

/// What was agreed with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Our window, which may be smaller than usual because the client wants it so.
    window: u8,
}

impl Deflate {
    /// What most clients get.
    pub const USUAL: Deflate = Deflate { window: WINDOW };

    /// The first of the client's offers that we can take.
    pub fn offered(head: &Head) -> Option<Deflate> {
        values(head, "sec-websocket-extensions").flat_map(grammar::list).find_map(Deflate::taking)
    }

    /// One offer, unless it asks for what we have not, or makes no sense (RFC 7692 section 7.1).
    fn taking(offer: &[u8]) -> Option<Deflate> {
        let mut parts = offer.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        if !parts.next()?.eq_ignore_ascii_case(NAME) {
            return None;
        }
        let mut deflate = Deflate::USUAL;
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = parameter(part);
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
            match (name, value) {
                (b"server_no_context_takeover" | b"client_no_context_takeover", None) => {}
                // Our client may use a smaller window, but does not have to.
                (b"client_max_window_bits", value) if value.is_none_or(|value| window(value).is_some()) => {}
                (b"server_max_window_bits", Some(value)) => {
                    deflate.window = window(value).filter(|&bits| bits >= SMALLEST_WINDOW)?;
                }
                _ => return None,
            }
        }
        Some(deflate)
    }

    /// The value of `Sec-WebSocket-Extensions` that takes the offer.
    pub fn field(self) -> String {
        let window = match self.window {
            WINDOW => String::new(),
            bits => format!("; server_max_window_bits={bits}"),
        };
        format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{window}")
    }

    /// The payload of a compressed message; `None`: it is better sent as it is.
    pub fn pack(self, message: &Bytes) -> Option<Bytes> {
        if !(LEAST..=MOST).contains(&message.len()) {
            return None;
        }
        CODECS.with_borrow_mut(|codecs| codecs.pack(self.window, message))
    }
}

/// The message that a compressed payload stands for, of at most so many bytes.
pub fn unpack(payload: &[u8], most: usize) -> Result<Vec<u8>, Fault> {
    CODECS.with_borrow_mut(|codecs| {
        let mut message = Vec::with_capacity(payload.len().saturating_mul(3).min(most) + 1);
        codecs.inflater.reset(false);
        codecs.inflate(payload, &mut message, most)?;
        codecs.inflate(&TAIL, &mut message, most)?;
        Ok(message)
    })
}

thread_local! {
    static CODECS: RefCell<Codecs> = RefCell::new(Codecs {
        inflater: Decompress::new(false),
        deflaters: Vec::new(),
        last: None,
    });
}

/// A message that was packed, for a chat sends the same one to all of its clients.
struct Packed {
    window: u8,
    message: Bytes,
    payload: Option<Bytes>,
}

struct Codecs {
    inflater: Decompress,
    /// By the size of their windows.
    deflaters: Vec<(u8, Compress)>,
    last: Option<Packed>,
}

impl Codecs {
    fn pack(&mut self, window: u8, message: &Bytes) -> Option<Bytes> {
        if let Some(last) = self.last.as_ref().filter(|last| last.window == window && last.message == message)
        {
            return last.payload.clone();
        }
        let payload = deflate(self.deflater(window), message).map(Bytes::from);
        self.last = Some(Packed { window, message: message.clone(), payload: payload.clone() });
        payload
    }

    fn deflater(&mut self, window: u8) -> &mut Compress {
        let known = self.deflaters.iter().position(|(bits, _)| *bits == window);
        let place = known.unwrap_or_else(|| {
            self.deflaters.push((window, Compress::new_with_window_bits(LEVEL, false, window)));
            self.deflaters.len() - 1
        });
        &mut self.deflaters[place].1
    }

    /// Adds what `packed` stands for.
    fn inflate(&mut self, mut packed: &[u8], message: &mut Vec<u8>, most: usize) -> Result<(), Fault> {
        loop {
            if message.len() == message.capacity() {
                message.reserve(message.len().min(most.saturating_sub(message.len())) + 1);
            }
            let (read, made) = (self.inflater.total_in(), message.len());
            let status = self.inflater.decompress_vec(packed, message, FlushDecompress::Sync);
            let read = usize::try_from(self.inflater.total_in() - read).unwrap_or(packed.len());
            packed = &packed[read..];
            if message.len() > most {
                return Err(Fault::TOO_BIG);
            }
            match status {
                Err(_) => return Err(Fault::GARBLED),
                // A block may say that it is the last one, and others may follow (section 7.2.3.5).
                Ok(Status::StreamEnd) if packed.is_empty() => return Ok(()),
                Ok(Status::StreamEnd) => self.inflater.reset(false),
                Ok(_) if message.len() == message.capacity() => {}
                Ok(_) if packed.is_empty() => return Ok(()),
                Ok(_) if read == 0 && message.len() == made => return Err(Fault::GARBLED),
                Ok(_) => {}
            }
        }
    }
}

fn deflate(deflater: &mut Compress, mut message: &[u8]) -> Option<Vec<u8>> {
    let length = message.len();
    // What does not fit in here is no gain.
    let mut payload = Vec::with_capacity(length + TAIL.len());
    deflater.reset();
    loop {
        let before = deflater.total_in();
        deflater.compress_vec(message, &mut payload, FlushCompress::Sync).ok()?;
        message = message.get(usize::try_from(deflater.total_in() - before).ok()?..)?;
        if payload.len() == payload.capacity() {
            return None;
        }
        if message.is_empty() {
            break;
        }
    }
    payload.truncate(payload.strip_suffix(&TAIL)?.len());
    (payload.len() < length).then_some(payload)
}

fn parameter(part: &[u8]) -> (&[u8], Option<&[u8]>) {
    match part.iter().position(|&byte| byte == b'=') {
        Some(at) => (part[..at].trim_ascii_end(), Some(unquoted(part[at + 1..].trim_ascii_start()))),
        None => (part, None),
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// The size of a window: 8 to 15, without zeros before.
fn window(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(offer: &str) -> Option<u8> {
        Deflate::taking(offer.as_bytes()).map(|deflate| deflate.window)
    }

    #[test]
    fn offers_are_taken_or_declined() {
        for (offer, window) in [
            ("permessage-deflate", Some(15)),
            ("Permessage-Deflate; client_max_window_bits", Some(15)),
            ("permessage-deflate; client_max_window_bits=10; server_no_context_takeover", Some(15)),
            ("permessage-deflate; client_no_context_takeover;server_max_window_bits = \"10\"", Some(10)),
            ("permessage-deflate; server_max_window_bits=9", Some(9)),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=09", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            ("permessage-deflate; unknown", None),
            ("permessage-bzip2", None),
            ("x-webkit-deflate-frame", None),
        ] {
            assert_eq!(taken(offer), window, "{offer}");
        }
    }

    #[test]
    fn the_answer_names_what_differs_from_the_usual() {
        let usual = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(Deflate::USUAL.field(), usual);
        assert_eq!(Deflate { window: 10 }.field(), format!("{usual}; server_max_window_bits=10"));
    }

    #[test]
    fn what_is_packed_comes_back() {
        for window in [9, 15] {
            for length in [256, 1_000, 70_000, MOST] {
                let message: Bytes = (0..length).map(|n| (n * n % 251 % 17) as u8).collect();
                let packed = Deflate { window }.pack(&message).unwrap();
                assert!(packed.len() < message.len());
                assert_eq!(unpack(&packed, length).unwrap(), message);
                assert_eq!(unpack(&packed, length - 1), Err(Fault::TOO_BIG));
            }
        }
    }

    #[test]
    fn what_does_not_become_shorter_is_sent_as_it_is() {
        let mut seed = 1_u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        let noise: Bytes = (0..1000).map(|_| noise()).collect();
        assert_eq!(Deflate::USUAL.pack(&noise), None);
        assert_eq!(Deflate::USUAL.pack(&noise), None, "also when it is remembered");
        assert_eq!(Deflate::USUAL.pack(&Bytes::from_static(&[0; LEAST - 1])), None);
        assert_eq!(Deflate::USUAL.pack(&Bytes::from_static(&[0; MOST + 1])), None);
    }

    #[test]
    fn the_payloads_of_the_standard_are_understood() {
        // RFC 7692 section 7.2.3: "Hello" in one block, without compression, in a final block, and in two blocks.
        for payload in [
            &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
            b"\x00\x05\x00\xfa\xffHello\x00",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        ] {
            assert_eq!(unpack(payload, 5).as_deref(), Ok(&b"Hello"[..]), "{payload:?}");
            assert_eq!(unpack(payload, 4), Err(Fault::TOO_BIG), "{payload:?}");
        }
        assert_eq!(unpack(b"\0", 0).as_deref(), Ok(&b""[..]), "an empty message");
    }

    #[test]
    fn garbage_is_a_fault_and_a_bomb_goes_off_early() {
        assert_eq!(unpack(b"\xff\xff\xff", 1000), Err(Fault::GARBLED));
        let bomb = Deflate::USUAL.pack(&Bytes::from_static(&[0; MOST])).unwrap();
        assert!(bomb.len() < 8_000);
        assert_eq!(unpack(&bomb, 10_000), Err(Fault::TOO_BIG));
    }
}
