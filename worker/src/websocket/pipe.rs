//! The stream that tungstenite believes to read from and write to: two buffers in memory. What has not arrived yet would
//! block; what is written always fits, because [`super::Socket`]'s owner asks before how much waits to leave. Compressed messages
//! are unpacked one by one, when they are read.
use super::deflate::Fault;
use super::unpack::Unpacker;
use bytes::{Buf, BytesMut};
use std::io::{self, ErrorKind, Read, Write};

/// See the module.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Received, and not read yet from `used` on.
    input: Vec<u8>,
    used: usize,
    /// Where compression was agreed.
    unpacker: Option<Box<Unpacker>>,
    /// Received, and not unpacked yet.
    packed: BytesMut,
    /// What is wrong behind all that can be read.
    pub fault: Option<Fault>,
    /// The peer sends no more.
    pub ended: bool,
    /// To be sent.
    pub output: Vec<u8>,
}

impl Pipe {
    /// One whose input passes through `unpacker`.
    pub fn new(unpacker: Option<Unpacker>) -> Pipe {
        Pipe { unpacker: unpacker.map(Box::new), ..Pipe::default() }
    }

    /// The peer has sent this.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.unpacker.is_some() {
            self.packed.extend_from_slice(bytes);
            return;
        }
        self.forget_read();
        self.input.extend_from_slice(bytes);
    }

    /// Whether reading on would unpack more.
    pub fn has_packed(&self) -> bool {
        !self.packed.is_empty()
    }

    /// From now on nobody wants compressed messages: only what is said between them is read.
    pub fn close(&mut self) {
        if let Some(unpacker) = &mut self.unpacker {
            unpacker.close();
        }
    }

    /// Makes the next message readable.
    fn unpack(&mut self) {
        self.forget_read();
        let Some(unpacker) = self.unpacker.as_mut().filter(|_| !self.packed.is_empty()) else { return };
        let mut rest = &self.packed[..];
        self.fault = unpacker.feed(&mut rest, &mut self.input).err();
        let left = if self.fault.is_some() { 0 } else { rest.len() };
        self.packed.advance(self.packed.len() - left);
    }

    fn forget_read(&mut self) {
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
    }

    /// Gives memory back that is not needed now.
    pub fn trim(&mut self) {
        if self.used == self.input.len() {
            (self.input, self.used) = (Vec::new(), 0);
        }
        if self.packed.is_empty() {
            self.packed = BytesMut::new();
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used == self.input.len() {
            self.unpack();
        }
        let rest = &self.input[self.used..];
        if rest.is_empty() {
            return if self.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
