//! One child as the master sees it: what it is for, its process, how far it has come, until when it may stay so. The
//! child's own side is `template.rs`, `worker.rs` and the proxy crate. Only `fleet.rs` changes these values.
use crate::fleet::Health;
use nix::unistd::Pid;
use std::fmt;
use std::time::{Duration, Instant};

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Runs pingora.
    Proxy,
    /// Has the application loaded; workers are forked from it.
    Template,
    /// Serves requests; its number counts from 1.
    Worker(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Proxy => write!(f, "proxy"),
            Role::Template => write!(f, "template"),
            Role::Worker(id) => write!(f, "worker {id}"),
        }
    }
}

/// How far a child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A template loads the application, a worker has not accepted yet.
    Booting,
    /// It does what it is for.
    Ready,
    /// It does what it is for, until a successor does.
    Retiring,
    /// It has been told to go; nobody waits for it but to reap it.
    Leaving,
}

/// A running process.
#[derive(Clone, Debug)]
pub struct Child {
    /// What it is for.
    pub role: Role,
    /// Number of the reload that it belongs to.
    pub generation: u32,
    /// Which of the processes of its worker id it is, which says where on the board it publishes; 0 for all others.
    pub life: u32,
    /// Its process.
    pub pid: Pid,
    /// When it was forked.
    pub since: Instant,
    /// How far it has come.
    pub stage: Stage,
    /// When it is killed if it is still in this stage; `None`: never, or it has been already.
    pub deadline: Option<Instant>,
    /// How it was at the last looks at it.
    pub health: Health,
    /// Its socket has lost its name.
    pub is_cut_off: bool,
}

impl Child {
    /// Whether it does what it is for.
    pub fn serves(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Retiring)
    }

    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether it serves and has done so for long enough that its end would be an accident.
    pub fn lives_well(&self, now: Instant) -> bool {
        self.serves() && self.age(now) >= Backoff::GOOD_LIFE
    }
}

/// A process that has been asked for and that nobody has seen yet.
#[derive(Clone, Debug)]
pub struct Order {
    /// What it will be for.
    pub role: Role,
    /// Number of the reload that it will belong to.
    pub generation: u32,
    /// Which of the processes of its worker id it will be; 0 for all others.
    pub life: u32,
    /// The template that is to fork it; `None`: the master forks it itself.
    pub template: Option<Pid>,
    /// When whoever was asked counts as stuck.
    pub deadline: Instant,
}

/// How long to wait before a role is filled again: not at all after a good life, ever longer after short ones. What lies between
/// them may be an accident the first time, and is a habit from then on.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    has_faltered: bool,
    not_before: Option<Instant>,
}

impl Backoff {
    /// A child that became ready and lived this long ended by accident, not by habit. (systemd's `StartLimitIntervalSec=`.)
    pub const GOOD_LIFE: Duration = Duration::from_secs(10);
    /// A child that did not even live this long has failed.
    pub const SHORT_LIFE: Duration = Duration::from_secs(1);
    /// The first wait; each further one is twice as long. Long enough that a crash loop costs no core.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// The longest wait: a repaired cause (a full disk, a lost database) is noticed within it.
    pub const LONGEST: Duration = Duration::from_secs(30);
    /// The longest wait for a child that lives for a while: what it serves until then is worth more than what its start costs.
    pub const LONGEST_AFTER_A_WHILE: Duration = Duration::from_secs(1);

    /// Notes a short life and answers the wait.
    pub fn fail(&mut self, now: Instant) -> Duration {
        self.wait(now, Self::LONGEST)
    }

    fn wait(&mut self, now: Instant, longest: Duration) -> Duration {
        let wait = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures += 1;
        self.not_before = Some(now + wait);
        wait
    }

    /// Notes a life that was neither short nor good and answers the wait: none after the first in a row.
    pub fn falter(&mut self, now: Instant) -> Duration {
        let is_habit = std::mem::replace(&mut self.has_faltered, true) || self.failures > 0;
        if is_habit { self.wait(now, Self::LONGEST_AFTER_A_WHILE) } else { Duration::ZERO }
    }

    /// Notes a good life: the next child comes at once.
    pub fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Lives in a row that were followed by a wait.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the wait is over.
    pub fn is_over(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// When the wait ends, if that is still to come.
    pub fn ends(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|&at| at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_tenth_of_a_second_to_thirty_seconds() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..12).map(|_| backoff.fail(now).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
        assert!(!backoff.is_over(now + Duration::from_secs(29)));
        assert!(backoff.is_over(now + Duration::from_secs(30)));
    }

    #[test]
    fn one_life_that_is_not_good_may_be_an_accident() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..7).map(|_| backoff.falter(now).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        backoff.fail(now);
        assert_eq!(backoff.falter(now), 2 * Backoff::FIRST, "after a short one it is none");
    }

    #[test]
    fn a_good_life_forgets_the_short_ones() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        backoff.fail(now);
        backoff.reset();
        assert!(backoff.is_over(now) && backoff.ends(now).is_none());
        assert_eq!(backoff.fail(now), Backoff::FIRST);
    }
}
