//! What the proxies are to do with requests, and since when. Several reasons can hold at once; this file knows which of
//! them wins, and what a person who switches one is told. Owned by the master, which writes the outcome on the panel and
//! into the status. Pure: it neither reads the clock nor touches shared memory.
use appliance_worker::panel::Mode;
use std::time::{Duration, Instant};

/// When a client who gets 503 may come again, where nobody knows it better: long enough not to be a burden, short enough
/// for a person who waits.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Likewise in maintenance, which takes minutes rather than seconds.
const MAINTENANCE_RETRY_AFTER: Duration = Duration::from_secs(30);

/// What a person can switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// `appliance pause`.
    Pause,
    /// `appliance resume`.
    Resume,
    /// `appliance maintenance on` (true) and `off`.
    Maintenance(bool),
}

/// The outcome: what holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// What the proxies do.
    pub mode: Mode,
    /// Since when; `None`: they serve, as they have from the beginning.
    pub since: Option<Instant>,
    /// What a client is told who gets 503, in whole seconds.
    pub retry_after: Duration,
}

/// Every reason not to serve as usual, with the time at which it began.
#[derive(Debug, Default)]
pub struct Modes {
    /// Since when, and when the next worker is tried.
    crash_loop: Option<(Instant, Instant)>,
    maintenance: Option<Instant>,
    leaving: Option<Instant>,
    paused: Option<Instant>,
}

impl Modes {
    /// No worker can live; the next one is tried at `until`.
    pub fn crash_loop(&mut self, until: Instant, now: Instant) {
        let since = self.crash_loop.map_or(now, |(since, _)| since);
        self.crash_loop = Some((since, until));
    }

    /// A worker lives again.
    pub fn recover(&mut self) {
        self.crash_loop = None;
    }
}

impl Modes {
    /// The appliance has been told to stop. There is no way back.
    pub fn leave(&mut self, now: Instant) {
        self.leaving.get_or_insert(now);
    }

    /// What holds now. A crash loop wins, because whatever else was asked for, there is nobody to serve. Maintenance wins
    /// over leaving: both say that the appliance is not ready, but only maintenance keeps requests from the application.
    /// Leaving wins over a pause: what was held back must be served before the end.
    pub fn current(&self, now: Instant) -> Current {
        let outcome = |mode, since, retry_after| Current { mode, since: Some(since), retry_after };
        if let Some((since, until)) = self.crash_loop {
            return outcome(Mode::CrashLoop, since, whole_seconds(until.saturating_duration_since(now)));
        }
        let maintenance = self.maintenance.map(|at| outcome(Mode::Maintenance, at, MAINTENANCE_RETRY_AFTER));
        let leaving = self.leaving.map(|at| outcome(Mode::Leaving, at, RETRY_AFTER));
        let paused = self.paused.map(|at| outcome(Mode::Paused, at, RETRY_AFTER));
        let serving = Current { mode: Mode::Serving, since: None, retry_after: RETRY_AFTER };
        maintenance.or(leaving).or(paused).unwrap_or(serving)
    }

    /// Does what a person asks, and says what is the case then. Asking twice changes nothing.
    pub fn switch(&mut self, switch: Switch, now: Instant) -> String {
        let told = match switch {
            Switch::Pause => turn_on(&mut self.paused, now, "paused", "requests wait in the proxy"),
            Switch::Resume => turn_off(&mut self.paused, "resumed", "not paused"),
            Switch::Maintenance(true) => {
                turn_on(&mut self.maintenance, now, "in maintenance", "requests are answered 503")
            }
            Switch::Maintenance(false) => {
                turn_off(&mut self.maintenance, "maintenance ended", "not in maintenance")
            }
        };
        let asked = match switch {
            Switch::Pause | Switch::Resume => Mode::Paused,
            Switch::Maintenance(_) => Mode::Maintenance,
        };
        match self.current(now).mode {
            Mode::Serving => told,
            mode if mode == asked => told,
            mode => format!("{told}; the mode is {}", name(mode)),
        }
    }
}

fn turn_on(reason: &mut Option<Instant>, now: Instant, what: &str, effect: &str) -> String {
    match *reason {
        Some(since) => format!("already {what}, for {}s", now.saturating_duration_since(since).as_secs()),
        None => {
            *reason = Some(now);
            format!("{what}: {effect}")
        }
    }
}

fn turn_off(reason: &mut Option<Instant>, ended: &str, was_not: &str) -> String {
    if reason.take().is_some() { ended.to_owned() } else { format!("it was {was_not}") }
}

/// At least one, and never too early.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX))
}

/// The word for it in `status`.
pub fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Serving => "serving",
        Mode::Paused => "paused",
        Mode::Maintenance => "maintenance",
        Mode::CrashLoop => "crash-loop",
        Mode::Leaving => "leaving",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn mode(modes: &Modes, now: Instant) -> Mode {
        modes.current(now).mode
    }

    #[test]
    fn the_stronger_reason_wins_and_the_weaker_one_is_not_forgotten() {
        let now = Instant::now();
        let mut modes = Modes::default();
        assert_eq!((mode(&modes, now), modes.current(now).since), (Mode::Serving, None));
        modes.switch(Switch::Pause, now);
        assert_eq!(mode(&modes, now), Mode::Paused);
        modes.switch(Switch::Maintenance(true), now);
        assert_eq!(mode(&modes, now), Mode::Maintenance);
        modes.crash_loop(now + SECOND, now);
        assert_eq!(mode(&modes, now), Mode::CrashLoop);
        modes.recover();
        assert_eq!(mode(&modes, now), Mode::Maintenance);
        modes.leave(now);
        assert_eq!(mode(&modes, now), Mode::Maintenance, "the application must not see a request");
        modes.switch(Switch::Maintenance(false), now);
        assert_eq!(mode(&modes, now), Mode::Leaving, "what is held back must be served before the end");
    }

    #[test]
    fn switching_twice_changes_nothing() {
        let now = Instant::now();
        let mut modes = Modes::default();
        assert_eq!(modes.switch(Switch::Pause, now), "paused: requests wait in the proxy");
        let later = now + 7 * SECOND;
        assert_eq!(modes.switch(Switch::Pause, later), "already paused, for 7s");
        assert_eq!(modes.current(later).since, Some(now));
        assert_eq!(modes.switch(Switch::Resume, later), "resumed");
        assert_eq!(modes.switch(Switch::Resume, later), "it was not paused");
        assert_eq!(modes.switch(Switch::Maintenance(false), later), "it was not in maintenance");
        assert_eq!(mode(&modes, later), Mode::Serving);
    }

    #[test]
    fn whoever_switches_is_told_what_wins() {
        let now = Instant::now();
        let mut modes = Modes::default();
        modes.switch(Switch::Maintenance(true), now);
        assert_eq!(
            modes.switch(Switch::Pause, now),
            "paused: requests wait in the proxy; the mode is maintenance"
        );
        assert_eq!(modes.switch(Switch::Maintenance(false), now), "maintenance ended; the mode is paused");
    }

    #[test]
    fn a_crash_loop_says_when_the_next_worker_is_tried() {
        let now = Instant::now();
        let mut modes = Modes::default();
        let retry_after = |modes: &Modes, at| modes.current(at).retry_after;
        modes.crash_loop(now + Duration::from_millis(2100), now);
        assert_eq!(retry_after(&modes, now), 3 * SECOND);
        assert_eq!(retry_after(&modes, now + 9 * SECOND), SECOND);
        modes.crash_loop(now + 30 * SECOND, now + 2 * SECOND);
        assert_eq!(modes.current(now).since, Some(now), "it is the same crash loop");
    }
}
