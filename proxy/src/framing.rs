//! Where a request body ends: counts bytes by `Content-Length` or follows the chunk grammar (RFC 9112 section 7.1), and
//! is stricter there than pingora. `stream.rs` asks it how many of the received bytes belong to the request that is
//! being served; what follows belongs to the next one (pipelining). It must never change or keep a byte.
use crate::error::Failure;
use crate::strict::{is_text, is_token_byte};

/// Digits of a chunk size: as many as 64 bits have.
const SIZE_DIGITS: u8 = 16;
/// Bytes that the chunk extensions of one body may have in total; hardly anybody but attackers sends them.
const EXTENSION_BYTES: u32 = 4096;
/// Bytes that the trailer section may have; as much as nginx gives one large header buffer.
const TRAILER_BYTES: u32 = 8192;

/// A request body as it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes are still to come; 0: it is complete.
    Length(u64),
    /// Chunked, not yet complete.
    Chunked(Chunks),
}

/// How far a chunked body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    at: At,
    /// Payload bytes that may still be announced.
    room: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
}

/// What the next byte of a chunked body is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The size line; `digits` have been read.
    Size { size: u64, digits: u8 },
    /// An extension after the size.
    Extension { size: u64 },
    /// The LF of the size line.
    SizeLf { size: u64 },
    /// Payload: so many bytes to come, at least 1.
    Data(u64),
    /// The CR after the payload.
    DataCr,
    /// The LF after the payload.
    DataLf,
    /// The first byte of a trailer line or of the end.
    LineStart,
    /// Within the name of a trailer.
    TrailerName,
    /// Within the value of a trailer.
    TrailerValue,
    /// The LF of a trailer line.
    TrailerLf,
    /// The very last LF.
    EndLf,
}

impl Body {
    /// No body.
    pub(crate) const NONE: Self = Self::Length(0);

    /// A chunked body of which nothing has arrived, and which may have so many bytes.
    pub(crate) fn chunked(limit: u64) -> Self {
        let at = At::Size { size: 0, digits: 0 };
        Self::Chunked(Chunks { at, room: limit, extension_bytes: 0, trailer_bytes: 0 })
    }

    /// Whether all of it has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        *self == Self::NONE
    }

    /// How many of `bytes`, which follow what was taken before, belong to this body.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        match self {
            Self::Length(left) => {
                let mine = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= mine as u64;
                Ok(mine)
            }
            Self::Chunked(chunks) => {
                let (mine, complete) = chunks.take(bytes)?;
                if complete {
                    *self = Self::NONE;
                }
                Ok(mine)
            }
        }
    }
}

impl Chunks {
    /// Bytes taken, and whether the body is complete.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Failure> {
        let mut taken = 0;
        while taken < bytes.len() {
            if let At::Data(left) = self.at {
                let run = (bytes.len() - taken).min(usize::try_from(left).unwrap_or(usize::MAX));
                taken += run;
                let left = left - run as u64;
                self.at = if left == 0 { At::DataCr } else { At::Data(left) };
                continue;
            }
            let byte = bytes[taken];
            taken += 1;
            if self.at == At::EndLf && byte == b'\n' {
                return Ok((taken, true));
            }
            self.at = self.step(byte)?;
        }
        Ok((taken, false))
    }

    /// The grammar, one byte at a time; `Data` and the end are handled by `take`.
    fn step(&mut self, byte: u8) -> Result<At, Failure> {
        Ok(match (self.at, byte) {
            (At::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                At::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (At::Size { size, digits: 1.. }, b';') => At::Extension { size },
            (At::Size { size, digits: 1.. } | At::Extension { size }, b'\r') => At::SizeLf { size },
            (At::Extension { size }, b'\t' | b' '..=b'~' | 0x80..)
                if self.extension_bytes < EXTENSION_BYTES =>
            {
                self.extension_bytes += 1;
                At::Extension { size }
            }
            (At::SizeLf { size: 0 }, b'\n') => At::LineStart,
            (At::SizeLf { size }, b'\n') => {
                self.room = self.room.checked_sub(size).ok_or(Failure::BodyTooLarge)?;
                At::Data(size)
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { size: 0, digits: 0 },
            _ => return self.trailer_step(byte),
        })
    }

    /// The rest of the grammar: after the last chunk.
    fn trailer_step(&mut self, byte: u8) -> Result<At, Failure> {
        self.trailer_bytes += 1;
        let next = match (self.at, byte) {
            (At::LineStart, b'\r') => At::EndLf,
            (At::LineStart | At::TrailerName, _) if is_token_byte(byte) => At::TrailerName,
            (At::TrailerName, b':') => At::TrailerValue,
            (At::TrailerValue, b'\r') => At::TrailerLf,
            (At::TrailerValue, _) if is_text(byte) => At::TrailerValue,
            (At::TrailerLf, b'\n') => At::LineStart,
            _ => return Err(Failure::BadChunk),
        };
        if self.trailer_bytes > TRAILER_BYTES {
            return Err(Failure::TrailersTooLarge);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` whole and byte by byte; both must agree on (bytes taken, complete) or on the error.
    fn fed(text: &[u8]) -> Result<(usize, bool), Failure> {
        let mut whole = Body::chunked(1000);
        let at_once = whole.take(text).map(|taken| (taken, whole.is_complete()));
        let mut slow = Body::chunked(1000);
        let mut taken = 0;
        let mut failed = None;
        for byte in text {
            if slow.is_complete() || failed.is_some() {
                break;
            }
            match slow.take(&[*byte]) {
                Ok(n) => taken += n,
                Err(failure) => failed = Some(failure),
            }
        }
        let slowly = failed.map_or(Ok((taken, slow.is_complete())), Err);
        assert_eq!(at_once, slowly);
        at_once
    }

    #[test]
    fn a_length_ends_where_it_says() {
        let mut body = Body::Length(5);
        assert_eq!(body.take(b"abc"), Ok(3));
        assert_eq!(body.take(b"deGET /"), Ok(2));
        assert!(body.is_complete());
    }

    #[test]
    fn chunks_end_after_the_trailers() {
        assert_eq!(fed(b"3\r\nabc\r\n0\r\n\r\nGET"), Ok((13, true)));
        assert_eq!(fed(b"A;x=\"y\"\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n"), Ok((38, true)));
        assert_eq!(fed(b"3\r\nab"), Ok((5, false)));
    }

    #[test]
    fn sloppy_chunks_are_refused() {
        for text in [
            &b"\r\n"[..],
            b"g\r\n",
            b"0x3\r\n",
            b" 3\r\n",
            b"3 \r\n",
            b"3\nabc",
            b"3\r\nabcd",
            b"3\r\nabc\n",
            b"0\r\nname: value\nx",
            b"0\r\n\rX",
            b"00000000000000001\r\n",
            b"0\r\n: x\r\n",
            b"0\r\na b: x\r\n",
            b"0\r\na: x\r\n b\r\n",
            b"3;\x00\r\n",
        ] {
            assert_eq!(fed(text), Err(Failure::BadChunk), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let bomb = [b"1;", vec![b'x'; 5000].as_slice()].concat();
        assert_eq!(fed(&bomb), Err(Failure::BadChunk));
        let trailers = [b"0\r\n", b"a: b\r\n".repeat(3000).as_slice()].concat();
        assert_eq!(fed(&trailers), Err(Failure::TrailersTooLarge));
    }

    #[test]
    fn a_body_is_too_large_as_soon_as_it_says_so() {
        assert_eq!(fed(b"3e9\r\n"), Err(Failure::BodyTooLarge));
        assert_eq!(fed(b"1\r\nx\r\n3e8\r\n"), Err(Failure::BodyTooLarge));
        assert_eq!(fed(b"ffffffffffffffff\r\n"), Err(Failure::BodyTooLarge));
    }
}
