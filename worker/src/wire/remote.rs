//! What an application asks of other servers, in blocking style: of their caches and of their procedures. One connection for
//! each question, as uWSGI does it. Called wherever something can wait (see [`Suspend`]), never on the loop itself.
use super::address::Address;
use super::asked::{self, Action, Answered, Asked, DICTIONARY};
use super::client::{Failure, Wire};
use super::packet::{self, Body, CACHE, RPC};
use crate::suspend::Suspend;
use std::time::{Duration, Instant};

/// Modifier 2 of an answer whose body says in `CONTENT_LENGTH` how long the result is that follows it.
pub const LONG_RESULT: u8 = 5;
/// Modifier 2 of a call between workers of one appliance: whoever asks wants to hear why there is no result.
pub const REASONED: u8 = 32;
/// Modifier 2 of an answer whose body says why there is no result, to a call with [`REASONED`].
pub const REFUSAL: u8 = 33;

/// How other servers are asked.
#[derive(Clone, Copy)]
pub struct Remote<'a> {
    /// Who waits.
    pub suspend: &'a dyn Suspend,
    /// How long one question may take in all (`timeouts.remote`).
    pub timeout: Duration,
    /// The longest answer that is taken, in bytes.
    pub most: usize,
}

impl Remote<'_> {
    fn connect<'a>(&'a self, address: &'a Address) -> Result<Wire<'a>, Failure> {
        Wire::connect(address, self.suspend, Instant::now() + self.timeout)
    }

    /// Asks a cache. `value` follows a question that sets one. That there is no such item, or that it cannot be written, is
    /// an answer too.
    pub fn ask_cache(&self, address: &Address, asked: &Asked, value: &[u8]) -> Result<Answered, Failure> {
        let packet = asked.packet()?;
        let wire = self.connect(address)?;
        let answered =
            wire.send(&packet).and_then(|()| wire.send(value)).and_then(|()| wire.receive_packet());
        let (header, body) = match answered {
            Err(Failure::Refused(_)) => return Ok(Answered::No),
            answered => answered?,
        };
        if header.modifier1 != CACHE || header.modifier2 != DICTIONARY {
            return Err(wire.garbled("it is not about a cache"));
        }
        match asked::read_answer(&body).map_err(wire.malformed())? {
            None => Ok(Answered::No),
            Some(size) if matches!(asked.action, Action::Get | Action::Count(..)) => {
                Ok(Answered::Value(wire.receive_rest(size, self.most)?))
            }
            Some(_) => Ok(Answered::Yes),
        }
    }

    /// Calls a procedure. An answer without bytes is what uWSGI gives for one that it does not know; it closes the connection
    /// if the procedure fails.
    pub fn call(&self, address: &Address, name: &str, args: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        self.exchange(address, name, args, 0)
    }

    /// Calls a procedure of another worker of this appliance, which says why it fails.
    pub fn call_worker(&self, address: &Address, name: &str, args: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        self.exchange(address, name, args, REASONED)
    }

    fn exchange(
        &self,
        address: &Address,
        name: &str,
        args: &[&[u8]],
        modifier2: u8,
    ) -> Result<Vec<u8>, Failure> {
        let body = Body::default().item(name.as_bytes());
        let packet = args.iter().fold(body, |body, arg| body.item(arg)).packet(RPC, modifier2)?;
        let wire = self.connect(address)?;
        wire.send(&packet)?;
        let (header, body) = wire.receive_packet()?;
        if header.modifier1 != RPC {
            return Err(wire.garbled("it is not of a procedure"));
        }
        match header.modifier2 {
            LONG_RESULT => {}
            REFUSAL if modifier2 == REASONED => {
                return Err(Failure::Failed(String::from_utf8_lossy(&body).into_owned()));
            }
            _ => return Ok(body),
        }
        let vars = packet::vars(&body).map_err(wire.malformed())?;
        let length = vars
            .iter()
            .find(|(name, _)| *name == b"CONTENT_LENGTH")
            .and_then(|(_, value)| packet::number(value));
        wire.receive_rest(length.ok_or_else(|| wire.garbled("it does not say how long it is"))?, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interest;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::{self, Read, Write};
    use std::net::TcpListener;
    use std::os::fd::RawFd;
    use std::os::unix::net::UnixListener;
    use std::thread::{self, JoinHandle};

    /// The thread of the test waits.
    struct Patient;

    impl Suspend for Patient {
        fn ready(&self, fd: RawFd, interest: Interest, deadline: Option<Instant>) -> io::Result<bool> {
            let left = deadline.unwrap().saturating_duration_since(Instant::now()).as_millis() + 1;
            let flags = if interest.is_readable() { PollFlags::POLLIN } else { PollFlags::POLLOUT };
            crate::reactor::with_fd(fd, |fd| {
                let mut fds = [PollFd::new(fd, flags)];
                Ok(poll(&mut fds, PollTimeout::try_from(left).unwrap())? > 0)
            })
        }

        fn sleep_until(&self, when: Instant) -> io::Result<()> {
            thread::sleep(when.saturating_duration_since(Instant::now()));
            Ok(())
        }
    }

    fn remote(timeout_ms: u64) -> Remote<'static> {
        Remote { suspend: &Patient, timeout: Duration::from_millis(timeout_ms), most: 100_000 }
    }

    /// Somebody who reads a packet of so many bytes and then says `answer`.
    fn peer(question: usize, answer: Vec<u8>) -> (Address, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; question];
            stream.read_exact(&mut asked).unwrap();
            // Whoever asks may have heard enough.
            let _ = stream.write_all(&answer);
            asked
        });
        (address, thread)
    }

    const CALL: &[u8] = b"\xad\x06\x00\x00\x01\x00f\x01\x00x";

    #[test]
    fn a_call_is_what_uwsgi_sends_and_its_result_may_be_long() {
        let long = [&b"\xad\x16\x00\x05\x0e\x00CONTENT_LENGTH\x04\x009999"[..], &[b'x'; 9999]].concat();
        for (answer, result) in [
            (b"\xad\x03\x00\x00yes".to_vec(), b"yes".to_vec()),
            (b"\xad\x00\x00\x00".to_vec(), Vec::new()),
            (long, vec![b'x'; 9999]),
        ] {
            let (address, peer) = peer(CALL.len(), answer);
            assert_eq!(remote(20_000).call(&address, "f", &[b"x"]).unwrap(), result);
            assert_eq!(peer.join().unwrap(), CALL);
        }
    }

    #[test]
    fn what_is_no_answer_is_said_so() {
        for (answer, why) in [
            (&b""[..], "has closed the connection without an answer"),
            (b"\xad\x03\x00", "it ends before it is complete"),
            (b"\xad\x03\x00\x00ye", "it ends before it is complete"),
            (b"\x6f\x03\x00\x00yes", "it is not of a procedure"),
            (b"\xad\x02\x00\x05no", "an item is longer than the packet"),
            (b"\xad\x05\x00\x05\x01\x00a\x00\x00", "it does not say how long it is"),
            (
                b"\xad\x18\x00\x05\x0e\x00CONTENT_LENGTH\x06\x00100001",
                "answers with 100001 bytes, and at most 100000",
            ),
            (b"\xad\x16\x00\x05\x0e\x00CONTENT_LENGTH\x04\x009999x", "it ends before it is complete"),
        ] {
            let (address, _peer) = peer(CALL.len(), answer.to_vec());
            let said = remote(20_000).call(&address, "f", &[b"x"]).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains(&address.to_string()), "{said}");
        }
    }

    #[test]
    fn a_reason_is_heard_only_from_whom_it_was_asked() {
        let answer = [b"\xad\x04\x00", &[REFUSAL][..], b"why!"].concat();
        let (address, _peer) = peer(CALL.len(), answer.clone());
        assert_eq!(remote(20_000).call_worker(&address, "f", &[b"x"]).unwrap_err().to_string(), "why!");
        let (address, _peer) = peer(CALL.len(), answer);
        assert_eq!(remote(20_000).call(&address, "f", &[b"x"]).unwrap(), b"why!");
    }

    #[test]
    fn nobody_there_and_nobody_who_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = Address::Tcp(listener.local_addr().unwrap());
        assert!(matches!(remote(20).call(&silent, "f", &[]), Err(Failure::Silent(_))));
        drop(listener);
        let Err(Failure::Unreachable(_, why)) = remote(20_000).call(&silent, "f", &[]) else {
            panic!("somebody is there")
        };
        assert_eq!(why, "Connection refused");
        for address in ["/no/such.sock", "@nobody-is-there"] {
            let failed = remote(20_000).call(&address.parse().unwrap(), "f", &[]);
            assert!(matches!(failed, Err(Failure::Unreachable(..))), "{failed:?}");
        }
    }

    #[test]
    fn a_full_backlog_is_waited_for() {
        let path = nix::unistd::mkdtemp("/tmp/appliance-wire-XXXXXX").unwrap();
        let socket = path.join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        crate::reactor::with_fd(std::os::fd::AsRawFd::as_raw_fd(&listener), |fd| {
            Ok(nix::sys::socket::listen(&fd, nix::sys::socket::Backlog::new(0).unwrap())?)
        })
        .unwrap();
        let _first = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        let failed = remote(60).call(&Address::Unix(socket), "f", &[]);
        std::fs::remove_dir_all(path).unwrap();
        assert!(matches!(failed, Err(Failure::Silent(_))), "{failed:?}");
    }

    #[test]
    fn a_cache_says_no_by_closing_and_yes_with_a_value() {
        let asked = |action| Asked { cache: Vec::new(), key: b"k".to_vec(), action, expires: 0 };
        let size = asked(Action::Get).packet().unwrap().len();
        for (answer, expected) in [
            (Vec::new(), Answered::No),
            (Answered::Value(b"v".to_vec()).bytes(), Answered::Value(b"v".to_vec())),
        ] {
            let (address, _peer) = peer(size, answer);
            assert_eq!(remote(20_000).ask_cache(&address, &asked(Action::Get), b"").unwrap(), expected);
        }
        let set = asked(Action::Set(3));
        let (address, peer) = peer(set.packet().unwrap().len() + 3, Answered::Yes.bytes());
        assert_eq!(remote(20_000).ask_cache(&address, &set, b"abc").unwrap(), Answered::Yes);
        assert!(peer.join().unwrap().ends_with(b"abc"));
    }

    #[test]
    fn a_name_is_looked_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = super::super::resolve::look_up(
            "127.0.0.1",
            port,
            &Patient,
            Instant::now() + Duration::from_secs(20),
        );
        assert_eq!(found.unwrap(), Some(listener.local_addr().unwrap()));
    }
}
