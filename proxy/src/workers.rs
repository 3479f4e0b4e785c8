//! The workers as the proxy process sees them: what the board says plus the requests that this process has given out.
//! `relay.rs` and `gateway.rs` reserve a worker here for each try. All proxy threads share one. It must never connect to a
//! worker; that is the business of `link.rs`, and of `hop.rs` and pingora.
use crate::balance::{Seen, choose};
use crate::error::Failure;
use crate::retry::Route;
use crate::{Upstreams, WorkerId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// How long a request is held while no worker can take it: long enough for a replaced worker to come back from its fork,
/// short enough that clients and balancers in front have not given up (nginx waits 60 s, Kubernetes probes 1–10 s).
pub(crate) const HOLD: Duration = Duration::from_secs(10);

/// Pause between two looks at the board while a request is held: a worker's start takes tens of milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// All workers.
pub(crate) struct Workers {
    upstreams: Arc<dyn Upstreams>,
    hold: Duration,
    in_flight: Box<[AtomicU32]>,
    turn: AtomicU32,
}

/// A request's place at a worker; given back when dropped.
pub(crate) struct Seat {
    pub(crate) worker: WorkerId,
    /// The process that the board named when the place was taken.
    pub(crate) instance: u32,
    workers: Arc<Workers>,
}

impl Workers {
    /// `hold`: how long a request may wait here; `HOLD` but in tests.
    pub(crate) fn new(upstreams: Arc<dyn Upstreams>, hold: Duration) -> Arc<Self> {
        let in_flight = (0..upstreams.count()).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Self { upstreams, hold, in_flight, turn: AtomicU32::new(0) })
    }

    pub(crate) fn count(&self) -> u32 {
        self.upstreams.count()
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.upstreams.is_replaced()
    }

    /// Every worker, in the order of their numbers.
    pub(crate) fn seen(&self) -> impl Iterator<Item = Seen> {
        self.in_flight.iter().zip(1..).map(|(in_flight, worker)| Seen {
            worker,
            load: self.upstreams.load(worker),
            in_flight: in_flight.load(Relaxed),
        })
    }

    /// A place for the next try of a request: at a worker it has not been to, else at any. Waits while there is none.
    /// A free worker that can be reached at once, as `is_up` says, comes first: one that has just died seems to be free too.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        route: &mut Route,
        is_up: impl Fn(WorkerId) -> bool,
    ) -> Result<Seat, Failure> {
        loop {
            let tried = &route.tried;
            let is_new = |one: &Seen| !tried.contains(&one.worker);
            let seat = self.try_reserve(|one| is_new(one) && one.free() > 0 && is_up(one.worker));
            if let Some(seat) = seat.or_else(|| self.try_reserve(is_new)) {
                return Ok(seat);
            }
            // A worker that failed this request is the last choice; one with a full backlog needs a pause first.
            if !route.full
                && let Some(seat) = self.try_reserve(|_| true)
            {
                return Ok(seat);
            }
            let held_until = *route.held_until.get_or_insert_with(|| Instant::now() + self.hold);
            if Instant::now() >= held_until {
                return Err(if route.full { Failure::WorkersFull } else { Failure::NoWorker });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            if route.full {
                route.tried.clear();
            }
        }
    }

    fn try_reserve(self: &Arc<Self>, is_wanted: impl Fn(&Seen) -> bool) -> Option<Seat> {
        let turn = self.turn.fetch_add(1, Relaxed);
        let seen = self.seen().filter(|one| is_wanted(one));
        let chosen = choose(seen, self.count(), turn)?;
        self.in_flight[chosen.worker as usize - 1].fetch_add(1, Relaxed);
        Some(Seat { worker: chosen.worker, instance: chosen.load.instance, workers: self.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.workers.in_flight[self.worker as usize - 1].fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Load;
    use std::path::Path;

    /// Two workers, of which those in the list are ready.
    struct Ready(&'static [WorkerId]);

    impl Upstreams for Ready {
        fn count(&self) -> u32 {
            2
        }

        fn socket(&self, _worker: WorkerId) -> &Path {
            Path::new("/nowhere")
        }

        fn load(&self, worker: WorkerId) -> Load {
            Load { ready: self.0.contains(&worker), instance: 7, cores: 4, busy: 0, waiting: 0 }
        }
    }

    fn reserve(workers: &Arc<Workers>, route: &mut Route) -> Result<Seat, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(workers.reserve(route, |_| true))
    }

    #[test]
    fn seats_are_counted_until_they_are_left() {
        let workers = Workers::new(Arc::new(Ready(&[1, 2])), HOLD);
        let first = reserve(&workers, &mut Route::default()).unwrap();
        let second = reserve(&workers, &mut Route::default()).unwrap();
        assert_ne!(first.worker, second.worker);
        assert!(workers.seen().all(|one| one.in_flight == 1));
        drop((first, second));
        assert!(workers.seen().all(|one| one.in_flight == 0));
    }

    #[test]
    fn a_worker_that_failed_is_the_last_choice() {
        let tried = |tried: &[WorkerId]| Route { tried: tried.to_vec(), ..Route::default() };
        let workers = Workers::new(Arc::new(Ready(&[1, 2])), HOLD);
        assert_eq!(reserve(&workers, &mut tried(&[1])).ok().map(|seat| seat.worker), Some(2));
        assert!(reserve(&workers, &mut tried(&[1, 2])).is_ok());
    }

    #[test]
    fn a_worker_that_cannot_be_reached_is_better_than_none() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let workers = Workers::new(Arc::new(Ready(&[1, 2])), HOLD);
        for _ in 0..3 {
            let mut route = Route::default();
            let seat = runtime.block_on(workers.reserve(&mut route, |worker| worker == 2)).unwrap();
            assert_eq!(seat.worker, 2);
            assert!(runtime.block_on(workers.reserve(&mut route, |_| false)).is_ok());
        }
    }

    #[test]
    fn patience_ends() {
        let hold = Duration::from_millis(20);
        let none = Workers::new(Arc::new(Ready(&[])), hold);
        assert_eq!(reserve(&none, &mut Route::default()).err(), Some(Failure::NoWorker));
        let one = Workers::new(Arc::new(Ready(&[1])), hold);
        let past = Some(Instant::now());
        let mut full = Route { tried: vec![1], full: true, held_until: past, ..Route::default() };
        assert_eq!(reserve(&one, &mut full).err(), Some(Failure::WorkersFull));
    }
}
