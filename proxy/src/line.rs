//! One connection of the link, as the requests that travel on it see it: open a stream, wait for what comes, send a body.
//! `carrier.rs` moves the bytes; both share the state in here, and each lock is held for a few lines only. It must never
//! decide what a request's failure means; that is `relay.rs`'s and `retry.rs`'s business.
use appliance_link::frame::{self, Kind, MOST_DATA};
use appliance_link::{Frame, Outbox, Reason, StreamId, Violation, stream};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;

/// Bytes that may wait to leave on one connection before bodies have to wait; heads and control frames do not.
const FULL: usize = 256 * 1024;
/// Streams that one connection can have at once; the id of a stream is its slot and a count of the slot's uses.
const SLOTS: u32 = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 20;

/// What has come for a stream.
#[derive(Debug)]
pub(crate) enum Event {
    /// The head of an answer: the payload of its frame. `end`: there is no body.
    Head { head: Bytes, end: bool },
    /// A piece of its body. `end`: the last.
    Data { bytes: Bytes, end: bool },
    /// The worker gives the request up.
    Reset(Reason),
    /// The connection has ended.
    Lost(End),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The worker closed it, or died.
    Closed,
    /// The worker broke the protocol.
    Garbled,
}

/// One connection.
pub(crate) struct Line {
    state: Mutex<State>,
    /// It takes new streams. A hint for who looks without the lock; `open` asks again.
    is_open: AtomicBool,
}

struct State {
    outbox: Outbox,
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
    /// Bytes that we take on each stream before we have granted more, and that they do.
    ours: u32,
    theirs: u32,
    ended: Option<End>,
    /// Fired when no more streams may be opened here.
    retired: Option<oneshot::Sender<()>>,
    carrier: Option<Waker>,
    /// Streams that wait until less is waiting to leave.
    blocked: Vec<Waker>,
}

#[derive(Default)]
struct Slot {
    uses: u32,
    /// `None`: free.
    entry: Option<Entry>,
}

struct Entry {
    machine: stream::Stream,
    inbox: VecDeque<Event>,
    waker: Option<Waker>,
    entered: bool,
    in_bulk: bool,
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
        let state = State {
            outbox: Outbox::default(),
            slots: Vec::new(),
            free: Vec::new(),
            open: 0,
            ours,
            theirs,
            ended: None,
            retired: Some(retired),
            carrier: None,
            blocked: Vec::new(),
        };
        (Arc::new(Self { state: Mutex::new(state), is_open: AtomicBool::new(true) }), is_retired)
    }

    /// Opens a stream with a `Request` frame whose payload `head` writes; `None`: this connection takes no more.
    pub(crate) fn open(self: &Arc<Self>, flags: u8, head: impl FnOnce(&mut Vec<u8>)) -> Option<Stream> {
        let mut state = self.state();
        let state = &mut *state;
        if state.is_retired() {
            return None;
        }
        let index = match state.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(state.slots.len()).ok().filter(|index| *index < SLOTS - 1)?;
                state.slots.push(Slot::default());
                index
            }
        };
        let slot = &mut state.slots[index as usize];
        slot.uses = slot.uses.wrapping_add(1);
        let id = slot.uses << SLOT_BITS | (index + 1);
        let end = flags & frame::END != 0;
        let machine = stream::Stream::opened(id, end, state.ours, state.theirs);
        slot.entry =
            Some(Entry { machine, inbox: VecDeque::new(), waker: None, entered: false, in_bulk: false });
        state.open += 1;
        let out = state.outbox.front();
        let at = frame::begin(out, Kind::Request, id, flags);
        head(out);
        frame::finish(out, at);
        state.wake_carrier();
        Some(Stream { line: self.clone(), id })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it takes new streams.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Takes what one frame says. Frames of streams that are not there any more were on their way, and are dropped.
    pub(crate) fn receive(&self, frame: Frame<Bytes>) -> Result<(), Violation> {
        let mut state = self.state();
        let received = state.receive(frame);
        self.is_open.store(!state.is_retired(), Relaxed);
        received
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
        let slots = &mut state.slots;
        state.outbox.advance(taken, |id| {
            if let Some(entry) = entry(slots, id) {
                entry.in_bulk = false;
                entry.wake();
            }
        });
        if state.outbox.len() < FULL {
            state.blocked.drain(..).for_each(Waker::wake);
        }
        true
    }

    /// Ends the connection for all its streams.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.state();
        state.ended = Some(end);
        state.retire();
        self.is_open.store(false, Relaxed);
        state.outbox = Outbox::default();
        state.blocked.drain(..).for_each(Waker::wake);
        for entry in state.slots.iter_mut().filter_map(|slot| slot.entry.as_mut()) {
            entry.inbox.push_back(Event::Lost(end));
            entry.wake();
        }
    }

    /// Whether it takes no more streams and has none left.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.state();
        state.is_retired() && state.open == 0 && state.outbox.is_empty()
    }
}

impl State {
    fn receive(&mut self, frame: Frame<Bytes>) -> Result<(), Violation> {
        match frame {
            Frame::Response { stream, end, head } => {
                let Some(entry) = entry(&mut self.slots, stream) else { return Ok(()) };
                let interim = appliance_link::head::Response::parse(&head)?.facts.status < 200;
                entry.machine.receive_head(interim, end)?;
                entry.give(Event::Head { head, end });
            }
            Frame::Data { stream, end, bytes } => {
                let Some(entry) = entry(&mut self.slots, stream) else { return Ok(()) };
                entry.machine.receive_data(bytes.len(), end)?;
                entry.give(Event::Data { bytes, end });
            }
            Frame::Reset { stream, reason } => {
                if let Some(entry) = entry(&mut self.slots, stream) {
                    entry.give(Event::Reset(reason));
                }
            }
            Frame::Window { stream, credit } => {
                if let Some(entry) = entry(&mut self.slots, stream) {
                    entry.machine.grant(credit)?;
                    entry.wake();
                }
            }
            Frame::Entered { stream } => {
                if let Some(entry) = entry(&mut self.slots, stream) {
                    entry.entered = true;
                }
            }
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
        let Some(entry) = take_entry(&mut self.slots, id) else { return };
        self.free.push(index(id));
        self.open -= 1;
        if self.ended.is_some() {
            return;
        }
        if !entry.machine.is_over() && !entry.was_reset() {
            self.outbox.forget(id);
            frame::put_reset(self.outbox.front(), id, Reason::Gone);
        }
        // Also for the connection's own end, if this was the last stream.
        self.wake_carrier();
    }
}

impl Entry {
    fn give(&mut self, event: Event) {
        self.inbox.push_back(event);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn was_reset(&self) -> bool {
        self.inbox.iter().any(|event| matches!(event, Event::Reset(_)))
    }

    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

fn index(id: StreamId) -> u32 {
    (id & (SLOTS - 1)).wrapping_sub(1)
}

fn slot(slots: &mut [Slot], id: StreamId) -> Option<&mut Slot> {
    let uses = |slot: &Slot| slot.uses << SLOT_BITS;
    slots.get_mut(index(id) as usize).filter(|slot| uses(slot) == id & !(SLOTS - 1))
}

fn entry(slots: &mut [Slot], id: StreamId) -> Option<&mut Entry> {
    slot(slots, id)?.entry.as_mut()
}

fn take_entry(slots: &mut [Slot], id: StreamId) -> Option<Entry> {
    slot(slots, id)?.entry.take()
}

/// One request's stream. Dropped before its end, it is reset.
pub(crate) struct Stream {
    line: Arc<Line>,
    id: StreamId,
}

impl Stream {
    fn with<T>(&self, ask: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        entry(&mut self.line.state().slots, self.id).map(ask)
    }

    /// The next event.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let event = self.with(|entry| match entry.inbox.pop_front() {
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
        let is_more =
            |entry: &mut Entry| matches!(entry.inbox.front(), Some(Event::Head { .. } | Event::Data { .. }));
        self.with(is_more).unwrap_or(false)
    }

    /// Whether an application has seen the request.
    pub(crate) fn has_entered(&self) -> bool {
        self.with(|entry| entry.entered).unwrap_or(false)
    }

    /// How many bytes of body may be sent, once that is more than 0.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.line.state();
        let state = &mut *state;
        let Some(entry) = entry(&mut state.slots, self.id) else { return Poll::Pending };
        let room = if entry.in_bulk { 0 } else { entry.machine.may_send().min(MOST_DATA) };
        if room == 0 {
            entry.wait(cx);
            return Poll::Pending;
        }
        if state.outbox.len() >= FULL {
            state.blocked.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(room)
    }

    /// Sends a piece of the body, not larger than [`Stream::poll_ready`] allowed. An empty piece is only for the end.
    pub(crate) fn send(&self, bytes: Bytes, end: bool) {
        let mut state = self.line.state();
        let state = &mut *state;
        let Some(entry) = entry(&mut state.slots, self.id) else { return };
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
        let Some(entry) = entry(&mut state.slots, self.id) else { return };
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
