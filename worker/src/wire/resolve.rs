//! Looks up the name of a host without holding anybody but whoever asks: the C library's resolver blocks, so a thread of its
//! own does it, and says on a socket when it is done. Nothing is remembered, because only the resolver knows for how long it
//! would be true.
use crate::suspend::Suspend;
use mio::Interest;
use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Names that are looked up at the same time in one process; each costs a thread until the resolver gives up.
const MOST: usize = 16;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Why there is no address.
#[derive(Debug)]
pub enum Trouble {
    /// The resolver knows none, or cannot be asked.
    Unknown(String),
    /// Whoever waits was told to end.
    Ended(io::Error),
}

/// One of the threads, counted.
struct Running;

impl Running {
    fn begin() -> Option<Running> {
        let running = Running;
        // Dropped again, and so counted down again, where it is one too many.
        (RUNNING.fetch_add(1, Relaxed) < MOST).then_some(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Relaxed);
    }
}

/// The first address of a host, with this port; `None`: not before `deadline`.
pub fn look_up(
    host: &str,
    port: u16,
    suspend: &dyn Suspend,
    deadline: Instant,
) -> Result<Option<SocketAddr>, Trouble> {
    let unknown = |why: &dyn ToString| Trouble::Unknown(why.to_string());
    let running = Running::begin().ok_or_else(|| unknown(&"too many names are being looked up already"))?;
    let (mut here, there) = UnixStream::pair().map_err(|error| unknown(&error))?;
    here.set_nonblocking(true).map_err(|error| unknown(&error))?;
    let found = Arc::new(Mutex::new(None));
    let (name, place) = (host.to_owned(), Arc::clone(&found));
    let resolver = thread::Builder::new().name("resolver".to_owned()).spawn(move || {
        let result = (name.as_str(), port).to_socket_addrs().map(|mut all| all.next());
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        // That it closes says that it is done.
        drop((there, running));
    });
    resolver.map_err(|error| unknown(&error))?;
    // Nobody writes to it: it has an end, or nothing yet.
    while here.read(&mut [0]).is_err() {
        let is_ready = suspend.ready(here.as_raw_fd(), Interest::READABLE, Some(deadline));
        if !is_ready.map_err(Trouble::Ended)? && Instant::now() >= deadline {
            return Ok(None);
        }
    }
    match found.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(Ok(Some(address))) => Ok(Some(address)),
        Some(Err(error)) => Err(unknown(&error)),
        Some(Ok(None)) | None => Err(unknown(&"the name has no address")),
    }
}
