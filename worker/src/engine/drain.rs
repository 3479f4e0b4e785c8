//! How a worker stops: no new connections, no new requests on links, what runs is finished, and whatever is idle after a
//! moment of grace is closed. Shortly before its time is over the host hears of it, so that it can end what still runs.
use super::{Due, Engine, Way};
use crate::app::Host;
use crate::board::State;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A draining worker goes on answering on idle connections for this long, because a request may be on its way.
const IDLE_GRACE: Duration = Duration::from_millis(250);
/// What requests have to come to their end that the host ends, and after them the application.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long before the end of `timeouts.graceful` patience with requests is over.
pub fn farewell(graceful: Duration) -> Duration {
    FAREWELL.min(graceful / 4)
}

impl Engine {
    pub(super) fn is_done(&self, host: &dyn Host) -> bool {
        let has_work = || !self.cores.borrow().is_idle() || self.inbox.has_errands();
        let has_conns = || !self.conns.borrow().is_empty() || !self.wires.borrow().is_empty();
        self.draining.get() && host.is_drained() && (self.parts.get() || !has_conns()) && !has_work()
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
        let (now, graceful) = (self.now.get(), self.boot.graceful);
        // When all of the appliance stops, the proxy has had its turn first.
        let patience = (graceful - farewell(graceful)).saturating_sub(self.board().leaving_for());
        let mut timers = self.timers.borrow_mut();
        timers.add(now + IDLE_GRACE, Due::CloseIdle);
        timers.add(now + patience, Due::Farewell);
    }

    /// The time is nearly over. Connections that have nothing to do any more, because a client is slow to close its own or to
    /// read, do not hold the worker from here on.
    pub(super) fn say_farewell(&self, host: &dyn Host) {
        self.parts.set(true);
        host.farewell();
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
