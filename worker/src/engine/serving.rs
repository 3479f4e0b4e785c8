//! What an application on a core may ask of the engine, and what a host may: all of it short, none of it calls back.
use super::{ConnId, Due, Engine, entry};
use crate::board;
use crate::conn::{BodyRead, Conn, Sent};
use crate::cores::CoreId;
use crate::inbox::Remote;
use crate::listen::Socket;
use crate::reactor;
use crate::timers::TimerId;
use crate::waits::WaitId;
use std::cell::Ref;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Instant;

impl Engine {
    fn conn_of(&self, core: CoreId) -> Option<ConnId> {
        let alive = self.cores.borrow().is_live(core);
        self.serving.borrow()[core.index as usize].filter(|_| alive).map(|serving| serving.conn)
    }

    /// Asks the connection of a request something; `None` if either is over.
    fn on_conn<T>(&self, core: CoreId, ask: impl FnOnce(&mut Conn<Socket>) -> T) -> Option<T> {
        let id = self.conn_of(core)?;
        entry(&mut self.conns.borrow_mut(), id).map(|entry| ask(&mut entry.conn))
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
        self.on_conn(core, |conn| conn.is_connected()).unwrap_or(false)
    }

    /// Whether all of this request's body has arrived, read or not.
    pub fn is_body_complete(&self, core: CoreId) -> bool {
        self.on_conn(core, |conn| conn.is_body_complete()).unwrap_or(true)
    }

    /// The descriptor of the request's connection (uWSGI `connection_fd`); it stays ours.
    pub fn connection_fd(&self, core: CoreId) -> Option<RawFd> {
        self.on_conn(core, |conn| conn.stream().as_raw_fd())
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
        self.on_conn(core, Conn::abort);
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

    /// Starts to watch a descriptor of the host, level-triggered; it is reported to [`Host::on_fd`](crate::Host::on_fd).
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
}
