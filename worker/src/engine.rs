//! The loop engine: one turn is *poll → events → timers → waiting requests → the host's own turn → runnable cores*. It
//! owns the reactor, the connections, the cores and the timers; each is borrowed for one step only, never while the host
//! or an application runs. Everything public is called on the loop's thread, by the host or from inside an application.
use crate::app::{Host, Next, Peer, Request};
use crate::board::{self, Board, Slot, State};
use crate::conn::{BodyRead, Conn, Context, Rules, Sent, Step};
use crate::cores::{CoreId, Cores};
use crate::error::Error;
use crate::inbox::{Inbox, Remote};
use crate::listen::{Listener, Socket};
use crate::reactor::{self, Event, Reactor, Source};
use crate::timers::{TimerId, Timers};
use crate::waits::{WaitId, Waits};
use slab::Slab;
use std::cell::{Cell, Ref, RefCell};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

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
/// A draining worker goes on answering on idle connections for this long, because a request may be on its way.
const IDLE_GRACE: Duration = Duration::from_millis(250);

/// Names one connection; never the next one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    conn: Conn<Socket>,
    peer: Rc<Peer>,
    generation: u32,
    core: Option<CoreId>,
}

/// What a core is doing, as the engine sees it.
#[derive(Clone, Copy, Debug)]
struct Serving {
    conn: ConnId,
    arrived: Instant,
}

enum Due {
    Core(CoreId),
    Housekeeping,
    Accept(u32),
    CloseIdle,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Boot {
    /// From 1.
    pub worker_id: u32,
    /// Generation of the reload that made it.
    pub generation: u32,
    /// Number of cores.
    pub cores: u32,
    /// Requests that may wait for a core.
    pub waiting: usize,
    /// What holds for every connection.
    pub rules: Rules,
    /// Where to publish.
    pub board: Board,
}

/// See the module.
pub struct Engine {
    boot: Boot,
    reactor: RefCell<Reactor>,
    listeners: RefCell<Vec<Listener>>,
    conns: RefCell<Slab<Entry>>,
    cores: RefCell<Cores<Request>>,
    serving: RefCell<Vec<Option<Serving>>>,
    timers: RefCell<Timers<Due>>,
    waits: RefCell<Waits>,
    pending: RefCell<Vec<ConnId>>,
    scratch: RefCell<Box<[u8]>>,
    generation: Cell<u32>,
    now: Cell<Instant>,
    date: RefCell<Vec<u8>>,
    draining: Cell<bool>,
    signals: RefCell<Option<mio::net::UnixStream>>,
    inbox: Inbox,
    /// Listeners, one bit each, that try to accept again when their timer fires.
    resting: Cell<u32>,
    accept_warned: Cell<Option<Instant>>,
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
        let cores = boot.cores;
        let reactor = Reactor::new().map_err(Error::io("make an epoll instance"))?;
        let waker = reactor.waker().map_err(Error::io("make a waker"))?;
        let engine = Engine {
            reactor: RefCell::new(reactor),
            listeners: RefCell::default(),
            conns: RefCell::default(),
            cores: RefCell::new(Cores::new(cores)),
            serving: RefCell::new(vec![None; cores as usize]),
            timers: RefCell::default(),
            waits: RefCell::default(),
            pending: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            generation: Cell::new(0),
            now: Cell::new(now),
            date: RefCell::default(),
            draining: Cell::new(false),
            signals: RefCell::default(),
            inbox: Inbox::new(waker),
            resting: Cell::new(0),
            accept_warned: Cell::new(None),
            boot,
        };
        engine.slot().claim(std::process::id(), engine.boot.generation, cores);
        engine.refresh_date();
        engine.timers.borrow_mut().add(now + HOUSEKEEPING, Due::Housekeeping);
        Ok(Rc::new(engine))
    }

    /// Number of this worker, from 1.
    pub fn worker_id(&self) -> u32 {
        self.boot.worker_id
    }

    /// The board that all workers share.
    pub fn board(&self) -> &Board {
        &self.boot.board
    }

    fn slot(&self) -> &Slot {
        self.boot.board.slot(self.boot.worker_id, self.boot.generation)
    }

    // ---- the loop ------------------------------------------------------------------------------------------------

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
        let mut events = Vec::new();
        while !self.is_done() {
            self.turn(host, &mut events)?;
        }
        self.slot().set_state(State::Dead);
        Ok(())
    }

    fn turn(&self, host: &dyn Host, events: &mut Vec<Event>) -> Result<(), Error> {
        self.wait(host, events)?;
        let started = Instant::now();
        self.now.set(started);
        self.slot().tick_ms.store(board::monotonic_ms(), Relaxed);
        for event in events.drain(..) {
            self.on_event(host, event);
        }
        self.fire_timers(host);
        self.advance_pending(host);
        self.start_waiting(host);
        host.turn();
        self.resume_runnable(host);
        self.slot().lag_us.store(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        Ok(())
    }

    fn wait(&self, host: &dyn Host, events: &mut Vec<Event>) -> Result<(), Error> {
        self.poll(host, self.timeout(host), events)
    }

    fn poll(&self, host: &dyn Host, timeout: Option<Duration>, events: &mut Vec<Event>) -> Result<(), Error> {
        let mut result = Ok(());
        host.poll(timeout != Some(Duration::ZERO), &mut || result = self.reactor.borrow_mut().poll(timeout));
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
        let cores = self.cores.borrow();
        if cores.runnable() > 0 || cores.can_start() || !self.pending.borrow().is_empty() {
            return Some(Duration::ZERO);
        }
        drop(cores);
        let own =
            self.timers.borrow_mut().nearest().map(|when| when.saturating_duration_since(Instant::now()));
        match host.next() {
            Next::Now => Some(Duration::ZERO),
            Next::In(duration) => Some(own.map_or(duration, |own| own.min(duration))),
            Next::Never => own,
        }
    }

    fn is_done(&self) -> bool {
        self.draining.get() && self.conns.borrow().is_empty() && self.cores.borrow().busy() == 0
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
            Source::Signal => self.drain(),
            Source::Inbox => self.inbox.take().into_iter().for_each(|core| self.wake(core)),
        }
    }

    fn fire_timers(&self, host: &dyn Host) {
        loop {
            let due = self.timers.borrow_mut().take_due(self.now.get());
            match due {
                None => return,
                Some(Due::Core(core)) => self.wake(core),
                Some(Due::Housekeeping) => self.keep_house(host),
                Some(Due::Accept(index)) => {
                    self.resting.set(self.resting.get() & !(1 << index));
                    self.accept(host, index);
                }
                Some(Due::CloseIdle) => self.close_idle(),
            }
        }
    }

    fn advance_pending(&self, host: &dyn Host) {
        let pending = std::mem::take(&mut *self.pending.borrow_mut());
        for id in pending {
            self.with_conn(host, id, |conn, cx| conn.advance(cx));
        }
    }

    fn start_waiting(&self, host: &dyn Host) {
        loop {
            let next = self.cores.borrow_mut().take_waiting();
            let Some((core, request)) = next else { return };
            self.enter(host, core, request);
        }
    }

    /// Cores that are woken meanwhile have their turn after the next poll, so that a busy one starves nobody.
    fn resume_runnable(&self, host: &dyn Host) {
        let runnable = self.cores.borrow().runnable();
        for _ in 0..runnable {
            let next = self.cores.borrow_mut().take_runnable();
            match next {
                Some(core) => host.resume(core),
                None => return,
            }
        }
    }

    // ---- connections ---------------------------------------------------------------------------------------------

    fn accept(&self, host: &dyn Host, index: u32) {
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match self.listeners.borrow().get(index as usize) {
                Some(listener) => listener.accept(),
                None => return,
            };
            match accepted {
                Ok((socket, peer)) => self.add_conn(host, socket, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => return self.rest_from_accepting(index, &error),
            }
        }
        // More may wait, and an edge-triggered listener does not say so twice: on with it in the next turn.
        self.timers.borrow_mut().add(self.now.get() + Duration::from_micros(1), Due::Accept(index));
    }

    /// Usually out of descriptors: each listener tries again with one timer, and one line a minute says why.
    fn rest_from_accepting(&self, index: u32, error: &io::Error) {
        let now = self.now.get();
        if self.accept_warned.get().is_none_or(|last| now >= last + ACCEPT_WARNING) {
            self.accept_warned.set(Some(now));
            tracing::warn!(worker = self.boot.worker_id, %error, "cannot accept connections; trying again");
        }
        let bit = 1 << index;
        if self.resting.get() & bit == 0 {
            self.resting.set(self.resting.get() | bit);
            self.timers.borrow_mut().add(now + ACCEPT_PAUSE, Due::Accept(index));
        }
    }

    fn add_conn(&self, host: &dyn Host, socket: Socket, peer: Rc<Peer>) {
        let generation = Source::generation(self.generation.get().wrapping_add(1));
        self.generation.set(generation);
        let conn = Conn::new(socket, &self.boot.rules, self.now.get());
        let id = {
            let mut conns = self.conns.borrow_mut();
            let slot = conns.insert(Entry { conn, peer, generation, core: None });
            let id = ConnId { slot: slot as u32, generation };
            let socket = conns[slot].conn.stream();
            if let Err(error) = socket.watch(&self.reactor.borrow(), Source::Conn(id.slot, generation)) {
                tracing::warn!(worker = self.boot.worker_id, %error, "cannot watch a connection; it is dropped");
                conns.remove(slot);
                return;
            }
            self.slot().connections.store(conns.len() as u32, Relaxed);
            id
        };
        // What came with the connection is read now, without waiting for its first event.
        self.with_conn(host, id, |conn, cx| conn.advance(cx));
    }

    fn on_conn_event(&self, host: &dyn Host, id: ConnId, event: Event) {
        if event.writable {
            self.with_conn(host, id, |conn, cx| conn.on_writable(cx));
        }
        if event.readable {
            let hung_up = event.hung_up;
            self.with_conn(host, id, |conn, cx| conn.on_readable(hung_up, cx));
        }
        if event.gone {
            self.with_conn(host, id, |conn, _| conn.on_gone());
            self.forget_if_waiting(id);
        }
    }

    /// Tells a connection something and does what it answers.
    fn with_conn(
        &self,
        host: &dyn Host,
        id: ConnId,
        tell: impl FnOnce(&mut Conn<Socket>, &mut Context<'_>) -> Step,
    ) {
        let step = self.tell(id, |entry, cx| tell(&mut entry.conn, cx));
        if let Some(received) = step.and_then(|step| self.follow(id, step)) {
            self.dispatch(host, id, *received);
        }
    }

    fn tell<T>(&self, id: ConnId, tell: impl FnOnce(&mut Entry, &mut Context<'_>) -> T) -> Option<T> {
        let mut conns = self.conns.borrow_mut();
        let entry = entry(&mut conns, id)?;
        let mut scratch = self.scratch.borrow_mut();
        let date = self.date.borrow();
        Some(tell(
            entry,
            &mut Context { rules: &self.boot.rules, scratch: &mut scratch, now: self.now.get(), date: &date },
        ))
    }

    /// Does what a connection asked for, but for running a request, which is handed back.
    fn follow(&self, id: ConnId, step: Step) -> Option<Box<crate::app::Received>> {
        match step {
            Step::Wait => {}
            Step::Run(received) => return Some(received),
            Step::More => self.pending.borrow_mut().push(id),
            Step::Wake => {
                let core = entry(&mut self.conns.borrow_mut(), id).and_then(|entry| entry.core);
                if let Some(core) = core {
                    self.wake(core);
                }
            }
            Step::Drop => self.remove_conn(id),
        }
        None
    }

    fn remove_conn(&self, id: ConnId) {
        let mut conns = self.conns.borrow_mut();
        if entry(&mut conns, id).is_some() {
            let mut entry = conns.remove(id.slot as usize);
            board::add(&self.slot().bytes_out, entry.conn.take_bytes_out());
            self.slot().connections.store(conns.len() as u32, Relaxed);
        }
    }

    /// A client that has left does not wait for a core.
    fn forget_if_waiting(&self, id: ConnId) {
        let waits = entry(&mut self.conns.borrow_mut(), id).is_some_and(|entry| entry.core.is_none());
        if waits {
            let mut cores = self.cores.borrow_mut();
            cores.retain_waiting(|request| request.conn != id);
            self.slot().waiting.store(cores.waiting() as u32, Relaxed);
            drop(cores);
            self.remove_conn(id);
        }
    }

    fn dispatch(&self, host: &dyn Host, id: ConnId, received: crate::app::Received) {
        let peer = match entry(&mut self.conns.borrow_mut(), id) {
            Some(entry) => Rc::clone(&entry.peer),
            None => return,
        };
        let request = Request { received, peer, arrived: self.now.get(), conn: id };
        let mut cores = self.cores.borrow_mut();
        if cores.waiting() == 0
            && let Some(core) = cores.claim()
        {
            drop(cores);
            return self.enter(host, core, request);
        }
        if cores.waiting() < self.boot.waiting {
            cores.push_waiting(request);
            self.slot().waiting.store(cores.waiting() as u32, Relaxed);
            return;
        }
        drop(cores);
        tracing::warn!(worker = self.boot.worker_id, "every core is busy and limits.waiting is reached: 503");
        let sentence = "every core is busy; try again in a moment";
        if let Some(step) = self.tell(id, |entry, cx| entry.conn.reject(503, sentence, cx)) {
            self.follow(id, step);
        }
    }

    fn enter(&self, host: &dyn Host, core: CoreId, request: Request) {
        if let Some(entry) = entry(&mut self.conns.borrow_mut(), request.conn) {
            entry.core = Some(core);
        }
        self.serving.borrow_mut()[core.index as usize] =
            Some(Serving { conn: request.conn, arrived: request.arrived });
        self.publish_cores();
        host.start(core, request);
    }

    fn publish_cores(&self) {
        let cores = self.cores.borrow();
        self.slot().busy.store(cores.busy() as u32, Relaxed);
        self.slot().waiting.store(cores.waiting() as u32, Relaxed);
    }

    // ---- for cores -----------------------------------------------------------------------------------------------

    fn conn_of(&self, core: CoreId) -> Option<ConnId> {
        let alive = self.cores.borrow().is_live(core);
        self.serving.borrow()[core.index as usize].filter(|_| alive).map(|serving| serving.conn)
    }

    /// Sends response bytes, as they go on the wire. `Gone` also for a request that has ended.
    pub fn send(&self, core: CoreId, data: &[u8]) -> Sent {
        let sent = self.conn_of(core).and_then(|id| self.tell(id, |entry, cx| entry.conn.send(data, cx)));
        sent.unwrap_or(Sent::Gone)
    }

    /// Reads on in the request's body: appends at most `max` bytes to `into`.
    pub fn read_body(&self, core: CoreId, into: &mut Vec<u8>, max: usize) -> BodyRead {
        let read =
            self.conn_of(core).and_then(|id| self.tell(id, |entry, cx| entry.conn.read_body(into, max, cx)));
        read.unwrap_or(BodyRead::Cut("the client left before the request body was complete"))
    }

    /// Whether the client of this request can still receive something.
    pub fn is_connected(&self, core: CoreId) -> bool {
        let id = self.conn_of(core);
        id.and_then(|id| entry(&mut self.conns.borrow_mut(), id).map(|entry| entry.conn.is_connected()))
            .unwrap_or(false)
    }

    /// Whether all of this request's body has arrived, read or not.
    pub fn is_body_complete(&self, core: CoreId) -> bool {
        let id = self.conn_of(core);
        id.and_then(|id| entry(&mut self.conns.borrow_mut(), id).map(|entry| entry.conn.is_body_complete()))
            .unwrap_or(true)
    }

    /// The descriptor of the request's connection (uWSGI `connection_fd`); it stays ours.
    pub fn connection_fd(&self, core: CoreId) -> Option<RawFd> {
        let id = self.conn_of(core)?;
        entry(&mut self.conns.borrow_mut(), id).map(|entry| entry.conn.stream().as_raw_fd())
    }

    /// Ends the response here, although the request may run on (uWSGI `disconnect`): what was sent is flushed, the
    /// connection is closed, and nothing that the application sends later can reach anybody.
    pub fn disconnect(&self, core: CoreId) {
        if let Some(id) = self.conn_of(core) {
            self.end_response(id, false);
            self.serving.borrow_mut()[core.index as usize] = None;
        }
    }

    /// Drops the connection without flushing: the client must see that the response is not complete.
    pub fn abort(&self, core: CoreId) {
        if let Some(id) = self.conn_of(core)
            && let Some(entry) = entry(&mut self.conns.borrow_mut(), id)
        {
            entry.conn.abort();
        }
    }

    /// The request on this core has ended; with `keep` its connection may be used for the next one. `failed` counts an
    /// exception of the application. Ignored if it had ended before.
    pub fn finish(&self, core: CoreId, keep: bool, failed: bool) {
        let serving = match self.cores.borrow().is_live(core) {
            true => self.serving.borrow_mut()[core.index as usize].take(),
            false => return,
        };
        self.cores.borrow_mut().release(core);
        let slot = self.slot();
        board::add(&slot.requests, 1);
        board::add(&slot.exceptions, u64::from(failed));
        if let Some(serving) = serving {
            let millis = serving.arrived.elapsed().as_millis();
            slot.count_latency(u64::try_from(millis).unwrap_or(u64::MAX));
            // Also while draining: the client was told so, and idle connections are closed a little later.
            self.end_response(serving.conn, keep);
        }
        self.publish_cores();
    }

    fn end_response(&self, id: ConnId, keep: bool) {
        let step = self.tell(id, |entry, cx| {
            entry.core = None;
            board::add(&self.slot().bytes_out, entry.conn.take_bytes_out());
            entry.conn.finish(keep, cx)
        });
        if let Some(step) = step {
            self.follow(id, step);
        }
    }

    /// The core gives the loop back until it is woken.
    pub fn park(&self, core: CoreId) {
        self.cores.borrow_mut().park(core);
    }

    /// The core has the loop again, whoever resumed it.
    pub fn run_again(&self, core: CoreId) {
        self.cores.borrow_mut().run(core);
    }

    /// The core gives the loop back for one turn (uWSGI `schedule_fix`).
    pub fn again(&self, core: CoreId) {
        self.cores.borrow_mut().again(core);
    }

    /// Puts a parked core on the run queue.
    pub fn wake(&self, core: CoreId) {
        self.cores.borrow_mut().wake(core);
    }

    /// An end for other threads, with which they can wake cores.
    pub fn remote(&self) -> Remote {
        self.inbox.remote()
    }

    /// Wakes a core at `when`.
    pub fn wake_at(&self, core: CoreId, when: Instant) -> TimerId {
        self.timers.borrow_mut().add(when, Due::Core(core))
    }

    /// Takes a timer back.
    pub fn cancel_timer(&self, id: TimerId) {
        self.timers.borrow_mut().cancel(id);
    }

    /// Wakes a core when a descriptor is ready. The descriptor is duplicated, so its owner may close it meanwhile.
    pub fn wake_on_fd(&self, core: CoreId, fd: RawFd, interest: mio::Interest) -> io::Result<WaitId> {
        self.waits.borrow_mut().add(&self.reactor.borrow(), core, reactor::duplicate(fd)?, interest)
    }

    /// Whether what was waited for has happened.
    pub fn wait_fired(&self, id: WaitId) -> bool {
        self.waits.borrow().fired(id)
    }

    /// Ends a wait for a descriptor.
    pub fn cancel_wait(&self, id: WaitId) {
        self.waits.borrow_mut().cancel(&self.reactor.borrow(), id);
    }

    /// The value of a `Date` header field, at most a second old.
    pub fn date(&self) -> Ref<'_, Vec<u8>> {
        self.date.borrow()
    }

    /// Whether the worker has been told to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    // ---- for the host --------------------------------------------------------------------------------------------

    /// Starts to watch a descriptor of the host, level-triggered; it is reported to [`Host::on_fd`].
    pub fn host_watch(&self, fd: BorrowedFd<'_>, readable: bool, writable: bool) -> io::Result<()> {
        self.reactor.borrow().host_watch(fd, readable, writable)
    }

    /// Changes what is watched.
    pub fn host_change(&self, fd: BorrowedFd<'_>, readable: bool, writable: bool) -> io::Result<()> {
        self.reactor.borrow().host_change(fd, readable, writable)
    }

    /// Stops to watch.
    pub fn host_unwatch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.reactor.borrow().host_unwatch(fd)
    }

    // ---- life ----------------------------------------------------------------------------------------------------

    fn watch_signals(&self) -> io::Result<()> {
        let (here, there) = StdUnixStream::pair()?;
        here.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, there)?;
        let mut here = mio::net::UnixStream::from_std(here);
        self.reactor.borrow().watch_for(&mut here, Source::Signal, mio::Interest::READABLE)?;
        *self.signals.borrow_mut() = Some(here);
        Ok(())
    }

    /// No new connections; what runs is finished.
    fn drain(&self) {
        if self.draining.replace(true) {
            return;
        }
        self.slot().set_state(State::Draining);
        tracing::debug!(worker = self.boot.worker_id, "draining");
        for mut listener in self.listeners.borrow_mut().drain(..) {
            // The master holds the same socket, so closing our descriptor would not take it out of our epoll instance.
            if let Err(error) = listener.unwatch(&self.reactor.borrow()) {
                tracing::warn!(worker = self.boot.worker_id, %error, "cannot stop watching a listener");
            }
        }
        self.timers.borrow_mut().add(self.now.get() + IDLE_GRACE, Due::CloseIdle);
    }

    fn close_idle(&self) {
        let (rules, now) = (&self.boot.rules, self.now.get());
        let is_over = |since: Instant| since + IDLE_GRACE <= now;
        self.conns.borrow_mut().retain(|_, entry| !entry.conn.idle_since(rules).is_some_and(is_over));
        self.slot().connections.store(self.conns.borrow().len() as u32, Relaxed);
        self.timers.borrow_mut().add(self.now.get() + IDLE_GRACE, Due::CloseIdle);
    }

    fn keep_house(&self, host: &dyn Host) {
        let now = self.now.get();
        self.timers.borrow_mut().add(now + HOUSEKEEPING, Due::Housekeeping);
        self.refresh_date();
        self.slot().rss_kib.store(board::resident_kib(), Relaxed);
        let late: Vec<ConnId> = (self.conns.borrow().iter())
            .filter(|(_, entry)| entry.conn.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(slot, entry)| ConnId { slot: slot as u32, generation: entry.generation })
            .collect();
        for id in late {
            self.with_conn(host, id, |conn, cx| conn.on_deadline(cx));
        }
    }

    fn refresh_date(&self) {
        *self.date.borrow_mut() = httpdate::fmt_http_date(std::time::SystemTime::now()).into_bytes();
    }
}

fn entry(conns: &mut Slab<Entry>, id: ConnId) -> Option<&mut Entry> {
    conns.get_mut(id.slot as usize).filter(|entry| entry.generation == id.generation)
}
