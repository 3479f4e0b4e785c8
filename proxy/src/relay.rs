//! Carries one request to a worker, over the link unless it is to become a WebSocket (`upgrade.rs`): picks a worker, sends head
//! and body as the client and the windows allow, and passes the answer on; again at another worker where `retry.rs` allows it.
//! Called from pingora's request filter: pingora has read the request and frames the answer. It must never hold more of a body
//! than a window.
use crate::WorkerId;
use crate::access_log::AppTime;
use crate::error::Failure;
use crate::exchange::{Exchange, client_failure};
use crate::framed;
use crate::gateway::Gateway;
use crate::inbox::{End, Event};
use crate::line::{Line, Refusal, Stream};
use crate::request_id::X_REQUEST_ID;
use crate::retry::Mishap;
use crate::stream::ClientStream;
use crate::upload::Upload;
use crate::workers::{Seat, Workers};
use appliance_link::{Reason, frame, head};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, Result};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

mod upgrade;

/// What ends a try before the answer is complete.
enum Trouble {
    /// At the worker.
    Worker(Mishap),
    /// The request itself.
    Request(Failure),
    /// At the client.
    Client(Box<Error>),
}

impl From<Box<Error>> for Trouble {
    fn from(error: Box<Error>) -> Self {
        Self::Client(error)
    }
}

/// A place for the next try of a request, unless its client leaves while it waits for one.
async fn reserve(
    workers: &Arc<Workers>,
    session: &Session,
    exchange: &mut Exchange,
    is_up: impl Fn(WorkerId) -> bool,
) -> Result<Seat, Failure> {
    let since = Instant::now();
    let seat = tokio::select! {
        biased;
        seat = workers.reserve(&mut exchange.route, is_up) => seat,
        () = gone(session) => Err(Failure::ClientGone),
    };
    exchange.queued += since.elapsed();
    seat
}

/// Waits until the client has left.
async fn gone(session: &Session) {
    let connection = session.as_ref().as_http1().map(|http| http.stream().as_any());
    match connection.and_then(|stream| stream.downcast_ref::<ClientStream>()) {
        Some(stream) => stream.gone().await,
        // `conn.rs` gives pingora nothing else.
        None => std::future::pending().await,
    }
}

/// Serves the request; an error means that it failed, and `exchange.failure` says how.
pub(crate) async fn serve(gateway: &Gateway, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
    let workers = &gateway.shared.workers;
    let upload = Upload::new(exchange.has_body);
    let is_upgrade = framed::is_upgrade(session.req_header()) && !exchange.has_body;
    let mut relay = Relay { gateway, session, exchange, upload, left: None };
    loop {
        let is_up = |worker| is_upgrade || gateway.links.is_up(worker);
        match reserve(workers, relay.session, relay.exchange, is_up).await {
            Ok(seat) => relay.exchange.sit(seat),
            Err(failure) => return relay.exchange.fail(failure),
        };
        let tried = if is_upgrade { relay.attempt_upgrade().await } else { relay.attempt().await };
        match tried {
            Ok(()) => return Ok(()),
            Err(Trouble::Request(failure)) => return relay.exchange.fail(failure),
            Err(Trouble::Client(error)) => {
                relay.exchange.failure = Some(client_failure(&error));
                return Err(error);
            }
            Err(Trouble::Worker(mishap)) => {
                if !relay.settle(mishap) {
                    let failure = relay.exchange.failure.unwrap_or(Failure::Internal);
                    return relay.exchange.fail(failure);
                }
            }
        }
    }
}

/// What the client does next: it sends a piece of its body, if that is awaited, or leaves.
async fn hear(session: &mut Session, is_awaited: bool) -> Result<Bytes, Trouble> {
    if is_awaited {
        return Ok(session.as_mut().read_request_body().await?.unwrap_or_default());
    }
    gone(session).await;
    Err(Trouble::Request(Failure::ClientGone))
}

/// One request and what it travels with.
struct Relay<'a> {
    gateway: &'a Gateway,
    session: &'a mut Session,
    exchange: &'a mut Exchange,
    upload: Upload,
    /// What is to come of the answer's body, if its head has said that.
    left: Option<u64>,
}

impl Relay<'_> {
    /// Decides about a try that failed: whether there is another one.
    fn settle(&mut self, mishap: Mishap) -> bool {
        let is_answered = self.exchange.answer_begun;
        let method = &self.session.req_header().method;
        self.gateway.settle(method, mishap, is_answered, self.upload.is_replayable(), self.exchange)
    }

    /// One try at the worker at which the request has its seat.
    async fn attempt(&mut self) -> Result<(), Trouble> {
        self.upload.rewind();
        // Only for these it matters whether an application has seen the request.
        let announce = !self.session.req_header().method.is_idempotent();
        let stream = self.stream(announce).await?;
        loop {
            match self.next(&stream).await? {
                Event::Head { head, end } => {
                    if self.begin_answer(&head, end, stream.has_more()).await? && end {
                        return Ok(self.session.as_mut().write_response_body(Bytes::new(), true).await?);
                    }
                }
                Event::Data { bytes, end } => {
                    let count = bytes.len();
                    self.count(count, end)?;
                    self.exchange.client.set_more_coming(stream.has_more());
                    self.session.as_mut().write_response_body(bytes, end).await?;
                    if end {
                        return Ok(());
                    }
                    stream.consume(count);
                }
                Event::Reset(Reason::Refused) => return Err(Trouble::Worker(Mishap::Unread)),
                // These have been executed, whatever came of it.
                Event::Reset(Reason::Raised) => return Err(Trouble::Request(Failure::AppError)),
                Event::Reset(Reason::TimedOut) => return Err(Trouble::Request(Failure::RequestTimeout)),
                Event::Reset(Reason::Cut) if self.exchange.answer_begun => {
                    return Err(Trouble::Request(Failure::ShortBody));
                }
                Event::Reset(Reason::Cut) => return Err(Trouble::Request(Failure::AppCut)),
                Event::Reset(_) | Event::Lost(End::Closed) => {
                    let may_have_run = !announce || stream.has_entered();
                    return Err(self.failed(if may_have_run { Mishap::Died } else { Mishap::Unread }));
                }
                Event::Lost(End::Garbled) => return Err(self.failed(Mishap::Garbled)),
            }
        }
    }

    /// A stream to the worker at which the request has its seat, with the request's head on its way.
    async fn stream(&mut self, announce: bool) -> Result<Stream, Trouble> {
        loop {
            let since = Instant::now();
            let line = tokio::select! {
                biased;
                line = self.line() => line.map_err(Trouble::Worker)?,
                () = gone(self.session) => return Err(Trouble::Request(Failure::ClientGone)),
            };
            self.exchange.queued += since.elapsed();
            match self.open(&line, announce) {
                Ok(stream) => return Ok(stream),
                // It has ended meanwhile; there is another one soon.
                Err(Refusal::Retired) => {}
                Err(Refusal::Crowded) => return Err(Trouble::Worker(Mishap::Full)),
                Err(Refusal::TooLong) => return Err(Trouble::Request(Failure::HeadTooLarge)),
            }
        }
    }

    /// The connection to the worker at which the request has its seat.
    async fn line(&self) -> Result<Arc<Line>, Mishap> {
        let instance = self.exchange.seat.as_ref().map_or(0, |seat| seat.instance);
        let line = self.gateway.links.line(self.exchange.worker, instance);
        match self.response_limit() {
            Some(limit) => timeout(limit, line).await.unwrap_or(Err(Mishap::Silent)),
            None => line.await,
        }
    }

    /// What a failure means that would be `before` if the answer had not begun.
    fn failed(&self, before: Mishap) -> Trouble {
        Trouble::Worker(if self.exchange.answer_begun { Mishap::Answering } else { before })
    }

    /// Opens the request's stream.
    fn open(&mut self, line: &Arc<Line>, announce: bool) -> Result<Stream, Refusal> {
        let origin = self.exchange.origin();
        let request = self.session.req_header();
        let mut flags = 0;
        let mut set = |flag, is: bool| flags |= if is { flag } else { 0 };
        let is_empty = self.upload.is_empty();
        set(frame::END, is_empty);
        set(frame::OLD, request.version == Version::HTTP_10);
        set(frame::EXPECT, self.upload.is_untouched() && !is_empty && request.headers.contains_key(EXPECT));
        set(frame::ANNOUNCE, announce);
        // While a body arrives the worker may rightly be silent, so only the proxy can tell when it is too late.
        let limit = self.response_limit().filter(|_| is_empty);
        let deadline_ms =
            limit.map_or(0, |limit| u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).max(1));
        // A longer one would cost the whole link: a client must not be able to make it, say by a `Host` that is sent twice.
        let most = self.gateway.shared.settings.limits.header_bytes + head::REQUEST_ROOM;
        let (client, id, target) = (&self.exchange.client, &self.exchange.id, self.exchange.target(request));
        line.open(flags, most, |out| {
            framed::put_request(out, request, target, origin, client, id, deadline_ms);
        })
    }

    /// `timeouts.response`, if there is one.
    fn response_limit(&self) -> Option<Duration> {
        Some(self.gateway.shared.settings.timeouts.response).filter(|limit| *limit > Duration::ZERO)
    }

    /// The next event of the stream; meanwhile the body goes on, and the client is watched.
    async fn next(&mut self, stream: &Stream) -> Result<Event, Trouble> {
        loop {
            let may_have_core = !self.exchange.answer_begun && !self.upload.awaits_client();
            self.exchange.set_wants_core(may_have_core);
            // The worker may be silent as long as it waits for the client, for whom there is `timeouts.body`.
            let limit = self.response_limit().filter(|_| !self.upload.awaits_client());
            let step = self.step(stream);
            let stepped = match limit {
                Some(limit) => timeout(limit, step).await.map_err(|_| Trouble::Worker(Mishap::Silent))?,
                None => step.await,
            };
            if let Some(event) = stepped? {
                return Ok(event);
            }
        }
    }

    /// Whatever comes first: an event, a piece of the body to send, or one to read. `None`: not an event.
    async fn step(&mut self, stream: &Stream) -> Result<Option<Event>, Trouble> {
        let Self { session, upload, .. } = self;
        tokio::select! {
            biased;
            event = poll_fn(|cx| stream.poll_next(cx)) => return Ok(Some(event)),
            room = poll_fn(|cx| stream.poll_ready(cx)), if upload.has_next() => upload.send(stream, room),
            piece = hear(session, upload.awaits_client()) => upload.take(piece?, session.as_mut().is_body_done()),
        }
        Ok(None)
    }

    /// Passes the head of an answer on; whether it is the final one.
    async fn begin_answer(&mut self, payload: &Bytes, end: bool, more: bool) -> Result<bool, Trouble> {
        let Ok((mut answer, facts, told)) = framed::read_response(payload) else {
            return Err(Trouble::Worker(Mishap::Garbled));
        };
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            // Requests for that do not come this way.
            return Err(Trouble::Worker(Mishap::Garbled));
        }
        let is_final = !answer.status.is_informational();
        if told.failure() == Some(Failure::WorkerBusy) {
            // It had more to do than was known when it was chosen. No application has seen the request.
            return Err(Trouble::Worker(Mishap::Full));
        }
        if is_final {
            self.frame(&mut answer, facts.length, end)?;
            self.exchange.app = Some(AppTime { core: facts.core, micros: facts.micros });
            self.exchange.told = told;
            self.begin_final(&mut answer)?;
        }
        self.exchange.client.set_more_coming(is_final && more);
        let client = self.session.as_mut();
        let kept_alive = client.get_keepalive();
        client.write_response_header(answer).await?;
        if !is_final {
            // pingora closes behind whatever was answered before the end of the body; this was only half an answer.
            client.set_keepalive(kept_alive);
        }
        Ok(is_final)
    }

    /// The answer begins with this head.
    fn begin_final(&mut self, answer: &mut ResponseHeader) -> Result<()> {
        self.exchange.answer_begun = true;
        self.exchange.set_wants_core(false);
        answer.insert_header(X_REQUEST_ID, self.exchange.id.clone())?;
        if self.exchange.until_close || self.gateway.is_ending() {
            self.session.as_mut().set_keepalive(None);
        }
        Ok(())
    }

    /// Says in the head where the body ends, as pingora is to tell the client. `length`: what the worker says; `end`: there
    /// is no body.
    fn frame(&mut self, answer: &mut ResponseHeader, length: Option<u64>, end: bool) -> Result<(), Trouble> {
        let request = self.session.req_header();
        let has_body = framed::has_body(&request.method, answer.status);
        let length = length.or((end && has_body).then_some(0));
        if end && has_body && length != Some(0) {
            return Err(Trouble::Worker(Mishap::Garbled));
        }
        self.left = length.filter(|_| has_body);
        match length {
            // RFC 9110 section 8.6 allows no length here.
            _ if answer.status == StatusCode::NO_CONTENT => {}
            Some(length) => {
                answer.insert_header(CONTENT_LENGTH, HeaderValue::from(length))?;
            }
            None if !has_body => {}
            None if request.version == Version::HTTP_10 => self.exchange.until_close = true,
            None => {
                answer.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
            }
        }
        Ok(())
    }

    /// Counts a piece of the answer's body: an answer that is longer or shorter than announced is cut, so that the client can
    /// tell.
    fn count(&mut self, count: usize, end: bool) -> Result<(), Trouble> {
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(count as u64).filter(|rest| !end || *rest == 0);
            *left = rest.ok_or(Trouble::Worker(Mishap::Answering))?;
        }
        Ok(())
    }
}
