//! What is known of one request while it is served, from its head to its line in the access log. `gateway.rs` fills it phase
//! by phase. It must never talk to a socket.
use crate::access_log::{AccessLog, AppTime};
use crate::client::Client;
use crate::error::Failure;
use crate::forwarded::Origin;
use crate::hop::io_cause;
use crate::retry::{Known, Mishap, Route, Verdict};
use crate::stats::{Counted, Stats};
use crate::target::Target;
use crate::told::Told;
use crate::tunnel::Opened;
use crate::workers::Seat;
use appliance_link::access::Entry;
use http::{HeaderValue, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// One request and its answer.
pub(crate) struct Exchange {
    pub(crate) started: Instant,
    pub(crate) client: Arc<Client>,
    pub(crate) id: HeaderValue,
    /// What pingora does not know of the target.
    pub(crate) target: Target,
    /// Set when the request has been normalized.
    pub(crate) origin: Option<Origin>,
    pub(crate) route: Route,
    /// The place at the worker of the current try.
    pub(crate) seat: Option<Seat>,
    /// The worker of the last try, 0 before the first.
    pub(crate) worker: u32,
    /// When it was given to that worker.
    pub(crate) given: Instant,
    /// Times it was given to a worker.
    pub(crate) tries: u32,
    /// The request has a body.
    pub(crate) has_body: bool,
    /// The head of the final answer has arrived.
    pub(crate) answer_begun: bool,
    /// What the answer has made of the connection.
    pub(crate) opened: Option<Opened>,
    /// Time in which it waited for a worker.
    pub(crate) queued: Duration,
    /// What the worker said of the application, and what else it told.
    pub(crate) app: Option<AppTime>,
    pub(crate) told: Told,
    /// The end of the connection is the end of the answer (HTTP/1.0).
    pub(crate) until_close: bool,
    pub(crate) failure: Option<Failure>,
    /// How long it took, if the connection is still read after the answer.
    pub(crate) took: Option<Duration>,
    /// Counts it among the requests being served, unless it stands in for one that goes on in a tunnel.
    pub(crate) _active: Option<Counted>,
}

/// What the access log says of a request and its answer, beside what the exchange knows.
pub(crate) struct Logged<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a [u8],
    pub(crate) version: &'static str,
    /// `None`: there was no answer.
    pub(crate) status: Option<u16>,
    /// Bytes of the body.
    pub(crate) bytes: u64,
}

impl Exchange {
    /// One that begins now.
    pub(crate) fn new(client: Arc<Client>, id: HeaderValue, active: Option<Counted>) -> Self {
        let started = Instant::now();
        Self {
            started,
            client,
            id,
            target: Target::default(),
            origin: None,
            route: Route::default(),
            seat: None,
            worker: 0,
            given: started,
            tries: 0,
            has_body: false,
            answer_begun: false,
            opened: None,
            queued: Duration::ZERO,
            app: None,
            told: Told::default(),
            until_close: false,
            failure: None,
            took: None,
            _active: active,
        }
    }

    pub(crate) fn origin(&self) -> &Origin {
        self.origin.as_ref().expect("a request is normalized before it is relayed")
    }

    /// The target as the application is to see it.
    pub(crate) fn target<'a>(&'a self, request: &'a RequestHeader) -> &'a [u8] {
        self.target.sent.as_deref().unwrap_or_else(|| request.raw_path())
    }

    /// Ends the request with `failure`; the error makes pingora stop.
    pub(crate) fn fail<T>(&mut self, failure: Failure) -> Result<T> {
        self.failure = Some(failure);
        Error::e_explain(ErrorType::HTTPStatus(failure.status()), failure.reason())
    }

    /// Takes the place for the next try.
    pub(crate) fn sit(&mut self, seat: Seat) -> &Seat {
        self.worker = seat.worker;
        self.tries += 1;
        self.given = Instant::now();
        self.answer_begun = false;
        self.seat.insert(seat)
    }

    /// Says whether the request has a core or wants one, as far as is known.
    pub(crate) fn set_wants_core(&mut self, wants_core: bool) {
        if let Some(seat) = &mut self.seat {
            seat.set_wants_core(wants_core);
        }
    }

    /// Decides about a try that failed: whether there is another one. If not, `failure` says why.
    pub(crate) fn settle(&mut self, mishap: Mishap, known: &Known) -> bool {
        self.seat = None;
        match self.route.after(mishap, self.worker, known) {
            Verdict::Again => true,
            Verdict::GiveUp(failure) => {
                self.failure = Some(failure);
                false
            }
        }
    }

    /// Writes the line of a request that pingora has answered, and counts it.
    pub(crate) fn log_answered(&self, session: &Session, stats: &Stats, log: &AccessLog) {
        let request = session.req_header();
        let answered = session.response_written().filter(|answer| !answer.status.is_informational());
        let logged = Logged {
            method: request.method.as_str(),
            target: self.target(request),
            version: if request.version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" },
            status: answered.map(|answer| answer.status.as_u16()),
            bytes: session.body_bytes_sent() as u64,
        };
        self.log(&logged, stats, log);
    }

    /// Writes its line, and counts it.
    pub(crate) fn log(&self, logged: &Logged<'_>, stats: &Stats, log: &AccessLog) {
        let failure = self.failure.or(self.told.failure());
        if failure.is_some_and(|failure| failure.status() >= 500) {
            stats.errors.fetch_add(1, Relaxed);
        }
        let entry = Entry {
            client: self.origin.as_ref().map_or(&self.client.ip, |origin| &origin.ip).as_bytes(),
            method: logged.method.as_bytes(),
            path: logged.target,
            version: logged.version,
            status: logged.status.or(self.failure.map(Failure::status)).unwrap_or(500),
            bytes: logged.bytes,
            took: self.took.unwrap_or_else(|| self.started.elapsed()),
            queued: self.queued,
            app: self.app.map(|app| Duration::from_micros(app.micros)),
            worker: (self.worker > 0).then_some(self.worker),
            core: self.app.map(|app| app.core),
            tries: self.tries,
            id: self.id.as_bytes(),
            reason: failure.map(Failure::reason),
            variables: &self.told.variables,
        };
        log.add(&entry, failure);
    }
}

/// What an error on the client's connection means.
pub(crate) fn client_failure(error: &Error) -> Failure {
    let cause = io_cause(error);
    if let Some(failure) = cause.and_then(|cause| cause.get_ref()?.downcast_ref::<Failure>()) {
        return *failure; // the stream found the body malformed
    }
    let is_stalled = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut);
    match error.etype() {
        ErrorType::WriteTimedout => Failure::ClientStalled,
        ErrorType::WriteError if is_stalled => Failure::ClientStalled,
        ErrorType::InvalidHTTPHeader => Failure::Malformed,
        _ => Failure::ClientGone,
    }
}
