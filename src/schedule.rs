//! What is due when: timers on the monotonic clock, cron tables on the wall clock. Pure; `switchboard.rs` asks it and raises the
//! signals. A time that was missed (the machine slept, the master was stopped) is made up for once at most.
use appliance_worker::signals::{Cron, Local, Timer};
use std::time::{Duration, Instant};

/// Clocks that are changed by more than this were wrong before; by less, it is summer time, or somebody who corrects them.
const MOST_CHANGE: i64 = 3 * 60;

/// What the wall clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// Minutes since 1970, of no time zone.
    pub minute: i64,
    /// Minutes since 1970 as the clock on the wall counts them.
    pub local: i64,
    /// Until the next minute begins.
    pub rest: Duration,
}

/// Everything that is due again and again.
#[derive(Debug, Default)]
pub struct Schedule {
    timers: Vec<Running>,
    crons: Vec<(u8, Cron)>,
    clock: Clock,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    timer: Timer,
    next: Instant,
    /// How often it still fires; `None`: for ever.
    left: Option<u32>,
}

impl Running {
    fn new(timer: Timer, now: Instant) -> Running {
        let left = Some(timer.times).filter(|&times| times > 0);
        Running { timer, next: now + every(&timer), left }
    }

    fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    fn take_due(&mut self, now: Instant) -> bool {
        if self.is_over() || now < self.next {
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        let (every, late) = (every(&self.timer), now - self.next);
        let missed = late.as_millis() / every.as_millis().max(1);
        self.next += every.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1));
        true
    }
}

fn every(timer: &Timer) -> Duration {
    // A year is for ever, and no instant overflows.
    Duration::from_millis(timer.every_ms.clamp(1, 366 * 86_400_000))
}

impl Schedule {
    /// From now on it is this. What was there before keeps its time; with `is_fresh` (the application was loaded anew) timers
    /// that fire a certain number of times begin again.
    pub fn set(&mut self, timers: &[Timer], crons: &[(u8, Cron)], is_fresh: bool, now: Instant) {
        let before = std::mem::take(&mut self.timers);
        let keeps = |one: &&Running, timer: &Timer| one.timer == *timer && (timer.times == 0 || !is_fresh);
        let run = |timer: &Timer| {
            let known = before.iter().find(|one| keeps(one, timer)).copied();
            known.unwrap_or_else(|| Running::new(*timer, now))
        };
        self.timers = timers.iter().map(run).collect();
        self.crons = crons.to_vec();
    }

    /// The signals that are due, each once.
    pub fn due(&mut self, now: Instant, wall: Wall) -> Vec<u8> {
        let timers = self.timers.iter_mut().filter_map(|one| one.take_due(now).then_some(one.timer.signal));
        let mut due: Vec<u8> = timers.collect();
        if let Some(passed) = self.clock.advance(wall) {
            let means = |(_, cron): &&(u8, Cron)| passed.has(cron);
            due.extend(self.crons.iter().filter(means).map(|(signal, _)| *signal));
        }
        due.sort_unstable();
        due.dedup();
        due
    }

    /// When to ask again.
    pub fn next_deadline(&self, now: Instant, wall: Wall) -> Option<Instant> {
        let timers = self.timers.iter().filter(|one| !one.is_over()).map(|one| one.next);
        let minute = (!self.crons.is_empty()).then_some(now + wall.rest);
        timers.chain(minute).min()
    }
}

/// Which minutes have been seen.
#[derive(Debug, Default)]
struct Clock {
    seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    minute: i64,
    /// The latest local minute of all.
    local: i64,
}

/// What has passed since the last look: the minute that it is, and those of the local time that were not there before.
#[derive(Debug, PartialEq, Eq)]
struct Passed {
    now: i64,
    /// From this one on, up to `now`; none where the clocks went back.
    first_new: i64,
}

impl Clock {
    /// `None`: no minute has passed. The one in which it looks first counts as passed.
    fn advance(&mut self, wall: Wall) -> Option<Passed> {
        let Some(seen) = self.seen else {
            self.seen = Some(Seen { minute: wall.minute, local: wall.local });
            return None;
        };
        let changed = |before: i64, now: i64| now.abs_diff(before) > MOST_CHANGE.unsigned_abs();
        if changed(seen.minute, wall.minute) || changed(seen.local, wall.local) {
            self.seen = Some(Seen { minute: wall.minute, local: wall.local });
            return Some(Passed { now: wall.local, first_new: wall.local });
        }
        if wall.minute <= seen.minute {
            return None;
        }
        self.seen = Some(Seen { minute: wall.minute, local: wall.local.max(seen.local) });
        Some(Passed { now: wall.local, first_new: seen.local + 1 })
    }
}

impl Passed {
    /// What names hours has each of them once, whatever the clocks do; all else goes by what they show.
    fn has(&self, cron: &Cron) -> bool {
        match cron.has_hours() {
            true => (self.first_new..=self.now).any(|minute| cron.matches(local(minute))),
            false => cron.matches(local(self.now)),
        }
    }
}

/// The date of a local minute, in the calendar that everybody has (Howard Hinnant's `civil_from_days`).
fn local(minutes: i64) -> Local {
    let (days, minute) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    // Years begin in March, so that the leap day is the last one.
    let since = days + 719_468;
    let day_of_era = since.rem_euclid(146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let number = |n: i64| u32::try_from(n).unwrap_or_default();
    Local {
        minute: number(minute % 60),
        hour: number(minute / 60),
        day: number(day_of_year - (153 * month + 2) / 5 + 1),
        month: number(if month < 10 { month + 3 } else { month - 9 }),
        // The first of January 1970 was a Thursday.
        weekday: number((days + 4).rem_euclid(7)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_SECOND: Timer = Timer { signal: 1, every_ms: 1000, times: 0 };

    /// 10 March 2026, 14:30, in minutes.
    const THEN: i64 = 20_522 * 1440 + 14 * 60 + 30;

    fn wall(minute: i64, local: i64) -> Wall {
        Wall { minute, local, rest: Duration::from_secs(60) }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// What is due at each of these looks at the clock, for one line of a cron table.
    fn due_at(line: &str, looks: &[Wall]) -> Vec<usize> {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.set(&[], &[(9, Cron::parse(line).unwrap())], true, now);
        let due = |(at, &wall): (usize, &Wall)| (!schedule.due(now, wall).is_empty()).then_some(at);
        looks.iter().enumerate().filter_map(due).collect()
    }

    #[test]
    fn a_timer_fires_every_so_often_and_once_for_all_that_it_missed() {
        let (mut schedule, t) = (Schedule::default(), Instant::now());
        schedule.set(&[EVERY_SECOND], &[], true, t);
        let mut due = |after| schedule.due(t + after, wall(THEN, THEN));
        assert_eq!((due(secs(0)), due(secs(1)), due(secs(1))), (vec![], vec![1], vec![]));
        assert_eq!((due(secs(60)), due(secs(60)), due(secs(61))), (vec![1], vec![], vec![1]));
        assert_eq!(schedule.next_deadline(t, wall(THEN, THEN)), Some(t + secs(62)));
    }

    #[test]
    fn a_timer_keeps_its_time_over_a_reload_and_one_with_an_end_begins_again() {
        let (mut schedule, t) = (Schedule::default(), Instant::now());
        let twice = Timer { signal: 2, every_ms: 1000, times: 2 };
        let both = [Timer { every_ms: 3000, ..EVERY_SECOND }, twice];
        schedule.set(&both, &[], true, t);
        let wall = wall(THEN, THEN);
        let fired = |schedule: &mut Schedule, from, to| -> Vec<_> {
            (from..=to).map(|n| schedule.due(t + secs(n), wall)).collect()
        };
        assert_eq!(fired(&mut schedule, 1, 4), [vec![2], vec![2], vec![1], vec![]]);
        schedule.set(&both, &[], false, t + secs(4));
        assert_eq!(fired(&mut schedule, 5, 6), [vec![], vec![1]], "another worker registered the same");
        schedule.set(&both, &[], true, t + secs(6));
        assert_eq!(fired(&mut schedule, 7, 9), [vec![2], vec![2], vec![1]]);
    }

    #[test]
    fn a_line_is_due_once_in_each_of_its_minutes() {
        let looks = [0, 0, 1, 1, 2, 5, 6].map(|n| wall(THEN + n, THEN + n));
        assert_eq!(due_at("* * * * *", &looks), [2, 4, 5, 6]);
        assert_eq!(due_at("35 * * * *", &looks), [5]);
        assert_eq!(due_at("33 14 * * *", &looks), [5], "it was missed by less than the clocks may change");
        assert_eq!(due_at("33 * * * *", &looks), [] as [usize; 0]);
        assert_eq!(due_at("30 14 10 3 tue", &looks), [] as [usize; 0], "that minute had begun");
    }

    #[test]
    fn clocks_that_go_forward_leave_no_hour_out() {
        // From 1:59 to 3:00.
        let two = THEN - 30 - 12 * 60;
        let looks = [wall(two - 1, two - 1), wall(two, two + 60), wall(two + 1, two + 61)];
        assert_eq!(due_at("30 2 * * *", &looks), [1]);
        assert_eq!(due_at("30 * * * *", &looks), [] as [usize; 0]);
    }

    #[test]
    fn clocks_that_go_back_bring_no_hour_twice() {
        // From 2:59 to 2:00.
        let three = THEN - 30 - 11 * 60;
        let looks: Vec<_> =
            (-31..61).map(|n| wall(three + n, if n < 0 { three + n } else { three + n - 60 })).collect();
        assert_eq!(due_at("30 2 * * *", &looks).len(), 1);
        assert_eq!(due_at("30 * * * *", &looks).len(), 2, "that goes by what the clock shows");
        assert_eq!(due_at("0 3 * * *", &looks).len(), 1);
    }

    #[test]
    fn a_clock_that_is_set_back_brings_no_minute_twice_and_one_that_was_wrong_begins_anew() {
        let looks = [0, 1, -1, 0, 1, 2].map(|n| wall(THEN + n, THEN + n));
        assert_eq!(due_at("* * * * *", &looks), [1, 5]);
        let looks = [0, 1, -100_000, -100_000, -99_999].map(|n| wall(THEN + n, THEN + n));
        assert_eq!(due_at("* * * * *", &looks), [1, 2, 4]);
        assert_eq!(due_at("33 14 * * *", &[wall(0, 0), wall(THEN, THEN)]), [] as [usize; 0]);
    }

    #[test]
    fn minutes_have_dates() {
        let of = |minutes| {
            let Local { minute, hour, day, month, weekday } = local(minutes);
            (month, day, hour, minute, weekday)
        };
        assert_eq!(of(THEN), (3, 10, 14, 30, 2));
        assert_eq!(of(0), (1, 1, 0, 0, 4));
        assert_eq!(of(-1), (12, 31, 23, 59, 3));
        assert_eq!(of(19_782 * 1440), (2, 29, 0, 0, 4), "2024 is a leap year");
        assert_eq!(of(19_783 * 1440), (3, 1, 0, 0, 5));
    }
}
