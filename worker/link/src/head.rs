//! The payloads of `Request` and `Response` frames: numbers of fixed size first, then texts with their lengths before them,
//! then header fields to the end. Writing allocates nothing per field, and reading hands out slices of the payload.
//!
//! What HTTP says about the connection (`Connection`, `Transfer-Encoding`, the framing) is not here: a stream has an end of
//! its own. What the proxy knows of the client is here and not among the fields, where a client could have put it.
use crate::violation::Violation;

/// Longest payload of a `Response` in bytes: both sides hold such heads in memory, and no client takes larger ones.
pub const MOST_RESPONSE: usize = 1024 * 1024;

/// Bytes by which the payload of a `Request` may exceed `limits.header_bytes`, which bounds what the client sent: lengths,
/// and what the proxy adds.
pub const REQUEST_ROOM: usize = 4096;

/// Says that the length of a body is not known.
const UNKNOWN: u64 = u64::MAX;

/// What a request is, but for its header fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts<'a> {
    /// Body bytes, if they are known; 0 of no body and of an empty one: the flag `END` tells.
    pub length: Option<u64>,
    /// After so many milliseconds nobody waits for the answer any more; 0: no limit.
    pub deadline_ms: u32,
    /// The method.
    pub method: &'a [u8],
    /// The target as the client sent it, in origin form or `*`.
    pub target: &'a [u8],
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a [u8],
    /// The client: `<ip>:<port>`, or `unix:`.
    pub peer: &'a [u8],
    /// The listener: `<ip>:<port>`, or `unix:`.
    pub server: &'a [u8],
    /// The request's id.
    pub id: &'a [u8],
}

/// A request's head as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All but the fields.
    pub facts: RequestFacts<'a>,
    /// The fields.
    pub fields: Fields<'a>,
}

/// What an answer is, but for its header fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFacts<'a> {
    /// The status code; 1xx: more heads follow.
    pub status: u16,
    /// The core that made the answer.
    pub core: u32,
    /// Microseconds since the request was complete enough to run.
    pub micros: u64,
    /// `Content-Length`, if the application announced one or all of the body is there.
    pub length: Option<u64>,
    /// What stands behind the status code.
    pub reason: &'a [u8],
}

/// An answer's head as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// All but the fields.
    pub facts: ResponseFacts<'a>,
    /// The fields.
    pub fields: Fields<'a>,
}

/// Header fields as `(name, value)`, in the order sent. An error is the last item.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    rest: Reader<'a>,
}

/// Writes the head of a request but for its fields, which follow with [`put_field`].
pub fn put_request(out: &mut Vec<u8>, facts: &RequestFacts<'_>) {
    out.extend_from_slice(&facts.length.unwrap_or(UNKNOWN).to_le_bytes());
    out.extend_from_slice(&facts.deadline_ms.to_le_bytes());
    for text in [facts.method, facts.target, facts.scheme, facts.peer, facts.server, facts.id] {
        put_text(out, text);
    }
}

/// Writes the head of an answer but for its fields, which follow with [`put_field`].
pub fn put_response(out: &mut Vec<u8>, facts: &ResponseFacts<'_>) {
    out.extend_from_slice(&facts.status.to_le_bytes());
    out.extend_from_slice(&facts.core.to_le_bytes());
    out.extend_from_slice(&facts.micros.to_le_bytes());
    out.extend_from_slice(&facts.length.unwrap_or(UNKNOWN).to_le_bytes());
    put_text(out, facts.reason);
}

/// Notes in the payload of a `Response`, which begins at the front of `payload`, what is known only when its fields are
/// written: they need not be written twice.
pub fn amend_response(payload: &mut [u8], micros: u64, length: Option<u64>) {
    // Behind status and core, see `put_response`.
    payload[6..14].copy_from_slice(&micros.to_le_bytes());
    payload[14..22].copy_from_slice(&length.unwrap_or(UNKNOWN).to_le_bytes());
}

/// Writes one header field.
pub fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    put_text(out, name);
    put_text(out, value);
}

/// Text is never near 4 GiB: whoever writes one has read it within a limit.
fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(u32::try_from(text.len()).is_ok());
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

impl<'a> Request<'a> {
    /// Reads the payload of a `Request` frame.
    pub fn parse(payload: &'a [u8]) -> Result<Request<'a>, Violation> {
        let mut from = Reader { bytes: payload };
        let facts = || {
            Some(RequestFacts {
                length: Some(u64::from_le_bytes(from.array()?)).filter(|length| *length != UNKNOWN),
                deadline_ms: u32::from_le_bytes(from.array()?),
                method: from.text()?,
                target: from.text()?,
                scheme: from.text()?,
                peer: from.text()?,
                server: from.text()?,
                id: from.text()?,
            })
        };
        let facts = { facts }().ok_or(Violation::Malformed("Request"))?;
        Ok(Request { facts, fields: Fields { rest: from } })
    }
}

impl<'a> Response<'a> {
    /// Reads the payload of a `Response` frame.
    pub fn parse(payload: &'a [u8]) -> Result<Response<'a>, Violation> {
        let mut from = Reader { bytes: payload };
        let facts = || {
            Some(ResponseFacts {
                status: u16::from_le_bytes(from.array()?),
                core: u32::from_le_bytes(from.array()?),
                micros: u64::from_le_bytes(from.array()?),
                length: Some(u64::from_le_bytes(from.array()?)).filter(|length| *length != UNKNOWN),
                reason: from.text()?,
            })
        };
        let facts = { facts }().ok_or(Violation::Malformed("Response"))?;
        Ok(Response { facts, fields: Fields { rest: from } })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.bytes.is_empty() {
            return None;
        }
        match (self.rest.text(), self.rest.text()) {
            (Some(name), Some(value)) => Some(Ok((name, value))),
            _ => {
                self.rest.bytes = &[];
                Some(Err(Violation::Malformed("head")))
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_le_bytes(self.array()?);
        let (text, rest) = self.bytes.split_at_checked(length as usize)?;
        self.bytes = rest;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: RequestFacts<'_> = RequestFacts {
        length: Some(5),
        deadline_ms: 30_000,
        method: b"POST",
        target: b"/a?b",
        scheme: b"https",
        peer: b"192.0.2.1:99",
        server: b"[::1]:443",
        id: b"0123",
    };
    const RESPONSE: ResponseFacts<'_> =
        ResponseFacts { status: 404, core: 17, micros: 1100, length: None, reason: b"Not Here" };
    const FIELDS: [(&[u8], &[u8]); 3] = [(b"host", b"a.example"), (b"x-empty", b""), (b"host", b"\xff")];

    fn with_fields(mut out: Vec<u8>) -> Vec<u8> {
        FIELDS.iter().for_each(|(name, value)| put_field(&mut out, name, value));
        out
    }

    fn request() -> Vec<u8> {
        let mut out = Vec::new();
        put_request(&mut out, &REQUEST);
        with_fields(out)
    }

    #[test]
    fn heads_come_back_as_they_were_written() {
        let payload = request();
        let read = Request::parse(&payload).unwrap();
        assert_eq!(read.facts, REQUEST);
        assert_eq!(read.fields.map(Result::unwrap).collect::<Vec<_>>(), FIELDS);
        let mut payload = Vec::new();
        put_response(&mut payload, &RESPONSE);
        let payload = with_fields(payload);
        let read = Response::parse(&payload).unwrap();
        assert_eq!(read.facts, RESPONSE);
        assert_eq!(read.fields.map(Result::unwrap).collect::<Vec<_>>(), FIELDS);
    }

    #[test]
    fn what_is_known_last_is_noted_in_place() {
        let mut payload = Vec::new();
        put_response(&mut payload, &ResponseFacts { micros: 0, length: Some(1), ..RESPONSE });
        let mut payload = with_fields(payload);
        amend_response(&mut payload, RESPONSE.micros, RESPONSE.length);
        let read = Response::parse(&payload).unwrap();
        assert_eq!((read.facts, read.fields.count()), (RESPONSE, FIELDS.len()));
    }

    #[test]
    fn a_head_that_is_cut_anywhere_is_malformed_or_lacks_fields() {
        let payload = request();
        for end in 0..payload.len() {
            let Ok(read) = Request::parse(&payload[..end]) else { continue };
            assert_eq!(read.facts, REQUEST);
            let fields: Vec<_> = read.fields.collect();
            assert!(fields.len() <= FIELDS.len());
            assert!(fields.iter().rev().skip(1).all(Result::is_ok), "an error is the last item");
        }
    }

    #[test]
    fn a_length_that_reaches_beyond_the_payload_is_found() {
        let mut payload = request();
        let at = payload.len() - 1 - 4;
        payload[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let fields: Vec<_> = Request::parse(&payload).unwrap().fields.collect();
        assert_eq!(fields.last(), Some(&Err(Violation::Malformed("head"))));
    }
}
