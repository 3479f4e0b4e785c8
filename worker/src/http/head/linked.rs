//! A request head that came over the link: the proxy has judged it, and its parts come with their lengths, so nothing is
//! parsed as HTTP here. Made by `links`; afterwards it is a [`Head`] like any other, with [`Facts`] in addition.
use super::{Field, Head, Span, Version};
use crate::http::{Framing, target};
use appliance_link::frame::{END, EXPECT, OLD};
use appliance_link::{Violation, head::Request};
use memchr::memchr;

/// Fields for which room is made at once; most requests have fewer.
const USUAL_FIELDS: usize = 16;

/// What the proxy says of the client beside the header fields, where no client can have written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The client: `<ip>:<port>`, or `unix:`.
    pub peer: &'a [u8],
    /// The proxy's listener: `<ip>:<port>`, or `unix:`.
    pub server: &'a [u8],
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a [u8],
    /// The request's id.
    pub id: &'a [u8],
    /// After so many milliseconds nobody waits for the answer any more; 0: no limit.
    pub deadline_ms: u32,
}

/// Where the facts lie in the bytes of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spans {
    peer: Span,
    server: Span,
    scheme: Span,
    id: Span,
    deadline_ms: u32,
}

impl Head {
    /// Reads the payload of a `Request` frame with these flags. Fields whose name contains `_` are dropped, as [`super::parse`]
    /// does.
    pub fn from_link(flags: u8, payload: &[u8]) -> Result<Head, Violation> {
        let request = Request::parse(payload)?;
        let facts = &request.facts;
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        let mut host = None;
        for field in request.fields {
            let (name, value) = field?;
            if memchr(b'_', name).is_some() {
                continue;
            }
            let value = Span::of(payload, value);
            if name.eq_ignore_ascii_case(b"host") {
                host = Some(value);
            }
            fields.push(Field { name: Span::of(payload, name), value });
        }
        let parts = target::split(None, facts.target);
        Ok(Head {
            consumed: payload.len(),
            method: Span::of(payload, facts.method),
            target: Span::of(payload, facts.target),
            path: Span::of(payload, parts.path),
            query: Span::of(payload, parts.query),
            version: if flags & OLD == 0 { Version::Http11 } else { Version::Http10 },
            fields,
            host,
            framing: match facts.length {
                Some(0) => Framing::Length(0),
                _ if flags & END != 0 => Framing::None,
                Some(length) => Framing::Length(length),
                None => Framing::Chunked,
            },
            // Streams end one by one: nothing that is said about connections concerns them.
            keep_alive: true,
            expect_continue: flags & EXPECT != 0,
            upgrade: false,
            facts: Some(Spans {
                peer: Span::of(payload, facts.peer),
                server: Span::of(payload, facts.server),
                scheme: Span::of(payload, facts.scheme),
                id: Span::of(payload, facts.id),
                deadline_ms: facts.deadline_ms,
            }),
            bytes: payload.into(),
        })
    }

    /// What the proxy says of the client; `None` if the request did not come over the link.
    pub fn facts(&self) -> Option<Facts<'_>> {
        self.facts.as_ref().map(|spans| Facts {
            peer: self.slice(spans.peer),
            server: self.slice(spans.server),
            scheme: self.slice(spans.scheme),
            id: self.slice(spans.id),
            deadline_ms: spans.deadline_ms,
        })
    }

    /// The id by which the logs of proxy and worker name this request, if it has one.
    pub fn request_id(&self) -> Option<&[u8]> {
        self.facts().map(|facts| facts.id).or_else(|| self.header("x-request-id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance_link::head::{RequestFacts, put_field, put_request};

    fn payload(length: Option<u64>) -> Vec<u8> {
        let facts = RequestFacts {
            length,
            deadline_ms: 30_000,
            method: b"POST",
            target: b"/a%20b?c?d",
            scheme: b"https",
            peer: b"192.0.2.1:99",
            server: b"[::1]:443",
            id: b"0123",
        };
        let mut payload = Vec::new();
        put_request(&mut payload, &facts);
        for (name, value) in [("Host", "d"), ("x_a", "no"), ("X-A", "1"), ("X-Request-ID", "forged")] {
            put_field(&mut payload, name.as_bytes(), value.as_bytes());
        }
        payload
    }

    #[test]
    fn a_head_reads_as_if_it_had_come_as_http() {
        let head = Head::from_link(OLD | EXPECT, &payload(Some(5))).unwrap();
        assert_eq!((head.method(), head.target()), ("POST", &b"/a%20b?c?d"[..]));
        assert_eq!((head.path(), head.query(), head.host()), (&b"/a%20b"[..], &b"c?d"[..], Some(&b"d"[..])));
        assert_eq!((head.version(), head.framing()), (Version::Http10, Framing::Length(5)));
        assert!(head.expect_continue() && !head.upgrade());
        assert_eq!(head.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["Host", "X-A", "X-Request-ID"]);
    }

    #[test]
    fn facts_are_not_fields() {
        let head = Head::from_link(END, &payload(None)).unwrap();
        let facts = Facts {
            peer: b"192.0.2.1:99",
            server: b"[::1]:443",
            scheme: b"https",
            id: b"0123",
            deadline_ms: 30_000,
        };
        assert_eq!((head.facts(), head.request_id()), (Some(facts), Some(&b"0123"[..])));
    }

    #[test]
    fn the_framing_is_what_the_proxy_knows_of_the_body() {
        let framing = |flags, length| Head::from_link(flags, &payload(length)).unwrap().framing();
        assert_eq!(framing(END, None), Framing::None);
        assert_eq!(framing(END, Some(0)), Framing::Length(0));
        assert_eq!(framing(0, Some(7)), Framing::Length(7));
        assert_eq!(framing(0, None), Framing::Chunked);
    }

    #[test]
    fn a_cut_payload_is_malformed() {
        let whole = payload(None);
        assert_eq!(Head::from_link(0, &whole[..whole.len() - 1]).unwrap_err(), Violation::Malformed("head"));
        assert_eq!(Head::from_link(0, &whole[..20]).unwrap_err(), Violation::Malformed("Request"));
    }
}
