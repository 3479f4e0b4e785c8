//! One connection of the link, as the requests that travel on it see it: open a stream, wait for what comes, send a body.
//! `carrier.rs` moves the bytes; both share the state in here, and each lock is held for a few lines only. It must never
//! decide what a request's failure means; that is `relay.rs`'s and `retry.rs`'s business.
use crate::inbox::{End, Event, Inbox};
use crate::slots::Slots;
use appliance_link::frame::{self, HEADER, Kind, MOST_DATA};
use appliance_link::{Frame, Outbox, Reason, StreamId, Violation, stream};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;

/// Bytes that may wait to leave on one connection before bodies have to wait; heads and control frames do not.
const FULL: usize = 256 * 1024;
/// Bytes that may wait before there are no new requests either: a worker that does not read must not collect them here.
const CROWDED: usize = 4 * 1024 * 1024;

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This connection takes no more.
    Retired,
    /// The worker takes nothing at the moment.
    Crowded,
    /// The head is longer than it may be.
    TooLong,
}

/// One connection.
pub(crate) struct Line {
    state: Mutex<State>,
    /// It takes new streams. A hint for who looks without the lock; `open` asks again. The state's `retire` clears it.
    is_open: Arc<AtomicBool>,
}

struct State {
    outbox: Outbox,
    entries: Slots<Entry>,
    /// Bytes that we take on each stream before we have granted more, and that they do.
    ours: u32,
    theirs: u32,
    ended: Option<End>,
    /// Fired when no more streams may be opened here.
    retired: Option<oneshot::Sender<()>>,
    is_open: Arc<AtomicBool>,
    carrier: Option<Waker>,
    /// Streams that wait until less is waiting to leave, each once.
    blocked: Vec<StreamId>,
}

struct Entry {
    machine: stream::Stream,
    inbox: Inbox,
    waker: Option<Waker>,
    entered: bool,
    in_bulk: bool,
    is_blocked: bool,
    /// By the worker, which has forgotten the stream.
    was_reset: bool,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("is_open", &self.is_open).finish_non_exhaustive()
    }
}

impl Line {
    /// A connection whose two hellos have been exchanged. The receiver fires when it takes no more streams.
    pub(crate) fn new(ours: u32, theirs: u32) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (retired, is_retired) = oneshot::channel();
        let is_open = Arc::new(AtomicBool::new(true));
        let state = State {
            outbox: Outbox::default(),
            entries: Slots::new(),
            ours,
            theirs,
            ended: None,
            retired: Some(retired),
            is_open: is_open.clone(),
            carrier: None,
            blocked: Vec::new(),
        };
        (Arc::new(Self { state: Mutex::new(state), is_open }), is_retired)
    }

    /// Opens a stream with a `Request` frame whose payload `head` writes, at most `most` bytes.
    pub(crate) fn open(
        self: &Arc<Self>,
        flags: u8,
        most: usize,
        head: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Stream, Refusal> {
        let mut state = self.state();
        let state = &mut *state;
        if state.is_retired() {
            return Err(Refusal::Retired);
        }
        if state.outbox.len() >= CROWDED {
            return Err(Refusal::Crowded);
        }
        let Some(id) = state.entries.next_id() else {
            state.retire();
            return Err(Refusal::Retired);
        };
        let out = state.outbox.front();
        let at = frame::begin(out, Kind::Request, id, flags);
        head(out);
        if out.len() - at > HEADER + most {
            out.truncate(at);
            return Err(Refusal::TooLong);
        }
        frame::finish(out, at);
        state.entries.insert(Entry::new(id, flags & frame::END != 0, state.ours, state.theirs));
        state.wake_carrier();
        Ok(Stream { line: self.clone(), id })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it takes no new streams, and ends with its last one.
    pub(crate) fn retire(&self) {
        let mut state = self.state();
        state.retire();
        state.wake_carrier();
    }

    /// Whether it takes new streams.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Takes what one frame says. Frames of streams that are not there any more were on their way, and are dropped.
    pub(crate) fn receive(&self, frame: Frame<Bytes>) -> Result<(), Violation> {
        self.state().receive(frame)
    }

    /// Lends what is to leave to `write`, which says how many bytes it took; false when nothing waits. `waker` is called
    /// when there is something again.
    pub(crate) fn flush(&self, waker: &Waker, write: impl FnOnce(&Outbox) -> usize) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        if state.outbox.is_empty() {
            if !state.carrier.as_ref().is_some_and(|known| known.will_wake(waker)) {
                state.carrier = Some(waker.clone());
            }
            return false;
        }
        let taken = write(&state.outbox);
        let entries = &mut state.entries;
        state.outbox.advance(taken, |id| {
            if let Some(entry) = entries.get(id) {
                entry.in_bulk = false;
                entry.wake();
            }
        });
        if state.outbox.len() < FULL {
            for id in state.blocked.drain(..) {
                if let Some(entry) = entries.get(id) {
                    entry.is_blocked = false;
                    entry.wake();
                }
            }
        }
        true
    }

    /// Ends the connection for all its streams.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state();
        state.ended = Some(end);
        state.retire();
        state.outbox = Outbox::default();
        for entry in state.entries.iter_mut() {
            entry.inbox.give_last(Event::Lost(end));
            entry.wake();
        }
    }

    /// Whether it takes no more streams and has none left.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state();
        state.is_retired() && state.entries.is_empty() && state.outbox.is_empty()
    }
}

impl State {
    fn receive(&mut self, frame: Frame<Bytes>) -> Result<(), Violation> {
        match frame {
            Frame::Response { stream, end, head } => {
                let Some(entry) = self.entries.get(stream) else { return Ok(()) };
                let interim = appliance_link::head::Response::parse(&head)?.facts.status < 200;
                entry.machine.receive_head(interim, end)?;
                entry.inbox.give_head(head, interim, end);
                entry.wake();
            }
            Frame::Data { stream, end, bytes } => {
                let Some(entry) = self.entries.get(stream) else { return Ok(()) };
                entry.machine.receive_data(bytes.len(), end)?;
                entry.inbox.give_data(bytes, end);
                entry.wake();
            }
            Frame::Reset { stream, reason } => {
                if let Some(entry) = self.entries.get(stream) {
                    entry.was_reset = true;
                    entry.inbox.give_last(Event::Reset(reason));
                    entry.wake();
                }
            }
            Frame::Window { stream, credit } => {
                if let Some(entry) = self.entries.get(stream) {
                    entry.machine.grant(credit)?;
                    entry.wake();
                }
            }
            Frame::Entered { stream } => {
                if let Some(entry) = self.entries.get(stream) {
                    entry.entered = true;
                }
            }
            // Whoever asks again and again without listening gets no answer.
            Frame::Ping { ack: false, .. } if self.outbox.len() >= FULL => {}
            Frame::Ping { ack: false, token } => {
                frame::put(self.outbox.front(), Kind::Ping, 0, frame::ACK, &token);
            }
            Frame::Ping { ack: true, .. } => {}
            Frame::GoAway => self.retire(),
            Frame::Request { .. } => return Err(Violation::Misplaced("Request")),
        }
        Ok(())
    }

    /// No more streams may be opened.
    fn is_retired(&self) -> bool {
        self.retired.is_none()
    }

    fn retire(&mut self) {
        if let Some(retired) = self.retired.take() {
            self.is_open.store(false, Relaxed);
            // Nobody listens any more if the proxy is ending.
            let _ = retired.send(());
        }
    }

    fn wake_carrier(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            carrier.wake();
        }
    }

    /// Forgets a stream; the other side is told unless it knows.
    fn close(&mut self, id: StreamId) {
        let Some(entry) = self.entries.take(id) else { return };
        if self.ended.is_some() {
            return;
        }
        if !entry.machine.is_over() && !entry.was_reset {
            self.outbox.forget(id);
            frame::put_reset(self.outbox.front(), id, Reason::Gone);
        }
        // Also for the connection's own end, if this was the last stream.
        self.wake_carrier();
    }
}

impl Entry {
    fn new(id: StreamId, end: bool, ours: u32, theirs: u32) -> Self {
        Self {
            machine: stream::Stream::opened(id, end, ours, theirs),
            inbox: Inbox::default(),
            waker: None,
            entered: false,
            in_bulk: false,
            is_blocked: false,
            was_reset: false,
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

/// One request's stream. Dropped before its end, it is reset.
pub(crate) struct Stream {
    line: Arc<Line>,
    id: StreamId,
}

impl Stream {
    fn with<T>(&self, ask: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.line.state().entries.get(self.id).map(ask)
    }

    /// The next event.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let event = self.with(|entry| match entry.inbox.take() {
            Some(event) => Poll::Ready(event),
            None => {
                entry.wait(cx);
                Poll::Pending
            }
        });
        event.unwrap_or(Poll::Ready(Event::Lost(End::Closed)))
    }

    /// Whether more of the answer has come already.
    pub(crate) fn has_more(&self) -> bool {
        self.with(|entry| entry.inbox.has_more()).unwrap_or(false)
    }

    /// Whether an application has seen the request.
    pub(crate) fn has_entered(&self) -> bool {
        self.with(|entry| entry.entered).unwrap_or(false)
    }

    /// How many bytes of body may be sent, once that is more than 0.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.line.state();
        let state = &mut *state;
        let Some(entry) = state.entries.get(self.id) else { return Poll::Pending };
        let room = if entry.in_bulk { 0 } else { entry.machine.may_send().min(MOST_DATA) };
        if room == 0 {
            entry.wait(cx);
            return Poll::Pending;
        }
        if state.outbox.len() >= FULL {
            entry.wait(cx);
            if !std::mem::replace(&mut entry.is_blocked, true) {
                state.blocked.push(self.id);
            }
            return Poll::Pending;
        }
        Poll::Ready(room)
    }

    /// Sends a piece of the body, not larger than [`Stream::poll_ready`] allowed. An empty piece is only for the end.
    pub(crate) fn send(&self, bytes: Bytes, end: bool) {
        let mut state = self.line.state();
        let state = &mut *state;
        let Some(entry) = state.entries.get(self.id) else { return };
        if state.ended.is_some() {
            return;
        }
        entry.machine.send_data(bytes.len(), end);
        let flags = if end { frame::END } else { 0 };
        if bytes.len() <= appliance_link::outbox::SMALL && !entry.in_bulk {
            frame::put(state.outbox.front(), Kind::Data, self.id, flags, &bytes);
        } else {
            entry.in_bulk = true;
            state.outbox.push(self.id, flags, bytes);
        }
        state.wake_carrier();
    }

    /// So many bytes of the answer have been passed on: more may come.
    pub(crate) fn consume(&self, count: usize) {
        let mut state = self.line.state();
        let state = &mut *state;
        let Some(entry) = state.entries.get(self.id) else { return };
        if let Some(credit) = entry.machine.consume(count)
            && state.ended.is_none()
        {
            frame::put_window(state.outbox.front(), self.id, credit);
            state.wake_carrier();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.line.state().close(self.id);
    }
}

#[cfg(test)]
mod tests;
