//! Descriptors that an application has opened itself and names by number: connecting, sending and receiving as if it blocked
//! (uWSGI `connect`, `send`, `recv`), while only whoever calls is suspended. Each call works on a duplicate, so that closing
//! the number meanwhile cannot lead it to another file. It resolves no names, which would block, and never touches what the
//! engine itself has accepted: on such a connection are the answers of others.
use crate::reactor;
use crate::suspend::Suspend;
use mio::Interest;
use mio::net::{TcpStream, UnixStream};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, getpeername, getsockname, getsockopt, recv, send,
    sockopt,
};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr as UnixAddr;
use std::sync::OnceLock;
use std::time::Instant;

/// What a pipe that is ready takes without blocking (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;
/// Most bytes that one call receives.
const MOST: usize = 16 << 20;

/// Where the engine's own listeners are bound.
static DOORS: OnceLock<Vec<SockaddrStorage>> = OnceLock::new();

/// Keeps applications off whatever these listeners accept. Once, before the first connection.
pub fn keep_off(listeners: impl Iterator<Item = RawFd>) {
    let names = listeners.filter_map(|listener| getsockname(listener).ok());
    // A process serves once.
    let _ = DOORS.set(names.collect());
}

/// A duplicate of an application's descriptor; an error if it is no such.
fn take_up(fd: RawFd) -> io::Result<OwnedFd> {
    let name = getsockname::<SockaddrStorage>(fd).ok();
    let is_same = |name: &SockaddrStorage, door: &SockaddrStorage| match (port(name), port(door)) {
        (None, None) => name == door,
        // The door may be bound to all addresses, the connection is to one of them.
        ports => ports.0 == ports.1,
    };
    let mut doors = DOORS.get().into_iter().flatten();
    if name.is_some_and(|name| doors.any(|door| is_same(&name, door))) {
        let why = format!("descriptor {fd} is a connection of the server's own");
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    reactor::duplicate(fd)
}

fn port(name: &SockaddrStorage) -> Option<u16> {
    let v4 = name.as_sockaddr_in().map(SockaddrIn::port);
    v4.or_else(|| name.as_sockaddr_in6().map(SockaddrIn6::port))
}

/// Starts to connect to `127.0.0.1:3031`, `/path` or `@abstract`; the descriptor does not block, and is writable when it is done.
pub fn start_connecting(address: &str) -> io::Result<OwnedFd> {
    if let Some(name) = address.strip_prefix('@') {
        let stream = UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?)?;
        return Ok(std::os::unix::net::UnixStream::from(stream).into());
    }
    if address.starts_with('/') {
        return Ok(std::os::unix::net::UnixStream::from(UnixStream::connect(address)?).into());
    }
    Ok(std::net::TcpStream::from(TcpStream::connect(inet(address)?)?).into())
}

fn inet(address: &str) -> io::Result<SocketAddr> {
    let loopback = address.strip_prefix(':').map(|port| format!("127.0.0.1:{port}"));
    loopback.as_deref().unwrap_or(address).parse().map_err(|_| {
        let why = format!(
            "\"{address}\" is no address: write IP:PORT (names are not resolved), /PATH or @ABSTRACT"
        );
        io::Error::new(ErrorKind::InvalidInput, why)
    })
}

/// Connects; the descriptor does not block.
pub fn connect(here: &dyn Suspend, address: &str, deadline: Option<Instant>) -> io::Result<OwnedFd> {
    let fd = start_connecting(address)?;
    while !is_established(fd.as_fd())? {
        if !here.ready(fd.as_raw_fd(), Interest::WRITABLE, deadline)? {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(fd)
}

/// Whether a connection is there; an error if it came to nothing.
fn is_established(fd: BorrowedFd<'_>) -> io::Result<bool> {
    match getsockopt(&fd, sockopt::SocketError)? {
        0 => {}
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    match getpeername::<SockaddrStorage>(fd.as_raw_fd()) {
        Ok(_) => Ok(true),
        Err(Errno::ENOTCONN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether that is a socket of the application's that is connected.
pub fn is_connected(fd: RawFd) -> bool {
    take_up(fd).is_ok_and(|fd| is_established(fd.as_fd()).unwrap_or(false))
}

/// The next bytes of a descriptor, at most `most`; none at its end.
pub fn receive(here: &dyn Suspend, fd: RawFd, most: usize) -> io::Result<Vec<u8>> {
    let fd = take_up(fd)?;
    let mut buffer = vec![0; most.min(MOST)];
    loop {
        match try_receive(fd.as_fd(), &mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            Err(Errno::EAGAIN) => drop(here.ready(fd.as_raw_fd(), Interest::READABLE, None)?),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn try_receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> nix::Result<usize> {
    match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Err(Errno::ENOTSOCK) if !is_ready(fd, PollFlags::POLLIN)? => Err(Errno::EAGAIN),
        Err(Errno::ENOTSOCK) => nix::unistd::read(fd, buffer),
        other => other,
    }
}

/// Sends all of it.
pub fn transmit(here: &dyn Suspend, fd: RawFd, mut data: &[u8]) -> io::Result<()> {
    let fd = take_up(fd)?;
    while !data.is_empty() {
        match try_transmit(fd.as_fd(), data) {
            Ok(n) => data = &data[n..],
            Err(Errno::EAGAIN) => drop(here.ready(fd.as_raw_fd(), Interest::WRITABLE, None)?),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn try_transmit(fd: BorrowedFd<'_>, data: &[u8]) -> nix::Result<usize> {
    match send(fd.as_raw_fd(), data, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Err(Errno::ENOTSOCK) if !is_ready(fd, PollFlags::POLLOUT)? => Err(Errno::EAGAIN),
        Err(Errno::ENOTSOCK) => nix::unistd::write(fd, &data[..data.len().min(PIECE)]),
        other => other,
    }
}

/// Of a pipe, a terminal or a file, which may block where a socket would not.
fn is_ready(fd: BorrowedFd<'_>, events: PollFlags) -> nix::Result<bool> {
    Ok(poll(&mut [PollFd::new(fd, events)], PollTimeout::ZERO)? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    /// Waits as a thread does.
    struct Blocking;

    impl Suspend for Blocking {
        fn ready(&self, fd: RawFd, interest: Interest, deadline: Option<Instant>) -> io::Result<bool> {
            let events = if interest.is_writable() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            let left = deadline
                .map_or(Duration::from_secs(20), |when| when.saturating_duration_since(Instant::now()));
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let ready = reactor::with_fd(fd, |fd| Ok(poll(&mut [PollFd::new(fd, events)], left)?));
            Ok(ready? > 0)
        }

        fn sleep_until(&self, _: Instant) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn connects_sends_and_receives_more_than_a_socket_takes_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let echo = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut data = vec![0; 4 << 20];
            peer.read_exact(&mut data).unwrap();
            peer.write_all(&data[..3]).unwrap();
        });
        let fd = connect(&Blocking, &address, None).unwrap();
        assert!(is_connected(fd.as_raw_fd()));
        transmit(&Blocking, fd.as_raw_fd(), &vec![b'x'; 4 << 20]).unwrap();
        assert_eq!(receive(&Blocking, fd.as_raw_fd(), 10).unwrap(), b"xxx");
        assert_eq!(receive(&Blocking, fd.as_raw_fd(), 10).unwrap(), b"", "the end");
        echo.join().unwrap();
    }

    #[test]
    fn what_the_engine_has_accepted_is_not_touched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        keep_off([listener.as_raw_fd()].into_iter());
        let address = listener.local_addr().unwrap().to_string();
        let client = connect(&Blocking, &address, None).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let refused = transmit(&Blocking, accepted.as_raw_fd(), b"stolen").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
        assert!(receive(&Blocking, accepted.as_raw_fd(), 1).is_err());
        assert!(!is_connected(accepted.as_raw_fd()));
        transmit(&Blocking, client.as_raw_fd(), b"its own").unwrap();
    }

    #[test]
    fn nobody_there_is_an_error_and_so_is_what_is_no_address() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = connect(&Blocking, &format!(":{}", free.port()), None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(connect(&Blocking, "/nonexistent/socket", None).is_err());
        assert!(connect(&Blocking, "@appliance-nobody", None).is_err());
        let unknown = connect(&Blocking, "localhost:80", None).unwrap_err().to_string();
        assert!(unknown.contains("names are not resolved"), "{unknown}");
    }

    #[test]
    fn pipes_and_files_are_read_and_written_too() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let sending =
            thread::spawn(move || transmit(&Blocking, writer.as_raw_fd(), &[b'y'; 100_000]).unwrap());
        let mut received = 0;
        while received < 100_000 {
            received += receive(&Blocking, reader.as_raw_fd(), MOST + 1).unwrap().len();
        }
        sending.join().unwrap();
        assert_eq!(receive(&Blocking, reader.as_raw_fd(), 10).unwrap(), b"");
        let file = std::fs::File::open("/proc/self/comm").unwrap();
        assert!(!receive(&Blocking, file.as_raw_fd(), 100).unwrap().is_empty());
        assert!(!is_connected(file.as_raw_fd()) && !is_connected(-1));
    }
}
