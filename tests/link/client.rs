//! The proxy's side of a link, as small as a test needs it: sends frames as they are given, gathers what comes for each
//! stream, grants window for what it has gathered, and never waits longer than [`DEADLINE`].
use crate::harness::DEADLINE;
use appliance_link::frame::{self, ACK, END, HEADER, Kind};
use appliance_link::head::{RequestFacts, Response, put_field, put_request};
use appliance_link::{Frame, Header, Hello, Reason, StreamId, hello};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

const MOST_HEAD: usize = 2 * 1024 * 1024;

/// What the tests say of every client.
pub const FACTS: RequestFacts<'_> = RequestFacts {
    length: None,
    deadline_ms: 0,
    method: b"GET",
    target: b"/",
    scheme: b"https",
    peer: b"192.0.2.7:4711",
    server: b"[2001:db8::1]:443",
    id: b"id-of-the-proxy",
};

/// What has come for one stream.
#[derive(Debug, Default)]
pub struct Answer {
    /// 0 before the head.
    pub status: u16,
    /// Interim answers before it.
    pub interim: Vec<u16>,
    pub headers: Vec<(String, String)>,
    /// The announced length.
    pub length: Option<u64>,
    pub body: Vec<u8>,
    pub is_complete: bool,
    pub reset: Option<Reason>,
    /// An application was about to see the request, before anything of the answer.
    pub is_entered: bool,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// See the module.
pub struct Link {
    socket: UnixStream,
    input: Vec<u8>,
    answers: HashMap<StreamId, Answer>,
    /// A stream whose window is never enlarged.
    pub slow: StreamId,
    pub is_going_away: bool,
    /// Pings that wait for [`Link::heed`].
    pings: Vec<[u8; 8]>,
    /// The worker has closed it.
    pub is_closed: bool,
}

impl Link {
    /// Connects to a worker and exchanges the hellos. `window`: bytes taken on each stream.
    #[track_caller]
    pub fn open(socket: &Path, window: usize) -> Link {
        let socket = UnixStream::connect(socket).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut link = Link {
            socket,
            input: Vec::new(),
            answers: HashMap::new(),
            slow: 0,
            is_going_away: false,
            pings: Vec::new(),
            is_closed: false,
        };
        link.send(&Hello::new(window).bytes());
        while Hello::parse(&link.input).unwrap().is_none() {
            assert!(link.fill(), "no hello");
        }
        link.input.drain(..hello::SIZE);
        link
    }

    /// Sends bytes. A worker that has closed the link shows in what it answers.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// A `GET` on a new stream.
    pub fn get(&mut self, stream: StreamId, target: &str) {
        self.send(&request(stream, END, &RequestFacts { target: target.as_bytes(), ..FACTS }, &[]));
    }

    /// The answer on this stream when it is over: complete, reset, or lost with the link.
    #[track_caller]
    pub fn answer(&mut self, stream: StreamId) -> Answer {
        self.until(stream, |answer| answer.is_complete || answer.reset.is_some());
        self.answers.remove(&stream).unwrap_or_default()
    }

    /// Reads until what has come for a stream is enough, or nothing more comes.
    #[track_caller]
    pub fn until(&mut self, stream: StreamId, is_enough: impl Fn(&Answer) -> bool) -> &Answer {
        while !self.answers.get(&stream).is_some_and(&is_enough) && self.read_frame() {}
        self.answers.entry(stream).or_default()
    }

    /// Whether the whole answer on this stream has come by now.
    pub fn is_answered(&self, stream: StreamId) -> bool {
        self.answers.get(&stream).is_some_and(|answer| answer.is_complete)
    }

    /// Reads until the worker wants no more requests here.
    #[track_caller]
    pub fn wait_for_go_away(&mut self) {
        while !self.is_going_away {
            assert!(self.read_frame(), "the link was closed without a word");
        }
    }

    /// Answers the pings that have come: the worker then knows that what came before them has been read.
    pub fn heed(&mut self) {
        let mut answers = Vec::new();
        for token in self.pings.drain(..) {
            frame::put(&mut answers, Kind::Ping, 0, ACK, &token);
        }
        self.send(&answers);
    }

    /// Whether the worker closes the link.
    #[track_caller]
    pub fn ends(&mut self) -> bool {
        while self.read_frame() {}
        self.is_closed
    }

    /// Takes the next frame; false at the end of the link.
    #[track_caller]
    fn read_frame(&mut self) -> bool {
        loop {
            if let Some(header) = Header::parse(&self.input, MOST_HEAD).unwrap() {
                let payload = self.input[HEADER..][..header.length].to_vec();
                self.input.drain(..HEADER + header.length);
                self.on_frame(header.with(payload).unwrap());
                return true;
            }
            if !self.fill() {
                return false;
            }
        }
    }

    fn on_frame(&mut self, frame: Frame<Vec<u8>>) {
        match frame {
            Frame::Response { stream, end, head } => {
                let answer = self.answers.entry(stream).or_default();
                let head = Response::parse(&head).unwrap();
                if head.facts.status < 200 {
                    answer.interim.push(head.facts.status);
                    return;
                }
                (answer.status, answer.length, answer.is_complete) =
                    (head.facts.status, head.facts.length, end);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                answer.headers = head
                    .fields
                    .map(Result::unwrap)
                    .map(|(name, value)| (text(name).to_ascii_lowercase(), text(value)))
                    .collect();
            }
            Frame::Data { stream, end, bytes } => {
                let answer = self.answers.entry(stream).or_default();
                answer.body.extend_from_slice(&bytes);
                answer.is_complete = end;
                if !end && stream != self.slow {
                    let mut window = Vec::new();
                    frame::put_window(&mut window, stream, bytes.len() as u32);
                    self.send(&window);
                }
            }
            Frame::Reset { stream, reason } => {
                self.answers.entry(stream).or_default().reset = Some(reason);
            }
            Frame::Entered { stream } => {
                let answer = self.answers.entry(stream).or_default();
                answer.is_entered = answer.status == 0;
            }
            Frame::GoAway => self.is_going_away = true,
            Frame::Ping { token, .. } => self.pings.push(token),
            Frame::Window { .. } => {}
            Frame::Request { .. } => panic!("a worker sent a request"),
        }
    }

    /// Reads once; false at the end.
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut piece = [0; 64 * 1024];
        match self.socket.read(&mut piece) {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.input.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.is_closed = true,
            Err(error) => panic!("nothing within {DEADLINE:?}: {error}"),
        }
        !self.is_closed
    }
}

/// A `Request` frame.
pub fn request(stream: StreamId, flags: u8, facts: &RequestFacts<'_>, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out, Kind::Request, stream, flags);
    put_request(&mut out, facts);
    put_field(&mut out, b"host", b"test.example");
    fields.iter().for_each(|(name, value)| put_field(&mut out, name.as_bytes(), value.as_bytes()));
    frame::finish(&mut out, at);
    out
}

/// A `Data` frame; `flags` is `END` or nothing.
pub fn data(stream: StreamId, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Data, stream, flags, bytes);
    out
}

/// A `Reset` frame, as when a client has left.
pub fn reset(stream: StreamId) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_reset(&mut out, stream, Reason::Gone);
    out
}
