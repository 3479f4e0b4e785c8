//! The end: a while in which it serves on and says that it leaves (`timeouts.drain_delay`); then the proxy goes, so that no new
//! request comes, then the workers, then the templates; what has not gone within `timeouts.graceful` is killed. A proxy whose
//! requests do not end would leave nothing of that time to the workers: shortly before they are told to go, too.
use super::{Action, Fleet, Phase};
use crate::child::Role;
use crate::notice::Notice;
use appliance_worker::abi;
use appliance_worker::engine::farewell;
use std::time::{Duration, Instant};

/// The proxy gives its last requests all of `timeouts.graceful`; the master gives it this much longer to say what it
/// cut.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(500);

/// Two signals this close together are one wish: `timeout` and other wrappers signal a process and its group.
pub(super) const SAME_WISH: Duration = Duration::from_millis(100);

/// Whose turn it is to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rank {
    Proxy,
    Workers,
    Templates,
}

impl Fleet {
    pub(super) fn on_stop(&mut self, now: Instant) {
        match self.stop_told {
            Some(told) if now < told + SAME_WISH => return,
            Some(_) => return self.on_stop_now(now),
            None => self.stop_told = Some(now),
        }
        match self.phase {
            Phase::Serving if !self.plan.drain_delay.is_zero() => {
                self.leave_at = Some(now + self.plan.drain_delay);
                self.say(Notice::Leaving { delay: self.plan.drain_delay });
            }
            Phase::Starting | Phase::Serving => self.begin_stop(now),
            Phase::Stopping { .. } | Phase::Over => {}
        }
    }

    /// The time of leave is over.
    pub(super) fn stop_if_due(&mut self, now: Instant) {
        if self.leave_at.is_some_and(|at| at <= now) {
            self.begin_stop(now);
        }
    }

    fn begin_stop(&mut self, now: Instant) {
        self.leave_at = None;
        let kill_at = Some(now + self.plan.graceful + LAST_WORDS);
        self.phase = Phase::Stopping { last: Rank::Proxy, code: abi::EXIT_DONE, kill_at };
        self.say(Notice::Stopping);
        let proxy = self.pids_where(|child| child.role == Role::Proxy);
        self.send_off(&proxy, now);
    }

    pub(super) fn on_stop_now(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Starting | Phase::Serving) {
            self.stop_told.get_or_insert(now);
            self.begin_stop(now);
        }
        if let Phase::Stopping { last, code, .. } = self.phase {
            self.phase = Phase::Stopping { last, code, kill_at: None };
            self.say(Notice::StopNow);
            self.kill_all();
        }
    }

    /// It cannot go on: say why, leave nothing running.
    pub(super) fn fail(&mut self, code: i32, text: String) {
        self.say(Notice::Failed { text });
        self.phase = Phase::Stopping { last: Rank::Templates, code, kill_at: None };
        self.kill_all();
    }

    /// When something is to be done while it stops, if nobody goes before.
    pub(super) fn next_stop(&self) -> Option<Instant> {
        let Phase::Stopping { last, kill_at, .. } = self.phase else { return None };
        kill_at.map(|at| if last == Rank::Proxy { at - self.last_call() } else { at })
    }

    /// How long before everything is killed the workers are told to go: they end their requests then, and their applications.
    fn last_call(&self) -> Duration {
        LAST_WORDS + farewell(self.plan.graceful)
    }

    /// One rank after the other, each when the one before has gone; at the deadline all at once.
    pub(super) fn wind_down(&mut self, now: Instant) {
        let Phase::Stopping { mut last, code, mut kill_at } = self.phase else { return };
        if kill_at.is_some_and(|at| at <= now) {
            kill_at = None;
            self.say(Notice::Cut { left: self.children.len() });
            self.kill_all();
        }
        let is_late = kill_at.is_some_and(|at| at <= now + self.last_call());
        if last == Rank::Proxy && (is_late || self.pids_where(|child| child.role == Role::Proxy).is_empty()) {
            last = Rank::Workers;
            let workers = self.pids_where(|child| matches!(child.role, Role::Worker(_)));
            self.send_off(&workers, now);
        }
        if last == Rank::Workers && self.pids_where(|child| matches!(child.role, Role::Worker(_))).is_empty()
        {
            last = Rank::Templates;
            let templates = self.pids_where(|child| child.role == Role::Template);
            self.send_off(&templates, now);
        }
        self.phase = Phase::Stopping { last, code, kill_at };
        if last == Rank::Templates && self.children.is_empty() {
            self.phase = Phase::Over;
            self.act(Action::Exit(code));
        }
    }

    fn kill_all(&mut self) {
        for child in &self.children {
            self.actions.push(Action::Kill(child.pid));
        }
    }
}
