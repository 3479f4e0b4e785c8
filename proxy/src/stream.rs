//! The client's byte stream as pingora gets it: exactly one request's bytes in, few large writes out. It owns the socket and
//! what was read ahead, so that pipelined requests wait here and an idle connection needs no buffer. `conn.rs` reads heads
//! from it and lends it to pingora for one request at a time. It must never interpret a header.
use crate::client::Client;
use crate::framing::Body;
use crate::patience::Patience;
use crate::socket::{End, Socket, is_for_pingora};
use appliance_config::settings::Pace;
use bytes::{Buf, BytesMut};
use pingora::protocols::UniqueID;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Head and body leave in one write up to this size, which most pages have; what is larger is not copied here.
const COALESCE_BYTES: usize = 16 * 1024;
/// Pipelined bytes that are read ahead while a request runs, to notice that the client leaves; then TCP holds it back.
const READ_AHEAD_BYTES: usize = 64 * 1024;
/// First size of the buffer for heads; most fit.
const HEAD_BYTES: usize = 2048;
/// How long a connection that is closed with unread input is still read, so that the answer is not lost to a reset
/// (RFC 9112 section 9.6; nginx's `lingering_timeout` is 5 s).
const LINGER: Duration = Duration::from_secs(2);

/// How long a client that has closed its side may still wait for its answer. Scripts close theirs right behind the request
/// (`nc -N`), and nothing tells them from clients that have left before somebody writes to them.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// One client connection's bytes.
pub(crate) struct ClientStream {
    socket: Socket,
    client: Arc<Client>,
    /// Received, but not part of the request that pingora is serving.
    inbound: BytesMut,
    /// What is still to come of the body of that request, and how long it is waited for.
    body: Body,
    /// It carries another protocol, and belongs to no request any more.
    is_raw: bool,
    patience: Patience,
    /// Accepted from pingora; the first `sent` bytes have left.
    outbound: Vec<u8>,
    sent: usize,
    stall: Stall,
    /// How long the closed connection is still read.
    linger: Option<Pin<Box<Sleep>>>,
}

/// Ends a write that makes no progress. The timer exists only while the socket is blocked.
struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl ClientStream {
    /// `pace`: how slowly a body may come; `write_timeout`: longest time without progress while an answer leaves.
    pub(crate) fn new(socket: Socket, client: Arc<Client>, pace: Pace, write_timeout: Duration) -> Self {
        let stall = Stall { limit: write_timeout, timer: None };
        Self {
            socket,
            client,
            inbound: BytesMut::new(),
            body: Body::NONE,
            is_raw: false,
            patience: Patience::new(pace),
            outbound: Vec::new(),
            sent: 0,
            stall,
            linger: None,
        }
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Waits for the first bytes of a next request, holding no buffers; false at the client's end.
    pub(crate) async fn next(&mut self) -> io::Result<bool> {
        self.outbound = Vec::new();
        loop {
            self.inbound = BytesMut::new();
            self.socket.readable().await?;
            // Not `try_read`: only this way tokio learns from a short read that there is no more, which saves the next.
            let read = poll_fn(|cx| Poll::Ready(pin!(self.receive()).poll(cx))).await;
            if let Poll::Ready(count) = read {
                return Ok(count? > 0);
            }
        }
    }

    /// What has been received and not lent to pingora.
    pub(crate) fn inbound(&self) -> &[u8] {
        &self.inbound
    }

    /// Reads more; the number of bytes, 0 at the client's end.
    pub(crate) async fn receive(&mut self) -> io::Result<usize> {
        self.inbound.reserve(HEAD_BYTES);
        self.socket.read_buf(&mut self.inbound).await
    }

    /// Begins a request whose head is the first `head` bytes received: its bytes so far, for pingora. What follows the body
    /// stays here.
    pub(crate) fn begin(&mut self, head: usize, body: Body) -> Result<BytesMut, crate::error::Failure> {
        self.body = body;
        let of_body = self.body.take(&self.inbound[head..])?;
        self.patience.begin(of_body as u64);
        let lent = self.inbound.split_to(head + of_body);
        if self.inbound.is_empty() {
            // Gives pingora the only handle on the memory: it can then append without a copy.
            self.inbound = BytesMut::new();
        }
        Ok(lent)
    }

    /// From now on it carries another protocol: everything is read as it comes.
    pub(crate) fn become_raw(&mut self) {
        self.is_raw = true;
        self.outbound = Vec::new();
        self.client.set_more_coming(false);
    }

    /// Waits until the client has left, also if it has sent more before. One that only closed its side counts, as it does
    /// elsewhere (nginx's 499), but only when it has got nothing for `LAST_WAIT`.
    pub(crate) async fn gone(&self) {
        self.socket.closed().await;
        tokio::time::sleep(LAST_WAIT).await;
    }

    /// How far the client has left, as far as the kernel knows by now.
    pub(crate) fn end(&self) -> End {
        self.socket.end()
    }

    /// Whether the client may still be sending something that nobody will read.
    fn may_be_sending(&self) -> bool {
        self.is_raw || !self.body.is_complete() || !self.inbound.is_empty()
    }

    /// Reads and drops what still comes, until the client's end, an error or the end of `LINGER`: closing at once would
    /// make the kernel reset the connection, and the client could lose an answer that it has not read.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        while patience.as_mut().poll(cx).is_pending() {
            let mut space = [MaybeUninit::uninit(); 4096];
            let mut rest = ReadBuf::uninit(&mut space);
            match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut rest)) {
                Ok(()) if !rest.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(())
    }

    /// While a complete request is served: only the client's end is of interest, further requests wait in `inbound`.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.inbound.len() < READ_AHEAD_BYTES {
            let mut space = [MaybeUninit::uninit(); 2048];
            let mut ahead = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut ahead))?;
            match ahead.filled() {
                // Requests that came before the end still get their answers.
                [] if self.inbound.is_empty() => return Poll::Ready(Ok(())),
                [] => return Poll::Pending,
                bytes => self.inbound.extend_from_slice(bytes),
            }
        }
        Poll::Pending
    }

    /// What has come before it was asked for, then what comes.
    fn poll_raw(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.inbound.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, into);
        }
        let count = into.remaining().min(self.inbound.len());
        into.put_slice(&self.inbound[..count]);
        self.inbound.advance(count);
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends all that is buffered.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outbound.len() {
            ready!(self.poll_send(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }

    /// One write of what is buffered and of `more`; how much of `more` has left.
    fn poll_send(&mut self, cx: &mut Context<'_>, more: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        // As long as this takes, the body is not read.
        self.patience.pause();
        let buffered = &self.outbound[self.sent..];
        let mut slices = [IoSlice::new(buffered); 8];
        let mut count = usize::from(!buffered.is_empty());
        for slice in more.iter().take(slices.len() - count) {
            slices[count] = IoSlice::new(slice);
            count += 1;
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, &slices[..count]);
        let written = ready!(self.stall.poll(cx, written))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_more = written.saturating_sub(buffered.len());
        self.sent += written - of_more;
        if self.sent == self.outbound.len() {
            self.outbound.clear();
            self.sent = 0;
        }
        Poll::Ready(Ok(of_more))
    }
}

impl Stall {
    /// Passes a write's result through; fails it when the socket has been blocked for the limit.
    fn poll(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.timer = None;
            return written;
        }
        let end = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Whoever waits for the client has nothing more for it now: what was held back to leave together leaves.
        if let Poll::Ready(Err(error)) = this.poll_rest(cx) {
            return Poll::Ready(Err(error));
        }
        if this.is_raw {
            return this.poll_raw(cx, into);
        }
        if this.body.is_complete() {
            return this.poll_gone(cx);
        }
        let before = into.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, into);
        let read = read.map_ok(|()| into.filled().len() - before);
        ready!(this.patience.poll(cx, read))?;
        let fresh = &into.filled()[before..];
        let of_body = this.body.take(fresh).map_err(io::Error::other)?;
        this.inbound.extend_from_slice(&fresh[of_body..]);
        into.set_filled(before + of_body);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        // Nobody else flushes: pingora keeps the pieces of a body whose length is known for later.
        let may_wait = this.client.is_more_coming();
        loop {
            if may_wait && this.outbound.len() - this.sent + total <= COALESCE_BYTES {
                slices.iter().for_each(|slice| this.outbound.extend_from_slice(slice));
                return Poll::Ready(Ok(total));
            }
            let count = ready!(this.poll_send(cx, slices))?;
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.client.is_more_coming() && this.outbound.len() - this.sent < COALESCE_BYTES {
            return Poll::Ready(Ok(()));
        }
        this.poll_rest(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(this.poll_rest(cx))?;
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        }
        if this.may_be_sending() {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if self.client.is_reset_on_drop() {
            self.socket.reset_on_drop();
        }
    }
}

impl UniqueID for ClientStream {
    fn id(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientStream({:?})", self.socket)
    }
}

is_for_pingora!(ClientStream);
