//! A bell: an eventfd that somebody rings and others wait for, in this process or in several. It carries no news; whoever
//! hears it looks for what has changed. Ringing never waits, and may be done from any thread.
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// See the module.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A new one, which nobody has rung.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into()))
    }

    /// One that another process has made.
    pub fn from_fd(fd: OwnedFd) -> Bell {
        Bell(fd)
    }

    /// Rings. Whoever watches edge-triggered hears every time; to others the descriptor stays readable until
    /// [`Bell::hush`].
    pub fn ring(&self) {
        // One that has been rung 2⁶⁴ times and was never hushed takes no more, and still is readable.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub fn hush(&self) {
        // Nobody may have rung.
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
