//! Two hosts in one worker: one for the application, and native requests beside it. Which of them a request goes to is known
//! when it starts (`routes`); afterwards its core says so.
use super::host::Native;
use crate::{CoreId, Host, Next, Request};
use std::os::fd::RawFd;
use std::rc::Rc;

/// See the module.
struct Beside<'a> {
    /// Hosts everything that is not native.
    host: &'a dyn Host,
    /// Hosts what is.
    native: Rc<Native>,
}

/// Calls `then` with a worker's host, which has native requests beside it if there are any.
pub fn with<T>(host: &dyn Host, native: Option<Rc<Native>>, then: impl FnOnce(&dyn Host) -> T) -> T {
    match native {
        Some(native) => then(&Beside { host, native }),
        None => then(host),
    }
}

impl Beside<'_> {
    fn host_of(&self, core: CoreId) -> &dyn Host {
        if self.native.has(core) { &*self.native } else { self.host }
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
        if self.native.is_for(&request) {
            self.native.start(core, request);
        } else {
            self.host.start(core, request);
        }
    }

    fn resume(&self, core: CoreId) {
        self.host_of(core).resume(core);
    }

    fn client_left(&self, core: CoreId) {
        self.host_of(core).client_left(core);
    }

    fn overdue(&self, core: CoreId) {
        self.host_of(core).overdue(core);
    }

    fn is_drained(&self) -> bool {
        self.host.is_drained()
    }
}
