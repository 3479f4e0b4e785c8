//! Sockets that the service manager has opened for us before we started (socket activation, sd_listen_fds(3)). The master
//! takes them first of all, gives each the `listen` entry that it is meant for, and closes the others with a warning. An
//! entry that has a socket from here is not bound, and its socket file is the service manager's: it stays when we end.
use crate::sockets::{self, Listener};
use crate::spawn;
use appliance_config::settings::Endpoint;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Descriptors that a service manager passes at most; a larger number is a mistake.
const MAX_SOCKETS: usize = 256;

/// What the environment says of the sockets.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    count: usize,
    /// `FileDescriptorName=` of each, as far as there are names.
    names: Vec<String>,
}

/// Sockets that nobody has claimed yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Given>);

#[derive(Debug)]
struct Given {
    name: String,
    address: Endpoint,
    listener: Listener,
}

impl Given {
    /// A descriptor with its name; a sentence if HTTP cannot be spoken on it.
    fn new(fd: OwnedFd, name: &str) -> Result<Given, String> {
        let address = address_of(fd.as_fd())?;
        let listener = sockets::inherited(fd, &address).map_err(|errno| errno.desc().to_owned())?;
        Ok(Given { name: name.to_owned(), address, listener })
    }
}

/// Takes what was passed on to this process; a second call finds nothing. Sockets of another type are closed.
pub fn take() -> Inherited {
    let [pid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(spawn::take_variable);
    let Some(announced) = announced([pid, count, names], std::process::id()) else {
        return Inherited::default();
    };
    let mut names = announced.names.into_iter();
    let mut sockets = Vec::new();
    for (number, fd) in spawn::inherited(announced.count) {
        let name = names.next().unwrap_or_default();
        match fd.and_then(|fd| Given::new(fd, &name)) {
            Ok(given) => sockets.push(given),
            Err(why) => tracing::warn!("inherited descriptor {number} ({name}) is closed: {why}"),
        }
    }
    Inherited(sockets)
}

/// Whether, and what, the variables announce to the process `pid`.
fn announced([pid, count, names]: [Option<OsString>; 3], pid_of_ours: u32) -> Option<Announced> {
    let text = |value: Option<OsString>| value?.into_string().ok();
    let is_for_us = text(pid)?.parse() == Ok(pid_of_ours);
    let count = text(count)?.parse().ok().filter(|&count| is_for_us && (1..=MAX_SOCKETS).contains(&count))?;
    let names = text(names).unwrap_or_default();
    Some(Announced { count, names: names.split(':').map(str::to_owned).collect() })
}

/// Where it listens; a sentence if it does not, or is none that HTTP can be spoken on.
fn address_of(fd: BorrowedFd<'_>) -> Result<Endpoint, String> {
    let kind = getsockopt(&fd, sockopt::SockType).map_err(|_| "it is not a socket")?;
    if kind != SockType::Stream {
        return Err("it is not a stream socket; use ListenStream=".to_owned());
    }
    if getsockopt(&fd, sockopt::AcceptConn) != Ok(true) {
        return Err("it does not listen; set Accept=no".to_owned());
    }
    sockets::address_of(fd).ok_or_else(|| "it is neither a TCP nor a named unix socket".to_owned())
}

impl Inherited {
    /// The socket for the configuration's `key`, which asks for `address`: the one that is named like the key, or else
    /// one that listens there.
    pub fn claim(&mut self, key: &str, address: &Endpoint) -> Option<Listener> {
        let named = self.0.iter().position(|given| given.name == key);
        let found = named.or_else(|| self.0.iter().position(|given| serves(given, address)))?;
        let given = self.0.remove(found);
        tracing::info!(key, address = %given.address, "listening on a socket of the service manager's");
        Some(given.listener)
    }

    /// Closes the rest.
    pub fn refuse_rest(self) {
        for Given { name, address, .. } in self.0 {
            tracing::warn!(
                "the inherited socket {address} ({name}) is closed: no `listen` asks for this address; add it there, or name \
                 the socket after the entry with FileDescriptorName=listen[0]"
            );
        }
    }
}

/// Whether a socket listens where `asked` asks for. One of systemd's for a port alone listens on `[::]` for both families.
fn serves(given: &Given, asked: &Endpoint) -> bool {
    let all_of = |address: &SocketAddr, ip: IpAddr| address.ip() == ip && address.ip().is_unspecified();
    match (&given.address, asked) {
        (given, asked) if given == asked => true,
        (Endpoint::Tcp(there), Endpoint::Tcp(asked)) => {
            all_of(there, IpAddr::from([0; 16]))
                && all_of(asked, IpAddr::from([0; 4]))
                && there.port() == asked.port()
                && getsockopt(&given.listener, sockopt::Ipv6V6Only) == Ok(false)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn variables(texts: [&str; 3]) -> [Option<OsString>; 3] {
        texts.map(|text| (!text.is_empty()).then(|| text.into()))
    }

    fn given(fd: impl Into<OwnedFd>, name: &str) -> Given {
        Given::new(fd.into(), name).unwrap()
    }

    #[test]
    fn only_what_is_announced_to_this_very_process_is_taken() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let two = Announced { count: 2, names: names(&["web", "admin.listen"]) };
        assert_eq!(announced(variables(["7", "2", "web:admin.listen"]), 7), Some(two));
        for wrong in
            [["8", "2", ""], ["", "2", ""], ["7", "", ""], ["7", "0", ""], ["7", "-1", ""], ["7", "9999", ""]]
        {
            assert_eq!(announced(variables(wrong), 7), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_socket_goes_to_the_entry_with_its_name_or_its_address() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let named = TcpListener::bind("127.0.0.1:0").unwrap();
        let [address, other] = [&tcp, &named].map(|socket| Endpoint::Tcp(socket.local_addr().unwrap()));
        let mut inherited = Inherited(vec![given(tcp, "appliance.socket"), given(named, "listen[1]")]);
        let elsewhere = Endpoint::Tcp("127.0.0.1:1".parse().unwrap());
        assert!(inherited.claim("listen[0]", &elsewhere).is_none());
        let by_name = inherited.claim("listen[1]", &elsewhere).unwrap();
        assert_eq!(by_name.url, format!("http://{other}"));
        let by_address = inherited.claim("listen[0]", &address).unwrap();
        assert_eq!(by_address.url, format!("http://{address}"));
        assert!(inherited.claim("listen[0]", &address).is_none(), "each is given once");
    }

    #[test]
    fn a_socket_for_both_families_serves_an_entry_for_ipv4() {
        let Ok(both) = TcpListener::bind("[::]:0") else { return };
        let port = both.local_addr().unwrap().port();
        let asked = Endpoint::Tcp((std::net::Ipv4Addr::UNSPECIFIED, port).into());
        let loopback = Endpoint::Tcp((std::net::Ipv4Addr::LOCALHOST, port).into());
        let mut inherited = Inherited(vec![given(both, "")]);
        assert!(inherited.claim("listen[0]", &loopback).is_none());
        assert!(inherited.claim("listen[0]", &asked).is_some());
    }

    #[test]
    fn a_unix_socket_is_known_by_its_path_and_its_file_stays() {
        let dir = nix::unistd::mkdtemp("/tmp/appliance-activation-XXXXXX").unwrap();
        let path = dir.join("web.sock");
        let socket = UnixListener::bind(&path).unwrap();
        let listener = Inherited(vec![given(socket, "")]).claim("listen[0]", &Endpoint::Unix(path.clone()));
        assert_eq!(listener.unwrap().url, format!("unix:{}", path.display()));
        assert!(path.exists(), "it is not ours to remove");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_cannot_be_listened_on_is_refused_with_a_reason() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(address_of(udp.as_fd()).unwrap_err().contains("not a stream socket"));
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(address_of(stream.as_fd()).unwrap_err().contains("does not listen"));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(address_of(file.as_fd()).unwrap_err().contains("not a socket"));
    }
}
