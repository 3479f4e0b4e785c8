//! This thread's links: one connection to each worker, opened as soon as there is such a worker and opened again, with back-off,
//! when the worker closes it or wants no more requests on it. `pulse.rs` has them tended, `relay.rs` asks for a connection.
//! It must never choose a worker.
use crate::carrier::Carrier;
use crate::hop;
use crate::line::Line;
use crate::retry::Mishap;
use crate::{Upstreams, WorkerId};
use appliance_link::{Hello, hello};
use bytes::BytesMut;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

/// Pause before a connection that failed or ended at once is tried again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause; a worker that comes back is served again this soon.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// A connection that lived this long was a good one: the next failure begins with the first pause again.
const GOOD: Duration = Duration::from_secs(1);

/// The links of one thread.
pub(crate) struct Links {
    /// One for each worker that there can ever be; made when there is such a worker.
    links: Box<[OnceLock<Link>]>,
    upstreams: Arc<dyn Upstreams>,
    window: usize,
    connect: Duration,
}

struct Link {
    worker: WorkerId,
    state: watch::Sender<State>,
    /// There is a task that keeps it open.
    is_kept: AtomicBool,
}

/// What the requests see of a link.
#[derive(Clone, Debug)]
struct State {
    /// The last connection; it may take no more streams by now.
    line: Option<Arc<Line>>,
    /// The process that the board named when it was made, or an earlier one.
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
        let links = (0..upstreams.capacity()).map(|_| OnceLock::new()).collect();
        Arc::new(Self { links, upstreams: upstreams.clone(), window, connect })
    }

    /// Opens a link to every worker that has none, and keeps it open as long as there is that worker and the runtime of this
    /// thread lives. To be called from time to time, as the number of workers may grow.
    pub(crate) fn tend(self: &Arc<Self>) {
        (1..=self.upstreams.count()).for_each(|worker| self.begin_keeping(worker));
    }

    fn begin_keeping(self: &Arc<Self>, worker: WorkerId) {
        if !self.link(worker).is_kept.swap(true, Relaxed) {
            let links = self.clone();
            tokio::spawn(async move { links.keep(links.link(worker)).await });
        }
    }

    fn link(&self, worker: WorkerId) -> &Link {
        self.links[worker as usize - 1].get_or_init(|| Link {
            worker,
            state: watch::Sender::new(State {
                line: None,
                instance: 0,
                failures: 0,
                mishap: Mishap::Unconnected,
            }),
            is_kept: AtomicBool::new(false),
        })
    }

    fn state(&self, worker: WorkerId) -> &watch::Sender<State> {
        &self.link(worker).state
    }

    /// Whether a request could be sent to the worker at once.
    pub(crate) fn is_up(&self, worker: WorkerId) -> bool {
        self.state(worker).borrow().open_line().is_some()
    }

    /// The connection to a worker that takes new streams; waits while it is being made. If the board names another process
    /// by now, `instance`, there must be a new one: the old process may be stuck, and not even say that it goes.
    pub(crate) async fn line(self: &Arc<Self>, worker: WorkerId, instance: u32) -> Result<Arc<Line>, Mishap> {
        let state = self.state(worker);
        let mut changes = state.subscribe();
        let failures = state.borrow().failures;
        let mut wanted = instance;
        loop {
            {
                let now = state.borrow();
                match now.open_line() {
                    Some(line) if now.instance == wanted => return Ok(line.clone()),
                    Some(line) => line.retire(),
                    None if now.failures > failures => return Err(now.mishap),
                    None => {}
                }
            }
            self.begin_keeping(worker);
            let settled = |state: &State| state.open_line().is_some() || state.failures > failures;
            if changes.wait_for(settled).await.is_err() {
                return Err(Mishap::Unconnected);
            }
            // What was made meanwhile may lead to the old process too, and the board may have gone on to another.
            wanted = self.upstreams.load(worker).instance;
        }
    }

    /// Ends when the number of workers has become smaller than this one's.
    async fn keep(&self, link: &Link) {
        let mut pause = FIRST_PAUSE;
        while link.worker <= self.upstreams.count() {
            let begun = Instant::now();
            let before = self.upstreams.load(link.worker);
            match self.connect(link).await {
                Ok((line, retired)) => {
                    // Whoever was ready may have accepted, also if it has a successor by now.
                    let accepted = if before.ready { before } else { self.upstreams.load(link.worker) };
                    let instance = accepted.instance;
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
                    link.fail(hop::connect_mishap(&error));
                }
            }
            if begun.elapsed() >= GOOD {
                pause = FIRST_PAUSE;
                continue;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        link.is_kept.store(false, Relaxed);
        link.fail(Mishap::Unconnected);
    }

    /// Connects, exchanges the hellos and starts the carrier. A worker that is busy answers the hello late, as it would
    /// answer a request; only its end is a failure.
    async fn connect(&self, link: &Link) -> io::Result<(Arc<Line>, oneshot::Receiver<()>)> {
        let mut socket = hop::connect(self.upstreams.socket(link.worker), self.connect).await?;
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

impl Link {
    /// Tells those who wait for a connection that there is none.
    fn fail(&self, mishap: Mishap) {
        self.state.send_modify(|state| {
            state.failures += 1;
            state.mishap = mishap;
        });
    }
}
