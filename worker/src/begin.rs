//! The beginning of a worker's life, the same for every host: its engine, its listeners and its watch, made of what the
//! binary gives it after the fork. Called once by a host's `serve`, which goes on from there.
use crate::abi::{EXIT_BOOT, EXIT_DONE, EXIT_FAILED, RunArgs};
use crate::board::Board;
use crate::cache::Caches;
use crate::line::Line;
use crate::listen::Listener;
use crate::locks::{Holder, Locks};
use crate::signals::Ledger;
use crate::watch::{Post, Watch, Watched};
use crate::{Boot, Engine, Error, logging, reactor, wear, wire};
use appliance_config::Settings;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A worker that does not serve yet.
#[derive(Debug)]
pub struct Begun {
    /// Its engine.
    pub engine: Rc<Engine>,
    /// The locks that all workers share.
    pub locks: Arc<Locks>,
    /// Its end of the line on which the master asks.
    questions: OwnedFd,
    /// The same line, for news.
    line: Arc<Line>,
}

/// What a worker is given.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// By the binary.
    pub args: &'a RunArgs,
    /// `args.doors`: where the uwsgi protocol is spoken.
    pub doors: &'a [RawFd],
    /// The folder of the caches; empty if there are none.
    pub cache_dir: &'a Path,
    /// The effective configuration.
    pub settings: &'a Settings,
}

/// Makes the engine. `has_threads`: requests run on threads of the host's.
pub fn begin(given: Given<'_>, has_threads: bool) -> Result<Begun, Error> {
    let Given { args, doors, cache_dir, settings } = given;
    Caches::open(cache_dir, &settings.caches)?.install()?;
    let board = reactor::adopt(args.board).and_then(Board::open);
    let questions = reactor::adopt(args.questions).map_err(Error::io("take the line to the master"))?;
    let line = questions.try_clone().map_err(Error::io("copy the line to the master"))?;
    let line = Arc::new(Line::new(line));
    let locks = locks(args, settings).map_err(Error::io("map the locks"))?;
    let engine = Engine::new(Boot {
        worker_id: args.worker_id,
        life: args.life,
        cores: settings.workers.cores,
        waiting: settings.limits.waiting,
        cancel_on_disconnect: settings.app.cancel_on_disconnect,
        limit: some(settings.timeouts.request),
        graceful: settings.timeouts.graceful,
        has_threads,
        wear: wear::limit(settings.workers.max_requests, args.worker_id, args.life),
        access: logging::access_style(&settings.log),
        rules: settings.into(),
        wire: settings.into(),
        board: Arc::new(board.map_err(Error::io("map the board"))?),
        locks: Arc::clone(&locks),
        line: Arc::clone(&line),
    })?;
    let doors = wire::door::adopt(doors, settings);
    let (doors, ears) = doors.map_err(Error::io("take the doors of the uwsgi protocol"))?;
    engine.open_doors(doors, ears);
    Ok(Begun { engine, locks, questions, line })
}

fn locks(args: &RunArgs, settings: &Settings) -> io::Result<Arc<Locks>> {
    let (table, bell) = (reactor::adopt(args.locks)?, reactor::adopt(args.lock_bell)?);
    let me = Holder::new(args.worker_id, args.life);
    Ok(Arc::new(Locks::open(table, bell, me, settings.workers.locks)?))
}

impl Begun {
    /// Starts the thread that watches the loop. `ledger`: the signals of the application, of which the master hears now.
    pub fn watch(
        self,
        settings: &Settings,
        ledger: Arc<Ledger>,
        host: impl Watched + 'static,
    ) -> Result<Watch, Error> {
        ledger.connect(self.line, self.engine.remote());
        let post = Post {
            worker: self.engine.worker_id(),
            roll: Arc::clone(self.engine.roll()),
            remote: self.engine.remote(),
            ledger,
            questions: self.questions,
            stall: some(settings.timeouts.stall),
            limit: some(settings.timeouts.request),
        };
        Watch::start(post, host).map_err(Error::io("start the watch thread"))
    }
}

fn some(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

/// The worker's unix socket, and its own listener if it has one.
pub fn listeners(args: &RunArgs, settings: &Settings) -> Result<Vec<Listener>, Error> {
    Ok([socket(args)?].into_iter().chain(native_listener(args, settings)?).collect())
}

/// The worker's unix socket.
pub fn socket(args: &RunArgs) -> Result<Listener, Error> {
    let socket = reactor::adopt(args.socket).and_then(Listener::worker);
    socket.map_err(Error::io("listen on the worker's socket"))
}

/// The worker's own listener, if it has one.
pub fn native_listener(args: &RunArgs, settings: &Settings) -> Result<Option<Listener>, Error> {
    let listen = |address| {
        let native = Listener::native(address, settings.limits.backlog);
        native.map_err(|source| Error::Native { address, source })
    };
    native_address(args, settings).map(listen).transpose()
}

/// Where it is.
pub fn native_address(args: &RunArgs, settings: &Settings) -> Option<SocketAddr> {
    // The configuration was checked: base port + number of workers is a port.
    let port = settings.native.base_port?.saturating_add(u16::try_from(args.worker_id).unwrap_or(u16::MAX));
    Some(SocketAddr::new(settings.native.address, port))
}

/// The exit code of a worker that has ended so; an error is logged.
pub fn exit_code(worker: u32, ended: Result<(), Error>) -> i32 {
    Caches::here().close();
    match ended {
        Ok(()) => EXIT_DONE,
        Err(error @ (Error::Native { .. } | Error::Application(_))) => {
            tracing::error!(worker, "{error}");
            EXIT_BOOT
        }
        Err(error) => {
            tracing::error!(worker, "{error}");
            EXIT_FAILED
        }
    }
}
