//! The engine's [`Host`] in a worker that serves Python: requests for an ASGI application go to [`Asgi`], everything else to
//! the host of the suspend engine; and a worker that stops waits for Tornado's own server too.
use crate::asgi::Asgi;
use crate::tornado::Server;
use appliance_worker::{CoreId, Host, Next, Request};
use pyo3::prelude::*;
use std::os::fd::RawFd;
use std::rc::Rc;

/// See the module.
pub struct Beside<'a> {
    /// ASGI applications, if there are any.
    pub asgi: Option<Rc<Asgi>>,
    /// Tornado's server, if there is one.
    pub tornado: Option<&'a Server>,
    /// Whoever serves WSGI.
    pub other: &'a dyn Host,
}

impl Host for Beside<'_> {
    fn next(&self) -> Next {
        self.other.next()
    }

    fn poll(&self, may_block: bool, poll: &mut dyn FnMut()) {
        self.other.poll(may_block, poll);
    }

    fn on_fd(&self, fd: RawFd, readable: bool, writable: bool) {
        self.other.on_fd(fd, readable, writable);
    }

    fn turn(&self) {
        self.other.turn();
    }

    fn start(&self, core: CoreId, request: Request) {
        match self.asgi.as_ref().filter(|asgi| asgi.serves(&request)) {
            Some(asgi) => Python::attach(|py| asgi.start(py, core, request)),
            None => self.other.start(core, request),
        }
    }

    fn resume(&self, core: CoreId) {
        match self.asgi.as_ref().filter(|asgi| asgi.has(core)) {
            Some(asgi) => Python::attach(|py| asgi.resume(py, core)),
            None => self.other.resume(core),
        }
    }

    fn client_left(&self, core: CoreId) {
        match self.asgi.as_ref().filter(|asgi| asgi.has(core)) {
            Some(asgi) => Python::attach(|py| asgi.client_left(py, core)),
            None => self.other.client_left(core),
        }
    }

    fn overdue(&self, core: CoreId) {
        match self.asgi.as_ref().filter(|asgi| asgi.has(core)) {
            Some(asgi) => Python::attach(|py| asgi.overdue(py, core)),
            None => self.other.overdue(core),
        }
    }

    fn is_drained(&self) -> bool {
        self.tornado.is_none_or(|server| Python::attach(|py| server.is_drained(py)))
    }
}
