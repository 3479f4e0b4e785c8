//! One WebSocket, the server's side, from the handshake to its end: what the peer has sent as messages, what the application
//! sends as bytes, keep-alive, and the closing handshake. Knows no connection, no clock and no core; `conn` feeds it and sends
//! what it gives.
//!
//! ```text
//!   Open ── our close frame ──► Closing ── the peer's ──► Over        (or the time for it is over)
//!     │ the peer's close frame, or a violation
//!     └─► Ending ── the application has had what came before, and is answered ──► Over
//! ```
use super::deflate::Deflate;
use super::pipe::Pipe;
use super::unpack::Unpacker;
use super::{Bytes, Closed, Incoming, Limits, MOST_PING, MOST_REASON, Message, code};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message as Read, WebSocket};

/// Bytes of messages that are held for an application which does not ask for them; then the peer has to wait.
const READ_AHEAD: usize = 64 * 1024;
/// What a message counts for beside its bytes, so that empty ones are not free.
const MESSAGE_COST: usize = 64;
/// tungstenite's own buffer for what it reads; a larger frame gets a larger one.
const READ_BUFFER: usize = 4 * 1024;
/// How long the peer may take to answer our close frame (the `websockets` library's `close_timeout`).
const CLOSE_WAIT: Duration = Duration::from_secs(10);
/// The same where we go away, and a new worker waits for our place.
const LEAVING_WAIT: Duration = Duration::from_secs(1);
/// How long the peer's close frame is left unanswered while the application has messages to ask for that came before.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Our close frame was sent; the peer's must come until then.
    Closing {
        by: Instant,
    },
    /// The peer has closed, or broken the protocol, behind messages that the application has not asked for. It may still
    /// answer them, until then.
    Ending {
        by: Instant,
    },
    Over,
}

/// See the module.
#[derive(Debug)]
pub struct Socket {
    protocol: WebSocket<Pipe>,
    limits: Limits,
    deflate: Option<Deflate>,
    state: State,
    inbox: VecDeque<Message>,
    /// What the inbox holds, see [`READ_AHEAD`].
    held: usize,
    /// How it was closed, for the application.
    closed: Option<Closed>,
    /// How it will have been closed, when the application has asked for everything.
    ending: Option<Closed>,
    /// Nobody asks for messages any more.
    abandoned: bool,
    /// When the peer was last heard.
    heard: Instant,
    /// When it was pinged since then.
    pinged: Option<Instant>,
}

impl Socket {
    /// One that has just been opened; `deflate`: messages may be compressed.
    pub fn new(limits: Limits, deflate: Option<Deflate>, now: Instant) -> Socket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limits.max_message))
            .max_frame_size(Some(limits.max_message));
        let pipe = Pipe::new(deflate.map(|_| Unpacker::new(limits.max_message)));
        Socket {
            protocol: WebSocket::from_raw_socket(pipe, Role::Server, Some(config)),
            limits,
            deflate,
            state: State::Open,
            inbox: VecDeque::new(),
            held: 0,
            closed: None,
            ending: None,
            abandoned: false,
            heard: now,
            pinged: None,
        }
    }

    /// The peer has sent this.
    pub fn feed(&mut self, bytes: &[u8], now: Instant) {
        if self.has_ended() || bytes.is_empty() {
            return;
        }
        (self.heard, self.pinged) = (now, None);
        self.protocol.get_mut().feed(bytes);
        self.pump(now);
    }

    /// Unpacks more of what the peer has sent, where that was put off because the application had enough;
    /// false if there is none.
    pub fn go_on(&mut self, now: Instant) -> bool {
        let is_more = self.protocol.get_ref().has_packed() && !self.has_ended();
        if is_more {
            self.pump(now);
        }
        is_more
    }

    /// The peer sends no more.
    pub fn feed_end(&mut self, now: Instant) {
        self.protocol.get_mut().ended = true;
        self.pump(now);
        self.settle();
    }

    /// Whether nothing that the peer still says counts.
    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ending { .. } | State::Over)
    }

    /// Whether the peer's bytes are wanted: not while the application has enough to do with those before.
    pub fn wants_input(&self) -> bool {
        self.held < READ_AHEAD && !self.has_ended()
    }

    /// Moves what is to be sent to the end of `out`.
    pub fn drain_output(&mut self, out: &mut Vec<u8>) {
        let output = &mut self.protocol.get_mut().output;
        if out.is_empty() {
            std::mem::swap(out, output);
        } else {
            out.append(output);
        }
    }

    /// The next message; [`Incoming::Closed`] behind the last one.
    pub fn receive(&mut self) -> Incoming {
        if let Some(message) = self.inbox.pop_front() {
            self.held -= message.len() + MESSAGE_COST;
            return Incoming::Message(message);
        }
        self.settle();
        self.closed.clone().map_or(Incoming::Wait, Incoming::Closed)
    }

    /// Whether [`Socket::receive`] would not have to wait.
    pub fn has_news(&self) -> bool {
        !self.inbox.is_empty() || self.closed.is_some() || self.has_ended()
    }

    /// Sends a message.
    pub fn send(&mut self, message: Message) -> Result<(), Closed> {
        let (payload, kind) = match message {
            Message::Text(text) => (text.into(), Data::Text),
            Message::Binary(bytes) => (bytes, Data::Binary),
        };
        let packed = self.deflate.and_then(|deflate| deflate.pack(&payload));
        let is_packed = packed.is_some();
        let mut frame = Frame::message(packed.unwrap_or(payload), OpCode::Data(kind), true);
        frame.header_mut().rsv1 = is_packed;
        self.write(frame)
    }

    /// Sends a ping with a payload of at most [`MOST_PING`] bytes; what is longer is cut.
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), Closed> {
        let payload = &payload[..payload.len().min(MOST_PING)];
        self.write(Frame::ping(Bytes::copy_from_slice(payload)))
    }

    /// tungstenite itself would send nothing more, once it has seen the peer's close frame.
    fn write(&mut self, frame: Frame) -> Result<(), Closed> {
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
        frame.format(&mut self.protocol.get_mut().output).map_err(|_| Closed::gone())
    }

    /// Closes, if that has not happened: nothing can be sent after this. A reason that is too long is cut.
    pub fn close(&mut self, code: u16, reason: &str, now: Instant) {
        self.settle();
        let wait = if code == code::GOING_AWAY { LEAVING_WAIT } else { CLOSE_WAIT };
        if let State::Closing { by } = &mut self.state {
            *by = (*by).min(now + wait);
        }
        if self.state != State::Open {
            return;
        }
        let reason = cut(reason, MOST_REASON);
        self.closed.get_or_insert_with(|| Closed { code, reason: reason.to_owned() });
        self.state = State::Closing { by: now + wait };
        self.protocol.get_mut().close();
        self.say_close(code, reason);
    }

    /// The application does not ask for messages any more: closes with `code`, and forgets what it has not asked for.
    pub fn abandon(&mut self, code: u16, now: Instant) {
        self.close(code, "", now);
        self.abandoned = true;
        self.inbox.clear();
        self.held = 0;
    }

    /// Whether nobody asks for messages any more.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Whether messages can still be sent.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// Whether nothing more will be sent or received; what was sent before may still have to leave.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// When [`Socket::on_deadline`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        match (self.state, self.pinged) {
            (State::Over, _) => None,
            (State::Closing { by } | State::Ending { by }, _) => Some(by),
            // Whoever is not listened to cannot be blamed for its silence.
            (State::Open, _) if !self.wants_input() => None,
            (State::Open, Some(pinged)) => Some(pinged + self.limits.ping_timeout),
            (State::Open, None) => self.limits.ping_interval.map(|interval| self.heard + interval),
        }
    }

    /// The deadline has passed: the peer is pinged, or it has been silent for too long.
    pub fn on_deadline(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.state {
            State::Over => {}
            State::Closing { .. } => self.state = State::Over,
            State::Ending { .. } => self.settle(),
            State::Open if self.pinged.is_none() => {
                self.pinged = Some(now);
                // It is open, so it can be written to.
                let _ = self.ping(b"");
            }
            State::Open => {
                self.end(code::INTERNAL_ERROR, "no answer to a ping", now);
                self.settle();
            }
        }
    }

    /// Reads all that has come, up to what ends it; of what is packed only so much as the application asks for.
    fn pump(&mut self, now: Instant) {
        while !self.has_ended() && (self.held < READ_AHEAD || !self.protocol.get_ref().has_packed()) {
            match self.protocol.read() {
                Ok(Read::Text(text)) => self.keep(Message::Text(text)),
                Ok(Read::Binary(bytes)) => self.keep(Message::Binary(bytes)),
                Ok(Read::Close(frame)) => self.on_close(frame, now),
                // tungstenite answers pings, and the peer has been heard.
                Ok(Read::Ping(_) | Read::Pong(_) | Read::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    let Some(fault) = self.protocol.get_mut().fault.take() else { break };
                    self.end(fault.code, fault.reason, now);
                }
                Err(error) => self.on_error(&error, now),
            }
        }
        self.protocol.get_mut().trim();
        if self.inbox.is_empty() || self.closed.is_some() {
            self.settle();
        }
    }

    fn keep(&mut self, message: Message) {
        if self.closed.is_none() {
            self.held += message.len() + MESSAGE_COST;
            self.inbox.push_back(message);
        }
    }

    /// The peer has closed, first or in answer to us.
    fn on_close(&mut self, frame: Option<CloseFrame>, now: Instant) {
        match frame {
            Some(frame) => self.end(frame.code.into(), frame.reason.as_str(), now),
            None => self.end(code::NO_CODE, "", now),
        }
    }

    fn on_error(&mut self, error: &Error, now: Instant) {
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) => {
                self.end(code::ABNORMAL, "", now)
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => self.end(code::ABNORMAL, "", now),
            Error::Utf8(_) => self.end(code::INVALID_DATA, "text that is not UTF-8", now),
            Error::Capacity(_) => self.end(code::TOO_BIG, "the message is larger than it may be", now),
            other => self.end(code::PROTOCOL_ERROR, &other.to_string(), now),
        }
    }

    /// Nothing that the peer says from here on counts; it is told so when the application has had what came before.
    fn end(&mut self, code: u16, reason: &str, now: Instant) {
        self.ending = Some(Closed { code, reason: reason.to_owned() });
        self.state = State::Ending { by: now + ANSWER_WAIT };
    }

    /// Answers the peer's close frame, or says what it has done wrong.
    fn settle(&mut self) {
        let Some(ending) = self.ending.take() else { return };
        self.state = State::Over;
        let can_be_told = !matches!(ending.code, code::NO_CODE | code::ABNORMAL);
        if self.protocol.can_read() && can_be_told {
            self.say_close(ending.code, &ending.reason);
        } else {
            // The answer to its close frame is tungstenite's; there is none to the end of the stream, which ends in an error.
            let _ = self.protocol.flush();
        }
        self.closed.get_or_insert(ending);
    }

    fn say_close(&mut self, code: u16, reason: &str) {
        // It can only fail when a close frame was sent before; then the peer has been told already.
        let _ = self.protocol.close(Some(CloseFrame { code: code.into(), reason: reason.into() }));
    }
}

/// The beginning of a text, of at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests;
