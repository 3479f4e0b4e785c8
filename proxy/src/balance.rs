//! Which worker gets the next request: pure, so that every case is a table in a test. `workers.rs` asks it with what the
//! board says at that moment. It must never remember anything between two calls.
use crate::{Load, WorkerId};
use std::cmp::Reverse;

/// One worker as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) worker: WorkerId,
    /// What it last said of itself.
    pub(crate) load: Load,
    /// Requests that this proxy has given to it and that are not answered. The board lags behind by one loop turn, in which
    /// a burst would otherwise all go to the same worker.
    pub(crate) in_flight: u32,
}

impl Seen {
    /// Cores that would run a request at once.
    pub(crate) fn free(&self) -> u32 {
        self.load.cores.saturating_sub(self.load.busy.max(self.in_flight))
    }

    /// Requests that would be served before a new one.
    fn waiting(&self) -> u32 {
        self.load.waiting.max(self.in_flight.saturating_sub(self.load.cores))
    }
}

/// The ready worker with the most free cores, then the fewest waiting requests; equals take turns. `None`: no worker in
/// `seen` is ready. `count` is the number of all workers, `turn` grows by one with each request.
pub(crate) fn choose(seen: impl Iterator<Item = Seen>, count: u32, turn: u32) -> Option<Seen> {
    let count = count.max(1);
    let distance = |worker: WorkerId| (worker % count + count - turn % count) % count;
    seen.filter(|one| one.load.ready)
        .min_by_key(|one| (Reverse(one.free()), one.waiting(), distance(one.worker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers 1.. with (ready, busy, waiting, in flight), two cores each.
    fn seen(states: &[(bool, u32, u32, u32)]) -> Vec<Seen> {
        let one = |(i, &(ready, busy, waiting, in_flight)): (usize, &(bool, u32, u32, u32))| Seen {
            worker: i as WorkerId + 1,
            load: Load { ready, instance: 7, cores: 2, busy, waiting },
            in_flight,
        };
        states.iter().enumerate().map(one).collect()
    }

    fn chosen(states: &[(bool, u32, u32, u32)], turn: u32) -> Option<WorkerId> {
        choose(seen(states).into_iter(), states.len() as u32, turn).map(|one| one.worker)
    }

    #[test]
    fn most_free_cores_win() {
        assert_eq!(chosen(&[(true, 1, 0, 0), (true, 0, 0, 0)], 0), Some(2));
        assert_eq!(chosen(&[(true, 1, 0, 0), (true, 0, 0, 2)], 0), Some(1), "own requests count");
    }

    #[test]
    fn without_free_cores_the_shortest_queue_wins() {
        assert_eq!(chosen(&[(true, 2, 5, 0), (true, 2, 4, 0)], 0), Some(2));
        assert_eq!(chosen(&[(true, 2, 0, 9), (true, 2, 4, 2)], 0), Some(2));
    }

    #[test]
    fn equals_take_turns() {
        let equal = [(true, 0, 0, 0); 3];
        let mut order: Vec<_> = (0..6).filter_map(|turn| chosen(&equal, turn)).collect();
        assert_eq!(order[..3], order[3..]);
        order.truncate(3);
        order.sort_unstable();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn only_ready_workers_are_chosen() {
        assert_eq!(chosen(&[(false, 0, 0, 0), (true, 2, 9, 0)], 0), Some(2));
        assert_eq!(chosen(&[], 0), None);
    }

    #[test]
    fn scribbled_numbers_do_no_harm() {
        let load = Load { ready: true, instance: 0, cores: 0, busy: u32::MAX, waiting: u32::MAX };
        let one = Seen { worker: 1, load, in_flight: u32::MAX };
        assert_eq!(choose([one].into_iter(), 0, u32::MAX), Some(one));
    }
}
