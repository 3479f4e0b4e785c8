//! A reload, from the wish to the last old process: the configuration is read; a template of the next generation loads the
//! application; a new proxy opens, if the old one cannot go on; the first new worker serves. Only then is anything taken
//! from the old generation. Until then every failure ends the reload with its reason, and nothing has changed.
use super::{Action, Fleet, Next, Phase, Plan};
use crate::child::{Child, Role, Stage};
use crate::message::Ended;
use crate::notice::Notice;
use std::time::{Duration, Instant};

/// How far a reload has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reload {
    Idle,
    /// The master reads the configuration.
    Reading,
    /// The next generation's template loads the application.
    Loading,
    /// The next proxy opens.
    Opening,
    /// The first successor boots; if it cannot, everything stays as it was.
    Trying {
        /// The generation that goes on then.
        old: u32,
    },
    /// One successor has served; the others follow one by one.
    Rolling,
}

impl Fleet {
    pub(super) fn begin_or_end_reload(&mut self, now: Instant) {
        if self.reload == Reload::Rolling && self.is_rolled_over() {
            (self.reload, self.is_half_rolled) = (Reload::Idle, false);
            let old =
                self.pids_where(|child| child.role == Role::Template && child.generation < self.generation);
            self.send_off(&old, now + self.plan.graceful);
            let waiting = std::mem::take(&mut self.waiting);
            self.say(Notice::Reloaded { generation: self.generation, waiting });
        }
        // A third proxy would have no place on the panel.
        let is_free =
            (self.reload == Reload::Idle || self.is_stuck()) && !self.is_leaving(|role| role == Role::Proxy);
        if is_free
            && self.phase == Phase::Serving
            && self.leave_at.is_none()
            && std::mem::take(&mut self.reload_again)
        {
            self.is_half_rolled = self.reload == Reload::Rolling;
            self.reload = Reload::Reading;
            self.say(Notice::Reloading);
            self.tried += 1;
            self.act(Action::Configure { generation: self.tried });
        }
    }

    /// The configuration is good: the application is next.
    pub(super) fn on_configured(&mut self, next: Next, now: Instant) {
        if self.reload == Reload::Reading && self.phase == Phase::Serving {
            self.reload = Reload::Loading;
            self.next = Some(next);
            self.order(Role::Template, self.tried, now);
        }
    }

    pub(super) fn on_misconfigured(&mut self, text: String, now: Instant) {
        if self.reload == Reload::Reading {
            self.fail_reload(text, now);
        }
    }

    /// The next generation's template has loaded the application.
    pub(super) fn on_next_loaded(&mut self, now: Instant) {
        if self.next.as_ref().is_some_and(|next| next.replaces_proxy) {
            self.reload = Reload::Opening;
            self.order(Role::Proxy, self.proxy + 1, now);
        } else {
            self.try_workers();
        }
    }

    pub(super) fn on_proxy_ready(&mut self, generation: u32) {
        if self.reload == Reload::Opening && generation > self.proxy {
            self.try_workers();
        }
    }

    /// From here on new workers are of the next generation.
    fn try_workers(&mut self) {
        self.reload = Reload::Trying { old: self.generation };
        self.generation = self.tried;
        // What made the old application's workers die young may be mended.
        self.backoffs.clear();
    }

    pub(super) fn on_worker_ready(&mut self, child: &Child, now: Instant) {
        if self.is_on_trial(child) {
            self.commit(now);
        }
        let is_late = self
            .find(child.role, self.generation)
            .is_some_and(|newest| newest.generation > child.generation && newest.stage == Stage::Ready);
        let replaced = self.pids_where(|other| {
            other.role == child.role && if is_late { other.pid == child.pid } else { is_before(other, child) }
        });
        self.send_off(&replaced, now + self.plan.graceful);
    }

    /// The first new worker serves: the configuration that was read is the one in force, and the old proxy finishes.
    fn commit(&mut self, now: Instant) {
        self.reload = Reload::Rolling;
        self.is_held_up_told = false;
        let Some(next) = self.next.take() else { return };
        self.waiting = next.waiting;
        if next.replaces_proxy {
            self.proxy += 1;
        }
        self.act(Action::Adopt);
        let workers = if next.resizes { next.plan.workers } else { self.plan.workers };
        self.plan = Plan { workers, ..next.plan };
        let surplus = self.pids_where(|child| match child.role {
            Role::Proxy => child.generation < self.proxy,
            Role::Worker(id) => id > workers,
            Role::Template => false,
        });
        self.send_off(&surplus, now + self.plan.graceful);
    }

    /// Whether this child is only being tried; its end is the end of the reload.
    pub(super) fn is_on_trial(&self, child: &Child) -> bool {
        match child.role {
            Role::Proxy => child.generation > self.proxy,
            Role::Template if child.generation > self.generation => true,
            _ => matches!(self.reload, Reload::Trying { .. }) && child.generation == self.generation,
        }
    }

    pub(super) fn on_trial_lost(&mut self, role: Role, ended: Ended, now: Instant) {
        let text = match role {
            Role::Template if self.reload == Reload::Loading => {
                format!("the template died while it loaded the application ({ended})")
            }
            Role::Template => format!("the new template ended before a worker was ready ({ended})"),
            _ => format!("the new {role} ended before it was ready ({ended}); its reason is in the log"),
        };
        self.fail_reload(text, now);
    }

    /// Nothing changes: whatever is new goes, the old generation is still whole.
    pub(super) fn fail_reload(&mut self, text: String, now: Instant) {
        if let Reload::Trying { old } = self.reload {
            self.generation = old;
        }
        self.reload = if self.is_half_rolled { Reload::Rolling } else { Reload::Idle };
        self.next = None;
        self.act(Action::Abandon);
        self.say(Notice::ReloadFailed { text });
        let (generation, proxy) = (self.generation, self.proxy);
        let is_new = |role, of: u32| of > if role == Role::Proxy { proxy } else { generation };
        self.orders.retain(|order| !is_new(order.role, order.generation));
        let new = self.pids_where(|child| is_new(child.role, child.generation));
        self.send_off(&new, now + self.plan.graceful);
    }

    /// How long whoever is started now may take.
    pub(super) fn boot(&self) -> Duration {
        self.next.as_ref().map_or(self.plan.boot, |next| next.plan.boot)
    }

    /// Every worker is of this generation, and whoever was replaced has left: board and panel have two places for each.
    fn is_rolled_over(&self) -> bool {
        (1..=self.plan.workers).all(|id| {
            self.find(Role::Worker(id), self.generation).is_some_and(|child| child.stage == Stage::Ready)
        }) && !self.is_leaving(|role| role != Role::Template)
    }

    /// Whether it rolls and does not get on by itself: mended code must not wait for code that cannot serve.
    fn is_stuck(&self) -> bool {
        self.reload == Reload::Rolling && self.most_failures() > 0
    }

    fn is_leaving(&self, is_meant: impl Fn(Role) -> bool) -> bool {
        self.children.iter().any(|child| child.stage == Stage::Leaving && is_meant(child.role))
    }
}

/// Whether `child` takes the place of `other`.
fn is_before(other: &Child, child: &Child) -> bool {
    other.pid != child.pid && other.generation <= child.generation
}
