//! Frames from and to bytes. A frame is a header of 12 bytes and a payload; numbers are little-endian:
//!
//! ```text
//!  0        4         8      9       10      12
//!  ├ length ┼ stream  ┼ kind ┼ flags ┼ zero  ┼ payload (length bytes) ┤
//! ```
//! Stream 0 is the link itself. This file knows what a single frame must look like; what may follow what is `stream.rs`'s
//! business.
use crate::violation::Violation;

/// Names one stream. The proxy chooses it; an id is not used again before the worker can have forgotten the last use.
pub type StreamId = u32;

/// Bytes of a frame's header.
pub const HEADER: usize = 12;
/// Longest payload of a `Data` frame: a long body is sent as many, so that others get their turn in between.
pub const MOST_DATA: usize = 64 * 1024;

/// Nothing follows on this stream in this direction.
pub const END: u8 = 1;
/// `Request`: the client speaks HTTP/1.0.
pub const OLD: u8 = 2;
/// `Request`: the client waits for `100 Continue` before it sends the body.
pub const EXPECT: u8 = 4;
/// `Request`: the worker must send `Entered`, and it must have left, before an application sees the request.
pub const ANNOUNCE: u8 = 8;
/// `Ping`: the answer to one.
pub const ACK: u8 = 1;

/// What a frame is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Proxy to worker: the head of a request; opens a stream.
    Request = 1,
    /// Worker to proxy: the head of an answer, interim (1xx) or final.
    Response = 2,
    /// A piece of a body.
    Data = 3,
    /// The stream is over, with a [`Reason`].
    Reset = 4,
    /// More window for a stream.
    Window = 5,
    /// Are you there? Eight bytes that come back.
    Ping = 6,
    /// Worker to proxy: open no more streams here; those that are open are finished.
    GoAway = 7,
    /// Worker to proxy: an application is about to see this request.
    Entered = 8,
}

/// Why a stream was reset. Numbers that are not known count as [`Reason::Failed`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The request was not looked at; it may be sent elsewhere whatever its method.
    Refused = 1,
    /// The client has left, or was too slow.
    Gone = 2,
    /// The application ended its answer too early, or gave none.
    Cut = 3,
    /// Anything else.
    Failed = 4,
    /// The application raised an exception, and its answer will never be complete.
    Raised = 5,
    /// The request took longer than it may and was ended, and its answer will never be complete.
    TimedOut = 6,
}

/// The header of a frame that has arrived whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// As sent; only bits that the kind knows.
    pub flags: u8,
    /// Its stream, 0 for the link.
    pub stream: StreamId,
    /// Bytes of its payload.
    pub length: usize,
}

/// One frame; `P` holds the payload: a slice, or shared bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<P> {
    /// See [`Kind::Request`]; the payload is read by [`crate::head::Request`].
    Request {
        /// Stream that it opens.
        stream: StreamId,
        /// [`END`], [`OLD`], [`EXPECT`], [`ANNOUNCE`].
        flags: u8,
        /// The head.
        head: P,
    },
    /// See [`Kind::Response`]; the payload is read by [`crate::head::Response`].
    Response {
        /// Stream of the request.
        stream: StreamId,
        /// There is no body.
        end: bool,
        /// The head.
        head: P,
    },
    /// See [`Kind::Data`].
    Data {
        /// Its stream.
        stream: StreamId,
        /// The body is complete.
        end: bool,
        /// The piece.
        bytes: P,
    },
    /// See [`Kind::Reset`].
    Reset {
        /// Its stream.
        stream: StreamId,
        /// Why.
        reason: Reason,
    },
    /// See [`Kind::Window`].
    Window {
        /// Its stream.
        stream: StreamId,
        /// Bytes that may be sent in addition.
        credit: u32,
    },
    /// See [`Kind::Ping`].
    Ping {
        /// It is an answer.
        ack: bool,
        /// Anything.
        token: [u8; 8],
    },
    /// See [`Kind::GoAway`].
    GoAway,
    /// See [`Kind::Entered`].
    Entered {
        /// Stream of the request.
        stream: StreamId,
    },
}

impl Kind {
    fn from_number(number: u8) -> Result<Kind, Violation> {
        Ok(match number {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::Data,
            4 => Kind::Reset,
            5 => Kind::Window,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::Entered,
            _ => return Err(Violation::UnknownKind(number)),
        })
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Request => "Request",
            Kind::Response => "Response",
            Kind::Data => "Data",
            Kind::Reset => "Reset",
            Kind::Window => "Window",
            Kind::Ping => "Ping",
            Kind::GoAway => "GoAway",
            Kind::Entered => "Entered",
        }
    }

    /// The flags that it may have.
    fn flags(self) -> u8 {
        match self {
            Kind::Request => END | OLD | EXPECT | ANNOUNCE,
            Kind::Response | Kind::Data => END,
            Kind::Ping => ACK,
            Kind::Reset | Kind::Window | Kind::GoAway | Kind::Entered => 0,
        }
    }

    /// The longest payload, given that of heads.
    fn most(self, head: usize) -> usize {
        match self {
            Kind::Request | Kind::Response => head,
            Kind::Data => MOST_DATA,
            Kind::Reset | Kind::Window => 4,
            Kind::Ping => 8,
            Kind::GoAway | Kind::Entered => 0,
        }
    }

    fn is_of_link(self) -> bool {
        matches!(self, Kind::Ping | Kind::GoAway)
    }
}

impl Reason {
    fn from_number(number: u32) -> Reason {
        match number {
            1 => Reason::Refused,
            2 => Reason::Gone,
            3 => Reason::Cut,
            5 => Reason::Raised,
            6 => Reason::TimedOut,
            _ => Reason::Failed,
        }
    }
}

impl Header {
    /// Reads the header at the front of `received` if its whole frame is there: then the payload is
    /// `received[HEADER..HEADER + length]`. `Ok(None)`: wait for more. `most_head` bounds the payload of heads; a frame that
    /// is too long is a violation before its payload has arrived.
    pub fn parse(received: &[u8], most_head: usize) -> Result<Option<Header>, Violation> {
        let is_whole = |header: &Header| received.len() - HEADER >= header.length;
        Ok(Header::peek(received, most_head)?.filter(is_whole))
    }

    /// The same whether or not the payload has come. A piece of a body need not be waited for: what has come of it can be
    /// passed on as if it were a frame of its own.
    pub fn peek(received: &[u8], most_head: usize) -> Result<Option<Header>, Violation> {
        let Some(&[l0, l1, l2, l3, s0, s1, s2, s3, kind, flags, z0, z1]) = received.first_chunk::<HEADER>()
        else {
            return Ok(None);
        };
        let kind = Kind::from_number(kind)?;
        if flags & !kind.flags() != 0 || z0 | z1 != 0 {
            return Err(Violation::UnknownFlags { kind: kind.name(), flags });
        }
        let (length, most) = (u32::from_le_bytes([l0, l1, l2, l3]), kind.most(most_head));
        if length as usize > most {
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            return Err(Violation::TooLong { kind: kind.name(), length, most });
        }
        let stream = u32::from_le_bytes([s0, s1, s2, s3]);
        if kind.is_of_link() != (stream == 0) {
            return Err(Violation::Misplaced(kind.name()));
        }
        Ok(Some(Header { kind, flags, stream, length: length as usize }))
    }

    /// The frame with its payload, which must have the length that the header says.
    pub fn with<P: AsRef<[u8]>>(self, payload: P) -> Result<Frame<P>, Violation> {
        let (stream, end) = (self.stream, self.flags & END != 0);
        let number = || {
            let bytes = payload.as_ref().try_into().map_err(|_| Violation::Malformed(self.kind.name()))?;
            Ok(u32::from_le_bytes(bytes))
        };
        Ok(match self.kind {
            Kind::Request => Frame::Request { stream, flags: self.flags, head: payload },
            Kind::Response => Frame::Response { stream, end, head: payload },
            Kind::Data => Frame::Data { stream, end, bytes: payload },
            Kind::Reset => Frame::Reset { stream, reason: Reason::from_number(number()?) },
            Kind::Window => Frame::Window { stream, credit: number()? },
            Kind::Ping => {
                let token = payload.as_ref().try_into().map_err(|_| Violation::Malformed("Ping"))?;
                Frame::Ping { ack: self.flags & ACK != 0, token }
            }
            Kind::GoAway => Frame::GoAway,
            Kind::Entered => Frame::Entered { stream },
        })
    }

    /// As bytes. A payload beyond 4 GiB cannot be announced, and is never made.
    pub fn bytes(self) -> [u8; HEADER] {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes[9] = self.flags;
        bytes
    }
}

/// Begins a frame whose payload is written behind it; [`finish`] notes its length. Where it begins.
pub fn begin(out: &mut Vec<u8>, kind: Kind, stream: StreamId, flags: u8) -> usize {
    let at = out.len();
    out.extend_from_slice(&Header { kind, flags, stream, length: 0 }.bytes());
    at
}

/// Completes a frame that [`begin`] began at `at`: everything since is its payload.
pub fn finish(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at - HEADER).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// A whole frame with a small payload.
pub fn put(out: &mut Vec<u8>, kind: Kind, stream: StreamId, flags: u8, payload: &[u8]) {
    out.extend_from_slice(&Header { kind, flags, stream, length: payload.len() }.bytes());
    out.extend_from_slice(payload);
}

/// A `Reset`.
pub fn put_reset(out: &mut Vec<u8>, stream: StreamId, reason: Reason) {
    put(out, Kind::Reset, stream, 0, &(reason as u32).to_le_bytes());
}

/// A `Window`.
pub fn put_window(out: &mut Vec<u8>, stream: StreamId, credit: u32) {
    put(out, Kind::Window, stream, 0, &credit.to_le_bytes());
}

#[cfg(test)]
mod tests;
