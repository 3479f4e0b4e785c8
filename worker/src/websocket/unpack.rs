//! Compressed messages on their way to tungstenite, which knows no extensions: frames of compressed messages are taken out of
//! the client's stream, and each such message comes back as one plain frame. Everything else passes as it is, so that the
//! rules of the protocol stay tungstenite's business. Fed by `pipe.rs` where compression was agreed.
use super::code;
use super::deflate::{self, Fault};
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// Longest header of a frame (RFC 6455 section 5.2).
const MOST_HEADER: usize = 14;

#[derive(Debug, Default)]
enum State {
    /// In a header, or before one.
    #[default]
    Header,
    /// In a frame that passes, with so many bytes left.
    Pass { left: u64 },
    /// In a frame of a compressed message.
    Gather { left: u64, mask: [u8; 4], is_last: bool },
    /// Behind a header that is none: what comes is for tungstenite to refuse.
    Raw,
}

/// A compressed message of which more is to come.
#[derive(Debug)]
struct Packed {
    opcode: OpCode,
    payload: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Unpacker {
    /// The longest message that is taken.
    most: usize,
    /// The beginning of a header.
    header: Vec<u8>,
    state: State,
    packed: Option<Packed>,
    /// Nobody wants messages any more.
    is_closed: bool,
}

impl Unpacker {
    /// For messages of at most so many bytes.
    pub fn new(most: usize) -> Unpacker {
        let header = Vec::with_capacity(MOST_HEADER);
        Unpacker { most, header, state: State::Header, packed: None, is_closed: false }
    }

    /// Takes what the client has sent, up to the end of one compressed message, and adds to `plain` what it would have sent
    /// without compression: few bytes may stand for many, so whoever has enough leaves the rest as it is. Nothing behind a
    /// fault counts.
    pub fn feed(&mut self, bytes: &mut &[u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.state {
                State::Header => *bytes = self.feed_header(bytes, plain)?,
                State::Pass { left } => {
                    let (now, rest) = bytes.split_at(at_most(left, bytes));
                    plain.extend_from_slice(now);
                    self.state = State::Pass { left: left - now.len() as u64 };
                    *bytes = rest;
                }
                State::Gather { left, mask, is_last } => {
                    let (now, rest) = bytes.split_at(at_most(left, bytes));
                    self.gather(now, mask);
                    let (left, mut mask) = (left - now.len() as u64, mask);
                    mask.rotate_left(now.len() % 4);
                    self.state = State::Gather { left, mask, is_last };
                    *bytes = rest;
                }
                State::Raw => plain.extend_from_slice(std::mem::take(bytes)),
            }
            if self.end_frame(plain)? {
                break;
            }
        }
        Ok(())
    }

    /// From now on compressed messages are dropped as they are.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Takes bytes of a header; the rest.
    fn feed_header<'a>(&mut self, bytes: &'a [u8], plain: &mut Vec<u8>) -> Result<&'a [u8], Fault> {
        let known = self.header.len();
        let more = bytes.len().min(MOST_HEADER - known);
        self.header.extend_from_slice(&bytes[..more]);
        let mut cursor = Cursor::new(&self.header);
        let parsed = FrameHeader::parse(&mut cursor);
        let end = usize::try_from(cursor.position()).unwrap_or(known);
        match parsed {
            Ok(None) => return Ok(&bytes[more..]),
            Err(_) => {
                plain.extend_from_slice(&self.header[..known]);
                self.state = State::Raw;
                return Ok(bytes);
            }
            Ok(Some((header, length))) if self.is_packed(&header)? => self.begin(&header, length)?,
            Ok(Some((_, length))) => {
                plain.extend_from_slice(&self.header[..end]);
                self.state = State::Pass { left: length };
            }
        }
        self.header.clear();
        Ok(&bytes[end - known..])
    }

    /// Whether a frame belongs to a compressed message (RFC 7692 section 6).
    fn is_packed(&self, header: &FrameHeader) -> Result<bool, Fault> {
        match header.opcode {
            OpCode::Data(Data::Continue) => Ok(self.packed.is_some()),
            OpCode::Data(_) if self.packed.is_some() => {
                Err(broken("a message began before the last one ended"))
            }
            OpCode::Data(_) => Ok(header.rsv1),
            OpCode::Control(_) => Ok(false),
        }
    }

    fn begin(&mut self, header: &FrameHeader, length: u64) -> Result<(), Fault> {
        let is_first = self.packed.is_none();
        if header.rsv1 != is_first || header.rsv2 || header.rsv3 {
            return Err(broken("reserved bits are set"));
        }
        let mask = header.mask.ok_or(broken("a client masks its frames"))?;
        let packed = self.packed.get_or_insert_with(|| Packed { opcode: header.opcode, payload: Vec::new() });
        // What cannot be compressed may become a little longer.
        let most = (self.most + self.most / 8) as u64 + MOST_HEADER as u64;
        if length.saturating_add(packed.payload.len() as u64) > most {
            return Err(Fault::TOO_BIG);
        }
        self.state = State::Gather { left: length, mask, is_last: header.is_final };
        Ok(())
    }

    fn gather(&mut self, bytes: &[u8], mask: [u8; 4]) {
        let plain = bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        if let Some(packed) = &mut self.packed {
            packed.payload.extend(plain);
        }
    }

    /// Goes on behind a frame that is complete; whether it was the last one of a compressed message.
    fn end_frame(&mut self, plain: &mut Vec<u8>) -> Result<bool, Fault> {
        let is_last = match self.state {
            State::Pass { left: 0 } => false,
            State::Gather { left: 0, is_last, .. } => is_last,
            _ => return Ok(false),
        };
        self.state = State::Header;
        let Some(Packed { opcode, payload }) = self.packed.take_if(|_| is_last) else { return Ok(false) };
        if self.is_closed {
            return Ok(false);
        }
        let message = deflate::unpack(&payload, self.most)?;
        let header = FrameHeader { is_final: true, opcode, mask: Some([0; 4]), ..FrameHeader::default() };
        header.format(message.len() as u64, plain).map_err(|_| broken("the message cannot be read"))?;
        plain.extend_from_slice(&message);
        Ok(true)
    }
}

const fn broken(reason: &'static str) -> Fault {
    Fault { code: code::PROTOCOL_ERROR, reason }
}

fn at_most(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}
