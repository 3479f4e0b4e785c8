//! The reactor owns `mio::Poll` and knows what each token stands for. The engine borrows it for one method at a time;
//! it calls nothing back, and no event of it outlives [`Reactor::take_events`].
//!
//! The engine's own sockets are edge-triggered and registered once for both directions; only a link changes that, because
//! each of its answers would cost an event when the proxy takes it. The host's descriptors (asyncio's) need level triggering, which mio does not offer: they go to the same epoll instance directly, tagged in the token.
use mio::event::Source as MioSource;
use mio::{Events, Interest, Poll, Token};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Events taken from the kernel in one turn; more come in the next.
const EVENTS_PER_TURN: usize = 256;

/// What an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A listening socket, by its index.
    Listener(u32),
    /// A connection: slot and generation, so that a stale event never reaches its successor.
    Conn(u32, u32),
    /// A descriptor of the host.
    Host(RawFd),
    /// A descriptor that a core waits for, by its key.
    Wait(u32, u32),
    /// A signal has arrived.
    Signal,
    /// Another thread has left something in the inbox.
    Inbox,
    /// A listener of the uwsgi protocol, by its index.
    Door(u32),
    /// A connection of the uwsgi protocol: slot and generation.
    Wire(u32, u32),
    /// The bell of the locks was rung.
    Locks,
    /// Where a cache hears of others, by its index.
    Ear(u32),
}

const KIND_SHIFT: u32 = 60;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: usize = 0x0fff_ffff;
const LOW: usize = 0xffff_ffff;

impl Source {
    fn token(self) -> Token {
        let (kind, generation, low) = match self {
            Source::Listener(index) => (1, 0, index),
            Source::Conn(slot, generation) => (2, generation, slot),
            Source::Host(fd) => (3, 0, fd.cast_unsigned()),
            Source::Wait(slot, generation) => (4, generation, slot),
            Source::Signal => (5, 0, 0),
            Source::Inbox => (6, 0, 0),
            Source::Door(index) => (7, 0, index),
            Source::Wire(slot, generation) => (8, generation, slot),
            Source::Locks => (9, 0, 0),
            Source::Ear(index) => (10, 0, index),
        };
        Token(kind << KIND_SHIFT | (generation as usize & GENERATION_MASK) << GENERATION_SHIFT | low as usize)
    }

    fn from_token(Token(token): Token) -> Option<Source> {
        let low = (token & LOW) as u32;
        let generation = (token >> GENERATION_SHIFT & GENERATION_MASK) as u32;
        Some(match token >> KIND_SHIFT {
            1 => Source::Listener(low),
            2 => Source::Conn(low, generation),
            3 => Source::Host(low.cast_signed()),
            4 => Source::Wait(low, generation),
            5 => Source::Signal,
            6 => Source::Inbox,
            7 => Source::Door(low),
            8 => Source::Wire(low, generation),
            9 => Source::Locks,
            10 => Source::Ear(low),
            _ => return None,
        })
    }

    /// The part of a generation number that survives in a token.
    pub fn generation(n: u32) -> u32 {
        n & GENERATION_MASK as u32
    }
}

/// What happened to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose event it is.
    pub source: Source,
    /// There is something to read, an end, or an error to find by reading.
    pub readable: bool,
    /// There is room to write, or an error to find by writing.
    pub writable: bool,
    /// The peer sends no more.
    pub hung_up: bool,
    /// Both directions are gone: nothing that is written can arrive any more.
    pub gone: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    events: Events,
    host: Epoll,
}

impl Reactor {
    /// A new epoll instance. After a fork a process must make its own.
    pub fn new() -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let host = Epoll(duplicate(poll.as_raw_fd())?);
        Ok(Reactor { poll, events: Events::with_capacity(EVENTS_PER_TURN), host })
    }

    /// Registers a source for both directions, edge-triggered, for as long as its descriptor lives.
    pub fn watch(&self, io: &mut impl MioSource, source: Source) -> io::Result<()> {
        self.poll.registry().register(io, source.token(), Interest::READABLE | Interest::WRITABLE)
    }

    /// Registers a source for one direction.
    pub fn watch_for(&self, io: &mut impl MioSource, source: Source, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(io, source.token(), interest)
    }

    /// Changes for which directions a source is watched. Readiness that is there already is reported again.
    pub fn watch_again(&self, io: &mut impl MioSource, source: Source, interest: Interest) -> io::Result<()> {
        self.poll.registry().reregister(io, source.token(), interest)
    }

    /// Forgets a source.
    pub fn unwatch(&self, io: &mut impl MioSource) -> io::Result<()> {
        self.poll.registry().deregister(io)
    }

    /// A waker that other threads may use; its event is [`Source::Inbox`]. One per reactor.
    pub fn waker(&self) -> io::Result<mio::Waker> {
        mio::Waker::new(self.poll.registry(), Source::Inbox.token())
    }

    /// Starts to watch a descriptor of the host, level-triggered.
    pub fn host_watch(&self, fd: BorrowedFd<'_>, readable: bool, writable: bool) -> io::Result<()> {
        Ok(self.host.add(fd, host_event(fd, readable, writable))?)
    }

    /// Changes what is watched of a descriptor of the host.
    pub fn host_change(&self, fd: BorrowedFd<'_>, readable: bool, writable: bool) -> io::Result<()> {
        Ok(self.host.modify(fd, &mut host_event(fd, readable, writable))?)
    }

    /// Stops to watch a descriptor of the host.
    pub fn host_unwatch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.host.delete(fd)?)
    }

    /// Waits for events, at most for `timeout` (`None`: until one comes). An interrupted wait is an empty one.
    pub fn poll(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            other => other,
        }
    }

    /// Copies the events of the last poll out, so that whoever handles them may use the reactor.
    pub fn take_events(&mut self, into: &mut Vec<Event>) {
        into.extend(self.events.iter().filter_map(|event| {
            let broken = event.is_error() || (event.is_read_closed() && event.is_write_closed());
            Some(Event {
                source: Source::from_token(event.token())?,
                readable: event.is_readable() || event.is_read_closed() || broken,
                writable: event.is_writable() || event.is_write_closed() || broken,
                hung_up: event.is_read_closed(),
                gone: broken,
            })
        }));
        self.events.clear();
    }
}

fn host_event(fd: BorrowedFd<'_>, readable: bool, writable: bool) -> EpollEvent {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, readable);
    flags.set(EpollFlags::EPOLLOUT, writable);
    EpollEvent::new(flags, Source::Host(fd.as_raw_fd()).token().0 as u64)
}

/// A second descriptor for the same file, close-on-exec.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    with_fd(fd, |fd| fd.try_clone_to_owned())
}

/// Takes over a descriptor that another process or another language handed to us for good.
#[expect(unsafe_code, reason = "ownership of a raw descriptor crosses the C interface")]
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(nix::libc::EBADF));
    }
    // SAFETY: the C interface says that the caller owned it and gives it away.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Borrows a descriptor number, of mio or of the host, for one call.
#[expect(unsafe_code, reason = "mio and the host name their descriptors by number")]
pub fn with_fd<T>(fd: RawFd, then: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(nix::libc::EBADF));
    }
    // SAFETY: borrowed for the call only; the kernel answers EBADF if its owner has closed it.
    then(unsafe { BorrowedFd::borrow_raw(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn tokens_tell_every_source_apart() {
        let sources = [
            Source::Listener(1),
            Source::Conn(7, 0x0fff_ffff),
            Source::Conn(u32::MAX, 3),
            Source::Host(12),
            Source::Wait(5, 9),
            Source::Signal,
            Source::Inbox,
            Source::Door(3),
            Source::Wire(7, 0x0fff_ffff),
            Source::Ear(2),
        ];
        for source in sources {
            assert_eq!(Source::from_token(source.token()), Some(source));
        }
        assert_eq!(Source::from_token(Token(0)), None);
    }

    #[test]
    fn descriptors_of_the_host_are_level_triggered() {
        let mut reactor = Reactor::new().unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        reactor.host_watch(here.as_fd(), true, false).unwrap();
        there.write_all(b"x").unwrap();
        for _ in 0..2 {
            let mut events = Vec::new();
            reactor.poll(Some(Duration::from_secs(5))).unwrap();
            reactor.take_events(&mut events);
            assert_eq!(events.len(), 1);
            assert!(events[0].source == Source::Host(here.as_raw_fd()) && events[0].readable);
        }
        reactor.host_unwatch(here.as_fd()).unwrap();
        reactor.poll(Some(Duration::ZERO)).unwrap();
        let mut events = Vec::new();
        reactor.take_events(&mut events);
        assert_eq!(events, []);
    }

    #[test]
    fn its_descriptors_are_closed_on_exec() {
        let reactor = Reactor::new().unwrap();
        for fd in [reactor.poll.as_raw_fd(), reactor.host.0.as_raw_fd()] {
            let flags = nix::fcntl::fcntl(duplicate(fd).unwrap(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
        }
    }
}
