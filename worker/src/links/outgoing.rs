//! What leaves on a link: small frames are gathered until the engine flushes, a large piece of a body is written at once
//! from the application's memory, and what the kernel does not take is kept. Only this file writes to the socket.
use super::Link;
use super::exchange::Stage;
use appliance_link::StreamId;
use appliance_link::frame::{self, END, HEADER, Header, Kind, MOST_DATA};
use appliance_link::outbox::SMALL;
use bytes::Bytes;
use std::io::{ErrorKind, IoSlice, Read, Write};

/// Small frames that may gather, in bytes, before they are sent in the middle of a turn.
const FLUSH_AT: usize = 64 * 1024;

impl<S: Read + Write> Link<S> {
    /// Whether there is something to send of which the engine has not heard yet; it is expected to [`Link::flush`] soon.
    pub fn is_to_be_scheduled(&mut self) -> bool {
        let is_new = !self.is_scheduled && !self.is_blocked && !self.outbox.is_empty();
        self.is_scheduled |= is_new;
        is_new
    }

    /// The place behind the last small frame.
    pub(super) fn front_end(&self) -> u64 {
        self.front_left + self.outbox.front_len() as u64
    }

    /// Whether the small frames up to this place have been handed to the kernel.
    pub fn has_left(&self, place: u64) -> bool {
        self.front_left >= place
    }

    /// Bytes handed to the kernel so far; the count starts again.
    pub fn take_bytes_out(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_out)
    }

    /// Whether the socket is to be watched for room from now on, or no more, if that has changed. A new link's is.
    pub fn take_interest(&mut self) -> Option<bool> {
        let has_changed = self.wants_room != self.watches_room;
        self.watches_room = self.wants_room;
        has_changed.then_some(self.wants_room)
    }

    /// The socket has room. If nobody waited for it, that need not be said again: while answers are small, the proxy makes
    /// room with each that it takes.
    pub fn on_writable(&mut self) {
        self.wants_room = std::mem::take(&mut self.is_blocked);
        self.flush();
    }

    /// Sends what the kernel takes; the rest leaves when the socket has room.
    pub fn flush(&mut self) {
        self.is_scheduled = false;
        while !self.is_blocked && !self.outbox.is_empty() {
            let (slices, count) = self.outbox.slices();
            let written = self.socket.write_vectored(&slices[..count]);
            let Some(written) = self.count(written) else { return };
            self.advance_outbox(written);
        }
    }

    /// What a write has achieved; `None`: it was the end of the link.
    fn count(&mut self, written: std::io::Result<usize>) -> Option<usize> {
        match written {
            Ok(0) => {}
            Ok(count) => {
                self.bytes_out += count as u64;
                return Some(count);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Some(0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                (self.is_blocked, self.wants_room) = (true, true);
                return Some(0);
            }
            Err(_) => {}
        }
        self.end(None);
        None
    }

    fn advance_outbox(&mut self, count: usize) {
        let (end, mut left) = (self.front_end(), Vec::new());
        self.outbox.advance(count, |id| left.push(id));
        self.front_left = end - self.outbox.front_len() as u64;
        self.wake_crowded();
        left.into_iter().for_each(|id| self.on_left_bulk(id));
    }

    fn wake_crowded(&mut self) {
        for id in std::mem::take(&mut self.crowded) {
            let left = self.front_left;
            if self.streams.get(&id).is_some_and(|exchange| exchange.in_front(left) > 0) {
                self.crowded.push(id);
            } else {
                self.wake_if_room(id);
            }
        }
    }

    fn on_left_bulk(&mut self, id: StreamId) {
        let Some(exchange) = self.streams.get_mut(&id) else { return };
        // A frame that was half-way out when its stream was reset may be counted for the next with that number.
        exchange.in_bulk = exchange.in_bulk.saturating_sub(1);
        match exchange.stage {
            Stage::Answered if exchange.in_bulk == 0 => self.forget_answered(id),
            _ => self.wake_if_room(id),
        }
    }

    /// Sends the beginning of `rest`, at most `room` bytes of it, as one frame; how many bytes that were. `last`: nothing
    /// follows `rest`.
    pub(super) fn put_piece(&mut self, id: StreamId, rest: &[u8], room: usize, last: bool) -> usize {
        let count = rest.len().min(room).min(MOST_DATA);
        let flags = if last && count == rest.len() { END } else { 0 };
        let piece = &rest[..count];
        if count <= SMALL {
            self.put_data(id, flags, piece);
            if self.outbox.front_len() > FLUSH_AT {
                self.flush();
            }
        } else {
            self.put_large(id, flags, piece);
        }
        if flags == END && self.streams.get(&id).is_some_and(|exchange| exchange.stream.is_over()) {
            self.streams.remove(&id);
        }
        count
    }

    /// Puts a small piece where it leaves soon: in front, or behind what the stream has in bulk, which it must not overtake.
    pub(super) fn put_data(&mut self, id: StreamId, flags: u8, piece: &[u8]) {
        let Some(exchange) = self.streams.get_mut(&id) else { return };
        exchange.stream.send_data(piece.len(), flags == END);
        if exchange.in_bulk > 0 {
            exchange.in_bulk += 1;
            return self.outbox.push(id, flags, Bytes::copy_from_slice(piece));
        }
        frame::put(self.outbox.front(), Kind::Data, id, flags, piece);
        let end = self.front_left + self.outbox.front_len() as u64;
        exchange.add_in_front(self.front_left, end, piece.len());
    }

    /// Sends a large piece from where it lies, with everything that waits in front, if the kernel may take it; only what it
    /// does not take is copied.
    fn put_large(&mut self, id: StreamId, flags: u8, piece: &[u8]) {
        let Some(exchange) = self.streams.get_mut(&id) else { return };
        exchange.stream.send_data(piece.len(), flags == END);
        if self.is_blocked || !self.outbox.is_bulk_empty() {
            exchange.in_bulk += 1;
            return self.outbox.push(id, flags, Bytes::copy_from_slice(piece));
        }
        let header = Header { kind: Kind::Data, flags, stream: id, length: piece.len() }.bytes();
        let (mut slices, count) = self.outbox.slices();
        slices[count] = IoSlice::new(&header);
        slices[count + 1] = IoSlice::new(piece);
        let written = self.socket.write_vectored(&slices[..count + 2]);
        let Some(written) = self.count(written) else { return };
        let of_front = written.min(self.outbox.front_len());
        self.advance_outbox(of_front);
        let sent = written - of_front;
        if sent < HEADER + piece.len() {
            if let Some(exchange) = self.streams.get_mut(&id) {
                exchange.in_bulk += 1;
            }
            self.outbox.push_rest(id, header, Bytes::copy_from_slice(piece), sent);
        }
    }
}
