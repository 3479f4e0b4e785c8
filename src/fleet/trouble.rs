//! Crash loops: when workers or templates have ended again and again and nobody serves, the appliance says so, and what the
//! reason was, until a worker is ready. It goes on trying, ever more rarely, unless `workers.on_crash_loop` says that whoever
//! started it would rather do that.
use super::{Fleet, Phase, Reload, START_ATTEMPTS};
use crate::child::{Child, Role, Stage};
use crate::notice::Notice;
use appliance_worker::abi;
use std::time::{Duration, Instant};

/// Lives in a row that were not good, of whatever workers and templates, that make a crash loop.
const CRASHES: u32 = 5;

/// The record of lives that were not good.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    crashes: u32,
    /// Why the last one ended.
    reason: String,
    /// Nobody serves.
    is_loop: bool,
}

impl Fleet {
    /// A worker or a template has ended early, or could not come.
    pub(super) fn note_crash(&mut self, role: Role, reason: &str) {
        if role != Role::Proxy {
            self.trouble.crashes += 1;
            reason.clone_into(&mut self.trouble.reason);
        }
    }

    /// Looks whether a crash loop begins or ends.
    pub(super) fn settle_trouble(&mut self, now: Instant) {
        self.forget_mended(now);
        let workers = || self.children.iter().filter(|child| matches!(child.role, Role::Worker(_)));
        let serves = workers().any(|child| child.serves());
        if workers().any(|child| child.lives_well(now)) {
            self.trouble.crashes = 0;
        }
        if self.trouble.is_loop && serves {
            self.trouble.is_loop = false;
            self.say(Notice::Recovered);
        } else if !self.trouble.is_loop
            && !serves
            && self.trouble.crashes >= CRASHES
            && self.phase == Phase::Serving
        {
            let reason = self.trouble.reason.clone();
            if self.plan.exit_on_crash_loop {
                return self.fail(abi::EXIT_FAILED, format!("no worker can live: {reason}"));
            }
            self.trouble.is_loop = true;
            self.say(Notice::CrashLoop { reason });
        }
    }

    /// Whoever lives well now needs no wait when it ends.
    fn forget_mended(&mut self, now: Instant) {
        let (generation, proxy) = (self.generation, self.proxy);
        let is_in_force =
            |child: &Child| child.generation == if child.role == Role::Proxy { proxy } else { generation };
        // Another one of the same role, which is about to go, says nothing of those that fail to follow it.
        let well =
            |child: &&Child| child.stage == Stage::Ready && is_in_force(child) && child.lives_well(now);
        for child in self.children.iter().filter(well) {
            self.backoffs.remove(&child.role);
        }
    }

    /// Somebody waits for all workers of a reload or of another number to be there, and one of them cannot live.
    pub(super) fn tell_if_held_up(&mut self) {
        let is_awaited = self.is_scaling || self.reload == Reload::Rolling;
        if is_awaited && !self.is_held_up_told && self.most_failures() >= START_ATTEMPTS {
            self.is_held_up_told = true;
            self.say(Notice::HeldUp { reason: self.trouble.reason.clone() });
        }
    }

    /// The most short lives in a row of a template, or of a worker that is wanted.
    pub(super) fn most_failures(&self) -> u32 {
        let is_wanted = |role: &Role| match role {
            Role::Proxy => false,
            Role::Template => true,
            Role::Worker(id) => *id <= self.plan.workers,
        };
        let wanted = self.backoffs.iter().filter(|(role, _)| is_wanted(role));
        wanted.map(|(_, backoff)| backoff.failures()).max().unwrap_or(0)
    }

    pub(super) fn is_in_crash_loop(&self) -> bool {
        self.trouble.is_loop
    }

    /// While no worker can live: why the last one could not, and how long it is until the next is tried.
    pub fn crash_loop(&self, now: Instant) -> Option<(&str, Duration)> {
        let next = self.backoffs.values().filter_map(|backoff| backoff.ends(now)).min();
        let wait = next.map_or(Duration::ZERO, |next| next - now);
        self.trouble.is_loop.then_some((&self.trouble.reason, wait))
    }
}
