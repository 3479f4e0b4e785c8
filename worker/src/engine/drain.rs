//! How a worker stops: no new connections, no new requests on links, what runs is finished, and whatever is idle after a
//! moment of grace is closed.
use super::{Due, Engine, Way};
use crate::app::Host;
use crate::board::State;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A draining worker goes on answering on idle connections for this long, because a request may be on its way.
const IDLE_GRACE: Duration = Duration::from_millis(250);

impl Engine {
    pub(super) fn is_done(&self, host: &dyn Host) -> bool {
        let has_work = || !self.cores.borrow().is_idle() || self.inbox.has_errands();
        let has_peers = || !self.conns.borrow().is_empty() || !self.wires.borrow().is_empty();
        self.draining.get() && host.is_drained() && !has_peers() && !has_work()
    }

    /// No new connections; what runs is finished.
    pub(super) fn drain(&self, host: &dyn Host) {
        if self.draining.replace(true) {
            return;
        }
        self.slot().set_state(State::Draining);
        tracing::debug!(worker = self.boot.worker_id, "draining");
        self.accept_last(host);
        for mut listener in self.listeners.borrow_mut().drain(..) {
            // The master holds the same socket, so closing our descriptor would not take it out of our epoll instance.
            if let Err(error) = listener.unwatch(&self.reactor.borrow()) {
                tracing::warn!(worker = self.boot.worker_id, %error, "cannot stop watching a listener");
            }
        }
        self.close_doors();
        self.send_links_away();
        self.close_websockets();
        self.timers.borrow_mut().add(self.now.get() + IDLE_GRACE, Due::CloseIdle);
    }

    pub(super) fn close_idle(&self) {
        self.drop_idle_wires();
        let (rules, now) = (&self.boot.rules, self.now.get());
        let is_over = |since: Instant| since + IDLE_GRACE <= now;
        self.conns.borrow_mut().retain(|_, entry| {
            let idle_since = match &entry.way {
                Way::Http(http) => http.conn.idle_since(rules),
                Way::Link(link) => link.idle_since(),
            };
            !idle_since.is_some_and(is_over)
        });
        self.slot().connections.store(self.conns.borrow().len() as u32, Relaxed);
        self.timers.borrow_mut().add(self.now.get() + IDLE_GRACE, Due::CloseIdle);
    }
}
