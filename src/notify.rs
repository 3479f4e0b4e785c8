//! What the service manager is told (sd_notify(3)): that we are ready, that we reload, that we stop, how we are, and, if it
//! asks for that, that we live. One datagram each to `$NOTIFY_SOCKET`. Owned by the master. A service manager that does
//! not listen never holds the master up, and is no reason not to serve. `words.rs` below knows what is said when.
use crate::control::status::Status;
use crate::notice::Notice;
use crate::spawn;
use nix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};

mod words;
use words::Words;

/// Words that wait for a service manager that takes none; it reads at once, so more than a few mean that it never will.
const MAX_OUTBOX: usize = 16;
/// Pause before they are offered again.
const AGAIN_IN: Duration = Duration::from_millis(100);

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Notify(Option<Manager>);

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    words: Words,
    outbox: VecDeque<String>,
}

impl Notify {
    /// Takes the service manager's variables out of the environment: our children are not the service. `boot` is
    /// `timeouts.boot`.
    pub fn take(boot: Duration, now: Instant) -> Notify {
        let [socket, usec, pid] =
            ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].map(spawn::take_variable);
        let Some(name) = socket else { return Notify(None) };
        let text = |value: Option<std::ffi::OsString>| value.and_then(|value| value.into_string().ok());
        let watchdog = words::watchdog(text(usec).as_deref(), text(pid).as_deref(), std::process::id());
        match open(&name) {
            Ok((socket, address)) => {
                let words = Words::new(std::process::id(), watchdog, boot, now);
                Notify(Some(Manager { socket, address, words, outbox: VecDeque::new() }))
            }
            Err(error) => {
                let name = name.display();
                tracing::warn!("NOTIFY_SOCKET={name}: {error}; the service manager is told nothing");
                Notify(None)
            }
        }
    }

    /// Something has happened that it may have to know.
    pub fn on_notice(&mut self, notice: &Notice, now: Instant) {
        let Some(manager) = &mut self.0 else { return };
        let clock = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        manager.outbox.extend(manager.words.on_notice(notice, clock, now));
        manager.flush();
    }

    /// When to come back, if nothing happens before.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let manager = self.0.as_ref()?;
        let again = (!manager.outbox.is_empty()).then(|| now + AGAIN_IN);
        again.into_iter().chain([manager.words.next_deadline()]).min()
    }

    /// Whether [`Notify::on_turn`] needs to know how things are.
    pub fn is_due(&self, now: Instant) -> bool {
        self.0.as_ref().is_some_and(|manager| manager.words.next_deadline() <= now)
    }

    /// Says what is due, and what it could not say before.
    pub fn on_turn(&mut self, status: Option<&Status>, now: Instant) {
        let Some(manager) = &mut self.0 else { return };
        if let Some(status) = status {
            manager.outbox.extend(manager.words.on_turn(status, now));
        }
        manager.flush();
    }
}

impl Manager {
    fn flush(&mut self) {
        while let Some(words) = self.outbox.front() {
            match self.socket.send_to_addr(words.as_bytes(), &self.address) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.outbox.len() <= MAX_OUTBOX => {
                    return;
                }
                // Nobody listens there any more, or nobody reads: nothing that the service could do about it.
                Ok(_) | Err(_) => drop(self.outbox.pop_front()),
            }
        }
    }
}

fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(Path::new(name))?,
        _ => return Err(io::Error::other("it is neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(name: &OsStr, listener: &SocketAddr) -> (Notify, UnixDatagram) {
        let manager = UnixDatagram::bind_addr(listener).unwrap();
        manager.set_nonblocking(true).unwrap();
        let (socket, address) = open(name).unwrap();
        let now = Instant::now();
        let words = Words::new(7, None, Duration::from_secs(9), now);
        (Notify(Some(Manager { socket, address, words, outbox: VecDeque::new() })), manager)
    }

    fn heard(manager: &UnixDatagram) -> Option<String> {
        let mut packet = [0; 4096];
        let length = manager.recv(&mut packet).ok()?;
        Some(String::from_utf8(packet[..length].to_vec()).unwrap())
    }

    #[test]
    fn it_speaks_to_paths_and_to_abstract_names() {
        let dir = nix::unistd::mkdtemp("/tmp/appliance-notify-XXXXXX").unwrap();
        let path = dir.join("notify.sock");
        let name = format!("appliance-test-{}", std::process::id());
        for (name, address) in [
            (path.clone().into_os_string(), SocketAddr::from_pathname(&path).unwrap()),
            (format!("@{name}").into(), SocketAddr::from_abstract_name(&name).unwrap()),
        ] {
            let (mut notify, manager) = session(&name, &address);
            notify.on_notice(&Notice::Stopping, Instant::now());
            assert_eq!(heard(&manager).as_deref(), Some("STOPPING=1"));
        }
        assert!(open(OsStr::new("vsock:2:1234")).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for_and_gets_its_words_later() {
        let name = format!("appliance-deaf-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let (mut notify, manager) = session(OsStr::new(&format!("@{name}")), &address);
        let now = Instant::now();
        let waiting = |notify: &Notify| notify.0.as_ref().unwrap().outbox.len();
        while waiting(&notify) == 0 {
            notify.on_notice(&Notice::Stopping, now);
        }
        notify.on_notice(&Notice::Serving, now);
        while heard(&manager).is_some() {}
        notify.on_turn(None, now);
        let late: Vec<String> = std::iter::from_fn(|| heard(&manager)).collect();
        assert!(late.iter().any(|words| words.contains("READY=1")), "{late:?}");
    }

    #[test]
    fn without_a_manager_there_is_nothing_to_do() {
        let mut notify = Notify(None);
        notify.on_notice(&Notice::Serving, Instant::now());
        assert_eq!(notify.next_deadline(Instant::now()), None);
    }
}
