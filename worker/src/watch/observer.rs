//! What the watch makes of what it sees: whether the loop stands still, and whether a request is overdue that the loop does not
//! look after. Pure: the time is an argument. It believes only what it has seen itself: time in which the watch did not run
//! either (SIGSTOP, a machine that slept) is not held against the loop.
use std::time::{Duration, Instant};

/// Longest and shortest pause between two looks. A limit that a request sets for itself is a whole second at least, so it is
/// seen in time.
const LONGEST: Duration = Duration::from_millis(500);
const SHORTEST: Duration = Duration::from_millis(10);
/// Looks in the time that is a stall.
const LOOKS: u32 = 4;
/// What is overdue and keeps the loop is interrupted again after this: another request may have it by then.
const AGAIN: Duration = Duration::from_millis(100);

/// What the roll says.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Even: the loop waits for events.
    pub beat: u64,
    /// When the next request is overdue.
    pub due: Option<Instant>,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A request is overdue, and the loop is busy with something.
    Overdue,
    /// The loop has stood still for so long; said once.
    Stalled(Duration),
    /// It goes on, after so long.
    GoesOn(Duration),
}

/// See the module.
#[derive(Debug)]
pub struct Observer {
    stall: Option<Duration>,
    step: Duration,
    /// Of the last look.
    beat: u64,
    looked: Instant,
    /// For how long the loop has been seen to stand still.
    still: Duration,
    is_said: bool,
    interrupted: Option<Instant>,
}

impl Observer {
    /// Begins now, for a loop that may stand still for `stall`, and requests that have a `limit`.
    pub fn new(stall: Option<Duration>, limit: Option<Duration>, now: Instant) -> Observer {
        let step = stall.map(|stall| stall / LOOKS).into_iter().chain(limit).min().unwrap_or(LONGEST);
        let step = step.clamp(SHORTEST, LONGEST);
        Observer {
            stall,
            step,
            beat: 0,
            looked: now,
            still: Duration::ZERO,
            is_said: false,
            interrupted: None,
        }
    }

    /// How long until the next look.
    pub fn pause(&self, due: Option<Instant>, now: Instant) -> Duration {
        let ahead = due.map(|due| due.saturating_duration_since(now));
        let again = |interrupted: Instant| (interrupted + AGAIN).saturating_duration_since(now);
        match ahead {
            Some(Duration::ZERO) => self.interrupted.map_or(SHORTEST, again).clamp(SHORTEST, self.step),
            Some(ahead) => ahead.min(self.step),
            None => self.step,
        }
    }

    /// Looks.
    pub fn look(&mut self, seen: Seen, now: Instant) -> Vec<Finding> {
        // Twice the longest pause: whoever slept longer was stopped, and the loop with it.
        let passed = now.saturating_duration_since(self.looked).min(2 * self.step);
        let is_same = seen.beat == self.beat;
        (self.looked, self.beat) = (now, seen.beat);
        let is_working = seen.beat % 2 == 1;
        let mut findings = Vec::new();
        if is_working && is_same {
            self.still += passed;
            if self.stall.is_some_and(|stall| self.still >= stall) && !self.is_said {
                self.is_said = true;
                findings.push(Finding::Stalled(self.still));
            }
        } else {
            if self.is_said {
                findings.push(Finding::GoesOn(self.still));
            }
            (self.still, self.is_said) = (Duration::ZERO, false);
        }
        let is_overdue = seen.due.is_some_and(|due| due <= now);
        if !(is_overdue && is_working) {
            self.interrupted = None;
        } else if self.interrupted.is_none_or(|last| now >= last + AGAIN) {
            self.interrupted = Some(now);
            findings.push(Finding::Overdue);
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(2);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Looks every half a second at this beat, for so many times; what was found.
    fn look_on(observer: &mut Observer, now: &mut Instant, beat: u64, times: u32) -> Vec<Finding> {
        let look = |_| {
            *now += ms(500);
            observer.look(Seen { beat, due: None }, *now)
        };
        (0..times).flat_map(look).collect()
    }

    #[test]
    fn a_loop_that_stands_still_is_said_once_and_again_when_it_goes_on() {
        let mut now = Instant::now();
        let mut observer = Observer::new(Some(STALL), None, now);
        assert_eq!(look_on(&mut observer, &mut now, 7, 4), []);
        assert_eq!(look_on(&mut observer, &mut now, 7, 9), [Finding::Stalled(STALL)]);
        assert_eq!(look_on(&mut observer, &mut now, 9, 1), [Finding::GoesOn(ms(6000))]);
        assert_eq!(look_on(&mut observer, &mut now, 9, 3), []);
    }

    #[test]
    fn a_loop_that_waits_does_not_stand_still() {
        let mut now = Instant::now();
        let mut observer = Observer::new(Some(STALL), None, now);
        assert_eq!(look_on(&mut observer, &mut now, 8, 100), []);
    }

    #[test]
    fn time_in_which_nobody_ran_does_not_count() {
        let mut now = Instant::now();
        let mut observer = Observer::new(Some(STALL), None, now);
        assert_eq!(look_on(&mut observer, &mut now, 7, 2), []);
        now += Duration::from_secs(3600);
        assert_eq!(look_on(&mut observer, &mut now, 7, 1), []);
    }

    #[test]
    fn what_is_overdue_is_interrupted_again_and_again_while_the_loop_works() {
        let start = Instant::now();
        let mut observer = Observer::new(None, Some(ms(300)), start);
        let due = Some(start + ms(300));
        let mut found = |beat, at| observer.look(Seen { beat, due }, start + ms(at));
        assert_eq!((found(1, 100), found(1, 299)), (vec![], vec![]));
        assert_eq!((found(1, 300), found(1, 350)), (vec![Finding::Overdue], vec![]));
        assert_eq!(found(1, 400), [Finding::Overdue]);
        assert_eq!((found(2, 500), found(3, 510)), (vec![], vec![Finding::Overdue]));
    }

    #[test]
    fn it_looks_when_something_is_due_and_often_enough_for_a_stall() {
        let now = Instant::now();
        let observer = Observer::new(Some(ms(400)), Some(Duration::from_secs(30)), now);
        assert_eq!(observer.pause(None, now), ms(100));
        assert_eq!(observer.pause(Some(now + ms(30)), now), ms(30));
        assert_eq!(observer.pause(Some(now), now + ms(1)), SHORTEST);
        assert_eq!(Observer::new(None, None, now).pause(None, now), LONGEST);
    }
}
