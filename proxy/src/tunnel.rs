//! A connection that carries another protocol (a WebSocket's) between a client and a worker: whatever comes from the one goes to
//! the other, in pieces that lie in memory only while the other does not take them. `relay/upgrade.rs` opens it, `conn.rs` runs
//! it when pingora has let go of the connection. It must never look into what it carries, and an idle one holds no buffer.
use crate::conn::Front;
use crate::error::Failure;
use crate::exchange::{Exchange, Logged};
use crate::socket::{End, Socket};
use crate::stream::ClientStream;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::StatusCode;
use pingora::http::ResponseHeader;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes that are read at once, and so the most that waits in each direction.
const PIECE: usize = 16 * 1024;

/// While nothing is read from the client it is looked at this often: nothing else would tell that it has left.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a client that sends no more is kept although its worker sends nothing: a WebSocket whose client has left without the
/// closing handshake, in nearly every case, but what a half-closed peer is still owed may take a moment. Longer than a worker's
/// patience with a closing handshake. (nginx waits not at all.)
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What an answer with status 101 has made of a worker's connection.
pub(crate) struct Opened {
    /// For the client: the head, and what the worker has sent behind it.
    first: Bytes,
    head_length: usize,
    worker: Box<Socket>,
}

impl Opened {
    /// `behind`: the bytes that the worker has sent behind its head.
    pub(crate) fn new(head: &ResponseHeader, behind: &[u8], worker: Box<Socket>) -> Self {
        let mut first = BytesMut::new();
        let reason = head.get_reason_phrase().unwrap_or_default();
        first.put_slice(format!("HTTP/1.1 {} {reason}\r\n", head.status.as_str()).as_bytes());
        head.header_to_h1_wire(&mut first);
        first.put_slice(b"\r\n");
        let head_length = first.len();
        first.put_slice(behind);
        Self { first: first.freeze(), head_length, worker }
    }
}

/// See the module.
pub(crate) struct Tunnel {
    opened: Opened,
    exchange: Exchange,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tunnel({:?})", self.opened.worker)
    }
}

impl Tunnel {
    pub(crate) fn new(opened: Opened, exchange: Exchange) -> Self {
        Self { opened, exchange }
    }

    /// Carries until the worker has closed its side, or one of the two is gone; then writes the line of the access log.
    pub(crate) async fn serve(mut self: Box<Self>, client: &mut ClientStream, front: &Front) {
        client.become_raw();
        let Opened { first, head_length, worker } = &mut self.opened;
        let mut flow = Flow {
            inward: Way::default(),
            is_shut: false,
            outward: Way::beginning_with(std::mem::take(first)),
        };
        let mut vigil = Vigil::new(front.shared.settings.timeouts.write);
        let ended = poll_fn(|cx| match flow.poll(client, worker.as_mut(), cx) {
            Poll::Pending => vigil.poll(&flow, || client.end(), cx).map(|()| Err(Failure::ClientGone)),
            ended => ended,
        })
        .await;
        let bytes = flow.outward.moved.saturating_sub(*head_length as u64);
        self.exchange.failure = ended.err();
        self.log(bytes, front);
        // Gives back its place at the worker before the client is waited for.
        drop(self);
        if ended.err().is_none_or(|failure| failure.status() != 499) {
            // Whoever cannot be told that it has ended has left.
            let _ = client.shutdown().await;
        }
    }

    fn log(&self, bytes: u64, front: &Front) {
        let logged = Logged {
            method: "GET",
            target: self.exchange.target.sent.as_deref().unwrap_or_default(),
            version: "HTTP/1.1",
            status: Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()),
            bytes,
        };
        self.exchange.log(&logged, &front.shared.stats, &front.log);
    }
}

/// Both directions.
struct Flow {
    /// To the worker, until it has been told that no more comes.
    inward: Way,
    is_shut: bool,
    /// To the client.
    outward: Way,
}

impl Flow {
    /// Moves what can be moved. `Ready`: the worker has ended, and all that it sent has left; or somebody is gone.
    fn poll(
        &mut self,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        worker: &mut (impl AsyncRead + AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        if !self.is_shut {
            match self.inward.poll(client, worker, cx) {
                // The worker is to see that no more comes; it may have more to say. If it is gone, its own direction tells. A
                // socket is shut at once.
                Poll::Ready(Ok(()) | Err(Broken::Target(_))) => {
                    self.is_shut = true;
                    let _ = Pin::new(&mut *worker).poll_shutdown(cx);
                }
                Poll::Ready(Err(Broken::Source)) => return Poll::Ready(Err(Failure::ClientGone)),
                Poll::Pending => {}
            }
        }
        let ended = ready!(self.outward.poll(worker, client, cx));
        Poll::Ready(ended.map_err(|broken| match broken {
            Broken::Source => Failure::AnswerCut,
            Broken::Target(error) if error.kind() == io::ErrorKind::TimedOut => Failure::ClientStalled,
            Broken::Target(_) => Failure::ClientGone,
        }))
    }
}

/// Looks after a client from which nothing is read: because it has said that no more comes, or because the worker does not take
/// what has come. An open connection on which everything is taken costs no timer.
struct Vigil {
    /// How long a worker may leave untaken what a client has sent that has left since.
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The bytes that had been moved at the last look, and how long it has been the same number since the client's end.
    moved: u64,
    still: Duration,
}

impl Vigil {
    fn new(patience: Duration) -> Self {
        Self { patience, timer: None, moved: 0, still: Duration::ZERO }
    }

    /// To be asked when nothing can be moved. `Ready`: the client has left.
    fn poll(&mut self, flow: &Flow, end: impl Fn() -> End, cx: &mut Context<'_>) -> Poll<()> {
        if !flow.is_shut && flow.inward.unsent.is_empty() {
            self.timer = None;
            return Poll::Pending;
        }
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LOOK_EVERY)));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if self.is_over(flow, end()) {
                return Poll::Ready(());
            }
        }
    }

    /// One look.
    fn is_over(&mut self, flow: &Flow, end: End) -> bool {
        let before = std::mem::replace(&mut self.moved, flow.inward.moved + flow.outward.moved);
        let is_still = before == self.moved && end != End::Open;
        self.still = if is_still { self.still + LOOK_EVERY } else { Duration::ZERO };
        self.still
            >= match end {
                End::Gone => LOOK_EVERY,
                _ if flow.is_shut => LAST_WAIT,
                _ => self.patience.max(LAST_WAIT),
            }
    }
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What the target has not taken; nothing is read before that has left.
    unsent: Bytes,
    is_ended: bool,
    /// Bytes that the target has taken.
    moved: u64,
}

/// Whose connection has broken.
enum Broken {
    Source,
    Target(io::Error),
}

impl Way {
    fn beginning_with(first: Bytes) -> Self {
        Self { unsent: first, ..Self::default() }
    }

    /// Moves what can be moved. `Ready`: the source has ended, and all that it sent has been taken.
    fn poll(
        &mut self,
        source: &mut (impl AsyncRead + Unpin),
        target: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            while !self.unsent.is_empty() {
                let taken = ready!(send(target, &self.unsent, cx))?;
                self.moved += taken as u64;
                self.unsent.advance(taken);
            }
            // Also gives the memory back.
            self.unsent = Bytes::new();
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            let mut space = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *source).poll_read(cx, &mut piece)).map_err(|_| Broken::Source)?;
            let piece = piece.filled();
            if piece.is_empty() {
                self.is_ended = true;
                continue;
            }
            let taken = match send(target, piece, cx) {
                Poll::Ready(taken) => taken?,
                Poll::Pending => 0,
            };
            self.moved += taken as u64;
            self.unsent = Bytes::copy_from_slice(&piece[taken..]);
        }
    }
}

/// How many bytes `target` takes, at least 1.
fn send(
    target: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Broken>> {
    let taken = ready!(Pin::new(target).poll_write(cx, bytes)).map_err(Broken::Target)?;
    if taken == 0 {
        return Poll::Ready(Err(Broken::Target(io::ErrorKind::WriteZero.into())));
    }
    Poll::Ready(Ok(taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many looks in a row find a client at its end, before it is given up.
    fn looks(is_shut: bool, end: End) -> usize {
        let mut flow =
            Flow { inward: Way::beginning_with(Bytes::from("x")), is_shut, outward: Way::default() };
        let mut vigil = Vigil::new(Duration::from_secs(60));
        assert!((0..100).all(|_| !vigil.is_over(&flow, End::Open)), "it is there");
        for moved in 1..100 {
            flow.inward.moved = moved;
            assert!(!vigil.is_over(&flow, end), "something moves");
        }
        1 + (0..1000).take_while(|_| !vigil.is_over(&flow, end)).count()
    }

    #[test]
    fn what_has_been_sent_is_kept_longer_than_what_might_still_be_answered() {
        assert_eq!(looks(true, End::Silent), 5);
        assert_eq!(looks(false, End::Silent), 60);
        assert_eq!(looks(true, End::Gone), 1);
        assert_eq!(looks(false, End::Gone), 1);
    }
}
