//! The master's looks at its processes: once a second what they publish on the board and the panel, and more rarely what costs
//! more to learn. It only reads; what follows is up to the fleet.
use super::Master;
use crate::child::{Child, Role};
use crate::fleet::{Event, Queue, Vitals};
use appliance_worker::board::Slot;
use nix::unistd::Pid;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Memory is measured this often: the kernel walks over all pages of a process to sum up what is its own.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

impl Master {
    /// What is due to be looked at now.
    pub(super) fn look(&mut self, now: Instant) -> Option<Event> {
        if self.fleet.next_look(now).is_none_or(|at| at > now) {
            return None;
        }
        self.free_locks();
        self.lines.refresh();
        // An order that comes to nothing leaves its line behind.
        self.lines.keep(|(worker, life)| self.fleet.has_seat(worker, life));
        let is_due = self.settings.workers.max_memory.is_some()
            && self.measured.is_none_or(|last| last + MEASURE_EVERY <= now);
        if is_due {
            self.measured = Some(now);
        }
        let mut all: Vec<Vitals> =
            self.fleet.children().iter().filter_map(|child| self.vitals(child)).collect();
        for vitals in all.iter_mut().filter(|_| is_due) {
            vitals.memory = memory(vitals.pid);
        }
        Some(Event::Looked { all, queue: self.queue() })
    }

    /// What a child publishes; a place that another process has taken says nothing of it.
    fn vitals(&self, child: &Child) -> Option<Vitals> {
        let vitals = Vitals::of(child.pid);
        let is_its_own = |pid: &AtomicU32| pid.load(Relaxed) == child.pid.as_raw().unsigned_abs();
        match child.role {
            // Nobody has put a stranger on the board.
            Role::Worker(worker) if !self.fleet.has_place(worker) => None,
            Role::Worker(worker) => {
                let slot = self.board.slot(worker, child.life);
                is_its_own(&slot.pid).then(|| self.vitals_of_worker(slot, vitals))
            }
            Role::Proxy => {
                let pulse = self.panel.pulse(child.generation);
                is_its_own(&pulse.pid).then(|| Vitals { tick_ms: pulse.tick_ms.load(Relaxed), ..vitals })
            }
            Role::Template => None,
        }
    }

    fn vitals_of_worker(&self, slot: &Slot, vitals: Vitals) -> Vitals {
        let cores = self.settings.workers.cores;
        let waiting = u32::try_from(self.settings.limits.waiting).unwrap_or(u32::MAX);
        Vitals {
            tick_ms: slot.tick_ms.load(Relaxed),
            requests: slot.requests.load(Relaxed),
            cores: slot.cores.load(Relaxed).min(cores),
            busy: slot.busy.load(Relaxed).min(cores),
            waiting: slot.waiting.load(Relaxed).min(waiting),
            ..vitals
        }
    }

    /// What waits in the proxies.
    fn queue(&self) -> Queue {
        let mut queue = Queue::default();
        for child in self.fleet.children().iter().filter(|child| child.role == Role::Proxy) {
            let pulse = self.panel.pulse(child.generation);
            queue.queued += u64::from(pulse.queued.load(Relaxed));
            queue.dequeued += pulse.dequeued.load(Relaxed);
            queue.waited += Duration::from_micros(pulse.queue_us.load(Relaxed));
        }
        queue
    }
}

/// Memory of a process in bytes, its share of what it has in common with others included; where the kernel does not tell
/// that, all that is resident.
fn memory(pid: Pid) -> Option<u64> {
    let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let line = |text: String, name: &str| kib(&text, name);
    let own = file("smaps_rollup").and_then(|text| line(text, "Pss:"));
    own.or_else(|| file("status").and_then(|text| line(text, "VmRSS:")))
}

/// The value in bytes of a line such as `Pss:    1234 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says() {
        assert_eq!(kib("Rss:  10 kB\nPss:     7 kB\nPss_Dirty: 3 kB\n", "Pss:"), Some(7 * 1024));
        assert_eq!(kib("garbage", "Pss:"), None);
        assert!(memory(Pid::this()).is_some_and(|bytes| bytes > 100 * 1024));
    }
}
