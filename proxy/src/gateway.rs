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
use crate::link::Links;
use crate::pulse::Heart;
use crate::relay;
use crate::request_id::{self, RequestIds, X_REQUEST_ID};
use crate::retry::{Known, Mishap};
use crate::stats::Stats;
use crate::tunnel::Tunnel;
use crate::workers::Workers;
use crate::{Mode, Occurrence};
use appliance_config::Settings;
use async_trait::async_trait;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Method, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, Result};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

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
    log: Arc<AccessLog>,
    /// Stands in until pingora hands over the connection's own.
    nobody: Arc<Client>,
}

impl Gateway {
    pub(crate) fn new(
        shared: Arc<Shared>,
        links: Arc<Links>,
        log: Arc<AccessLog>,
        drain: DrainWatch,
    ) -> Self {
        let nobody = Arc::new(Client::new(Peer::Unix, false, HeaderValue::from_static("unix:")));
        Self { shared, links, drain, log, nobody }
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
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        self.shared.stats.requests.fetch_add(1, Relaxed);
        let active = self.shared.stats.active.count();
        Exchange::new(self.nobody.clone(), self.shared.ids.make(), Some(active))
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

    /// Serves the request.
    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let downstream = session.as_mut();
        // The stream keeps the time of a body, and better: pingora's would begin anew with each byte.
        downstream.set_read_timeout(None);
        // HTTP/1.0 knows no interim answers (RFC 9110 section 15.2).
        downstream.set_ignore_info_resp(downstream.req_header().version == Version::HTTP_10);
        // pingora looks at the first `Connection` field only, and not at every kind of list in it.
        downstream.set_keepalive(framed::is_kept_alive(downstream.req_header()).then_some(0));
        exchange.has_body = !downstream.is_body_empty();
        self.normalize(downstream.req_header_mut(), exchange)?;
        relay::serve(self, session, exchange).await?;
        Ok(true)
    }

    /// Never asked: the request filter serves every request.
    async fn upstream_peer(&self, _session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        exchange.fail(Failure::Internal)
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
        if !is_begun && failure.status() != 499 {
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
        let Some(opened) = exchange.opened.take() else {
            return exchange.log_answered(session, &self.shared.stats, &self.log);
        };
        // It goes on without pingora, which drops everything of the request but the connection.
        let next = Exchange::new(self.nobody.clone(), exchange.id.clone(), None);
        let mut exchange = std::mem::replace(exchange, next);
        exchange.target.keep(session.req_header().raw_path());
        let client = exchange.client.clone();
        client.put_tunnel(Box::new(Tunnel::new(opened, exchange)));
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
