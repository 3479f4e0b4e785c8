//! The worker's end of the line to its master, as whoever has news sees it. Usable from any thread; never waits. The watch
//! thread reads the same socket (`watch.rs`).
use crate::report::News;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::{AsRawFd, OwnedFd};

/// See the module.
#[derive(Debug)]
pub struct Line(OwnedFd);

impl Line {
    /// From a descriptor of the worker's end.
    pub fn new(fd: OwnedFd) -> Line {
        Line(fd)
    }

    /// Says it. `EAGAIN`: the master is behind, and has not heard it.
    pub fn tell(&self, news: &News) -> Result<(), Errno> {
        send(self.0.as_raw_fd(), &news.encode(), MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT).map(drop)
    }
}
