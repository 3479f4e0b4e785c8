//! One connection of somebody who asks us over uWSGI's protocol: one question, one answer, and it is closed, as uWSGI does it.
//! "No" is to close without an answer. Generic over any non-blocking stream, so that its tests need no socket. The engine
//! calls it when the stream is ready, does what the returned [`Step`] says, and ends it at its deadline; it never blocks, and
//! holds no more than one question may have.
//!
//! ```text
//! Receiving ── question complete ──► Asked ── answer known ──► Answering ── sent ──► gone
//! ```
use super::asked::{Asked, DICTIONARY};
use super::packet::{self, Body, CACHE, HEADER, Header, RPC};
use super::remote::{LONG_RESULT, REASONED, REFUSAL};
use crate::errand::Replied;
use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

/// What the peer of a connection may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// To call procedures.
    pub rpc: bool,
    /// Names of the caches that it may use; the first is the one that a question without a name means.
    pub caches: Vec<String>,
}

impl Rights {
    /// Whether there is nothing that it may ask for.
    pub fn are_none(&self) -> bool {
        !self.rpc && self.caches.is_empty()
    }

    /// The cache that a question means.
    fn cache(&self, name: &[u8]) -> Option<&String> {
        self.caches.iter().find(|cache| name.is_empty() || cache.as_bytes() == name)
    }
}

/// What the engine is to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until the stream is ready again or its time is over.
    Wait,
    /// Ask the cache of this name, with the value that was sent, and give the answer to [`Conn::answer`].
    Cache(String, Box<Asked>, Vec<u8>),
    /// Call a procedure, and give its result to [`Conn::answer`].
    Call(String, Vec<Vec<u8>>),
    /// It is over; drop it. The reason, if it is not the usual one.
    Drop(Option<&'static str>),
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Receiving,
    Asked,
    Answering { sent: usize },
}

/// See the module.
#[derive(Debug)]
pub struct Conn<S> {
    stream: S,
    rights: Rights,
    phase: Phase,
    /// The most bytes that may follow a question.
    most: usize,
    /// The question, as far as it has come; then the answer.
    bytes: Vec<u8>,
    /// How much belongs to the question, as far as is known; it grows with what its parts say.
    expected: usize,
    /// Whoever asks wants to hear why there is no result.
    is_reasoned: bool,
    /// When it is given up.
    deadline: Instant,
}

impl<S: Read + Write> Conn<S> {
    /// A connection of which `begun` has been read already.
    pub fn new(stream: S, rights: Rights, begun: Vec<u8>, most: usize, deadline: Instant) -> Conn<S> {
        Conn {
            stream,
            rights,
            phase: Phase::Receiving,
            most,
            bytes: begun,
            expected: HEADER,
            is_reasoned: false,
            deadline,
        }
    }

    /// The stream below.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// When it is to be dropped if it still is there. A question that was asked has the limits of whoever answers it.
    pub fn deadline(&self) -> Option<Instant> {
        (self.phase != Phase::Asked).then_some(self.deadline)
    }

    /// Whether nobody has been asked yet.
    pub fn is_receiving(&self) -> bool {
        self.phase == Phase::Receiving
    }

    /// The stream may have something for us, or room.
    pub fn advance(&mut self, scratch: &mut [u8]) -> Step {
        match self.phase {
            Phase::Receiving => self.receive(scratch),
            Phase::Asked => Step::Wait,
            Phase::Answering { .. } => self.send(),
        }
    }

    fn receive(&mut self, scratch: &mut [u8]) -> Step {
        loop {
            match self.understand() {
                Ok(None) => {}
                Ok(Some(step)) => {
                    self.phase = Phase::Asked;
                    self.bytes = Vec::new();
                    return step;
                }
                Err(why) => return Step::Drop(Some(why)),
            }
            let room = scratch.len().min(self.expected - self.bytes.len());
            match self.stream.read(&mut scratch[..room]) {
                Ok(0) if self.bytes.is_empty() => return Step::Drop(None),
                Ok(0) => return Step::Drop(Some("the question ends before it is complete")),
                Ok(read) => self.bytes.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Err(_) => return Step::Drop(None),
            }
        }
    }

    /// Looks at what has come; `Ok(None)`: more must come.
    fn understand(&mut self) -> Result<Option<Step>, &'static str> {
        let Some(header) = Header::read(&self.bytes) else { return Ok(None) };
        let end = HEADER + usize::from(header.size);
        self.expected = self.expected.max(end);
        let Some(body) = self.bytes.get(HEADER..end) else { return Ok(None) };
        match (header.modifier1, header.modifier2) {
            (CACHE, DICTIONARY) if !self.rights.caches.is_empty() => {
                let asked = Asked::read(body).map_err(|_| "the dictionary is malformed")?;
                let asked = asked.ok_or("it asks for something that is not known here")?;
                self.take_value(asked, end)
            }
            (RPC, 0 | REASONED) if self.rights.rpc => {
                self.is_reasoned = header.modifier2 == REASONED;
                call(body).map(Some)
            }
            _ => Err("nobody here may be asked for that"),
        }
    }

    /// A question about a cache is complete with the value that follows it.
    fn take_value(&mut self, asked: Asked, end: usize) -> Result<Option<Step>, &'static str> {
        let cache = self.rights.cache(&asked.cache).ok_or("there is no such cache here")?.clone();
        let follows = usize::try_from(asked.follows()).ok().filter(|follows| *follows <= self.most);
        self.expected = end + follows.ok_or("the value is larger than any that is taken here")?;
        let value = self.bytes.get(end..self.expected).map(<[u8]>::to_vec);
        Ok(value.map(|value| Step::Cache(cache, Box::new(asked), value)))
    }

    /// Sends an answer; one without bytes is a "no".
    pub fn answer(&mut self, answer: Vec<u8>, deadline: Instant) -> Step {
        self.bytes = answer;
        self.deadline = deadline;
        self.phase = Phase::Answering { sent: 0 };
        self.send()
    }

    /// Sends what came of a procedure.
    pub fn answer_call(&mut self, replied: &Replied, deadline: Instant) -> Step {
        self.answer(result(replied, self.is_reasoned), deadline)
    }

    fn send(&mut self) -> Step {
        let Phase::Answering { sent } = &mut self.phase else { return Step::Wait };
        while *sent < self.bytes.len() {
            match self.stream.write(&self.bytes[*sent..]) {
                Ok(written) if written > 0 => *sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                _ => return Step::Drop(None),
            }
        }
        Step::Drop(None)
    }
}

/// The procedure and its arguments. A name is text here, whatever uWSGI takes.
fn call(body: &[u8]) -> Result<Step, &'static str> {
    let items = packet::items(body).map_err(|_| "the array is malformed")?;
    let (name, args) = items.split_first().ok_or("it names no procedure")?;
    let name = std::str::from_utf8(name).map_err(|_| "the name of the procedure is no text")?;
    Ok(Step::Call(name.to_owned(), args.iter().map(|arg| arg.to_vec()).collect()))
}

/// What came of a procedure, as it goes on the wire; nothing if it has failed, unless whoever asks wants to hear why.
fn result(replied: &Replied, is_reasoned: bool) -> Vec<u8> {
    let (modifier2, bytes) = match replied {
        Ok(bytes) => (0, bytes.as_slice()),
        Err(why) if is_reasoned => (REFUSAL, &why.as_bytes()[..why.len().min(packet::MAX_BODY)]),
        Err(_) => return Vec::new(),
    };
    let mut answer = match u16::try_from(bytes.len()) {
        Ok(size) => Header { modifier1: RPC, size, modifier2 }.bytes().to_vec(),
        Err(_) => {
            Body::default().number("CONTENT_LENGTH", bytes.len()).packet(RPC, LONG_RESULT).unwrap_or_default()
        }
    };
    answer.extend_from_slice(bytes);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::asked::Action;
    use std::collections::VecDeque;
    use std::io;

    /// Gives `input` in pieces of `piece` bytes, and takes as little at a time.
    struct Pipe {
        input: VecDeque<u8>,
        output: Vec<u8>,
        piece: usize,
        /// It would block before the next piece.
        is_blocked: bool,
        is_ended: bool,
    }

    impl Pipe {
        fn turn(&mut self) -> io::Result<()> {
            self.is_blocked = !self.is_blocked;
            if self.is_blocked { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        }
    }

    impl Read for Pipe {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.input.is_empty() && !self.is_ended {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.turn()?;
            let most = into.len().min(self.piece);
            self.input.read(&mut into[..most])
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turn()?;
            let piece = bytes.len().min(self.piece);
            self.output.extend_from_slice(&bytes[..piece]);
            Ok(piece)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn conn(input: &[u8], piece: usize, is_ended: bool) -> Conn<Pipe> {
        let pipe =
            Pipe { input: input.to_vec().into(), output: Vec::new(), piece, is_blocked: false, is_ended };
        let rights = Rights { rpc: true, caches: vec!["first".into(), "second".into()] };
        Conn::new(pipe, rights, Vec::new(), 1000, Instant::now())
    }

    /// What comes of it in the end.
    fn drive(conn: &mut Conn<Pipe>) -> Step {
        let mut scratch = [0; 64];
        for _ in 0..10_000 {
            match conn.advance(&mut scratch) {
                Step::Wait if conn.stream().input.is_empty() && !conn.stream().is_ended => return Step::Wait,
                Step::Wait => {}
                step => return step,
            }
        }
        panic!("it never comes to an end")
    }

    fn set(cache: &[u8], value: &[u8]) -> (Asked, Vec<u8>) {
        let asked = Asked {
            cache: cache.to_vec(),
            key: b"k".to_vec(),
            action: Action::Set(value.len() as u64),
            expires: 0,
        };
        let mut bytes = asked.packet().unwrap();
        bytes.extend_from_slice(value);
        (asked, bytes)
    }

    #[test]
    fn a_question_may_come_in_any_pieces() {
        for piece in [1, 3, 64] {
            for (name, cache) in [("", "first"), ("second", "second")] {
                let (asked, bytes) = set(name.as_bytes(), b"value");
                let step = drive(&mut conn(&bytes, piece, false));
                assert_eq!(step, Step::Cache(cache.into(), Box::new(asked), b"value".to_vec()));
            }
            let call = Body::default().item(b"f").item(b"").item(b"x").packet(RPC, 0).unwrap();
            let step = drive(&mut conn(&call, piece, false));
            assert_eq!(step, Step::Call("f".into(), vec![b"".to_vec(), b"x".to_vec()]));
        }
    }

    #[test]
    fn nothing_is_done_before_all_of_it_is_there() {
        let (_, bytes) = set(b"", b"value");
        for end in 0..bytes.len() {
            assert_eq!(drive(&mut conn(&bytes[..end], 64, false)), Step::Wait, "{end} bytes");
            assert!(
                matches!(drive(&mut conn(&bytes[..end], 64, true)), Step::Drop(_)),
                "{end} bytes and an end"
            );
        }
    }

    #[test]
    fn hostile_questions_are_dropped() {
        let vars = |body: Body| body.packet(CACHE, DICTIONARY).unwrap();
        let set = |size: &[u8]| vars(Body::default().var("cmd", b"set").var("key", b"k").var("size", size));
        let call = |name: &[u8]| Body::default().item(name).packet(RPC, 0).unwrap();
        for bytes in [
            b"GET / HTTP/1.1\r\n".repeat(2000),
            b"\x00\x00\x00\x00".to_vec(),
            Body::default().var("UWSGI_FILE", b"exec://id").packet(0, 0).unwrap(),
            Body::default().item(b"k").packet(CACHE, 6).unwrap(),
            set(b"1001"),
            set(b"18446744073709551615"),
            set(b"-1"),
            vars(Body::default().var("cmd", b"get").var("key", b"k").var("cache", b"third")),
            vars(Body::default().item(b"odd")),
            call(b"\xff\xfe"),
            Header { modifier1: RPC, size: 0, modifier2: 0 }.bytes().to_vec(),
            Header { modifier1: RPC, size: 0, modifier2: 2 }.bytes().to_vec(),
            b"\xad\x02\x00\x00\xff\xff".to_vec(),
        ] {
            let step = drive(&mut conn(&bytes, 64, false));
            assert!(matches!(step, Step::Drop(Some(_))), "{bytes:?}: {step:?}");
        }
    }

    #[test]
    fn nobody_may_ask_for_what_is_not_theirs() {
        let (_, set) = set(b"", b"value");
        let call = Body::default().item(b"f").packet(RPC, 0).unwrap();
        for (bytes, rights) in [
            (set, Rights { rpc: true, caches: Vec::new() }),
            (call, Rights { rpc: false, caches: vec!["first".into()] }),
        ] {
            let mut conn = Conn { rights, ..conn(&bytes, 64, false) };
            assert_eq!(drive(&mut conn), Step::Drop(Some("nobody here may be asked for that")));
        }
    }

    #[test]
    fn an_answer_leaves_in_any_pieces_and_then_the_connection_is_over() {
        for piece in [1, 1000] {
            let mut conn = conn(b"", piece, false);
            let mut step = conn.answer_call(&Ok(vec![b'x'; 70_000]), Instant::now());
            while step == Step::Wait {
                step = conn.advance(&mut [0; 64]);
            }
            assert_eq!(step, Step::Drop(None));
            let output = &conn.stream().output;
            assert!(output.starts_with(b"\xad\x17\x00\x05\x0e\x00CONTENT_LENGTH\x05\x0070000xxx"));
            assert_eq!(output.len(), 4 + 23 + 70_000);
        }
    }

    #[test]
    fn only_who_asks_hears_why_there_is_no_result() {
        let failed = Err("it raised".to_owned());
        assert_eq!(result(&failed, false), b"");
        assert_eq!(result(&failed, true), [b"\xad\x09\x00", &[REFUSAL][..], b"it raised"].concat());
        assert_eq!(result(&Ok(b"yes".to_vec()), true), b"\xad\x03\x00\x00yes");
    }
}
