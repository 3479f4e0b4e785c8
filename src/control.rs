//! The control socket: where `appliance status`, `reload`, `stop` and the other verbs reach a running master. The master owns it, polls
//! it with everything else it waits for, and is never held up by it: everything is non-blocking, every client has a
//! deadline, and there is a bound on their number. The files below it: `protocol` is what is said, `waiting` what a verb
//! means, `status` and `table` how things are, `findings` what workers have answered, `printable` what a terminal is shown,
//! `connection` one client, `place` where the socket lies, and `client` the other side.
use crate::error::Error;
use crate::notice::Notice;
use crate::sockets::{self, Listener};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Uid;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub mod client;
mod connection;
mod findings;
mod place;
mod printable;
mod protocol;
pub mod status;
pub mod table;
mod waiting;

use connection::Connection;
pub use findings::Told;
use place::{Seat, Viewer};
pub use protocol::{Answer, Stores, Verb};
pub use waiting::{Meaning, Wait, meaning};

/// Clients at once. People and their scripts are few; a further one is told so.
const MAX_CLIENTS: usize = 64;
/// What everybody else is told, by the master or before it hears of them.
const ONLY_OWNER: &str = "only the user of the master, and root, may control it";
/// Pause after the kernel has refused to accept a client: it would say so again at once.
const REST: Duration = Duration::from_secs(1);

/// Tells one client from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId(u64);

#[cfg(test)]
impl ClientId {
    /// Any client, for the tests of those who answer one.
    pub fn new(n: u64) -> ClientId {
        ClientId(n)
    }
}

/// The socket and its clients.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    clients: Vec<(ClientId, Connection)>,
    last_id: u64,
    rest_until: Option<Instant>,
    // Removes the socket file, and only then the folder it lies in.
    file: Listener,
    path: PathBuf,
    seat: Option<Seat>,
}

impl Control {
    /// Opens the socket in the configured run directory, whose lock the master holds, or at the well-known place of
    /// `origin`. `None`, with a warning, if the well-known place is taken: a master can serve without.
    pub fn open(run_dir: Option<&Path>, origin: &Path) -> Result<Option<Control>, Error> {
        if let Some(run_dir) = run_dir {
            return Control::at(&place::in_run_dir(run_dir), None).map(Some);
        }
        let seat = Seat::take(&Viewer::this(), origin);
        let opened = seat.and_then(|seat| {
            let socket = seat.socket.clone();
            Control::at(&socket, Some(seat)).map_err(|error| error.to_string())
        });
        match opened {
            Ok(control) => Ok(Some(control)),
            Err(why) => {
                tracing::warn!(
                    "no control socket, so `appliance status`, `reload` and `stop` do not reach this master ({why}); \
                     set admin.run_dir to a folder of its own"
                );
                Ok(None)
            }
        }
    }

    fn at(socket: &Path, seat: Option<Seat>) -> Result<Control, Error> {
        let file = sockets::open_control(socket)?;
        let listener = file.try_clone().map_err(Error::system("open the control socket"))?.into();
        Ok(Control {
            listener,
            clients: Vec::new(),
            last_id: 0,
            rest_until: None,
            file,
            path: socket.to_owned(),
            seat,
        })
    }

    /// Opens the socket again, and answers true, if its file has been removed; a client that is connected stays.
    pub fn restore(&mut self) -> Result<bool, Error> {
        if self.file.has_name() {
            return Ok(false);
        }
        if let Some(seat) = &mut self.seat {
            seat.restore()
                .map_err(io::Error::other)
                .map_err(Error::system("make the control socket again"))?;
        }
        let file = sockets::open_control(&self.path)?;
        self.listener = file.try_clone().map_err(Error::system("open the control socket"))?.into();
        self.file = file;
        Ok(true)
    }

    /// What to wait for.
    pub fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        let door = self.rest_until.is_none().then(|| PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        let clients = self.clients.iter().map(|(_, client)| PollFd::new(client.as_fd(), client.interest()));
        clients.chain(door)
    }

    /// When to come back, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|(_, client)| client.deadline()).chain(self.rest_until).min()
    }

    /// Takes whatever has happened; the verbs must be answered.
    pub fn turn(&mut self, now: Instant) -> Vec<(ClientId, Verb)> {
        if self.rest_until.is_some_and(|at| at <= now) {
            self.rest_until = None;
        }
        let mut sources: Vec<PollFd<'_>> = self.sources().collect();
        let ready = match poll(&mut sources, PollTimeout::ZERO) {
            Ok(_) => sources.iter().map(|source| source.revents().unwrap_or(PollFlags::empty())).collect(),
            Err(_) => Vec::new(),
        };
        let mut verbs = Vec::new();
        for ((id, client), &ready) in self.clients.iter_mut().zip(&ready) {
            verbs.extend(client.on_ready(ready, now).map(|verb| (*id, verb)));
        }
        self.sweep(now);
        self.accept(now);
        verbs
    }

    fn accept(&mut self, now: Instant) {
        while self.rest_until.is_none() {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot take a client; tried again in {REST:?}");
                    self.rest_until = Some(now + REST);
                }
            }
        }
    }

    /// The mode of the socket keeps other users out already; the kernel's word does not depend on a file.
    fn admit(&mut self, stream: UnixStream, now: Instant) {
        let Ok(is_ours) = prepare(&stream) else { return };
        let mut client = Connection::new(stream, now);
        if !is_ours {
            client.say(&Answer::Error(ONLY_OWNER.into()), now);
        } else if self.clients.len() >= MAX_CLIENTS {
            client.say(&Answer::Error("too many control clients are connected".into()), now);
        } else {
            self.last_id += 1;
            self.clients.push((ClientId(self.last_id), client));
        }
    }

    /// Answers a verb.
    pub fn say(&mut self, id: ClientId, answer: &Answer, now: Instant) {
        if let Some(client) = self.client(id) {
            client.say(answer, now);
        }
        self.sweep(now);
    }

    /// Answers a verb later.
    pub fn wait_for(&mut self, id: ClientId, wait: Wait, now: Instant) {
        if let Some(client) = self.client(id) {
            client.wait_for(wait, now);
        }
    }

    /// Tells whoever waits for it.
    pub fn on_notice(&mut self, notice: &Notice, now: Instant) {
        for (_, client) in &mut self.clients {
            if let Some(answer) = client.waits_for().and_then(|wait| wait.on(notice)) {
                client.say(&answer, now);
            }
        }
        self.sweep(now);
    }

    /// The master exits: the last words to whoever still waits.
    pub fn on_exit(&mut self, now: Instant) {
        for (_, client) in &mut self.clients {
            if let Some(wait) = client.waits_for().copied() {
                client.say(&wait.at_exit(), now);
            }
        }
    }

    fn client(&mut self, id: ClientId) -> Option<&mut Connection> {
        self.clients.iter_mut().find(|(known, _)| *known == id).map(|(_, client)| client)
    }

    fn sweep(&mut self, now: Instant) {
        self.clients.retain(|(_, client)| !client.is_over(now));
    }
}

/// Makes the stream ready for a master that waits for nobody; whether its client may speak.
fn prepare(stream: &UnixStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let peer = Uid::from_raw(getsockopt(stream, sockopt::PeerCredentials)?.uid());
    Ok(peer.is_root() || peer == Uid::effective())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    /// A control socket in a folder of its own, which goes with the value.
    struct Site {
        dir: PathBuf,
        control: Control,
    }

    impl Site {
        fn new() -> Site {
            let dir = nix::unistd::mkdtemp("/tmp/appliance-control-XXXXXX").unwrap();
            let control = Control::open(Some(&dir), Path::new("/")).unwrap().unwrap();
            Site { dir, control }
        }

        fn connect(&self) -> UnixStream {
            UnixStream::connect(self.dir.join("control.sock")).unwrap()
        }
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }

    #[test]
    fn the_socket_is_ours_alone_and_no_child_has_it() {
        let mut site = Site::new();
        let mode = std::fs::metadata(site.dir.join("control.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let _client = site.connect();
        site.control.turn(Instant::now());
        let client = &site.control.clients[0].1;
        for fd in [client.as_fd(), site.control.listener.as_fd()] {
            assert!(
                OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK)
            );
            assert!(
                FdFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFD).unwrap())
                    .contains(FdFlag::FD_CLOEXEC)
            );
        }
    }

    #[test]
    fn a_verb_is_taken_and_its_answer_ends_the_connection() {
        let mut site = Site::new();
        let mut client = site.connect();
        client.write_all(Verb::Status.encode().as_bytes()).unwrap();
        let now = Instant::now();
        assert_eq!(site.control.turn(now), [], "it has only just come");
        let verbs = site.control.turn(now);
        let [(id, Verb::Status)] = verbs[..] else { panic!("{verbs:?}") };
        site.control.say(id, &Answer::Done("here".into()), now);
        let mut told = String::new();
        client.read_to_string(&mut told).unwrap();
        assert_eq!(Answer::decode(&told), Ok(Answer::Done("here".into())));
        assert_eq!((site.control.clients.len(), site.control.next_deadline()), (0, None));
    }

    #[test]
    fn too_many_clients_are_told_so_and_the_silent_ones_go() {
        let mut site = Site::new();
        let now = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..=MAX_CLIENTS {
            clients.push(site.connect());
            site.control.turn(now);
        }
        let mut told = String::new();
        clients.pop().unwrap().read_to_string(&mut told).unwrap();
        assert!(told.contains("too many control clients"), "{told}");
        assert_eq!(site.control.next_deadline(), Some(now + connection::PATIENCE));
        site.control.turn(now + connection::PATIENCE);
        assert_eq!(site.control.clients.len(), 0);
    }
}
