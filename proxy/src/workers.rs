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
mod tests;
