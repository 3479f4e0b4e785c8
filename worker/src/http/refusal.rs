//! Why a request is refused: a status for the client and a sentence for a human. Made by the parsers, turned into an
//! answer by `encode::simple`; a connection is closed after one, because the next message boundary is not known.

use super::grammar::is_token;
use appliance_link::reason;

/// A request that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the answer.
    pub status: u16,
    /// One word of [`appliance_link::reason`], for the access log.
    pub word: &'static str,
    /// What is wrong with the request, for the body of the answer.
    pub reason: &'static str,
}

impl Refusal {
    /// A malformed message: 400.
    pub(super) const fn bad(word: &'static str, reason: &'static str) -> Refusal {
        Refusal { status: 400, word, reason }
    }

    /// Any other status.
    pub(super) const fn new(status: u16, word: &'static str, reason: &'static str) -> Refusal {
        Refusal { status, word, reason }
    }
}

/// The first byte cannot begin a method. The usual cause deserves its hint.
pub(super) const NOT_HTTP: Refusal = Refusal::bad(
    reason::BAD_REQUEST_LINE,
    "the request does not begin with a method; is this TLS on a plain HTTP port?",
);

/// Says what is wrong with a whole `head` that httparse refused with `error`. Only refused requests come here, so it
/// may look at the bytes once more to find the sentence that helps.
pub(super) fn explain(head: &[u8], error: httparse::Error) -> Refusal {
    use httparse::Error::*;
    match error {
        Token | Version | NewLine => explain_request_line(head),
        HeaderName => explain_header_name(head),
        HeaderValue => Refusal::bad(reason::BAD_HEADER, "a header value contains a control character"),
        Status | TooManyHeaders => Refusal::bad(reason::BAD_HEADER, "the request head is malformed"),
    }
}

fn explain_request_line(head: &[u8]) -> Refusal {
    if memchr::memchr_iter(b'\r', head).any(|at| head.get(at + 1) != Some(&b'\n')) {
        return Refusal::bad(reason::BAD_REQUEST_LINE, "a carriage return stands without a line feed");
    }
    let line = head.split(|&b| b == b'\r').next().unwrap_or(head);
    let words: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
    let &[method, target @ [_, ..], version @ [_, ..]] = words.as_slice() else {
        return Refusal::bad(
            reason::BAD_REQUEST_LINE,
            "the request line is not a method, a target and a version with one space between them",
        );
    };
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit()
                && minor.is_ascii_digit()
                && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") =>
        {
            Refusal::new(505, reason::UNKNOWN_VERSION, "this server speaks HTTP/1.1 and HTTP/1.0 only")
        }
        _ if !is_token(method) => {
            Refusal::bad(reason::BAD_REQUEST_LINE, "the method contains a character that is not allowed")
        }
        _ if !target.iter().all(u8::is_ascii_graphic) => Refusal::bad(
            reason::BAD_REQUEST_LINE,
            "the request target contains a character that is not allowed",
        ),
        _ => Refusal::bad(reason::BAD_REQUEST_LINE, "the version in the request line is malformed"),
    }
}

fn explain_header_name(head: &[u8]) -> Refusal {
    for line in head.split(|&b| b == b'\n').skip(1) {
        let (name, colon) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], true),
            None => (line, false),
        };
        match name {
            [b' ' | b'\t', ..] => {
                return Refusal::bad(reason::FOLDED_HEADER, "a header line is folded, which is obsolete");
            }
            [b'\r'] => break,
            _ if !colon => return Refusal::bad(reason::BAD_HEADER, "a header line has no colon"),
            [] => return Refusal::bad(reason::BAD_HEADER, "a header has no name"),
            [.., b' ' | b'\t'] => {
                return Refusal::bad(
                    reason::BAD_HEADER,
                    "a header has white space between its name and the colon",
                );
            }
            _ if !is_token(name) => break,
            _ => {}
        }
    }
    Refusal::bad(reason::BAD_HEADER, "a header name contains a character that is not allowed")
}
