//! How blocking-style code of a subsystem waits (a remote cache, a remote procedure, a socket): it does not know whether a
//! greenlet, a thread or a coroutine waits with it. Whoever hosts the code implements [`Suspend`]; nobody waits on the
//! loop's own thread.
use crate::Interest;
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;

/// Suspends whoever calls, while all others go on.
pub trait Suspend {
    /// Waits until the descriptor is ready; false if `deadline` has passed before. It may be wrong about readiness, so the
    /// caller tries and waits again. An error: the request that waits was told to end, or nothing can wait here.
    fn ready(&self, fd: RawFd, interest: Interest, deadline: Option<Instant>) -> io::Result<bool>;

    /// Waits until then.
    fn sleep_until(&self, when: Instant) -> io::Result<()>;
}
