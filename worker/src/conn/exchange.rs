//! What the core that serves a connection may do with it: read on in the request's body, and send bytes or a file. And what
//! it must hear: that it may go on, or that its client has left.
use super::{BodyRead, Conn, Context, FileSent, Phase, READ_AHEAD, Sent, Step, Stream};
use std::fs::File;
use std::io::ErrorKind;

impl<S: Stream> Conn<S> {
    /// Reads the request's body into `into`, at most `max` bytes. Only for the core that serves this connection.
    pub fn read_body(&mut self, into: &mut Vec<u8>, max: usize, cx: &mut Context<'_>) -> BodyRead {
        if self.too_slow {
            return BodyRead::TOO_SLOW;
        }
        loop {
            if self.decoder.is_done() {
                return BodyRead::End;
            }
            let before = into.len();
            match self.decoder.decode(&self.input[self.used..], into, max) {
                Ok(progress) => {
                    self.consume(progress.consumed);
                    self.arrival.receive(progress.consumed);
                }
                Err(refusal) => {
                    self.account.trouble = Some(refusal.word);
                    return BodyRead::Cut(refusal.reason);
                }
            }
            if into.len() > before {
                return BodyRead::Data;
            }
            if self.decoder.is_done() {
                return BodyRead::End;
            }
            if self.ended {
                return BodyRead::GONE;
            }
            if self.read(cx.scratch, READ_AHEAD) || self.ended {
                continue;
            }
            self.wants_body = true;
            self.body_by = Some(self.arrival.wait(&cx.rules.body, cx.now));
            return BodyRead::Wait;
        }
    }

    /// Sends `data`, or keeps up to `write_buffer` bytes of it for later. Only for the core that serves this connection.
    pub fn send(&mut self, data: &[u8], cx: &Context<'_>) -> Sent {
        if self.gone {
            return Sent::Gone;
        }
        let mut taken = 0;
        if self.unsent() == 0 {
            taken = self.write(data);
            if self.gone {
                return Sent::Gone;
            }
            if taken == data.len() {
                return Sent::All;
            }
        }
        let room = cx.rules.write_buffer.saturating_sub(self.unsent()).min(data.len() - taken);
        self.output.extend_from_slice(&data[taken..taken + room]);
        taken += room;
        self.expect_progress(cx);
        if taken == data.len() {
            return Sent::All;
        }
        self.wants_room = true;
        Sent::Part(taken)
    }

    /// Sends up to `count` bytes of `file` from `offset` on, past our buffers, once what was sent before has left. Only for
    /// the core that serves this connection.
    pub fn send_file(&mut self, file: &File, offset: u64, count: usize, cx: &Context<'_>) -> FileSent {
        self.flush();
        while !self.gone && self.unsent() == 0 {
            match self.stream.send_file(file, offset, count) {
                Ok(0) => return FileSent::End,
                Ok(n) => {
                    self.bytes_out += n as u64;
                    self.deadline = None;
                    return FileSent::Part(n);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => break,
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => self.gone = true,
                    // If it was the connection after all, what is sent next says so.
                    _ => return FileSent::Unsupported,
                },
            }
        }
        if self.gone {
            return FileSent::Gone;
        }
        self.expect_progress(cx);
        self.wants_room = true;
        FileSent::Wait
    }

    /// Something waits to leave: the peer has so long to take the first of it.
    fn expect_progress(&mut self, cx: &Context<'_>) {
        self.deadline.get_or_insert(cx.now + cx.rules.write);
    }

    /// Whether nobody waits for an answer any more. A peer that has closed only its own side might, but can hardly be told
    /// from one that has left; nginx ends its request too (`proxy_ignore_client_abort`).
    pub fn has_left(&self) -> bool {
        // An end behind more input than is read ahead is not reached, but it has been announced.
        self.gone || self.ended || (self.hung_up && self.unused() >= READ_AHEAD)
    }

    /// Whether nothing can reach the peer any more.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether [`Conn::on_writable`] would do anything.
    pub fn awaits_room(&self) -> bool {
        self.wants_room || self.unsent() > 0 || matches!(self.phase, Phase::Socket(_))
    }

    /// Whether the end of the stream may be there and has not been found: nothing will tell of it again.
    pub fn may_have_ended(&self) -> bool {
        self.unread
    }

    /// Something has happened while a core serves this connection; what it must hear of that.
    pub(super) fn busy_step(&mut self) -> Step {
        let may_read = self.wants_body && (self.unused() > 0 || self.ended || self.too_slow);
        let may_write = self.wants_room && self.gone;
        self.body_by = self.body_by.filter(|_| !may_read);
        self.wants_body &= !may_read;
        self.wants_room &= !may_write;
        if self.has_left() && !std::mem::replace(&mut self.is_left, true) {
            Step::Left
        } else if may_read || may_write {
            Step::Wake
        } else {
            Step::Wait
        }
    }
}
