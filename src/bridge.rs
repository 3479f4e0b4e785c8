//! The proxy's process, and what connects the proxy to the workers without either knowing the other:
//! `proxy::Upstreams` read from the board. What the board says comes from processes that run application code, so it
//! is taken as numbers only.
use crate::channel::Reporter;
use crate::exposition::Sources;
use crate::message::Message;
use crate::privileges::Identity;
use crate::spawn::{self, Tie};
use appliance_config::Settings;
use appliance_config::settings::Log;
use appliance_proxy::{Load, Mode, Occurrence, Pulse, Style, Upstreams, WorkerId};
use appliance_worker::abi;
use appliance_worker::board::{self, Board, State};
use appliance_worker::logging;
use appliance_worker::metrics::Metrics;
use appliance_worker::panel::{self, Panel};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A loop with nothing to do has a turn once a second. One that stands still is not told from it sooner, whatever
/// `timeouts.stall` says.
const LEAST_STALL: Duration = Duration::from_millis(1500);

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
    /// The metrics' memory.
    pub metrics: OwnedFd,
    /// Paths of the sockets of all workers that there can be, worker 1 first.
    pub sockets: Vec<PathBuf>,
}

impl Job<'_> {
    /// Lives the proxy's life and answers its exit code.
    pub fn live(self, tie: Tie) -> i32 {
        let started = self.leave_master(tie);
        let Job { settings, generation, board, panel, metrics, sockets, .. } = self;
        let open = || Bridge::open(board, panel, metrics, generation, sockets, settings);
        match started.and_then(|tie| Ok((tie, open()?))) {
            Ok((_tie, bridge)) => {
                logging::set_level(&self.settings.log.level);
                let admin = self.admin.map(TcpListener::from);
                let ready = || self.reporter.report(&Message::Ready);
                appliance_proxy::run(settings, self.listeners, admin, Arc::new(bridge), ready)
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
        keep.extend([&self.board, &self.panel, &self.metrics].map(AsFd::as_fd));
        keep.push(self.reporter.as_fd());
        spawn::leave_master(self.master, tie, &keep, self.identity, "appliance: proxy")
    }
}

/// The workers as the proxy sees them.
#[derive(Debug)]
struct Bridge {
    board: Board,
    panel: Panel,
    metrics: Metrics,
    /// Of this proxy.
    generation: u32,
    sockets: Vec<PathBuf>,
    /// `workers.cores`: what a worker has at most, whatever it says.
    cores: u32,
    /// `limits.waiting`, likewise.
    waiting: u32,
    /// How long a loop may stand still; `None`: for ever.
    stall: Option<Duration>,
}

impl Bridge {
    fn open(
        board: OwnedFd,
        panel: OwnedFd,
        metrics: OwnedFd,
        generation: u32,
        sockets: Vec<PathBuf>,
        settings: &Settings,
    ) -> io::Result<Bridge> {
        let (board, panel, metrics) = (Board::open(board)?, Panel::open(panel)?, Metrics::open(metrics)?);
        panel.pulse(generation).claim(std::process::id());
        let waiting = u32::try_from(settings.limits.waiting).unwrap_or(u32::MAX);
        let stall = settings.timeouts.stall;
        let stall = (stall > Duration::ZERO).then(|| stall.max(LEAST_STALL));
        let cores = settings.workers.cores;
        Ok(Bridge { board, panel, metrics, generation, sockets, cores, waiting, stall })
    }

    /// Whether a loop stands still that last had a turn at `tick_ms`. One that has had none is about to.
    fn is_stalled(&self, tick_ms: u64) -> bool {
        let Some(stall) = self.stall.filter(|_| tick_ms > 0) else { return false };
        Duration::from_millis(coarse_ms().saturating_sub(tick_ms)) > stall
    }
}

/// Milliseconds of the monotonic clock as of the kernel's last tick, some milliseconds ago: each request asks for each worker,
/// and this costs a fifth of the exact time.
fn coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000 + now.tv_nsec().unsigned_abs() / 1_000_000)
}

impl Upstreams for Bridge {
    fn count(&self) -> u32 {
        self.panel.workers().min(self.capacity())
    }

    fn capacity(&self) -> u32 {
        u32::try_from(self.sockets.len()).unwrap_or(u32::MAX)
    }

    fn socket(&self, worker: WorkerId) -> &Path {
        &self.sockets[worker as usize - 1]
    }

    fn load(&self, worker: WorkerId) -> Load {
        let slot = self.board.current(worker);
        let cores = slot.cores.load(Relaxed).min(self.cores);
        Load {
            ready: slot.state() == State::Ready,
            stalled: self.is_stalled(slot.tick_ms.load(Relaxed)),
            instance: slot.pid.load(Relaxed),
            cores,
            busy: slot.busy.load(Relaxed).min(cores),
            waiting: slot.waiting.load(Relaxed).min(self.waiting),
        }
    }

    fn is_replaced(&self) -> bool {
        self.panel.proxy() > self.generation
    }

    fn mode(&self) -> Mode {
        match self.panel.mode() {
            panel::Mode::Serving => Mode::Serving,
            panel::Mode::Paused => Mode::Paused,
            panel::Mode::Maintenance => Mode::Maintenance,
            panel::Mode::CrashLoop => Mode::CrashLoop,
            panel::Mode::Leaving => Mode::Leaving,
        }
    }

    fn retry_after(&self) -> Duration {
        self.panel.retry_after()
    }

    fn publish(&self, pulse: &Pulse) {
        let place = self.panel.pulse(self.generation);
        for (to, count) in [
            (&place.connections, pulse.connections),
            (&place.in_flight, pulse.in_flight),
            (&place.queued, pulse.queued),
        ] {
            to.store(u32::try_from(count).unwrap_or(u32::MAX), Relaxed);
        }
        let traffic = self.panel.traffic();
        for (to, count, all) in [
            (&place.dequeued, pulse.dequeued, &traffic.dequeued),
            (&place.queue_us, pulse.queue_us, &traffic.queue_us),
        ] {
            all.fetch_add(count.saturating_sub(to.swap(count, Relaxed)), Relaxed);
        }
        let age = u64::try_from(pulse.age.as_millis()).unwrap_or(u64::MAX);
        place.tick_ms.store(board::monotonic_ms().saturating_sub(age), Relaxed);
    }

    fn count_in(&self, what: Occurrence) {
        let traffic = self.panel.traffic();
        let count = match what {
            Occurrence::Ended { status, worker, took, bytes, reason } => {
                return traffic.count(status, worker.unwrap_or(0), took, bytes, reason);
            }
            Occurrence::Retried => &traffic.retries,
            Occurrence::Connected => &traffic.connections,
            Occurrence::Refused => &traffic.refused,
        };
        count.fetch_add(1, Relaxed);
    }

    fn log_style(&self, log: &Log) -> Option<Style> {
        logging::access_style(log)
    }

    fn write_log(&self, lines: &[u8]) {
        logging::write(lines);
    }

    fn has_served(&self) -> bool {
        self.panel.annals().has_served.load(Relaxed) > 0
    }

    fn metrics(&self, pulse: &Pulse) -> String {
        self.publish(pulse);
        let sources = Sources {
            board: &self.board,
            panel: &self.panel,
            metrics: &self.metrics,
            cores: self.cores,
            waiting: self.waiting,
            reasons: appliance_proxy::reasons().collect(),
            now_ms: board::monotonic_ms(),
        };
        sources.page()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers, and the board on which they publish.
    fn bridge(stall: Option<Duration>) -> (Board, Bridge) {
        let board = Board::create(2).unwrap();
        let sockets = vec!["/run/worker-1.sock".into(), "/run/worker-2.sock".into()];
        let theirs = Board::open(board.fd().try_clone_to_owned().unwrap()).unwrap();
        let panel = Panel::create().unwrap();
        panel.set_workers(2);
        let metrics = Metrics::create().unwrap();
        let (cores, waiting, generation) = (100, 1000, 3);
        (board, Bridge { board: theirs, panel, metrics, generation, sockets, cores, waiting, stall })
    }

    #[test]
    fn the_proxy_sees_who_is_ready_and_no_number_beyond_its_limit() {
        let (board, bridge) = bridge(None);
        let slot = board.slot(2, 0);
        slot.claim(4711, 0, 5000);
        slot.busy.store(u32::MAX, Relaxed);
        slot.waiting.store(7, Relaxed);
        assert!(!bridge.load(2).ready, "it still boots");
        slot.set_state(State::Ready);
        let expected =
            Load { ready: true, stalled: false, instance: 4711, cores: 100, busy: 100, waiting: 7 };
        assert_eq!(bridge.load(2), expected);
        assert_eq!((bridge.load(1).ready, bridge.count()), (false, 2));
        assert_eq!(bridge.socket(2), Path::new("/run/worker-2.sock"));
        bridge.panel.set_workers(9);
        assert_eq!(bridge.count(), 2, "there is no socket for more");
    }

    #[test]
    fn a_loop_that_stands_still_is_stalled_until_its_next_turn() {
        let (board, bridge) = bridge(Some(Duration::from_secs(1000)));
        let now = board::monotonic_ms();
        let stalled = |tick_ms: u64| {
            board.slot(1, 0).tick_ms.store(tick_ms, Relaxed);
            bridge.load(1).stalled
        };
        assert!(!stalled(0), "it has not begun");
        assert!(stalled(now.saturating_sub(2_000_000).max(1)) || now < 1_000_001);
        assert!(!stalled(now));
        assert!(!stalled(u64::MAX), "nonsense");
    }

    #[test]
    fn the_master_sees_the_pulse() {
        let (_board, bridge) = bridge(None);
        let age = Duration::from_millis(1);
        bridge.publish(&Pulse {
            connections: u64::MAX,
            in_flight: 2,
            queued: 3,
            dequeued: 4,
            queue_us: 5,
            age,
        });
        let place = bridge.panel.pulse(3);
        let counts = [&place.connections, &place.in_flight, &place.queued].map(|count| count.load(Relaxed));
        assert_eq!(counts, [u32::MAX, 2, 3]);
        assert_eq!((place.dequeued.load(Relaxed), place.queue_us.load(Relaxed)), (4, 5));
        assert!(place.tick_ms.load(Relaxed) < board::monotonic_ms());
    }

    #[test]
    fn what_one_proxy_counts_the_next_one_goes_on_with() {
        let (_board, mut bridge) = bridge(None);
        let ended =
            Occurrence::Ended { status: 200, worker: None, took: Duration::ZERO, bytes: 5, reason: None };
        for (generation, waits) in [(3, 4), (4, 6)] {
            bridge.generation = generation;
            bridge.panel.pulse(generation).claim(1);
            bridge.count_in(ended);
            bridge.publish(&Pulse { dequeued: 1, ..Pulse::default() });
            bridge.publish(&Pulse { dequeued: waits, ..Pulse::default() });
        }
        let page = bridge.metrics(&Pulse { dequeued: 6, ..Pulse::default() });
        assert!(page.contains("\nappliance_http_queue_waits_total 10\n"), "{page}");
        assert!(page.contains("\nappliance_http_requests_total{code=\"200\",worker=\"\"} 2\n"), "{page}");
    }

    #[test]
    fn the_proxy_obeys_the_panel() {
        let (_board, bridge) = bridge(None);
        bridge.panel.set_mode(panel::Mode::Maintenance, Duration::from_secs(30));
        assert_eq!((bridge.mode(), bridge.retry_after()), (Mode::Maintenance, Duration::from_secs(30)));
    }
}
