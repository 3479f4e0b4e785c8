//! Bytes of answers, appended to a buffer that the caller owns and reuses. What is written here has been checked
//! (`declared`) and decided (`plan`) before; these functions cannot fail and look at nothing twice.
//!
//! An answer is: `status_line`, any number of `header`s, `framing`, `end_of_head`, then the body as planned.

use super::plan::{Body, Plan};
use std::time::SystemTime;

/// Asks a client that waits with `Expect: 100-continue` for the body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Follows the content of each chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// The chunk that ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `HTTP/1.1 200 OK`, from the application's own status. Clients of HTTP/1.0 get the same version number, as RFC 9110
/// section 2.5 wants it: it says what the server can, not how this message is framed.
pub fn status_line(out: &mut Vec<u8>, status: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status);
    out.extend_from_slice(b"\r\n");
}

/// One header line.
pub fn header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The value of a `Date` header field (RFC 9110 section 6.6.1).
pub fn date(now: SystemTime) -> Vec<u8> {
    httpdate::fmt_http_date(now).into_bytes()
}

/// The header lines that tell the client what was planned.
pub fn framing(out: &mut Vec<u8>, plan: &Plan) {
    if let Some(length) = plan.length() {
        out.extend_from_slice(b"Content-Length: ");
        decimal(out, length);
        out.extend_from_slice(b"\r\n");
    } else if plan.body == Body::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if !plan.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if plan.announce_keep_alive {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

/// The empty line after the headers.
pub fn end_of_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// One chunk with its content. An empty one is not written: it would end the body.
pub fn chunk(out: &mut Vec<u8>, content: &[u8]) {
    if !content.is_empty() {
        chunk_size(out, content.len());
        out.extend_from_slice(content);
        out.extend_from_slice(CHUNK_END);
    }
}

/// The line before `size` bytes of a chunk, for content that is sent from where it lies. `size` must not be 0.
pub fn chunk_size(out: &mut Vec<u8>, size: usize) {
    debug_assert_ne!(size, 0, "an empty chunk would end the body");
    number(out, size as u64, 16);
    out.extend_from_slice(b"\r\n");
}

/// A whole answer of the server itself: an error page for a human. `date` is a ready `Date` value; without
/// `keep_alive`, the client is told that the connection closes.
pub fn simple(status: u16, sentence: &str, date: &[u8], keep_alive: bool, head_only: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + sentence.len());
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(&mut out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in simple_headers(status, date) {
        header(&mut out, name, value);
    }
    // The line feed after the sentence counts.
    let body = Body::Length(sentence.len() as u64 + 1);
    framing(&mut out, &Plan { body, keep_alive, announce_keep_alive: keep_alive });
    end_of_head(&mut out);
    if !head_only {
        out.extend_from_slice(sentence.as_bytes());
        out.push(b'\n');
    }
    out
}

/// The header fields of an answer of the server itself.
pub fn simple_headers(status: u16, date: &[u8]) -> impl Iterator<Item = (&'static [u8], &[u8])> {
    let always: [(&'static [u8], &[u8]); 2] =
        [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Date", date)];
    // Ours is always a matter of moments.
    let retry: Option<(&'static [u8], &[u8])> = (status == 503).then_some((b"Retry-After", b"1"));
    always.into_iter().chain(retry)
}

/// The reason phrases of the statuses that the server itself gives, and of those that applications give most.
pub fn reason(status: u16) -> &'static str {
    match status {
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        200..=299 => "OK",
        _ => "Error",
    }
}

fn decimal(out: &mut Vec<u8>, n: u64) {
    number(out, n, 10);
}

/// `n` in `base` 10 or 16. `write!` would do the same in five times the time.
fn number(out: &mut Vec<u8>, mut n: u64, base: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // As many digits as the largest number has in base 10.
    let mut text = [0; 20];
    let mut start = text.len();
    loop {
        start -= 1;
        text[start] = DIGITS[(n % base) as usize];
        n /= base;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Version;
    use crate::http::plan::Answer;

    const DATE: &[u8] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn lines(version: Version, whole: Option<u64>, keep_alive: bool) -> String {
        let answer = Answer { version, head_only: false, status: 200, declared: None, whole, keep_alive };
        let mut out = Vec::new();
        framing(&mut out, &answer.plan());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_written_in_order() {
        let mut out = Vec::new();
        status_line(&mut out, b"200 OK");
        header(&mut out, b"X-A", b"b \xe9");
        end_of_head(&mut out);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nX-A: b \xe9\r\n\r\n");
    }

    #[test]
    fn the_client_is_told_what_was_planned() {
        use Version::{Http10, Http11};
        assert_eq!(lines(Http11, Some(12), true), "Content-Length: 12\r\n");
        assert_eq!(lines(Http11, None, true), "Transfer-Encoding: chunked\r\n");
        assert_eq!(lines(Http11, None, false), "Transfer-Encoding: chunked\r\nConnection: close\r\n");
        assert_eq!(lines(Http10, Some(0), true), "Content-Length: 0\r\nConnection: keep-alive\r\n");
        assert_eq!(lines(Http10, None, true), "Connection: close\r\n");
    }

    #[test]
    fn chunks_have_their_size_in_hexadecimal() {
        let mut out = Vec::new();
        chunk(&mut out, b"hello");
        chunk(&mut out, b"");
        chunk(&mut out, &[b'x'; 26]);
        out.extend_from_slice(LAST_CHUNK);
        assert_eq!(out, [&b"5\r\nhello\r\n1a\r\n"[..], &[b'x'; 26], b"\r\n0\r\n\r\n"].concat());
    }

    #[test]
    fn numbers_of_any_size_are_written() {
        for n in [0, 9, 10, 99, 1 << 32, u64::MAX] {
            let mut out = Vec::new();
            number(&mut out, n, 10);
            out.push(b' ');
            number(&mut out, n, 16);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{n} {n:x}"));
        }
    }

    #[test]
    fn a_simple_answer_is_complete() {
        let text = |keep_alive, head_only| {
            String::from_utf8(simple(503, "All workers are busy.", DATE, keep_alive, head_only)).unwrap()
        };
        let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: 1\r\nContent-Length: 22\r\n";
        assert_eq!(text(false, false), format!("{head}Connection: close\r\n\r\nAll workers are busy.\n"));
        assert_eq!(text(true, true), format!("{head}Connection: keep-alive\r\n\r\n"));
    }
}
