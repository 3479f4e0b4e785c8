//! What `/metrics` tells: the appliance's own numbers, from the panel, which only master and proxies write, and from the board, and
//! after them the application's. Composed in the proxy's process, by `bridge.rs`. What the workers say of themselves is bounded by
//! what the configuration allows. The names are a promise: dashboards and alerts are made of them (`docs/metrics.md` lists
//! them all).
use appliance_worker::board::{self, Board, LATENCY_MS, Slot, State};
use appliance_worker::metrics::exposition::Page;
use appliance_worker::metrics::{Kind, Metrics};
use appliance_worker::panel::{DURATION_MS, Mode, Panel, Pulse};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A proxy that has not said anything for so long, in milliseconds, has left; it says something twice a second.
const SILENCE_MS: u64 = 5_000;

/// Where the numbers are, and what bounds them.
#[derive(Debug)]
pub struct Sources<'a> {
    /// What the workers say.
    pub board: &'a Board,
    /// What master and proxies say.
    pub panel: &'a Panel,
    /// What the application counts.
    pub metrics: &'a Metrics,
    /// `workers.cores`.
    pub cores: u32,
    /// `limits.waiting`.
    pub waiting: u32,
    /// The words for what went wrong, each at the place of its number.
    pub reasons: Vec<&'static str>,
    /// Now, in milliseconds of the monotonic clock that the processes use.
    pub now_ms: u64,
}

/// What each worker shows: the name without the prefix, its help, and how a slot of the board tells it.
type Gauge<'a> = (&'a str, &'a str, &'a dyn Fn(&Slot) -> f64);
/// What each worker counts, likewise.
type Counter = (&'static str, &'static str, fn(&Slot) -> u64);

impl Sources<'_> {
    /// The whole page.
    pub fn page(&self) -> String {
        let mut page = Page::default();
        self.appliance(&mut page);
        self.connections(&mut page);
        self.requests(&mut page);
        self.workers(&mut page);
        self.worker_requests(&mut page);
        self.metrics.expose(&mut page);
        page.finish()
    }

    fn appliance(&self, page: &mut Page) {
        let annals = self.panel.annals();
        if page.begin("appliance_build_info", Kind::Gauge, "Release of the binary; always 1.") {
            page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        }
        let began = annals.began_ms.load(Relaxed) as f64 / 1e3;
        let help = "When the appliance was started, in seconds since 1970.";
        page.single("appliance_start_time_seconds", Kind::Gauge, help, began);
        if page.begin(
            "appliance_mode",
            Kind::Gauge,
            "1 for what the proxy does with requests, 0 for what it does not.",
        ) {
            for (mode, word) in MODES {
                page.sample(&[("mode", word)], f64::from(u8::from(self.panel.mode() == mode)));
            }
        }
        let help = "Number of the reload that is in force.";
        page.single("appliance_generation", Kind::Gauge, help, annals.generation.load(Relaxed).into());
        if page.begin("appliance_reloads_total", Kind::Counter, "Reloads, by how they ended.") {
            for (result, count) in [("ok", &annals.reloads), ("failed", &annals.failed_reloads)] {
                page.sample(&[("result", result)], number(count));
            }
        }
        let help = "Processes that ended though nobody had told them to.";
        if page.begin("appliance_processes_lost_total", Kind::Counter, help) {
            for (role, count) in ["proxy", "template", "worker"].into_iter().zip(&annals.lost) {
                page.sample(&[("role", role)], number(count));
            }
        }
        let help = "Resident memory of the proxy that tells this.";
        page.single("appliance_proxy_resident_memory_bytes", Kind::Gauge, help, board::memory().0 as f64);
    }

    fn connections(&self, page: &mut Page) {
        let lives = |pulse: &&Pulse| self.now_ms.saturating_sub(pulse.tick_ms.load(Relaxed)) < SILENCE_MS;
        let sum = |of: fn(&Pulse) -> u32| -> f64 {
            self.panel.pulses().iter().filter(lives).map(|pulse| f64::from(of(pulse))).sum()
        };
        let traffic = self.panel.traffic();
        for (name, help, value) in [
            (
                "connections",
                "Client connections that are open.",
                sum(|pulse| pulse.connections.load(Relaxed)),
            ),
            (
                "requests_in_flight",
                "Requests whose answers are not complete.",
                sum(|pulse| pulse.in_flight.load(Relaxed)),
            ),
            ("requests_queued", "Requests that wait for a worker.", sum(|pulse| pulse.queued.load(Relaxed))),
        ] {
            page.single(&format!("appliance_http_{name}"), Kind::Gauge, help, value);
        }
        let seconds = number(&traffic.queue_us) / 1e6;
        for (name, help, value) in [
            ("connections_accepted", "Client connections that were accepted.", number(&traffic.connections)),
            (
                "connections_refused",
                "Client connections that were closed at once, because there were limits.connections.",
                number(&traffic.refused),
            ),
            (
                "queue_waits",
                "Requests that have waited for a worker and wait no more.",
                number(&traffic.dequeued),
            ),
            ("queue_wait_seconds", "How long these have waited together.", seconds),
            ("retries", "Further tries at another worker or connection.", number(&traffic.retries)),
            (
                "response_body_bytes",
                "Bytes of answers' bodies that clients were sent.",
                number(&traffic.body_bytes),
            ),
        ] {
            page.single(&format!("appliance_http_{name}_total"), Kind::Counter, help, value);
        }
    }

    fn requests(&self, page: &mut Page) {
        let traffic = self.panel.traffic();
        let help = "Requests that are over, by the status of their answer and by the last worker that they were sent to.";
        if page.begin("appliance_http_requests_total", Kind::Counter, help) {
            for worker in 0..=board::CAPACITY {
                let id = if worker == 0 { String::new() } else { worker.to_string() };
                for (status, count) in traffic.answers(worker) {
                    page.sample(&[("code", &status.to_string()), ("worker", &id)], count as f64);
                }
            }
        }
        let help = "Requests that failed, by the reason that the access log gives.";
        if page.begin("appliance_http_failures_total", Kind::Counter, help) {
            for (n, reason) in self.reasons.iter().enumerate() {
                page.sample(&[("reason", reason)], traffic.failed(n) as f64);
            }
        }
        let help = "From the complete head of a request to the end of its answer, for clients.";
        if page.begin("appliance_http_request_duration_seconds", Kind::Histogram, help) {
            let (counts, sum) = (numbers(&traffic.durations), number(&traffic.duration_us) / 1e6);
            page.histogram(&[], &DURATION_MS.map(seconds), &counts, sum);
        }
    }

    /// How the workers are.
    fn workers(&self, page: &mut Page) {
        let workers = self.panel.workers();
        page.single("appliance_workers", Kind::Gauge, "Workers that there should be.", workers.into());
        let is_ready = |slot: &Slot| f64::from(u8::from(slot.state() == State::Ready));
        let age = |slot: &Slot| {
            let tick = slot.tick_ms.load(Relaxed);
            if tick == 0 { 0.0 } else { seconds(self.now_ms.saturating_sub(tick)) }
        };
        let gauges: [Gauge<'_>; 8] = [
            ("ready", "1 if the worker serves, else 0.", &is_ready),
            ("cores", "Requests that the worker may run at once.", &|slot| {
                self.at_most(&slot.cores, self.cores)
            }),
            ("cores_busy", "Requests that the worker runs.", &|slot| self.at_most(&slot.busy, self.cores)),
            ("requests_waiting", "Requests that wait for a core of the worker.", &|slot| {
                self.at_most(&slot.waiting, self.waiting)
            }),
            ("connections", "Connections that the worker has, to the proxy and to others.", &|slot| {
                slot.connections.load(Relaxed).into()
            }),
            ("resident_memory_bytes", "Resident memory, about a second ago.", &|slot| {
                f64::from(slot.rss_kib.load(Relaxed)) * 1024.0
            }),
            ("loop_turn_seconds", "How long the last turn of its loop took.", &|slot| {
                number(&slot.lag_us) / 1e6
            }),
            (
                "loop_age_seconds",
                "How long ago its loop began a turn; about a second at most if it is well.",
                &age,
            ),
        ];
        for (name, help, value) in gauges {
            if page.begin(&format!("appliance_worker_{name}"), Kind::Gauge, help) {
                for id in 1..=workers {
                    page.sample(&[("worker", &id.to_string())], value(self.board.current(id)));
                }
            }
        }
        let help = "Processes that were started for the worker; all but the first are respawns.";
        if page.begin("appliance_worker_starts_total", Kind::Counter, help) {
            for id in 1..=workers {
                page.sample(&[("worker", &id.to_string())], self.panel.annals().starts(id).into());
            }
        }
    }

    fn at_most(&self, count: &std::sync::atomic::AtomicU32, most: u32) -> f64 {
        count.load(Relaxed).min(most).into()
    }

    /// What the workers count, in all of their lives.
    fn worker_requests(&self, page: &mut Page) {
        let workers = 1..=self.panel.workers();
        let counters: [Counter; 3] = [
            ("requests_total", "Requests that the worker has finished.", |slot| {
                slot.latency.iter().fold(0, |sum, count| sum.wrapping_add(count.load(Relaxed)))
            }),
            ("exceptions_total", "Requests that ended with an error of the application.", |slot| {
                slot.all_exceptions.load(Relaxed)
            }),
            ("sent_bytes_total", "Bytes that the worker has sent.", |slot| slot.bytes_out.load(Relaxed)),
        ];
        for (name, help, count) in counters {
            if page.begin(&format!("appliance_worker_{name}"), Kind::Counter, help) {
                for id in workers.clone() {
                    let total = self
                        .board
                        .slots(id)
                        .into_iter()
                        .fold(0, |sum: u64, slot| sum.wrapping_add(count(slot)));
                    page.sample(&[("worker", &id.to_string())], total as f64);
                }
            }
        }
        let help = "From the arrival of a request at the worker to the end of its answer.";
        if page.begin("appliance_worker_request_duration_seconds", Kind::Histogram, help) {
            for id in workers {
                let slots = self.board.slots(id);
                let counts = (0..=LATENCY_MS.len()).map(|n| {
                    slots.iter().fold(0, |sum: u64, slot| sum.wrapping_add(slot.latency[n].load(Relaxed)))
                });
                let sum: f64 = slots.iter().map(|slot| number(&slot.latency_us) / 1e6).sum();
                let id = id.to_string();
                page.histogram(
                    &[("worker", &id)],
                    &LATENCY_MS.map(seconds),
                    &counts.collect::<Vec<_>>(),
                    sum,
                );
            }
        }
    }
}

/// What the proxy may do with requests, in words.
const MODES: [(Mode, &str); 5] = [
    (Mode::Serving, "serving"),
    (Mode::Paused, "paused"),
    (Mode::Maintenance, "maintenance"),
    (Mode::CrashLoop, "crash-loop"),
    (Mode::Leaving, "leaving"),
];

fn number(count: &AtomicU64) -> f64 {
    count.load(Relaxed) as f64
}

fn numbers(counts: &[AtomicU64]) -> Vec<u64> {
    counts.iter().map(|count| count.load(Relaxed)).collect()
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn page(board: &Board, panel: &Panel) -> String {
        let metrics = Metrics::create().unwrap();
        let reasons = vec!["no-host", "worker-died"];
        let now_ms = 10_000;
        Sources { board, panel, metrics: &metrics, cores: 10, waiting: 5, reasons, now_ms }.page()
    }

    #[track_caller]
    fn says(page: &str, line: &str) {
        assert!(page.lines().any(|said| said == line), "no {line:?} in\n{page}");
    }

    #[test]
    fn the_page_tells_what_was_counted() {
        let (board, panel) = (Board::create(2).unwrap(), Panel::create().unwrap());
        panel.set_workers(2);
        panel.traffic().count(200, 1, Duration::from_millis(7), 100, None);
        panel.traffic().count(502, 2, Duration::from_millis(7), 0, Some(1));
        panel.traffic().count(400, 0, Duration::ZERO, 0, Some(0));
        panel.set_mode(Mode::Paused, Duration::ZERO);
        let (old, new) = (panel.pulse(0), panel.pulse(1));
        old.connections.store(7, Relaxed);
        new.connections.store(3, Relaxed);
        new.tick_ms.store(9_900, Relaxed);
        let page = page(&board, &panel);
        says(&page, "appliance_http_requests_total{code=\"200\",worker=\"1\"} 1");
        says(&page, "appliance_http_requests_total{code=\"400\",worker=\"\"} 1");
        says(&page, "appliance_http_failures_total{reason=\"worker-died\"} 1");
        says(&page, "appliance_http_request_duration_seconds_bucket{le=\"0.01\"} 3");
        says(&page, "appliance_http_request_duration_seconds_sum 0.014");
        says(&page, "appliance_mode{mode=\"paused\"} 1");
        says(&page, "appliance_http_connections 3");
    }

    #[test]
    fn a_workers_counters_do_not_begin_anew_with_its_lives() {
        let (board, panel) = (Board::create(1).unwrap(), Panel::create().unwrap());
        panel.set_workers(1);
        for life in 0..3 {
            panel.annals().count_start(1);
            let slot = board.slot(1, life);
            slot.claim(1, life, u32::MAX);
            slot.set_state(State::Ready);
            slot.busy.store(u32::MAX, Relaxed);
            slot.count_latency(Duration::from_millis(20));
        }
        let page = page(&board, &panel);
        says(&page, "appliance_worker_requests_total{worker=\"1\"} 3");
        says(&page, "appliance_worker_starts_total{worker=\"1\"} 3");
        says(&page, "appliance_worker_cores_busy{worker=\"1\"} 10");
        says(&page, "appliance_worker_ready{worker=\"1\"} 1");
        says(&page, "appliance_worker_request_duration_seconds_bucket{worker=\"1\",le=\"0.025\"} 3");
    }
}
