//! The access log of this worker's own listener: one line for each request that came in there, as the proxy writes one for
//! each of its own; what a line says is in [`appliance_link::access`]. Connections have a [`Line`] that is begun and ended with
//! each of their requests; the lines are collected and written to standard error at the end of a turn, when they are many or
//! the oldest is old. What cannot be written is lost, because neither a full disk nor a reader who has stopped reading must ever
//! stop the service. Requests that the proxy sent have no line here.
use super::{Due, Engine, Http, Way};
use crate::answer::Cause;
use crate::app::{Door, Peer, Received};
use crate::conn::{CLIENT_LEFT, Outcome};
use crate::cores::CoreId;
use crate::http::Version;
use crate::logging;
use crate::told::Told;
use appliance_link::access::{Entry, FLUSH_AFTER, Lines, PATH_BYTES, Style};
use appliance_link::reason;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a client that has closed its side may still wait for its answer, as long as at the proxy.
const LAST_WAIT: Duration = Duration::from_millis(500);
/// Bytes of a request's id that are logged.
const ID_BYTES: usize = 256;

/// The lines of this worker that wait to be written.
#[derive(Debug)]
pub(super) struct AccessLog {
    /// `None`: switched off.
    lines: Option<Lines>,
    /// A timer will flush them.
    is_timed: bool,
}

/// What will be said of the request that a connection serves. It is kept from request to request, with its memory.
#[derive(Debug)]
pub(super) struct Line {
    peer: Arc<Peer>,
    told: Arc<Told>,
    /// There is a request that has none yet.
    is_open: bool,
    method: Vec<u8>,
    target: Vec<u8>,
    id: Vec<u8>,
    version: Version,
    begun: Instant,
    arrived: Instant,
    /// The core that runs it, and since when.
    entered: Option<(u32, Instant)>,
    /// When its client left.
    left: Option<Instant>,
    /// Why the answer was cut.
    cause: Option<Cause>,
    /// Bytes of earlier answers that had not left when it began.
    before: u64,
}

/// A request to this worker's own listener that another server has answered there, which the host has set up.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a> {
    /// The client's address without a port.
    pub client: &'a str,
    /// As sent.
    pub method: &'a str,
    /// As sent.
    pub target: &'a str,
    /// As sent.
    pub version: Version,
    /// Of the answer; `None`: its client left before it began.
    pub status: Option<u16>,
    /// Whether its client left before its end.
    pub has_left: bool,
    /// Of the answer's body.
    pub bytes: u64,
    /// From the beginning of the request to the end of the answer.
    pub took: Duration,
    /// As the client has sent it; empty if it has not.
    pub id: &'a str,
}

/// How a request ends that has a line.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Its answer has ended so.
    Answered(Outcome),
    /// The engine has answered it: the status, why, and bytes of the body.
    Refused(u16, Cause, u64),
    /// Its client left before it had a core.
    Left,
}

impl End {
    /// `sentence` is what the client reads, unless it wanted the head only.
    pub(super) fn refused(status: u16, cause: Cause, sentence: &str, head_only: bool) -> End {
        let bytes = if head_only { 0 } else { sentence.len() as u64 + 1 };
        End::Refused(status, cause, bytes)
    }
}

impl super::Entry {
    /// A request has arrived on this connection; what its answer is to be told of, if it has a line.
    pub(super) fn begin_line(&mut self, received: &Received, arrived: Instant) -> Option<Arc<Told>> {
        let Way::Http(Http { conn, line: Some(line), .. }) = &mut self.way else { return None };
        Some(line.begin(received, conn.begun(), arrived, conn.delivered()))
    }
}

impl AccessLog {
    pub(super) fn new(style: Option<Style>) -> AccessLog {
        AccessLog { lines: style.map(Lines::new), is_timed: false }
    }

    fn flush(&mut self) {
        let Some(lines) = self.lines.as_mut().filter(|lines| !lines.is_empty()) else { return };
        lines.drain(logging::write);
    }
}

impl Line {
    fn new(peer: Arc<Peer>, now: Instant) -> Line {
        let [method, target, id] = [const { Vec::new() }; 3];
        Line {
            peer,
            told: Arc::default(),
            is_open: false,
            method,
            target,
            id,
            version: Version::Http11,
            begun: now,
            arrived: now,
            entered: None,
            left: None,
            cause: None,
            before: 0,
        }
    }

    /// A request has arrived. What its answer is to be told of.
    pub(super) fn begin(
        &mut self,
        received: &Received,
        begun: Instant,
        arrived: Instant,
        before: u64,
    ) -> Arc<Told> {
        match Arc::get_mut(&mut self.told) {
            Some(told) => told.clear(),
            // The last request still runs, although its answer has ended.
            None => self.told = Arc::default(),
        }
        let head = &received.head;
        put(&mut self.method, head.method().as_bytes(), PATH_BYTES);
        put(&mut self.target, head.target(), PATH_BYTES);
        put(&mut self.id, head.request_id().unwrap_or_default(), ID_BYTES);
        (self.is_open, self.version, self.begun, self.arrived) = (true, head.version(), begun, arrived);
        (self.entered, self.left, self.cause, self.before) = (None, None, None, before);
        Arc::clone(&self.told)
    }

    /// A core runs the request, whose client may have left before that.
    pub(super) fn enter(&mut self, core: CoreId, is_client_there: bool, now: Instant) {
        self.entered = Some((core.index, now));
        if !is_client_there {
            self.leave(now);
        }
    }

    pub(super) fn leave(&mut self, now: Instant) {
        self.left.get_or_insert(now);
    }

    pub(super) fn abort(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    /// Why it has failed, unless it is the application's own answer that says so. `trouble`: what the connection says.
    fn reason(
        &self,
        outcome: Outcome,
        trouble: Option<&'static str>,
        is_gone: bool,
        now: Instant,
    ) -> Option<&'static str> {
        let headline = self.told.headline();
        let cause = self.cause.or(headline.and_then(|headline| headline.cause));
        let is_cut = outcome == Outcome::Cut;
        let is_switched = headline.is_some_and(|headline| headline.status == 101);
        let has_left = |left: Instant| is_cut || is_gone || now.saturating_duration_since(left) >= LAST_WAIT;
        if trouble.is_some() {
            return trouble;
        }
        if self.left.is_some_and(has_left) {
            return Some(reason::CLIENT_GONE);
        }
        match cause {
            Some(cause) => Some(word(cause)),
            // Whoever serves a WebSocket ends with it, in one way or another.
            None if is_switched => None,
            None if is_gone => Some(reason::CLIENT_GONE),
            None if is_cut && headline.is_some() => Some(reason::SHORT_BODY),
            None => is_cut.then_some(reason::APP_CUT),
        }
    }

    /// The status that the client got, or would have got.
    fn status(&self, sent: u64, reason: Option<&'static str>) -> u16 {
        match (self.told.headline().filter(|_| sent > 0), reason) {
            (Some(headline), _) => headline.status,
            (None, Some(reason::CLIENT_GONE | reason::CLIENT_STALLED)) => CLIENT_LEFT,
            (None, Some(reason::APP_ERROR)) => 500,
            (None, Some(reason::REQUEST_TIMEOUT)) => 504,
            (None, Some(reason::SLOW_BODY)) => 408,
            (None, _) => 502,
        }
    }

    /// Bytes of the body among those that were sent.
    fn body(&self, sent: u64) -> u64 {
        match self.told.headline() {
            // Frames of a WebSocket are nobody's pieces.
            Some(headline) if headline.status == 101 => sent.saturating_sub(headline.length),
            Some(headline) => self.told.body().min(sent.saturating_sub(headline.length)),
            None => 0,
        }
    }
}

fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Exception => reason::APP_ERROR,
        Cause::Busy => reason::WORKER_BUSY,
        Cause::TimedOut => reason::REQUEST_TIMEOUT,
    }
}

fn put(into: &mut Vec<u8>, text: &[u8], most: usize) {
    into.clear();
    into.extend_from_slice(&text[..text.len().min(most)]);
}

impl Engine {
    /// The line of a connection that was just accepted; `None`: its requests have none here.
    pub(super) fn line_for(&self, peer: &Arc<Peer>) -> Option<Box<Line>> {
        let is_logged = peer.door == Door::Native && self.has_access_log();
        is_logged.then(|| Box::new(Line::new(Arc::clone(peer), self.now.get())))
    }

    /// Writes the line of the request that this connection serves, if it is to have one and has none. Before the connection is
    /// told of the end.
    pub(super) fn end_line(&self, http: &mut Http, end: End, now: Instant) {
        let Some(line) = http.line.as_mut().filter(|line| line.is_open) else { return };
        line.is_open = false;
        let sent = http.conn.delivered().saturating_sub(line.before);
        let (status, reason, bytes) = match end {
            End::Answered(outcome) => {
                let reason = line.reason(outcome, http.conn.trouble(), http.conn.is_gone(), now);
                (line.status(sent, reason), reason, line.body(sent))
            }
            End::Refused(status, cause, bytes) => (status, Some(word(cause)), bytes),
            End::Left => (CLIENT_LEFT, Some(reason::CLIENT_GONE), 0),
        };
        let headline = line.told.headline();
        let waited = line.entered.map_or(now, |(_, since)| since);
        self.add_line(&Entry {
            client: line.peer.address.as_bytes(),
            method: &line.method,
            path: &line.target,
            version: line.version.name(),
            status,
            bytes,
            took: now.saturating_duration_since(line.begun),
            queued: waited.saturating_duration_since(line.arrived),
            app: headline.map(|headline| headline.after),
            worker: Some(self.boot.worker_id),
            core: line.entered.map(|(core, _)| core),
            tries: 1,
            id: &line.id,
            reason,
            variables: headline.map_or(&[], |headline| &headline.variables),
        });
    }

    /// Writes the line of a request that the connection itself has refused, if it has just done so.
    pub(super) fn log_refused(&self, http: &mut Http) {
        let Some(refused) = http.conn.take_refused() else { return };
        let Some(line) = &http.line else { return };
        self.add_line(&Entry {
            client: line.peer.address.as_bytes(),
            method: &refused.method,
            path: &refused.target,
            version: refused.version.name(),
            status: refused.status,
            bytes: refused.bytes,
            took: self.now.get().saturating_duration_since(http.conn.begun()),
            worker: Some(self.boot.worker_id),
            reason: Some(refused.reason),
            ..Entry::default()
        });
    }

    /// Whether requests have lines.
    pub fn has_access_log(&self) -> bool {
        self.access.borrow().lines.is_some()
    }

    /// Writes the line of a request that came to another server.
    pub fn log_foreign(&self, request: &Foreign<'_>) {
        let id = request.id.as_bytes();
        self.add_line(&Entry {
            client: request.client.as_bytes(),
            method: request.method.as_bytes(),
            path: request.target.as_bytes(),
            version: request.version.name(),
            status: request.status.unwrap_or(CLIENT_LEFT),
            bytes: request.bytes,
            took: request.took,
            worker: Some(self.boot.worker_id),
            tries: 1,
            id: &id[..id.len().min(ID_BYTES)],
            reason: request.has_left.then_some(reason::CLIENT_GONE),
            ..Entry::default()
        });
    }

    fn add_line(&self, entry: &Entry<'_>) {
        if let Some(lines) = &mut self.access.borrow_mut().lines {
            lines.add(entry, SystemTime::now());
        }
    }

    /// At the end of a turn: writes the lines if they are many, and sees to it that they do not become old.
    pub(super) fn tend_access_log(&self) {
        let mut access = self.access.borrow_mut();
        match &access.lines {
            Some(lines) if lines.is_large() => access.flush(),
            Some(lines) if !lines.is_empty() && !access.is_timed => {
                access.is_timed = true;
                self.timers.borrow_mut().add(self.now.get() + FLUSH_AFTER, Due::AccessLog);
            }
            _ => {}
        }
    }

    /// Writes all lines, because their time has come or the worker ends.
    pub(super) fn flush_access_log(&self) {
        let mut access = self.access.borrow_mut();
        access.is_timed = false;
        access.flush();
    }
}

#[cfg(test)]
mod tests;
