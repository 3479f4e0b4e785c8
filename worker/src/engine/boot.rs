//! What an engine is made of; put together by whoever starts a worker.
use crate::board::Board;
use crate::conn::Rules;
use crate::line::Line;
use crate::locks::Locks;
use crate::wire::Terms;
use appliance_link::access::Style;
use std::sync::Arc;
use std::time::Duration;

/// What a worker is made of.
#[derive(Debug)]
pub struct Boot {
    /// From 1.
    pub worker_id: u32,
    /// Which of the processes of this worker id it is; see `board.rs`.
    pub life: u32,
    /// Number of cores.
    pub cores: u32,
    /// Requests that may wait for a core.
    pub waiting: usize,
    /// Whether the host hears of clients that leave ([`crate::Host::client_left`]); otherwise their requests run on.
    pub cancel_on_disconnect: bool,
    /// How long a request may take, from when an application is entered; `None`: as long as it likes.
    pub limit: Option<Duration>,
    /// How long a worker that is told to stop has, before it is killed.
    pub graceful: Duration,
    /// Requests run on threads of the host's, and not on the loop's.
    pub has_threads: bool,
    /// Requests after which the master is to hear that this worker is worn; `None`: never.
    pub wear: Option<u64>,
    /// How the lines of the access log look; `None`: there are none.
    pub access: Option<Style>,
    /// What holds for every connection.
    pub rules: Rules,
    /// What holds for the uwsgi protocol.
    pub wire: Terms,
    /// Where to publish.
    pub board: Arc<Board>,
    /// Those that it shares with the other workers.
    pub locks: Arc<Locks>,
    /// Where the master hears of it.
    pub line: Arc<Line>,
}
