//! The words between the engine and a connection: what each gives the other, and what holds for both.
use crate::app::Received;
use crate::http::Limits;
use crate::websocket;
use appliance_config::settings::Pace;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A non-blocking byte stream whose sending side can be ended while the other one goes on.
pub trait Stream: Read + Write {
    /// Ends the sending side.
    fn shutdown(&mut self) -> io::Result<()>;
    /// Makes the end of the stream look like a failure to the peer, where the kind of stream can.
    fn reset(&mut self);
    /// Sends up to `count` bytes of a file from `offset` on, without moving its own position; how many, 0 at its end. A
    /// stream that cannot do this without reading the file says so.
    fn send_file(&mut self, _file: &File, _offset: u64, _count: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Limits and times that every connection of a listener shares.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Of request heads.
    pub head: Limits,
    /// Body bytes that are read before a core is taken.
    pub body_buffer: usize,
    /// Unsent bytes above which a writer must wait.
    pub write_buffer: usize,
    /// Bytes of a body that may be under way on a stream of a link.
    pub stream_window: usize,
    /// First to last byte of a head.
    pub header: Duration,
    /// How slowly a body may arrive.
    pub body: Pace,
    /// Without progress of a response.
    pub write: Duration,
    /// Between requests.
    pub keepalive: Duration,
    /// Of WebSockets.
    pub websocket: websocket::Limits,
}

/// What the engine lends a connection for one call.
#[derive(Debug)]
pub struct Context<'a> {
    /// The rules of the worker.
    pub rules: &'a Rules,
    /// Any buffer to read into.
    pub scratch: &'a mut [u8],
    /// The time of this turn.
    pub now: Instant,
    /// The value of a `Date` field.
    pub date: &'a [u8],
    /// The peer is the proxy, which may speak the link's protocol instead of HTTP.
    pub may_link: bool,
}

/// What a connection needs from the engine after it was told something.
#[derive(Debug)]
pub enum Step {
    /// Nothing, until the stream is ready again or the deadline passes.
    Wait,
    /// A request is ready to run.
    Run(Box<Received>),
    /// The core that serves this connection may go on: body has arrived, or room has been made, or neither ever will.
    Wake,
    /// The same, and the peer has left. Said once for each request.
    Left,
    /// Call [`advance`](super::Conn::advance) from the loop: the next request may be here already.
    More,
    /// The first byte is that of a link: take the connection apart with [`into_parts`](super::Conn::into_parts).
    Link,
    /// The first byte is that of a call of another worker's: take it apart likewise.
    Wire,
    /// The connection is over; drop it.
    Drop,
}

/// How an answer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete, and the connection may be used for the next request.
    Keep,
    /// It is complete; an HTTP/1.1 connection is closed behind it.
    Close,
    /// Something of it is missing, and the client must see that.
    Cut,
}

/// What a core gets when it reads the request's body.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// Bytes were appended.
    Data,
    /// The body is complete.
    End,
    /// More will come: park until [`Step::Wake`], then ask again.
    Wait,
    /// The body will never be complete: the peer left, broke the framing, was too slow, or sent too much.
    Cut(&'static str),
}

impl BodyRead {
    /// The end of a body that nobody sends any more.
    pub const GONE: BodyRead = BodyRead::Cut("the client left before the request body was complete");
    /// The end of a body that nobody waits for any more.
    pub const TOO_SLOW: BodyRead = BodyRead::Cut("the request body did not arrive in time");
}

/// What became of bytes that a core wanted to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it is on its way.
    All,
    /// Only this many bytes; park until [`Step::Wake`], then send the rest.
    Part(usize),
    /// The peer has gone; nothing more can be sent.
    Gone,
}

/// What became of a piece of a file that a core wanted to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSent {
    /// So many bytes, at least one, are on their way.
    Part(usize),
    /// None yet: park until [`Step::Wake`], then try again.
    Wait,
    /// The file has no more bytes than those before.
    End,
    /// Not this file, or not on this connection: read it, and send what was read.
    Unsupported,
    /// The peer has gone; nothing more can be sent.
    Gone,
}

impl From<&appliance_config::Settings> for Rules {
    fn from(settings: &appliance_config::Settings) -> Rules {
        let (limits, timeouts) = (&settings.limits, &settings.timeouts);
        Rules {
            head: limits.into(),
            body_buffer: limits.body_buffer,
            write_buffer: limits.write_buffer,
            stream_window: limits.stream_window,
            header: timeouts.header,
            body: settings.body_pace(),
            write: timeouts.write,
            keepalive: timeouts.keepalive,
            websocket: settings.into(),
        }
    }
}
