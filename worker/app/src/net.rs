//! Streams in blocking style that suspend only their own request: `std`'s, made non-blocking, and waited for.
use crate::{blocking, sleep, wait_readable, wait_writable};
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr,
};
use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// A unix socket whose queue is full is tried again after this.
const FULL: Duration = Duration::from_millis(10);

/// Reads and writes that need not wait before the other requests have their turn, as many as of bodies.
const STEPS_PER_TURN: u32 = 64;

thread_local! {
    /// How many there were of them since one has waited.
    static STEPS: Cell<u32> = const { Cell::new(0) };
}

/// A stream of either kind.
#[derive(Debug)]
struct Waiting<S> {
    stream: S,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl<S: From<OwnedFd> + AsFd> Waiting<S> {
    fn new(fd: OwnedFd) -> Waiting<S> {
        Waiting { stream: fd.into(), read_timeout: None, write_timeout: None }
    }
}

/// When a time-out is over; `None`: later than there is time.
fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Does something as often as it would block, and waits in between. A peer that is always faster does not keep the loop.
fn until_done<T>(
    mut act: impl FnMut() -> io::Result<T>,
    wait: impl Fn(Option<Duration>) -> io::Result<bool>,
    timeout: Option<Duration>,
) -> io::Result<T> {
    let deadline = timeout.and_then(after);
    if STEPS.replace(STEPS.get() + 1) >= STEPS_PER_TURN {
        STEPS.set(0);
        sleep(Duration::ZERO);
    }
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                STEPS.set(0);
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if !wait(left)? {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            other => return other,
        }
    }
}

impl<S: AsFd> Waiting<S>
where
    for<'a> &'a S: Read + Write,
{
    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let wait = |left| wait_readable(&self.stream, left);
        until_done(|| (&self.stream).read(into), wait, self.read_timeout)
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        let wait = |left| wait_writable(&self.stream, left);
        until_done(|| (&self.stream).write(data), wait, self.write_timeout)
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct TcpStream(Waiting<std::net::TcpStream>);

/// A connection to a unix socket.
#[derive(Debug)]
pub struct UnixStream(Waiting<std::os::unix::net::UnixStream>);

impl TcpStream {
    /// Connects to `host:port`. Names are looked up on a thread of the pool, and each of their addresses is tried in turn, for at
    /// most `timeout` each.
    pub fn connect(address: &str, timeout: Option<Duration>) -> io::Result<TcpStream> {
        let mut last = io::Error::new(ErrorKind::NotFound, format!("{address} has no address"));
        for address in resolve(address)? {
            match connect_tcp(address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Whether small writes leave at once (`TCP_NODELAY`).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.stream.set_nodelay(nodelay)
    }

    /// Who the peer is.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.stream.peer_addr()
    }

    /// Whether nothing waits to be read, not even an end: an idle connection that can be used again.
    pub(crate) fn is_quiet(&self) -> bool {
        let peeked = self.0.stream.peek(&mut [0]);
        peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl UnixStream {
    /// Connects to the socket at a path.
    pub fn connect(path: impl AsRef<Path>, timeout: Option<Duration>) -> io::Result<UnixStream> {
        let address = UnixAddr::new(path.as_ref())?;
        let deadline = timeout.and_then(after);
        loop {
            let fd = open(AddressFamily::Unix)?;
            match socket::connect(fd.as_raw_fd(), &address) {
                Ok(()) => return Ok(UnixStream(Waiting::new(fd))),
                Err(Errno::EAGAIN) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                    sleep(FULL);
                }
                Err(Errno::EAGAIN) => return Err(ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let address = address.to_owned();
    blocking(move || address.to_socket_addrs().map(Iterator::collect))?
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(family, SockType::Stream, flags, None)?)
}

fn connect_tcp(address: SocketAddr, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let fd = match address {
        SocketAddr::V4(address) => begin(AddressFamily::Inet, &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => begin(AddressFamily::Inet6, &SockaddrIn6::from(address))?,
    };
    if !wait_writable(&fd, timeout)? {
        return Err(ErrorKind::TimedOut.into());
    }
    let stream = TcpStream(Waiting::new(fd));
    match stream.0.stream.take_error()? {
        None => Ok(stream),
        Some(error) => Err(error),
    }
}

fn begin(family: AddressFamily, address: &dyn SockaddrLike) -> io::Result<OwnedFd> {
    let fd = open(family)?;
    match socket::connect(fd.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

macro_rules! stream {
    ($name:ident) => {
        impl $name {
            /// How long one read may wait; `None`: for ever.
            pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
                self.0.read_timeout = timeout;
            }

            /// How long one write may wait; `None`: for ever.
            pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
                self.0.write_timeout = timeout;
            }
        }

        impl Read for $name {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0.read(into)
            }
        }

        impl Write for $name {
            fn write(&mut self, data: &[u8]) -> io::Result<usize> {
                self.0.write(data)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.stream.as_fd()
            }
        }
    };
}

stream!(TcpStream);
stream!(UnixStream);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_time_out_may_be_longer_than_there_is_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut stream = TcpStream::connect(&address, Some(Duration::MAX)).unwrap();
        stream.set_read_timeout(Some(Duration::MAX));
        listener.accept().unwrap().0.write_all(b"a").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    }
}
