//! Descriptors that cores wait for (`uwsgi.wait_fd_read` and native blocking-style I/O). Each wait watches a duplicate,
//! so it never collides with another watcher of the same file and survives its owner closing it.
use crate::cores::CoreId;
use crate::reactor::{Reactor, Source};
use mio::Interest;
use mio::unix::SourceFd;
use slab::Slab;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Names one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitId {
    slot: u32,
    generation: u32,
}

#[derive(Debug)]
struct Wait {
    core: CoreId,
    fd: OwnedFd,
    generation: u32,
    fired: bool,
}

/// All waits of a worker.
#[derive(Debug, Default)]
pub struct Waits {
    waits: Slab<Wait>,
    generation: u32,
}

impl Waits {
    /// Starts a wait. Readiness that is there already is reported too.
    pub fn add(
        &mut self,
        reactor: &Reactor,
        core: CoreId,
        fd: OwnedFd,
        interest: Interest,
    ) -> io::Result<WaitId> {
        self.generation = Source::generation(self.generation.wrapping_add(1));
        let entry = self.waits.vacant_entry();
        let id = WaitId { slot: entry.key() as u32, generation: self.generation };
        reactor.watch_for(&mut SourceFd(&fd.as_raw_fd()), Source::Wait(id.slot, id.generation), interest)?;
        entry.insert(Wait { core, fd, generation: self.generation, fired: false });
        Ok(id)
    }

    /// The descriptor is ready: whom to wake. Only the first event counts.
    pub fn fire(&mut self, slot: u32, generation: u32) -> Option<CoreId> {
        let wait =
            self.waits.get_mut(slot as usize).filter(|wait| wait.generation == generation && !wait.fired)?;
        wait.fired = true;
        Some(wait.core)
    }

    /// Whether the descriptor was ready.
    pub fn fired(&self, id: WaitId) -> bool {
        self.waits.get(id.slot as usize).is_some_and(|wait| wait.generation == id.generation && wait.fired)
    }

    /// Ends a wait, fired or not.
    pub fn cancel(&mut self, reactor: &Reactor, id: WaitId) {
        if self.waits.get(id.slot as usize).is_some_and(|wait| wait.generation == id.generation) {
            let wait = self.waits.remove(id.slot as usize);
            // Closing the duplicate would not be enough: the file stays registered while its owner has it open.
            let _ = reactor.unwatch(&mut SourceFd(&wait.fd.as_raw_fd()));
        }
    }
}
