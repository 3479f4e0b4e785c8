//! The listening sockets, which the master opens before any fork and owns for life: a dead proxy or worker refuses
//! nobody, its successor serves what waits in the backlog. Nothing is accepted here. A socket file goes when its
//! owner is dropped.
use crate::error::Error;
use crate::privileges::Identity;
use appliance_config::settings::Endpoint;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, connect,
    getsockname, listen, setsockopt, socket, sockopt,
};
use std::fs;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of the sockets that requests come through: owner and group may connect.
const SOCKET_MODE: u32 = 0o660;
/// Mode of the control socket: the owner may connect.
const CONTROL_MODE: u32 = 0o600;
/// Control clients that wait to be taken; a person types few.
const CONTROL_BACKLOG: u32 = 16;

/// How the listeners of the uwsgi protocol are chosen.
const WIRE: &str = "rpc.listen or cache.NAME.listen in the configuration";

/// A listening socket of the master's.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// Where it listens, for humans: `http://127.0.0.1:8080` with the real port, or `unix:/run/app.sock`.
    pub url: String,
    file: Option<SocketFile>,
}

impl Listener {
    /// Whether a client can still find it: its file, if it has one, has not been removed.
    pub fn has_name(&self) -> bool {
        self.file.as_ref().is_none_or(SocketFile::is_there)
    }

    /// A second descriptor of the socket, to hand to a child.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Changes how many connections may wait to be accepted; those that wait stay. Linux takes a second `listen` for that.
    pub fn set_backlog(&self, queue: u32) {
        // It listens already, so there is nothing that could fail.
        let _ = listen(&self.fd, backlog(queue));
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket file that is removed when its listener goes, unless somebody has put another in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: PathBuf) -> io::Result<SocketFile> {
        let inode = inode(&path)?;
        Ok(SocketFile { path, inode })
    }

    fn is_there(&self) -> bool {
        inode(&self.path).is_ok_and(|now| now == self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // A file that cannot be removed does no harm: the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What tells one file from another at the same path.
fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Opens a public listener of the proxy.
pub fn open_public(
    endpoint: &Endpoint,
    backlog: u32,
    identity: Option<&Identity>,
) -> Result<Listener, Error> {
    match endpoint {
        Endpoint::Tcp(address) => open_tcp(*address, backlog, "--listen"),
        Endpoint::Unix(path) => open_unix(path, backlog, identity),
    }
}

/// A public listener that somebody else has opened, at the address that [`address_of`] tells; its file is not ours.
pub fn inherited(fd: OwnedFd, address: &Endpoint) -> nix::Result<Listener> {
    let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let url = match address {
        Endpoint::Tcp(address) => format!("http://{address}"),
        Endpoint::Unix(path) => format!("unix:{}", path.display()),
    };
    Ok(Listener { fd, url, file: None })
}

/// The address that a socket is bound to; `None` if it is neither TCP nor a unix socket with a path.
pub fn address_of(fd: BorrowedFd<'_>) -> Option<Endpoint> {
    let name = getsockname::<SockaddrStorage>(fd.as_raw_fd()).ok()?;
    let unix = || Some(Endpoint::Unix(name.as_unix_addr()?.path()?.to_owned()));
    socket_addr(&name).map(Endpoint::Tcp).or_else(unix)
}

/// Opens a listener for the uwsgi protocol.
pub fn open_wire(endpoint: &Endpoint, backlog: u32, identity: Option<&Identity>) -> Result<Listener, Error> {
    match endpoint {
        Endpoint::Tcp(address) => open_tcp(*address, backlog, WIRE),
        Endpoint::Unix(path) => open_unix(path, backlog, identity),
    }
}

/// Binds a UDP socket on which caches hear of each other.
pub fn open_udp(address: SocketAddr) -> Result<OwnedFd, Error> {
    let socket = UdpSocket::bind(address).and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    socket.map(OwnedFd::from).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        tcp_error(address, errno, "cache.NAME.udp in the configuration")
    })
}

/// Opens the read-only admin endpoint.
pub fn open_admin(address: SocketAddr, backlog: u32) -> Result<Listener, Error> {
    open_tcp(address, backlog, "--set admin.listen=ADDRESS")
}

/// Opens the socket on which the proxy reaches one worker, in the run directory, which is ours alone. It is bound
/// under the very path that the proxy connects to: the proxy recognises a kept connection by that name.
pub fn open_worker(path: &Path, backlog: u32, identity: Option<&Identity>) -> Result<Listener, Error> {
    open_owned(path, || bind_unix(path, backlog, SOCKET_MODE, identity))
}

/// Opens the control socket, for the master's own user only. The caller holds the lock of the folder it lies in.
pub fn open_control(path: &Path) -> Result<Listener, Error> {
    open_owned(path, || bind_unix(path, CONTROL_BACKLOG, CONTROL_MODE, None))
}

/// A socket where nobody but us may have one: what lies there was left by a master that was killed.
fn open_owned(path: &Path, bind: impl FnOnce() -> io::Result<OwnedFd>) -> Result<Listener, Error> {
    let failed = |error: io::Error| unix_error(path, &error);
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(failed(error));
    }
    listener_at(bind().map_err(failed)?, path).map_err(failed)
}

fn open_tcp(address: SocketAddr, backlog: u32, choose: &'static str) -> Result<Listener, Error> {
    let fd = bind_tcp(address, backlog).map_err(|errno| tcp_error(address, errno, choose))?;
    let bound = getsockname::<SockaddrStorage>(fd.as_raw_fd()).ok();
    let bound = bound.and_then(|found| socket_addr(&found)).unwrap_or(address);
    Ok(Listener { fd, url: format!("http://{bound}"), file: None })
}

fn bind_tcp(address: SocketAddr, queue: u32) -> nix::Result<OwnedFd> {
    let name = SockaddrStorage::from(address);
    let family = name.family().unwrap_or(AddressFamily::Inet);
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    // Connections of the last run that linger in TIME_WAIT do not keep us from the port.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &name)?;
    listen(&fd, backlog(queue))?;
    Ok(fd)
}

fn socket_addr(name: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = name.as_sockaddr_in().map(|found| SocketAddrV4::from(*found).into());
    v4.or_else(|| name.as_sockaddr_in6().map(|found| SocketAddrV6::from(*found).into()))
}

/// The kernel cuts a longer queue to `net.core.somaxconn` itself; nix refuses one above its compile-time value.
fn backlog(queue: u32) -> Backlog {
    i32::try_from(queue).ok().and_then(|queue| Backlog::new(queue).ok()).unwrap_or(Backlog::MAXCONN)
}

fn tcp_error(address: SocketAddr, errno: Errno, choose: &'static str) -> Error {
    let name = address.to_string();
    let why = match errno {
        Errno::EADDRINUSE => return Error::AddressInUse { address: name, choose },
        Errno::EACCES => "only root may use ports below 1024".to_owned(),
        Errno::EADDRNOTAVAIL => "this machine has no such address".to_owned(),
        Errno::EAFNOSUPPORT => "this machine has no IPv6".to_owned(),
        other => other.desc().to_owned(),
    };
    Error::Listen { address: name, why, choose }
}

/// A public unix socket lies in a folder that others may use: a live one is somebody else's, a dead one is replaced
/// in one step, so that a client finds a socket at every moment.
fn open_unix(path: &Path, backlog: u32, identity: Option<&Identity>) -> Result<Listener, Error> {
    let failed = |error: io::Error| unix_error(path, &error);
    match fs::symlink_metadata(path) {
        Err(_) => {}
        Ok(found) if !found.file_type().is_socket() => return Err(Error::NotASocket(path.to_owned())),
        Ok(_) if somebody_listens(path) => return Err(failed(Errno::EADDRINUSE.into())),
        Ok(_) => {}
    }
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let fd = bind_unix(&new, backlog, SOCKET_MODE, identity).map_err(failed)?;
    if let Err(error) = fs::rename(&new, path) {
        let _ = fs::remove_file(&new);
        return Err(failed(error));
    }
    listener_at(fd, path).map_err(failed)
}

fn listener_at(fd: OwnedFd, path: &Path) -> io::Result<Listener> {
    let file = SocketFile::of(path.to_owned())?;
    Ok(Listener { fd, url: format!("unix:{}", path.display()), file: Some(file) })
}

/// Nobody can connect before `listen`, so nobody can with another mode.
fn bind_unix(path: &Path, queue: u32, mode: u32, identity: Option<&Identity>) -> io::Result<OwnedFd> {
    let fd = unix_socket()?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    hand_over(path, mode, identity)?;
    listen(&fd, backlog(queue))?;
    Ok(fd)
}

/// Gives a socket file its mode and its owner. The folder may be the application's, which could have put a link to somebody
/// else's file in its place by now; root must not give that away, so it is opened first, and looked at.
fn hand_over(path: &Path, mode: u32, identity: Option<&Identity>) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("somebody has put something else in the place of the socket"));
    }
    // What is open has no other name that is sure to be its own.
    let opened = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    fs::set_permissions(&opened, fs::Permissions::from_mode(mode))?;
    identity.map_or(Ok(()), |identity| identity.give(&opened))
}

fn unix_socket() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

/// Only a refused connection proves that nobody listens; a full backlog or a lack of permission does not.
fn somebody_listens(path: &Path) -> bool {
    let knock = || connect(unix_socket()?.as_raw_fd(), &UnixAddr::new(path)?);
    !matches!(knock(), Err(Errno::ECONNREFUSED | Errno::ENOENT))
}

fn unix_error(path: &Path, error: &io::Error) -> Error {
    let address = format!("unix:{}", path.display());
    let choose = "--listen";
    let why = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRINUSE) => return Error::AddressInUse { address, choose },
        Some(Errno::ENOENT) => "its folder does not exist".to_owned(),
        Some(Errno::EACCES | Errno::EPERM) => "you may not write to its folder".to_owned(),
        Some(Errno::ENAMETOOLONG) => "the path of a unix socket has at most 107 bytes".to_owned(),
        _ => error.to_string(),
    };
    Error::Listen { address, why, choose }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::FdFlag;
    use std::os::unix::net::{UnixListener, UnixStream};

    /// A fresh directory that goes with the value.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Dir {
            Dir(nix::unistd::mkdtemp("/tmp/appliance-sockets-XXXXXX").unwrap())
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn any_port() -> Endpoint {
        Endpoint::Tcp("127.0.0.1:0".parse().unwrap())
    }

    #[test]
    fn every_listener_is_non_blocking_and_closed_on_exec() {
        let dir = Dir::new();
        let path = dir.0.join("worker-1.sock");
        for listener in [open_public(&any_port(), 16, None).unwrap(), open_worker(&path, 16, None).unwrap()] {
            let flags = OFlag::from_bits_truncate(fcntl(&listener, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK), "{}", listener.url);
            let flags = FdFlag::from_bits_truncate(fcntl(&listener, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC), "{}", listener.url);
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_socket_gives_nothing_away() {
        let dir = Dir::new();
        let (secret, path) = (dir.0.join("secret"), dir.0.join("worker-1.sock"));
        fs::write(&secret, "").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        let error = hand_over(&path, SOCKET_MODE, None).unwrap_err().to_string();
        assert!(error.contains("something else in the place of the socket"), "{error}");
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        let _listener = open_worker(&path, 16, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SOCKET_MODE);
    }

    #[test]
    fn port_0_becomes_a_real_port_and_a_taken_port_is_named() {
        let first = open_public(&any_port(), 16, None).unwrap();
        let address = first.url.strip_prefix("http://").unwrap();
        assert!(!address.ends_with(":0"), "{address}");
        let error = open_public(&Endpoint::Tcp(address.parse().unwrap()), 16, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{address}: address already in use; another program listens there. Stop it (if it is an appliance: `appliance stop`) or choose another with --listen"
            )
        );
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_removed_at_the_end() {
        let dir = Dir::new();
        let path = dir.0.join("app.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead server leaves its socket behind");
        let listener = open_public(&Endpoint::Unix(path.clone()), 16, None).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, SOCKET_MODE);
        drop(listener);
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
    }

    #[test]
    fn a_live_socket_is_left_alone() {
        let dir = Dir::new();
        let path = dir.0.join("app.sock");
        let other = UnixListener::bind(&path).unwrap();
        let error = open_public(&Endpoint::Unix(path.clone()), 16, None).unwrap_err();
        assert!(error.to_string().contains("another program listens there"), "{error}");
        UnixStream::connect(&path).unwrap();
        drop(other);
    }

    #[test]
    fn a_socket_that_another_put_there_is_not_removed() {
        let dir = Dir::new();
        let path = dir.0.join("app.sock");
        let first = open_public(&Endpoint::Unix(path.clone()), 16, None).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_is_no_socket_and_a_missing_folder_is_said() {
        let dir = Dir::new();
        let path = dir.0.join("notes.txt");
        fs::write(&path, "mine").unwrap();
        let error = open_public(&Endpoint::Unix(path.clone()), 16, None).unwrap_err();
        assert!(
            error.to_string().ends_with("exists and is not a socket; remove it or choose another path"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let error = open_public(&Endpoint::Unix(dir.0.join("no/app.sock")), 16, None).unwrap_err();
        assert!(error.to_string().contains("its folder does not exist"), "{error}");
    }
}
