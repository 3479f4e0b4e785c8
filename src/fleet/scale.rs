//! How many workers there are: as many as somebody asked for (`appliance scale N`, a reload), or as many as the load asks for
//! (`workers.min` and `workers.max`). New ones start beside the others; of those that are too many the highest numbers go, each
//! when it has finished what it has.
use super::demand::{Seen, Wish};
use super::event::Queue;
use super::{Action, Fleet};
use crate::child::{Child, Role};
use crate::notice::Notice;
use std::ops::RangeInclusive;
use std::time::Instant;

impl Fleet {
    /// `appliance scale`.
    pub(super) fn on_scale(&mut self, workers: u32, now: Instant) {
        let allowed = self.plan.bounds();
        if !self.is_up() || self.leave_at.is_some() {
            self.say(Notice::ScaleRefused { workers, why: "the appliance is about to stop".to_owned() });
        } else if allowed.contains(&workers) {
            self.scale(workers, now);
        } else {
            self.say(Notice::ScaleRefused { workers, why: out_of(&allowed) });
        }
    }

    fn scale(&mut self, workers: u32, now: Instant) {
        (self.is_scaling, self.is_held_up_told) = (true, false);
        self.plan.workers = workers;
        let surplus = self.pids_where(|child| matches!(child.role, Role::Worker(id) if id > workers));
        self.send_off(&surplus, now + self.plan.graceful);
    }

    /// Follows the load, if there is room to follow it and everything is in order.
    pub(super) fn follow_demand(&mut self, queue: Queue, now: Instant) {
        let (workers, plan) = (self.plan.workers, &self.plan);
        if plan.min == plan.max || !self.is_in_order() {
            return;
        }
        let wish = self.demand.decide(self.seen(), queue, now);
        let (to, why) = match wish {
            _ if workers < plan.min => (plan.min, "workers.min"),
            _ if workers > plan.max => (plan.max, "workers.max"),
            Wish::Grow if workers < plan.max => (workers + 1, "requests wait, or most cores are busy"),
            Wish::Shrink if workers > plan.min => (workers - 1, "the others have been enough for a while"),
            _ => return,
        };
        self.say(Notice::Scaling { workers: to, why });
        self.scale(to, now);
    }

    /// What the workers have to do.
    fn seen(&self) -> Seen {
        let vitals = |child: &Child| match child.role {
            Role::Worker(worker) => child.health.vitals.map(|vitals| (worker, vitals)),
            _ => None,
        };
        let mut seen = Seen { workers: self.plan.workers, ..Seen::default() };
        for (worker, vitals) in self.children.iter().filter_map(vitals) {
            seen.cores += vitals.cores;
            seen.busy += vitals.busy;
            seen.waiting += vitals.waiting;
            if worker == self.plan.workers {
                seen.is_last_idle = vitals.busy + vitals.waiting == 0;
            }
        }
        seen
    }

    /// Tells the master how many places are in use, and whoever has asked that there are as many workers as they wanted.
    pub(super) fn settle_size(&mut self) {
        let places = self.places();
        if places != self.places_told {
            self.places_told = places;
            self.act(Action::Resize { workers: places });
        }
        if self.is_scaling && self.is_in_order() {
            self.is_scaling = false;
            self.say(Notice::Scaled { workers: self.plan.workers });
        }
    }

    /// The highest number of a worker that is wanted or still there. A stranger gets no place, whatever number it says.
    pub fn places(&self) -> u32 {
        let id = |child: &Child| match child.role {
            Role::Worker(id) if self.has_place(id) => Some(id),
            _ => None,
        };
        self.children.iter().filter_map(id).max().unwrap_or(0).max(self.plan.workers)
    }

    /// Whether a worker of this number has a place.
    pub fn has_place(&self, worker: u32) -> bool {
        (1..=self.places_told).contains(&worker)
    }
}

fn out_of(allowed: &RangeInclusive<u32>) -> String {
    format!(
        "there can be {} to {} workers here; workers.min, workers.max and native.base_port set the bounds",
        allowed.start(),
        allowed.end()
    )
}
