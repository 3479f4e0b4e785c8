//! Early hints (RFC 8297): an interim answer with header fields that the client may act on while the application still works
//! on the final one. Checked like any answer's, written for the way on which the request came; it sends nothing itself.
//! Used by every host.
use crate::Request;
use crate::answer::Wire;
use crate::http::declared::{self, Invalid};
use crate::http::{Version, encode};
use appliance_link::head::{self as link, MOST_RESPONSE, ResponseFacts};

/// The head of an interim answer that is being written.
#[derive(Debug)]
pub struct Hints {
    wire: Wire,
    out: Vec<u8>,
}

impl Hints {
    /// Begins one for this request; `None` if its client is too old to know interim answers (RFC 9110 section 15.2).
    pub fn new(request: &Request) -> Option<Hints> {
        (request.received.head.version() != Version::Http10).then(|| Hints::on(Wire::of(request)))
    }

    fn on(wire: Wire) -> Hints {
        let mut out = Vec::with_capacity(256);
        match wire {
            Wire::Http => encode::status_line(&mut out, b"103 Early Hints"),
            Wire::Link => {
                let facts = ResponseFacts { status: 103, reason: b"Early Hints", ..Default::default() };
                link::put_response(&mut out, &facts);
            }
        }
        Hints { wire, out }
    }

    /// Adds a header field.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        declared::hint(name, value)?;
        self.wire.put(&mut self.out, name, value);
        if self.out.len() >= MOST_RESPONSE {
            return Err(Invalid::TooLarge(MOST_RESPONSE));
        }
        Ok(())
    }

    /// The bytes for [`Engine::send_interim`](crate::Engine::send_interim).
    pub fn finish(mut self) -> Vec<u8> {
        if self.wire == Wire::Http {
            encode::end_of_head(&mut self.out);
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_a_head_without_an_end() {
        let mut hints = Hints::on(Wire::Http);
        hints.header(b"Link", b"</a.css>; rel=preload").unwrap();
        hints.header(b"Link", b"</b.js>").unwrap();
        let expected = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>\r\n\r\n";
        assert_eq!(hints.finish(), expected.as_bytes());
    }

    #[test]
    fn on_the_link_they_are_the_payload_of_a_frame() {
        let mut hints = Hints::on(Wire::Link);
        hints.header(b"Link", b"</b.js>").unwrap();
        let payload = hints.finish();
        let read = link::Response::parse(&payload).unwrap();
        assert_eq!((read.facts.status, read.facts.reason), (103, &b"Early Hints"[..]));
        let fields: Vec<_> = read.fields.map(Result::unwrap).collect();
        assert_eq!(fields, [(&b"Link"[..], &b"</b.js>"[..])]);
    }

    #[test]
    fn nobody_hints_without_end() {
        let mut hints = Hints::on(Wire::Http);
        let value = vec![b'x'; MOST_RESPONSE / 2];
        assert_eq!(hints.header(b"A", &value), Ok(()));
        assert_eq!(hints.header(b"A", &value), Err(Invalid::TooLarge(MOST_RESPONSE)));
    }
}
