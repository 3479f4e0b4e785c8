//! A request body, decoded as it arrives (RFC 9112 sections 6 and 7). `conn` hands over what it received and takes back
//! how much of that was body; what follows is the next request and stays where it is.
//!
//! The chunked coding is read strictly, one state per place in the grammar: hexadecimal digits only, CRLF exactly,
//! extensions and trailers are read, bounded and dropped. The verdict does not depend on how the bytes were cut.

use super::fields::{Framing, TOO_LARGE};
use super::grammar::{is_token_byte, is_value_byte};
use super::refusal::Refusal;
use appliance_link::reason;

/// Digits of a chunk size: as many as 64 bits have.
const SIZE_DIGITS: u8 = 16;
/// Bytes of all chunk extensions of one body together. Nobody needs any; unbounded, they would be a body that is not
/// counted. hyper allows 16 KiB.
const EXTENSION_BYTES: usize = 4096;
/// Bytes of the trailer section. We drop trailers, so this is for compatibility only.
const TRAILER_BYTES: usize = 8192;

/// Reads one body. A body that was cut short is one whose decoder is not done when the client has closed.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes that the chunks to come may still have.
    allowed: u64,
    /// Bytes that extensions may still have.
    extensions: usize,
    /// Bytes that trailers may still have.
    trailers: usize,
    started: bool,
}

/// What one call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that belong to the body and have been dealt with.
    pub consumed: usize,
    /// The body is complete.
    pub done: bool,
}

/// The place in the grammar where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Content of a body with `Content-Length`; bytes to come, never 0.
    Length(u64),
    /// In the size of a chunk.
    Size { value: u64, digits: u8 },
    /// In an extension after the size.
    Extension { size: u64 },
    /// The line feed after the size.
    SizeEnd { size: u64 },
    /// Content of a chunk; bytes to come, never 0.
    Data(u64),
    /// The carriage return after a chunk.
    DataEnd,
    /// The line feed after a chunk.
    DataEndLf,
    /// First byte of a trailer line, or of the last line.
    TrailerStart,
    /// In the name of a trailer.
    TrailerName,
    /// In the value of a trailer.
    TrailerValue,
    /// The line feed after a trailer.
    TrailerEnd,
    /// The last line feed.
    LastLf,
    /// Behind the body.
    Done,
    /// What came breaks the grammar, and where the next request begins can never be known.
    Broken(Refusal),
}

impl Decoder {
    /// A decoder for one body. `limit` bounds the content of a chunked body in bytes; a `Content-Length` has been held
    /// against it when the head was parsed.
    pub fn new(framing: Framing, limit: u64) -> Decoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
        };
        Decoder {
            state,
            allowed: limit,
            extensions: EXTENSION_BYTES,
            trailers: TRAILER_BYTES,
            started: false,
        }
    }

    /// Appends at most `room` bytes of content from `input` to `out`. Bytes not consumed are to be offered again,
    /// unless the body is done: then they are the next request. A body that was refused once stays refused.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, mut room: usize) -> Result<Progress, Refusal> {
        let mut at = 0;
        while at < input.len() && !matches!(self.state, State::Done | State::Broken(_)) {
            match self.state {
                State::Length(left) | State::Data(left) => {
                    let available = room.min(input.len() - at);
                    let n = usize::try_from(left).map_or(available, |left| left.min(available));
                    if n == 0 {
                        break;
                    }
                    out.extend_from_slice(&input[at..at + n]);
                    self.state = self.after_content(n as u64);
                    room -= n;
                    at += n;
                }
                _ => {
                    self.state = self.step(input[at]).unwrap_or_else(State::Broken);
                    at += 1;
                }
            }
        }
        if let State::Broken(refusal) = self.state {
            return Err(refusal);
        }
        self.started |= at > 0;
        Ok(Progress { consumed: at, done: self.is_done() })
    }

    /// The body is complete.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The first byte of the body has been seen: the client does not wait for `100 Continue`.
    pub fn is_started(&self) -> bool {
        self.started
    }

    fn after_content(&self, n: u64) -> State {
        match self.state {
            State::Length(left) if left == n => State::Done,
            State::Length(left) => State::Length(left - n),
            State::Data(left) if left == n => State::DataEnd,
            State::Data(left) => State::Data(left - n),
            other => other,
        }
    }

    /// The grammar of everything that is not content, a byte at a time.
    fn step(&mut self, b: u8) -> Result<State, Refusal> {
        use State::*;
        match (self.state, b) {
            (Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => digit(value, digits, b),
            (Size { digits: 0, .. }, _) => {
                Err(Refusal::bad(reason::BAD_CHUNK, "a chunk does not begin with its size in hexadecimal"))
            }
            (Size { value, .. }, b'\r') => self.chunk(value).map(|size| SizeEnd { size }),
            (Size { value, .. }, b';') => self.chunk(value).map(|size| Extension { size }),
            (Size { .. }, _) => Err(Refusal::bad(
                reason::BAD_CHUNK,
                "a chunk size is followed by neither CRLF nor an extension",
            )),
            (Extension { size }, b'\r') => Ok(SizeEnd { size }),
            (Extension { .. }, b) if !is_value_byte(b) => {
                Err(Refusal::bad(reason::BAD_CHUNK, "a chunk extension contains a control character"))
            }
            (Extension { size }, _) => self.extension().map(|()| Extension { size }),
            (SizeEnd { size: 0 }, b'\n') => Ok(TrailerStart),
            (SizeEnd { size }, b'\n') => Ok(Data(size)),
            (SizeEnd { .. }, _) => {
                Err(Refusal::bad(reason::BAD_CHUNK, "a chunk size is not followed by CRLF"))
            }
            (DataEnd, b'\r') => Ok(DataEndLf),
            (DataEndLf, b'\n') => Ok(Size { value: 0, digits: 0 }),
            (DataEnd | DataEndLf, _) => Err(Refusal::bad(
                reason::BAD_CHUNK,
                "a chunk is longer than its size says, or lacks its CRLF",
            )),
            (TrailerStart, b'\r') => Ok(LastLf),
            (LastLf, b'\n') => Ok(Done),
            (TrailerStart | TrailerName, b) if is_token_byte(b) => self.trailer().map(|()| TrailerName),
            (TrailerName, b':') => self.trailer().map(|()| TrailerValue),
            (TrailerValue, b'\r') => self.trailer().map(|()| TrailerEnd),
            (TrailerValue, b) if is_value_byte(b) => self.trailer().map(|()| TrailerValue),
            (TrailerEnd, b'\n') => self.trailer().map(|()| TrailerStart),
            (LastLf | TrailerStart | TrailerName | TrailerValue | TrailerEnd, _) => {
                Err(Refusal::bad(reason::BAD_CHUNK, "the trailers of a chunked body are malformed"))
            }
            // Content and its end are not read byte by byte.
            (state @ (Length(_) | Data(_) | Done | Broken(_)), _) => Ok(state),
        }
    }

    /// Takes the size of a chunk from what the body may still have.
    fn chunk(&mut self, size: u64) -> Result<u64, Refusal> {
        self.allowed = self.allowed.checked_sub(size).ok_or(TOO_LARGE)?;
        Ok(size)
    }

    fn extension(&mut self) -> Result<(), Refusal> {
        const TOO_LONG: Refusal = Refusal::bad(reason::BAD_CHUNK, "the chunk extensions are too long");
        self.extensions = self.extensions.checked_sub(1).ok_or(TOO_LONG)?;
        Ok(())
    }

    fn trailer(&mut self) -> Result<(), Refusal> {
        const TOO_LONG: Refusal =
            Refusal::new(431, reason::TRAILERS_TOO_LARGE, "the trailers of a chunked body are too long");
        self.trailers = self.trailers.checked_sub(1).ok_or(TOO_LONG)?;
        Ok(())
    }
}

fn digit(value: u64, digits: u8, b: u8) -> Result<State, Refusal> {
    if digits == SIZE_DIGITS {
        return Err(Refusal::bad(reason::BAD_CHUNK, "a chunk size has too many digits"));
    }
    let digit = match b {
        b'0'..=b'9' => b - b'0',
        _ => (b | 0x20) - b'a' + 10,
    };
    Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
}

// The grammar itself is tested by the cases of `tests/requests`.
#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /next";

    #[test]
    fn what_follows_a_body_stays() {
        let mut out = Vec::new();
        let progress = Decoder::new(Framing::Chunked, 99).decode(CHUNKED, &mut out, 99).unwrap();
        assert_eq!((progress, &out[..]), (Progress { consumed: 26, done: true }, &b"hello world"[..]));
        let progress = Decoder::new(Framing::Length(5), 99).decode(CHUNKED, &mut out, 99).unwrap();
        assert_eq!(progress, Progress { consumed: 5, done: true });
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let mut decoder = Decoder::new(Framing::Chunked, 99);
        let (mut at, mut pieces) = (0, Vec::new());
        while !decoder.is_done() {
            let mut out = Vec::new();
            at += decoder.decode(&CHUNKED[at..], &mut out, 4).unwrap().consumed;
            pieces.push(String::from_utf8(out).unwrap());
        }
        assert_eq!(pieces, ["hell", "o wo", "rld"]);
    }

    #[test]
    fn a_body_that_was_refused_stays_refused() {
        let mut decoder = Decoder::new(Framing::Chunked, 99);
        let refusal = decoder.decode(b"x", &mut Vec::new(), 99).unwrap_err();
        for again in [&b""[..], b"0\r\n\r\n"] {
            assert_eq!(decoder.decode(again, &mut Vec::new(), 99), Err(refusal));
        }
    }

    #[test]
    fn without_room_content_waits() {
        let mut decoder = Decoder::new(Framing::Length(5), 99);
        let mut out = Vec::new();
        assert_eq!(decoder.decode(b"hello", &mut out, 0), Ok(Progress { consumed: 0, done: false }));
        assert!(!decoder.is_started());
        assert_eq!(decoder.decode(b"hello", &mut out, 5), Ok(Progress { consumed: 5, done: true }));
        assert!(decoder.is_started());
    }

    #[test]
    fn a_body_of_nothing_is_done_before_it_starts() {
        for framing in [Framing::None, Framing::Length(0)] {
            let mut decoder = Decoder::new(framing, 0);
            assert!(decoder.is_done());
            let progress = decoder.decode(b"GET /next", &mut Vec::new(), 99);
            assert_eq!(progress, Ok(Progress { consumed: 0, done: true }));
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        assert!(Decoder::new(Framing::Chunked, 5).decode(body, &mut Vec::new(), 99).unwrap().done);
        assert_eq!(Decoder::new(Framing::Chunked, 4).decode(body, &mut Vec::new(), 99), Err(TOO_LARGE));
    }
}
