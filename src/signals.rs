//! The master's signals, as values that its loop reads. They are blocked and taken from a descriptor, so nothing ever
//! runs in a handler. Children start with an empty mask again (`spawn.rs`).
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What the master is asked to do by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM, SIGINT, SIGQUIT: finish and exit; a second one: now.
    Stop,
    /// SIGHUP: load the application again and replace the workers.
    Reload,
    /// SIGCHLD: some children have ended.
    Reap,
    /// SIGUSR1, SIGUSR2: no meaning here; by default they would end the process.
    Nothing(Signal),
}

/// Wishes by signal; every other signal keeps its default.
const WISHES: [(Signal, Wish); 7] = [
    (Signal::SIGTERM, Wish::Stop),
    (Signal::SIGINT, Wish::Stop),
    (Signal::SIGQUIT, Wish::Stop),
    (Signal::SIGHUP, Wish::Reload),
    (Signal::SIGCHLD, Wish::Reap),
    (Signal::SIGUSR1, Wish::Nothing(Signal::SIGUSR1)),
    (Signal::SIGUSR2, Wish::Nothing(Signal::SIGUSR2)),
];

/// The descriptor that signals arrive on.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals of the calling thread and opens the descriptor. Before the first fork, so that none is
    /// lost.
    pub fn open() -> io::Result<Signals> {
        let mask: SigSet = WISHES.iter().map(|(signal, _)| *signal).collect();
        mask.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next wish that has arrived.
    pub fn take(&self) -> io::Result<Option<Wish>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        Ok(WISHES.iter().find(|(signal, _)| *signal as i32 == number).map(|(_, wish)| *wish))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
