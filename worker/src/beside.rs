//! Several applications in one worker: its host, and guests beside it that serve some of the requests. Whose a request is, is
//! known when it starts; afterwards its core says so. The loop itself stays the host's.
use crate::{CoreId, Host, Next, Request};
use std::os::fd::RawFd;

/// Serves some of the requests of a worker that has another host. As with [`Host`], every method is called on the loop's
/// thread, with no part of the engine borrowed.
pub trait Guest {
    /// Whether a request that starts is for it.
    fn serves(&self, request: &Request) -> bool;

    /// Whether the request on this core is one of its own.
    fn has(&self, core: CoreId) -> bool;

    /// See [`Host::start`].
    fn start(&self, core: CoreId, request: Request);

    /// See [`Host::resume`].
    fn resume(&self, core: CoreId);

    /// See [`Host::client_left`].
    fn client_left(&self, core: CoreId);

    /// See [`Host::overdue`].
    fn overdue(&self, core: CoreId);

    /// See [`Host::farewell`].
    fn farewell(&self) {}

    /// See [`Host::is_drained`].
    fn is_drained(&self) -> bool {
        true
    }
}

/// Calls `then` with a worker's host, which has these guests beside it; the first that serves a request has it.
pub fn with<T>(host: &dyn Host, guests: Vec<&dyn Guest>, then: impl FnOnce(&dyn Host) -> T) -> T {
    if guests.is_empty() { then(host) } else { then(&Beside { host, guests }) }
}

/// See the module.
struct Beside<'a> {
    /// Serves what no guest does.
    host: &'a dyn Host,
    guests: Vec<&'a dyn Guest>,
}

impl<'a> Beside<'a> {
    fn guest_of(&self, core: CoreId) -> Option<&'a dyn Guest> {
        self.guests.iter().copied().find(|guest| guest.has(core))
    }
}

impl Host for Beside<'_> {
    fn next(&self) -> Next {
        self.host.next()
    }

    fn poll(&self, may_block: bool, poll: &mut dyn FnMut()) {
        self.host.poll(may_block, poll);
    }

    fn on_fd(&self, fd: RawFd, readable: bool, writable: bool) {
        self.host.on_fd(fd, readable, writable);
    }

    fn turn(&self) {
        self.host.turn();
    }

    fn start(&self, core: CoreId, request: Request) {
        match self.guests.iter().find(|guest| guest.serves(&request)) {
            Some(guest) => guest.start(core, request),
            None => self.host.start(core, request),
        }
    }

    fn resume(&self, core: CoreId) {
        match self.guest_of(core) {
            Some(guest) => guest.resume(core),
            None => self.host.resume(core),
        }
    }

    fn client_left(&self, core: CoreId) {
        match self.guest_of(core) {
            Some(guest) => guest.client_left(core),
            None => self.host.client_left(core),
        }
    }

    fn overdue(&self, core: CoreId) {
        match self.guest_of(core) {
            Some(guest) => guest.overdue(core),
            None => self.host.overdue(core),
        }
    }

    fn farewell(&self) {
        self.host.farewell();
        self.guests.iter().for_each(|guest| guest.farewell());
    }

    fn is_drained(&self) -> bool {
        self.host.is_drained() && self.guests.iter().all(|guest| guest.is_drained())
    }
}
