//! WebSockets (RFC 6455) without I/O: [`Socket`] takes bytes and gives messages, takes messages and gives bytes. `conn` keeps
//! one for each upgraded connection and feeds it; applications reach it through [`crate::Engine`], whatever they wait with:
//!
//! ```text
//!   handshake::Offer::of(head) → Opening::switching(…) → Engine::open_websocket(core, head)
//!   Engine::receive_message(core) → Message, Closed, or Wait: park; the core is woken, ask again
//!   Engine::send_message(core, …) → Taken, Closed, or Full: park; the core is woken, try again
//!   Engine::close_websocket(core, code, reason); Engine::finish(core, …) closes what is still open
//! ```
//!
//! The protocol code is tungstenite's. Pings are answered and sent, and the closing handshake goes on, whether the
//! application asks for messages or not.
use std::time::Duration;
use tungstenite::protocol::frame::coding::CloseCode;

mod deflate;
pub mod handshake;
mod pipe;
mod socket;
mod unpack;

pub use bytes::Bytes;
pub use deflate::Deflate;
pub use socket::Socket;
pub use tungstenite::Utf8Bytes as Text;

/// Close codes of RFC 6455 section 7.4.1 that this server sends or reports by itself.
pub mod code {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server is going down, or is being replaced.
    pub const GOING_AWAY: u16 = 1001;
    /// The peer has broken the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// The peer has closed without a code. Never sent.
    pub const NO_CODE: u16 = 1005;
    /// The connection has ended without a close frame. Never sent.
    pub const ABNORMAL: u16 = 1006;
    /// Text that is not UTF-8.
    pub const INVALID_DATA: u16 = 1007;
    /// A message above the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The application has failed, or nothing was heard from the peer any more.
    pub const INTERNAL_ERROR: u16 = 1011;
}

/// Longest reason in a close frame, in bytes (RFC 6455 section 5.5).
pub const MOST_REASON: usize = 123;
/// Longest payload of a ping in bytes.
pub const MOST_PING: usize = 125;

/// Whether an application may close with this code (RFC 6455 section 7.4).
pub fn is_sendable(code: u16) -> bool {
    (1000..5000).contains(&code) && CloseCode::from(code).is_allowed()
}

/// A message, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text, which is UTF-8.
    Text(Text),
    /// Bytes.
    Binary(Bytes),
}

impl Message {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it consists of, text as UTF-8.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

/// How a WebSocket was closed: by the peer's close frame, by ours, or without any ([`code::ABNORMAL`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// See [`code`].
    pub code: u16,
    /// For humans; what a peer says is to be believed by nobody.
    pub reason: String,
}

impl Closed {
    /// The end of a connection that is not there any more, or never was a WebSocket.
    pub fn gone() -> Closed {
        Closed { code: code::ABNORMAL, reason: String::new() }
    }
}

/// What an application gets when it asks for the next message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// The next message.
    Message(Message),
    /// None yet. The core that asked is woken when that changes.
    Wait,
    /// There will be none any more.
    Closed(Closed),
}

/// What became of a message that an application wanted to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is on its way.
    Taken,
    /// Too much waits to be sent. The core that wanted to is woken when that changes.
    Full,
    /// Nothing can be sent any more.
    Closed(Closed),
}

/// What holds for every WebSocket of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message, in however many fragments.
    pub max_message: usize,
    /// A peer that has been silent for so long is pinged; `None`: never.
    pub ping_interval: Option<Duration>,
    /// A peer that has not said anything for so long after a ping is given up.
    pub ping_timeout: Duration,
    /// Whether messages are compressed where the peer offers it.
    pub compression: bool,
}

impl From<&appliance_config::Settings> for Limits {
    fn from(settings: &appliance_config::Settings) -> Limits {
        let websocket = &settings.websocket;
        Limits {
            max_message: websocket.max_message,
            ping_interval: Some(websocket.ping_interval).filter(|interval| !interval.is_zero()),
            ping_timeout: websocket.ping_timeout,
            compression: websocket.compression,
        }
    }
}
