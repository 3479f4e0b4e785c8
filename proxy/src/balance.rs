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
    /// Requests that this proxy has given to it and that are not over.
    pub(crate) in_flight: u32,
    /// Those of them that have a core or want one, as far as this proxy knows. The board lags behind by one loop turn, in
    /// which a burst would otherwise all go to the same worker.
    pub(crate) wanting: u32,
}

impl Seen {
    /// Whether it takes new requests.
    pub(crate) fn takes_requests(&self) -> bool {
        self.load.ready && !self.load.stalled
    }

    /// Cores that would run a request at once.
    pub(crate) fn free(&self) -> u32 {
        self.load.cores.saturating_sub(self.load.busy.saturating_add(self.load.waiting).max(self.wanting))
    }
}

/// Of the workers that take requests, the one with the most free cores, then with the fewest requests; equals take turns.
/// `None`: there is none in `seen`. `count` is the number of all workers, `turn` grows by one with each request.
pub(crate) fn choose(seen: impl Iterator<Item = Seen>, count: u32, turn: u32) -> Option<Seen> {
    let count = count.max(1);
    let distance = |worker: WorkerId| (worker % count + count - turn % count) % count;
    seen.filter(Seen::takes_requests)
        .min_by_key(|one| (Reverse(one.free()), one.in_flight, distance(one.worker)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers 1.. with (busy, waiting, in flight, wanting), four cores each.
    fn seen(states: &[(u32, u32, u32, u32)]) -> Vec<Seen> {
        let one = |(i, &(busy, waiting, in_flight, wanting)): (usize, &(u32, u32, u32, u32))| Seen {
            worker: i as WorkerId + 1,
            load: Load { ready: true, stalled: false, instance: 7, cores: 4, busy, waiting },
            in_flight,
            wanting,
        };
        states.iter().enumerate().map(one).collect()
    }

    fn chosen(states: &[(u32, u32, u32, u32)], turn: u32) -> Option<WorkerId> {
        choose(seen(states).into_iter(), states.len() as u32, turn).map(|one| one.worker)
    }

    #[test]
    fn most_free_cores_win() {
        assert_eq!(chosen(&[(1, 0, 0, 0), (0, 0, 0, 0)], 0), Some(2));
        assert_eq!(chosen(&[(1, 0, 0, 0), (0, 0, 2, 2)], 0), Some(1), "own requests count");
        assert_eq!(chosen(&[(1, 0, 0, 0), (0, 2, 0, 0)], 0), Some(1), "so do those that wait for a core");
    }

    #[test]
    fn requests_that_want_no_core_count_least() {
        assert_eq!(chosen(&[(1, 0, 0, 0), (0, 0, 9, 0)], 0), Some(2));
        assert_eq!(chosen(&[(0, 0, 8, 0), (0, 0, 7, 0)], 0), Some(2));
    }

    #[test]
    fn equals_take_turns() {
        let equal = [(0, 0, 0, 0); 3];
        let mut order: Vec<_> = (0..6).filter_map(|turn| chosen(&equal, turn)).collect();
        assert_eq!(order[..3], order[3..]);
        order.truncate(3);
        order.sort_unstable();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn only_workers_that_are_ready_and_awake_are_chosen() {
        let mut three = seen(&[(0, 0, 0, 0), (0, 0, 0, 0), (4, 9, 0, 0)]);
        (three[0].load.ready, three[1].load.stalled) = (false, true);
        assert_eq!(choose(three.into_iter(), 3, 0).map(|one| one.worker), Some(3));
        assert_eq!(chosen(&[], 0), None);
    }

    #[test]
    fn scribbled_numbers_do_no_harm() {
        let load =
            Load { ready: true, stalled: false, instance: 0, cores: 0, busy: u32::MAX, waiting: u32::MAX };
        let one = Seen { worker: 1, load, in_flight: u32::MAX, wanting: u32::MAX };
        assert_eq!(choose([one].into_iter(), 0, u32::MAX), Some(one));
    }
}
