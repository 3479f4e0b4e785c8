//! What has come for one stream and has not been taken. The window bounds the bytes of a body, but a worker may send them one
//! by one, send pieces of nothing, or any number of interim heads: this file bounds what is kept of those. `line.rs` owns
//! an inbox for each stream. Pure.
use appliance_link::Reason;
use appliance_link::outbox::SMALL;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Interim heads that are kept for a client that does not read. Later ones are dropped: hints that late are of no use.
const MOST_INTERIM: usize = 16;

/// What has come for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The head of an answer: the payload of its frame. `end`: there is no body.
    Head { head: Bytes, end: bool },
    /// A piece of its body. `end`: the last.
    Data { bytes: Bytes, end: bool },
    /// The worker gives the request up.
    Reset(Reason),
    /// The connection has ended.
    Lost(End),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The worker closed it, or died.
    Closed,
    /// The worker broke the protocol.
    Garbled,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    events: VecDeque<Event>,
}

impl Inbox {
    /// A head; `interim`: not the final one.
    pub(crate) fn give_head(&mut self, head: Bytes, interim: bool, end: bool) {
        if !interim || self.events.len() < MOST_INTERIM {
            self.events.push_back(Event::Head { head, end });
        }
    }

    /// A piece of a body. Small ones become one.
    pub(crate) fn give_data(&mut self, bytes: Bytes, end: bool) {
        if bytes.is_empty() && !end {
            return;
        }
        match self.events.back_mut() {
            Some(Event::Data { bytes: last, end: is_end }) if last.len() + bytes.len() <= SMALL => {
                let mut both = BytesMut::from(std::mem::take(last));
                both.extend_from_slice(&bytes);
                (*last, *is_end) = (both.freeze(), end);
            }
            _ => self.events.push_back(Event::Data { bytes, end }),
        }
    }

    /// The last event of the stream.
    pub(crate) fn give_last(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn take(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether more of the answer has come already.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self.events.front(), Some(Event::Head { .. } | Event::Data { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &'static [u8], end: bool) -> Option<Event> {
        Some(Event::Data { bytes: Bytes::from_static(bytes), end })
    }

    #[test]
    fn small_pieces_become_one_and_large_ones_stay() {
        let mut inbox = Inbox::default();
        for byte in [&b"a"[..], b"", b"b", b"c"] {
            inbox.give_data(Bytes::copy_from_slice(byte), false);
        }
        inbox.give_data(Bytes::new(), true);
        assert!(inbox.has_more());
        assert_eq!((inbox.take(), inbox.take(), inbox.has_more()), (data(b"abc", true), None, false));
        for _ in 0..2 {
            inbox.give_data(Bytes::from(vec![0; SMALL]), false);
        }
        assert_eq!(inbox.events.len(), 2);
    }

    #[test]
    fn what_needs_no_window_does_not_pile_up() {
        let mut inbox = Inbox::default();
        for _ in 0..1000 {
            inbox.give_head(Bytes::from_static(b"103"), true, false);
        }
        inbox.give_head(Bytes::from_static(b"200"), false, false);
        for _ in 0..1000 {
            inbox.give_data(Bytes::new(), false);
        }
        (0..300_000).for_each(|_| inbox.give_data(Bytes::from_static(b"x"), false));
        inbox.give_last(Event::Reset(Reason::Cut));
        assert!(inbox.events.len() < MOST_INTERIM + 2 + 2 * 300_000 / SMALL, "{}", inbox.events.len());
        let last = std::iter::from_fn(|| inbox.take()).last();
        assert_eq!(last, Some(Event::Reset(Reason::Cut)));
    }
}
