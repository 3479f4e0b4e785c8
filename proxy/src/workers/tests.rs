//! Who gets which worker, and who waits: against made-up workers whose state a test sets.
use super::*;
use crate::{Load, Style};
use appliance_config::settings::Log;
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

    fn log_style(&self, _log: &Log) -> Option<Style> {
        None
    }

    fn write_log(&self, _lines: &[u8]) {}

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

/// Time goes on only while nothing else can be done.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
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
