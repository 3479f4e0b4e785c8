//! Moves the bytes of one connection of the link: a task that reads frames for the streams, and writes what they have put
//! into the outbox. Everything that became ready in one turn of the runtime leaves in one `writev`, because the task runs
//! after those that woke it. `link.rs` starts it. It must never look into a payload.
use crate::WorkerId;
use crate::inbox::End;
use crate::line::Line;
use appliance_link::frame::{END, HEADER, Kind};
use appliance_link::{Frame, Header, StreamId, Violation};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::UnixStream;

/// Room for one read.
const READ: usize = 64 * 1024;
/// Reads in one turn, so that those who wait for what was read get theirs.
const READS: usize = 4;
/// Longest head of an answer; nginx allows 8 KiB by default, hyper 400 KiB.
const MOST_HEAD: usize = 1024 * 1024 + 4096;
/// Payloads from this size on share the memory they were read into; smaller ones are copied, so that a slow client holds at
/// most four times what waits for it.
const SHARED: usize = READ / 4;

/// See the module. A future that ends with the connection.
pub(crate) struct Carrier {
    line: Arc<Line>,
    socket: UnixStream,
    inbound: BytesMut,
    /// A `Data` frame of which the header has been taken.
    piece: Option<Piece>,
    /// For messages.
    worker: WorkerId,
}

/// What is still to come of a `Data` frame.
struct Piece {
    stream: StreamId,
    left: usize,
    end: bool,
}

impl Carrier {
    /// `inbound` is what came behind the worker's hello.
    pub(crate) fn new(line: Arc<Line>, socket: UnixStream, inbound: BytesMut, worker: WorkerId) -> Self {
        Self { line, socket, inbound, piece: None, worker }
    }

    /// Reads what is there. `Ready`: the connection has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..READS {
            if !self.take_all() {
                return Poll::Ready(End::Garbled);
            }
            self.inbound.reserve(READ);
            match pin!(self.socket.read_buf(&mut self.inbound)).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(End::Closed),
                Poll::Ready(Err(error)) if is_gone(&error) => return Poll::Ready(End::Closed),
                // What else the worker has said, such as that it has entered a request, is not known.
                Poll::Ready(Err(_)) => return Poll::Ready(End::Garbled),
            }
        }
        if !self.take_all() {
            return Poll::Ready(End::Garbled);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands everything to its streams that can be; false after a violation.
    fn take_all(&mut self) -> bool {
        loop {
            match self.take_one() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(violation) => {
                    tracing::error!(worker = self.worker, "the worker's link is closed: {violation}");
                    return false;
                }
            }
        }
    }

    /// Hands over one frame, or what has come of a piece of a body; false: wait for more.
    fn take_one(&mut self) -> Result<bool, Violation> {
        if self.inbound.is_empty() {
            return Ok(false);
        }
        if let Some(piece) = &mut self.piece {
            let count = piece.left.min(self.inbound.len());
            piece.left -= count;
            let (stream, end, is_over) = (piece.stream, piece.end && piece.left == 0, piece.left == 0);
            if is_over {
                self.piece = None;
            }
            let bytes = self.take_payload(count);
            self.line.receive(Frame::Data { stream, end, bytes })?;
            return Ok(is_over);
        }
        let Some(header) = Header::peek(&self.inbound, MOST_HEAD)? else { return Ok(false) };
        let has_come = self.inbound.len() - HEADER;
        if has_come >= header.length {
            self.inbound.advance(HEADER);
            let payload = self.take_payload(header.length);
            self.line.receive(header.with(payload)?)?;
            return Ok(true);
        }
        if header.kind == Kind::Data && has_come > 0 {
            self.inbound.advance(HEADER);
            let end = header.flags & END != 0;
            self.piece = Some(Piece { stream: header.stream, left: header.length, end });
            return Ok(true);
        }
        Ok(false)
    }

    fn take_payload(&mut self, count: usize) -> Bytes {
        if count < SHARED {
            let copy = Bytes::copy_from_slice(&self.inbound[..count]);
            self.inbound.advance(count);
            copy
        } else {
            self.inbound.split_to(count).freeze()
        }
    }

    /// Writes what waits. `Ready`: the connection has ended.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut result = Poll::Pending;
            let (line, socket) = (&self.line, &mut self.socket);
            let any = line.flush(cx.waker(), |outbox| {
                let (slices, count) = outbox.slices();
                result = Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..count]);
                match &result {
                    Poll::Ready(Ok(taken)) => *taken,
                    _ => 0,
                }
            });
            match result {
                _ if !any => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(()),
                // The worker is gone, but what it sent before is still to be read; the end follows.
                Poll::Ready(Err(error)) if is_gone(&error) => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Future for Carrier {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(end) = self.poll_read(cx) {
            self.line.end(end);
            return Poll::Ready(());
        }
        if self.poll_write(cx).is_ready() {
            self.line.end(End::Garbled);
            return Poll::Ready(());
        }
        if self.line.is_done() { Poll::Ready(()) } else { Poll::Pending }
    }
}
