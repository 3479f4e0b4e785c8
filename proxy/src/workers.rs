//! The workers as the proxy process sees them: what the board says plus the requests that this process has given out, and the
//! queue of those for which no worker has a free core. `relay.rs` reserves a worker here for each try. All proxy threads share one. It must
//! never connect to a worker; that is the business of `link.rs` and `hop.rs`.
use crate::balance::{Seen, choose};
use crate::error::Failure;
use crate::queue::Queue;
use crate::retry::Route;
use crate::{Mode, Occurrence, Pulse, Upstreams, WorkerId};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// All workers.
pub(crate) struct Workers {
    upstreams: Arc<dyn Upstreams>,
    /// `timeouts.queue`: how long one request may wait here in all.
    patience: Duration,
    pub(crate) queue: Queue,
    /// One for each worker that there can ever be.
    given: Box<[Given]>,
    tickets: AtomicU64,
}

/// What one worker has got from this process.
#[derive(Default)]
struct Given {
    /// Requests that are not over.
    in_flight: AtomicU32,
    /// Those among them that have a core or want one: not those whose body is still awaited from the client, nor those whose
    /// answer has begun, of which only the worker knows.
    wanting: AtomicU32,
}

/// A request's place at a worker; given back when dropped.
pub(crate) struct Seat {
    pub(crate) worker: WorkerId,
    /// The process that the board named when the place was taken.
    pub(crate) instance: u32,
    wants_core: bool,
    workers: Arc<Workers>,
}

impl Workers {
    /// `most`: how many requests may wait here; `patience`: how long each.
    pub(crate) fn new(upstreams: Arc<dyn Upstreams>, most: usize, patience: Duration) -> Arc<Self> {
        let given = (0..upstreams.capacity()).map(|_| Given::default()).collect();
        Arc::new(Self { upstreams, patience, queue: Queue::new(most), given, tickets: AtomicU64::new(0) })
    }

    /// How many there are at this moment.
    pub(crate) fn count(&self) -> u32 {
        self.upstreams.count()
    }

    /// The path of a worker's socket.
    pub(crate) fn socket(&self, worker: WorkerId) -> &Path {
        self.upstreams.socket(worker)
    }

    pub(crate) fn is_replaced(&self) -> bool {
        self.upstreams.is_replaced()
    }

    /// What is to be done with requests.
    pub(crate) fn mode(&self) -> Mode {
        self.upstreams.mode()
    }

    /// Counts what has happened.
    pub(crate) fn count_in(&self, what: Occurrence) {
        self.upstreams.count_in(what);
    }

    /// Tells the master how things are in this process.
    pub(crate) fn publish(&self, pulse: &Pulse) {
        self.upstreams.publish(pulse);
    }

    /// Whether a worker has ever been ready.
    pub(crate) fn has_served(&self) -> bool {
        self.upstreams.has_served()
    }

    /// The page of `/metrics`.
    pub(crate) fn metrics(&self, pulse: &Pulse) -> String {
        self.upstreams.metrics(pulse)
    }

    /// When clients may come again that get this answer; `None`: it does not help.
    pub(crate) fn retry_after(&self, failure: Failure) -> Option<Duration> {
        let soonest = Duration::from_secs(1);
        match failure {
            Failure::Maintenance | Failure::CrashLoop => Some(self.upstreams.retry_after().max(soonest)),
            _ => failure.is_passing().then_some(soonest),
        }
    }

    /// Every worker, in the order of their numbers.
    pub(crate) fn seen(&self) -> impl Iterator<Item = Seen> {
        let count = self.count() as usize;
        self.given.iter().take(count).zip(1..).map(|(given, worker)| Seen {
            worker,
            load: self.upstreams.load(worker),
            in_flight: given.in_flight.load(Relaxed),
            wanting: given.wanting.load(Relaxed),
        })
    }

    /// Whether a worker takes requests.
    pub(crate) fn is_any_ready(&self) -> bool {
        self.seen().any(|one| one.takes_requests())
    }

    /// A place for the next try of a request, at a worker with a free core; waits in the queue while there is none, and
    /// comes behind all who came before. `is_up` says whether a worker can be reached at once.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        route: &mut Route,
        is_up: impl Fn(WorkerId) -> bool,
    ) -> Result<Seat, Failure> {
        let was_admitted = route.ticket.is_some();
        let ticket = *route.ticket.get_or_insert_with(|| self.tickets.fetch_add(1, Relaxed));
        if self.queue.length() == 0
            && let Some(seat) = self.look(route, &is_up)?
        {
            return Ok(seat);
        }
        self.refuse_by_mode(route)?;
        let place = self.queue.enter(ticket, was_admitted).ok_or(Failure::QueueFull)?;
        let since = Instant::now();
        let until = since + self.patience.saturating_sub(route.waited);
        let found = loop {
            if place.is_first()
                && let Some(found) = self.look(route, &is_up).transpose()
            {
                break found;
            }
            if timeout_at(until, place.next_look()).await.is_err() {
                break Err(self.why_it_waited());
            }
            if route.full {
                route.tried.clear();
            }
        };
        route.waited += since.elapsed();
        found
    }

    /// One look at all workers: a place for this request, if there is one now.
    fn look(
        self: &Arc<Self>,
        route: &Route,
        is_up: &impl Fn(WorkerId) -> bool,
    ) -> Result<Option<Seat>, Failure> {
        self.refuse_by_mode(route)?;
        if self.mode() == Mode::Paused {
            return Ok(None);
        }
        let is_new = |one: &Seen| !route.tried.contains(&one.worker);
        // One that has just died seems to be free too, so those come first that can be reached.
        let seat = self.try_reserve(route, |one| is_new(one) && is_up(one.worker));
        let seat = seat.or_else(|| self.try_reserve(route, is_new));
        // A worker that failed this request is the last choice; one with a full backlog needs a pause first.
        Ok(seat.or_else(|| if route.full { None } else { self.try_reserve(route, |_| true) }))
    }

    /// Whether there is no use in waiting. A request that has been with a worker already runs, and what runs is finished.
    fn refuse_by_mode(&self, route: &Route) -> Result<(), Failure> {
        match self.mode() {
            Mode::Maintenance if route.tries == 0 => Err(Failure::Maintenance),
            Mode::CrashLoop if !self.is_any_ready() => Err(Failure::CrashLoop),
            _ => Ok(()),
        }
    }

    /// Why a request has waited for all of its time.
    fn why_it_waited(&self) -> Failure {
        match self.mode() {
            Mode::Paused => Failure::Paused,
            _ if self.is_any_ready() => Failure::QueueTimeout,
            _ => Failure::NoWorker,
        }
    }

    fn try_reserve(self: &Arc<Self>, route: &Route, is_wanted: impl Fn(&Seen) -> bool) -> Option<Seat> {
        // Tickets follow each other, so equal workers take turns. What is cut off does not matter.
        let turn = route.ticket.unwrap_or_default() as u32;
        let seen = self.seen().filter(|one| one.free() > 0 && is_wanted(one));
        let chosen = choose(seen, self.count(), turn)?;
        let given = &self.given[chosen.worker as usize - 1];
        given.in_flight.fetch_add(1, Relaxed);
        given.wanting.fetch_add(1, Relaxed);
        let (worker, instance) = (chosen.worker, chosen.load.instance);
        Some(Seat { worker, instance, wants_core: true, workers: self.clone() })
    }
}

impl Seat {
    /// Whether the request has a core or wants one, as far as this process knows.
    pub(crate) fn set_wants_core(&mut self, wants_core: bool) {
        if self.wants_core == wants_core {
            return;
        }
        self.wants_core = wants_core;
        if wants_core {
            self.given().wanting.fetch_add(1, Relaxed);
        } else {
            self.given().wanting.fetch_sub(1, Relaxed);
            self.workers.queue.wake_first();
        }
    }

    fn given(&self) -> &Given {
        &self.workers.given[self.worker as usize - 1]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.given().in_flight.fetch_sub(1, Relaxed);
        if self.wants_core {
            self.given().wanting.fetch_sub(1, Relaxed);
        }
        self.workers.queue.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Load;
    use std::path::Path;
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    /// Workers with four cores each; a test changes what they say.
    struct Site {
        loads: Mutex<Vec<Load>>,
        mode: Mutex<Mode>,
    }

    impl Site {
        fn new(ready: &[bool]) -> Arc<Self> {
            let load = |ready: &bool| Load { ready: *ready, instance: 7, cores: 4, ..Load::default() };
            let loads = Mutex::new(ready.iter().map(load).collect());
            Arc::new(Self { loads, mode: Mutex::default() })
        }

        fn change(&self, worker: WorkerId, change: impl FnOnce(&mut Load)) {
            change(&mut self.loads.lock().unwrap()[worker as usize - 1]);
        }

        fn set_mode(&self, mode: Mode) {
            *self.mode.lock().unwrap() = mode;
        }
    }

    impl Upstreams for Site {
        fn count(&self) -> u32 {
            self.capacity()
        }

        fn capacity(&self) -> u32 {
            self.loads.lock().unwrap().len() as u32
        }

        fn socket(&self, _worker: WorkerId) -> &Path {
            Path::new("/nowhere")
        }

        fn load(&self, worker: WorkerId) -> Load {
            self.loads.lock().unwrap()[worker as usize - 1]
        }

        fn mode(&self) -> Mode {
            *self.mode.lock().unwrap()
        }

        fn retry_after(&self) -> Duration {
            Duration::ZERO
        }

        fn publish(&self, _pulse: &Pulse) {}

        fn count_in(&self, _what: Occurrence) {}

        fn has_served(&self) -> bool {
            true
        }

        fn metrics(&self, _pulse: &Pulse) -> String {
            String::new()
        }
    }

    const PATIENT: Duration = Duration::from_secs(60);

    fn workers(site: &Arc<Site>, most: usize, patience: Duration) -> Arc<Workers> {
        Workers::new(site.clone(), most, patience)
    }

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn reserve(workers: &Arc<Workers>, route: &mut Route) -> Result<Seat, Failure> {
        wait(workers.reserve(route, |_| true))
    }

    /// Takes every core.
    fn fill(workers: &Arc<Workers>) -> Vec<Seat> {
        let cores: u32 = workers.seen().map(|one| one.load.cores).sum();
        (0..cores).map(|_| reserve(workers, &mut Route::default()).unwrap()).collect()
    }

    #[test]
    fn seats_are_counted_until_they_are_left() {
        let workers = workers(&Site::new(&[true, true]), 9, PATIENT);
        let first = reserve(&workers, &mut Route::default()).unwrap();
        let second = reserve(&workers, &mut Route::default()).unwrap();
        assert_ne!(first.worker, second.worker);
        assert!(workers.seen().all(|one| (one.in_flight, one.wanting) == (1, 1)));
        drop((first, second));
        assert!(workers.seen().all(|one| (one.in_flight, one.wanting) == (0, 0)));
    }

    #[test]
    fn a_request_whose_body_is_awaited_takes_no_core() {
        let workers = workers(&Site::new(&[true]), 0, PATIENT);
        let mut seats = fill(&workers);
        assert_eq!(reserve(&workers, &mut Route::default()).err(), Some(Failure::QueueFull));
        seats[0].set_wants_core(false);
        let other = reserve(&workers, &mut Route::default());
        assert!(other.is_ok());
        seats[0].set_wants_core(true);
        drop((seats, other));
        assert!(workers.seen().all(|one| (one.in_flight, one.wanting) == (0, 0)));
    }

    #[test]
    fn a_worker_that_failed_is_the_last_choice() {
        let tried = |tried: &[WorkerId]| Route { tried: tried.to_vec(), ..Route::default() };
        let workers = workers(&Site::new(&[true, true]), 9, PATIENT);
        assert_eq!(reserve(&workers, &mut tried(&[1])).ok().map(|seat| seat.worker), Some(2));
        assert!(reserve(&workers, &mut tried(&[1, 2])).is_ok());
    }

    #[test]
    fn a_worker_that_cannot_be_reached_is_better_than_none() {
        let workers = workers(&Site::new(&[true, true]), 9, PATIENT);
        for _ in 0..3 {
            let mut route = Route::default();
            let seat = wait(workers.reserve(&mut route, |worker| worker == 2)).unwrap();
            assert_eq!(seat.worker, 2);
            assert!(wait(workers.reserve(&mut route, |_| false)).is_ok());
        }
    }

    #[test]
    fn a_stalled_worker_gets_nothing() {
        let site = Site::new(&[true, true]);
        let workers = workers(&site, 0, PATIENT);
        site.change(1, |load| load.stalled = true);
        assert_eq!(reserve(&workers, &mut Route::default()).ok().map(|seat| seat.worker), Some(2));
        site.change(2, |load| load.stalled = true);
        assert_eq!(reserve(&workers, &mut Route::default()).err(), Some(Failure::QueueFull));
        site.change(2, |load| load.stalled = false);
        assert!(reserve(&workers, &mut Route::default()).is_ok());
    }

    #[test]
    fn patience_ends() {
        let patience = Duration::from_millis(20);
        let site = Site::new(&[false]);
        let workers = workers(&site, 9, patience);
        assert_eq!(reserve(&workers, &mut Route::default()).err(), Some(Failure::NoWorker));
        site.change(1, |load| load.ready = true);
        let waited = Route { tried: vec![1], full: true, waited: patience, ..Route::default() };
        assert_eq!(reserve(&workers, &mut { waited }).err(), Some(Failure::QueueTimeout));
        let _all = fill(&workers);
        assert_eq!(reserve(&workers, &mut Route::default()).err(), Some(Failure::QueueTimeout));
        assert_eq!((workers.queue.length(), workers.queue.served().0), (0, 3));
    }

    #[test]
    fn those_who_wait_are_served_in_the_order_they_came() {
        let workers = workers(&Site::new(&[true]), 9, PATIENT);
        let mut seats = fill(&workers);
        let mut routes = [Route::default(), Route::default(), Route { tries: 1, ..Route::default() }];
        // The last one has been at a worker before the others came.
        (routes[0].ticket, routes[1].ticket, routes[2].ticket) = (Some(8), Some(9), Some(0));
        let mut waiting: Vec<_> =
            routes.iter_mut().map(|route| Some(Box::pin(workers.reserve(route, |_| true)))).collect();
        wait(async {
            let mut poll_all = || {
                let mut cx = Context::from_waker(Waker::noop());
                let mut served = Vec::new();
                for (number, request) in waiting.iter_mut().enumerate() {
                    if let Some(Poll::Ready(seat)) = request.as_mut().map(|one| one.as_mut().poll(&mut cx)) {
                        *request = None;
                        served.push((number, seat.unwrap()));
                    }
                }
                served
            };
            let mut order = Vec::new();
            assert!(poll_all().is_empty());
            while let Some(seat) = seats.pop().filter(|_| order.len() < 3) {
                drop(seat);
                order.extend(poll_all());
            }
            assert_eq!(order.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 0, 1]);
        });
    }

    #[test]
    fn whoever_comes_back_finds_a_place_though_the_queue_is_full() {
        let workers = workers(&Site::new(&[true]), 0, Duration::from_millis(20));
        let seats = fill(&workers);
        // A worker had more to do than was known here when it was chosen, which counts as no try.
        let mut back = Route { ticket: Some(0), tried: vec![1], full: true, ..Route::default() };
        assert_eq!(reserve(&workers, &mut back).err(), Some(Failure::QueueTimeout));
        drop(seats);
        let mut back = Route { ticket: Some(1), tried: vec![1], full: true, ..Route::default() };
        assert!(reserve(&workers, &mut back).is_ok());
    }

    #[test]
    fn a_full_queue_takes_nobody() {
        let workers = workers(&Site::new(&[false]), 0, PATIENT);
        assert_eq!(reserve(&workers, &mut Route::default()).err(), Some(Failure::QueueFull));
    }

    #[test]
    fn modes_say_what_becomes_of_requests() {
        let site = Site::new(&[true]);
        let workers = workers(&site, 9, Duration::from_millis(20));
        let outcome = |mode, tries| {
            site.set_mode(mode);
            reserve(&workers, &mut Route { tries, ..Route::default() }).err()
        };
        assert_eq!(outcome(Mode::Paused, 0), Some(Failure::Paused));
        assert_eq!(outcome(Mode::Maintenance, 0), Some(Failure::Maintenance));
        assert_eq!(outcome(Mode::Maintenance, 1), None, "what runs is finished");
        assert_eq!(outcome(Mode::Leaving, 0), None);
        assert_eq!(outcome(Mode::CrashLoop, 0), None, "a worker lives");
        site.change(1, |load| load.ready = false);
        assert_eq!(outcome(Mode::CrashLoop, 0), Some(Failure::CrashLoop));
        assert_eq!(workers.retry_after(Failure::CrashLoop), Some(Duration::from_secs(1)), "never 0");
    }

    #[test]
    fn a_pause_holds_requests_until_it_ends() {
        let site = Site::new(&[true]);
        let workers = workers(&site, 9, PATIENT);
        site.set_mode(Mode::Paused);
        let seat = wait(async {
            let mut route = Route::default();
            let mut seat = std::pin::pin!(workers.reserve(&mut route, |_| true));
            assert!(seat.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            site.set_mode(Mode::Serving);
            seat.await
        });
        assert!(seat.is_ok());
    }
}
