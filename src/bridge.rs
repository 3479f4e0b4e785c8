//! The proxy's process, and what connects the proxy to the workers without either knowing the other:
//! `proxy::Upstreams` read from the board. What the board says comes from processes that run application code, so it
//! is taken as numbers only.
use crate::channel::Reporter;
use crate::message::Message;
use crate::privileges::Identity;
use crate::spawn::{self, Tie};
use appliance_config::Settings;
use appliance_proxy::{Load, Upstreams, WorkerId};
use appliance_worker::abi;
use appliance_worker::board::{Board, State};
use appliance_worker::logging;
use appliance_worker::panel::Panel;
use nix::unistd::Pid;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// What the master gives the proxy; moved into its process.
#[derive(Debug)]
pub struct Job<'a> {
    /// The effective configuration.
    pub settings: &'a Settings,
    /// The master.
    pub master: Pid,
    /// Its own generation; see [`Panel::proxy`].
    pub generation: u32,
    /// The user to become.
    pub identity: Option<&'a Identity>,
    /// The public listeners, in the order of `settings.listen`.
    pub listeners: Vec<OwnedFd>,
    /// The admin endpoint's listener.
    pub admin: Option<OwnedFd>,
    /// Where it says that it accepts connections.
    pub reporter: Reporter,
    /// The board's memory.
    pub board: OwnedFd,
    /// The panel's memory.
    pub panel: OwnedFd,
    /// Paths of the workers' sockets, worker 1 first.
    pub sockets: Vec<PathBuf>,
}

impl Job<'_> {
    /// Lives the proxy's life and answers its exit code.
    pub fn live(self, tie: Tie) -> i32 {
        let generation = self.generation;
        let started = self.leave_master(tie);
        match started.and_then(|tie| {
            Ok((tie, Bridge::open(self.board, self.panel, self.sockets, generation, self.settings)?))
        }) {
            Ok((_tie, bridge)) => {
                logging::set_level(&self.settings.log.level);
                let admin = self.admin.map(TcpListener::from);
                let reporter = self.reporter;
                let ready = || reporter.report(&Message::Ready);
                appliance_proxy::run(self.settings, self.listeners, admin, Arc::new(bridge), ready)
            }
            Err(error) => {
                tracing::error!(%error, "the proxy cannot start");
                abi::EXIT_FAILED
            }
        }
    }

    fn leave_master(&self, tie: Tie) -> io::Result<Tie> {
        let mut keep: Vec<BorrowedFd<'_>> =
            self.listeners.iter().chain(&self.admin).map(AsFd::as_fd).collect();
        keep.extend([self.board.as_fd(), self.panel.as_fd(), self.reporter.as_fd()]);
        spawn::leave_master(self.master, tie, &keep, self.identity, "appliance: proxy")
    }
}

/// The workers as the proxy sees them.
#[derive(Debug)]
struct Bridge {
    board: Board,
    panel: Panel,
    sockets: Vec<PathBuf>,
    generation: u32,
    /// `workers.cores`: what a worker has at most, whatever it says.
    cores: u32,
    /// `limits.waiting`, likewise.
    waiting: u32,
}

impl Bridge {
    fn open(
        board: OwnedFd,
        panel: OwnedFd,
        sockets: Vec<PathBuf>,
        generation: u32,
        settings: &Settings,
    ) -> io::Result<Bridge> {
        let (board, panel) = (Board::open(board)?, Panel::open(panel)?);
        let waiting = u32::try_from(settings.limits.waiting).unwrap_or(u32::MAX);
        Ok(Bridge { board, panel, sockets, generation, cores: settings.workers.cores, waiting })
    }
}

impl Upstreams for Bridge {
    fn count(&self) -> u32 {
        self.panel.workers()
    }

    fn socket(&self, worker: WorkerId) -> &Path {
        &self.sockets[worker as usize - 1]
    }

    fn load(&self, worker: WorkerId) -> Load {
        let slot = self.board.current(worker);
        let cores = slot.cores.load(Relaxed).min(self.cores);
        Load {
            ready: slot.state() == State::Ready,
            instance: slot.pid.load(Relaxed),
            cores,
            busy: slot.busy.load(Relaxed).min(cores),
            waiting: slot.waiting.load(Relaxed).min(self.waiting),
        }
    }

    fn is_replaced(&self) -> bool {
        self.panel.proxy() > self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_sees_who_is_ready_and_no_number_beyond_its_limit() {
        let board = Board::create(2).unwrap();
        let sockets = vec!["/run/worker-1.sock".into(), "/run/worker-2.sock".into()];
        let theirs = Board::open(board.fd().try_clone_to_owned().unwrap()).unwrap();
        let panel = Panel::create().unwrap();
        panel.set_workers(2);
        let bridge = Bridge { board: theirs, panel, sockets, generation: 0, cores: 100, waiting: 1000 };
        let slot = board.slot(2, 0);
        slot.claim(4711, 0, 5000);
        slot.busy.store(u32::MAX, Relaxed);
        slot.waiting.store(7, Relaxed);
        assert!(!bridge.load(2).ready, "it still boots");
        slot.set_state(State::Ready);
        let expected = Load { ready: true, instance: 4711, cores: 100, busy: 100, waiting: 7 };
        assert_eq!(bridge.load(2), expected);
        assert_eq!((bridge.load(1).ready, bridge.count()), (false, 2));
        assert_eq!(bridge.socket(2), Path::new("/run/worker-2.sock"));
    }
}
