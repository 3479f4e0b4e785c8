//! Frames on their way out. What is small (heads, control frames, short pieces) is copied into one buffer and leaves first;
//! bulk (large pieces of bodies) is kept by reference and waits behind it, first come, first served. A stream must have no
//! more than one frame in bulk, so the order of bulk is a round of the streams, and no body of any size delays a small
//! answer by more than the frame that is half-way out. The owner gathers slices for one `writev` and says how much of them
//! has left.
//!
//! Within a stream nothing may overtake: what follows a piece in bulk must go to bulk too, or wait until it has left.
use crate::frame::{HEADER, Header, Kind, StreamId};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Pieces of up to this size are copied: cheaper than a slice of its own, and most answers have it.
pub const SMALL: usize = 16 * 1024;
/// Most slices of one `writev`; the kernel takes 1024, but what it cannot send at once it looks at in vain.
pub const SLICES: usize = 16;
/// A buffer larger than this is given back when it is empty.
const KEPT: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    front: Vec<u8>,
    /// Bytes of `front` that have left.
    front_sent: usize,
    bulk: VecDeque<Bulk>,
    /// Bytes of `bulk` that have not left.
    bulk_bytes: usize,
}

#[derive(Debug)]
struct Bulk {
    header: [u8; HEADER],
    stream: StreamId,
    payload: Bytes,
    /// Bytes of header and payload that have left. Not 0 only for the first.
    sent: usize,
}

impl Bulk {
    fn left(&self) -> usize {
        HEADER + self.payload.len() - self.sent
    }
}

impl Outbox {
    /// The buffer to append whole small frames to.
    pub fn front(&mut self) -> &mut Vec<u8> {
        &mut self.front
    }

    /// Appends a large piece of a body as one `Data` frame.
    pub fn push(&mut self, stream: StreamId, flags: u8, payload: Bytes) {
        let header = Header { kind: Kind::Data, flags, stream, length: payload.len() }.bytes();
        self.push_rest(stream, header, payload, 0);
    }

    /// Appends a `Data` frame of which the first `sent` bytes, header included, have left already: it goes on before
    /// anything else. Only right after a `writev` of its own, when nothing of [`Outbox::slices`] was left.
    pub fn push_rest(&mut self, stream: StreamId, header: [u8; HEADER], payload: Bytes, sent: usize) {
        debug_assert!(sent == 0 || self.is_empty());
        let frame = Bulk { header, stream, payload, sent };
        self.bulk_bytes += frame.left();
        self.bulk.push_back(frame);
    }

    /// Forgets what a stream has in bulk, unless it is half-way out; for a stream that is reset.
    pub fn forget(&mut self, stream: StreamId) {
        let bytes = &mut self.bulk_bytes;
        self.bulk.retain(|frame| {
            let keep = frame.stream != stream || frame.sent > 0;
            if !keep {
                *bytes -= frame.left();
            }
            keep
        });
    }

    /// Whether nothing is waiting to leave.
    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.bulk.is_empty()
    }

    /// Whether every small frame has left.
    pub fn is_front_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// Whether no piece of a body is waiting.
    pub fn is_bulk_empty(&self) -> bool {
        self.bulk.is_empty()
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.front_len() + self.bulk_bytes
    }

    /// Bytes of small frames that wait.
    pub fn front_len(&self) -> usize {
        self.front.len() - self.front_sent
    }

    /// What is to leave next, in order, for one `writev`: the filled part of the returned array.
    pub fn slices(&self) -> ([IoSlice<'_>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut add = |bytes| {
            slices[count] = IoSlice::new(bytes);
            count += 1;
            count < SLICES
        };
        let mut bulk = self.bulk.iter();
        // A frame that is half-way out comes first. At most two slices a frame, so these always fit.
        if let Some(begun) = self.bulk.front().filter(|frame| frame.sent > 0) {
            bulk.next();
            put(begun, &mut add);
        }
        if !self.front.is_empty() {
            add(&self.front[self.front_sent..]);
        }
        for frame in bulk {
            if !put(frame, &mut add) {
                break;
            }
        }
        (slices, count)
    }

    /// `count` bytes of [`Outbox::slices`] have left. The streams whose bulk frame has left with them are given to `left`.
    pub fn advance(&mut self, mut count: usize, mut left: impl FnMut(StreamId)) {
        if self.bulk.front().is_some_and(|frame| frame.sent > 0) {
            count = self.advance_bulk(count, &mut left);
        }
        let of_front = count.min(self.front.len() - self.front_sent);
        // Bulk has its turn only when all of `front` has left, so a frame of it that was cut is always completed first.
        self.front_sent += of_front;
        count -= of_front;
        if self.front_sent == self.front.len() {
            self.front.clear();
            self.front_sent = 0;
            if self.front.capacity() > KEPT {
                self.front = Vec::new();
            }
        }
        while count > 0 && !self.bulk.is_empty() {
            count = self.advance_bulk(count, &mut left);
        }
    }

    /// Takes `count` bytes from the first bulk frame; how many are over.
    fn advance_bulk(&mut self, count: usize, left: &mut impl FnMut(StreamId)) -> usize {
        let Some(frame) = self.bulk.front_mut() else { return count };
        let taken = count.min(frame.left());
        frame.sent += taken;
        self.bulk_bytes -= taken;
        if frame.left() == 0 {
            left(frame.stream);
            self.bulk.pop_front();
        }
        count - taken
    }
}

/// Adds what is left of a frame; false when there is no more room.
fn put<'a>(frame: &'a Bulk, add: &mut impl FnMut(&'a [u8]) -> bool) -> bool {
    match frame.sent.checked_sub(HEADER) {
        None => add(&frame.header[frame.sent..]) && (frame.payload.is_empty() || add(&frame.payload)),
        Some(sent) => add(&frame.payload[sent..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{self, END, Frame};

    /// Lets everything leave in writes of at most `size` bytes; the bytes, and the streams in the order they left bulk.
    fn drained(outbox: &mut Outbox, size: usize) -> (Vec<u8>, Vec<StreamId>) {
        let (mut bytes, mut streams) = (Vec::new(), Vec::new());
        while !outbox.is_empty() {
            let (slices, count) = outbox.slices();
            let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            let part = size.min(all.len());
            assert!(part > 0, "something waits, but nothing is to leave");
            bytes.extend_from_slice(&all[..part]);
            let before = outbox.len();
            outbox.advance(part, |stream| streams.push(stream));
            assert_eq!(outbox.len(), before - part);
        }
        (bytes, streams)
    }

    /// The stream and the kind of every frame, and the payloads together.
    fn frames(mut bytes: &[u8]) -> Vec<(StreamId, &'static str, usize)> {
        let mut found = Vec::new();
        while let Some(header) = Header::parse(bytes, 1000).unwrap() {
            assert!(header.with(&bytes[HEADER..HEADER + header.length]).is_ok());
            found.push((header.stream, header.kind.name(), header.length));
            bytes = &bytes[HEADER + header.length..];
        }
        assert!(bytes.is_empty());
        found
    }

    fn filled() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.push(1, 0, Bytes::from(vec![1; 300]));
        outbox.push(2, END, Bytes::from(vec![2; 200]));
        frame::put(outbox.front(), Kind::Response, 3, 0, b"head");
        frame::put(outbox.front(), Kind::Data, 3, END, b"small");
        outbox
    }

    #[test]
    fn small_frames_overtake_bulk_whatever_the_kernel_takes_at_once() {
        for size in 1..700 {
            let (bytes, streams) = drained(&mut filled(), size);
            let expected = [(3, "Response", 4), (3, "Data", 5), (1, "Data", 300), (2, "Data", 200)];
            assert_eq!(frames(&bytes), expected, "{size} bytes at once");
            assert_eq!(streams, [1, 2]);
        }
    }

    #[test]
    fn a_frame_that_is_half_way_out_is_completed_first() {
        for begun in 1..312 {
            let mut outbox = Outbox::default();
            outbox.push(1, 0, Bytes::from(vec![1; 300]));
            let mut bytes = outbox.slices().0.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            bytes.truncate(begun);
            outbox.advance(begun, |_| {});
            frame::put_window(outbox.front(), 9, 5);
            bytes.extend(drained(&mut outbox, 50).0);
            assert_eq!(frames(&bytes), [(1, "Data", 300), (9, "Window", 4)], "{begun} bytes were out");
        }
    }

    #[test]
    fn a_piece_that_was_written_in_part_goes_on() {
        let payload = vec![5; 100];
        let header = Header { kind: Kind::Data, flags: END, stream: 4, length: 100 };
        for sent in 0..112 {
            let mut bytes = [&header.bytes()[..], &payload].concat();
            bytes.truncate(sent);
            let mut outbox = Outbox::default();
            outbox.push_rest(4, header.bytes(), Bytes::from(payload.clone()), sent);
            bytes.extend(drained(&mut outbox, 7).0);
            let whole = Header::parse(&bytes, 0).unwrap().unwrap().with(&bytes[HEADER..]).unwrap();
            assert_eq!(whole, Frame::Data { stream: 4, end: true, bytes: &payload[..] });
        }
    }

    #[test]
    fn a_reset_stream_leaves_nothing_but_what_is_half_way_out() {
        let mut outbox = filled();
        outbox.forget(2);
        assert_eq!(frames(&drained(&mut outbox, 1000).0).last(), Some(&(1, "Data", 300)));
        let mut outbox = Outbox::default();
        outbox.push(1, 0, Bytes::from(vec![1; 300]));
        outbox.advance(100, |_| {});
        outbox.forget(1);
        assert_eq!(outbox.len(), 212);
    }

    #[test]
    fn no_more_slices_than_fit() {
        let mut outbox = Outbox::default();
        for stream in 1..100 {
            outbox.push(stream, 0, Bytes::from(vec![1; 10]));
        }
        assert_eq!(outbox.slices().1, SLICES);
        let (bytes, streams) = drained(&mut outbox, 10_000);
        assert_eq!((frames(&bytes).len(), streams.len()), (99, 99));
    }
}
