//! The master's part in signals: what workers say of them reaches the switchboard, and what that passes on reaches the workers.
//! The rules are in `switchboard.rs`, the files in `monitors.rs`; here are the clocks and the lines.
use super::Master;
use crate::child::{Child, Role, Stage};
use crate::schedule::Wall;
use crate::survey::Seat;
use crate::switchboard::Place;
use appliance_worker::signals::Registry;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A worker that takes no signals now is tried again after this.
const AGAIN: Duration = Duration::from_millis(100);

impl Master {
    /// A worker says what its application has registered.
    pub(super) fn on_registry(&mut self, seat: Seat, registry: &Registry) {
        if !self.switchboard.on_registry(seat, registry) {
            tracing::warn!(
                worker = seat.0,
                "what it has registered for signals makes no sense; it is not heard any more"
            );
            self.lines.remove(seat);
        }
    }

    /// Passes on what has been raised, and what is due.
    pub(super) fn put_through(&mut self) {
        let now = Instant::now();
        let places: Vec<Place> = self.fleet.children().iter().filter_map(|child| self.place(child)).collect();
        if self.switchboard.set_places(&places, now)
            && let Err(error) = self.monitors.set(self.switchboard.monitors(), now)
        {
            tracing::error!(%error, "no file can be watched for signals; raise fs.inotify.max_user_instances");
        }
        for signal in self.monitors.take(now) {
            self.switchboard.tick(signal);
        }
        self.switchboard.turn(self.fleet.places(), now, wall());
        for seat in self.switchboard.called() {
            while let Some(call) = self.switchboard.next_for(seat) {
                if !self.lines.call(seat, call) {
                    break;
                }
                self.switchboard.on_sent(seat);
            }
        }
    }

    /// When there is something to be put through.
    pub(super) fn next_call(&self, now: Instant) -> Option<Instant> {
        let again = (!self.switchboard.called().is_empty()).then_some(now + AGAIN);
        let due = self.switchboard.next_deadline(now, wall());
        [again, due, self.monitors.next_deadline()].into_iter().flatten().min()
    }

    fn place(&self, child: &Child) -> Option<Place> {
        let Role::Worker(worker) = child.role else { return None };
        let slot = self.fleet.has_place(worker).then(|| self.board.slot(worker, child.life));
        let load = slot.map_or(0, |slot| {
            let [busy, waiting, cores] =
                [&slot.busy, &slot.waiting, &slot.cores].map(|n| i64::from(n.load(Relaxed)));
            busy + waiting - cores
        });
        let is_ready = child.stage == Stage::Ready;
        Some(Place { seat: (worker, child.life), generation: child.generation, is_ready, load })
    }
}

/// What the clock on the wall shows now.
fn wall() -> Wall {
    let now = chrono::Local::now();
    let (utc, local) = (now.timestamp(), now.naive_local().and_utc().timestamp());
    let rest = Duration::from_secs(60 - utc.rem_euclid(60).unsigned_abs());
    // A moment too late is in the right minute.
    Wall { minute: utc.div_euclid(60), local: local.div_euclid(60), rest }
}
