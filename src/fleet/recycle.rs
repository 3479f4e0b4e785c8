//! Workers that are replaced because of what they have become: after `workers.max_requests`, above `workers.max_memory`, at
//! `workers.max_lifetime`, or when their socket's name is gone. One at a time in the whole fleet, the successor first, and
//! only while everything is in order; the old one serves until the new one does, and then finishes what it has.
use super::{Fleet, Phase, Plan, Reload, Vitals};
use crate::child::{Child, Role, Stage};
use crate::notice::Notice;
use appliance_worker::wear;
use nix::unistd::Pid;
use std::fmt;
use std::time::{Duration, Instant};

/// Why a worker is replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Worn {
    /// The name of its socket is gone, so that nobody can connect to it any more; the new socket is another one.
    Socket,
    /// `workers.max_memory`, in bytes.
    Memory(u64),
    /// `workers.max_requests`.
    Requests(u64),
    /// `workers.max_lifetime`.
    Age(Duration),
}

impl fmt::Display for Worn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Worn::Socket => write!(f, "its socket had to be made anew"),
            Worn::Memory(bytes) => write!(f, "it uses {} MiB of memory", bytes / (1024 * 1024)),
            Worn::Requests(requests) => write!(f, "it has finished {requests} requests"),
            Worn::Age(age) => write!(f, "it is {}s old", age.as_secs()),
        }
    }
}

impl Fleet {
    /// Replaces the next worker whose time has come.
    pub(super) fn recycle(&mut self, now: Instant) {
        if !self.is_in_order() {
            return;
        }
        let worn = self
            .children
            .iter()
            .find_map(|child| Some((child.pid, child.role, worn(child, &self.plan, now)?)));
        let Some((pid, role, why)) = worn else { return };
        if let Some(child) = self.by_pid(pid) {
            child.stage = Stage::Retiring;
            self.say(Notice::Retiring { role, pid, why });
        }
    }

    /// A worker says that it is worn. What counts is how many requests it has published, and while others come or go it waits
    /// for the next look.
    pub(super) fn on_worn(&mut self, pid: Pid, requests: u64, now: Instant) {
        if let Some(child) = self.by_pid(pid) {
            child.health.vitals.get_or_insert(Vitals::of(pid)).requests = requests;
            self.recycle(now);
        }
    }

    /// The name of a worker's socket is gone, and the master has opened another one.
    pub(super) fn on_socket_renewed(&mut self, worker: u32) {
        for child in self.children.iter_mut().filter(|child| child.role == Role::Worker(worker)) {
            child.is_cut_off = true;
        }
    }

    /// Every worker is there, none comes or goes, and there is no reload.
    pub(super) fn is_in_order(&self) -> bool {
        self.phase == Phase::Serving
            && self.leave_at.is_none()
            && (self.reload, self.reload_again) == (Reload::Idle, false)
            && (1..=self.plan.workers).all(|worker| {
                let mut all = self.children.iter().filter(|child| child.role == Role::Worker(worker));
                all.next().is_some_and(|child| child.stage == Stage::Ready) && all.next().is_none()
            })
            && self.places() == self.plan.workers
    }
}

fn worn(child: &Child, plan: &Plan, now: Instant) -> Option<Worn> {
    let Role::Worker(worker) = child.role else { return None };
    let age = now.saturating_duration_since(child.since);
    let requests = child.health.vitals.map_or(0, |vitals| vitals.requests);
    let memory = child.health.vitals.and_then(|vitals| vitals.memory);
    if child.is_cut_off {
        Some(Worn::Socket)
    } else if let Some(bytes) = memory.filter(|&bytes| plan.max_memory.is_some_and(|most| bytes > most)) {
        Some(Worn::Memory(bytes))
    } else if wear::limit(plan.max_requests, worker, child.life).is_some_and(|most| requests >= most) {
        Some(Worn::Requests(requests))
    } else {
        (!plan.max_lifetime.is_zero() && age >= plan.max_lifetime).then_some(Worn::Age(age))
    }
}
