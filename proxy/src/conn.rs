//! The life of one client connection: idle, a head, pingora, idle again. `accept.rs` starts one task per connection. A head is
//! read and judged here, against one deadline in total, before pingora sees it; refusals are answered here. It must never
//! hold a buffer while the client is idle.
use crate::access_log::AccessLog;
use crate::client::Client;
use crate::drain::DrainWatch;
use crate::error::Failure;
use crate::gateway::{Gateway, Shared};
use crate::stats::Counted;
use crate::stream::ClientStream;
use crate::strict::HeadCheck;
use crate::target::{Target, shield};
use appliance_link::access::{self, Entry};
use bytes::BytesMut;
use http::StatusCode;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::{ServerSession, date::get_cached_date};
use pingora::proxy::HttpProxy;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep, sleep, timeout, timeout_at};

/// During a drain an idle connection is kept this long for a request that is already under way: closing it at once would
/// break clients that send in the same moment. Their answer says `Connection: close`.
const LAST_CALL: Duration = Duration::from_millis(250);

/// What the connections of one proxy thread share.
pub(crate) struct Front {
    pub(crate) proxy: Arc<HttpProxy<Gateway>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Arc<AccessLog>,
}

/// What goes with a request to `gateway.rs`, past pingora.
pub(crate) struct Arrival {
    pub(crate) client: Arc<Client>,
    pub(crate) target: Target,
}

/// How reading a head ended.
enum Head {
    /// These bytes are for pingora.
    Complete(BytesMut),
    Refused(Failure),
    /// The client is gone, or never said a word.
    Gone,
}

/// Serves a connection until it ends. `_counted` holds its place among `limits.connections`.
pub(crate) async fn serve(
    mut stream: Box<ClientStream>,
    front: Arc<Front>,
    mut drain: DrainWatch,
    _counted: Counted,
) {
    let client = stream.client().clone();
    let mut idle = Idle::new(front.shared.settings.timeouts.keepalive);
    loop {
        if stream.inbound().is_empty() && !has_next(&mut stream, &mut idle, &mut drain).await {
            return;
        }
        let begun = Instant::now();
        let mut head = match read_head(&mut stream, &front, begun).await {
            Head::Complete(head) => head,
            Head::Refused(failure) => return refuse(&mut stream, &front, failure, begun).await,
            Head::Gone => return,
        };
        let arrival = Arrival { client: client.clone(), target: shield(&mut head) };
        let mut session = ServerSession::new_http1(stream);
        session.set_pipelined_prefix(head);
        session.set_connection_user_context(Some(Box::new(arrival)));
        let reused = front.proxy.process_new_http(session, drain.as_pingora()).await;
        if !client.take_reached() {
            // pingora has answered 400 by itself.
            log_refusal(&front, &client, Failure::Malformed, begun, (b"", b"-"));
        }
        // Taken in any case: it holds what holds it.
        let tunnel = client.take_tunnel();
        let Some(Ok(next)) = reused.map(|reused| reused.consume().0.into_any().downcast::<ClientStream>())
        else {
            return;
        };
        stream = next;
        if let Some(tunnel) = tunnel {
            return tunnel.serve(&mut stream, &front).await;
        }
    }
}

/// The end of an idle connection. One timer lives as long as the connection and is set anew only when it fires: setting one
/// for each request would cost more than all else that happens between two requests.
struct Idle {
    timer: Pin<Box<Sleep>>,
    limit: Duration,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self { timer: Box::pin(sleep(limit)), limit }
    }

    /// Waits until `limit` has passed from now.
    async fn over(&mut self) {
        let end = Instant::now() + self.limit;
        loop {
            self.timer.as_mut().await;
            if Instant::now() >= end {
                return;
            }
            self.timer.as_mut().reset(end);
        }
    }
}

/// Waits for the first bytes of the next request; false: the connection is to be closed.
async fn has_next(stream: &mut ClientStream, idle: &mut Idle, drain: &mut DrainWatch) -> bool {
    let awaited = tokio::select! {
        biased;
        first = stream.next() => Some(first),
        () = idle.over() => return false,
        () = drain.begun() => None,
    };
    match awaited {
        Some(first) => matches!(first, Ok(true)),
        None => matches!(timeout(LAST_CALL, stream.next()).await, Ok(Ok(true))),
    }
}

/// Reads until the head is complete and has passed. The clock starts with its first byte and is looked at only when the
/// head comes in pieces.
async fn read_head(stream: &mut ClientStream, front: &Front, begun: Instant) -> Head {
    let settings = &front.shared.settings;
    let deadline = begun + settings.timeouts.header;
    let mut check = HeadCheck::default();
    loop {
        match check.advance(stream.inbound(), &settings.limits) {
            Ok(Some(passed)) => {
                return match stream.begin(passed.size, passed.body) {
                    Ok(head) => Head::Complete(head),
                    Err(failure) => Head::Refused(failure),
                };
            }
            Ok(None) => {}
            Err(failure) => return Head::Refused(failure),
        }
        match timeout_at(deadline, stream.receive()).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return Head::Gone,
            Err(_) => return Head::Refused(Failure::SlowHead),
        }
    }
}

/// Answers a request that pingora does not get to see, and closes.
async fn refuse(stream: &mut ClientStream, front: &Front, failure: Failure, begun: Instant) {
    let id = log_refusal(front, stream.client(), failure, begun, access::named(stream.inbound()));
    let status = StatusCode::from_u16(failure.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let page = failure.page(&id);
    let answer = format!(
        "HTTP/1.1 {status}\r\ndate: {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nx-request-id: {}\r\nconnection: close\r\n\r\n{page}",
        get_cached_date().to_str().unwrap_or_default(),
        page.len(),
        id.to_str().unwrap_or_default(),
    );
    if stream.write_all(answer.as_bytes()).await.is_ok() {
        // Reads on for a while, if there may be more. Whoever cannot be told has left.
        let _ = stream.shutdown().await;
    }
}

/// Counts a refused request and logs it; its id.
fn log_refusal(
    front: &Front,
    client: &Client,
    failure: Failure,
    begun: Instant,
    (method, path): (&[u8], &[u8]),
) -> http::HeaderValue {
    front.shared.stats.requests.fetch_add(1, Relaxed);
    let id = front.shared.ids.make();
    let entry = Entry {
        client: client.ip.as_bytes(),
        method,
        path,
        version: "HTTP/1.1",
        status: failure.status(),
        bytes: failure.page(&id).len() as u64,
        took: begun.elapsed(),
        id: id.as_bytes(),
        reason: Some(failure.reason()),
        ..Entry::default()
    };
    front.log.add(&entry, Some(failure));
    id
}
