//! A socket, TCP or unix, as one type: a client's, which `accept.rs` makes and `stream.rs` owns, or one to a worker, of `hop.rs`.
//! No buffers, no policy.
use pingora::protocols::UniqueID;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How far a peer has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    /// It sends no more; a TCP peer that has closed both sides looks like this until something is sent to it.
    Silent,
    /// Nothing reaches it any more.
    Gone,
}

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Waits until there may be something to read, the end included; a wake-up can be false.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => tcp.readable().await,
            Self::Unix(unix) => unix.readable().await,
        }
    }

    /// Waits until the peer has closed its side, although bytes that it sent before may be unread. The kernel can only tell
    /// when it has them all: not of a peer that sent more than it takes.
    pub(crate) async fn closed(&self) {
        // Nobody asks the kernel for urgent data, so of what stands for this interest only the end can come.
        let ready = match self {
            Self::Tcp(tcp) => tcp.ready(Interest::PRIORITY).await,
            Self::Unix(unix) => unix.ready(Interest::PRIORITY).await,
        };
        if ready.is_ok_and(|ready| !ready.is_read_closed()) {
            std::future::pending::<()>().await;
        }
    }

    /// What the kernel knows of the peer's end by now, which costs no system call.
    pub(crate) fn end(&self) -> End {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut cx = Context::from_waker(Waker::noop());
        let known = match self {
            Self::Tcp(tcp) => pin!(tcp.ready(interest)).poll(&mut cx),
            Self::Unix(unix) => pin!(unix.ready(interest)).poll(&mut cx),
        };
        match known {
            Poll::Ready(Err(_)) => End::Gone,
            Poll::Ready(Ok(ready)) if ready.is_write_closed() => End::Gone,
            Poll::Ready(Ok(ready)) if ready.is_read_closed() => End::Silent,
            _ => End::Open,
        }
    }

    /// The peer will see a reset instead of an end when the socket is dropped. Unix sockets know no reset.
    pub(crate) fn reset_on_drop(&self) {
        if let Self::Tcp(tcp) = self {
            // Fails only on a connection that is already gone.
            let _ = tcp.set_zero_linger();
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(tcp) => tcp.as_raw_fd(),
            Self::Unix(unix) => unix.as_raw_fd(),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // `writev` costs the kernel more.
        if let [only] = slices {
            return self.poll_write(cx, only);
        }
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is buffered here.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}

impl UniqueID for Socket {
    fn id(&self) -> i32 {
        self.as_raw_fd()
    }
}

/// What else pingora wants of a connection; addresses come from `Client` instead.
macro_rules! is_for_pingora {
    ($connection:ty) => {
        /// pingora has two ways to close a connection; both are the same here.
        #[async_trait::async_trait]
        impl pingora::protocols::Shutdown for $connection {
            async fn shutdown(&mut self) {
                // Whoever cannot be told that the connection ends has left.
                let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
            }
        }
        impl pingora::protocols::Ssl for $connection {}
        #[async_trait::async_trait]
        impl pingora::protocols::Peek for $connection {}
        impl pingora::protocols::GetTimingDigest for $connection {
            fn get_timing_digest(&self) -> Vec<Option<pingora::protocols::TimingDigest>> {
                Vec::new()
            }
        }
        impl pingora::protocols::GetProxyDigest for $connection {
            fn get_proxy_digest(
                &self,
            ) -> Option<std::sync::Arc<pingora::protocols::raw_connect::ProxyDigest>> {
                None
            }
        }
        impl pingora::protocols::GetSocketDigest for $connection {
            fn get_socket_digest(&self) -> Option<std::sync::Arc<pingora::protocols::SocketDigest>> {
                None
            }
        }
    };
}
pub(crate) use is_for_pingora;

is_for_pingora!(Socket);
