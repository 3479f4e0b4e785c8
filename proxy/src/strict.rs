//! What a request head must look like before pingora sees it: framing, `Host`, names and limits, stricter than pingora
//! (RFC 9112). `conn.rs` feeds it the received bytes. Pure: no socket, no clock, and
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
    /// Up to where there is no further line end; a head that trickles in is not searched again and again.
    searched: usize,
    /// The request line has been read.
    begun: bool,
    http11: bool,
    headers: usize,
    hosts: usize,
    lengths: usize,
    length: u64,
    /// A transfer coding other than `chunked`.
    other_coding: bool,
    /// `chunked`, after which nothing may stand.
    chunked: bool,
    /// An expectation other than `100-continue`.
    other_expectation: bool,
    /// Host and port of an absolute target; `Host` must say the same.
    authority: Option<Box<[u8]>>,
    blank_lines: usize,
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
        while let Some(found) = memchr::memchr(b'\n', &received[self.searched..]) {
            let end = self.searched + found;
            let line = received[self.at..end].strip_suffix(b"\r").ok_or(Failure::BareLineFeed)?;
            (self.at, self.searched) = (end + 1, end + 1);
            self.line(line, limits)?;
            if self.at > limits.header_bytes {
                return Err(Failure::HeadTooLarge);
            }
            if line.is_empty() && self.begun {
                return Ok(Some(Passed { size: self.at, body: self.body(limits)? }));
            }
        }
        self.searched = received.len();
        let partial = &received[self.at..];
        if !self.begun && partial.first().is_some_and(|byte| !is_token_byte(*byte) && *byte != b'\r') {
            return Err(Failure::BadRequestLine); // most often TLS, which would send no line end for long
        }
        if !self.begun && partial.len() > limits.request_line {
            return Err(Failure::RequestLineTooLong);
        }
        if received.len() > limits.header_bytes {
            return Err(Failure::HeadTooLarge);
        }
        Ok(None)
    }

    /// One line without its CR LF. An empty line before the request line is skipped (RFC 9112 section 2.2).
    fn line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Failure> {
        match (self.begun, line.is_empty()) {
            (true, true) => Ok(()),
            (false, true) => {
                self.blank_lines += 1;
                if self.blank_lines > 1 { Err(Failure::BadRequestLine) } else { Ok(()) }
            }
            (true, false) => self.header(line, limits),
            (false, false) => {
                self.begun = true;
                if line.len() > limits.request_line {
                    return Err(Failure::RequestLineTooLong);
                }
                let (http11, target) = request_line(line)?;
                self.http11 = http11;
                self.authority = absolute(target).map(|(authority, _)| authority.into());
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
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.other_expectation |= !value.eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = decimal(value).filter(|_| self.lengths == 1).ok_or(Failure::BadLength)?;
                Ok(())
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.coding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.hosts += 1;
        let differs =
            self.authority.as_deref().is_some_and(|authority| !authority.eq_ignore_ascii_case(value));
        if self.hosts > 1 || !is_host(value) || differs { Err(Failure::BadHost) } else { Ok(()) }
    }

    /// Whatever else stands there, `chunked` must come last and once (RFC 9112 section 6.1).
    fn coding(&mut self, value: &[u8]) -> Result<(), Failure> {
        for coding in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if !is_token(coding) || self.chunked {
                return Err(Failure::BadCoding);
            }
            self.chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.other_coding |= !self.chunked;
        }
        Ok(())
    }

    /// What only the whole head can tell (RFC 9112 section 6.3).
    fn body(&self, limits: &Limits) -> Result<Body, Failure> {
        match (self.chunked || self.other_coding, self.lengths) {
            _ if self.http11 && self.hosts == 0 => Err(Failure::NoHost),
            _ if self.http11 && self.other_expectation => Err(Failure::UnknownExpectation),
            (false, _) if self.length > limits.body => Err(Failure::BodyTooLarge),
            (false, _) => Ok(Body::Length(self.length)),
            (true, 1..) => Err(Failure::LengthAndChunked),
            (true, 0) if !self.http11 => Err(Failure::ChunkedInOldVersion),
            (true, 0) if self.other_coding => Err(Failure::UnknownCoding),
            (true, 0) => Ok(Body::chunked(limits.body)),
        }
    }
}

/// Checks `method SP target SP version`; whether the version is 1.1, and the target.
fn request_line(line: &[u8]) -> Result<(bool, &[u8]), Failure> {
    let mut words = line.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Failure::BadRequestLine);
    };
    let http11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Failure::UnknownVersion);
        }
        _ => return Err(Failure::BadRequestLine),
    };
    if !is_token(method) || !is_target(target) {
        return Err(Failure::BadRequestLine);
    }
    match target {
        _ if method == b"CONNECT" => Err(Failure::Tunnel),
        [b'/', ..] => Ok((http11, target)),
        b"*" if method == b"OPTIONS" => Ok((http11, target)),
        other if absolute(other).is_some_and(|(host, _)| is_host(host)) => Ok((http11, target)),
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

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| is_token_byte(*b))
}

pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Visible ASCII without `#`; what else RFC 3986 wants to be escaped comes from many clients as it is, and applications
/// expect it.
fn is_target(target: &[u8]) -> bool {
    target.iter().all(|b| (b'!'..=b'~').contains(b) && *b != b'#')
}

/// Visible characters, blanks, and bytes from 0x80 on (RFC 9110 section 5.5).
pub(crate) fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A host name (also with `_`, which container networks have) or an address, and an optional port (RFC 3986 section 3.2).
pub(crate) fn is_host(value: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(value) else { return false };
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ipv6, rest)) if ipv6.parse::<std::net::Ipv6Addr>().is_ok() => ("ipv6", rest),
        Some(_) => return false,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_port = match port.strip_prefix(':') {
        Some(digits) => {
            digits.is_empty() || (digits.as_bytes()[0].is_ascii_digit() && digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    };
    is_port && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
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
        let rest = crate::tests::harness::settings().limits;
        Limits { request_line: 100, header_bytes: 500, headers: 5, body: 1000, body_rate: 1, ..rest }
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
        assert_eq!(verdict(head), Ok(Some(Passed { size: head.len(), body: Body::chunked(1000) })));
        assert!(matches!(verdict("GET HTTP://A.b/ HTTP/1.1\r\nHost: a.B\r\n\r\n"), Ok(Some(_))));
        assert!(matches!(verdict("GET /?{\"a\":`<|>`} HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Some(_))));
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
        assert_eq!(with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Failure::BadCoding);
        assert_eq!(with("Transfer-Encoding: chunked, gzip"), Failure::BadCoding);
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
    fn limits_hold_before_the_head_is_complete() {
        assert_eq!(refused(&format!("GET /{}", "a".repeat(200))), Failure::RequestLineTooLong);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(600))), Failure::HeadTooLarge);
        assert_eq!(refused(&format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(6))), Failure::TooManyHeaders);
        assert_eq!(refused(&"\r\n".repeat(300)), Failure::BadRequestLine);
    }
}
