//! The seam between the engine and what it hosts. The engine calls a [`Host`] and is called back through
//! [`crate::Engine`]'s methods, which never call the host again: so no borrow of the engine is ever held while an
//! application runs, and an application may be resumed by anybody.
use crate::cores::CoreId;
use crate::engine::Place;
use crate::errand::Errand;
use crate::http::head::Head;
use crate::told::Told;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which of a worker's listeners a connection came to. A host may serve another application on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The worker's unix socket, where the proxy comes.
    Proxy,
    /// The worker's own listener, on `native.base_port` + its number.
    Native,
}

/// Where a connection came from and whom it may speak for.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it came in.
    pub door: Door,
    /// The client's address without a port; empty on a unix socket.
    pub address: String,
    /// The client's port; empty on a unix socket.
    pub port: String,
    /// Our own address (WSGI `SERVER_NAME`).
    pub server_address: String,
    /// Our own port (WSGI `SERVER_PORT`).
    pub server_port: String,
    /// The peer is the proxy: it may open a link, and its private `x-appliance-*` headers are facts, anybody else's are
    /// ignored.
    pub trusted: bool,
}

/// A request as it left the connection: the head, and the body or its beginning.
#[derive(Debug)]
pub struct Received {
    /// Request line and header fields.
    pub head: Head,
    /// Body bytes that arrived before a core was taken.
    pub body: Vec<u8>,
    /// `body` is all of it; otherwise the core reads on with [`crate::Engine::read_body`].
    pub complete: bool,
}

/// A request that has a core, or waits for one.
#[derive(Debug)]
pub struct Request {
    /// What was received; in a place of its own, because a request goes through many hands.
    pub received: Box<Received>,
    /// Who sent it.
    pub peer: Arc<Peer>,
    /// When it was complete enough to run.
    pub arrived: Instant,
    /// Number of the request among those that this worker has begun, from 1; 0 before.
    pub number: u64,
    /// After this nobody waits for the answer any more, so it is not begun; `None`: no limit.
    pub deadline: Option<Instant>,
    pub(crate) place: Place,
    /// What the access log of this worker wants to know of the answer, if the request has a line there.
    pub(crate) told: Option<Arc<Told>>,
    /// The proxy must know that an application sees the request before one does.
    pub(crate) announce: bool,
    /// It is no HTTP request, but this.
    pub errand: Option<Box<Errand>>,
}

impl Request {
    /// What carries an errand to a core.
    pub(crate) fn of_errand(errand: Errand, now: Instant, place: Place) -> Request {
        let head = Head::named(errand.kind(), &errand.name());
        let request = Request::without_body(head, [const { String::new() }; 4], now, place);
        Request { errand: Some(Box::new(errand)), ..request }
    }

    /// One that is complete with its head. `peer`: the client's address and port, and ours.
    fn without_body(head: Head, peer: [String; 4], now: Instant, place: Place) -> Request {
        let [address, port, server_address, server_port] = peer;
        Request {
            received: Box::new(Received { head, body: Vec::new(), complete: true }),
            peer: Arc::new(Peer {
                door: Door::Proxy,
                address,
                port,
                server_address,
                server_port,
                trusted: false,
            }),
            arrived: now,
            number: 0,
            deadline: None,
            place,
            told: None,
            announce: false,
            errand: None,
        }
    }
}

#[cfg(test)]
impl Request {
    /// A `GET` that has just arrived from nowhere.
    pub(crate) fn example(target: &str, now: Instant) -> Request {
        use crate::http::{Limits, Scan, head};
        let limits = Limits { request_line: 1000, header_bytes: 1000, headers: 10, body: 0 };
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n");
        let head = head::parse(bytes.as_bytes(), &limits, &mut Scan::default());
        let peer = ["192.0.2.1", "1", "127.0.0.1", "80"].map(str::to_owned);
        Request::without_body(head.unwrap().unwrap(), peer, now, Place::NOWHERE)
    }
}

/// When the host wants [`Host::turn`] to be called, if no event comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// As soon as possible.
    Now,
    /// After this long.
    In(Duration),
    /// Only after an event.
    Never,
}

/// A language runtime in a worker. Every method is called on the loop's thread, with no part of the engine borrowed.
pub trait Host {
    /// When the host wants its turn.
    fn next(&self) -> Next;

    /// Runs `poll`, which waits for events if `may_block`. Here a host lets its other threads run.
    fn poll(&self, may_block: bool, poll: &mut dyn FnMut());

    /// A descriptor that the host watches is ready.
    fn on_fd(&self, fd: RawFd, readable: bool, writable: bool);

    /// Runs what the host itself has scheduled (its timers and callbacks).
    fn turn(&self);

    /// Enters the application with a request, on a core of its own. Returns when the core first gives the loop back.
    fn start(&self, core: CoreId, request: Request);

    /// Gives the loop to a core that was woken. Returns when it gives it back.
    fn resume(&self, core: CoreId);

    /// The client of the request on this core has left before it had its answer: nobody waits for what the core does. It
    /// is up to the host whether the request is ended. Said once for each request.
    fn client_left(&self, core: CoreId);

    /// The request on this core takes longer than it may: the host ends it. Said again while it goes on.
    fn overdue(&self, core: CoreId);

    /// The worker has been told to stop, and will be killed soon ([`crate::engine::farewell`]): the host may end what it runs.
    fn farewell(&self) {}

    /// Asked while the worker stops, until it is so: whether what the host serves by itself, on no core, has ended.
    fn is_drained(&self) -> bool {
        true
    }
}
