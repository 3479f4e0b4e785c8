//! From the table of children to what must be done: whoever is missing is asked for, whoever is late is killed,
//! whoever's turn it is to go is told. Runs after every event, so it never matters which event made a difference.
use super::health::SEEN_AT_MOST;
use super::{Action, Fleet, Phase};
use crate::child::{Child, Order, Role, Stage};
use crate::notice::Notice;
use appliance_worker::{abi, board};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

impl Fleet {
    pub(super) fn settle(&mut self, now: Instant) {
        self.stop_if_due(now);
        match self.phase {
            Phase::Starting | Phase::Serving => {
                self.kill_late(now);
                self.settle_trouble(now);
                self.begin_or_end_reload(now);
                self.settle_size();
                self.tell_if_held_up();
                self.fill(now);
            }
            Phase::Stopping { .. } => self.wind_down(now),
            Phase::Over => {}
        }
    }

    /// Asks for every child that must be there and is not.
    fn fill(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return self.wind_down(now);
        }
        if self.is_missing(Role::Template, self.generation, now) {
            self.order(Role::Template, self.generation, now);
        }
        let template = self.find(Role::Template, self.generation).filter(|child| child.stage == Stage::Ready);
        let Some(template) = template.map(|child| child.pid) else { return };
        if self.is_missing(Role::Proxy, self.proxy, now) {
            self.order(Role::Proxy, self.proxy, now);
        }
        for worker in 1..=self.plan.workers {
            let role = Role::Worker(worker);
            // A predecessor serves until its successor is ready, and only one successor boots at a time.
            let replaces = self.children.iter().any(|child| child.role == role && child.serves());
            if self.is_missing(role, self.generation, now) && !(replaces && self.somebody_boots()) {
                self.order_worker(template, worker, now);
            }
        }
    }

    /// Orders the next life of a worker, unless both of its places on the board are taken: then one of those who have
    /// them is about to go, and this is called again.
    fn order_worker(&mut self, template: Pid, worker: u32, now: Instant) {
        let next = self.lives.get(&worker).map_or(0, |last| last + 1);
        let Some(life) = (next..next + board::BANKS).find(|&life| !self.is_taken(worker, life)) else {
            return;
        };
        self.lives.insert(worker, life);
        let (role, generation, deadline) = (Role::Worker(worker), self.generation, now + self.boot());
        self.orders.push(Order { role, generation, life, template: Some(template), deadline });
        self.act(Action::Fork { template, worker, life });
    }

    pub(super) fn order(&mut self, role: Role, generation: u32, now: Instant) {
        let deadline = now + self.boot();
        self.orders.push(Order { role, generation, life: 0, template: None, deadline });
        self.act(Action::Start { role, generation });
    }

    fn is_missing(&self, role: Role, generation: u32, now: Instant) -> bool {
        self.find(role, generation).is_none()
            && !self.orders.iter().any(|order| (order.role, order.generation) == (role, generation))
            && self.backoffs.get(&role).is_none_or(|backoff| backoff.is_over(now))
    }

    fn somebody_boots(&self) -> bool {
        let worker = |role: Role| matches!(role, Role::Worker(_));
        self.orders.iter().any(|order| worker(order.role))
            || self.children.iter().any(|child| worker(child.role) && child.stage == Stage::Booting)
    }

    /// Gives everybody the time back in which the master was not there, which is told something every second: whoever was
    /// suspended with it had none of that time either.
    pub(super) fn forgive(&mut self, now: Instant) {
        let since = self.told.replace(now).map_or(Duration::ZERO, |told| now.saturating_duration_since(told));
        let missed = since.saturating_sub(SEEN_AT_MOST);
        if missed.is_zero() || !self.is_up() {
            return;
        }
        let children = self.children.iter_mut().filter_map(|child| child.deadline.as_mut());
        let orders = self.orders.iter_mut().map(|order| &mut order.deadline);
        children.chain(orders).for_each(|deadline| *deadline += missed);
    }

    /// Kills what is longer in its stage than it may be.
    fn kill_late(&mut self, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        let mut late: Vec<Child> =
            self.children.iter().filter(|child| is_due(child.deadline)).cloned().collect();
        // A worker that was ordered and never came: its template is stuck.
        let is_stuck = |template: Pid| {
            self.orders.iter().any(|order| order.template == Some(template) && order.deadline <= now)
        };
        let templates = self.children.iter().filter(|child| child.stage == Stage::Ready);
        late.extend(templates.filter(|child| is_stuck(child.pid)).cloned());
        self.orders.retain(|order| order.deadline > now);
        for child in late {
            self.by_pid(child.pid).expect("it was found a moment ago").deadline = None;
            if self.phase == Phase::Starting {
                return self.fail(abi::EXIT_FAILED, Notice::too_slow(child.role, self.plan.boot));
            }
            self.say(Notice::TooSlow { role: child.role, pid: child.pid, stage: child.stage });
            self.act(Action::Kill(child.pid));
        }
    }
}
