//! The template process: loads the application once, forks workers from it when the master says so, and tells the
//! master who of them has gone. Forked by the master; may die and be replaced while its workers go on. It decides
//! nothing, serves nothing, and runs application code only while it loads.
use crate::channel::{Inbox, Layette, Order, Reporter};
use crate::engine::{self, Engine, Seat, Start};
use crate::error::Error;
use crate::message::Message;
use crate::privileges::Identity;
use crate::spawn::{self, Tie};
use crate::worker;
use appliance_config::Settings;
use appliance_worker::abi::{self, ForkPhase};
use appliance_worker::metrics::Metrics;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// What the master gives a template; moved into its process.
#[derive(Debug)]
pub struct Job<'a> {
    /// The effective configuration.
    pub settings: &'a Settings,
    /// The master.
    pub master: Pid,
    /// Number of the reload.
    pub generation: u32,
    /// The user to become.
    pub identity: Option<&'a Identity>,
    /// Where the caches lie, if there are any.
    pub cache_dir: Option<&'a Path>,
    /// The board's memory.
    pub board: OwnedFd,
    /// Where workers speak the uwsgi protocol.
    pub doors: Vec<OwnedFd>,
    /// The locks' memory.
    pub locks: OwnedFd,
    /// The bell of the locks.
    pub lock_bell: OwnedFd,
    /// The metrics' memory.
    pub metrics: OwnedFd,
    /// The memory of the queue and the shared areas.
    pub areas: OwnedFd,
    /// Where orders arrive.
    pub inbox: Inbox,
    /// Where reports go.
    pub reporter: Reporter,
}

impl Job<'_> {
    /// Lives the template's life and answers its exit code.
    pub fn live(self, tie: Tie) -> i32 {
        let started = self.leave_master(tie).and_then(|tie| {
            self.make_metrics()?;
            let Job { settings, master, generation, cache_dir, ref metrics, ref areas, .. } = self;
            let start = Start { settings, master, generation, cache_dir, metrics, areas };
            let (engine, line) = engine::start(start)?;
            Ok((tie, engine, line))
        });
        let (tie, engine, line) = match started {
            Ok(started) => started,
            Err(error) => {
                let code = error.exit_code();
                self.reporter.report(&Message::LoadFailed { code, text: error.to_string() });
                return code;
            }
        };
        warn_of_threads();
        self.reporter.report(&Message::Loaded { line });
        match (Template { job: self, tie, engine, workers: Vec::new() }).obey() {
            Ok(()) => abi::EXIT_DONE,
            Err(error) => {
                tracing::error!(%error, "the template gives up");
                abi::EXIT_FAILED
            }
        }
    }

    fn leave_master(&self, tie: Tie) -> Result<Tie, Error> {
        let pipes = [self.inbox.as_fd(), self.reporter.as_fd()];
        let keep: Vec<_> = self.shared().map(AsFd::as_fd).chain(pipes).collect();
        spawn::leave_master(self.master, tie, &keep, self.identity, "appliance: template")
            .map_err(Error::system("the template cannot start"))
    }

    /// Makes the metrics of the configuration, before the application can ask for them; a native one finds them in this binary.
    fn make_metrics(&self) -> Result<(), Error> {
        let memory = self.metrics.try_clone().and_then(Metrics::open);
        let metrics = memory.map_err(Error::system("map the metrics"))?;
        let made = metrics.configure(&self.settings.metrics);
        made.map_err(|error| Error::Usage(format!("[[metric]]: {error}")))?;
        metrics.install();
        Ok(())
    }

    /// What the workers share; each gets a copy, or has it from its template.
    fn shared(&self) -> impl Iterator<Item = &OwnedFd> {
        [&self.board, &self.locks, &self.lock_bell, &self.metrics, &self.areas].into_iter().chain(&self.doors)
    }
}

/// Threads do not survive a fork, but the locks they hold do: a worker may hang for ever on one of them.
fn warn_of_threads() {
    match spawn::threads() {
        Ok(names) if names.len() > 1 => tracing::warn!(
            threads = names[1..].join(", "),
            "the application started threads while it was imported; they are missing in the workers. \
             Start them after the fork instead (uwsgidecorators.postfork)"
        ),
        _ => {}
    }
}

/// A worker that this template forked and must reap.
#[derive(Debug)]
struct Forked {
    worker: u32,
    pid: Pid,
    /// Readable when it has ended.
    end: OwnedFd,
}

#[derive(Debug)]
struct Template<'a> {
    job: Job<'a>,
    tie: Tie,
    engine: Engine,
    workers: Vec<Forked>,
}

impl Template<'_> {
    /// Follows orders until `Quit`, or until the master is gone.
    fn obey(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            if self.tie.is_cut() {
                return Ok(());
            }
            self.report_exits();
            match self.job.inbox.take()? {
                Some(Order::Fork(layette)) => self.try_fork(layette),
                Some(Order::Quit) => return Ok(()),
                None => {}
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let ends = self.workers.iter().map(|forked| forked.end.as_fd());
        let descriptors = [self.job.inbox.as_fd(), self.tie.as_fd()].into_iter().chain(ends);
        let mut sources: Vec<PollFd<'_>> = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reaps its own workers by their numbers: other children may be the application's, which wants to reap them
    /// itself.
    fn report_exits(&mut self) {
        let Job { reporter, .. } = &self.job;
        self.workers.retain(|forked| {
            let Some((_, ended)) = spawn::reap(Some(forked.pid)) else { return true };
            reporter.report(&Message::Exited { worker: forked.worker, pid: forked.pid.as_raw(), ended });
            false
        });
    }

    fn try_fork(&mut self, layette: Layette) {
        let worker = layette.worker;
        if let Err(error) = self.fork(layette) {
            self.job.reporter.report(&Message::ForkFailed { worker, text: error.to_string() });
        }
    }

    fn fork(&mut self, layette: Layette) -> io::Result<()> {
        let job = &self.job;
        let (worker, generation) = (layette.worker, job.generation);
        let seat = Seat {
            worker,
            life: layette.life,
            socket: layette.socket,
            board: job.board.try_clone()?,
            locks: job.locks.try_clone()?,
            lock_bell: job.lock_bell.try_clone()?,
            questions: layette.questions,
            doors: job.doors.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?,
            ready: worker::on_ready,
        };
        let (reporter, tie) = (job.reporter.try_clone()?, self.tie.try_clone()?);
        let (engine, templates) = (&self.engine, self.descriptors());
        engine.on_fork(ForkPhase::Before);
        let forked = spawn::fork(|| worker::live(engine, seat, generation, reporter, tie, templates));
        engine.on_fork(ForkPhase::Parent);
        let pid = forked?;
        let end = spawn::pidfd_open(pid).inspect_err(|_| {
            // Nobody would notice its end.
            let _ = kill(pid, Signal::SIGKILL);
        })?;
        self.workers.push(Forked { worker, pid, end });
        Ok(())
    }

    /// Every descriptor that is the template's own.
    fn descriptors(&self) -> Vec<RawFd> {
        let job = &self.job;
        let ends = self.workers.iter().map(|forked| &forked.end);
        let owned = job.shared().chain(ends).map(AsRawFd::as_raw_fd);
        owned
            .chain([job.inbox.as_fd(), job.reporter.as_fd(), self.tie.as_fd()].map(|fd| fd.as_raw_fd()))
            .collect()
    }
}
