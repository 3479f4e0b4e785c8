//! One client connection as the request phases see it: who the peer is, and what `gateway.rs` tells `stream.rs` and `conn.rs`,
//! which all hold it (pingora owns the stream while a request runs). It must never touch the socket.
use crate::tunnel::Tunnel;
use http::HeaderValue;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The other end of a client connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Inet(SocketAddr),
    /// A local process; unix sockets of clients have no address.
    Unix,
}

/// What all requests of one connection share. The header values are made once and cloned by reference.
#[derive(Debug)]
pub(crate) struct Client {
    /// Whether its `X-Forwarded-*` are believed.
    pub(crate) trusted: bool,
    /// `<ip>`, or `unix:`.
    pub(crate) ip: HeaderValue,
    /// `<ip>:<port>`, or `unix:`.
    pub(crate) address: HeaderValue,
    /// `<ip>:<port>` of the listener, or `unix:`.
    pub(crate) server: HeaderValue,
    reached: AtomicBool,
    reset_on_drop: AtomicBool,
    more_coming: AtomicBool,
    tunnel: Mutex<Option<Box<Tunnel>>>,
}

impl Peer {
    /// Its address, in the family that it stands for (IPv4 clients of an IPv6 listener are IPv4).
    fn canonical(self) -> Option<SocketAddr> {
        match self {
            Self::Inet(address) => Some(SocketAddr::new(address.ip().to_canonical(), address.port())),
            Self::Unix => None,
        }
    }

    /// `None` for a unix client.
    pub(crate) fn ip(self) -> Option<IpAddr> {
        self.canonical().map(|address| address.ip())
    }

    /// `<ip>:<port>` or `unix:`, as the worker is told.
    pub(crate) fn address_value(self) -> HeaderValue {
        value(self.canonical().map(|address| address.to_string()))
    }

    /// `<ip>` or `unix:`.
    pub(crate) fn ip_value(self) -> HeaderValue {
        value(self.ip().map(|ip| ip.to_string()))
    }
}

fn value(text: Option<String>) -> HeaderValue {
    text.and_then(|text| HeaderValue::try_from(text).ok()).unwrap_or(HeaderValue::from_static("unix:"))
}

impl Client {
    pub(crate) fn new(peer: Peer, trusted: bool, server: HeaderValue) -> Self {
        Self {
            trusted,
            ip: peer.ip_value(),
            address: peer.address_value(),
            server,
            reached: AtomicBool::new(false),
            reset_on_drop: AtomicBool::new(false),
            more_coming: AtomicBool::new(false),
            tunnel: Mutex::default(),
        }
    }

    /// A `Host` for a client that named none: the address that it has connected to.
    pub(crate) fn host(&self) -> HeaderValue {
        if self.server == "unix:" { HeaderValue::from_static("localhost") } else { self.server.clone() }
    }

    /// The current request got past pingora's parser, so `gateway.rs` answers and logs it.
    pub(crate) fn set_reached(&self) {
        self.reached.store(true, Relaxed);
    }

    /// Whether it did, since the last call.
    pub(crate) fn take_reached(&self) -> bool {
        self.reached.swap(false, Relaxed)
    }

    /// The current request has made the connection a tunnel, which begins when pingora has given it back.
    pub(crate) fn put_tunnel(&self, tunnel: Box<Tunnel>) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    /// What the last request has made of the connection, if it has.
    pub(crate) fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The answer was cut and only the end of the connection would mark its end: the client must see a reset instead.
    pub(crate) fn set_reset_on_drop(&self) {
        self.reset_on_drop.store(true, Relaxed);
    }

    /// More of the answer is there already: what is written now may wait for it, and leave in one write.
    pub(crate) fn set_more_coming(&self, is: bool) {
        self.more_coming.store(is, Relaxed);
    }

    pub(crate) fn is_more_coming(&self) -> bool {
        self.more_coming.load(Relaxed)
    }

    pub(crate) fn is_reset_on_drop(&self) -> bool {
        self.reset_on_drop.load(Relaxed)
    }
}
