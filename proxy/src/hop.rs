//! The way of upgrades to the workers: HTTP/1.1 over their unix sockets by pingora's upstream path, each on a connection of
//! its own, with the facts that only the two sides exchange as private headers. Everything else goes over the link.
//! `gateway.rs` calls it for each phase of such a request; what I/O errors mean is asked by others too. It must never decide
//! who gets a request or whether it is sent again.
use crate::access_log::AppTime;
use crate::client::Client;
use crate::error::StartError;
use crate::forwarded::{Origin, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use crate::framed;
use crate::request_id::X_REQUEST_ID;
use crate::retry::Mishap;
use crate::told::Told;
use crate::workers::Seat;
use crate::{Upstreams, WorkerId};
use appliance_config::settings::Timeouts;
use appliance_link::private::PREFIX;
use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The client's `<ip>:<port>` as the application sees it.
const X_PEER: HeaderName = HeaderName::from_static("x-appliance-peer");
/// `http` or `https`.
const X_SCHEME: HeaderName = HeaderName::from_static("x-appliance-scheme");
/// The listener's `<ip>:<port>`.
const X_SERVER: HeaderName = HeaderName::from_static("x-appliance-server");
/// In answers: the core that ran the request and the application's microseconds.
const X_CORE: HeaderName = HeaderName::from_static("x-appliance-core");

/// `errno` values of a full descriptor table, of the process and of the system (Linux).
const DESCRIPTORS_EXHAUSTED: [i32; 2] = [24, 23];

/// How to reach the workers.
pub(crate) struct Hop {
    upstreams: Arc<dyn Upstreams>,
    connect: Duration,
}

impl Hop {
    pub(crate) fn new(upstreams: Arc<dyn Upstreams>, timeouts: &Timeouts) -> Result<Self, StartError> {
        let hop = Self { upstreams, connect: timeouts.connect };
        (1..=hop.upstreams.count()).try_for_each(|worker| hop.to(worker).map(drop))?;
        Ok(hop)
    }

    /// The way to the worker at which the request has its seat.
    pub(crate) fn peer(&self, seat: &Seat) -> Result<Box<HttpPeer>> {
        self.to(seat.worker).map(Box::new).or_err(ErrorType::InternalError, "a worker's socket")
    }

    fn to(&self, worker: WorkerId) -> Result<HttpPeer, StartError> {
        let path = self.upstreams.socket(worker).to_string_lossy();
        let mut peer = HttpPeer::new_uds(&path, false, String::new())
            .map_err(|source| StartError::WorkerSocket { path: path.into_owned(), source })?;
        peer.options.connection_timeout = Some(self.connect);
        // pingora applies them to every read and write, also to those of a WebSocket that may be silent for hours.
        peer.options.read_timeout = None;
        peer.options.write_timeout = None;
        // Each request here wants a connection of its own for another protocol; one that is refused is not worth keeping.
        peer.options.idle_timeout = Some(Duration::ZERO);
        Ok(peer)
    }
}

/// Adds what the worker and the application are told of the request.
pub(crate) fn put_facts(
    request: &mut RequestHeader,
    origin: &Origin,
    client: &Client,
    id: &HeaderValue,
) -> Result<()> {
    request.insert_header(X_PEER, origin.address.clone())?;
    request.insert_header(X_SCHEME, origin.scheme.clone())?;
    request.insert_header(X_SERVER, client.server.clone())?;
    request.insert_header(X_REQUEST_ID, id.clone())?;
    request.insert_header(X_FORWARDED_FOR, origin.forwarded_for.clone())?;
    request.insert_header(X_FORWARDED_PROTO, origin.scheme.clone())?;
    match request.headers.get(HOST).cloned() {
        Some(host) => request.insert_header(X_FORWARDED_HOST, host),
        // HTTP/1.0 needs none, but the hop is HTTP/1.1.
        None => request.insert_header(HOST, client.host()),
    }
}

/// Takes the private headers out of an answer; what they said of the application. `told` gets the others.
pub(crate) fn take_facts(answer: &mut ResponseHeader, told: &mut Told) -> Option<AppTime> {
    let app = answer.headers.get(&X_CORE).and_then(|value| app_time(value.to_str().ok()?));
    let is_private = |name: &&HeaderName| name.as_str().starts_with(PREFIX);
    while let Some(name) = answer.headers.keys().find(is_private).cloned() {
        for value in answer.headers.get_all(&name) {
            told.take(name.as_str().as_bytes(), Bytes::copy_from_slice(value.as_bytes()));
        }
        answer.remove_header(&name);
    }
    app
}

/// `<core number> <microseconds>`.
fn app_time(text: &str) -> Option<AppTime> {
    let (core, micros) = text.split_once(' ')?;
    Some(AppTime { core: core.parse().ok()?, micros: micros.parse().ok()? })
}

/// An answer must say where it ends: the end of the connection could as well be the worker's death.
pub(crate) fn check_answer(method: &Method, answer: &ResponseHeader) -> Result<()> {
    let is_framed =
        answer.headers.contains_key(CONTENT_LENGTH) || answer.headers.contains_key(TRANSFER_ENCODING);
    if is_framed || !framed::has_body(method, answer.status) {
        return Ok(());
    }
    Error::e_explain(ErrorType::InvalidHTTPHeader, "an answer without an end")
}

/// What a failed connection means.
pub(crate) fn connect_mishap(error: &io::Error) -> Mishap {
    // A unix listener whose backlog is full does not let the connection wait, it says EAGAIN.
    let is_full = error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error().is_some_and(|code| DESCRIPTORS_EXHAUSTED.contains(&code));
    if is_full { Mishap::Full } else { Mishap::Unconnected }
}

/// How far the current try had come when it failed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// The request head has been written as a whole.
    pub(crate) head_sent: bool,
    /// The request has a body.
    pub(crate) has_body: bool,
    /// The head of the final answer has arrived.
    pub(crate) answer_begun: bool,
}

/// What an error on a worker's connection means.
pub(crate) fn mishap(error: &Error, progress: Progress) -> Mishap {
    let is_reset = || io_cause(error).is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionReset);
    match error.etype() {
        _ if progress.answer_begun => Mishap::Answering,
        ErrorType::WriteError if !progress.head_sent => Mishap::Unread,
        // Linux resets a unix connection that is closed with unread bytes; without a body that is the end of the head.
        ErrorType::ReadError if is_reset() && !progress.has_body => Mishap::Unread,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => Mishap::Died,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Mishap::Silent,
        _ => Mishap::Garbled,
    }
}

/// The operating system's error behind pingora's, through any number of its own.
pub(crate) fn io_cause(error: &Error) -> Option<&io::Error> {
    let cause = error.cause.as_ref()?;
    if let Some(inner) = cause.downcast_ref::<Box<Error>>() {
        return io_cause(inner);
    }
    cause.downcast_ref::<io::Error>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_answer_headers_are_taken_out() {
        let mut answer = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("X-Appliance-Core", "17 1100"),
            ("x-appliance-other", "x"),
            ("x-appliance-variable", "a=1"),
            ("x-appliance-variable", "b=2"),
            ("x-app", "y"),
        ] {
            answer.append_header(name, value).unwrap();
        }
        let mut told = Told::default();
        assert_eq!(take_facts(&mut answer, &mut told), Some(AppTime { core: 17, micros: 1100 }));
        assert_eq!(told.variables, ["a=1", "b=2"]);
        assert_eq!(answer.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-app"]);
        assert_eq!(app_time("17"), None);
        assert_eq!(app_time("-1 5"), None);
    }

    #[test]
    fn errors_tell_what_the_worker_can_have_read() {
        let reset =
            || Error::because(ErrorType::ReadError, "", io::Error::from(io::ErrorKind::ConnectionReset));
        let sent = Progress { head_sent: true, ..Progress::default() };
        assert_eq!(mishap(&reset(), sent), Mishap::Unread);
        assert_eq!(mishap(&reset(), Progress { has_body: true, ..sent }), Mishap::Died);
        assert_eq!(mishap(&reset(), Progress { answer_begun: true, ..sent }), Mishap::Answering);
        assert_eq!(mishap(&Error::new(ErrorType::WriteError), Progress::default()), Mishap::Unread);
        assert_eq!(mishap(&Error::new(ErrorType::WriteError), sent), Mishap::Died);
        assert_eq!(mishap(&Error::new(ErrorType::ConnectionClosed), sent), Mishap::Died);
        assert_eq!(mishap(&Error::new(ErrorType::ReadTimedout), sent), Mishap::Silent);
        assert_eq!(mishap(&Error::new(ErrorType::InvalidHTTPHeader), sent), Mishap::Garbled);
    }

    #[test]
    fn a_full_backlog_is_not_a_dead_worker() {
        let error = |kind| {
            let inner = Error::because(ErrorType::ConnectError, "inner", io::Error::from(kind));
            Error::because(ErrorType::ConnectError, "outer", inner)
        };
        let mishap = |kind| io_cause(&error(kind)).map(connect_mishap);
        assert_eq!(mishap(io::ErrorKind::WouldBlock), Some(Mishap::Full));
        assert_eq!(mishap(io::ErrorKind::ConnectionRefused), Some(Mishap::Unconnected));
    }
}
