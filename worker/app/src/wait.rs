//! Waiting for time and for descriptors. Outside of a coroutine (on a thread of [`blocking`](crate::blocking), in a test) the
//! calling thread waits instead.
use crate::abi::{APPLIANCE_READ, APPLIANCE_WRITE};
use crate::host;
use nix::errno::Errno;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Waits, while the other requests go on.
pub fn sleep(time: Duration) {
    // It fails only where there is no coroutine to suspend, or while a panic unwinds.
    if host::sleep(time).is_err() && !std::thread::panicking() {
        std::thread::sleep(time);
    }
}

/// Waits until there is something to read, or an end; false if `timeout` has passed before. It may be wrong, so try and wait
/// again. The descriptor should be non-blocking.
pub fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    ready(&fd, APPLIANCE_READ, timeout)
}

/// The same for room to write.
pub fn wait_writable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
    ready(&fd, APPLIANCE_WRITE, timeout)
}

fn ready(fd: &impl AsFd, what: u32, timeout: Option<Duration>) -> io::Result<bool> {
    match host::ready(fd.as_fd(), what, timeout) {
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => poll(fd, what, timeout),
        other => other,
    }
}

fn poll(fd: &impl AsFd, what: u32, timeout: Option<Duration>) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, what & APPLIANCE_READ != 0);
    flags.set(PollFlags::POLLOUT, what & APPLIANCE_WRITE != 0);
    let timeout =
        timeout.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
    match poll(&mut [PollFd::new(fd.as_fd(), flags)], timeout) {
        Ok(count) => Ok(count > 0),
        // Possibly ready: the caller tries and waits again.
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
