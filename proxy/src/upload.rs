//! A request's body on its way from the client to a worker: read piece by piece, sent as the window allows, and kept, up to
//! a limit, for another try. It must never hold more than that and one piece.
use crate::line::Stream;
use bytes::Bytes;

/// Bytes of a body that are kept for another try (as much as pingora keeps).
const KEPT: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Everything read so far; `None`: that is too much.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    /// Pieces of `kept` that this try has sent.
    resent: usize,
    /// Read, and not sent by this try; what `kept` has is not here.
    next: Bytes,
    is_complete: bool,
    is_sent: bool,
}

impl Upload {
    /// A body of which nothing has been read; without one it is complete.
    pub(crate) fn new(has_body: bool) -> Self {
        Self {
            kept: Some(Vec::new()),
            kept_bytes: 0,
            resent: 0,
            next: Bytes::new(),
            is_complete: !has_body,
            is_sent: false,
        }
    }

    /// Begins another try.
    pub(crate) fn rewind(&mut self) {
        self.resent = 0;
        if self.is_replayable() {
            // The rest of a kept piece that the last try had to cut.
            self.next = Bytes::new();
        }
        // Nothing to send where the head says so already.
        self.is_sent = self.is_empty();
    }

    /// Whether there is no body, so far as is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_complete && self.kept.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether another try could send all of it.
    pub(crate) fn is_replayable(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether nothing has been read.
    pub(crate) fn is_untouched(&self) -> bool {
        self.kept.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether it is the client's turn: all that has come is sent, and there is more.
    pub(crate) fn awaits_client(&self) -> bool {
        !self.is_complete && !self.has_next()
    }

    /// Whether there is something to send.
    pub(crate) fn has_next(&self) -> bool {
        !self.is_sent && (self.is_complete || !self.next.is_empty() || self.has_kept())
    }

    fn has_kept(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| self.resent < kept.len())
    }

    /// Takes what the client sent; `complete`: that was all.
    pub(crate) fn take(&mut self, piece: Bytes, complete: bool) {
        self.is_complete = complete;
        self.kept_bytes += piece.len();
        match &mut self.kept {
            Some(kept) if self.kept_bytes <= KEPT => {
                if !piece.is_empty() {
                    kept.push(piece);
                }
            }
            _ => {
                // Everything kept has been sent: a piece is read only when none is left.
                self.kept = None;
                self.next = piece;
            }
        }
    }

    /// Sends the next piece, at most `room` bytes of it.
    pub(crate) fn send(&mut self, stream: &Stream, room: usize) {
        let piece = match &self.kept {
            // A kept piece may have to be cut; the rest then is `next`.
            Some(kept) if self.next.is_empty() => {
                let piece = kept.get(self.resent).cloned().unwrap_or_default();
                self.resent += usize::from(!piece.is_empty());
                piece
            }
            _ => std::mem::take(&mut self.next),
        };
        let mut piece = piece;
        if piece.len() > room {
            self.next = piece.split_off(room);
        }
        self.is_sent = self.is_complete && self.next.is_empty() && !self.has_kept();
        stream.send(piece, self.is_sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Line;
    use appliance_link::frame::{END, HEADER, Header};
    use std::task::Waker;

    /// Sends everything that `upload` has, in pieces of at most `room`; the pieces, and whether each was the end.
    fn sent(upload: &mut Upload, room: usize) -> Vec<(usize, bool)> {
        let (line, _retired) = Line::new(1 << 20, 1 << 20);
        let stream = line.open(0, 0, |_| {}).unwrap();
        while upload.has_next() {
            upload.send(&stream, room);
        }
        let mut bytes = Vec::new();
        while line.flush(Waker::noop(), |outbox| {
            let (slices, count) = outbox.slices();
            let before = bytes.len();
            slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
            bytes.len() - before
        }) {}
        let mut rest = &bytes[HEADER..];
        let mut pieces = Vec::new();
        while let Some(header) = Header::parse(rest, 0).unwrap() {
            pieces.push((header.length, header.flags == END));
            rest = &rest[HEADER + header.length..];
        }
        pieces
    }

    fn piece(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    #[test]
    fn no_body_sends_nothing() {
        let mut upload = Upload::new(false);
        upload.rewind();
        assert!(upload.is_empty());
        assert_eq!(sent(&mut upload, 10), []);
    }

    #[test]
    fn a_small_body_is_sent_again_in_another_try() {
        let mut upload = Upload::new(true);
        assert!(upload.is_untouched() && !upload.is_empty());
        upload.take(piece(15), false);
        upload.take(piece(5), true);
        for _ in 0..2 {
            upload.rewind();
            assert_eq!(sent(&mut upload, 10), [(10, false), (5, false), (5, true)]);
            assert!(upload.is_replayable() && !upload.awaits_client());
        }
    }

    #[test]
    fn a_body_that_ends_without_a_piece_still_ends() {
        let mut upload = Upload::new(true);
        upload.take(piece(5), false);
        assert_eq!(sent(&mut upload, 10), [(5, false)]);
        upload.take(Bytes::new(), true);
        assert_eq!(sent(&mut upload, 10), [(0, true)]);
        upload.rewind();
        assert_eq!(sent(&mut upload, 10), [(5, true)]);
        let mut nothing = Upload::new(true);
        nothing.take(Bytes::new(), true);
        assert!(nothing.is_empty());
    }

    #[test]
    fn a_try_that_ends_in_the_middle_of_a_piece_is_forgotten() {
        let (line, _retired) = Line::new(1 << 20, 1 << 20);
        let mut upload = Upload::new(true);
        upload.take(piece(15), true);
        upload.send(&line.open(0, 0, |_| {}).unwrap(), 10);
        upload.rewind();
        assert_eq!(sent(&mut upload, 20), [(15, true)]);
    }

    #[test]
    fn a_large_body_is_not_kept() {
        let mut upload = Upload::new(true);
        upload.take(piece(KEPT), false);
        assert_eq!(sent(&mut upload, KEPT), [(KEPT, false)]);
        upload.take(piece(1), true);
        assert!(!upload.is_replayable());
    }
}
