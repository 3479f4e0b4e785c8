//! One control client as the master sees it: a line comes in, lines go out, and it is never waited for. A client that
//! says nothing, says too much or reads nothing has [`PATIENCE`], then it is closed. One request a connection. Used by
//! `control.rs` only, which polls.
use super::protocol::{Answer, MAX_LINE, Verb};
use super::waiting::Wait;
use nix::poll::PollFlags;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a client may take to say its line, and to take what it was sent: much more than a program needs, which
/// writes the line at once.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How far a client has come.
#[derive(Debug)]
enum Stage {
    /// Its line is not complete.
    Asking(Vec<u8>),
    /// It has asked; `control.rs` answers.
    Asked,
    /// It waits for something to end.
    Waiting(Wait),
    /// It has its last line, or no further claim to one.
    Leaving,
}

/// See the module.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    stage: Stage,
    outgoing: Vec<u8>,
    /// Bytes of `outgoing` that have been taken.
    taken: usize,
    deadline: Option<Instant>,
}

impl Connection {
    /// A client that has just come. `stream` is non-blocking.
    pub fn new(stream: UnixStream, now: Instant) -> Connection {
        let stage = Stage::Asking(Vec::new());
        Connection { stream, stage, outgoing: Vec::new(), taken: 0, deadline: Some(now + PATIENCE) }
    }

    /// What to poll for; the end of the connection is always told.
    pub fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, matches!(self.stage, Stage::Asking(_)));
        flags.set(PollFlags::POLLOUT, !self.outgoing.is_empty());
        flags
    }

    /// When it must have done what it is expected to do; `None`: nothing is expected.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Does what `poll` announced. A verb is to be answered with [`Connection::say`] or [`Connection::wait_for`].
    pub fn on_ready(&mut self, ready: PollFlags, now: Instant) -> Option<Verb> {
        if ready.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL) {
            self.leave();
        } else if ready.contains(PollFlags::POLLIN) {
            return self.read(now);
        } else if ready.contains(PollFlags::POLLHUP) {
            self.leave();
        } else if ready.contains(PollFlags::POLLOUT) {
            self.flush(now);
        }
        None
    }

    fn read(&mut self, now: Instant) -> Option<Verb> {
        let Stage::Asking(line) = &mut self.stage else { return None };
        let mut part = [0; MAX_LINE];
        let is_over = match self.stream.read(&mut part) {
            Ok(n) => {
                line.extend_from_slice(&part[..n]);
                n == 0
            }
            Err(error) if is_passing(&error) => false,
            Err(_) => {
                self.leave();
                return None;
            }
        };
        let asked = match line.iter().position(|&byte| byte == b'\n') {
            Some(end) if end <= MAX_LINE => Verb::decode(&line[..end]),
            None if line.len() <= MAX_LINE && !is_over => return None,
            None if line.is_empty() => {
                self.leave();
                return None;
            }
            None if is_over => Err("the line has no end".to_owned()),
            _ => Err(format!("the line is longer than {MAX_LINE} bytes")),
        };
        (self.stage, self.deadline) = (Stage::Asked, None);
        asked.map_err(|why| self.say(&Answer::Error(why), now)).ok()
    }

    /// Sends a line; one that is the last ends the connection when it has been taken.
    pub fn say(&mut self, answer: &Answer, now: Instant) {
        if matches!(self.stage, Stage::Leaving) {
            return;
        }
        self.outgoing.extend_from_slice(answer.encode().as_bytes());
        if !matches!(answer, Answer::Progress(_)) {
            self.stage = Stage::Leaving;
        }
        self.flush(now);
    }

    /// From now on it is told of notices.
    pub fn wait_for(&mut self, wait: Wait, now: Instant) {
        self.stage = Stage::Waiting(wait);
        self.say(&wait.heard(), now);
    }

    /// What it waits for.
    pub fn waits_for(&mut self) -> Option<&mut Wait> {
        match &mut self.stage {
            Stage::Waiting(wait) => Some(wait),
            _ => None,
        }
    }

    fn flush(&mut self, now: Instant) {
        while self.taken < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.taken..]) {
                Ok(n) => self.taken += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_passing(&error) => {
                    self.deadline = self.deadline.or(Some(now + PATIENCE));
                    return;
                }
                Err(_) => return self.leave(),
            }
        }
        self.outgoing.clear();
        (self.taken, self.deadline) = (0, None);
    }

    /// Whether it is to be closed.
    pub fn is_over(&self, now: Instant) -> bool {
        let has_left = matches!(self.stage, Stage::Leaving) && self.outgoing.is_empty();
        has_left || self.deadline.is_some_and(|at| at <= now)
    }

    fn leave(&mut self) {
        self.stage = Stage::Leaving;
        self.outgoing.clear();
        self.taken = 0;
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Notice;
    use std::net::Shutdown;

    /// A connection, its client, and the time at which it began.
    fn session() -> (Connection, UnixStream, Instant) {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let now = Instant::now();
        (Connection::new(here, now), there, now)
    }

    fn read(connection: &mut Connection, now: Instant) -> Option<Verb> {
        connection.on_ready(PollFlags::POLLIN, now)
    }

    /// Everything the client was sent, once the connection has gone.
    fn answers(connection: Connection, mut client: UnixStream) -> String {
        drop(connection);
        let mut text = Vec::new();
        // What it sent and nobody read makes the end a reset; what it was sent comes before.
        let _ = client.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        let (mut connection, mut client, now) = session();
        for byte in b"{\"version\":1,\"verb\":\"status\"}" {
            client.write_all(&[*byte]).unwrap();
            assert_eq!(read(&mut connection, now), None);
        }
        client.write_all(b"\n").unwrap();
        assert_eq!(read(&mut connection, now), Some(Verb::Status));
        connection.say(&Answer::Done("here".into()), now);
        assert!(connection.is_over(now));
        assert_eq!(answers(connection, client), "{\"version\":1,\"done\":\"here\"}\n");
    }

    #[test]
    fn garbage_half_lines_and_long_lines_are_answered_and_closed() {
        let long = "x".repeat(3 * MAX_LINE);
        for (sent, says) in [
            ("GET / HTTP/1.1\r\n\r\n", "a request is one line such as"),
            ("{\"version\":1,", "the line has no end"),
            (&*long, "longer than 4096 bytes"),
        ] {
            let (mut connection, mut client, now) = session();
            client.write_all(sent.as_bytes()).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            for _ in 0..4 {
                assert_eq!(read(&mut connection, now), None);
            }
            assert!(connection.is_over(now), "{sent:.20}");
            let told = answers(connection, client);
            assert!(told.contains(says) && told.contains("\"error\""), "{told}");
        }
    }

    #[test]
    fn a_client_that_says_nothing_has_its_time_and_one_that_leaves_is_let_go() {
        let (connection, _client, now) = session();
        assert!(!connection.is_over(now + PATIENCE / 2));
        assert!(connection.is_over(now + PATIENCE));
        let (mut connection, client, now) = session();
        drop(client);
        assert_eq!(read(&mut connection, now), None);
        assert!(connection.is_over(now));
    }

    #[test]
    fn a_client_that_reads_nothing_has_its_time() {
        let (mut connection, mut client, now) = session();
        client.write_all(Verb::Reload.encode().as_bytes()).unwrap();
        assert_eq!(read(&mut connection, now), Some(Verb::Reload));
        connection.wait_for(Wait::Reload { begun: false }, now);
        assert_eq!(connection.deadline(), None, "a reload may take long");
        connection.say(&Answer::Error("x".repeat(1 << 20)), now);
        assert_eq!(connection.interest(), PollFlags::POLLOUT);
        assert!(!connection.is_over(now) && connection.is_over(now + PATIENCE));
    }

    #[test]
    fn whoever_waits_is_told_and_may_leave() {
        let (mut connection, client, now) = session();
        connection.wait_for(Wait::Reload { begun: false }, now);
        let told = connection.waits_for().unwrap().on(&Notice::Reloading).unwrap();
        connection.say(&told, now);
        assert!(connection.interest().is_empty(), "only its end matters now");
        drop(client);
        connection.on_ready(PollFlags::POLLHUP, now);
        assert!(connection.is_over(now));
    }
}
