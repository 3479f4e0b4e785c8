//! This thread's links: one connection to each worker, opened when the thread starts and opened again, with back-off, when
//! the worker closes it or wants no more requests on it. `runtime.rs` starts the keepers, `relay.rs` asks for a connection.
//! It must never choose a worker.
use crate::carrier::Carrier;
use crate::hop;
use crate::line::Line;
use crate::retry::Mishap;
use crate::{Upstreams, WorkerId};
use appliance_link::{Hello, hello};
use bytes::BytesMut;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

/// Pause before a connection that failed or ended at once is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause; a worker that comes back is served again this soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A connection that lived this long was a good one: the next failure begins with the first pause again.
const GOOD: Duration = Duration::from_secs(1);

/// The links of one thread.
pub(crate) struct Links {
    links: Vec<Link>,
    upstreams: Arc<dyn Upstreams>,
    window: usize,
    connect: Duration,
}

struct Link {
    worker: WorkerId,
    path: PathBuf,
    state: watch::Sender<State>,
}

/// What the requests see of a link.
#[derive(Clone, Debug)]
struct State {
    /// The last connection; it may take no more streams by now.
    line: Option<Arc<Line>>,
    /// The process that the board named when it was made.
    instance: u32,
    /// How often connecting has failed so far, and what the last failure means.
    failures: u64,
    mishap: Mishap,
}

impl State {
    /// A connection that takes new streams.
    fn open_line(&self) -> Option<&Arc<Line>> {
        self.line.as_ref().filter(|line| line.is_open())
    }
}

impl Links {
    /// `window`: bytes that may be under way on one stream; `connect`: the longest time for a connection to be accepted by
    /// the kernel.
    pub(crate) fn new(upstreams: &Arc<dyn Upstreams>, window: usize, connect: Duration) -> Arc<Self> {
        let down = State { line: None, instance: 0, failures: 0, mishap: Mishap::Unconnected };
        let link = |worker| Link {
            worker,
            path: upstreams.socket(worker).to_owned(),
            state: watch::Sender::new(down.clone()),
        };
        let links = (1..=upstreams.count()).map(link).collect();
        Arc::new(Self { links, upstreams: upstreams.clone(), window, connect })
    }

    /// Keeps every link open for as long as the runtime of this thread lives.
    pub(crate) fn start(self: &Arc<Self>) {
        for index in 0..self.links.len() {
            let links = self.clone();
            tokio::spawn(async move { links.keep(&links.links[index]).await });
        }
    }

    fn state(&self, worker: WorkerId) -> &watch::Sender<State> {
        &self.links[worker as usize - 1].state
    }

    /// Whether a request could be sent to the worker at once.
    pub(crate) fn is_up(&self, worker: WorkerId) -> bool {
        self.state(worker).borrow().open_line().is_some()
    }

    /// The connection to a worker that takes new streams; waits while it is being made. If the board names another process
    /// by now, `instance`, there must be a new one: the old process may be stuck, and not even say that it goes.
    pub(crate) async fn line(&self, worker: WorkerId, instance: u32) -> Result<Arc<Line>, Mishap> {
        let state = self.state(worker);
        let failures = {
            let now = state.borrow();
            match now.open_line() {
                Some(line) if now.instance == instance => return Ok(line.clone()),
                Some(line) => line.retire(),
                None => {}
            }
            now.failures
        };
        let mut changes = state.subscribe();
        let settled = |state: &State| state.open_line().is_some() || state.failures > failures;
        match changes.wait_for(settled).await {
            Ok(now) => now.open_line().cloned().ok_or(now.mishap),
            Err(_) => Err(Mishap::Unconnected),
        }
    }

    async fn keep(&self, link: &Link) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            match self.connect(link).await {
                Ok((line, retired)) => {
                    let instance = self.upstreams.load(link.worker).instance;
                    link.state.send_modify(|state| (state.line, state.instance) = (Some(line), instance));
                    // An error means that the connection is gone altogether.
                    let _ = retired.await;
                    link.state.send_modify(|state| state.line = None);
                    // It ended because the worker has a successor, however young it was: requests wait for the next one.
                    if self.upstreams.load(link.worker).instance != instance {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                }
                Err(error) => {
                    tracing::debug!(worker = link.worker, %error, "no link to the worker yet");
                    link.state.send_modify(|state| {
                        state.failures += 1;
                        state.mishap = hop::connect_mishap(&error);
                    });
                }
            }
            if begun.elapsed() >= GOOD {
                pause = FIRST_PAUSE;
                continue;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Connects, exchanges the hellos and starts the carrier. A worker that is busy answers the hello late, as it would
    /// answer a request; only its end is a failure.
    async fn connect(&self, link: &Link) -> io::Result<(Arc<Line>, oneshot::Receiver<()>)> {
        let mut socket = connect(&link.path, self.connect).await?;
        let ours = Hello::new(self.window);
        socket.write_all(&ours.bytes()).await?;
        let mut inbound = BytesMut::new();
        let theirs = loop {
            match Hello::parse(&inbound) {
                Ok(Some(theirs)) => break theirs,
                Ok(None) => {}
                Err(violation) => {
                    tracing::error!(worker = link.worker, "no link to the worker: {violation}");
                    return Err(io::Error::other(violation));
                }
            }
            if socket.read_buf(&mut inbound).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let inbound = inbound.split_off(hello::SIZE);
        let (line, retired) = Line::new(ours.window, theirs.window);
        tokio::spawn(Carrier::new(line.clone(), socket, inbound, link.worker));
        Ok((line, retired))
    }
}

async fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    timeout(limit, UnixStream::connect(path)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
