//! What has happened between two looks at the counters. Pure. A counter belongs to a process: that of a new one begins at 0.
use crate::control::status::{Proxy, Status, Worker};
use std::collections::BTreeMap;
use std::time::Duration;

/// Per second, since the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Requests finished, of all workers.
    pub requests: f64,
    /// Of these, errors of the application.
    pub exceptions: f64,
    /// Requests finished, by process id of the worker.
    pub by_worker: BTreeMap<i32, f64>,
    /// How long a request that had to wait for a worker has waited, on average; `None`: none had to.
    pub wait: Option<Duration>,
}

impl Rates {
    /// From one look to the next.
    pub fn between(before: &Status, after: &Status, elapsed: Duration) -> Rates {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let workers: BTreeMap<i32, &Worker> = by_pid(&before.workers, |worker| worker.pid);
        let mut rates = Rates::default();
        for worker in &after.workers {
            let Some(pid) = worker.pid else { continue };
            let old = workers.get(&pid);
            let grown = |of: fn(&Worker) -> u64| of(worker).saturating_sub(old.map_or(0, |&old| of(old)));
            let requests = grown(|worker| worker.requests) as f64 / seconds;
            rates.requests += requests;
            rates.exceptions += grown(|worker| worker.exceptions) as f64 / seconds;
            rates.by_worker.insert(pid, requests);
        }
        rates.wait = wait(&before.proxy, &after.proxy);
        rates
    }
}

fn wait(before: &[Proxy], after: &[Proxy]) -> Option<Duration> {
    let old = by_pid(before, |proxy| Some(proxy.process.pid));
    let grown = |of: fn(&Proxy) -> u64| -> u64 {
        let of_one =
            |proxy: &Proxy| of(proxy).saturating_sub(old.get(&proxy.process.pid).map_or(0, |&old| of(old)));
        after.iter().map(of_one).sum()
    };
    grown(|proxy| proxy.queue_us).checked_div(grown(|proxy| proxy.dequeued)).map(Duration::from_micros)
}

fn by_pid<T>(list: &[T], pid: impl Fn(&T) -> Option<i32>) -> BTreeMap<i32, &T> {
    list.iter().filter_map(|one| Some((pid(one)?, one))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::Process;

    fn worker(pid: i32, requests: u64) -> Worker {
        Worker { pid: Some(pid), requests, exceptions: requests / 10, ..Worker::default() }
    }

    fn proxy(dequeued: u64, queue_us: u64) -> Vec<Proxy> {
        let process = Process { pid: 5, ..Process::default() };
        vec![Proxy { process, dequeued, queue_us, ..Proxy::default() }]
    }

    #[test]
    fn counters_become_rates_and_a_new_process_begins_at_nothing() {
        let before = Status { workers: vec![worker(1, 100), worker(2, 1000)], ..Status::default() };
        let after = Status { workers: vec![worker(1, 300), worker(3, 50)], ..Status::default() };
        let rates = Rates::between(&before, &after, Duration::from_secs(2));
        assert_eq!((rates.requests, rates.exceptions), (125.0, 12.5));
        assert_eq!(rates.by_worker, BTreeMap::from([(1, 100.0), (3, 25.0)]));
        assert_eq!(rates.wait, None);
    }

    #[test]
    fn waiting_is_averaged_over_those_who_have_waited() {
        let before = Status { proxy: proxy(10, 1_000), ..Status::default() };
        let after = Status { proxy: proxy(14, 9_000), ..Status::default() };
        let wait = |before, after| Rates::between(before, after, Duration::from_secs(1)).wait;
        assert_eq!(wait(&before, &after), Some(Duration::from_millis(2)));
        assert_eq!(wait(&after, &after), None);
    }
}
