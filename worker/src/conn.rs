//! One HTTP/1.1 connection: its buffers, where it is in its life, and until when it must make progress. Generic over any
//! non-blocking `Read + Write`, so that its tests need no socket. The engine calls it when the stream is ready or time
//! has passed, and does what the returned [`Step`] says; it never enters an application, and never blocks.
//!
//! ```text
//!           head complete        body there (or body_buffer full)        answered, keep-alive
//!   Head ─────────────────► Body ─────────────────────────────► Busy ─────────────────────► Head
//!     │ refused, timed out    │ refused, cut, timed out           │ answered, no keep-alive
//!     └───────────────────────┴─────────────► Closing ◄───────────┤ flush, shut down, discard, gone
//!                                                ▲                │ 101
//!                                                └──── Socket ◄───┘
//! ```
use crate::app::Received;
use crate::http::body::Decoder;
use crate::http::{Framing, Refusal, Scan, encode};
use crate::websocket::{Deflate, code};
use appliance_link::reason;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

mod account;
mod arrival;
mod buffers;
mod exchange;
mod receiving;
mod terms;
mod upgraded;
use account::{Account, ENDED_EARLY, SLOW_BODY, SLOW_HEAD};
pub use account::{CLIENT_LEFT, Refused};
use arrival::Arrival;
pub use terms::{BodyRead, Context, FileSent, Outcome, Rules, Sent, Step, Stream};
use upgraded::Upgraded;

/// How long a closed connection goes on discarding input, so that the kernel does not reset it before the peer has read
/// our last words (nginx `lingering_timeout`).
const LINGER: Duration = Duration::from_secs(2);
/// Reads of 4 KiB that are thrown away at once on a connection that closes.
const DISCARDS_PER_TURN: usize = 64;
/// Input that is read ahead of a running request (the next, pipelined one) before the kernel's buffer must hold the rest.
const READ_AHEAD: usize = 16 * 1024;

#[derive(Debug)]
enum Phase {
    Head,
    /// So far.
    Body(Box<Received>),
    Busy,
    /// It is a WebSocket now, and never anything else again.
    Socket(Box<Upgraded>),
    Closing {
        shut: bool,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Conn<S> {
    stream: S,
    phase: Phase,
    scan: Scan,
    /// The first byte of the connection has not come.
    is_new: bool,
    /// The first byte of a head has come, its last has not.
    in_head: bool,
    decoder: Decoder,
    arrival: Arrival,
    input: Vec<u8>,
    /// Bytes of `input` that have been used.
    used: usize,
    output: Vec<u8>,
    /// Bytes of `output` that have been sent.
    sent: usize,
    /// The kernel may hold more input than we have read.
    unread: bool,
    /// The kernel has said that the peer sends no more; there may still be input before the end.
    hung_up: bool,
    ended: bool,
    gone: bool,
    /// The core waits for body, or for room in `output`.
    wants_body: bool,
    wants_room: bool,
    /// The body that the core waited for has not come in time, and what comes now is not it.
    too_slow: bool,
    /// The engine knows that the peer has left the request that is being served.
    is_left: bool,
    /// When the head or the body that no core waits for, the next request, or room for output must be there.
    deadline: Option<Instant>,
    /// When the body that a core waits for must be there.
    body_by: Option<Instant>,
    bytes_out: u64,
    /// How messages may be compressed, should the request become a WebSocket.
    offered: Option<Deflate>,
    account: Account,
}

impl<S: Stream> Conn<S> {
    /// A connection that was just accepted.
    pub fn new(stream: S, rules: &Rules, now: Instant) -> Conn<S> {
        Conn {
            stream,
            phase: Phase::Head,
            scan: Scan::default(),
            is_new: true,
            in_head: false,
            decoder: Decoder::new(Framing::None, 0),
            arrival: Arrival::default(),
            input: Vec::new(),
            used: 0,
            output: Vec::new(),
            sent: 0,
            unread: true,
            hung_up: false,
            ended: false,
            gone: false,
            wants_body: false,
            wants_room: false,
            too_slow: false,
            is_left: false,
            deadline: Some(now + rules.header),
            body_by: None,
            bytes_out: 0,
            offered: None,
            account: Account::new(now),
        }
    }

    /// The stream below.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// When [`Conn::on_deadline`] is to be called, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.body_by).chain(self.socket_deadline()).min()
    }

    /// Whether no request is being received or served, and the last answer has left.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.unused() == 0 && self.unsent() == 0
    }

    /// Whether the peer is still there for the answer.
    pub fn is_connected(&self) -> bool {
        let is_open = match &self.phase {
            Phase::Socket(upgraded) => upgraded.socket.is_open(),
            phase => !matches!(phase, Phase::Closing { .. }),
        };
        is_open && !self.is_left && !self.has_left()
    }

    /// Bytes handed to the kernel so far; the count starts again.
    pub fn take_bytes_out(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_out)
    }

    /// The stream has something to read; `hung_up` if it also has an end to tell. `scratch` is any buffer.
    pub fn on_readable(&mut self, hung_up: bool, cx: &mut Context<'_>) -> Step {
        self.unread = true;
        self.hung_up |= hung_up;
        self.advance(cx)
    }

    /// The stream has room for output.
    pub fn on_writable(&mut self, cx: &mut Context<'_>) -> Step {
        if matches!(self.phase, Phase::Socket(_)) {
            return self.socket_step(cx);
        }
        let before = self.unsent();
        if before == 0 {
            // Whoever sends a file waits for room without anything of it in our buffer.
            return if std::mem::take(&mut self.wants_room) { Step::Wake } else { Step::Wait };
        }
        self.flush();
        let left = self.unsent();
        let progress = left < before;
        match self.phase {
            Phase::Closing { .. } => {
                if progress && left > 0 {
                    self.deadline = Some(cx.now + cx.rules.write);
                }
                return self.close_step(cx);
            }
            Phase::Busy if self.gone => return self.busy_step(),
            Phase::Busy if progress && self.deadline.is_some() => {
                self.deadline = (left > 0 || self.wants_room).then(|| cx.now + cx.rules.write);
            }
            Phase::Busy | Phase::Socket(_) => {}
            Phase::Head | Phase::Body(_) if self.gone => return Step::Drop,
            // The last answer is still leaving: only when it has left is the connection idle.
            Phase::Head if progress && !self.in_head => {
                self.deadline = Some(self.idle_deadline(cx));
                self.trim();
            }
            Phase::Head | Phase::Body(_) => {}
        }
        if self.wants_room && left <= cx.rules.write_buffer / 2 {
            self.wants_room = false;
            return Step::Wake;
        }
        Step::Wait
    }

    /// Both directions of the stream are gone.
    pub fn on_gone(&mut self, cx: &mut Context<'_>) -> Step {
        self.gone = true;
        self.ended = true;
        match self.phase {
            Phase::Busy => self.busy_step(),
            Phase::Socket(_) => self.socket_step(cx),
            Phase::Head | Phase::Body(_) => {
                self.note_refused(ENDED_EARLY);
                Step::Drop
            }
            Phase::Closing { .. } => Step::Drop,
        }
    }

    /// The deadline has passed.
    pub fn on_deadline(&mut self, cx: &mut Context<'_>) -> Step {
        let has_passed = |by: &mut Instant| *by <= cx.now;
        let is_late = self.deadline.take_if(has_passed).is_some();
        let is_body_late = self.body_by.take_if(has_passed).is_some();
        if is_late || is_body_late {
            let word = if is_body_late { reason::SLOW_BODY } else { reason::CLIENT_STALLED };
            self.account.trouble.get_or_insert(word);
        }
        match &self.phase {
            Phase::Head if self.unused() == 0 => Step::Drop,
            Phase::Head => self.refuse(SLOW_HEAD, cx),
            Phase::Body(_) => self.refuse(SLOW_BODY, cx),
            Phase::Busy => {
                self.too_slow |= is_body_late;
                self.gone |= is_late;
                self.busy_step()
            }
            Phase::Socket(_) => {
                self.gone |= is_late;
                self.on_socket_deadline(cx)
            }
            Phase::Closing { .. } => Step::Drop,
        }
    }

    /// Goes on with what has been received: reads, parses, and says what is next.
    pub fn advance(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            let room = match &self.phase {
                Phase::Head | Phase::Body(_) => usize::MAX,
                Phase::Busy => READ_AHEAD.saturating_sub(self.unused()),
                Phase::Socket(_) => return self.socket_step(cx),
                Phase::Closing { .. } => return self.close_step(cx),
            };
            let mut progress = self.read(cx.scratch, room);
            if let Some(step) = self.leave_http(cx) {
                return step;
            }
            progress |= match &mut self.phase {
                Phase::Head => match self.parse(cx) {
                    Ok(progress) => progress,
                    Err(refusal) => return self.refuse(refusal, cx),
                },
                Phase::Body(_) => match self.buffer_body(cx) {
                    Ok(progress) => progress,
                    Err(refusal) => return self.refuse(refusal, cx),
                },
                _ if progress => continue,
                _ => {
                    if self.unused() > 0 {
                        self.arrival.pause(cx.now);
                    }
                    return self.busy_step();
                }
            };
            if let Some(request) = self.take_ready(cx) {
                return Step::Run(request);
            }
            if progress {
                continue;
            }
            if self.ended {
                return match &self.phase {
                    Phase::Head if self.unused() == 0 && self.unsent() == 0 => Step::Drop,
                    // The peer has said all, but not yet heard all.
                    Phase::Head if self.unused() == 0 => self.close(cx),
                    _ => self.refuse(ENDED_EARLY, cx),
                };
            }
            return Step::Wait;
        }
    }

    /// The response is complete, as far as it will ever be. With `keep` the next request may follow on this connection.
    pub fn finish(&mut self, keep: bool, cx: &mut Context<'_>) -> Step {
        (self.wants_body, self.wants_room, self.too_slow, self.is_left) = (false, false, false, false);
        self.body_by = None;
        self.account.trouble = None;
        if self.gone {
            return Step::Drop;
        }
        if matches!(self.phase, Phase::Socket(_)) {
            return self.leave_socket(cx);
        }
        if keep && self.skip_body(cx.rules) {
            self.phase = Phase::Head;
            self.deadline = Some(self.idle_deadline(cx));
            self.trim();
            // What has come meanwhile is the next request's, and nothing will tell of it again.
            let is_more = self.unused() > 0 || self.unread || self.ended;
            return if is_more { Step::More } else { Step::Wait };
        }
        self.close(cx)
    }

    /// Since when nothing has happened on an idle connection.
    pub fn idle_since(&self, rules: &Rules) -> Option<Instant> {
        self.deadline.filter(|_| self.is_idle()).and_then(|deadline| deadline.checked_sub(rules.keepalive))
    }

    /// Whether all of the request's body has arrived.
    pub fn is_body_complete(&self) -> bool {
        self.decoder.is_done()
    }

    fn idle_deadline(&self, cx: &Context<'_>) -> Instant {
        cx.now + if self.unsent() > 0 { cx.rules.write } else { cx.rules.keepalive }
    }

    /// Ends the connection after what is still to be sent.
    fn close(&mut self, cx: &Context<'_>) -> Step {
        self.phase = Phase::Closing { shut: false };
        self.deadline = Some(cx.now + if self.unsent() > 0 { cx.rules.write } else { LINGER });
        self.close_step(cx)
    }

    /// The request that was about to run is refused instead; `head_only` if it is a `HEAD`.
    pub fn reject(
        &mut self,
        status: u16,
        reason: &'static str,
        head_only: bool,
        cx: &mut Context<'_>,
    ) -> Step {
        if matches!(self.phase, Phase::Socket(_)) {
            self.abort(cx);
            return self.leave_socket(cx);
        }
        self.output.extend_from_slice(&encode::simple(status, reason, cx.date, false, head_only));
        self.close(cx)
    }

    /// Drops the connection without a word: the peer must see that something is missing. Only a WebSocket has a word for it.
    pub fn abort(&mut self, cx: &Context<'_>) {
        if let Phase::Socket(upgraded) = &mut self.phase {
            return upgraded.socket.close(code::INTERNAL_ERROR, "", cx.now);
        }
        self.stream.reset();
        self.gone = true;
        self.output.clear();
        self.sent = 0;
    }

    fn refuse(&mut self, refusal: Refusal, cx: &mut Context<'_>) -> Step {
        let head_only = matches!(&self.phase, Phase::Body(received) if received.head.method() == "HEAD");
        self.note_refused(refusal);
        self.reject(refusal.status, refusal.reason, head_only, cx)
    }

    /// Closing: first everything must be sent, then our side is shut, then the peer's last bytes are thrown away.
    fn close_step(&mut self, cx: &Context<'_>) -> Step {
        self.flush();
        if self.gone {
            return Step::Drop;
        }
        if self.unsent() > 0 {
            return Step::Wait;
        }
        if let Phase::Closing { shut: shut @ false } = &mut self.phase {
            *shut = true;
            self.deadline = Some(cx.now + LINGER);
            if self.ended || self.stream.shutdown().is_err() {
                return Step::Drop;
            }
        }
        let mut sink = [0; 4096];
        // A peer that goes on sending does not keep the loop; it is dropped at the deadline.
        for _ in 0..DISCARDS_PER_TURN {
            match self.stream.read(&mut sink) {
                Ok(0) => return Step::Drop,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Drop,
            }
        }
        Step::Wait
    }
}

#[cfg(test)]
mod tests;
