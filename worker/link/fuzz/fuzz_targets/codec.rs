//! Any bytes against everything of the link that reads bytes: they are frames, a violation, or not complete; never a panic.
//! What was read comes out as the same bytes when it is written again, and no stream gets more than its windows allow.
//!
//!     cargo install cargo-fuzz
//!     cd worker/link && RUSTC_BOOTSTRAP=1 cargo fuzz run codec -- -max_total_time=60
//!
//! With `RUSTC_BOOTSTRAP=1` the installed stable compiler takes the sanitizers' options, and no nightly one is needed.
#![no_main]

use appliance_link::frame::{self, HEADER, Kind};
use appliance_link::{Frame, Header, Hello, Stream, StreamId, Violation, head, private};
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;

/// Small, so that an input of some hundred bytes reaches the limits.
const MOST_HEAD: usize = 512;
const WINDOW: u32 = 1024;

/// One stream, and what its windows have allowed so far.
struct Watched {
    stream: Stream,
    received: u64,
    granted: u64,
}

impl Watched {
    fn new(stream: Stream) -> Watched {
        Watched { stream, received: 0, granted: 0 }
    }

    /// Data has come; half of it is used up at once.
    fn receive(&mut self, count: usize, end: bool) -> Result<(), Violation> {
        self.stream.receive_data(count, end)?;
        self.received += count as u64;
        assert!(self.received <= u64::from(WINDOW) + self.granted, "more came than was allowed");
        self.granted += u64::from(self.stream.consume(count / 2).unwrap_or(0));
        assert!(self.granted <= self.received, "more was granted than had come");
        Ok(())
    }

    /// Sends as much as there is room for, and then the end.
    fn send(&mut self, wanted: usize) {
        if !self.stream.has_sent_head() {
            self.stream.send_head(false);
        }
        let count = wanted.min(self.stream.may_send());
        self.stream.send_data(count, count < wanted);
        assert!(self.stream.may_send() == 0 || count == wanted, "there was room left");
    }
}

/// Both sides of a link that gets the same frames, as hostile bytes do not care who they are meant for.
#[derive(Default)]
struct Sides {
    accepted: HashMap<StreamId, Watched>,
    opened: HashMap<StreamId, Watched>,
}

impl Sides {
    fn receive(&mut self, frame: Frame<&[u8]>) -> Result<(), Violation> {
        match frame {
            Frame::Request { stream, flags, head } => {
                read_request(head)?;
                let end = flags & frame::END != 0;
                let accepted = Stream::accepted(stream, end, WINDOW, WINDOW);
                if self.accepted.insert(stream, Watched::new(accepted)).is_some() {
                    return Err(Violation::OpenedTwice(stream));
                }
                self.opened.insert(stream, Watched::new(Stream::opened(stream, end, WINDOW, WINDOW)));
            }
            Frame::Response { stream, end, head } => {
                let interim = read_response(head)? < 200;
                if let Some(watched) = self.opened.get_mut(&stream) {
                    watched.stream.receive_head(interim, end)?;
                }
            }
            Frame::Data { stream, end, bytes } => {
                if let Some(watched) = self.accepted.get_mut(&stream) {
                    watched.receive(bytes.len(), end)?;
                    watched.send(bytes.len());
                }
                if let Some(watched) = self.opened.get_mut(&stream) {
                    watched.receive(bytes.len(), end)?;
                }
            }
            Frame::Window { stream, credit } => {
                for watched in self.accepted.get_mut(&stream).into_iter().chain(self.opened.get_mut(&stream))
                {
                    watched.stream.grant(credit)?;
                }
            }
            Frame::Reset { stream, .. } => {
                self.accepted.remove(&stream);
                self.opened.remove(&stream);
            }
            Frame::Ping { .. } | Frame::GoAway | Frame::Entered { .. } => {}
        }
        Ok(())
    }
}

fn read_request(payload: &[u8]) -> Result<(), Violation> {
    let read = head::Request::parse(payload)?;
    let mut written = Vec::new();
    head::put_request(&mut written, &read.facts);
    read_fields(read.fields, written, payload)
}

fn read_response(payload: &[u8]) -> Result<u16, Violation> {
    let read = head::Response::parse(payload)?;
    let mut written = Vec::new();
    head::put_response(&mut written, &read.facts);
    read_fields(read.fields, written, payload)?;
    Ok(read.facts.status)
}

/// `written` is the head without its fields; with them it must be `payload`.
fn read_fields(fields: head::Fields<'_>, mut written: Vec<u8>, payload: &[u8]) -> Result<(), Violation> {
    for field in fields {
        let (name, value) = field?;
        head::put_field(&mut written, name, value);
        read_variable(value);
    }
    assert_eq!(written, payload, "a head was written other than it was read");
    Ok(())
}

/// What is made of any key and value can be split again, and is made no different by another turn.
fn read_variable(field: &[u8]) {
    let (key, value) = private::split_variable(field).unwrap_or((field, field));
    let made = private::variable(key, value);
    let (key, value) = private::split_variable(&made).expect("a variable can be split");
    assert_eq!(private::variable(key, value), made);
}

/// Every prefix of a frame is incomplete, and the frame is written as it was read.
fn check_frame(bytes: &[u8], header: Header) {
    let whole = HEADER + header.length;
    for end in [0, HEADER - 1, HEADER, whole - 1].into_iter().filter(|end| *end < whole) {
        assert_eq!(Header::parse(&bytes[..end], MOST_HEAD), Ok(None), "{end} bytes of {header:?}");
    }
    let mut written = Vec::new();
    frame::put(&mut written, header.kind, header.stream, header.flags, &bytes[HEADER..whole]);
    assert_eq!(written, bytes[..whole], "a frame was written other than it was read");
}

fn read(mut bytes: &[u8]) -> Result<(), Violation> {
    let mut sides = Sides::default();
    while let Some(header) = Header::parse(bytes, MOST_HEAD)? {
        check_frame(bytes, header);
        let (payload, rest) = bytes[HEADER..].split_at(header.length);
        assert!(header.length <= MOST_HEAD || header.kind == Kind::Data);
        sides.receive(header.with(payload)?)?;
        bytes = rest;
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(hello)) = Hello::parse(bytes) {
        assert_eq!(hello.bytes(), bytes[..appliance_link::hello::SIZE]);
    }
    let _ = read(bytes);
    let _ = read_request(bytes);
    let _ = read_response(bytes);
});
