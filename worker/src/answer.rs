//! One answer on its way out: the head that an application asked for, checked and planned, and its body cut into what the
//! framing allows. Used by every host, so that all of them send the same bytes; it sends nothing itself.
use crate::engine::Engine;
use crate::http::declared::{self, Declared, Invalid};
use crate::http::encode;
use crate::http::plan::{Answer as Facts, Body, Length, Plan};
use crate::{CoreId, Request};

/// Bodies up to this size leave with their head in one piece.
pub const TOGETHER: usize = 16 * 1024;
/// The first half of a private header that tells the proxy which core answered, and after how many microseconds.
const CORE_HEADER: &[u8] = b"x-appliance-core";
/// The private header by which the proxy names the client; its presence says that the proxy wants to know our side.
pub const PEER_HEADER: &str = "x-appliance-peer";

/// A head that is being written into a buffer.
#[derive(Debug)]
pub struct Opening {
    out: Vec<u8>,
    status: u16,
    declared: Declared,
}

impl Opening {
    /// Begins with the application's status, such as `200 OK`.
    pub fn new(status: &[u8]) -> Result<Opening, Invalid> {
        let code = declared::status(status)?;
        let mut out = Vec::with_capacity(512);
        encode::status_line(&mut out, status);
        Ok(Opening { out, status: code, declared: Declared::default() })
    }

    /// Adds one of the application's headers.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        if self.declared.take(name, value)? {
            encode::header(&mut self.out, name, value);
        }
        Ok(())
    }

    /// Plans the answer and completes its head. `whole` is the length of the body if all of it is there.
    pub fn finish(
        mut self,
        engine: &Engine,
        core: CoreId,
        request: &Request,
        whole: Option<u64>,
    ) -> (Answer, Vec<u8>) {
        let head = &request.received.head;
        let plan = Facts {
            version: head.version(),
            head_only: head.method() == "HEAD",
            status: self.status,
            declared: self.declared.length,
            whole,
            // The rest of a body that nobody may ever read would stand before the next request.
            keep_alive: head.keep_alive()
                && !self.declared.close
                && !engine.is_draining()
                && (request.received.complete || engine.is_body_complete(core)),
        }
        .plan();
        if !self.declared.date {
            encode::header(&mut self.out, b"Date", &engine.date());
        }
        encode::framing(&mut self.out, &plan);
        if request.peer.trusted && head.header(PEER_HEADER).is_some() {
            let micros = request.arrived.elapsed().as_micros();
            encode::header(&mut self.out, CORE_HEADER, format!("{} {micros}", core.index).as_bytes());
        }
        encode::end_of_head(&mut self.out);
        (Answer::new(plan), self.out)
    }
}

/// An answer whose head is written.
#[derive(Debug)]
pub struct Answer {
    plan: Plan,
    length: Option<Length>,
    dropped: u64,
}

/// A piece of body, as it goes on the wire: `before`, then the content, then `after`.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The size of a chunk.
    pub before: Vec<u8>,
    /// As much of the content as may be sent.
    pub content: &'a [u8],
    /// The end of a chunk.
    pub after: &'static [u8],
}

impl Answer {
    fn new(plan: Plan) -> Answer {
        let length = match plan.body {
            Body::Length(n) => Some(Length::new(n)),
            _ => None,
        };
        Answer { plan, length, dropped: 0 }
    }

    /// Frames a piece of the body. Content that the framing has no room for is dropped and counted.
    pub fn piece<'a>(&mut self, content: &'a [u8]) -> Piece<'a> {
        let mut before = Vec::new();
        let (allowed, after) = match (&mut self.length, self.plan.body) {
            (Some(length), _) => (length.take(content.len()), &b""[..]),
            (None, Body::None { .. }) => (0, &b""[..]),
            (None, Body::Chunked) if !content.is_empty() => {
                encode::chunk_size(&mut before, content.len());
                (content.len(), encode::CHUNK_END)
            }
            (None, _) => (content.len(), &b""[..]),
        };
        if self.length.is_some() {
            self.dropped += (content.len() - allowed) as u64;
        }
        Piece { before, content: &content[..allowed], after }
    }

    /// Whether nothing that the application may still give can be sent: the answer to a `HEAD`, or a body that is
    /// longer than announced already.
    pub fn is_full(&self) -> bool {
        self.dropped > 0 || matches!(self.plan.body, Body::None { .. })
    }

    /// What follows the last piece.
    pub fn end(&self) -> &'static [u8] {
        if self.plan.body == Body::Chunked { encode::LAST_CHUNK } else { b"" }
    }

    /// Bytes that were announced with `Content-Length` and have not come. Not 0: the connection must be closed, so that
    /// the client sees it.
    pub fn missing(&self) -> u64 {
        self.length.as_ref().map_or(0, Length::missing)
    }

    /// Bytes beyond the announced `Content-Length`, which were not sent.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether the connection may be used again after a complete answer.
    pub fn keep_alive(&self) -> bool {
        self.plan.keep_alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(declared: Option<u64>, status: u16) -> Answer {
        let version = crate::http::Version::Http11;
        let facts = Facts { version, head_only: false, status, declared, whole: None, keep_alive: true };
        Answer::new(facts.plan())
    }

    #[test]
    fn an_announced_length_is_never_exceeded_and_a_lack_is_known() {
        let mut answer = answer(Some(5), 200);
        assert_eq!(answer.piece(b"abc").content, b"abc");
        assert_eq!(answer.missing(), 2);
        assert_eq!(answer.piece(b"defg").content, b"de");
        assert_eq!((answer.missing(), answer.dropped(), answer.end()), (0, 2, &b""[..]));
    }

    #[test]
    fn chunks_are_framed_and_an_empty_one_is_not_sent() {
        let mut answer = answer(None, 200);
        let piece = answer.piece(b"0123456789");
        assert_eq!(
            (&*piece.before, piece.content, piece.after),
            (&b"a\r\n"[..], &b"0123456789"[..], &b"\r\n"[..])
        );
        let empty = answer.piece(b"");
        assert_eq!((&*empty.before, empty.content, empty.after), (&b""[..], &b""[..], &b""[..]));
        assert_eq!((answer.end(), answer.missing()), (&b"0\r\n\r\n"[..], 0));
    }

    #[test]
    fn an_answer_without_body_sends_none() {
        let mut answer = answer(Some(3), 304);
        assert_eq!(answer.piece(b"abc").content, b"");
        assert_eq!((answer.end(), answer.missing(), answer.dropped()), (&b""[..], 0, 0));
    }
}
