//! Finds the end of a request head while it arrives, and holds it against the limits. It walks from line end to line
//! end and remembers where it stopped, so a head that comes byte by byte costs no more than one that comes at once.
//!
//! The verdict depends on the order of the bytes only, never on how they were cut into reads: a limit is passed at a
//! byte, a bare line feed is a byte, and the first of them decides. What the lines mean is not looked at here.

use super::grammar::is_token_byte;
use super::refusal::{NOT_HTTP, Refusal};
use appliance_config::settings;
use appliance_link::reason;
use memchr::memchr;

/// How large a request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line without its CRLF (else 414).
    pub request_line: usize,
    /// Bytes of the whole head with its empty line (else 431).
    pub header_bytes: usize,
    /// Header lines (else 431).
    pub headers: usize,
    /// Bytes of the body (else 413).
    pub body: u64,
}

impl From<&settings::Limits> for Limits {
    fn from(limits: &settings::Limits) -> Limits {
        Limits {
            request_line: limits.request_line,
            header_bytes: limits.header_bytes,
            headers: limits.headers,
            body: limits.body,
        }
    }
}

/// How far an incomplete head has been searched. One per connection; `Default` is the start of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Where the head begins: behind the empty line that some clients send first.
    start: usize,
    /// Where the line begins that is being searched.
    line: usize,
    /// No line feed of this line is before here.
    seen: usize,
    /// Complete lines, the request line included.
    lines: usize,
}

/// Where a complete head lies in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// First byte of the request line.
    pub start: usize,
    /// First byte after the empty line.
    pub end: usize,
    /// Header lines.
    pub headers: usize,
}

impl Scan {
    /// Looks at what is new in `buf`. `Ok(None)`: the head goes on.
    pub(super) fn advance(&mut self, buf: &[u8], limits: &Limits) -> Result<Option<Extent>, Refusal> {
        if self.seen == self.start && !self.begin(buf)? {
            return Ok(None);
        }
        loop {
            let found = memchr(b'\n', &buf[self.seen..]);
            // Where the line ends, or the first place where it still may.
            let end = found.map_or(buf.len(), |at| self.seen + at);
            self.check(end - self.start, limits)?;
            if found.is_none() {
                self.seen = end;
                return Ok(None);
            }
            if end == self.line || buf[end - 1] != b'\r' {
                return Err(Refusal::bad(
                    reason::BARE_LINE_FEED,
                    "a line of the request head ends without a carriage return",
                ));
            }
            if end == self.line + 1 {
                return Ok(Some(Extent { start: self.start, end: end + 1, headers: self.lines - 1 }));
            }
            self.lines += 1;
            self.line = end + 1;
            self.seen = end + 1;
            if self.lines > limits.headers.saturating_add(1) {
                return Err(Refusal::new(
                    431,
                    reason::TOO_MANY_HEADERS,
                    "the request has too many header lines",
                ));
            }
        }
    }

    /// Skips one empty line (RFC 9112 section 2.2) and refuses at once what cannot be HTTP. False: nothing to see yet.
    fn begin(&mut self, buf: &[u8]) -> Result<bool, Refusal> {
        if self.start == 0 && buf.starts_with(b"\r\n") {
            *self = Scan { start: 2, line: 2, seen: 2, lines: 0 };
        }
        match buf.get(self.start) {
            None => Ok(false),
            Some(b'\r') if buf == b"\r" => Ok(false),
            Some(&b) if is_token_byte(b) => Ok(true),
            Some(_) => Err(NOT_HTTP),
        }
    }

    /// Holds a head against the limits of which `before` bytes are known to stand before its next line feed.
    fn check(&self, before: usize, limits: &Limits) -> Result<(), Refusal> {
        if self.lines == 0 {
            // One more than the limit, for the carriage return.
            if before > limits.request_line.saturating_add(1).min(limits.header_bytes) {
                return Err(Refusal::new(414, reason::REQUEST_LINE_TOO_LONG, "the request line is too long"));
            }
        } else if before >= limits.header_bytes {
            return Err(Refusal::new(431, reason::HEAD_TOO_LARGE, "the request head is too large"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { request_line: 20, header_bytes: 60, headers: 3, body: 0 };

    /// The verdict on `buf` and the number of bytes that it took, byte by byte.
    fn trickle(buf: &[u8]) -> (Result<Option<Extent>, Refusal>, usize) {
        let mut scan = Scan::default();
        for n in 0..=buf.len() {
            match scan.advance(&buf[..n], &LIMITS) {
                Ok(None) => {}
                verdict => return (verdict, n),
            }
        }
        (Ok(None), buf.len())
    }

    fn status(buf: &[u8]) -> u16 {
        let whole = Scan::default().advance(buf, &LIMITS);
        let (trickled, _) = trickle(buf);
        assert_eq!(whole, trickled, "{}", buf.escape_ascii());
        whole.map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn finds_the_end_of_a_head_and_leaves_what_follows() {
        let found = Scan::default().advance(b"\r\nGET / HTTP/1.1\r\nA: b\r\n\r\nrest\n", &LIMITS);
        assert_eq!(found, Ok(Some(Extent { start: 2, end: 26, headers: 1 })));
    }

    #[test]
    fn the_limits_are_exact() {
        let line = |n: usize| [&b"a".repeat(n)[..], b"\r\n\r\n"].concat();
        assert_eq!(status(&line(20)), 200);
        assert_eq!(status(&line(21)), 414);
        let head = |n: usize| [&b"GET\r\n"[..], &b"a".repeat(n - 9), b"\r\n\r\n"].concat();
        assert_eq!(status(&head(60)), 200);
        assert_eq!(status(&head(61)), 431);
        assert_eq!(status(b"GET\r\na\r\nb\r\nc\r\n\r\n"), 200);
        assert_eq!(status(b"GET\r\na\r\nb\r\nc\r\nd\r\n\r\n"), 431);
    }

    #[test]
    fn refuses_without_waiting_for_a_line_end() {
        assert_eq!(trickle(&b"a".repeat(100)).1, 22);
        assert_eq!(trickle(&[&b"GET\r\n"[..], &b"a".repeat(100)].concat()).1, 60);
        assert_eq!(trickle(b"\x16\x03\x01\x02\x00").1, 1);
        assert_eq!(trickle(b"GET /\n").1, 6);
    }

    #[test]
    fn one_empty_line_is_forgiven_and_no_more() {
        assert_eq!(status(b"\r\nGET\r\n\r\n"), 200);
        assert_eq!(status(b"\r\n\r\nGET\r\n\r\n"), 400);
        assert_eq!(status(b"\nGET\r\n\r\n"), 400);
        assert_eq!(status(b"\r\rGET\r\n\r\n"), 400);
    }

    #[test]
    fn the_shorter_of_two_limits_on_the_first_line_decides_alike_for_all_cuts() {
        let limits = Limits { request_line: 50, header_bytes: 10, ..LIMITS };
        let buf = b"a".repeat(60);
        let whole = Scan::default().advance(&buf, &limits);
        let mut scan = Scan::default();
        let cut = (0..=60).find_map(|n| scan.advance(&buf[..n], &limits).err());
        assert_eq!(whole.err(), cut);
    }
}
