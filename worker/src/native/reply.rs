//! The answer of a native application on its way out. Status and header fields are collected, and the beginning of the body
//! is kept, so that a small answer leaves in one piece and with its length; what is larger is sent as it comes, and its writer
//! waits while the client is slower; how its pieces leave is in `pieces`. Runs in the request's coroutine; no borrow is held
//! where it may wait.
use super::call::{Call, Ending, Trouble};
use super::pieces::Leaving;
use super::table::anywhere::Refused;
use super::waiting::Here;
use crate::Outcome;
use crate::answer::{Answer, Cause, Opening, TOGETHER};
use crate::engine::OVERDUE;
use crate::http::declared::Invalid;
use crate::http::encode;
use crate::websocket::handshake::Refusal;
use nix::errno::Errno;
use std::borrow::Cow;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// 0: nobody has said.
    status: u16,
    /// The head, as soon as there is a header field in it.
    opening: Option<Opening>,
    held: Vec<u8>,
    pub(super) answer: Option<Answer>,
    /// The piece of the body that is on its way.
    pub(super) leaving: Leaving,
}

/// Why an application that has failed need not answer for it.
enum Excuse {
    /// Nobody takes its answer.
    Gone,
    /// Its client wanted a WebSocket, and has not asked for it as one must.
    Refused(Refusal),
}

impl Here {
    /// Sets the status.
    pub(super) fn set_status(&self, status: u16) -> Result<(), Refused> {
        let mut reply = self.call.reply.borrow_mut();
        reply.may_say_more()?;
        if !(200..=599).contains(&status) {
            let why = format!("{status} is the status of no answer; write one from 200 to 599");
            return Err(Refused::new(Errno::EINVAL, why));
        }
        reply.status = status;
        Ok(())
    }

    /// Adds a header field.
    pub(super) fn add_header(&self, name: &[u8], value: &[u8]) -> Result<(), Refused> {
        let mut reply = self.call.reply.borrow_mut();
        reply.may_say_more()?;
        let opening = reply.opening.get_or_insert_with(|| Opening::without_status(&self.call.request));
        opening.header(name, value).map_err(|error| Refused::new(Errno::EINVAL, error.to_string()))
    }

    /// Adds to the body.
    pub(super) fn write(&self, data: &[u8]) -> Result<(), Errno> {
        {
            let mut reply = self.call.reply.borrow_mut();
            if reply.is_switched() {
                return Err(Errno::EALREADY);
            }
            if reply.answer.is_none() && reply.held.len() + data.len() <= TOGETHER {
                reply.held.extend_from_slice(data);
                return if self.call.ending().is_some() { Err(Errno::ECANCELED) } else { Ok(()) };
            }
        }
        self.take_turn()?;
        self.flush()?;
        self.send_piece(Vec::new(), data)
    }

    /// Sends what was kept; the head leaves also if that is nothing.
    pub(super) fn flush(&self) -> Result<(), Errno> {
        if self.call.reply.borrow().answer.is_some() {
            return Ok(());
        }
        let head = self.open(None)?;
        let held = std::mem::take(&mut self.call.reply.borrow_mut().held);
        self.send_piece(head, &held)
    }

    /// Writes the head; what of it must leave with the first piece of the body. `whole`: how long the body is, if that is known.
    pub(super) fn open(&self, whole: Option<u64>) -> Result<Vec<u8>, Errno> {
        let (status, opening) = {
            let mut reply = self.call.reply.borrow_mut();
            (if reply.status == 0 { 200 } else { reply.status }, reply.opening.take())
        };
        let opening = opening.unwrap_or_else(|| Opening::without_status(&self.call.request));
        self.begin(opening, status, whole).map_err(|error| self.invalid(&error))
    }

    /// Makes the connection a WebSocket, with the header fields that were added. False if the client has left.
    pub(super) fn switch(&self, key: &[u8], protocol: Option<&str>) -> Result<bool, Errno> {
        let opening = {
            let mut reply = self.call.reply.borrow_mut();
            if !reply.is_empty() {
                return Err(Errno::EALREADY);
            }
            reply.opening.take()
        };
        let mut opening = opening.unwrap_or_else(|| Opening::without_status(&self.call.request));
        opening.switch(key, protocol);
        let (engine, core) = (&self.native.engine, self.call.core);
        let (answer, head) = opening.finish(&**engine, core, &self.call.request, None);
        let is_open = engine.open_websocket(core, &head);
        if is_open {
            self.call.reply.borrow_mut().answer = Some(answer);
        }
        Ok(is_open)
    }

    /// What the application has put into its head cannot be sent.
    fn invalid(&self, error: &Invalid) -> Errno {
        self.call.note_failure(&error.to_string());
        Errno::EINVAL
    }

    /// Writes a head that lacks only its status; what of it must leave with the first piece of the body.
    fn begin(&self, mut opening: Opening, status: u16, whole: Option<u64>) -> Result<Vec<u8>, Invalid> {
        let (engine, core) = (&self.native.engine, self.call.core);
        let status = match status {
            // The usual one takes no memory.
            200 => Cow::Borrowed("200 OK"),
            status => Cow::Owned(format!("{status} {}", encode::reason(status))),
        };
        opening.set_status(core, status.as_bytes())?;
        let (answer, head) = opening.finish(&**engine, core, &self.call.request, whole);
        let end = answer.has_no_body();
        self.call.reply.borrow_mut().answer = Some(answer);
        Ok(engine.send_head(core, head, end))
    }

    /// The application has returned `code`: ends the answer.
    pub(super) fn complete(&self, code: i32) {
        let is_cut = || self.is_cut().then_some(Trouble::Failed(Cause::Exception));
        let trouble = self.call.trouble(code).or_else(is_cut).or_else(|| {
            self.end_answer().err().map(|error| match error {
                Errno::EINVAL => Trouble::Failed(Cause::Exception),
                // Meanwhile it may have been ended, or another coroutine may have failed.
                _ => self.call.trouble(0).or_else(is_cut).unwrap_or(Trouble::Gone),
            })
        });
        let outcome = match trouble {
            None => {
                if let Some(answer) = &self.call.reply.borrow().answer {
                    answer.check_length(&self.call.request);
                }
                (outcome(&self.call), false)
            }
            Some(Trouble::Gone) => (self.give_up(), false),
            Some(Trouble::Failed(cause)) => match self.excuse() {
                Some(Excuse::Gone) => (self.give_up(), false),
                Some(Excuse::Refused(refusal)) => (self.answer_refusal(refusal), false),
                None => {
                    self.report(cause, code);
                    (self.answer_failure(cause), true)
                }
            },
        };
        self.close_answer();
        self.call.outcome.set(outcome);
    }

    /// Why it failed, if it was perhaps only because of its client. That is no excuse for who has answered all of it, nor for a
    /// WebSocket's application, which is told of that end.
    fn excuse(&self) -> Option<Excuse> {
        let reply = self.call.reply.borrow();
        let has_answered = !self.is_cut() && reply.answer.as_ref().is_some_and(Answer::is_whole);
        if !has_answered && !self.native.engine.is_connected(self.call.core) {
            return Some(Excuse::Gone);
        }
        if self.call.ending().is_some() || self.call.failure.borrow().is_some() {
            return None;
        }
        let socket = &self.call.socket;
        let refused = socket.refused().filter(|_| reply.answer.is_none()).map(Excuse::Refused);
        refused.or(socket.closed().map(|_| Excuse::Gone))
    }

    /// Sends what was kept as the whole body, or what follows the last piece of one that was not.
    fn end_answer(&self) -> Result<(), Errno> {
        let end = self.call.reply.borrow().answer.as_ref().map(Answer::end);
        if let Some(end) = end {
            return self.send_end(end);
        }
        let held = std::mem::take(&mut self.call.reply.borrow_mut().held);
        let head = self.open(Some(held.len() as u64))?;
        self.send_piece(head, &held)
    }

    fn report(&self, cause: Cause, code: i32) {
        if cause == Cause::TimedOut {
            // It was said when it was told to end.
            return;
        }
        let why = self.call.failure.borrow_mut().take();
        let why = why.unwrap_or_else(|| match code {
            ..0 => format!("it returned {code}: {}", Errno::from_raw(code.saturating_neg()).desc()),
            _ => format!("it returned {code}, and did not say why"),
        });
        tracing::error!("the native application failed: {}: {why}", self.call.describe());
    }

    /// Ends an answer that nobody is thought to take. A client of HTTP/1.0 that has only closed its own side, and reads on, would
    /// take a mere end for that of the body.
    fn give_up(&self) -> Outcome {
        let is_cut = self.call.reply.borrow().answer.as_ref().is_some_and(|answer| !answer.is_whole());
        if is_cut {
            self.native.engine.abort(self.call.core, Cause::Exception);
        }
        Outcome::Cut
    }

    /// A 500 or 504 if nothing was sent, else a cut that the client can see.
    fn answer_failure(&self, cause: Cause) -> Outcome {
        let (engine, core) = (&self.native.engine, self.call.core);
        if self.call.reply.borrow().answer.is_some() {
            engine.abort(core, cause);
            return Outcome::Cut;
        }
        match cause {
            Cause::TimedOut => self.answer_plainly(504, OVERDUE, &[], Some(cause)),
            _ => self.answer_plainly(500, "Internal Server Error", &[], Some(cause)),
        }
    }

    /// What a client hears that wanted a WebSocket and cannot have it.
    fn answer_refusal(&self, refusal: Refusal) -> Outcome {
        self.answer_plainly(refusal.status, refusal.reason, refusal.headers(), None)
    }

    /// An answer of the server itself.
    fn answer_plainly(
        &self,
        status: u16,
        sentence: &str,
        fields: &[(&str, &str)],
        cause: Option<Cause>,
    ) -> Outcome {
        let body = format!("{sentence}\n");
        let mut opening = Opening::without_status(&self.call.request);
        if let Some(cause) = cause {
            opening.cause(cause);
        }
        let mut all = fields.iter().chain(&[("Content-Type", "text/plain; charset=utf-8")]);
        let added = all.try_for_each(|(name, value)| opening.header(name.as_bytes(), value.as_bytes()));
        let head = added.and_then(|()| self.begin(opening, status, Some(body.len() as u64)));
        match head.map(|head| self.send_piece(head, body.as_bytes())) {
            Ok(Ok(())) => outcome(&self.call),
            Ok(Err(_)) | Err(_) => Outcome::Cut,
        }
    }
}

impl Reply {
    /// An error once its head has left.
    fn may_say_more(&self) -> Result<(), Refused> {
        let why = "the answer has begun: its status and its header fields have left";
        if self.answer.is_some() { Err(Refused::new(Errno::EALREADY, why)) } else { Ok(()) }
    }

    /// Whether nothing of its body was given yet, and its head has not left.
    pub(super) fn is_empty(&self) -> bool {
        self.answer.is_none() && self.held.is_empty()
    }

    /// Whether it has made the connection a WebSocket, on which it says no more.
    pub(super) fn is_switched(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.status() == 101)
    }
}

/// How the answer ends if nothing is added to it.
fn outcome(call: &Call) -> Outcome {
    let reply = call.reply.borrow();
    match &reply.answer {
        _ if call.ending() == Some(Ending::Left) => Outcome::Cut,
        Some(answer) if answer.missing() > 0 => Outcome::Cut,
        Some(answer) if answer.keep_alive() => Outcome::Keep,
        Some(_) => Outcome::Close,
        None => Outcome::Cut,
    }
}
