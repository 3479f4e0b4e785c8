//! The names of the master's sockets in the run directory, and of the control socket, wherever it lies. Somebody may remove them
//! while it runs, a cleaner of old files for one; sockets without a name still serve whoever is connected, but nobody can connect
//! anew. So the master looks after them, makes the directory and the names again, and tells the fleet whose socket is another one
//! now. What cannot be made yet is tried again, ever more rarely.
use super::Master;
use crate::control::Control;
use crate::error::Error;
use crate::fleet::Event;
use crate::sockets;
use std::time::{Duration, Instant};

/// The directory is looked at this often: a few cheap system calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Master {
    /// Opens the sockets of the workers up to this number.
    pub(super) fn open_workers(&mut self, count: u32) -> Result<(), Error> {
        for id in self.workers.len() as u32 + 1..=count {
            let path = self.run_dir.socket(id);
            let backlog = self.settings.limits.backlog;
            self.workers.push(sockets::open_worker(&path, backlog, self.identity.as_ref())?);
        }
        Ok(())
    }

    /// So many workers are there or wanted. The sockets of the others are closed; what still waits to be taken there is
    /// refused, so that the proxy sends it elsewhere. Those of new ones are opened when they are forked.
    pub(super) fn resize(&mut self, workers: u32) {
        self.board.set_workers(workers);
        self.panel.set_workers(workers);
        self.workers.truncate(workers as usize);
    }

    /// Restores what is missing, if it is time to look.
    pub(super) fn keep_places(&mut self, now: Instant) -> Vec<Event> {
        let is_due = self.kept.is_none_or(|last| last + LOOK_EVERY <= now) && self.place_backoff.is_over(now);
        if !is_due {
            return Vec::new();
        }
        self.kept = Some(now);
        let mut events = Vec::new();
        match self.restore(&mut events) {
            Ok(()) => self.place_backoff.reset(),
            Err(error) => {
                let again_in = self.place_backoff.fail(now);
                tracing::error!(
                    "what has been removed of the run directory, or the control socket, cannot be made again; whoever is \
                     connected is served, and it is tried again in {again_in:?}: {error}"
                );
            }
        }
        events
    }

    fn restore(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        if self.run_dir.restore(self.identity.as_ref())? {
            tracing::warn!("the run directory has been removed; it is made again");
        }
        let backlog = self.settings.limits.backlog;
        for (worker, socket) in (1..).zip(&mut self.workers).filter(|(_, socket)| !socket.has_name()) {
            *socket = sockets::open_worker(&self.run_dir.socket(worker), backlog, self.identity.as_ref())?;
            tracing::warn!("the socket of worker {worker} has been removed; it is made again");
            events.push(Event::SocketRenewed { worker });
        }
        if self.control.as_mut().map_or(Ok(false), Control::restore)? {
            tracing::warn!("the control socket has been removed; it is made again");
        }
        Ok(())
    }
}
