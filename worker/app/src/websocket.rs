//! WebSockets (RFC 6455) in blocking style: a request that wants one is accepted, and then receives and sends messages while
//! the other requests go on. The worker speaks the protocol: it answers pings, sends its own, and closes as it should.
use crate::abi::{APPLIANCE_MESSAGE_BINARY, APPLIANCE_MESSAGE_TEXT};
use crate::host::websocket as host;
use crate::{Request, Response};
use nix::errno::Errno;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::time::Duration;

/// A message, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Message {
    /// What it consists of, text as UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
        }
    }
}

/// How a WebSocket was closed; also the inner error of what fails because of that. A handler that returns such an error has
/// ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code of the close frame (RFC 6455 section 7.4): 1005 if it had none, 1006 if the connection has ended without one.
    pub code: u16,
    /// What goes with it; what a client says is to be believed by nobody.
    pub reason: String,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the WebSocket is closed with {}", self.code)?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl Error for Closed {}

/// The request cannot become a WebSocket; the inner error of [`WebSocket::accept`]. If a handler returns it, the client is
/// answered 400, or 426 if it speaks another version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHandshake;

impl fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request is no WebSocket handshake")
    }
}

impl Error for NoHandshake {}

/// Whether a handler that returns this has only seen its client's end, or its client's mistake.
pub(crate) fn is_of_client(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<Closed>() || inner.is::<NoHandshake>())
}

impl Request {
    /// Whether its client wants a WebSocket, and asks for it as one must.
    pub fn wants_websocket(&self) -> bool {
        host::offer(0).is_ok()
    }

    /// The WebSocket subprotocols that its client speaks, the one that it likes best first.
    pub fn subprotocols(&self) -> impl Iterator<Item = &str> {
        (0..)
            .map_while(|index| host::offer(index).ok().flatten())
            .filter_map(|name| str::from_utf8(name).ok())
    }
}

/// The WebSocket that a request has become. It is closed when the handler returns: with 1000, or with 1011 if that fails or
/// panics. A handler is not ended because its client has left: it hears of the end when it next receives or sends.
#[derive(Debug)]
pub struct WebSocket {
    sender: Sender,
    subprotocol: Option<String>,
}

impl WebSocket {
    /// Makes the connection of this request a WebSocket, with the header fields that were added to the response. The first of
    /// `subprotocols` that the client speaks is chosen. Nothing else can be written to the response then.
    pub fn accept(
        request: &Request,
        _response: &mut Response,
        subprotocols: &[&str],
    ) -> io::Result<WebSocket> {
        let speaks = |ours: &&&str| request.subprotocols().any(|theirs| theirs == **ours);
        let subprotocol = subprotocols.iter().find(speaks).map(|chosen| (*chosen).to_owned());
        let socket = host::accept(subprotocol.as_deref().unwrap_or_default()).map_err(|error| match error
            .raw_os_error()
            .map(Errno::from_raw)
        {
            Some(Errno::EPROTO) => io::Error::new(ErrorKind::InvalidData, NoHandshake),
            _ => because(error),
        })?;
        Ok(WebSocket { sender: Sender { socket, here: PhantomData }, subprotocol })
    }

    /// The subprotocol that was chosen.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The next message; `None` when there will be none any more, however it was [closed](WebSocket::closed).
    pub fn receive(&self) -> io::Result<Option<Message>> {
        received(host::receive(None)?)
    }

    /// The same, with an error of kind [`ErrorKind::TimedOut`] if none has come in that time.
    pub fn receive_timeout(&self, timeout: Duration) -> io::Result<Option<Message>> {
        received(host::receive(Some(timeout))?)
    }

    /// Its messages, until it is closed.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        std::iter::from_fn(|| self.receive().ok().flatten())
    }

    /// Sends a message; waits while more than `limits.write_buffer` bytes have not left.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        self.sender.send(message).map_err(because)
    }

    /// Sends text.
    pub fn send_text(&self, text: &str) -> io::Result<()> {
        self.sender.send_text(text).map_err(because)
    }

    /// Sends bytes.
    pub fn send_binary(&self, bytes: &[u8]) -> io::Result<()> {
        self.sender.send_binary(bytes).map_err(because)
    }

    /// Closes it with a code (1000, 1001, 1003, 1007 to 1014, or 3000 to 4999) and a reason of at most 123 bytes. Whoever
    /// waits for a message of it gets `None`. Once is enough, more does nothing.
    pub fn close(&self, code: u16, reason: &str) -> io::Result<()> {
        self.sender.close(code, reason)
    }

    /// How it was closed, as far as that was noticed.
    pub fn closed(&self) -> Option<Closed> {
        host::closed().map(|(code, reason)| Closed { code, reason })
    }

    /// What sends to it from elsewhere.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }
}

/// Sends to a WebSocket from the coroutines of every native request of its worker, also when that has ended. Workers do not
/// share WebSockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    socket: i64,
    /// It belongs to the loop's thread.
    here: PhantomData<*mut ()>,
}

impl Sender {
    /// Sends a message. The request that does it waits while the WebSocket's client is slower; an error of kind
    /// [`ErrorKind::BrokenPipe`] if it is closed.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        match message {
            Message::Text(text) => self.send_text(text),
            Message::Binary(bytes) => self.send_binary(bytes),
        }
    }

    /// Sends text.
    pub fn send_text(&self, text: &str) -> io::Result<()> {
        host::send(self.socket, APPLIANCE_MESSAGE_TEXT, text.as_bytes())
    }

    /// Sends bytes.
    pub fn send_binary(&self, bytes: &[u8]) -> io::Result<()> {
        host::send(self.socket, APPLIANCE_MESSAGE_BINARY, bytes)
    }

    /// Closes it, see [`WebSocket::close`].
    pub fn close(&self, code: u16, reason: &str) -> io::Result<()> {
        host::close(self.socket, code, reason)
    }
}

fn received(message: Option<(u32, Vec<u8>)>) -> io::Result<Option<Message>> {
    let Some((kind, data)) = message else { return Ok(None) };
    if !host::is_text(kind) {
        return Ok(Some(Message::Binary(data)));
    }
    let text = String::from_utf8(data).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(Some(Message::Text(text)))
}

/// The same error, with how this request's WebSocket was closed if that is why.
fn because(error: io::Error) -> io::Error {
    let closed = host::closed().filter(|_| error.kind() == ErrorKind::BrokenPipe);
    closed.map_or(error, |(code, reason)| io::Error::new(ErrorKind::BrokenPipe, Closed { code, reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_clients_end_and_mistakes_excuse_a_handler() {
        let closed = Closed { code: 1001, reason: "going".to_owned() };
        assert_eq!(closed.to_string(), "the WebSocket is closed with 1001: going");
        let error = |inner: Box<dyn Error + Send + Sync>| crate::Error::from(io::Error::other(inner));
        assert!(is_of_client(&*error(closed.into())) && is_of_client(&*error(NoHandshake.into())));
        assert!(!is_of_client(&*error("broken".into())) && !is_of_client(&*crate::Error::from("broken")));
    }

    #[test]
    fn outside_of_a_worker_there_is_none() {
        let accepted = WebSocket::accept(&Request::new(), &mut Response::new(), &["chat"]);
        assert_eq!(accepted.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(!Request::new().wants_websocket());
    }
}
