//! Who stands still: a worker whose loop, or a proxy whose threads, have had no turn for `timeouts.hang` is killed, and its end
//! makes room for a successor. What counts is the time in which the master itself was there to see it: a master that was
//! stopped, a machine that was suspended and a clock that jumped have seen nothing, and kill nobody.
use super::{Action, Fleet, Queue, Vitals};
use crate::child::{Child, Role};
use crate::notice::Notice;
use std::time::{Duration, Instant};

/// Time between two looks at what the processes publish. An idle worker's loop has a turn once a second.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What one look can add to a standstill, however long ago the last one was.
pub(super) const SEEN_AT_MOST: Duration = Duration::from_millis(1_500);

/// A shorter standstill is none: an idle loop has a turn once a second, and two looks can fall between two turns.
const LEAST: Duration = Duration::from_millis(1_500);

/// What is no turn: a proxy tells when its slowest thread had one as the age of that turn, which rounding moves by a little.
const FLUTTER_MS: u64 = 10;

/// How one process was at the looks at it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// What it published last.
    pub vitals: Option<Vitals>,
    /// How long its loop has been seen to stand still.
    pub stood: Duration,
    looked: Option<Instant>,
}

impl Health {
    /// Notes what it publishes now.
    pub fn observe(&mut self, vitals: Vitals, now: Instant) {
        let gap = self.looked.map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        let ticks = self.vitals.is_none_or(|before| before.tick_ms.abs_diff(vitals.tick_ms) > FLUTTER_MS);
        self.stood = if ticks { Duration::ZERO } else { self.stood + gap.min(SEEN_AT_MOST) };
        // Measured rarely, and as good until the next time.
        let memory = vitals.memory.or(self.vitals.and_then(|before| before.memory));
        (self.vitals, self.looked) = (Some(Vitals { memory, ..vitals }), Some(now));
    }

    /// Whether it stands still for `limit`; zero: never.
    pub fn stands(&self, limit: Duration) -> bool {
        !limit.is_zero() && self.stood >= limit.max(LEAST)
    }
}

impl Fleet {
    /// The master has looked at what every process publishes.
    pub(super) fn on_look(&mut self, all: &[Vitals], queue: Queue, now: Instant) {
        self.looked = Some(now);
        for vitals in all {
            if let Some(child) = self.by_pid(vitals.pid) {
                child.health.observe(*vitals, now);
            }
        }
        self.kill_hung();
        self.recycle(now);
        self.follow_demand(queue, now);
    }

    /// When the master should look next; `None`: at no time.
    pub fn next_look(&self, now: Instant) -> Option<Instant> {
        self.is_up().then(|| self.looked.map_or(now, |looked| looked + LOOK_EVERY))
    }

    fn kill_hung(&mut self) {
        let plan = &self.plan;
        let hung: Vec<_> = self
            .children
            .iter_mut()
            .filter(|child| child.serves() && is_hung(child, plan.hang, plan.boot))
            .map(|child| (child.role, child.pid, std::mem::take(&mut child.health.stood)))
            .collect();
        for (role, pid, stood) in hung {
            self.say(Notice::Hung { role, pid, stood });
            self.act(Action::Kill(pid));
        }
    }
}

/// A proxy that has had no turn yet is still starting, for which it has as long as everybody.
fn is_hung(child: &Child, hang: Duration, boot: Duration) -> bool {
    let begins = child.role == Role::Proxy && child.health.vitals.is_some_and(|vitals| vitals.tick_ms == 0);
    child.health.stands(if begins && !hang.is_zero() { boot.max(hang) } else { hang })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Pid;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(tick_ms: u64) -> Vitals {
        Vitals { tick_ms, ..Vitals::of(Pid::from_raw(7)) }
    }

    #[test]
    fn a_standstill_is_what_was_seen_of_it() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        for _ in 0..4 {
            health.observe(at(5), now);
            now += SECOND;
        }
        assert_eq!(health.stood, 3 * SECOND);
        health.observe(at(6), now);
        assert_eq!(health.stood, 4 * SECOND, "that is what rounding does");
        health.observe(at(1006), now);
        assert_eq!(health.stood, Duration::ZERO, "it has moved");
    }

    #[test]
    fn a_master_that_was_away_has_seen_nothing() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.observe(at(5), now);
        health.observe(at(5), now + Duration::from_secs(24 * 3600));
        assert_eq!(health.stood, SEEN_AT_MOST);
        health.observe(at(5), now);
        assert_eq!(health.stood, SEEN_AT_MOST, "time that runs backwards is none");
    }

    #[test]
    fn a_standstill_shorter_than_the_pause_between_two_turns_is_none() {
        let standing = |stood| Health { stood, ..Health::default() };
        assert!(!standing(SECOND).stands(Duration::from_millis(1)));
        assert!(standing(2 * SECOND).stands(Duration::from_millis(1)));
        assert!(!standing(100 * SECOND).stands(Duration::ZERO), "there is no limit");
    }

    #[test]
    fn memory_that_was_not_measured_again_is_as_it_was() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.observe(Vitals { memory: Some(9), ..at(5) }, now);
        health.observe(at(1006), now + SECOND);
        assert_eq!(health.vitals.and_then(|vitals| vitals.memory), Some(9));
    }
}
