//! The loop engine: one turn is *poll → events → timers → waiting requests → the host's own turn → runnable cores*. It
//! owns the reactor, the connections, the cores and the timers; each is borrowed for one step only, never while the host
//! or an application runs. Everything public is called on the loop's thread, by the host or from inside an application.
use crate::app::{Host, Next, Request};
use crate::board::{self, Board, Slot, State};
use crate::conn::Rules;
use crate::cores::{CoreId, Cores};
use crate::deadlines::Deadlines;
use crate::error::Error;
use crate::inbox::Inbox;
use crate::listen::Listener;
use crate::reactor::{Event, Reactor, Source};
use crate::roll::Roll;
use crate::timers::{TimerId, Timers};
use crate::waits::Waits;
use appliance_link::StreamId;
use mio::Interest;
use mio::unix::SourceFd;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

mod access;
mod boot;
pub use access::Foreign;
pub use boot::Boot;
mod connections;
use connections::{Entry, Http, Way, entry};
mod dispatch;
mod drain;
mod errands;
mod house;
mod links;
mod overdue;
mod serving;
mod websockets;
mod wires;
use access::AccessLog;
use dispatch::Claims;
pub use drain::farewell;
pub use overdue::SENTENCE as OVERDUE;
use wires::Wires;

/// Connections accepted from one listener in one turn, so that a flood of them does not starve the others.
const ACCEPTS_PER_TURN: usize = 64;
/// One read from a socket.
const SCRATCH: usize = 64 * 1024;
/// Deadlines of connections, the date and the slow figures of the board are looked after this often.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// After a failed `accept` (usually out of descriptors) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// At most one line in this time says that no connection can be accepted.
const ACCEPT_WARNING: Duration = Duration::from_secs(60);
/// Names one connection; never the next one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

/// Where a request came from and its answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    conn: ConnId,
    /// A stream of a link, or [`WHOLE`].
    stream: StreamId,
}

/// An HTTP/1.1 connection serves one request at a time and has no streams. On a link, 0 is no stream either.
const WHOLE: StreamId = 0;

impl Place {
    /// Of an errand, which no connection has brought. No connection ever has this slot, so whatever is sent there is gone.
    pub(crate) const NOWHERE: Place = Place { conn: ConnId { slot: u32::MAX, generation: 0 }, stream: WHOLE };
}

/// What a core is doing, as the engine sees it.
#[derive(Clone, Copy, Debug)]
struct Serving {
    place: Place,
    arrived: Instant,
    /// It is a `HEAD`.
    head_only: bool,
}

enum Due {
    Core(CoreId),
    Housekeeping,
    Overdue,
    Accept(u32),
    Door(u32),
    Ear(u32),
    CloseIdle,
    Farewell,
    AccessLog,
}

/// Header fields that our proxy adds to a request, and the bytes they may take: what it lets through must pass here too.
const PROXY_FIELDS: usize = 16;
const PROXY_BYTES: usize = appliance_link::head::REQUEST_ROOM;

/// See the module.
pub struct Engine {
    boot: Boot,
    /// The same rules, with room for what the proxy adds.
    proxied: Rules,
    reactor: RefCell<Reactor>,
    listeners: RefCell<Vec<Listener>>,
    conns: RefCell<Slab<Entry>>,
    wires: RefCell<Wires>,
    cores: RefCell<Cores<Request>>,
    serving: RefCell<Vec<Option<Serving>>>,
    timers: RefCell<Timers<Due>>,
    deadlines: RefCell<Deadlines>,
    /// When requests are next looked after that are overdue.
    alarm: Cell<Option<(Instant, TimerId)>>,
    /// They have been given a moment more, because the loop was kept from what they waited for.
    is_patient: Cell<bool>,
    roll: Arc<Roll>,
    waits: RefCell<Waits>,
    pending: RefCell<Vec<ConnId>>,
    claims: RefCell<Claims>,
    /// Cores whose clients have left, of which the host has not heard.
    left: RefCell<Vec<CoreId>>,
    /// Links that have something to send at the end of this turn.
    unsent: RefCell<Vec<ConnId>>,
    scratch: RefCell<Box<[u8]>>,
    generation: Cell<u32>,
    /// Requests that applications have been entered with.
    begun: Cell<u64>,
    /// When this turn began.
    now: Cell<Instant>,
    /// When a core last gave the loop back.
    latest: Cell<Instant>,
    /// When the links were last flushed.
    flushed: Cell<Instant>,
    date: RefCell<Vec<u8>>,
    draining: Cell<bool>,
    /// So much of its time is over that nobody is waited for any more who has no request.
    parts: Cell<bool>,
    signals: RefCell<Option<mio::net::UnixStream>>,
    inbox: Inbox,
    /// Listeners, one bit each, that try to accept again when their timer fires.
    resting: Cell<u32>,
    accept_warned: Cell<Option<Instant>>,
    access: RefCell<AccessLog>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("worker", &self.boot.worker_id).finish_non_exhaustive()
    }
}

impl Engine {
    /// A new engine, in the process that will run it (its epoll instance must not be shared over a fork).
    pub fn new(boot: Boot) -> Result<Rc<Engine>, Error> {
        let now = Instant::now();
        let cores = Cores::new(boot.cores);
        let all = cores.all() as u32;
        let reactor = Reactor::new().map_err(Error::io("make an epoll instance"))?;
        let waker = reactor.waker().map_err(Error::io("make a waker"))?;
        let bell = boot.locks.bell().as_raw_fd();
        let watched = reactor.watch_for(&mut SourceFd(&bell), Source::Locks, Interest::READABLE);
        watched.map_err(Error::io("watch the bell of the locks"))?;
        let mut proxied = boot.rules.clone();
        proxied.head.headers += PROXY_FIELDS;
        proxied.head.header_bytes += PROXY_BYTES;
        let engine = Engine {
            reactor: RefCell::new(reactor),
            listeners: RefCell::default(),
            conns: RefCell::default(),
            wires: RefCell::new(Wires::new(boot.wire)),
            cores: RefCell::new(cores),
            serving: RefCell::new(vec![None; all as usize]),
            timers: RefCell::default(),
            deadlines: RefCell::new(Deadlines::new(all)),
            alarm: Cell::new(None),
            is_patient: Cell::new(false),
            roll: Arc::new(Roll::new(all, boot.has_threads, now)),
            waits: RefCell::default(),
            pending: RefCell::default(),
            claims: RefCell::default(),
            left: RefCell::default(),
            unsent: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            generation: Cell::new(0),
            begun: Cell::new(0),
            now: Cell::new(now),
            latest: Cell::new(now),
            flushed: Cell::new(now),
            date: RefCell::default(),
            draining: Cell::new(false),
            parts: Cell::new(false),
            signals: RefCell::default(),
            inbox: Inbox::new(waker),
            resting: Cell::new(0),
            accept_warned: Cell::new(None),
            access: RefCell::new(AccessLog::new(boot.access)),
            proxied,
            boot,
        };
        engine.slot().claim(std::process::id(), engine.boot.life, engine.boot.cores);
        engine.refresh_date();
        engine.timers.borrow_mut().add(now + HOUSEKEEPING, Due::Housekeeping);
        Ok(Rc::new(engine))
    }

    /// Number of this worker, from 1.
    pub fn worker_id(&self) -> u32 {
        self.boot.worker_id
    }

    /// The board that all workers share.
    pub fn board(&self) -> &Arc<Board> {
        &self.boot.board
    }

    fn slot(&self) -> &Slot {
        self.boot.board.slot(self.boot.worker_id, self.boot.life)
    }

    /// Serves until the process is told to stop (SIGTERM) and the last request has ended. `ready` is called just before
    /// the first connection is accepted.
    pub fn run(&self, host: &dyn Host, listeners: Vec<Listener>, ready: impl FnOnce()) -> Result<(), Error> {
        self.watch_signals().map_err(Error::io("watch for signals"))?;
        self.slot().set_state(State::Ready);
        ready();
        for (index, mut listener) in (0..).zip(listeners) {
            let reactor = self.reactor.borrow();
            listener.watch(&reactor, Source::Listener(index)).map_err(Error::io("watch a listener"))?;
            self.listeners.borrow_mut().push(listener);
        }
        self.watch_doors().map_err(Error::io("watch a listener of the uwsgi protocol"))?;
        let mut events = Vec::new();
        while !self.is_done(host) {
            self.turn(host, &mut events)?;
        }
        self.flush_access_log();
        self.inbox.close();
        self.slot().set_state(State::Dead);
        Ok(())
    }

    fn turn(&self, host: &dyn Host, events: &mut Vec<Event>) -> Result<(), Error> {
        self.wait(host, events)?;
        let started = Instant::now();
        [&self.now, &self.latest, &self.flushed].iter().for_each(|clock| clock.set(started));
        self.slot().tick_ms.store(board::monotonic_ms(), Relaxed);
        for event in events.drain(..) {
            self.on_event(host, event);
        }
        self.fire_timers(host);
        self.advance_pending(host);
        self.enter_announced(host);
        self.start_waiting(host);
        host.turn();
        self.resume_runnable(host);
        self.end_overdue(host);
        self.tell_who_left(host);
        self.flush_links();
        self.tend_access_log();
        self.slot().lag_us.store(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        Ok(())
    }

    fn wait(&self, host: &dyn Host, events: &mut Vec<Event>) -> Result<(), Error> {
        self.poll(host, self.timeout(host), events)
    }

    fn poll(&self, host: &dyn Host, timeout: Option<Duration>, events: &mut Vec<Event>) -> Result<(), Error> {
        let mut result = Ok(());
        host.poll(timeout != Some(Duration::ZERO), &mut || {
            self.roll.turn_over();
            result = self.reactor.borrow_mut().poll(timeout);
            self.roll.turn_over();
        });
        result.map_err(Error::io("wait for events"))?;
        self.reactor.borrow_mut().take_events(events);
        Ok(())
    }

    /// One wait outside of [`Engine::run`], for a host that runs its own loop before the worker serves.
    pub fn poll_once(&self, host: &dyn Host, timeout: Option<Duration>) -> Result<(), Error> {
        let mut events = Vec::new();
        self.poll(host, timeout, &mut events)?;
        events.into_iter().for_each(|event| self.on_event(host, event));
        Ok(())
    }

    fn timeout(&self, host: &dyn Host) -> Option<Duration> {
        let can_go_on = {
            let cores = self.cores.borrow();
            cores.runnable() > 0 || cores.can_start()
        };
        if can_go_on || !self.pending.borrow().is_empty() || !self.left.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        let own =
            self.timers.borrow_mut().nearest().map(|when| when.saturating_duration_since(Instant::now()));
        match host.next() {
            Next::Now => Some(Duration::ZERO),
            Next::In(duration) => Some(own.map_or(duration, |own| own.min(duration))),
            Next::Never => own,
        }
    }

    fn on_event(&self, host: &dyn Host, event: Event) {
        match event.source {
            Source::Listener(index) => self.accept(host, index),
            Source::Conn(slot, generation) => self.on_conn_event(host, ConnId { slot, generation }, event),
            Source::Host(fd) => host.on_fd(fd, event.readable, event.writable),
            Source::Wait(slot, generation) => {
                if let Some(core) = self.waits.borrow_mut().fire(slot, generation) {
                    self.wake(core);
                }
            }
            Source::Signal => self.drain(host),
            Source::Inbox => self.look_into_inbox(),
            Source::Door(index) => self.answer_door(index),
            Source::Ear(index) => self.listen(index),
            Source::Wire(slot, generation) => self.on_wire_event(slot, generation, event),
            Source::Locks => self.boot.locks.on_bell(),
        }
    }

    fn fire_timers(&self, host: &dyn Host) {
        loop {
            let due = self.timers.borrow_mut().take_due(self.now.get());
            match due {
                None => return,
                Some(Due::Core(core)) => self.wake(core),
                Some(Due::Housekeeping) => self.keep_house(host),
                // It is looked after at the end of the turn.
                Some(Due::Overdue) => {}
                Some(Due::Accept(index)) => {
                    self.resting.set(self.resting.get() & !(1 << index));
                    self.accept(host, index);
                }
                Some(Due::Door(index)) => self.answer_door(index),
                Some(Due::Ear(index)) => self.listen(index),
                Some(Due::CloseIdle) => self.close_idle(),
                Some(Due::Farewell) => self.say_farewell(host),
                Some(Due::AccessLog) => self.flush_access_log(),
            }
        }
    }

    fn advance_pending(&self, host: &dyn Host) {
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        for id in pending {
            self.advance(host, id);
        }
    }

    /// Cores that are woken meanwhile have their turn after the next poll, so that a busy one starves nobody.
    fn resume_runnable(&self, host: &dyn Host) {
        let runnable = self.cores.borrow().runnable();
        for _ in 0..runnable {
            let next = self.cores.borrow_mut().take_runnable();
            let Some(core) = next else { return };
            self.flush_if_late();
            self.roll.set_running(Some(core));
            host.resume(core);
            self.roll.set_running(None);
        }
    }

    fn watch_signals(&self) -> io::Result<()> {
        let (here, there) = StdUnixStream::pair()?;
        here.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, there)?;
        let mut here = mio::net::UnixStream::from_std(here);
        self.reactor.borrow().watch_for(&mut here, Source::Signal, Interest::READABLE)?;
        *self.signals.borrow_mut() = Some(here);
        Ok(())
    }
}
