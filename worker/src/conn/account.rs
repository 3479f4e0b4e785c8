//! What a connection knows of its request that the access log is to say: since when it is there, how much of its answer has
//! left, what its client has done to it, and whether the connection has answered it by itself. The engine asks for it at the
//! end of a request; nothing here decides anything.
use super::{Conn, Phase, Stream};
use crate::http::{Refusal, Version};
use appliance_link::{access, reason};
use std::time::Instant;

/// Status of a request whose client did not wait for an answer (nginx).
pub const CLIENT_LEFT: u16 = 499;

pub(super) const SLOW_HEAD: Refusal =
    Refusal { status: 408, word: reason::SLOW_HEAD, reason: "the request head did not arrive in time" };
pub(super) const SLOW_BODY: Refusal =
    Refusal { status: 408, word: reason::SLOW_BODY, reason: "the request body did not arrive in time" };
pub(super) const ENDED_EARLY: Refusal =
    Refusal { status: 400, word: reason::CLIENT_GONE, reason: "the request ended early" };

/// A request that never reached a core.
#[derive(Debug)]
pub struct Refused {
    /// As far as it can be told.
    pub method: Vec<u8>,
    /// Likewise.
    pub target: Vec<u8>,
    /// Of the request, or ours.
    pub version: Version,
    /// Of the answer.
    pub status: u16,
    /// A word of [`appliance_link::reason`].
    pub reason: &'static str,
    /// Of the answer's body.
    pub bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Account {
    /// The head was complete, or its first byte came.
    pub(super) begun: Instant,
    /// What the client has done to the request that is being served.
    pub(super) trouble: Option<&'static str>,
    refused: Option<Box<Refused>>,
}

impl Account {
    pub(super) fn new(now: Instant) -> Account {
        Account { begun: now, trouble: None, refused: None }
    }
}

impl<S: Stream> Conn<S> {
    /// Since when the head of the current request is complete, or since its first byte if it is not.
    pub fn begun(&self) -> Instant {
        self.account.begun
    }

    /// How the client has failed the request that is being served, if not by leaving it: a word of [`appliance_link::reason`].
    pub fn trouble(&self) -> Option<&'static str> {
        self.account.trouble
    }

    /// The request that this connection has refused, once.
    pub fn take_refused(&mut self) -> Option<Box<Refused>> {
        self.account.refused.take()
    }

    /// Bytes that have left or can still leave, since [`Conn::take_bytes_out`].
    pub fn delivered(&self) -> u64 {
        self.bytes_out + if self.gone { 0 } else { self.unsent() as u64 }
    }

    /// The request that is being received is refused. A client that leaves in the middle of a head has not asked for anything.
    pub(super) fn note_refused(&mut self, refusal: Refusal) {
        let has_left = refusal.word == reason::CLIENT_GONE;
        let (method, target, version) = match &self.phase {
            Phase::Body(received) => {
                let head = &received.head;
                (head.method().as_bytes(), head.target(), head.version())
            }
            _ if has_left => return,
            _ => {
                let (method, target) = access::named(&self.input[self.used..]);
                (method, target, Version::Http11)
            }
        };
        let kept = |text: &[u8]| text[..text.len().min(access::PATH_BYTES)].to_vec();
        let bytes = if has_left || method == b"HEAD" { 0 } else { refusal.reason.len() as u64 + 1 };
        self.account.refused = Some(Box::new(Refused {
            method: kept(method),
            target: kept(target),
            version,
            status: if has_left { CLIENT_LEFT } else { refusal.status },
            reason: refusal.word,
            bytes,
        }));
    }
}
