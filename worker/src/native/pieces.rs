//! The body of a native answer as it leaves: one piece after the other, each whole and with what frames it, whichever coroutine
//! of the request sends it. A piece of which a part never leaves is the last one, and the answer is cut behind it: where another
//! one would begin, its client could not know. The loop has its turn now and then, however fast the client is. Called by
//! `reply`, which decides what is sent; no borrow is held where something may wait.
use super::waiting::Here;
use crate::answer::{Answer, TOGETHER};
use crate::{FileSent, Sent};
use nix::errno::Errno;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes that are sent before the loop has its turn.
const TURN: usize = 1024 * 1024;
/// Bytes of a file that are read at once where the kernel cannot send it.
const BLOCK: usize = 64 * 1024;

/// The piece that is on its way; there is one at a time.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    state: State,
    /// Coroutines that want to send the next one.
    waiting: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Nothing,
    Piece,
    /// What was to be sent has not left whole.
    Cut,
    /// The application has returned. Coroutines of it may still run until they are told to end.
    Over,
}

impl Here {
    /// Whether something that was to be sent never will be.
    pub(super) fn is_cut(&self) -> bool {
        self.call.reply.borrow().leaving.state == State::Cut
    }

    /// Nothing follows what has been sent: what comes next on the connection belongs to the next request.
    pub(super) fn close_answer(&self) {
        self.set_leaving(State::Over);
    }

    /// Sends a piece of the body behind what was written before it.
    pub(super) fn send_piece(&self, out: Vec<u8>, content: &[u8]) -> Result<(), Errno> {
        self.alone(|| {
            let piece = self.call.reply.borrow_mut().answer.as_mut().map(|answer| answer.piece(content));
            piece.map_or(Ok(()), |piece| piece.send_behind(out, |part, last| self.send(part, last)))
        })
    }

    /// Sends what follows the last piece.
    pub(super) fn send_end(&self, end: &[u8]) -> Result<(), Errno> {
        self.alone(|| self.send(end, false))
    }

    /// Adds bytes of a file to the body. If that fails when something of the answer has left, nothing follows.
    pub(super) fn send_file(&self, file: File, offset: u64, count: u64) -> Result<(), Errno> {
        if self.call.reply.borrow().is_switched() {
            return Err(Errno::EALREADY);
        }
        let end = offset.checked_add(count).ok_or(Errno::EINVAL)?;
        self.send_range(&Arc::new(file), offset, end).inspect_err(|error| {
            let mut reply = self.call.reply.borrow_mut();
            if reply.answer.is_some() {
                reply.leaving.state = State::Cut;
            }
            match error {
                Errno::ECANCELED | Errno::EPIPE => {}
                Errno::ENODATA => {
                    self.call.note_failure("a file has ended before all that was to be sent of it");
                }
                error => self.call.note_failure(&format!("a file cannot be sent: {}", error.desc())),
            }
        })
    }

    fn send_range(&self, file: &Arc<File>, mut offset: u64, end: u64) -> Result<(), Errno> {
        let is_large = end - offset > TOGETHER as u64;
        if is_large && self.call.reply.borrow().is_empty() {
            let head = self.open(Some(end - offset))?;
            self.send_piece(head, b"")?;
        }
        let mut by_kernel = is_large;
        while offset < end {
            let part = (end - offset).min(TURN as u64);
            if by_kernel {
                by_kernel = self.send_by_kernel(file, &mut offset, part as usize)?;
            } else {
                let mut block = vec![0; BLOCK.min(part as usize)];
                let read = read_at(file, &mut block, offset)?;
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
    fn send_by_kernel(&self, file: &Arc<File>, offset: &mut u64, count: usize) -> Result<bool, Errno> {
        self.flush()?;
        let (engine, core) = (&self.native.engine, self.call.core);
        let mut by_kernel = true;
        self.alone(|| {
            // Whether the kernel can is known only after the size of a chunk was sent, so then the rest of it is read.
            let piece = self.call.reply.borrow_mut().answer.as_mut().map(|answer| answer.piece_of(count));
            let Some(piece) = piece else { return Err(Errno::EBADF) };
            let end = *offset + piece.content as u64;
            self.send(&piece.before, false)?;
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
            self.send(piece.after, false)
        })?;
        Ok(by_kernel)
    }

    /// Whether nothing that is still given can be sent.
    fn is_full(&self) -> bool {
        self.call.reply.borrow().answer.as_ref().is_some_and(Answer::is_full)
    }

    /// Sends one piece while no other coroutine does. Whoever has waited for that comes before whoever has not.
    fn alone(&self, send: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let mut has_waited = false;
        loop {
            let Leaving { state, waiting } = self.call.reply.borrow().leaving;
            match state {
                State::Cut => return Err(Errno::EPIPE),
                State::Over => return Err(Errno::ECANCELED),
                State::Nothing if has_waited || waiting == 0 => break,
                State::Nothing => self.call.set_news(),
                State::Piece => {}
            }
            self.count_waiting(1);
            let waited = self.room();
            self.count_waiting(-1);
            waited?;
            has_waited = true;
        }
        self.set_leaving(State::Piece);
        let sent = send();
        self.set_leaving(if sent.is_ok() { State::Nothing } else { State::Cut });
        sent
    }

    fn count_waiting(&self, by: i32) {
        let waiting = &mut self.call.reply.borrow_mut().leaving.waiting;
        *waiting = waiting.saturating_add_signed(by);
    }

    fn set_leaving(&self, state: State) {
        let leaving = &mut self.call.reply.borrow_mut().leaving;
        leaving.state = state;
        if leaving.waiting > 0 {
            self.call.set_news();
        }
    }

    /// Sends bytes as they go on the wire.
    fn send(&self, data: &[u8], last: bool) -> Result<(), Errno> {
        let mut rest = data;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(TURN)];
            match self.native.engine.send(self.call.core, part, last && part.len() == rest.len()) {
                Sent::All if part.len() == rest.len() => break,
                Sent::All => {
                    rest = &rest[part.len()..];
                    self.turn()?;
                }
                Sent::Part(sent) => {
                    rest = &rest[sent..];
                    self.room()?;
                }
                Sent::Gone => return Err(Errno::EPIPE),
            }
        }
        Ok(())
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
