//! A connection's two buffers and its stream: bytes in, bytes out, and what the kernel says about either. Knows nothing of
//! requests.
use super::{Conn, Context, Step, Stream};
use crate::wire::packet;
use appliance_link::hello::FIRST_BYTE;
use std::io::ErrorKind;

/// Buffers larger than this are given back while a connection is idle; 1 KiB holds the usual request.
const IDLE_CAPACITY: usize = 1024;

impl<S: Stream> Conn<S> {
    /// The stream, what was read from it, and whether its end has been announced; for [`Step::Link`] and [`Step::Wire`].
    pub fn into_parts(self) -> (S, Vec<u8>, bool) {
        (self.stream, self.input, self.hung_up)
    }

    /// What becomes of a connection that does not speak HTTP; only its first byte can say so.
    pub(super) fn leave_http(&mut self, cx: &Context<'_>) -> Option<Step> {
        let first = *self.input.first().filter(|_| self.is_new)?;
        self.is_new = false;
        match first {
            FIRST_BYTE if cx.may_link => Some(Step::Link),
            packet::RPC if cx.may_link => Some(Step::Wire),
            _ => None,
        }
    }

    /// Bytes that were received and not used yet.
    pub(super) fn unused(&self) -> usize {
        self.input.len() - self.used
    }

    /// Bytes that are to be sent and have not left yet.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    pub(super) fn read(&mut self, scratch: &mut [u8], room: usize) -> bool {
        while self.unread && !self.ended && room > 0 {
            match self.stream.read(scratch) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.forget_used();
                    self.input.extend_from_slice(&scratch[..n]);
                    // A short read has emptied the kernel's buffer: the next edge tells of more. But an end that was
                    // announced already has no edge of its own.
                    self.unread = n == scratch.len() || self.hung_up;
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.unread = false,
                Err(_) => (self.ended, self.gone) = (true, true),
            }
        }
        false
    }

    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let mut done = 0;
        while done < data.len() {
            match self.stream.write(&data[done..]) {
                Ok(0) => self.gone = true,
                Ok(n) => {
                    done += n;
                    self.bytes_out += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
            if self.gone {
                break;
            }
        }
        done
    }

    pub(super) fn flush(&mut self) {
        if self.gone || self.unsent() == 0 {
            return;
        }
        let output = std::mem::take(&mut self.output);
        self.sent += self.write(&output[self.sent..]);
        self.output = output;
        if self.unsent() == 0 {
            self.output.clear();
            self.sent = 0;
        }
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.used += n;
        if self.unused() == 0 {
            self.input.clear();
            self.used = 0;
        }
    }

    /// Makes room for more where a client that sends ahead never lets the buffer become empty. What is moved is less than
    /// what has been used since the last time, so that no byte costs more than one move.
    fn forget_used(&mut self) {
        if self.used >= self.unused() {
            self.input.drain(..self.used);
            self.used = 0;
        }
    }

    pub(super) fn trim(&mut self) {
        if self.unused() == 0 && self.input.capacity() > IDLE_CAPACITY {
            self.input = Vec::new();
        }
        if self.output.is_empty() && self.output.capacity() > IDLE_CAPACITY {
            self.output = Vec::new();
        }
    }
}
