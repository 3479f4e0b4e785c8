//! pingora's phases of one request: each calls the pure files and does what they say. One `Gateway` per proxy thread, driven
//! by `conn.rs`. The methods stand in the order in which a request meets them. It must never contain a rule of its own.
use crate::access_log::AccessLog;
use crate::client::{Client, Peer};
use crate::conn::Arrival;
use crate::drain::DrainWatch;
use crate::error::Failure;
use crate::exchange::{Exchange, client_failure};
use crate::forwarded;
use crate::framed;
use crate::hop::{self, Hop, Progress};
use crate::link::Links;
use crate::pulse::Heart;
use crate::relay;
use crate::request_id::{self, RequestIds, X_REQUEST_ID};
use crate::retry::{Known, Mishap, Route};
use crate::stats::Stats;
use crate::target::Target;
use crate::told::Told;
use crate::workers::Workers;
use crate::{Mode, Occurrence};
use appliance_config::Settings;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, RETRY_AFTER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What all threads of the proxy share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) workers: Arc<Workers>,
    pub(crate) ids: RequestIds,
    pub(crate) stats: Stats,
    pub(crate) heart: Heart,
}

/// The phases of all requests of one thread.
pub(crate) struct Gateway {
    pub(crate) shared: Arc<Shared>,
    pub(crate) links: Arc<Links>,
    drain: DrainWatch,
    hop: Hop,
    log: Arc<AccessLog>,
    /// Stands in until pingora hands over the connection's own.
    nobody: Arc<Client>,
}

impl Gateway {
    pub(crate) fn new(
        shared: Arc<Shared>,
        links: Arc<Links>,
        hop: Hop,
        log: Arc<AccessLog>,
        drain: DrainWatch,
    ) -> Self {
        let nobody = Arc::new(Client::new(Peer::Unix, false, HeaderValue::from_static("unix:")));
        Self { shared, links, drain, hop, log, nobody }
    }

    /// Whether clients should move on to another connection, which somebody else will accept.
    pub(crate) fn is_ending(&self) -> bool {
        self.drain.has_begun() || self.shared.workers.mode() == Mode::Leaving
    }

    /// Rewrites the request to what may be forwarded: no forged header, origin-form target, one true `Host`.
    fn normalize(&self, request: &mut RequestHeader, exchange: &mut Exchange) -> Result<()> {
        let trusted = exchange.client.trusted;
        let origin =
            forwarded::origin(&exchange.client, &request.headers, &self.shared.settings.proxy.trusted);
        if trusted
            && let Some(id) = request.headers.get(&X_REQUEST_ID)
            && request_id::is_acceptable(id.as_bytes())
        {
            exchange.id = id.clone();
        }
        let forged: Vec<HeaderName> =
            request.headers.keys().filter(|name| forwarded::is_forged(name, trusted)).cloned().collect();
        for name in &forged {
            request.remove_header(name);
        }
        if let Some(host) = exchange.target.host.take_if(|_| !request.headers.contains_key(HOST)) {
            request.insert_header(HOST, host)?;
        }
        if let Some(host) = &origin.host {
            request.insert_header(HOST, host.clone())?;
        }
        if request.version == Version::HTTP_10 {
            // To be ignored from such a client (RFC 9110 section 10.1.1), and the hop is HTTP/1.1.
            request.remove_header(&EXPECT);
        }
        exchange.origin = Some(origin);
        Ok(())
    }

    /// A try failed; whether there is another one. `is_answered`: the client has seen something of an answer.
    pub(crate) fn settle(
        &self,
        method: &Method,
        mishap: Mishap,
        is_answered: bool,
        is_replayable: bool,
        exchange: &mut Exchange,
    ) -> bool {
        // Half, because the worker's last sign of life may be older than the request that it is stuck in.
        let hang = self.shared.settings.timeouts.hang / 2;
        let known = Known {
            idempotent: method.is_idempotent(),
            replayable: is_replayable,
            answered: is_answered,
            suspect: !hang.is_zero() && exchange.given.elapsed() >= hang,
            workers: self.shared.workers.count(),
        };
        let again = exchange.settle(mishap, &known);
        if again {
            self.shared.stats.retries.fetch_add(1, Relaxed);
            self.shared.workers.count_in(Occurrence::Retried);
        }
        again
    }

    /// The same for a request on pingora's own upstream path.
    fn settle_hop(&self, session: &Session, mishap: Mishap, exchange: &mut Exchange) -> bool {
        let is_replayable = !session.as_ref().retry_buffer_truncated();
        let is_answered = session.response_written().is_some();
        self.settle(&session.req_header().method, mishap, is_answered, is_replayable, exchange)
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        self.shared.stats.requests.fetch_add(1, Relaxed);
        let started = Instant::now();
        Exchange {
            started,
            client: self.nobody.clone(),
            id: self.shared.ids.make(),
            target: Target::default(),
            origin: None,
            route: Route::default(),
            seat: None,
            worker: 0,
            given: started,
            tries: 0,
            progress: Progress::default(),
            queued: Duration::ZERO,
            app: None,
            told: Told::default(),
            until_close: false,
            failure: None,
            took: None,
            _active: self.shared.stats.active.count(),
        }
    }

    /// None: what pingora would add by default compresses answers, which is the application's decision.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// pingora's way of handing over what `conn.rs` attached to the session.
    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        exchange: &mut Exchange,
        arrival: Box<dyn Any + Send + Sync>,
    ) {
        if let Ok(arrival) = arrival.downcast::<Arrival>() {
            (exchange.client, exchange.target) = (arrival.client, arrival.target);
            exchange.client.set_reached();
        }
    }

    /// Serves the request over the link. Only an upgrade goes on to pingora's upstream path, which can give the client a
    /// connection of its own.
    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let downstream = session.as_mut();
        // The stream keeps the time of a body, and better: pingora's would begin anew with each byte.
        downstream.set_read_timeout(None);
        // HTTP/1.0 knows no interim answers (RFC 9110 section 15.2).
        downstream.set_ignore_info_resp(downstream.req_header().version == Version::HTTP_10);
        // pingora looks at the first `Connection` field only, and not at every kind of list in it.
        downstream.set_keepalive(framed::is_kept_alive(downstream.req_header()).then_some(0));
        // Nor does it ask whether an `Upgrade` is meant for us.
        if !framed::is_upgrade(downstream.req_header()) {
            downstream.req_header_mut().remove_header(&UPGRADE);
        }
        exchange.progress.has_body = !downstream.is_body_empty();
        self.normalize(downstream.req_header_mut(), exchange)?;
        if session.is_upgrade_req() {
            return Ok(false);
        }
        relay::serve(self, session, exchange).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        match relay::reserve(&self.shared.workers, session, exchange, |_| true).await {
            Ok(seat) => self.hop.peer(exchange.sit(seat)),
            Err(failure) => exchange.fail(failure),
        }
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let mishap = hop::io_cause(&error).map_or(Mishap::Unconnected, hop::connect_mishap);
        error.set_retry(self.settle_hop(session, mishap, exchange));
        error
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        match &exchange.origin {
            Some(origin) => hop::put_facts(request, origin, &exchange.client, &exchange.id),
            None => exchange.fail(Failure::Internal),
        }
    }

    /// Called for the first time, with or without a body, as soon as the head has been written to the worker.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end: bool,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.progress.head_sent = true;
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        exchange.app = hop::take_facts(answer, &mut exchange.told).or(exchange.app);
        hop::check_answer(&session.req_header().method, answer).map_err(Error::into_up)?;
        exchange.progress.answer_begun =
            !answer.status.is_informational() || answer.status == StatusCode::SWITCHING_PROTOCOLS;
        exchange.set_wants_core(!exchange.progress.answer_begun);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            exchange.client.set_upgraded();
        } else if answer.status.is_informational() {
            return Ok(());
        }
        answer.insert_header(X_REQUEST_ID, exchange.id.clone())?;
        if session.req_header().version == Version::HTTP_10 && answer.headers.contains_key(TRANSFER_ENCODING)
        {
            answer.remove_header(&TRANSFER_ENCODING);
            exchange.until_close = true;
        }
        if exchange.until_close || self.is_ending() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        _reused: bool,
    ) -> Box<Error> {
        let again = match error.esource() {
            _ if exchange.failure.is_some() => false,
            ErrorSource::Upstream => {
                self.settle_hop(session, hop::mishap(&error, exchange.progress), exchange)
            }
            ErrorSource::Downstream => {
                exchange.failure = Some(client_failure(&error));
                false
            }
            ErrorSource::Internal | ErrorSource::Unset => {
                tracing::error!(%error, "the proxy failed to handle a request");
                exchange.failure = Some(Failure::Internal);
                false
            }
        };
        error.set_retry(again);
        error
    }

    /// The last error of a request: an error page, if the client can still get one.
    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let failure = *exchange.failure.get_or_insert_with(|| match error.esource() {
            ErrorSource::Downstream => client_failure(error),
            _ => Failure::Internal,
        });
        // Its worker has done with it, but a client that still sends is listened to for seconds.
        exchange.seat = None;
        let is_begun = session.response_written().is_some_and(|answer| !answer.status.is_informational());
        if is_begun && exchange.until_close {
            exchange.client.set_reset_on_drop();
        }
        if !is_begun && !session.was_upgraded() && failure.status() != 499 {
            // Head and page leave together, with the end of the connection.
            exchange.client.set_more_coming(true);
            // A client that has left meanwhile needs no page.
            let _ =
                write_page(session, failure, &exchange.id, self.shared.workers.retry_after(failure)).await;
            exchange.took = Some(exchange.started.elapsed());
            session.as_mut().shutdown().await;
        }
        FailToProxy { error_code: failure.status(), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, exchange: &mut Exchange) {
        exchange.log(session, &self.shared.stats, &self.log);
    }

    /// The access log has the reason of every failure; pingora's own lines would say it again.
    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        true
    }

    /// Likewise for retries: `tries` in the access log.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

async fn write_page(
    session: &mut Session,
    failure: Failure,
    id: &HeaderValue,
    retry_after: Option<Duration>,
) -> Result<()> {
    let page = failure.page(id);
    let mut answer = ResponseHeader::build(failure.status(), Some(8))?;
    answer.insert_header(CONTENT_TYPE, "text/plain; charset=utf-8")?;
    answer.insert_header(CONTENT_LENGTH, page.len())?;
    answer.insert_header(CACHE_CONTROL, "no-store")?;
    answer.insert_header(X_REQUEST_ID, id.clone())?;
    if let Some(retry_after) = retry_after {
        answer.insert_header(RETRY_AFTER, retry_after.as_secs())?;
    }
    session.as_mut().write_error_response(answer, page.into()).await
}
