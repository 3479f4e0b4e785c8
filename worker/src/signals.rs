//! Signals (uWSGI `uwsgi.signal`): numbers from 0 to 255 that a worker raises, or a timer, a cron table or a changed file does,
//! and whose handlers run on cores as errands. Where a signal goes is decided by the master, from what every worker has
//! registered: a [`Registry`], which a worker sends whole whenever it changes (`report.rs`). What happens in the worker is in
//! `ledger`. The registry comes from a process that runs application code, so the master takes only one that
//! [`Registry::is_sound`].
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

mod cron;
mod ledger;
pub use cron::{Cron, Local};
pub use ledger::{Ledger, Ticket};

/// Timers of one application, and as many cron tables and files (uWSGI's 64).
pub const MOST_EACH: usize = 64;
/// A timer that fires more often would keep the master.
pub const MOST_OFTEN: Duration = Duration::from_millis(10);
/// Longest path of a file that is watched, in bytes: a whole registry must fit one packet.
pub const MOST_PATH: usize = 256;

/// Who handles a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Any one worker, a free one if there is one.
    Worker,
    /// Every worker; who is not there yet, when it is.
    Workers,
    /// Every worker that serves at that moment.
    ActiveWorkers,
    /// The worker with this id.
    One(u32),
}

impl Target {
    /// From uWSGI's words. An error is a sentence.
    pub fn parse(word: &str) -> Result<Target, String> {
        let one = || word.strip_prefix("worker").and_then(|id| id.parse().ok()).filter(|&id| id > 0);
        match word {
            "" | "worker" => Ok(Target::Worker),
            "workers" => Ok(Target::Workers),
            "active-workers" => Ok(Target::ActiveWorkers),
            _ => one().map(Target::One).ok_or_else(|| {
                format!(
                    "there is no signal target \"{word}\" here: signals go to \"worker\", \"workers\", \"worker1\" and so on, or \
                     \"active-workers\"; there are no mules, farms and spoolers"
                )
            }),
        }
    }
}

/// A signal that comes again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Its number.
    pub signal: u8,
    /// Milliseconds from one to the next.
    pub every_ms: u64,
    /// So often and no more; 0: for ever.
    pub times: u32,
}

/// A signal for when a file changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Its number.
    pub signal: u8,
    /// An absolute path.
    pub path: String,
}

/// Everything that the application in one worker has registered. To register the same again changes nothing, so it does not
/// matter how many workers do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// Signals that have a handler.
    pub handlers: BTreeMap<u8, Target>,
    /// Timers.
    pub timers: Vec<Timer>,
    /// Cron tables of one line each.
    pub crons: Vec<(u8, Cron)>,
    /// Files that are watched.
    pub monitors: Vec<Monitor>,
}

fn add<T: PartialEq>(all: &mut Vec<T>, one: T, what: &str) -> Result<(), String> {
    if all.contains(&one) {
        return Ok(());
    }
    if all.len() >= MOST_EACH {
        return Err(format!("there are {MOST_EACH} {what} already"));
    }
    all.push(one);
    Ok(())
}

impl Registry {
    /// Adds a timer. An error is a sentence, as for all that follow.
    pub fn add_timer(&mut self, timer: Timer) -> Result<(), String> {
        if u128::from(timer.every_ms) < MOST_OFTEN.as_millis() {
            return Err(format!("a timer fires every {MOST_OFTEN:?} at most"));
        }
        add(&mut self.timers, timer, "timers")
    }

    /// Adds a line of a cron table.
    pub fn add_cron(&mut self, signal: u8, cron: Cron) -> Result<(), String> {
        add(&mut self.crons, (signal, cron), "cron jobs")
    }

    /// Adds a file.
    pub fn add_monitor(&mut self, monitor: Monitor) -> Result<(), String> {
        let path = &monitor.path;
        if path.len() > MOST_PATH || !path.starts_with('/') || path.chars().any(char::is_control) {
            return Err(format!(
                "the path of a watched file is absolute, has {MOST_PATH} bytes at most and no control characters"
            ));
        }
        add(&mut self.monitors, monitor, "watched files")
    }

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        *self == Registry::default()
    }

    /// Takes over what another worker of the same application has registered; what there is too much of is left out.
    pub fn merge(&mut self, other: &Registry) {
        self.handlers.extend(&other.handlers);
        for timer in &other.timers {
            let _ = self.add_timer(*timer);
        }
        for (signal, cron) in &other.crons {
            let _ = self.add_cron(*signal, *cron);
        }
        for monitor in &other.monitors {
            let _ = self.add_monitor(monitor.clone());
        }
    }

    /// Whether it could have been made by these methods.
    pub fn is_sound(&self) -> bool {
        let mut again = Registry { handlers: self.handlers.clone(), ..Registry::default() };
        again.merge(self);
        again == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{MAX_PACKET, News};

    const TIMER: Timer = Timer { signal: 1, every_ms: 1000, times: 0 };

    #[test]
    fn targets_have_uwsgis_words() {
        let words = ["", "worker", "workers", "active-workers", "worker12"];
        let targets = words.map(|word| Target::parse(word).unwrap());
        let expected =
            [Target::Worker, Target::Worker, Target::Workers, Target::ActiveWorkers, Target::One(12)];
        assert_eq!(targets, expected);
        for word in ["mule", "mule1", "farm_x", "spooler", "worker0", "worker-1", "workerx"] {
            assert!(Target::parse(word).unwrap_err().contains("there are no mules"), "{word}");
        }
    }

    #[test]
    fn the_same_again_changes_nothing_and_there_is_a_bound() {
        let mut registry = Registry::default();
        registry.add_timer(TIMER).unwrap();
        registry.add_timer(TIMER).unwrap();
        assert_eq!(registry.timers.len(), 1);
        for n in 1..MOST_EACH as u64 {
            registry.add_timer(Timer { every_ms: 1000 + n, ..TIMER }).unwrap();
        }
        assert!(registry.add_timer(Timer { every_ms: 9, ..TIMER }).is_err());
        assert!(registry.add_timer(Timer { every_ms: 9000, ..TIMER }).unwrap_err().contains("64 timers"));
        assert!(registry.is_sound());
    }

    #[test]
    fn the_largest_registry_fits_one_packet() {
        let mut registry = Registry::default();
        registry.handlers.extend((0..=u8::MAX).map(|number| (number, Target::One(1024))));
        for n in 0..MOST_EACH as u64 {
            let (signal, number) = (255, n as i64 % 60);
            registry.add_timer(Timer { signal, every_ms: u64::MAX - n, times: u32::MAX }).unwrap();
            let cron = Cron::of_numbers([number, -1, -1, -1, n as i64 / 60]).unwrap();
            registry.add_cron(signal, cron).unwrap();
            let path = format!("/{n:02}{}", "\\".repeat(MOST_PATH - 3));
            registry.add_monitor(Monitor { signal, path }).unwrap();
        }
        assert!(registry.is_sound());
        assert!(News::Registry(Box::new(registry)).encode().len() <= MAX_PACKET);
    }

    #[test]
    fn what_nobody_could_have_registered_is_not_sound() {
        let unsound = [
            Registry { timers: vec![Timer { every_ms: 0, ..TIMER }], ..Registry::default() },
            Registry { timers: vec![TIMER, TIMER], ..Registry::default() },
            Registry {
                monitors: vec![Monitor { signal: 1, path: "relative".into() }],
                ..Registry::default()
            },
        ];
        assert!(unsound.iter().all(|registry| !registry.is_sound()));
    }
}
