//! The answer of a native application on its way out. Status and header fields are collected, and the beginning of the body
//! is kept, so that a small answer leaves in one piece and with its length; what is larger is sent as it comes, and its writer
//! waits while the client is slower. Runs in the request's coroutine; no borrow is held where it may wait.
use super::call::{Call, Ending, Trouble};
use super::table::anywhere::Refused;
use super::waiting::Here;
use crate::answer::{Answer, Cause, Opening, TOGETHER};
use crate::engine::OVERDUE;
use crate::http::declared::Invalid;
use crate::http::encode;
use crate::websocket::handshake::Refusal;
use crate::{FileSent, Outcome, Sent};
use nix::errno::Errno;
use std::borrow::Cow;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes of a file that are sent before the loop has its turn.
const TURN: u64 = 1024 * 1024;
/// Bytes of a file that are read at once where the kernel cannot send it.
const BLOCK: usize = 64 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// 0: nobody has said.
    status: u16,
    /// The head, as soon as there is a header field in it.
    opening: Option<Opening>,
    held: Vec<u8>,
    answer: Option<Answer>,
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

    /// Adds bytes of a file to the body.
    pub(super) fn send_file(&self, file: File, mut offset: u64, count: u64) -> Result<(), Errno> {
        if self.call.reply.borrow().is_switched() {
            return Err(Errno::EALREADY);
        }
        let file = Arc::new(file);
        let end = offset.checked_add(count).ok_or(Errno::EINVAL)?;
        let is_only = {
            let reply = self.call.reply.borrow();
            reply.answer.is_none() && reply.held.is_empty()
        };
        if is_only && count > TOGETHER as u64 {
            let head = self.open(Some(count))?;
            self.send_piece(head, b"")?;
        }
        let mut by_kernel = count > TOGETHER as u64;
        while offset < end {
            let part = (end - offset).min(TURN);
            if by_kernel {
                by_kernel = self.send_by_kernel(&file, &mut offset, part)?;
            } else {
                let mut block = vec![0; BLOCK.min((end - offset) as usize)];
                let read = read_at(&file, &mut block, offset)?;
                self.write(&block[..read])?;
                offset += read as u64;
            }
            if self.is_full() {
                break;
            }
            if offset < end {
                self.turn()?;
            }
        }
        Ok(())
    }

    /// Sends the next `count` bytes of a file without reading them; false if that cannot be done.
    fn send_by_kernel(&self, file: &Arc<File>, offset: &mut u64, count: u64) -> Result<bool, Errno> {
        self.flush()?;
        let (engine, core) = (&self.native.engine, self.call.core);
        // Whether the kernel can is known only after the size of a chunk was sent, so then the rest of it is read.
        let piece =
            self.call.reply.borrow_mut().answer.as_mut().map(|answer| answer.piece_of(count as usize));
        let Some(piece) = piece else { return Err(Errno::EBADF) };
        let end = *offset + piece.content as u64;
        self.send(&piece.before, false)?;
        let mut by_kernel = true;
        while *offset < end {
            let wanted = (end - *offset) as usize;
            if !by_kernel {
                let mut block = vec![0; BLOCK.min(wanted)];
                let read = read_at(file, &mut block, *offset)?;
                *offset += read as u64;
                self.send(&block[..read], piece.last && *offset == end)?;
                continue;
            }
            match engine.send_file(core, Arc::clone(file), *offset, wanted) {
                FileSent::Part(sent) => *offset += sent as u64,
                FileSent::Wait => self.room()?,
                FileSent::End => return Err(Errno::ENODATA),
                FileSent::Unsupported => by_kernel = false,
                FileSent::Gone => return Err(Errno::EPIPE),
            }
        }
        self.send(piece.after, false)?;
        Ok(by_kernel)
    }

    /// Whether nothing that is still given can be sent.
    fn is_full(&self) -> bool {
        self.call.reply.borrow().answer.as_ref().is_some_and(Answer::is_full)
    }

    /// Writes the head; what of it must leave with the first piece of the body. `whole`: how long the body is, if that is known.
    fn open(&self, whole: Option<u64>) -> Result<Vec<u8>, Errno> {
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
            if reply.answer.is_some() || !reply.held.is_empty() {
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

    /// Sends a piece of the body behind what was written before it.
    fn send_piece(&self, mut out: Vec<u8>, content: &[u8]) -> Result<(), Errno> {
        // The borrow ends before anything can wait.
        let piece = self.call.reply.borrow_mut().answer.as_mut().map(|answer| answer.piece(content));
        let Some(piece) = piece else { return Ok(()) };
        out.extend_from_slice(&piece.before);
        if out.is_empty() {
            return self.send(piece.content, piece.last);
        }
        if piece.content.len() <= TOGETHER {
            out.extend_from_slice(piece.content);
            out.extend_from_slice(piece.after);
            return self.send(&out, false);
        }
        self.send(&out, false)?;
        self.send(piece.content, false)?;
        self.send(piece.after, false)
    }

    /// Sends bytes as they go on the wire.
    fn send(&self, mut data: &[u8], last: bool) -> Result<(), Errno> {
        while !data.is_empty() {
            match self.native.engine.send(self.call.core, data, last) {
                Sent::All => break,
                Sent::Part(sent) => {
                    data = &data[sent..];
                    self.room()?;
                }
                Sent::Gone => return Err(Errno::EPIPE),
            }
        }
        Ok(())
    }

    /// The application has returned `code`: ends the answer.
    pub(super) fn complete(&self, code: i32) {
        let trouble = self.call.trouble(code).or_else(|| {
            self.end_answer().err().map(|error| match error {
                Errno::EINVAL => Trouble::Failed(Cause::Exception),
                _ => self.call.trouble(0).unwrap_or(Trouble::Gone),
            })
        });
        let outcome = match trouble {
            None => {
                if let Some(answer) = &self.call.reply.borrow().answer {
                    answer.check_length(&self.call.request);
                }
                (outcome(&self.call), false)
            }
            Some(Trouble::Gone) => (Outcome::Cut, false),
            Some(Trouble::Failed(cause)) => match self.excuse() {
                Some(Excuse::Gone) => (Outcome::Cut, false),
                Some(Excuse::Refused(refusal)) => (self.answer_refusal(refusal), false),
                None => {
                    self.report(cause, code);
                    (self.answer_failure(cause), true)
                }
            },
        };
        self.call.outcome.set(outcome);
    }

    /// Why it failed, if it was perhaps only because of its client. A WebSocket's application is told of that end, and so is
    /// to blame for all that it says of itself.
    fn excuse(&self) -> Option<Excuse> {
        let reply = self.call.reply.borrow();
        if !reply.is_switched() && !self.native.engine.is_connected(self.call.core) {
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
            return self.send(end, false);
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

    /// Whether it has made the connection a WebSocket, on which it says no more.
    fn is_switched(&self) -> bool {
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

fn read_at(file: &File, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
    loop {
        match file.read_at(into, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) => return Err(Errno::ENODATA),
            Ok(count) => return Ok(count),
            Err(error) => return Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        }
    }
}
