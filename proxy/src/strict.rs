//! What a request head must look like before pingora sees it: framing, `Host`, names and limits, stricter than pingora
//! (RFC 9112; everything here was seen to pass it). `conn.rs` feeds it the received bytes. Pure: no socket, no clock, and
//! it must never repair anything, because front and worker would then read two different requests.
use crate::error::Failure;
use crate::framing::Body;
use appliance_config::settings::Limits;

/// More header fields than this make pingora give up; a larger `limits.headers` therefore has no effect.
const PINGORA_HEADERS: usize = 256;

/// A head under inspection. Lines are checked as they arrive, each once.
#[derive(Debug, Default)]
pub(crate) struct HeadCheck {
    /// Where the first unchecked line starts.
    at: usize,
    /// The request line has been read.
    begun: bool,
    http11: bool,
    headers: usize,
    hosts: usize,
    lengths: usize,
    length: u64,
    codings: usize,
    only_chunked: bool,
}

/// A head that passed: its size in bytes and the body that follows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) size: usize,
    pub(crate) body: Body,
}

impl HeadCheck {
    /// Looks at what arrived since the last call; `received` is everything from the first byte on. `None`: incomplete.
    pub(crate) fn advance(&mut self, received: &[u8], limits: &Limits) -> Result<Option<Passed>, Failure> {
        while let Some(length) = memchr::memchr(b'\n', &received[self.at..]) {
            let Some((line, b"\r")) =
                received[self.at..self.at + length].split_last_chunk::<1>().map(|(l, c)| (l, &c[..]))
            else {
                return Err(Failure::BareLineFeed);
            };
            self.at += length + 1;
            self.line(line, limits)?;
            if self.at > limits.header_bytes {
                return Err(Failure::HeadTooLarge);
            }
            if line.is_empty() && self.begun {
                return Ok(Some(Passed { size: self.at, body: self.body(limits)? }));
            }
        }
        let partial = received.len() - self.at;
        if !self.begun && partial > limits.request_line {
            return Err(Failure::RequestLineTooLong);
        }
        if received.len() > limits.header_bytes {
            return Err(Failure::HeadTooLarge);
        }
        Ok(None)
    }

    /// One line without its CR LF. Empty lines before the request line are skipped (RFC 9112 section 2.2).
    fn line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Failure> {
        match (self.begun, line.is_empty()) {
            (_, true) => Ok(()),
            (true, false) => self.header(line, limits),
            (false, false) => {
                self.begun = true;
                if line.len() > limits.request_line {
                    return Err(Failure::RequestLineTooLong);
                }
                self.http11 = request_line(line)?;
                Ok(())
            }
        }
    }

    fn header(&mut self, line: &[u8], limits: &Limits) -> Result<(), Failure> {
        self.headers += 1;
        if self.headers > limits.headers.min(PINGORA_HEADERS) {
            return Err(Failure::TooManyHeaders);
        }
        if matches!(line[0], b' ' | b'\t') {
            return Err(Failure::FoldedHeader);
        }
        let colon = memchr::memchr(b':', line).ok_or(Failure::BadHeader)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !is_token(name) || !value.iter().all(|b| is_text(*b)) {
            return Err(Failure::BadHeader);
        }
        // The length tells nearly all names apart before a byte is compared.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 || !is_host(value) {
                    return Err(Failure::BadHost);
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = decimal(value).filter(|_| self.lengths == 1).ok_or(Failure::BadLength)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.codings += 1;
                self.only_chunked = self.codings == 1 && value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
        Ok(())
    }

    /// What only the whole head can tell (RFC 9112 section 6.3).
    fn body(&self, limits: &Limits) -> Result<Body, Failure> {
        if self.http11 && self.hosts == 0 {
            return Err(Failure::NoHost);
        }
        match (self.codings, self.lengths) {
            (0, _) if self.length > limits.body => Err(Failure::BodyTooLarge),
            (0, _) => Ok(Body::Length(self.length)),
            (_, 1..) => Err(Failure::LengthAndChunked),
            _ if !self.http11 => Err(Failure::ChunkedInOldVersion),
            _ if !self.only_chunked => Err(Failure::UnknownCoding),
            _ => Ok(Body::chunked()),
        }
    }
}

/// Checks `method SP target SP version`; whether the version is 1.1.
fn request_line(line: &[u8]) -> Result<bool, Failure> {
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Failure::BadRequestLine);
    };
    let http11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        other if other.starts_with(b"HTTP/") => return Err(Failure::UnknownVersion),
        _ => return Err(Failure::BadRequestLine),
    };
    if !is_token(method) || !is_target(target) {
        return Err(Failure::BadRequestLine);
    }
    match target {
        _ if method == b"CONNECT" => Err(Failure::Tunnel),
        [b'/', ..] => Ok(http11),
        b"*" if method == b"OPTIONS" => Ok(http11),
        other if absolute(other).is_some_and(|(host, _)| !host.is_empty() && is_host(host)) => Ok(http11),
        _ => Err(Failure::BadRequestLine),
    }
}

/// Host with port, and the rest, of an absolute target (`http://host:port/path`); `None` if it is in another form.
pub(crate) fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })?;
    Some(rest.split_at(rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len())))
}

/// Method and target as far as they can be told, for the access log line of a refused request.
pub(crate) fn named(received: &[u8]) -> (&[u8], &[u8]) {
    let start = received.trim_ascii_start();
    let line = &start[..memchr::memchr2(b'\r', b'\n', start).unwrap_or(start.len())];
    let mut words = line.split(|b| *b == b' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    let is_token_byte = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !name.is_empty() && name.iter().all(is_token_byte)
}

/// No blanks, no control characters, and nothing that only breaks out of HTML or that pingora cannot keep; what else RFC 3986
/// wants to be escaped comes from many clients as it is, and applications expect it.
fn is_target(target: &[u8]) -> bool {
    let (path, query) = target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()));
    path.iter().all(|b| *b > b' ' && !b"<>`\x7f".contains(b))
        && query.iter().all(|b| *b > b' ' && !b"<>\"\x7f".contains(b))
}

/// Visible characters, blanks, and bytes from 0x80 on (RFC 9110 section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Characters of a host with port (RFC 3986 section 3.2.2); no user information. May be empty (RFC 9112 section 3.2).
pub(crate) fn is_host(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b))
}

/// Digits only: no sign, no list, no blanks.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(value).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            request_line: 100,
            header_bytes: 500,
            headers: 5,
            body: 1000,
            body_buffer: 0,
            write_buffer: 0,
            waiting: 0,
            connections: 0,
            backlog: 0,
        }
    }

    /// The verdict on `text`, which must not depend on how it is cut.
    fn verdict(text: &str) -> Result<Option<Passed>, Failure> {
        let whole = HeadCheck::default().advance(text.as_bytes(), &limits());
        let mut check = HeadCheck::default();
        let mut slow = Ok(None);
        for end in 1..=text.len() {
            slow = check.advance(&text.as_bytes()[..end], &limits());
            if !matches!(slow, Ok(None)) {
                break;
            }
        }
        assert_eq!(whole, slow, "{text:?}");
        whole
    }

    fn refused(text: &str) -> Failure {
        verdict(text).expect_err(text)
    }

    #[test]
    fn ordinary_requests_pass() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(verdict(head), Ok(Some(Passed { size: head.len(), body: Body::NONE })));
        let head = "\r\nPOST /x?y=%20 HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(verdict(head), Ok(Some(Passed { size: head.len(), body: Body::Length(12) })));
        let head = "PUT http://a/b HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n";
        assert_eq!(verdict(head), Ok(Some(Passed { size: head.len(), body: Body::chunked() })));
        let head = "GET / HTTP/1.0\r\n\r\n";
        assert_eq!(verdict(head), Ok(Some(Passed { size: head.len(), body: Body::NONE })));
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: a\r\n"), Ok(None));
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        let with = |fields: &str| refused(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
        assert_eq!(with("Content-Length: 3\r\nContent-Length: 3"), Failure::BadLength);
        assert_eq!(with("Content-Length: 3, 3"), Failure::BadLength);
        assert_eq!(with("Content-Length: +3"), Failure::BadLength);
        assert_eq!(with("Content-Length:"), Failure::BadLength);
        assert_eq!(with("Content-Length: 99999999999999999999999"), Failure::BadLength);
        assert_eq!(with("Content-Length: 3\r\nTransfer-Encoding: chunked"), Failure::LengthAndChunked);
        assert_eq!(with("Transfer-Encoding: gzip, chunked"), Failure::UnknownCoding);
        assert_eq!(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Failure::UnknownCoding);
        assert_eq!(with("Transfer-Encoding: xchunked"), Failure::UnknownCoding);
        assert_eq!(
            refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Failure::ChunkedInOldVersion
        );
        assert_eq!(with("Content-Length: 1001"), Failure::BodyTooLarge);
    }

    #[test]
    fn sloppy_heads_are_refused() {
        assert_eq!(refused("GET / HTTP/1.1\nHost: a\r\n\r\n"), Failure::BareLineFeed);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\n\r\n"), Failure::BareLineFeed);
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), Failure::NoHost);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), Failure::BadHost);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), Failure::BadHost);
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"), Failure::FoldedHeader);
        for field in ["Name : x", ": x", "Name", "Na me: x", "Name: \0", "Name: a\rb", "Näme: x"] {
            assert_eq!(
                refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")),
                Failure::BadHeader,
                "{field:?}"
            );
        }
        for line in [
            "GET",
            "GET /",
            "GET  / HTTP/1.1",
            "GET / a HTTP/1.1",
            "GET / http/1.1",
            "G{T / HTTP/1.1",
            "GET a HTTP/1.1",
        ] {
            assert_eq!(refused(&format!("{line}\r\nHost: a\r\n\r\n")), Failure::BadRequestLine, "{line:?}");
        }
        for line in
            ["GET * HTTP/1.1", "GET /\u{7f} HTTP/1.1", "GET http://u@a/ HTTP/1.1", "GET http:///x HTTP/1.1"]
        {
            assert_eq!(refused(&format!("{line}\r\nHost: a\r\n\r\n")), Failure::BadRequestLine, "{line:?}");
        }
        assert_eq!(refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Failure::UnknownVersion);
        assert_eq!(refused("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"), Failure::Tunnel);
    }

    #[test]
    fn a_target_that_passes_is_one_that_pingora_can_keep() {
        for byte in 0x21..0x7f {
            if matches!(byte, b'?' | b'#') {
                continue; // they end what is tested here
            }
            for start in ["/", "/?"] {
                let target = [start.as_bytes(), &[byte]].concat();
                let kept = http::uri::PathAndQuery::try_from(&target[..]).is_ok();
                assert_eq!(is_target(&target), kept, "{}", String::from_utf8_lossy(&target));
            }
        }
    }

    #[test]
    fn limits_hold_before_the_head_is_complete() {
        assert_eq!(refused(&format!("GET /{}", "a".repeat(200))), Failure::RequestLineTooLong);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(600))), Failure::HeadTooLarge);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(6))), Failure::TooManyHeaders);
        assert_eq!(refused(&"\r\n".repeat(300)), Failure::HeadTooLarge);
    }

    #[test]
    fn a_refused_request_can_still_be_named() {
        assert_eq!(named(b"\r\nGET /x\nrest"), (&b"GET"[..], &b"/x"[..]));
        assert_eq!(named(b""), (&b""[..], &b""[..]));
    }
}
