//! One request and its answer on a link: how far it is, and what of its body has come and has not been read. `links` and
//! its children own the exchanges and are the only ones who change them.
use super::News;
use crate::app::Received;
use crate::cores::CoreId;
use crate::http::Head;
use appliance_link::{Stream, StreamId};

/// How far an exchange is; see the diagram in `links`.
#[derive(Debug)]
pub(super) enum Stage {
    /// The request is not complete enough to run.
    Receiving(Box<Arriving>),
    /// The engine has the request, but no core has begun with it.
    Waiting,
    /// This core serves it.
    Serving(CoreId),
    /// It is answered, but the end of the answer still waits in bulk. What still comes of the request is dropped.
    Answered,
}

/// A request whose body has not come.
#[derive(Debug)]
pub(super) struct Arriving {
    pub head: Head,
    pub announce: bool,
}

/// A request that is complete enough to run.
#[derive(Debug)]
pub struct Arrived {
    /// Its stream.
    pub stream: StreamId,
    /// The head, and the body or its beginning.
    pub received: Box<Received>,
    /// `Entered` must have left before an application sees it.
    pub announce: bool,
}

impl Arriving {
    pub(super) fn with_body(self, stream: StreamId, body: Vec<u8>, complete: bool) -> Arrived {
        let received = Box::new(Received { head: self.head, body, complete });
        Arrived { stream, received, announce: self.announce }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    pub stream: Stream,
    pub stage: Stage,
    /// Bytes of the request's body that nobody has read yet.
    pub body: Vec<u8>,
    /// Bytes that went with the request when it was ready; they count as used up when the application wants more.
    pub ahead: usize,
    /// The core waits for body, or for room to send.
    pub wants_body: bool,
    pub wants_room: bool,
    /// Frames that wait in bulk: a piece of the body, and the end behind it.
    pub in_bulk: u8,
    /// Bytes of the answer's body that are in front until the byte at `front_end` has left. The head does not count, so that
    /// a body of just the size of the write buffer needs one frame.
    in_front: usize,
    front_end: u64,
}

impl Exchange {
    pub(super) fn new(stream: Stream, stage: Stage) -> Exchange {
        Exchange {
            stream,
            stage,
            body: Vec::new(),
            ahead: 0,
            wants_body: false,
            wants_room: false,
            in_bulk: 0,
            in_front: 0,
            front_end: 0,
        }
    }

    /// The request, when it has just become complete enough: all of its body has come, or `enough` bytes of it.
    pub(super) fn take_ready(&mut self, enough: usize) -> Option<Box<Arrived>> {
        let complete = self.stream.has_received_all();
        if !complete && self.body.len() < enough {
            return None;
        }
        match std::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Receiving(arriving) => {
                self.ahead = self.body.len();
                let body = std::mem::take(&mut self.body);
                Some(Box::new(arriving.with_body(self.stream.id(), body, complete)))
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Whether that core serves it.
    pub(super) fn is_served_by(&self, core: CoreId) -> bool {
        matches!(self.stage, Stage::Serving(serving) if serving == core)
    }

    /// What the engine has to do when this exchange has ended with its link.
    pub(super) fn last_news(&self) -> Option<News> {
        match self.stage {
            Stage::Waiting => Some(News::Withdrawn(self.stream.id())),
            Stage::Serving(core) => Some(News::Gone(core)),
            _ => None,
        }
    }

    /// Bytes of its body that may still be in front, of which `left` have left so far.
    pub(super) fn in_front(&self, left: u64) -> usize {
        if self.front_end > left { self.in_front } else { 0 }
    }

    /// `count` bytes more are in front, up to `end`.
    pub(super) fn add_in_front(&mut self, left: u64, end: u64, count: usize) {
        self.in_front = self.in_front(left) + count;
        self.front_end = end;
    }

    /// Bytes of the body that may be sent now, of at most `write_buffer` that may wait unsent. What is in bulk must leave
    /// first.
    pub(super) fn room(&self, left: u64, write_buffer: usize) -> usize {
        let unsent = self.in_front(left);
        if self.in_bulk > 0 { 0 } else { write_buffer.saturating_sub(unsent).min(self.stream.may_send()) }
    }
}
