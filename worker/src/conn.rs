//! One HTTP/1.1 connection: its buffers, where it is in its life, and until when it must make progress. Generic over any
//! non-blocking `Read + Write`, so that its tests need no socket. The engine calls it when the stream is ready or time
//! has passed, and does what the returned [`Step`] says; it never enters an application, and never blocks.
//!
//! ```text
//!           head complete        body there (or body_buffer full)        answered, keep-alive
//!   Head ─────────────────► Body ─────────────────────────────► Busy ─────────────────────► Head
//!     │ refused, timed out    │ refused, cut, timed out           │ answered, no keep-alive
//!     └───────────────────────┴─────────────► Closing ◄───────────┘ flush, shut down, discard, gone
//! ```
use crate::app::Received;
use crate::http::body::Decoder;
use crate::http::{Framing, Head, Refusal, Scan, encode, head};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

mod buffers;
mod exchange;
mod terms;
pub use terms::{BodyRead, Context, FileSent, Outcome, Rules, Sent, Step, Stream};

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
    Body { head: Head, body: Vec<u8> },
    Busy,
    Closing { shut: bool },
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
    too_slow: bool,
    deadline: Option<Instant>,
    bytes_out: u64,
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
            deadline: Some(now + rules.header),
            bytes_out: 0,
        }
    }

    /// The stream below.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// When [`Conn::on_deadline`] is to be called, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether no request is being received or served, and the last answer has left.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.unused() == 0 && self.unsent() == 0
    }

    /// Whether the peer can still receive something.
    pub fn is_connected(&self) -> bool {
        !self.gone && !matches!(self.phase, Phase::Closing { .. })
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
            Phase::Busy if progress && self.deadline.is_some() => {
                self.deadline = (left > 0 || self.wants_room).then(|| cx.now + cx.rules.write);
            }
            Phase::Busy => {}
            Phase::Head | Phase::Body { .. } if self.gone => return Step::Drop,
            // The last answer is still leaving: only when it has left is the connection idle.
            Phase::Head if progress && !self.in_head => self.deadline = Some(self.idle_deadline(cx)),
            Phase::Head | Phase::Body { .. } => {}
        }
        if self.wants_room && (self.gone || left <= cx.rules.write_buffer / 2) {
            self.wants_room = false;
            return Step::Wake;
        }
        Step::Wait
    }

    /// Both directions of the stream are gone.
    pub fn on_gone(&mut self) -> Step {
        self.gone = true;
        self.ended = true;
        match self.phase {
            Phase::Busy => self.wake_if_wanted(),
            _ => Step::Drop,
        }
    }

    /// The deadline has passed.
    pub fn on_deadline(&mut self, cx: &Context<'_>) -> Step {
        self.deadline = None;
        match &self.phase {
            Phase::Head if self.unused() == 0 => Step::Drop,
            Phase::Head => {
                self.refuse(Refusal { status: 408, reason: "the request head did not arrive in time" }, cx)
            }
            Phase::Body { .. } => {
                self.refuse(Refusal { status: 408, reason: "the request body did not arrive in time" }, cx)
            }
            Phase::Busy => {
                self.too_slow = true;
                self.gone |= self.wants_room || self.unsent() > 0;
                self.wake_if_wanted()
            }
            Phase::Closing { .. } => Step::Drop,
        }
    }

    /// Goes on with what has been received: reads, parses, and says what is next.
    pub fn advance(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            let room = match &self.phase {
                Phase::Head | Phase::Body { .. } => usize::MAX,
                Phase::Busy => READ_AHEAD.saturating_sub(self.unused()),
                Phase::Closing { .. } => return self.close_step(cx),
            };
            let mut progress = self.read(cx.scratch, room);
            if self.is_link(cx) {
                return Step::Link;
            }
            progress |= match &mut self.phase {
                Phase::Head => match self.parse(cx) {
                    Ok(progress) => progress,
                    Err(refusal) => return self.refuse(refusal, cx),
                },
                Phase::Body { .. } => match self.buffer_body(cx) {
                    Ok(progress) => progress,
                    Err(refusal) => return self.refuse(refusal, cx),
                },
                _ => {
                    let something = self.unused() > 0 || self.ended;
                    return if self.wants_body && something { self.wake_if_wanted() } else { Step::Wait };
                }
            };
            if let Some(request) = self.take_ready(cx.rules) {
                return Step::Run(Box::new(request));
            }
            if progress {
                continue;
            }
            if self.ended {
                return match &self.phase {
                    Phase::Head if self.unused() == 0 && self.unsent() == 0 => Step::Drop,
                    // The peer has said all, but not yet heard all.
                    Phase::Head if self.unused() == 0 => self.close(cx),
                    _ => self.refuse(Refusal { status: 400, reason: "the request ended early" }, cx),
                };
            }
            return Step::Wait;
        }
    }

    /// The response is complete, as far as it will ever be. With `keep` the next request may follow on this connection.
    pub fn finish(&mut self, keep: bool, cx: &Context<'_>) -> Step {
        (self.wants_body, self.wants_room, self.too_slow) = (false, false, false);
        if self.gone {
            return Step::Drop;
        }
        if keep && self.skip_body(cx.rules) {
            self.phase = Phase::Head;
            self.deadline = Some(self.idle_deadline(cx));
            self.trim();
            return Step::More;
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

    /// The request that was about to run is refused instead.
    pub fn reject(&mut self, status: u16, reason: &'static str, cx: &Context<'_>) -> Step {
        self.refuse(Refusal { status, reason }, cx)
    }

    /// Drops the connection without a word: the peer must see that something is missing.
    pub fn abort(&mut self) {
        self.stream.reset();
        self.gone = true;
        self.output.clear();
        self.sent = 0;
    }

    fn parse(&mut self, cx: &Context<'_>) -> Result<bool, Refusal> {
        let input = &self.input[self.used..];
        if input.is_empty() {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.in_head, true) {
            self.deadline = Some(cx.now + cx.rules.header);
        }
        let Some(head) = head::parse(input, &cx.rules.head, &mut self.scan)? else { return Ok(false) };
        self.in_head = false;
        self.consume(head.len());
        self.decoder = Decoder::new(head.framing(), cx.rules.head.body);
        if head.expect_continue() && !self.decoder.is_done() && self.unused() == 0 {
            self.output.extend_from_slice(encode::CONTINUE);
            self.flush();
        }
        self.deadline = Some(cx.now + cx.rules.body);
        self.phase = Phase::Body { head, body: Vec::new() };
        Ok(true)
    }

    fn buffer_body(&mut self, cx: &Context<'_>) -> Result<bool, Refusal> {
        let Phase::Body { body, .. } = &mut self.phase else { return Ok(false) };
        let room = cx.rules.body_buffer.saturating_sub(body.len());
        if self.decoder.is_done() || room == 0 {
            return Ok(false);
        }
        let progress = self.decoder.decode(&self.input[self.used..], body, room)?;
        self.consume(progress.consumed);
        if progress.consumed > 0 {
            self.deadline = Some(cx.now + cx.rules.body);
        }
        Ok(progress.consumed > 0)
    }

    fn take_ready(&mut self, rules: &Rules) -> Option<Received> {
        let Phase::Body { body, .. } = &self.phase else { return None };
        let complete = self.decoder.is_done();
        if !complete && body.len() < rules.body_buffer {
            return None;
        }
        let Phase::Body { head, body } = std::mem::replace(&mut self.phase, Phase::Busy) else { return None };
        self.deadline = None;
        Some(Received { head, body, complete })
    }

    /// Reads and forgets what is left of a body that has arrived anyway; false if the rest is still to come.
    fn skip_body(&mut self, rules: &Rules) -> bool {
        let mut discarded = Vec::new();
        while !self.decoder.is_done() {
            match self.decoder.decode(&self.input[self.used..], &mut discarded, rules.body_buffer) {
                Ok(progress) if progress.consumed > 0 => self.consume(progress.consumed),
                _ => return false,
            }
            discarded.clear();
        }
        !self.ended || self.unused() > 0
    }

    fn refuse(&mut self, refusal: Refusal, cx: &Context<'_>) -> Step {
        self.output.extend_from_slice(&encode::simple(refusal.status, refusal.reason, cx.date, false, false));
        self.close(cx)
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

    fn wake_if_wanted(&mut self) -> Step {
        if self.wants_body && self.unsent() == 0 {
            // The deadline was that of the body.
            self.deadline = None;
        }
        if std::mem::take(&mut self.wants_body) | std::mem::take(&mut self.wants_room) {
            Step::Wake
        } else {
            Step::Wait
        }
    }
}

#[cfg(test)]
mod tests;
