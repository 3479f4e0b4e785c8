//! What the master lets others see of itself: its status, for control clients and the service manager; and the mode, for the
//! proxies.
use super::Master;
use crate::control::status::{self, Status};
use appliance_worker::board::{self, State};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

impl Master {
    pub(super) fn status(&self, now: Instant) -> Status {
        let number = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        let limits = status::Limits {
            workers: self.settings.workers.count,
            cores: self.settings.workers.cores,
            waiting: number(self.settings.limits.waiting),
            stall: self.settings.timeouts.stall,
            connections: number(self.settings.limits.connections),
            queue: number(self.settings.limits.queue),
        };
        let current = self.modes.current(now);
        let master = status::Master::of(self.pid, &self.fleet, current, self.began, now, &self.facts.urls);
        let sources = status::Sources {
            slot: |id, life| self.board.slot(id, life),
            pulse: |generation| self.panel.pulse(generation),
            now,
            now_ms: board::monotonic_ms(),
        };
        Status::compose(master, &self.fleet, limits, sources)
    }

    /// Tells the proxies what to do with requests.
    pub(super) fn show_mode(&mut self) {
        let now = Instant::now();
        match self.fleet.crash_loop(now) {
            Some((_, wait)) => self.modes.crash_loop(now + wait, now),
            None => self.modes.recover(),
        }
        let current = self.modes.current(now);
        self.panel.set_mode(current.mode, current.retry_after);
    }

    /// Tells the service manager what is due.
    pub(super) fn tell_manager(&mut self) {
        let now = Instant::now();
        let status = self.notify.is_due(now).then(|| self.status(now));
        self.notify.on_turn(status.as_ref(), now);
    }

    /// Requests that are under way or wait in all workers, as far as the workers say.
    pub(super) fn busy(&self) -> u64 {
        let cores = u64::from(self.settings.workers.cores);
        let waiting = self.settings.limits.waiting as u64;
        (1..=self.board.workers())
            .map(|id| self.board.current(id))
            .filter(|slot| slot.state() != State::Dead)
            .map(|slot| {
                u64::from(slot.busy.load(Relaxed)).min(cores)
                    + u64::from(slot.waiting.load(Relaxed)).min(waiting)
            })
            .sum()
    }
}
