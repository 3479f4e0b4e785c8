//! One request on a connection of its own to a worker, as HTTP/1.1 by pingora's client session, with the facts that only the
//! two sides exchange as private headers. Requests for a WebSocket travel this way until they are answered
//! (`relay/upgrade.rs`); everything else goes over the link. What I/O errors mean is asked by others too. It must never decide
//! who gets a request or whether it is sent again.
use crate::access_log::AppTime;
use crate::client::Client;
use crate::forwarded::Origin;
use crate::framed;
use crate::request_id::X_REQUEST_ID;
use crate::retry::Mishap;
use crate::socket::Socket;
use crate::told::Told;
use appliance_link::private::PREFIX;
use bytes::Bytes;
use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::v1::client::HttpSession;
use pingora::{Error, ErrorType, Result};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

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

/// See the module. Dropped before the end of the answer, it is closed.
pub(crate) struct Hop(HttpSession);

impl Hop {
    /// Sends the request whose head this is, and which has no body, to the worker's socket. `limit`: the longest time for the
    /// connection to be accepted by the kernel.
    pub(crate) async fn open(path: &Path, limit: Duration, head: RequestHeader) -> Result<Self, Mishap> {
        let worker = connect(path, limit).await.map_err(|error| connect_mishap(&error))?;
        let mut session = HttpSession::new(Box::new(Socket::Unix(worker)));
        // Nobody acts on half a head.
        session.write_request_header(Box::new(head)).await.map_err(|_| Mishap::Unread)?;
        Ok(Self(session))
    }

    /// The next head of an answer: interim ones, then the final one.
    pub(crate) async fn next_head(&mut self) -> Result<Box<ResponseHeader>, Mishap> {
        self.0.read_resp_header_parts().await.map_err(|error| mishap(&error))
    }

    /// The next piece of the final answer's body; `None` at its end.
    pub(crate) async fn next_piece(&mut self) -> Result<Option<Bytes>, Mishap> {
        self.0.read_body_bytes().await.map_err(|_| Mishap::Answering)
    }

    /// The connection, which carries another protocol from now on, and the bytes of that which have been read.
    pub(crate) fn into_raw(mut self) -> Result<(Box<Socket>, Bytes), Mishap> {
        // The session keeps what it has read behind the head, and gives it at once.
        let first = match pin!(self.next_piece()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(piece) => piece?.unwrap_or_default(),
            Poll::Pending => Bytes::new(),
        };
        let socket = self.0.into_inner().into_any().downcast().map_err(|_| Mishap::Garbled)?;
        Ok((socket, first))
    }
}

/// Connects to a worker's socket.
pub(crate) async fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    timeout(limit, UnixStream::connect(path)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The head of a request for a WebSocket as the worker gets it: with what it and the application are told of the client.
pub(crate) fn head(
    request: &RequestHeader,
    origin: &Origin,
    client: &Client,
    id: &HeaderValue,
) -> Result<RequestHeader> {
    let mut head = RequestHeader::build_no_case(
        request.method.clone(),
        request.raw_path(),
        Some(request.headers.len() + 8),
    )?;
    let mut fields = Ok(false);
    framed::put_fields(request, origin, client, |name, value| {
        if fields.is_ok() {
            fields = head.append_header(name.clone(), value.clone());
        }
    });
    fields?;
    head.insert_header(CONNECTION, HeaderValue::from_static("upgrade"))?;
    for offer in request.headers.get_all(UPGRADE) {
        head.append_header(UPGRADE, offer.clone())?;
    }
    head.insert_header(X_PEER, origin.address.clone())?;
    head.insert_header(X_SCHEME, origin.scheme.clone())?;
    head.insert_header(X_SERVER, client.server.clone())?;
    head.insert_header(X_REQUEST_ID, id.clone())?;
    Ok(head)
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
pub(crate) fn has_end(method: &Method, answer: &ResponseHeader) -> bool {
    answer.headers.contains_key(CONTENT_LENGTH)
        || answer.headers.contains_key(TRANSFER_ENCODING)
        || !framed::has_body(method, answer.status)
}

/// What a failed connection means.
pub(crate) fn connect_mishap(error: &io::Error) -> Mishap {
    // A unix listener whose backlog is full does not let the connection wait, it says EAGAIN.
    let is_full = error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error().is_some_and(|code| DESCRIPTORS_EXHAUSTED.contains(&code));
    if is_full { Mishap::Full } else { Mishap::Unconnected }
}

/// What an error means that comes instead of an answer's head, from a worker that has got a request without a body.
fn mishap(error: &Error) -> Mishap {
    let is_reset = io_cause(error).is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionReset);
    match error.etype() {
        // Linux resets a unix connection that is closed with unread bytes, which can only be the end of the head.
        ErrorType::ReadError if is_reset => Mishap::Unread,
        ErrorType::ReadError | ErrorType::ConnectionClosed => Mishap::Died,
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
        let read = |kind| mishap(&Error::because(ErrorType::ReadError, "", io::Error::from(kind)));
        assert_eq!(read(io::ErrorKind::ConnectionReset), Mishap::Unread);
        assert_eq!(read(io::ErrorKind::Other), Mishap::Died);
        assert_eq!(mishap(&Error::new(ErrorType::ConnectionClosed)), Mishap::Died);
        assert_eq!(mishap(&Error::new(ErrorType::InvalidHTTPHeader)), Mishap::Garbled);
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
