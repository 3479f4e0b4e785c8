//! One connection to another server, in blocking style: whoever calls is suspended while it waits, and everybody else goes on.
//! Each call has one deadline for all of it, so a peer that is silent, or that trickles, costs its caller that long and
//! nobody else anything.
use super::address::Address;
use super::packet::{HEADER, Header, MAX_BODY, Malformed, TooLong};
use super::resolve;
use crate::suspend::Suspend;
use mio::Interest;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, connect,
    getsockopt, recv, send, socket, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// A unix socket whose backlog is full says so at once and nobody says when that is over: it is tried again after this.
const BUSY_PAUSE: Duration = Duration::from_millis(20);
/// Bytes that are made room for at once: what a peer announces is believed only as it comes.
const CHUNK: usize = 64 * 1024;

/// Why another server has not answered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It cannot be connected to.
    #[error("cannot connect to {0}: {1}")]
    Unreachable(String, String),
    /// Time is over.
    #[error("{0} has not answered in time (timeouts.remote)")]
    Silent(String),
    /// It has closed the connection, which is how this protocol says "no".
    #[error("{0} has closed the connection without an answer")]
    Refused(String),
    /// It has said something that nobody understands.
    #[error("{0} has sent what is no answer: {1}")]
    Garbled(String, String),
    /// What it answers is larger than may be received.
    #[error("{0} answers with {1} bytes, and at most {2} are taken (limits.remote)")]
    TooLarge(String, u64, usize),
    /// It says why there is no result.
    #[error("{0}")]
    Failed(String),
    /// The question does not fit a packet.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Whoever waits was told to end, or cannot wait here; as its [`Suspend`] says.
    #[error("{0}")]
    Ended(io::Error),
}

/// See the module.
pub struct Wire<'a> {
    fd: OwnedFd,
    address: &'a Address,
    suspend: &'a dyn Suspend,
    deadline: Instant,
}

impl<'a> Wire<'a> {
    /// Connects; all that is done with the connection must be over at `deadline`.
    pub fn connect(
        address: &'a Address,
        suspend: &'a dyn Suspend,
        deadline: Instant,
    ) -> Result<Wire<'a>, Failure> {
        let unreachable = |errno| unreachable(address, errno);
        let place: Box<dyn SockaddrLike> = match address {
            Address::Tcp(tcp) => Box::new(SockaddrStorage::from(*tcp)),
            Address::Name(host, port) => {
                Box::new(SockaddrStorage::from(look_up(address, host, *port, suspend, deadline)?))
            }
            Address::Unix(path) => Box::new(UnixAddr::new(path).map_err(unreachable)?),
            Address::Abstract(name) => {
                Box::new(UnixAddr::new_abstract(name.as_bytes()).map_err(unreachable)?)
            }
        };
        let family = place.family().unwrap_or(AddressFamily::Inet);
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Stream, flags, None).map_err(unreachable)?;
        let wire = Wire { fd, address, suspend, deadline };
        wire.establish(&*place)?;
        Ok(wire)
    }

    fn establish(&self, place: &dyn SockaddrLike) -> Result<(), Failure> {
        let unreachable = |errno| unreachable(self.address, errno);
        loop {
            match connect(self.fd.as_raw_fd(), place) {
                Ok(()) | Err(Errno::EISCONN) => return Ok(()),
                Err(Errno::EINPROGRESS | Errno::EALREADY) => {
                    self.ready(Interest::WRITABLE)?;
                    match getsockopt(&self.fd, sockopt::SocketError) {
                        Ok(0) => {}
                        Ok(code) => return Err(unreachable(Errno::from_raw(code))),
                        Err(errno) => return Err(unreachable(errno)),
                    }
                }
                Err(Errno::EAGAIN) => {
                    let again = Instant::now() + BUSY_PAUSE;
                    if again >= self.deadline {
                        return Err(self.silent());
                    }
                    self.suspend.sleep_until(again).map_err(Failure::Ended)?;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(unreachable(errno)),
            }
        }
    }

    fn silent(&self) -> Failure {
        Failure::Silent(self.address.to_string())
    }

    /// What says that the peer does not speak as it should.
    pub fn garbled(&self, why: impl ToString) -> Failure {
        Failure::Garbled(self.address.to_string(), why.to_string())
    }

    /// Likewise, of a body.
    pub fn malformed(&self) -> impl Fn(Malformed) -> Failure {
        |why| self.garbled(why)
    }

    fn ready(&self, interest: Interest) -> Result<(), Failure> {
        match self.suspend.ready(self.fd.as_raw_fd(), interest, Some(self.deadline)) {
            Ok(true) => Ok(()),
            // It may be wrong about readiness, and then be called again and again.
            Ok(false) if Instant::now() < self.deadline => Ok(()),
            Ok(false) => Err(self.silent()),
            Err(error) => Err(Failure::Ended(error)),
        }
    }

    /// Sends all of it.
    pub fn send(&self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::EAGAIN) => self.ready(Interest::WRITABLE)?,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    return Err(Failure::Refused(self.address.to_string()));
                }
                Err(errno) => return Err(self.garbled(errno.desc())),
            }
        }
        Ok(())
    }

    /// Receives exactly so many bytes.
    pub fn receive(&self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let have = bytes.len();
            bytes.resize(length.min(have + CHUNK), 0);
            let received = recv(self.fd.as_raw_fd(), &mut bytes[have..], MsgFlags::empty());
            bytes.truncate(have + received.unwrap_or(0));
            match received {
                Ok(0) | Err(Errno::ECONNRESET) if have == 0 => {
                    return Err(Failure::Refused(self.address.to_string()));
                }
                Ok(0) => return Err(self.garbled("it ends before it is complete")),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.ready(Interest::READABLE)?,
                Err(errno) => return Err(self.garbled(errno.desc())),
            }
        }
        Ok(bytes)
    }

    /// Receives a packet; a body is never longer than [`MAX_BODY`].
    pub fn receive_packet(&self) -> Result<(Header, Vec<u8>), Failure> {
        let header = self.receive(HEADER)?;
        let header = Header::read(&header).ok_or_else(|| self.garbled("it has no header"))?;
        let body = self.receive(usize::from(header.size).min(MAX_BODY)).map_err(|failure| match failure {
            Failure::Refused(_) => self.garbled("it ends before it is complete"),
            other => other,
        })?;
        Ok((header, body))
    }

    /// Receives what was announced to follow, if it is not more than `most` bytes.
    pub fn receive_rest(&self, length: u64, most: usize) -> Result<Vec<u8>, Failure> {
        match usize::try_from(length) {
            Ok(length) if length <= most => self.receive(length),
            _ => Err(Failure::TooLarge(self.address.to_string(), length, most)),
        }
    }
}

fn unreachable(address: &Address, errno: Errno) -> Failure {
    Failure::Unreachable(address.to_string(), errno.desc().to_owned())
}

fn look_up(
    address: &Address,
    host: &str,
    port: u16,
    suspend: &dyn Suspend,
    deadline: Instant,
) -> Result<SocketAddr, Failure> {
    match resolve::look_up(host, port, suspend, deadline) {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Failure::Silent(address.to_string())),
        Err(resolve::Trouble::Ended(error)) => Err(Failure::Ended(error)),
        Err(resolve::Trouble::Unknown(why)) => Err(Failure::Unreachable(address.to_string(), why)),
    }
}
