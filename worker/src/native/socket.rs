//! A native request that becomes a WebSocket: what its client offers, the messages that its application receives and sends, and
//! how it was closed. Runs in the request's coroutines, and in those of others that send to it. The connection speaks the
//! protocol by itself ([`crate::websocket`]): in here an application only takes, gives, and waits.
use super::call::Call;
use super::stacks::Wait;
use super::waiting::Here;
use crate::CoreId;
use crate::websocket::handshake::{Offer, Refusal, is_protocol};
use crate::websocket::{self, Closed, Incoming, MOST_REASON, Message, Posted};
use nix::errno::Errno;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Instant;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Socket {
    /// What the client offers, once the application has asked.
    offer: OnceCell<Result<Offer, Refusal>>,
    /// Why it could not be opened, if the application wanted that.
    refused: Cell<Option<Refusal>>,
    /// What the application has received last, and may still look at.
    last: RefCell<Option<Message>>,
    /// How it was closed, once the application was told, or has done it itself.
    closed: OnceCell<Closed>,
    /// Coroutines that wait for a message.
    receivers: Cell<u32>,
}

impl Socket {
    /// Why the application could not open it.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refused.get()
    }

    /// How it was closed, as far as the application knows.
    pub(super) fn closed(&self) -> Option<&Closed> {
        self.closed.get()
    }

    /// Keeps a message where it is, until the next one.
    pub(super) fn keep(&self, message: Message) {
        self.last.replace(Some(message));
    }

    fn note_closed(&self, how: Closed) {
        // What was noticed first counts.
        self.closed.get_or_init(|| how);
    }
}

impl Call {
    /// What the client offers; an error if this is no WebSocket handshake.
    pub(super) fn offer(&self) -> Result<&Offer, Refusal> {
        let offer = self.socket.offer.get_or_init(|| Offer::of(&self.request.received.head));
        offer.as_ref().map_err(|refusal| *refusal)
    }
}

impl Here {
    /// Makes the connection of this request a WebSocket, with a subprotocol if one is named.
    pub(super) fn open_socket(&self, protocol: &[u8]) -> Result<CoreId, Errno> {
        let protocol = str::from_utf8(protocol).map_err(|_| Errno::EINVAL)?;
        let protocol = Some(protocol).filter(|protocol| !protocol.is_empty());
        if protocol.is_some_and(|protocol| !is_protocol(protocol)) {
            return Err(Errno::EINVAL);
        }
        let socket = &self.call.socket;
        let offer = self.call.offer().map_err(|refusal| {
            socket.refused.set(Some(refusal));
            Errno::EPROTO
        })?;
        if !self.switch(&offer.key, protocol)? {
            socket.note_closed(Closed::gone());
            return Err(Errno::EPIPE);
        }
        Ok(self.call.core)
    }

    /// The next message of this request's WebSocket, `None` if it is closed; waits for it until `deadline`.
    pub(super) fn receive(&self, deadline: Option<Instant>) -> Result<Option<Message>, Errno> {
        self.take_turn()?;
        let receivers = &self.call.socket.receivers;
        receivers.set(receivers.get() + 1);
        let received = self.with_timer(deadline, || self.wait_for_message(deadline));
        receivers.set(receivers.get() - 1);
        if receivers.get() > 0 {
            // The connection wakes the request once for what has come, and this may not have been all of it.
            self.call.set_news();
        }
        received
    }

    fn wait_for_message(&self, deadline: Option<Instant>) -> Result<Option<Message>, Errno> {
        loop {
            match self.native.engine.receive_message(self.call.core) {
                Incoming::Message(message) => return Ok(Some(message)),
                Incoming::Closed(how) => {
                    self.call.socket.note_closed(how);
                    return Ok(None);
                }
                Incoming::Wait if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    return Err(Errno::ETIMEDOUT);
                }
                Incoming::Wait => self.park(Wait::Message)?,
            }
        }
    }

    /// Sends a message on the WebSocket of the request on `core`; waits while its client is slower.
    pub(super) fn send_message(&self, core: CoreId, message: &Message) -> Result<(), Errno> {
        self.take_turn()?;
        let whose = self.socket_of(core)?;
        loop {
            match self.native.engine.send_message(core, Some(self.call.core), message) {
                Posted::Taken => return Ok(()),
                Posted::Full => self.room()?,
                Posted::Closed(how) => {
                    whose.socket.note_closed(how);
                    return Err(Errno::EPIPE);
                }
            }
        }
    }

    /// Closes the WebSocket of the request on `core`; whoever waits for its messages hears of that.
    pub(super) fn close_socket(&self, core: CoreId, code: u16, reason: &[u8]) -> Result<(), Errno> {
        let reason = str::from_utf8(reason).map_err(|_| Errno::EILSEQ)?;
        if !websocket::is_sendable(code) || reason.len() > MOST_REASON {
            return Err(Errno::EINVAL);
        }
        let whose = self.socket_of(core)?;
        self.native.engine.close_websocket(core, code, reason);
        whose.socket.note_closed(Closed { code, reason: reason.to_owned() });
        Ok(())
    }

    /// The native request on this core. A WebSocket does not outlive its request.
    fn socket_of(&self, core: CoreId) -> Result<Rc<Call>, Errno> {
        self.native.call_on(core).ok_or(Errno::EPIPE)
    }
}
