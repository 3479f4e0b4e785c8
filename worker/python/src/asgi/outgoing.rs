//! The answer of one request on its way out: which messages may come next, and what the connection has not taken yet. Nothing
//! in here waits, and nothing is Python's: `channel` and `life` wait, until [`Outgoing::flush`] says that all has left.
use appliance_worker::answer::{Answer, Opening, TOGETHER};
use appliance_worker::{CoreId, Engine, FileSent, Outcome, Request, Sent};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes of a file that are read at once where the kernel cannot send it.
const BLOCK: usize = 64 * 1024;
/// Bytes of a file that leave before the others have their turn.
const TURN: u64 = 2 * 1024 * 1024;

/// Where an answer is. Each message leads to the next state or is refused.
#[derive(Default)]
enum Phase {
    /// No message has come.
    #[default]
    Silent,
    /// The head is there; it leaves with the beginning of the body.
    Held(Opening),
    /// The head has left.
    Open(Answer),
    /// The last of the body has been given.
    Complete(Answer),
}

/// A part of a file that is to be sent.
struct Part {
    file: Arc<File>,
    offset: u64,
    end: u64,
    /// What follows it.
    after: &'static [u8],
    /// It ends the answer.
    is_last: bool,
    /// The kernel has not refused to send it.
    by_kernel: bool,
}

/// See the module.
#[derive(Default)]
pub struct Outgoing {
    phase: Phase,
    /// Bytes that the connection had no room for, and how many of them have left.
    unsent: Vec<u8>,
    left: usize,
    /// They end the answer.
    is_last: bool,
    part: Option<Part>,
    gone: bool,
}

/// Whether what was given has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All of it.
    All,
    /// Some is left: the core is woken when there is room.
    Wait,
    /// There is nobody to take it.
    Gone,
}

/// Who sends what where.
#[derive(Clone, Copy)]
pub struct To<'a> {
    /// The loop.
    pub engine: &'a Engine,
    /// The request's core.
    pub core: CoreId,
    /// What is answered.
    pub request: &'a Request,
}

impl Outgoing {
    /// Whether a message that begins the answer is expected.
    pub fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Silent)
    }

    /// Whether nothing of the final answer has left.
    pub fn is_unheard_of(&self) -> bool {
        matches!(self.phase, Phase::Silent | Phase::Held(_))
    }

    /// Whether all of the answer has been given.
    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Complete(_))
    }

    /// Whether the client waits for nothing more.
    pub fn is_whole(&self) -> bool {
        match &self.phase {
            Phase::Complete(_) => true,
            Phase::Open(answer) => answer.is_whole(),
            Phase::Silent | Phase::Held(_) => false,
        }
    }

    /// The answer, once its head has left.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.phase {
            Phase::Open(answer) | Phase::Complete(answer) => Some(answer),
            Phase::Silent | Phase::Held(_) => None,
        }
    }

    /// How the answer ends if nothing is added to it.
    pub fn outcome(&self) -> Outcome {
        match &self.phase {
            Phase::Complete(answer) if answer.missing() > 0 => Outcome::Cut,
            Phase::Complete(answer) if answer.keep_alive() => Outcome::Keep,
            Phase::Complete(_) => Outcome::Close,
            _ => Outcome::Cut,
        }
    }

    /// The head of the answer; it replaces one that has not left.
    pub fn start(&mut self, opening: Opening) {
        self.phase = Phase::Held(opening);
    }

    /// A piece of the body, which may be the last. False: the answer has not begun, or is complete.
    pub fn body(&mut self, to: To<'_>, content: &[u8], is_last: bool) -> bool {
        let whole = is_last.then_some(content.len() as u64);
        let Some((mut answer, mut out)) = self.open(to, whole) else { return false };
        let piece = answer.piece(content);
        out.extend_from_slice(&piece.before);
        let together = !out.is_empty() && piece.content.len() <= TOGETHER;
        if together {
            out.extend_from_slice(piece.content);
            out.extend_from_slice(piece.after);
            if is_last {
                out.extend_from_slice(answer.end());
            }
            self.push(to, &out, false);
        } else {
            self.push(to, &out, false);
            self.push(to, piece.content, piece.last);
            self.push(to, piece.after, false);
            if is_last {
                self.push(to, answer.end(), false);
            }
        }
        self.phase = if is_last { Phase::Complete(answer) } else { Phase::Open(answer) };
        true
    }

    /// A file as the whole body. False: the answer has not begun, or is complete.
    pub fn file(&mut self, to: To<'_>, file: File, length: u64) -> bool {
        let Some((mut answer, mut out)) = self.open(to, Some(length)) else { return false };
        let piece = answer.piece_of(usize::try_from(length).unwrap_or(usize::MAX));
        out.extend_from_slice(&piece.before);
        self.push(to, &out, false);
        let end = piece.content as u64;
        self.part = Some(Part {
            file: Arc::new(file),
            offset: 0,
            end,
            after: piece.after,
            is_last: piece.last,
            by_kernel: true,
        });
        self.phase = Phase::Complete(answer);
        true
    }

    /// Bytes in front of the answer, as they go on the wire.
    pub fn interim(&mut self, to: To<'_>, bytes: Vec<u8>) {
        let bytes = to.engine.send_interim(to.core, bytes);
        self.push(to, &bytes, false);
    }

    /// The answer, and what of its head must leave with the first piece of the body.
    fn open(&mut self, to: To<'_>, whole: Option<u64>) -> Option<(Answer, Vec<u8>)> {
        match std::mem::take(&mut self.phase) {
            Phase::Held(opening) => {
                let (answer, head) = opening.finish(to.engine, to.core, to.request, whole);
                let end = answer.has_no_body();
                Some((answer, to.engine.send_head(to.core, head, end)))
            }
            Phase::Open(answer) => Some((answer, Vec::new())),
            other => {
                self.phase = other;
                None
            }
        }
    }

    fn push(&mut self, to: To<'_>, data: &[u8], is_last: bool) {
        if data.is_empty() {
            return;
        }
        let mut taken = 0;
        if self.unsent.is_empty() {
            match to.engine.send(to.core, data, is_last) {
                Sent::All => return,
                Sent::Part(n) => taken = n,
                Sent::Gone => {
                    self.gone = true;
                    return;
                }
            }
        }
        self.unsent.extend_from_slice(&data[taken..]);
        self.is_last = is_last;
    }

    /// Sends what was left over.
    pub fn flush(&mut self, to: To<'_>) -> io::Result<Flushed> {
        while self.left < self.unsent.len() && !self.gone {
            match to.engine.send(to.core, &self.unsent[self.left..], self.is_last) {
                Sent::All => self.left = self.unsent.len(),
                Sent::Part(n) => {
                    self.left += n;
                    return Ok(Flushed::Wait);
                }
                Sent::Gone => self.gone = true,
            }
        }
        if self.gone {
            return Ok(Flushed::Gone);
        }
        self.unsent.clear();
        self.left = 0;
        let Some(mut part) = self.part.take() else { return Ok(Flushed::All) };
        let stop = part.end.min(part.offset.saturating_add(TURN));
        if self.send_part(to, &mut part, stop)? {
            if part.offset < part.end {
                // The others have their turn.
                to.engine.wake(to.core);
                self.part = Some(part);
                return Ok(Flushed::Wait);
            }
            self.push(to, part.after, false);
            if let Phase::Complete(answer) = &self.phase {
                let end = answer.end();
                self.push(to, end, false);
            }
            return self.flush(to);
        }
        self.part = Some(part);
        Ok(if self.gone { Flushed::Gone } else { Flushed::Wait })
    }

    /// Sends a file up to `stop`; false: there is no room, or nobody to take it.
    fn send_part(&mut self, to: To<'_>, part: &mut Part, stop: u64) -> io::Result<bool> {
        while part.offset < stop && part.by_kernel {
            let count = usize::try_from(stop - part.offset).unwrap_or(usize::MAX);
            match to.engine.send_file(to.core, Arc::clone(&part.file), part.offset, count) {
                FileSent::Part(n) => part.offset += n as u64,
                FileSent::Wait => return Ok(false),
                FileSent::End => return Err(shorter()),
                FileSent::Unsupported => part.by_kernel = false,
                FileSent::Gone => {
                    self.gone = true;
                    return Ok(false);
                }
            }
        }
        let mut block = vec![0; BLOCK];
        while part.offset < stop {
            let most = BLOCK.min(usize::try_from(stop - part.offset).unwrap_or(BLOCK));
            let n = match part.file.read_at(&mut block[..most], part.offset) {
                Ok(0) => return Err(shorter()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            part.offset += n as u64;
            self.push(to, &block[..n], part.is_last && part.offset == part.end);
            if self.gone || !self.unsent.is_empty() {
                return Ok(part.offset == stop && !self.gone);
            }
        }
        Ok(true)
    }
}

fn shorter() -> io::Error {
    io::Error::other("the file became shorter while it was sent; the client sees that the answer is cut")
}
