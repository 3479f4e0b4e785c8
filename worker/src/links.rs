//! The worker's side of one link to the proxy: frames become requests, answers become frames. It owns the socket, what has
//! been read and not understood yet, what is to be sent, and a stream for each request. Generic over any non-blocking
//! `Read + Write`, so that its tests need no socket. The engine calls it when the socket is ready and for the cores, and
//! then does the [`News`]; it never enters an application and never blocks. It only writes when it is told to flush, when
//! a large piece of a body can leave from where it lies, or when much has gathered.
//!
//! ```text
//!              Request           body there         a core begins             answered, all of it has left
//!   (unknown) ────────► Receiving ─────────► Waiting ─────────► Serving ─────► Answered ────────────────► (unknown)
//! ```
//! A stream that is reset by either side is forgotten at once, wherever it is. The core that served it finds nothing there
//! any more, which is how it learns that its client has gone; so a core always says which stream *and* who it is.
use crate::conn::Rules;
use crate::cores::CoreId;
use crate::http::Head;
use appliance_link::frame::{self, ACK, ANNOUNCE, END, EXPECT, HEADER, Header, Kind};
use appliance_link::head::{self, ResponseFacts};
use appliance_link::hello::SIZE as HELLO;
use appliance_link::{Frame, Hello, Outbox, Reason, StreamId, Violation};
use exchange::{Arriving, Exchange, Stage};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

mod exchange;
mod outgoing;
mod serving;
pub use exchange::Arrived;

/// Reads from a link in one turn, so that it does not keep the loop from the others.
const READS_PER_TURN: usize = 4;
/// Bytes that wait to leave above which nothing more is read: the proxy must take answers before it asks for more. Enough
/// for 128 clients that all have a `limits.write_buffer` under way.
const MOST_UNSENT: usize = 8 * 1024 * 1024;
/// Room in the head of a request for the lengths of a field, in bytes.
const LENGTHS: usize = 8;
/// What the ping behind a `GoAway` carries. When it comes back, the proxy has read both.
const GOING: [u8; 8] = *b"go away!";

/// What the engine has to do after a link was told something.
#[derive(Debug)]
pub enum News {
    /// A request is complete enough to run.
    Run(Box<Arrived>),
    /// This core may go on: what it waited for is there, or will never be.
    Wake(CoreId),
    /// The client of the request that this core serves has left.
    Gone(CoreId),
    /// The client of a request that was ready has left before a core began with it.
    Left(StreamId),
    /// A request that was ready is lost before a core began with it, because the link is: the proxy sends it elsewhere.
    Withdrawn(StreamId),
    /// Call [`Link::advance`] from the loop: there may be more to read.
    More,
    /// The link is over, and everything on it; drop it. What the other side did wrong, if it did.
    Over(Option<Violation>),
}

/// What holds for every stream of a link, in bytes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    window: u32,
    request_head: usize,
    body_buffer: usize,
    write_buffer: usize,
}

impl From<&Rules> for Bounds {
    fn from(rules: &Rules) -> Bounds {
        Bounds {
            // With less a request could wait for ever for a body that may not be sent.
            window: Hello::new(rules.stream_window.max(rules.body_buffer)).window,
            request_head: rules.head.header_bytes + rules.head.headers * LENGTHS,
            body_buffer: rules.body_buffer,
            write_buffer: rules.write_buffer,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Link<S> {
    socket: S,
    bounds: Bounds,
    input: Vec<u8>,
    /// The kernel may hold more input than we have read.
    unread: bool,
    /// The kernel has said that the proxy sends no more; its end can only be found by reading on.
    hung_up: bool,
    /// What the proxy takes on each stream ahead of us; `None` until its hello has come, which has to be before `hello_by`.
    theirs: Option<u32>,
    hello_by: Instant,
    streams: FxHashMap<StreamId, Exchange>,
    news: VecDeque<News>,
    outbox: Outbox,
    /// The kernel takes nothing until it says so.
    is_blocked: bool,
    /// It should say so, and whether it has been told to.
    wants_room: bool,
    watches_room: bool,
    /// The engine knows that it has to flush.
    is_scheduled: bool,
    /// Bytes of small frames that have left so far. With what waits in front it gives each byte there a place by which it
    /// can be asked later whether it has left.
    front_left: u64,
    /// Streams whose core waits until their small frames have left.
    crowded: Vec<StreamId>,
    /// Since when the proxy is asked to open no more streams.
    going: Option<Instant>,
    /// It knows that: what it has sent before was on its way, and is served; what it sends now is refused.
    is_heeded: bool,
    is_over: bool,
    bytes_out: u64,
}

impl<S: Read + Write> Link<S> {
    /// A link on a socket that has just begun to speak; [`Link::receive`] is told what it has said. `hung_up` if it also
    /// has an end to tell.
    pub fn new(socket: S, hung_up: bool, rules: &Rules, now: Instant) -> Link<S> {
        Link {
            socket,
            bounds: rules.into(),
            input: Vec::new(),
            unread: true,
            hung_up,
            theirs: None,
            hello_by: now + rules.header,
            streams: FxHashMap::default(),
            news: VecDeque::new(),
            outbox: Outbox::default(),
            is_blocked: false,
            wants_room: true,
            watches_room: true,
            is_scheduled: false,
            front_left: 0,
            crowded: Vec::new(),
            going: None,
            is_heeded: false,
            is_over: false,
            bytes_out: 0,
        }
    }

    /// The socket below.
    pub fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// What the engine has to do next, in the order in which it happened.
    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Whether [`Link::next_news`] has something.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// When the link is to be given up. One that has said hello never is: the proxy keeps the time for its streams.
    pub fn deadline(&self) -> Option<Instant> {
        self.theirs.is_none().then_some(self.hello_by)
    }

    /// Since when the link is of no use to anybody: no new requests are wanted, and the last answer has left.
    pub fn idle_since(&self) -> Option<Instant> {
        self.going.filter(|_| self.streams.is_empty() && self.outbox.is_empty())
    }

    /// Asks for no new requests from now on; those that run, or are on their way here, are finished. To be told once.
    pub fn go_away(&mut self, now: Instant) {
        self.going = Some(now);
        // Before the hellos have been exchanged it would come too early; then it follows ours.
        if self.theirs.is_some() {
            self.put_go_away();
        }
    }

    fn put_go_away(&mut self) {
        frame::put(self.outbox.front(), Kind::GoAway, 0, 0, &[]);
        frame::put(self.outbox.front(), Kind::Ping, 0, 0, &GOING);
    }

    /// The socket has something to read; `hung_up` if it also has an end to tell. `scratch` is any buffer.
    pub fn on_readable(&mut self, hung_up: bool, scratch: &mut [u8]) {
        self.unread = true;
        self.hung_up |= hung_up;
        self.advance(scratch);
    }

    /// Both directions of the socket are gone.
    pub fn on_gone(&mut self) {
        self.end(None);
    }

    /// Reads on, as far as it is this link's turn.
    pub fn advance(&mut self, scratch: &mut [u8]) {
        for _ in 0..READS_PER_TURN {
            if !self.unread || self.is_over || self.outbox.len() > MOST_UNSENT {
                return;
            }
            match self.socket.read(scratch) {
                Ok(0) => return self.end(None),
                Ok(n) => {
                    // A short read has emptied the kernel's buffer: the next edge tells of more. But an end that was
                    // announced already has no edge of its own.
                    self.unread = n == scratch.len() || self.hung_up;
                    self.receive(&scratch[..n]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.unread = false,
                Err(_) => return self.end(None),
            }
        }
        if self.unread && !self.is_over {
            self.news.push_back(News::More);
        }
    }

    /// These bytes have come.
    pub fn receive(&mut self, bytes: &[u8]) {
        let understood = if self.input.is_empty() {
            self.take_frames(bytes).map(|used| self.input.extend_from_slice(&bytes[used..]))
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            self.take_frames(&input).map(|used| {
                input.drain(..used);
                self.input = input;
            })
        };
        if let Err(violation) = understood {
            self.end(Some(violation));
        }
    }

    /// Takes the whole frames at the front of `bytes`; how many bytes that were.
    fn take_frames(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut used = 0;
        if self.theirs.is_none() {
            let Some(hello) = Hello::parse(bytes)? else { return Ok(0) };
            self.greet(hello);
            used = HELLO;
        }
        while let Some(header) = Header::parse(&bytes[used..], self.bounds.request_head)? {
            let payload = &bytes[used + HEADER..][..header.length];
            self.on_frame(header.with(payload)?)?;
            used += HEADER + header.length;
        }
        Ok(used)
    }

    fn greet(&mut self, hello: Hello) {
        self.theirs = Some(hello.window);
        let ours = Hello { window: self.bounds.window };
        self.outbox.front().extend_from_slice(&ours.bytes());
        if self.going.is_some() {
            self.put_go_away();
        }
    }

    fn on_frame(&mut self, frame: Frame<&[u8]>) -> Result<(), Violation> {
        match frame {
            Frame::Request { stream, flags, head } => self.on_request(stream, flags, head),
            Frame::Data { stream, end, bytes } => self.on_data(stream, end, bytes),
            Frame::Reset { stream, .. } => {
                self.on_reset(stream);
                Ok(())
            }
            Frame::Window { stream, credit } => self.on_window(stream, credit),
            Frame::Ping { ack: false, token } => {
                frame::put(self.outbox.front(), Kind::Ping, 0, ACK, &token);
                Ok(())
            }
            Frame::Ping { ack: true, token } => {
                self.is_heeded |= token == GOING;
                Ok(())
            }
            Frame::Response { .. } => Err(Violation::Misplaced("Response")),
            Frame::GoAway => Err(Violation::Misplaced("GoAway")),
            Frame::Entered { .. } => Err(Violation::Misplaced("Entered")),
        }
    }

    fn on_request(&mut self, id: StreamId, flags: u8, payload: &[u8]) -> Result<(), Violation> {
        if self.is_heeded {
            frame::put_reset(self.outbox.front(), id, Reason::Refused);
            return Ok(());
        }
        let Entry::Vacant(vacant) = self.streams.entry(id) else { return Err(Violation::OpenedTwice(id)) };
        let has_body = flags & END == 0;
        let arriving = Arriving { head: Head::from_link(flags, payload)?, announce: flags & ANNOUNCE != 0 };
        let (ours, theirs) = (self.bounds.window, self.theirs.unwrap_or_default());
        let stream = appliance_link::Stream::accepted(id, !has_body, ours, theirs);
        if has_body {
            vacant.insert(Exchange::new(stream, Stage::Receiving(Box::new(arriving))));
            if flags & EXPECT != 0 {
                self.ask_for_body(id);
            }
        } else {
            vacant.insert(Exchange::new(stream, Stage::Waiting));
            self.news.push_back(News::Run(Box::new(arriving.with_body(id, Vec::new(), true))));
        }
        Ok(())
    }

    fn ask_for_body(&mut self, id: StreamId) {
        let front = self.outbox.front();
        let at = frame::begin(front, Kind::Response, id, 0);
        head::put_response(front, &ResponseFacts { status: 100, reason: b"Continue", ..Default::default() });
        frame::finish(front, at);
    }

    /// Data of a stream that is not there any more was on its way when that was decided.
    fn on_data(&mut self, id: StreamId, end: bool, bytes: &[u8]) -> Result<(), Violation> {
        let Some(exchange) = self.streams.get_mut(&id) else { return Ok(()) };
        exchange.stream.receive_data(bytes.len(), end)?;
        match exchange.stage {
            Stage::Answered => {
                if let Some(credit) = exchange.stream.consume(bytes.len()) {
                    frame::put_window(self.outbox.front(), id, credit);
                }
            }
            Stage::Receiving(_) => {
                exchange.body.extend_from_slice(bytes);
                if let Some(arrived) = exchange.take_ready(self.bounds.body_buffer) {
                    self.news.push_back(News::Run(arrived));
                }
            }
            Stage::Waiting => exchange.body.extend_from_slice(bytes),
            Stage::Serving(core) => {
                exchange.body.extend_from_slice(bytes);
                if std::mem::take(&mut exchange.wants_body) {
                    self.news.push_back(News::Wake(core));
                }
            }
        }
        Ok(())
    }

    fn on_reset(&mut self, id: StreamId) {
        if let Some(exchange) = self.streams.remove(&id) {
            self.outbox.forget(id);
            self.news.extend(match exchange.stage {
                Stage::Waiting => Some(News::Left(id)),
                _ => exchange.last_news(),
            });
        }
    }

    fn on_window(&mut self, id: StreamId, credit: u32) -> Result<(), Violation> {
        let Some(exchange) = self.streams.get_mut(&id) else { return Ok(()) };
        exchange.stream.grant(credit)?;
        self.wake_if_room(id);
        Ok(())
    }

    /// Nothing more comes or goes; everybody on this link learns it.
    fn end(&mut self, violation: Option<Violation>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.outbox = Outbox::default();
        self.news.extend(self.streams.drain().filter_map(|(_, exchange)| exchange.last_news()));
        self.news.push_back(News::Over(violation));
    }
}

#[cfg(test)]
mod tests;
