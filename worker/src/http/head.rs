//! A request head: from bytes to a value that owns what it says. `parse` is called by `conn` with everything received
//! so far, until it gives a head or a refusal. httparse finds the tokens; `scan` has found the end before, and
//! `target` and `fields` judge what the tokens mean.
//!
//! A head that comes over the link is made by `linked` instead, from fields that nobody needs to find or judge any more.
//!
//! A head costs two allocations, one for its bytes and one for the places of its fields, however many those are.

use super::fields::{Fields, Framing};
use super::refusal::{Refusal, explain};
use super::scan::{Limits, Scan};
use super::target;
use appliance_link::reason;
use httparse::Status;
use std::mem::MaybeUninit;

mod linked;
mod named;
pub use linked::Facts;

/// Header lines for which httparse gets room on the stack. A larger head costs one more allocation.
const USUAL_HEADERS: usize = 32;

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `HTTP/1.0`
    Http10,
    /// `HTTP/1.1`
    Http11,
}

impl Version {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// The head of one request, valid in itself.
#[derive(Debug)]
pub struct Head {
    bytes: Box<[u8]>,
    consumed: usize,
    method: Span,
    target: Span,
    path: Span,
    query: Span,
    version: Version,
    fields: Vec<Field>,
    host: Option<Span>,
    framing: Framing,
    keep_alive: bool,
    expect_continue: bool,
    upgrade: bool,
    facts: Option<linked::Spans>,
}

/// A place in the bytes of a head, which is far smaller than 4 GiB.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

impl Span {
    /// Where `part`, a slice of `whole`, lies in it.
    fn of(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr().addr() - whole.as_ptr().addr();
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }
}

/// Reads a request head from the front of `buf`. `Ok(None)`: it is not complete; call again with the same bytes and
/// more behind them, and the same `scan`. After a head, `scan` is ready for the next request.
///
/// Header fields whose name contains `_` are dropped: in a WSGI environ `X_A` and `X-A` would be one.
pub fn parse(buf: &[u8], limits: &Limits, scan: &mut Scan) -> Result<Option<Head>, Refusal> {
    let Some(extent) = scan.advance(buf, limits)? else {
        return Ok(None);
    };
    *scan = Scan::default();
    let bytes = &buf[extent.start..extent.end];
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
    let mut many = Vec::new();
    let room = if extent.headers <= USUAL_HEADERS {
        &mut usual[..]
    } else {
        many.reserve_exact(extent.headers);
        many.spare_capacity_mut()
    };
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, room) {
        Ok(Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => {
            return Err(Refusal::bad(reason::BAD_HEADER, "the request head does not end where its lines do"));
        }
        Err(error) => return Err(explain(bytes, error)),
    }
    judge(bytes, &request, extent.end, limits).map(Some)
}

/// Makes a head of what httparse found in `bytes`, unless it is against the rules.
fn judge(
    bytes: &[u8],
    request: &httparse::Request<'_, '_>,
    consumed: usize,
    limits: &Limits,
) -> Result<Head, Refusal> {
    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default().as_bytes();
    let version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let parts = target::read(method, target)?;
    let mut said = Fields::default();
    let mut fields = Vec::with_capacity(request.headers.len());
    for header in &*request.headers {
        if header.name.contains('_') {
            continue;
        }
        said.take(header.name, header.value)?;
        fields.push(Field {
            name: Span::of(bytes, header.name.as_bytes()),
            value: Span::of(bytes, header.value),
        });
    }
    if said.host.is_none() && version == Version::Http11 {
        return Err(Refusal::bad(reason::NO_HOST, "an HTTP/1.1 request without a Host header"));
    }
    if let (Some(authority), Some(host)) = (parts.authority, said.host)
        && !authority.eq_ignore_ascii_case(host)
    {
        return Err(Refusal::bad(
            reason::BAD_HOST,
            "the host in the request line is not the one in the Host header",
        ));
    }
    Ok(Head {
        consumed,
        method: Span::of(bytes, method.as_bytes()),
        target: Span::of(bytes, target),
        path: Span::of(bytes, parts.path),
        query: Span::of(bytes, parts.query),
        version,
        fields,
        host: said.host.or(parts.authority).map(|host| Span::of(bytes, host)),
        framing: said.framing(version, limits.body)?,
        keep_alive: said.keep_alive(version),
        expect_continue: said.expect_continue(version)?,
        upgrade: said.upgrade(version),
        facts: None,
        bytes: bytes.into(),
    })
}

impl Head {
    /// Bytes that the head took from the buffer, with an empty line before it. The body begins there.
    #[expect(clippy::len_without_is_empty, reason = "a head is never empty")]
    pub fn len(&self) -> usize {
        self.consumed
    }

    /// The method as sent; methods are case-sensitive.
    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// The request target as sent.
    pub fn target(&self) -> &[u8] {
        self.slice(self.target)
    }

    /// The path as sent, still percent-encoded: what stands in the target before `?`, without scheme and host.
    /// Never empty; `*` for `OPTIONS *`.
    pub fn path(&self) -> &[u8] {
        match self.slice(self.path) {
            [] => b"/",
            path => path,
        }
    }

    /// What stands in the target after the first `?`, as sent; empty if there is none.
    pub fn query(&self) -> &[u8] {
        self.slice(self.query)
    }

    /// The version of the request.
    pub fn version(&self) -> Version {
        self.version
    }

    /// All header fields in the order sent; values without surrounding white space, possibly not UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (self.text(field.name), self.slice(field.value)))
    }

    /// The first field of that name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let same = |field: &&Field| self.slice(field.name).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().find(same).map(|field| self.slice(field.value))
    }

    /// Host and port that the client asked for, from `Host` or from an absolute-form target. Always there in HTTP/1.1.
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|host| self.slice(host))
    }

    /// Where the body ends.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client wants to send another request on this connection.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expect_continue(&self) -> bool {
        self.expect_continue
    }

    /// Whether the client offers to switch protocols: `Upgrade`, and `Connection: upgrade`.
    pub fn upgrade(&self) -> bool {
        self.upgrade
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// httparse lets only ASCII into methods and names, so this never finds anything else.
    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }
}

// The rules are tested by the cases of `tests/requests`.
#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { request_line: 100, header_bytes: 1000, headers: 60, body: 100 };

    #[test]
    fn a_head_is_found_in_front_of_what_follows() {
        let buf =
            b"\r\nPOST /a%20b?c HTTP/1.1\r\nHost: d\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 4\r\n\r\nbody";
        let mut scan = Scan::default();
        assert!(parse(&buf[..30], &LIMITS, &mut scan).unwrap().is_none());
        let head = parse(buf, &LIMITS, &mut scan).unwrap().unwrap();
        assert_eq!(&buf[head.len()..], b"body");
        assert_eq!(scan, Scan::default());
        assert_eq!(
            (head.method(), head.version(), head.framing()),
            ("POST", Version::Http11, Framing::Length(4))
        );
        assert_eq!((head.target(), head.path(), head.query()), (&b"/a%20b?c"[..], &b"/a%20b"[..], &b"c"[..]));
        assert_eq!((head.header("X-a"), head.header("X-B")), (Some(&b"1"[..]), None));
        assert_eq!(head.headers().last(), Some(("Content-Length", &b"4"[..])));
    }

    #[test]
    fn more_headers_than_usual_take_more_room() {
        for count in [USUAL_HEADERS - 1, USUAL_HEADERS, 59] {
            let buf = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(count));
            let head = parse(buf.as_bytes(), &LIMITS, &mut Scan::default()).unwrap().unwrap();
            assert_eq!(head.headers().count(), count + 1);
        }
    }

    #[test]
    fn the_body_limit_is_exact() {
        let status = |length: u64| {
            let buf = format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            parse(buf.as_bytes(), &LIMITS, &mut Scan::default()).map_or_else(|e| e.status, |_| 200)
        };
        assert_eq!((status(100), status(101)), (200, 413));
    }
}
