//! The worker's doors: the unix socket that the proxy (and `curl --unix-socket`) uses, and the native listener on
//! `base_port + worker_id`, which is bound here, after the fork. Accepts connections and says whom they may speak for;
//! never reads from one.
use crate::app::{Door, Peer};
use crate::conn::Stream;
use crate::reactor::{Reactor, Source};
use mio::Interest;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use nix::sys::sendfile::sendfile64;
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, setsockopt, sockopt,
};
use rustix::net::{self, RecvFlags, SendFlags};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

/// A connected stream of either kind.
#[derive(Debug)]
pub enum Socket {
    /// From the native listener.
    Tcp(TcpStream),
    /// From the worker's unix socket.
    Unix(UnixStream),
}

impl Socket {
    /// Watches for room to write, or not, beside input.
    pub fn watch_room(&mut self, reactor: &Reactor, source: Source, wanted: bool) -> io::Result<()> {
        let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        match self {
            Socket::Tcp(stream) => reactor.watch_again(stream, source, interest),
            Socket::Unix(stream) => reactor.watch_again(stream, source, interest),
        }
    }

    /// Forgets the socket.
    pub fn unwatch(&mut self, reactor: &Reactor) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => reactor.unwatch(stream),
            Socket::Unix(stream) => reactor.unwatch(stream),
        }
    }

    /// Registers the socket for both directions.
    pub fn watch(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => reactor.watch(stream, source),
            Socket::Unix(stream) => reactor.watch(stream, source),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

// By system calls themselves: libc's wrappers are cancellation points, which cost a process of several threads two atomic
// operations each.
impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (_, read) = net::recv(self, into, RecvFlags::empty())?;
        Ok(read)
    }
}

impl Write for Socket {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(net::send(self, data, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self, slices)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }

    fn reset(&mut self) {
        if let Socket::Tcp(stream) = self {
            // Closing sends RST instead of FIN. If that fails, the missing framing still shows the cut to HTTP/1.1.
            let _ = setsockopt(stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 });
        }
    }

    fn send_file(&mut self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(sendfile64(self.as_fd(), file, Some(&mut offset), count)?)
    }
}

/// A listening socket of this worker.
#[derive(Debug)]
pub enum Listener {
    /// The native listener, and its port.
    Native(TcpListener),
    /// The worker's unix socket, with what every connection's [`Peer`] is when it is the proxy's and when it is not.
    Worker {
        /// The socket that the master bound.
        socket: UnixListener,
        /// For connections of our own user or of root.
        proxy: Arc<Peer>,
        /// For any other.
        stranger: Arc<Peer>,
    },
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Listener::Native(socket) => socket.as_raw_fd(),
            Listener::Worker { socket, .. } => socket.as_raw_fd(),
        }
    }
}

impl Listener {
    /// Adopts the listening unix socket that the master made.
    pub fn worker(socket: OwnedFd) -> io::Result<Listener> {
        let socket = std::os::unix::net::UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        let peer = |trusted| {
            Arc::new(Peer {
                door: Door::Proxy,
                address: String::new(),
                port: String::new(),
                server_address: "localhost".into(),
                server_port: "80".into(),
                trusted,
            })
        };
        Ok(Listener::Worker {
            socket: UnixListener::from_std(socket),
            proxy: peer(true),
            stranger: peer(false),
        })
    }

    /// Binds the native listener. `SO_REUSEPORT` lets a successor bind while its predecessor drains.
    pub fn native(address: SocketAddr, backlog: u32) -> io::Result<Listener> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket::socket(family, SockType::Stream, flags, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::ReusePort, &true)?;
        match address {
            SocketAddr::V4(address) => socket::bind(fd.as_raw_fd(), &SockaddrIn::from(address))?,
            SocketAddr::V6(address) => socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(address))?,
        }
        let backlog = Backlog::new(i32::try_from(backlog).unwrap_or(i32::MAX)).unwrap_or(Backlog::MAXCONN);
        socket::listen(&fd, backlog)?;
        Ok(Listener::Native(TcpListener::from_std(fd.into())))
    }

    /// Whether this worker alone has it.
    pub fn is_native(&self) -> bool {
        matches!(self, Listener::Native(_))
    }

    /// Where the worker's unix socket lies.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Listener::Native(_) => None,
            Listener::Worker { socket, .. } => Some(socket.local_addr().ok()?.as_pathname()?.to_owned()),
        }
    }

    /// Registers the listener.
    pub fn watch(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        match self {
            Listener::Native(socket) => reactor.watch_for(socket, source, Interest::READABLE),
            Listener::Worker { socket, .. } => reactor.watch_for(socket, source, Interest::READABLE),
        }
    }

    /// Stops watching it.
    pub fn unwatch(&mut self, reactor: &Reactor) -> io::Result<()> {
        match self {
            Listener::Native(socket) => reactor.unwatch(socket),
            Listener::Worker { socket, .. } => reactor.unwatch(socket),
        }
    }

    /// The next connection that waits; `WouldBlock` when there is none.
    pub fn accept(&self) -> io::Result<(Socket, Arc<Peer>)> {
        match self {
            Listener::Native(listener) => {
                let (stream, client) = listener.accept()?;
                stream.set_nodelay(true)?;
                let server = stream.local_addr()?;
                let peer = Peer {
                    door: Door::Native,
                    address: client.ip().to_canonical().to_string(),
                    port: client.port().to_string(),
                    server_address: server.ip().to_canonical().to_string(),
                    server_port: server.port().to_string(),
                    trusted: false,
                };
                Ok((Socket::Tcp(stream), Arc::new(peer)))
            }
            Listener::Worker { socket, proxy, stranger } => {
                let (stream, _) = socket.accept()?;
                let peer = if is_proxy(&stream) { proxy } else { stranger };
                Ok((Socket::Unix(stream), Arc::clone(peer)))
            }
        }
    }
}

/// The proxy runs as our own user; root may speak for anybody anyway.
fn is_proxy(stream: &UnixStream) -> bool {
    socket::getsockopt(stream, sockopt::PeerCredentials)
        .is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_binds_the_native_port_while_its_predecessor_still_listens() {
        let Listener::Native(first) = Listener::native("127.0.0.1:0".parse().unwrap(), 16).unwrap() else {
            panic!("not a native listener")
        };
        let second = Listener::native(first.local_addr().unwrap(), 16);
        assert!(second.is_ok(), "{second:?}");
    }

    #[test]
    fn a_connection_of_our_own_user_may_speak_for_the_client() {
        let dir = std::env::temp_dir().join(format!("appliance-listen-{}", std::process::id()));
        let bound = std::os::unix::net::UnixListener::bind(&dir).unwrap();
        let listener = Listener::worker(bound.into()).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&dir).unwrap();
        let (_, peer) = listener.accept().unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert!(peer.trusted);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
