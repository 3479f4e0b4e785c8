//! One answer on its way out: the head that an application asked for, checked and planned, and its body cut into what the
//! framing allows. Used by every host, so that all of them send the same bytes; it sends nothing itself. An answer that
//! leaves over the link differs in how its head is written, and its body needs no framing of its own.
use crate::engine::Engine;
use crate::http::declared::{self, Declared, Invalid};
use crate::http::encode;
use crate::http::plan::{Answer as Facts, Body, Length, Plan};
use crate::told::{Headline, Told};
use crate::websocket::handshake;
use crate::{CoreId, Request};
use appliance_link::head::{self as link, MOST_RESPONSE, ResponseFacts};
use appliance_link::private;
pub use appliance_link::private::Cause;
use bytes::Bytes;
use std::sync::Arc;

/// Bodies up to this size leave with their head in one piece.
pub const TOGETHER: usize = 16 * 1024;
/// The first half of a private header that tells the proxy which core answered, and after how many microseconds.
const CORE_HEADER: &[u8] = b"x-appliance-core";
/// The private header by which the proxy names the client; its presence says that the proxy wants to know our side.
pub const PEER_HEADER: &str = "x-appliance-peer";

/// Room that the head of an answer must leave for what is added beside the application's headers: the date, the framing, and
/// what the proxy is told.
const END_OF_HEAD: usize = 8 * 1024;

/// What the end of a head depends on beside the request: the engine, or what stands for it on another thread.
pub trait Moment {
    /// Calls a function with the value of a `Date` header field.
    fn with_date(&self, then: impl FnOnce(&[u8]));
    /// Whether the worker has been told to stop.
    fn is_draining(&self) -> bool;
    /// Whether all of this request's body has arrived, read or not.
    fn is_body_complete(&self, core: CoreId) -> bool;
}

impl Moment for Engine {
    fn with_date(&self, then: impl FnOnce(&[u8])) {
        then(&self.date());
    }

    fn is_draining(&self) -> bool {
        Engine::is_draining(self)
    }

    fn is_body_complete(&self, core: CoreId) -> bool {
        Engine::is_body_complete(self, core)
    }
}

/// What an answer is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Text of HTTP/1.1.
    Http,
    /// Payloads of frames.
    Link,
}

impl Wire {
    /// What the answer to this request is written as.
    pub(crate) fn of(request: &Request) -> Wire {
        if request.received.head.facts().is_some() { Wire::Link } else { Wire::Http }
    }

    /// Writes a header field.
    pub(crate) fn put(self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        match self {
            Wire::Http => encode::header(out, name, value),
            Wire::Link => link::put_field(out, name, value),
        }
    }
}

/// A head that is being written into a buffer.
#[derive(Debug)]
pub struct Opening {
    wire: Wire,
    /// The proxy reads it, and takes out what is not for the client.
    is_for_proxy: bool,
    out: Vec<u8>,
    status: u16,
    declared: Declared,
    /// The access log of this worker, with what it is told at the end.
    told: Option<Arc<Told>>,
    cause: Option<Cause>,
    variables: Vec<Bytes>,
}

impl Opening {
    /// Begins the answer to `request`, which runs on `core`, with the application's status, such as `200 OK`.
    pub fn new(request: &Request, core: CoreId, status: &[u8]) -> Result<Opening, Invalid> {
        let mut opening = Opening::without_status(request);
        opening.set_status(core, status)?;
        Ok(opening)
    }

    /// Begins an answer with its header fields. [`Opening::set_status`] or [`Opening::switch`] is to follow.
    pub fn without_status(request: &Request) -> Opening {
        let wire = Wire::of(request);
        let is_for_proxy = request.origin().is_some();
        let out = Vec::with_capacity(512);
        let (declared, told) = (Declared::default(), request.told.clone());
        let (cause, variables) = (None, Vec::new());
        Opening { wire, is_for_proxy, out, status: 0, declared, told, cause, variables }
    }

    /// Says the status of an answer that was begun without; once.
    pub fn set_status(&mut self, core: CoreId, status: &[u8]) -> Result<(), Invalid> {
        self.status = declared::status(status)?;
        let wire = self.wire;
        // Three digits and a space stand before the reason.
        let (status, code, reason) = (status, self.status, &status[4..]);
        self.put_in_front(|out| match wire {
            Wire::Http => encode::status_line(out, status),
            Wire::Link => {
                let facts = ResponseFacts { status: code, core: core.index, reason, ..Default::default() };
                link::put_response(out, &facts);
            }
        });
        Ok(())
    }

    /// Begins the answer that makes the connection of `request` a WebSocket. [`Opening::finish`] gives the head for
    /// [`Engine::open_websocket`].
    pub fn switching(request: &Request, key: &[u8], protocol: Option<&str>) -> Opening {
        let mut opening = Opening::without_status(request);
        opening.switch(key, protocol);
        opening
    }

    /// The same for an answer that was begun without status; once.
    pub fn switch(&mut self, key: &[u8], protocol: Option<&str>) {
        self.status = 101;
        self.put_in_front(|out| {
            encode::status_line(out, b"101 Switching Protocols");
            for (name, value) in handshake::fields(key, protocol) {
                encode::header(out, name, &value);
            }
        });
    }

    fn put_in_front(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let fields = self.out.len();
        put(&mut self.out);
        self.out.rotate_left(fields);
    }

    /// Adds one of the application's headers; nothing of one that is refused.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        if self.out.len() + name.len() + value.len() > MOST_RESPONSE - END_OF_HEAD {
            return Err(Invalid::TooLarge(MOST_RESPONSE));
        }
        if self.declared.take(name, value)? {
            self.wire.put(&mut self.out, name, value);
        }
        Ok(())
    }

    /// Tells the access log why this answer is not the application's own.
    pub fn cause(&mut self, cause: Cause) {
        self.cause = Some(cause);
        if self.is_for_proxy {
            self.wire.put(&mut self.out, private::CAUSE.as_bytes(), cause.word().as_bytes());
        }
    }

    /// Tells the access log what else it is to say of this request; only the first [`private::MOST_VARIABLES`] count.
    pub fn variables<'a>(&mut self, variables: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) {
        if !self.is_for_proxy && self.told.is_none() {
            return;
        }
        for (key, value) in variables.into_iter().take(private::MOST_VARIABLES) {
            let variable = private::variable(key, value);
            if self.is_for_proxy {
                self.wire.put(&mut self.out, private::VARIABLE.as_bytes(), &variable);
            } else {
                self.variables.push(variable.into());
            }
        }
    }

    /// Plans the answer and completes its head. `whole` is the length of the body if all of it is there.
    pub fn finish(
        mut self,
        engine: &impl Moment,
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
        // The front dates what comes over the link when it passes it on.
        if self.wire == Wire::Http && !self.declared.date {
            engine.with_date(|date| encode::header(&mut self.out, b"Date", date));
        }
        let micros = || u64::try_from(request.arrived.elapsed().as_micros()).unwrap_or(u64::MAX);
        match self.wire {
            Wire::Http => {
                encode::framing(&mut self.out, &plan);
                if self.is_for_proxy {
                    let time = format!("{} {}", core.index, micros());
                    encode::header(&mut self.out, CORE_HEADER, time.as_bytes());
                }
                encode::end_of_head(&mut self.out);
            }
            Wire::Link => link::amend_response(&mut self.out, micros(), plan.length()),
        }
        if let Some(told) = &self.told {
            told.begin(Headline {
                status: self.status,
                length: self.out.len() as u64,
                after: request.arrived.elapsed(),
                cause: self.cause,
                variables: self.variables,
            });
        }
        (Answer { told: self.told, ..Answer::new(self.wire, self.status, plan) }, self.out)
    }
}

/// An answer whose head is written.
#[derive(Debug)]
pub struct Answer {
    wire: Wire,
    status: u16,
    plan: Plan,
    length: Option<Length>,
    dropped: u64,
    told: Option<Arc<Told>>,
}

/// A piece of body, as it goes on the wire: `before`, then the content, then `after`. Of a file the content is a number of
/// bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<C> {
    /// The size of a chunk.
    pub before: Vec<u8>,
    /// As much of the content as may be sent.
    pub content: C,
    /// The end of a chunk.
    pub after: &'static [u8],
    /// The body has come to its announced length with this piece.
    pub last: bool,
}

impl Piece<&[u8]> {
    /// Sends the piece behind `out`, in as few parts as it can be without copying much; `send` is told of each whether the
    /// answer ends with it.
    pub fn send_behind<E>(
        &self,
        mut out: Vec<u8>,
        mut send: impl FnMut(&[u8], bool) -> Result<(), E>,
    ) -> Result<(), E> {
        out.extend_from_slice(&self.before);
        if out.is_empty() {
            return send(self.content, self.last);
        }
        if self.content.len() <= TOGETHER {
            out.extend_from_slice(self.content);
            out.extend_from_slice(self.after);
            return send(&out, false);
        }
        send(&out, false)?;
        send(self.content, false)?;
        send(self.after, false)
    }
}

impl Answer {
    fn new(wire: Wire, status: u16, plan: Plan) -> Answer {
        let length = match plan.body {
            Body::Length(n) => Some(Length::new(n)),
            _ => None,
        };
        Answer { wire, status, plan, length, dropped: 0, told: None }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Frames a piece of the body. Content that the framing has no room for is dropped and counted.
    pub fn piece<'a>(&mut self, content: &'a [u8]) -> Piece<&'a [u8]> {
        let Piece { before, content: allowed, after, last } = self.piece_of(content.len());
        Piece { before, content: &content[..allowed], after, last }
    }

    /// The same for `count` bytes that are somewhere else.
    pub fn piece_of(&mut self, count: usize) -> Piece<usize> {
        let mut before = Vec::new();
        let (allowed, after) = match (&mut self.length, self.plan.body) {
            (Some(length), _) => (length.take(count), &b""[..]),
            (None, Body::None { .. }) => (0, &b""[..]),
            (None, Body::Chunked) if self.wire == Wire::Http && count > 0 => {
                encode::chunk_size(&mut before, count);
                (count, encode::CHUNK_END)
            }
            (None, _) => (count, &b""[..]),
        };
        if self.length.is_some() {
            self.dropped += (count - allowed) as u64;
        }
        if let Some(told) = &self.told {
            told.count(allowed as u64);
        }
        let last = self.length.is_some_and(|length| length.missing() == 0);
        Piece { before, content: allowed, after, last }
    }

    /// Whether no byte follows the head.
    pub fn has_no_body(&self) -> bool {
        matches!(self.plan.body, Body::None { .. } | Body::Length(0))
    }

    /// Whether nothing that the application may still give can be sent: the answer to a `HEAD`, or a body that is
    /// longer than announced already.
    pub fn is_full(&self) -> bool {
        self.dropped > 0 || matches!(self.plan.body, Body::None { .. })
    }

    /// Whether the client has been given all that it waits for, whatever the application still does.
    pub fn is_whole(&self) -> bool {
        self.has_no_body() || self.length.as_ref().is_some_and(|length| length.missing() == 0)
    }

    /// What follows the last piece.
    pub fn end(&self) -> &'static [u8] {
        if self.wire == Wire::Http && self.plan.body == Body::Chunked { encode::LAST_CHUNK } else { b"" }
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

    /// Reports a body that ended normally, but not where its application had announced.
    pub fn check_length(&self, request: &Request) {
        let (missing, dropped) = (self.missing(), self.dropped());
        if missing == 0 && dropped == 0 {
            return;
        }
        let target = String::from_utf8_lossy(request.received.head.target()).into_owned();
        if missing > 0 {
            let why = "the body is shorter than its Content-Length; the client sees that it is cut";
            tracing::warn!(target, missing, "{why}");
        } else {
            tracing::warn!(
                target,
                dropped,
                "the body is longer than its Content-Length; the rest was not sent"
            );
        }
    }

    /// Whether the connection may be used again after a complete answer.
    pub fn keep_alive(&self) -> bool {
        self.plan.keep_alive
    }
}

#[cfg(test)]
mod tests;
