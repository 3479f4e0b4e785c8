//! What an application on a core may ask of the engine, and what a host may: all of it short, none of it calls back.
use super::access::End;
use super::{Due, Engine, Place, WHOLE};
use crate::answer::Cause;
use crate::board;
use crate::conn::{BodyRead, FileSent, Outcome, Sent};
use crate::cores::CoreId;
use crate::inbox::Remote;
use crate::reactor;
use crate::report::News;
use crate::timers::TimerId;
use crate::waits::WaitId;
use std::cell::Ref;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Engine {
    /// Where the answer of a request goes; nowhere for one that has ended its response, and for an errand.
    pub(super) fn place_of(&self, core: CoreId) -> Option<Place> {
        let alive = self.cores.borrow().is_live(core);
        let place = self.serving.borrow()[core.index as usize].filter(|_| alive).map(|serving| serving.place);
        place.filter(|&place| place != Place::NOWHERE)
    }

    /// Sends the head of an answer, or gives it back: on an HTTP/1.1 connection it is to leave in front of the beginning
    /// of the body, in one piece. `end`: no body follows.
    pub fn send_head(&self, core: CoreId, head: Vec<u8>, end: bool) -> Vec<u8> {
        let Some(Place { conn, stream }) = self.place_of(core) else { return head };
        if stream == WHOLE {
            return head;
        }
        self.on_link(conn, |link| link.send_head(stream, core, &head, end));
        Vec::new()
    }

    /// Sends an interim answer at once, or gives it back: on an HTTP/1.1 connection it is sent like other bytes. Only
    /// before the head of the answer.
    pub fn send_interim(&self, core: CoreId, head: Vec<u8>) -> Vec<u8> {
        let Some(Place { conn, stream }) = self.place_of(core) else { return head };
        if stream == WHOLE {
            return head;
        }
        self.on_link(conn, |link| link.send_interim(stream, core, &head));
        Vec::new()
    }

    /// Sends up to `count` bytes of a file from `offset` on, as they are, without reading them (`sendfile(2)`). Only what
    /// speaks HTTP/1.1 can.
    pub fn send_file(&self, core: CoreId, file: Arc<File>, offset: u64, count: usize) -> FileSent {
        let Some(Place { conn, stream }) = self.place_of(core) else { return FileSent::Gone };
        if stream != WHOLE {
            return FileSent::Unsupported;
        }
        self.tell(conn, |http, cx| http.conn.send_file(&file, offset, count, cx)).unwrap_or(FileSent::Gone)
    }

    /// Sends response bytes, as they go on the wire. `last`: they end the answer, if it is on a link. `Gone` also for a
    /// request that has ended.
    pub fn send(&self, core: CoreId, data: &[u8], last: bool) -> Sent {
        let Some(Place { conn, stream }) = self.place_of(core) else { return Sent::Gone };
        let sent = match stream {
            WHOLE => self.tell(conn, |http, cx| http.conn.send(data, cx)),
            _ => self.on_link(conn, |link| link.send(stream, core, data, last)),
        };
        sent.unwrap_or(Sent::Gone)
    }

    /// Reads on in the request's body: appends at most `max` bytes to `into`.
    pub fn read_body(&self, core: CoreId, into: &mut Vec<u8>, max: usize) -> BodyRead {
        let Some(Place { conn, stream }) = self.place_of(core) else { return BodyRead::GONE };
        let read = match stream {
            WHOLE => self.tell(conn, |http, cx| http.conn.read_body(into, max, cx)),
            _ => self.on_link(conn, |link| link.read_body(stream, core, into, max)),
        };
        read.unwrap_or(BodyRead::GONE)
    }

    /// Whether the client of this request can still receive something.
    pub fn is_connected(&self, core: CoreId) -> bool {
        let connected = self.place_of(core).and_then(|Place { conn, stream }| match stream {
            WHOLE => self.tell(conn, |http, _| http.conn.is_connected()),
            _ => self.on_link(conn, |link| link.is_connected(stream, core)),
        });
        connected.unwrap_or(false)
    }

    /// Whether all of this request's body has arrived, read or not.
    pub fn is_body_complete(&self, core: CoreId) -> bool {
        let complete = self.place_of(core).and_then(|Place { conn, stream }| match stream {
            WHOLE => self.tell(conn, |http, _| http.conn.is_body_complete()),
            _ => self.on_link(conn, |link| link.is_body_complete(stream, core)),
        });
        complete.unwrap_or(true)
    }

    /// The descriptor of the request's connection (uWSGI `connection_fd`), which all requests of a link share; it stays
    /// ours.
    pub fn connection_fd(&self, core: CoreId) -> Option<RawFd> {
        self.place_of(core).and_then(|Place { conn, stream }| match stream {
            WHOLE => self.tell(conn, |http, _| http.conn.stream().as_raw_fd()),
            _ => self.on_link(conn, |link| link.socket().as_raw_fd()),
        })
    }

    /// Ends the response here, although the request may run on (uWSGI `disconnect`): what was sent is flushed, an
    /// HTTP/1.1 connection is closed unless `outcome` keeps it, and nothing that the application sends later can reach anybody.
    pub fn disconnect(&self, core: CoreId, outcome: Outcome) {
        if let Some(place) = self.place_of(core) {
            self.end_response(core, place, outcome, Instant::now());
            let serving = self.serving.borrow_mut()[core.index as usize].take();
            if let Some(serving) = serving.filter(|_| place != Place::NOWHERE) {
                self.slot().count_latency(serving.arrived.elapsed());
            }
        }
    }

    /// Ends the response without flushing it: the client must see that it is not complete, and the proxy why.
    pub fn abort(&self, core: CoreId, cause: Cause) {
        match self.place_of(core) {
            Some(Place { conn, stream: WHOLE }) => self.tell(conn, |http, cx| {
                if let Some(line) = &mut http.line {
                    // The core may be the first to hear of it.
                    if http.conn.has_left() {
                        line.leave(cx.now);
                    }
                    line.abort(cause);
                }
                http.conn.abort(cx);
            }),
            Some(Place { conn, stream }) => self.on_link(conn, |link| link.abort(stream, core, cause)),
            None => None,
        };
    }

    /// The request on this core has ended, with such an answer. `failed` counts an exception of the application. Ignored
    /// if it had ended before.
    pub fn finish(&self, core: CoreId, outcome: Outcome, failed: bool) {
        let serving = match self.cores.borrow().is_live(core) {
            true => self.serving.borrow_mut()[core.index as usize].take(),
            false => return,
        };
        self.free_locks_of(core);
        self.cores.borrow_mut().release(core);
        self.deadlines.borrow_mut().forget(core);
        self.roll.leave(core);
        let slot = self.slot();
        if failed {
            slot.count_exception();
        }
        let now = self.note_time();
        let is_errand = serving.is_some_and(|serving| serving.place == Place::NOWHERE);
        board::add(&slot.requests, u64::from(!is_errand));
        if let Some(serving) = serving.filter(|_| !is_errand) {
            slot.count_latency(now.saturating_duration_since(serving.arrived));
            // Also while draining: the client was told so, and idle connections are closed a little later.
            self.end_response(core, serving.place, outcome, now);
        }
        self.publish_cores();
        if !is_errand && self.boot.wear == Some(slot.requests.load(Relaxed)) {
            // A master that is behind sees it on the board, a little later.
            let _ = self.boot.line.tell(&News::Worn);
        }
    }

    /// A request that ends keeps no lock, or others would wait for ever.
    fn free_locks_of(&self, core: CoreId) {
        let locks = self.boot.locks.release_all_of(core);
        if locks > 0 {
            let (who, _) = self.roll.describe(core, self.now.get());
            tracing::warn!(
                worker = self.boot.worker_id,
                locks,
                "{who} has ended with locks; they are free again"
            );
        }
    }

    fn end_response(&self, core: CoreId, Place { conn, stream }: Place, outcome: Outcome, now: Instant) {
        if stream != WHOLE {
            self.on_link(conn, |link| link.finish(stream, core, outcome));
            return;
        }
        let ended = self.tell(conn, |http, cx| {
            http.core = None;
            self.end_line(http, End::Answered(outcome), now);
            board::add(&self.slot().bytes_out, http.conn.take_bytes_out());
            (std::mem::take(&mut http.others), http.conn.finish(outcome == Outcome::Keep, cx))
        });
        if let Some((others, step)) = ended {
            others.into_iter().for_each(|core| self.wake(core));
            self.follow(conn, step);
        }
    }

    /// A core gives the loop back now.
    fn note_time(&self) -> Instant {
        let now = Instant::now();
        self.latest.set(now);
        now
    }

    /// The core gives the loop back until it is woken.
    pub fn park(&self, core: CoreId) {
        self.note_time();
        self.roll.set_running(None);
        self.cores.borrow_mut().park(core);
    }

    /// The core has the loop again, whoever resumed it.
    pub fn run_again(&self, core: CoreId) {
        self.roll.set_running(Some(core));
        self.cores.borrow_mut().run(core);
    }

    /// The core gives the loop back for one turn (uWSGI `schedule_fix`).
    pub fn again(&self, core: CoreId) {
        self.note_time();
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
