//! From a request that is ready to a core that runs it: it claims a core or waits for one, and whatever has claimed a core
//! is entered together. So the requests of one read run without a system call in between, and what the proxy must know
//! before an application sees a request is sent once for all of them.
use super::access::End;
use super::{Engine, Place, Serving, WHOLE, Way, entry};
use crate::answer::Cause;
use crate::app::{Host, Received, Request};
use crate::board;
use crate::cores::CoreId;
use crate::errand::Errand;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A request that holds a core and has not been entered.
#[derive(Debug)]
struct Claim {
    core: CoreId,
    request: Request,
    /// Up to which place the link must have sent before, so that the proxy knows of it.
    told_at: Option<u64>,
}

/// See [`Claim`].
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// In the order they came.
    ready: VecDeque<Claim>,
    /// The proxy is being told of them, and the kernel has not taken all of that yet.
    announced: Vec<Claim>,
}

impl Claims {
    fn add(&mut self, core: CoreId, request: Request) {
        self.ready.push_back(Claim { core, request, told_at: None });
    }

    /// The core of a request that will not be entered.
    fn take(&mut self, place: Place) -> Option<CoreId> {
        let is_it = |claim: &Claim| claim.request.place == place;
        if let Some(at) = self.announced.iter().position(is_it) {
            return Some(self.announced.swap_remove(at).core);
        }
        let at = self.ready.iter().position(is_it)?;
        self.ready.remove(at).map(|claim| claim.core)
    }
}

impl Engine {
    /// A request is complete enough to run: it claims a core, waits for one, or is told that there are too many.
    pub(super) fn dispatch(&self, place: Place, received: Box<Received>, announce: bool) {
        let arrived = self.now.get();
        let (peer, told) = match entry(&mut self.conns.borrow_mut(), place.conn) {
            Some(entry) => (Arc::clone(&entry.peer), entry.begin_line(&received, arrived)),
            None => return,
        };
        let limit = received.head.facts().map(|facts| facts.deadline_ms).filter(|millis| *millis > 0);
        let deadline = limit.map(|millis| arrived + Duration::from_millis(millis.into()));
        let request =
            Request { received, peer, arrived, number: 0, deadline, place, told, announce, errand: None };
        let mut cores = self.cores.borrow_mut();
        if cores.waiting() == 0
            && let Some(core) = cores.claim()
        {
            return self.claims.borrow_mut().add(core, request);
        }
        if cores.waiting() < self.boot.waiting {
            cores.push_waiting(request);
            self.slot().waiting.store(cores.waiting() as u32, Relaxed);
            return;
        }
        drop(cores);
        self.reject(&request);
    }

    fn reject(&self, request: &Request) {
        tracing::warn!(worker = self.boot.worker_id, "every core is busy and limits.waiting is reached: 503");
        let (sentence, place) = ("every core is busy; try again in a moment", request.place);
        let head_only = request.received.head.method() == "HEAD";
        if place.stream != WHOLE {
            let date = self.date.borrow();
            self.on_link(place.conn, |link| {
                link.reject(place.stream, (503, Cause::Busy), sentence, &date, head_only)
            });
            return;
        }
        let step = self.tell(place.conn, |http, cx| {
            self.end_line(http, End::refused(503, Cause::Busy, sentence, head_only), cx.now);
            http.conn.reject(503, sentence, head_only, cx)
        });
        if let Some(step) = step {
            self.follow(place.conn, step);
        }
    }

    /// The client of the request on this core has left: the core goes on, if it waits for that client, and the host hears of
    /// it afterwards.
    pub(super) fn note_left(&self, core: CoreId) {
        self.wake(core);
        if self.boot.cancel_on_disconnect {
            self.left.borrow_mut().push(core);
        }
    }

    /// Tells the host whose clients have left. Those that have come to their end meanwhile are passed over.
    pub(super) fn tell_who_left(&self, host: &dyn Host) {
        if self.left.borrow().is_empty() {
            return;
        }
        for core in self.left.take() {
            let is_served = self.place_of(core).is_some();
            if is_served {
                host.client_left(core);
            }
        }
    }

    /// The client of a request has left. One that waits for a core is forgotten, and true. One that has claimed a core is
    /// entered all the same: a client that sends and leaves at once has sent a request.
    pub(super) fn forget_waiting(&self, place: Place) -> bool {
        let mut cores = self.cores.borrow_mut();
        let before = cores.waiting();
        cores.retain_waiting(|request| request.place != place);
        let has_waited = cores.waiting() < before;
        drop(cores);
        self.publish_cores();
        has_waited
    }

    /// A request that no core has begun with has been taken back: whoever sent it may send it elsewhere.
    pub(super) fn withdraw(&self, place: Place) {
        if let Some(core) = self.claims.borrow_mut().take(place) {
            self.cores.borrow_mut().release(core);
        } else {
            self.cores.borrow_mut().retain_waiting(|request| request.place != place);
        }
        self.publish_cores();
    }

    /// Free cores take the requests that wait, in the order they came.
    pub(super) fn start_waiting(&self, host: &dyn Host) {
        while self.claim_for_waiting() {
            self.enter_claimed(host);
        }
    }

    /// Gives the free cores to waiting requests; false if there are none of either.
    fn claim_for_waiting(&self) -> bool {
        let mut found = false;
        loop {
            let next = self.cores.borrow_mut().take_waiting();
            let Some((core, request)) = next else { return found };
            found = true;
            if request.deadline.is_some_and(|deadline| deadline <= self.now.get()) {
                self.cores.borrow_mut().release(core);
                self.on_link(request.place.conn, |link| link.refuse(request.place.stream));
            } else {
                self.claims.borrow_mut().add(core, request);
            }
        }
    }

    /// Enters the applications with every request that has claimed a core.
    pub(super) fn enter_claimed(&self, host: &dyn Host) {
        self.announce();
        loop {
            let next = self.claims.borrow_mut().ready.pop_front();
            let Some(claim) = next else { return };
            if self.is_told(&claim) {
                self.flush_if_late();
                self.enter(host, claim.core, claim.request);
            } else {
                self.claims.borrow_mut().announced.push(claim);
            }
        }
    }

    /// Tells the proxy which requests are about to be entered, where it wants to know, with one write for each link.
    fn announce(&self) {
        let is_new = |claim: &Claim| claim.request.announce && claim.told_at.is_none();
        if !self.claims.borrow().ready.iter().any(is_new) {
            return;
        }
        // Nothing is read meanwhile, so nothing is added and nothing is taken back.
        let mut ready = std::mem::take(&mut self.claims.borrow_mut().ready);
        for claim in ready.iter_mut().filter(|claim| is_new(claim)) {
            let Place { conn, stream } = claim.request.place;
            claim.told_at = self.on_link(conn, |link| link.put_entered(stream));
        }
        self.claims.borrow_mut().ready = ready;
        self.flush_links();
    }

    fn is_told(&self, claim: &Claim) -> bool {
        let has_left = |place| self.on_link(claim.request.place.conn, |link| link.has_left(place));
        claim.told_at.and_then(has_left).unwrap_or(true)
    }

    /// Enters the requests of which the proxy has been told meanwhile.
    pub(super) fn enter_announced(&self, host: &dyn Host) {
        if self.claims.borrow().announced.is_empty() {
            return;
        }
        let announced = std::mem::take(&mut self.claims.borrow_mut().announced);
        self.claims.borrow_mut().ready.extend(announced);
        self.enter_claimed(host);
    }

    fn enter(&self, host: &dyn Host, core: CoreId, mut request: Request) {
        request.number = self.begun.get() + 1;
        self.begun.set(request.number);
        let place = request.place;
        let is_there = match entry(&mut self.conns.borrow_mut(), place.conn).map(|entry| &mut entry.way) {
            Some(Way::Http(http)) => {
                http.core = Some(core);
                let (is_there, now) = (!http.conn.has_left(), self.latest.get());
                http.line.iter_mut().for_each(|line| line.enter(core, is_there, now));
                is_there
            }
            Some(Way::Link(link)) => link.enter(place.stream, core),
            // Nobody can leave an errand.
            None => place == Place::NOWHERE,
        };
        let (arrived, head_only) = (request.arrived, request.received.head.method() == "HEAD");
        self.serving.borrow_mut()[core.index as usize] = Some(Serving { place, arrived, head_only });
        self.publish_cores();
        self.begin_limit(core);
        self.roll.enter(core, &request, self.latest.get());
        self.roll.set_running(Some(core));
        let is_signal = matches!(request.errand.as_deref(), Some(Errand::Signal(_)));
        board::add(&self.slot().signals, u64::from(is_signal));
        host.start(core, request);
        self.roll.set_running(None);
        if !self.cores.borrow().is_live(core) {
            return;
        }
        if !is_there {
            self.note_left(core);
        } else if self.tell(place.conn, |http, _| http.conn.may_have_ended()) == Some(true) {
            self.pending.borrow_mut().push(place.conn);
        }
    }

    pub(super) fn publish_cores(&self) {
        let cores = self.cores.borrow();
        self.slot().busy.store(cores.busy() as u32, Relaxed);
        self.slot().waiting.store(cores.waiting() as u32, Relaxed);
    }
}
