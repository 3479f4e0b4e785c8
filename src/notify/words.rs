//! What the service manager is told when: lines of `NAME=value`, as sd_notify(3) defines them. Pure.
use crate::control::status::{Proxy, Status, Worker};
use crate::control::table;
use crate::notice::Notice;
use std::time::{Duration, Instant};

/// How often the line of status is looked at; it is sent when it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// How often a watchdog that was not fed is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// An idle loop has a turn once a second, so what is younger than this says nothing bad.
const FRESH_AT_LEAST: Duration = Duration::from_secs(3);
/// Bytes of a reason in the line of status; the log has all of it.
const MAX_REASON: usize = 200;

/// What has been said, and what is due.
#[derive(Debug)]
pub struct Words {
    pid: u32,
    boot: Duration,
    /// It waits for the end of a reload.
    reloading: bool,
    /// Why the last reload has changed nothing.
    failure: Option<String>,
    shown: String,
    status_at: Instant,
    /// The interval in which it must hear of us, and when it is told next.
    watchdog: Option<(Duration, Instant)>,
}

/// The interval of the watchdog, if this process is to feed it.
pub fn watchdog(usec: Option<&str>, pid: Option<&str>, pid_of_ours: u32) -> Option<Duration> {
    let is_for_us = pid.is_none_or(|pid| pid.parse() == Ok(pid_of_ours));
    let usec: u64 = usec?.parse().ok()?;
    (is_for_us && usec > 0).then(|| Duration::from_micros(usec))
}

impl Words {
    /// Nothing said yet.
    pub fn new(pid: u32, watchdog: Option<Duration>, boot: Duration, now: Instant) -> Words {
        Words {
            pid,
            boot,
            reloading: false,
            failure: None,
            shown: String::new(),
            status_at: now,
            watchdog: watchdog.map(|interval| (interval, now)),
        }
    }

    /// What a notice means to the service manager; `clock` is the monotonic one, by which it tells a reload that it has
    /// asked for from an earlier one. Each datagram is taken by itself.
    pub fn on_notice(&mut self, notice: &Notice, clock: Duration, now: Instant) -> Vec<String> {
        self.status_at = now;
        let began = format!("RELOADING=1\nMONOTONIC_USEC={}", clock.as_micros());
        match notice {
            Notice::Serving => vec![format!("READY=1\nMAINPID={}", self.pid)],
            Notice::Reloading => {
                self.reloading = true;
                vec![began]
            }
            Notice::Reloaded { .. } => {
                self.failure = None;
                self.end_reload(began)
            }
            Notice::ReloadFailed { text } => {
                self.failure = Some(reason(text));
                self.end_reload(began)
            }
            Notice::HeldUp { reason: text } if self.reloading => {
                self.failure = Some(reason(text));
                self.end_reload(began)
            }
            Notice::Failed { text } => vec![format!("STATUS=could not start: {}", reason(text))],
            Notice::Leaving { .. } | Notice::Stopping => vec!["STOPPING=1".to_owned()],
            _ => Vec::new(),
        }
    }

    /// A reload that ends without having begun has still been asked for, and somebody waits for it.
    fn end_reload(&mut self, began: String) -> Vec<String> {
        let ready = "READY=1".to_owned();
        if std::mem::take(&mut self.reloading) { vec![ready] } else { vec![began, ready] }
    }

    /// When [`Words::on_turn`] has something to look at.
    pub fn next_deadline(&self) -> Instant {
        self.watchdog.map_or(self.status_at, |(_, at)| at.min(self.status_at))
    }

    /// What is due.
    pub fn on_turn(&mut self, status: &Status, now: Instant) -> Vec<String> {
        let mut words = Vec::new();
        if self.status_at <= now {
            self.status_at = now + STATUS_EVERY;
            let line = self.line(status);
            if line != self.shown {
                words.push(format!("STATUS={line}"));
                self.shown = line;
            }
        }
        if let Some((interval, at)) = &mut self.watchdog
            && *at <= now
        {
            let lives = lives(status, *interval, self.boot);
            *at = now + if lives { *interval / 2 } else { LOOK_AGAIN.min(*interval / 2) };
            words.extend(lives.then(|| "WATCHDOG=1".to_owned()));
        }
        words
    }

    /// One line, such as `serving: 2 of 2 workers ready, 3 requests under way, 1240 served`. The requests are those of the
    /// workers that run now.
    fn line(&self, status: &Status) -> String {
        let workers = &status.workers;
        let ready = workers.iter().filter(|worker| worker.state == "ready").count();
        let busy: u64 =
            workers.iter().map(|worker| u64::from(worker.cores.busy) + u64::from(worker.waiting)).sum();
        let served = workers.iter().fold(0_u64, |sum, worker| sum.saturating_add(worker.requests));
        let failure = self.failure.iter().map(|why| format!("; the last reload failed: {why}"));
        format!(
            "{}: {ready} of {} workers ready, {busy} requests under way, {served} served{}",
            table::state(&status.master),
            workers.len(),
            failure.collect::<String>()
        )
    }
}

/// Whether the watchdog may be fed: a proxy and a worker have had a turn within its interval. While we start or stop that
/// is not asked, there need not be any.
fn lives(status: &Status, interval: Duration, boot: Duration) -> bool {
    let fresh = interval.max(FRESH_AT_LEAST);
    let is_fresh = |age_ms: u64| Duration::from_millis(age_ms) < fresh;
    let proxy = |proxy: &Proxy| match proxy.tick_age_ms {
        Some(age) => is_fresh(age),
        // It has not had its first turn.
        None => Duration::from_secs(proxy.process.age) < boot,
    };
    let worker = |worker: &Worker| worker.tick_age_ms.is_some_and(is_fresh);
    matches!(&*status.master.state, "starting" | "stopping")
        || (status.proxy.iter().any(proxy) && status.workers.iter().any(worker))
}

/// The last line of a text, where a traceback says what was wrong; short, and without control characters, which would end
/// the value.
fn reason(text: &str) -> String {
    let line = text.trim_end().lines().next_back().unwrap_or_default().trim();
    let clean: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = clean.char_indices().map(|(at, _)| at).find(|&at| at >= MAX_REASON).unwrap_or(clean.len());
    clean[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{Cores, Master, Process};

    const CLOCK: Duration = Duration::from_micros(1_234_567);
    const BOOT: Duration = Duration::from_secs(30);
    const MINUTE: Duration = Duration::from_secs(60);

    fn words(watchdog: Option<Duration>) -> (Words, Instant) {
        let now = Instant::now();
        (Words::new(7, watchdog, BOOT, now), now)
    }

    /// A proxy and a worker that had their turns so long ago.
    fn status(state: &str, proxy_ms: Option<u64>, worker_ms: Option<u64>) -> Status {
        Status {
            master: Master { state: state.into(), ..Master::default() },
            proxy: vec![Proxy { tick_age_ms: proxy_ms, ..Proxy::default() }],
            template: Vec::new(),
            workers: vec![Worker {
                state: "ready".into(),
                cores: Cores { busy: 2, total: 10 },
                waiting: 1,
                requests: 40,
                tick_age_ms: worker_ms,
                ..Worker::default()
            }],
        }
    }

    #[test]
    fn it_is_told_of_the_start_of_reloads_and_of_the_end() {
        let (mut words, now) = words(None);
        let mut said = |notice: Notice| words.on_notice(&notice, CLOCK, now);
        assert_eq!(said(Notice::Serving), ["READY=1\nMAINPID=7"]);
        assert_eq!(said(Notice::Reloading), ["RELOADING=1\nMONOTONIC_USEC=1234567"]);
        assert_eq!(said(Notice::Reloaded { generation: 1, waiting: Vec::new() }), ["READY=1"]);
        assert_eq!(said(Notice::Stopping), ["STOPPING=1"]);
        assert_eq!(said(Notice::StopNow), [""; 0]);
    }

    #[test]
    fn a_reload_that_was_refused_at_once_ends_too() {
        let (mut words, now) = words(None);
        let failed = Notice::ReloadFailed { text: "Traceback:\n  f()\nValueError: a\u{1b}b\n".into() };
        let said = words.on_notice(&failed, CLOCK, now);
        assert_eq!(said, ["RELOADING=1\nMONOTONIC_USEC=1234567", "READY=1"]);
        let line = words.on_turn(&status("serving", None, None), now).remove(0);
        assert!(line.ends_with("; the last reload failed: ValueError: a b"), "{line}");
    }

    #[test]
    fn the_line_of_status_is_sent_when_it_has_changed() {
        let (mut words, now) = words(None);
        let mut status = status("serving", None, None);
        let line = "STATUS=serving: 1 of 1 workers ready, 3 requests under way, 40 served";
        assert_eq!(words.on_turn(&status, now), [line]);
        assert_eq!(words.next_deadline(), now + STATUS_EVERY);
        assert_eq!(words.on_turn(&status, now + STATUS_EVERY), [""; 0]);
        status.master.mode = "paused".into();
        status.master.mode_seconds = Some(3);
        let said = words.on_turn(&status, now + 2 * STATUS_EVERY);
        assert!(said[0].starts_with("STATUS=serving, paused for 3s: "), "{said:?}");
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_interval_while_proxy_and_worker_have_turns() {
        let (mut words, now) = words(Some(MINUTE));
        let fed = |words: &mut Words, status: &Status, at| {
            words.on_turn(status, at).contains(&"WATCHDOG=1".to_owned())
        };
        let well = status("serving", Some(900), Some(900));
        assert!(fed(&mut words, &well, now));
        assert!(!fed(&mut words, &well, now + MINUTE / 4), "not yet");
        assert!(fed(&mut words, &well, now + MINUTE / 2));
        let stuck = status("serving", Some(900), Some(60_000));
        assert!(!fed(&mut words, &stuck, now + MINUTE));
        assert!(fed(&mut words, &well, now + MINUTE + LOOK_AGAIN), "as soon as it goes on");
    }

    #[test]
    fn what_stands_still_does_not_live_and_what_begins_does() {
        let lives = |status: &Status| lives(status, MINUTE, BOOT);
        assert!(lives(&status("serving", Some(59_000), Some(59_000))));
        assert!(!lives(&status("serving", Some(60_000), Some(0))), "the proxy");
        assert!(!lives(&status("reloading", Some(0), Some(60_000))), "the worker");
        assert!(!lives(&status("serving", Some(0), None)), "a worker that never had a turn");
        assert!(lives(&status("serving", None, Some(0))), "a proxy that has just begun");
        let mut old = status("serving", None, Some(0));
        old.proxy[0].process = Process { age: 31, ..Process::default() };
        assert!(!lives(&old), "a proxy that never had a turn");
        assert!(lives(&status("starting", None, None)) && lives(&status("stopping", None, None)));
        old.proxy.clear();
        assert!(!lives(&old), "no proxy at all");
        assert!(super::lives(&status("serving", Some(1500), Some(1500)), Duration::from_secs(1), BOOT));
    }

    #[test]
    fn a_watchdog_is_only_for_the_process_that_is_named() {
        assert_eq!(watchdog(Some("2000000"), None, 7), Some(Duration::from_secs(2)));
        assert_eq!(watchdog(Some("2000000"), Some("7"), 7), Some(Duration::from_secs(2)));
        for (usec, pid) in
            [(Some("2000000"), Some("8")), (Some("0"), None), (Some("x"), None), (None, Some("7"))]
        {
            assert_eq!(watchdog(usec, pid, 7), None);
        }
    }
}
