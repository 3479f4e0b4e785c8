//! The read-only admin endpoint: probes (`/livez`, `/readyz`, `/startupz`, as Kubernetes means them, and `/healthz`), `/status` and
//! `/metrics`, one request per connection, served by the proxy's control thread also while it drains. It has its own few lines of HTTP so that a probe never shares a code path with what it
//! probes. It must never change anything.
use crate::Mode;
use crate::drain::DrainWatch;
use crate::gateway::Shared;
use crate::pulse::pulse;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Longest request head of a probe, in bytes; curl sends 90, a browser under 2000.
const HEAD_BYTES: usize = 4096;
/// Connections at once, so that whoever reaches this port cannot use up the proxy's descriptors. One more takes the place of the
/// oldest: those that are silent must not keep a probe from its answer.
pub(crate) const MAX_PROBES: usize = 64;
/// Time for one request, and pause after a failed accept.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves as long as the control thread lives, or until another proxy serves there and the last probe has its answer.
pub(crate) async fn run(listener: StdListener, shared: Arc<Shared>, drain: DrainWatch) {
    let listener = match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve the admin endpoint"),
    };
    let mut replaced = std::pin::pin!(replaced(&shared, drain.clone()));
    let mut probes = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    let turn = Arc::new(Semaphore::new(1));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut replaced => break,
            Some(_) = probes.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                oldest.retain(|probe| !probe.is_finished());
                if oldest.len() == MAX_PROBES {
                    oldest.pop_front().inspect(AbortHandle::abort);
                }
                let (shared, drain, turn) = (shared.clone(), drain.clone(), turn.clone());
                // A probe that fails or takes too long is simply cut.
                let probe = async move { timeout(PATIENCE, probe(stream, shared, drain, &turn)).await };
                oldest.push_back(probes.spawn(probe));
            }
            Err(_) => tokio::time::sleep(PATIENCE).await,
        }
    }
    drop(listener);
    probes.join_all().await;
}

/// Waits for the drain that ends with a successor in this proxy's place. At the end of the whole appliance there is none,
/// and probes are told until the last moment.
async fn replaced(shared: &Shared, mut drain: DrainWatch) {
    drain.begun().await;
    if !shared.workers.is_replaced() {
        std::future::pending().await
    }
}

/// Answers one request. What takes long to say is said on a thread of its own, in its `turn`: this thread is also the one that
/// ends the proxy.
async fn probe(
    mut stream: TcpStream,
    shared: Arc<Shared>,
    drain: DrainWatch,
    turn: &Semaphore,
) -> std::io::Result<()> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") && head.len() < HEAD_BYTES {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).into_owned();
    let is_long = page(&line) == Some(Page::Metrics);
    let compose = move || answer(&line, |page| page.of(&shared, &drain));
    let answer = if is_long {
        let _turn = turn.acquire().await.map_err(std::io::Error::other)?;
        tokio::task::spawn_blocking(compose).await?
    } else {
        compose()
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Why the appliance should get no requests; `None`: it should.
fn why_not_ready(shared: &Shared, drain: &DrainWatch) -> Option<&'static str> {
    match shared.workers.mode() {
        _ if drain.has_begun() && !shared.workers.is_replaced() => Some("it is stopping"),
        Mode::Leaving => Some("it is about to stop"),
        Mode::Maintenance => Some("it is in maintenance"),
        Mode::CrashLoop => Some("its workers end as soon as they have begun"),
        Mode::Serving | Mode::Paused => (!shared.workers.is_any_ready()).then_some("no worker is ready"),
    }
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Whether this process works: if not, a new container would help.
    Alive,
    /// Whether requests should come here.
    Ready,
    /// Whether it has begun at all: until then, the other two say nothing.
    Started,
    Status,
    Metrics,
}

/// Where each is.
const PAGES: [(&str, Page); 6] = [
    ("/livez", Page::Alive),
    ("/healthz", Page::Alive),
    ("/readyz", Page::Ready),
    ("/startupz", Page::Started),
    ("/status", Page::Status),
    ("/metrics", Page::Metrics),
];

/// What there is to say.
enum Said {
    /// Yes, in a word, or no, for this reason.
    Probe(Result<&'static str, &'static str>),
    Json(Value),
    /// In Prometheus' text format.
    Metrics(String),
}

impl Page {
    fn of(self, shared: &Shared, drain: &DrainWatch) -> Said {
        match self {
            Page::Alive => Said::Probe(Ok("ok")),
            Page::Ready => Said::Probe(why_not_ready(shared, drain).map_or(Ok("ready"), Err)),
            Page::Started => {
                let has_served = shared.workers.has_served();
                Said::Probe(if has_served { Ok("started") } else { Err("no worker has been ready yet") })
            }
            Page::Status => Said::Json(status(shared)),
            Page::Metrics => Said::Metrics(shared.workers.metrics(&pulse(shared, Instant::now()))),
        }
    }
}

/// Path of the target of a request line.
fn path(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default()
}

/// The page that a request line asks for.
fn page(line: &str) -> Option<Page> {
    PAGES.iter().find(|(known, _)| *known == path(line)).map(|(_, page)| *page)
}

/// The whole answer to a request line.
fn answer(line: &str, ask: impl FnOnce(Page) -> Said) -> String {
    const TEXT: &str = "text/plain";
    let method = line.split(' ').next().unwrap_or_default();
    let (code, kind, body) = match (method, page(line)) {
        ("GET" | "HEAD", Some(page)) => match ask(page) {
            Said::Probe(Ok(word)) => ("200 OK", TEXT, format!("{word}\n")),
            Said::Probe(Err(why)) => ("503 Service Unavailable", TEXT, format!("{why}\n")),
            Said::Json(value) => ("200 OK", "application/json", format!("{value:#}\n")),
            Said::Metrics(text) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", text),
        },
        ("GET" | "HEAD", None) => {
            let known = PAGES.map(|(path, _)| path).join(", ");
            ("404 Not Found", TEXT, format!("there are {known}\n"))
        }
        _ => ("405 Method Not Allowed\r\nallow: GET, HEAD", TEXT, "this endpoint is read-only\n".to_owned()),
    };
    let length = body.len();
    let shown = if method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 {code}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\ncache-control: no-store\r\n\
         connection: close\r\n\r\n{shown}"
    )
}

fn status(shared: &Shared) -> Value {
    let worker = |one: crate::balance::Seen| {
        json!({
            "id": one.worker,
            "pid": one.load.instance,
            "ready": one.load.ready,
            "stalled": one.load.stalled,
            "cores": one.load.cores,
            "busy": one.load.busy,
            "waiting": one.load.waiting,
        })
    };
    let stats = &shared.stats;
    let queue = &shared.workers.queue;
    json!({
        "workers": shared.workers.seen().map(worker).collect::<Vec<_>>(),
        "proxy": {
            "connections": stats.connections.get(),
            "mode": word(shared.workers.mode()),
            "queued": queue.length(),
            "queue": queue.most(),
            "active": stats.active.get(),
            "requests": stats.requests.load(Relaxed),
            "retries": stats.retries.load(Relaxed),
            "errors": stats.errors.load(Relaxed),
            "uptime_seconds": stats.started.elapsed().as_secs(),
        },
    })
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Serving => "serving",
        Mode::Paused => "paused",
        Mode::Maintenance => "maintenance",
        Mode::CrashLoop => "crash-loop",
        Mode::Leaving => "leaving",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an appliance that waits for its first worker.
    fn answered(line: &str) -> String {
        answer(line, |page| match page {
            Page::Alive => Said::Probe(Ok("ok")),
            Page::Ready | Page::Started => Said::Probe(Err("no worker is ready")),
            Page::Status => Said::Json(json!({"workers": []})),
            Page::Metrics => Said::Metrics("up 1\n".to_owned()),
        })
    }

    #[test]
    fn probes_get_their_answers() {
        for path in ["/livez", "/healthz?verbose"] {
            assert!(answered(&format!("GET {path} HTTP/1.1")).starts_with("HTTP/1.1 200 OK\r\n"));
        }
        for path in ["/readyz", "/startupz"] {
            let refused = answered(&format!("GET {path} HTTP/1.1"));
            assert!(refused.starts_with("HTTP/1.1 503 ") && refused.ends_with("no worker is ready\n"));
        }
        assert!(answered("GET /status HTTP/1.1").ends_with("\"workers\": []\n}\n"));
        assert!(answered("GET / HTTP/1.1").starts_with("HTTP/1.1 404 "));
    }

    #[test]
    fn prometheus_is_told_the_format() {
        let page = answered("GET /metrics HTTP/1.1");
        assert!(page.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(page.ends_with("\r\n\r\nup 1\n"));
    }

    #[test]
    fn it_is_read_only() {
        assert!(answered("POST /status HTTP/1.1").starts_with("HTTP/1.1 405 "));
        assert!(answered("").starts_with("HTTP/1.1 405 "));
        assert!(answered("HEAD /healthz HTTP/1.1").ends_with("\r\n\r\n"));
    }
}
