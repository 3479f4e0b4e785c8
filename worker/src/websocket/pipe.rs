//! The stream that tungstenite believes to read from and write to: two buffers in memory. What has not arrived yet would
//! block; what is written always fits, because [`super::Socket`]'s owner asks before how much waits to leave. Compressed messages
//! are unpacked before they get here.
use super::deflate::Fault;
use super::unpack::Unpacker;
use std::io::{self, ErrorKind, Read, Write};

/// See the module.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Received, and not read yet from `used` on.
    input: Vec<u8>,
    used: usize,
    /// Where compression was agreed.
    unpacker: Option<Box<Unpacker>>,
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
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
        match &mut self.unpacker {
            Some(unpacker) => self.fault = unpacker.feed(bytes, &mut self.input).err(),
            None => self.input.extend_from_slice(bytes),
        }
    }

    /// Gives memory back that is not needed now.
    pub fn trim(&mut self) {
        if self.used == self.input.len() {
            (self.input, self.used) = (Vec::new(), 0);
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
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
