//! Where signals go: the master's whole policy for them, as a function of what workers have registered, who of them serves, and
//! time. Pure; `master/switching.rs` has the lines and the clocks. What workers say is bounded, and believed no further than
//! that it may be passed on to other workers.
//!
//! Signals, timers and the rest are those of the generation that serves. A worker that is not there, or is being replaced, has
//! its signals kept for its successor, equal ones as one.
use crate::schedule::{Schedule, Wall};
use crate::survey::Seat;
use appliance_worker::report::Call;
use appliance_worker::signals::{Registry, Target};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// Signals that wait for any worker, and those that wait for one: above this, equal ones are one.
const MOST_QUEUED: usize = 256;

/// A worker's process, as the fleet has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose line it is.
    pub seat: Seat,
    /// Number of the reload that it belongs to.
    pub generation: u32,
    /// It serves, and nobody is to take its place.
    pub is_ready: bool,
    /// Requests that it runs and that wait there, less those it could run.
    pub load: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Switchboard {
    extensions: BTreeMap<Seat, Extension>,
    /// What was registered in processes that are not known yet: a worker may be heard before it is seen.
    early: BTreeMap<Seat, Registry>,
    /// What the application of a generation has registered, in all of its workers.
    directories: BTreeMap<u32, Registry>,
    /// The generation that serves.
    active: Option<u32>,
    schedule: Schedule,
    raised: VecDeque<Call>,
    /// What is kept for workers that are not there, by their ids.
    kept: BTreeMap<u32, BTreeSet<Call>>,
    /// The worker that last got a signal that any may have.
    last: u32,
    is_changed: bool,
}

#[derive(Debug)]
struct Extension {
    place: Place,
    handled: BTreeSet<u8>,
    queue: VecDeque<Call>,
}

/// Adds to a queue, unless it is there already and that is enough.
fn enqueue(queue: &mut VecDeque<Call>, call: Call) {
    let is_enough = call.is_tick || queue.len() >= MOST_QUEUED;
    if !(is_enough && queue.contains(&call)) {
        queue.push_back(call);
    }
}

impl Switchboard {
    /// Who there is. What was to go to somebody who has gone goes to somebody else. True: other files may have to be watched.
    pub fn set_places(&mut self, places: &[Place], now: Instant) -> bool {
        let gone: Vec<Seat> =
            self.extensions.keys().filter(|&&seat| !places.iter().any(|p| p.seat == seat)).copied().collect();
        for seat in gone {
            let queue = self.extensions.remove(&seat).map(|extension| extension.queue);
            queue.into_iter().flatten().for_each(|call| self.return_call(seat.0, call));
        }
        for &place in places {
            let new = || Extension { place, handled: BTreeSet::new(), queue: VecDeque::new() };
            self.extensions.entry(place.seat).or_insert_with(new).place = place;
            if let Some(registry) = self.early.remove(&place.seat) {
                self.enter(place.seat, &registry);
            }
        }
        let is_past = |seat: Seat| places.iter().any(|place| place.seat.0 == seat.0 && place.seat.1 > seat.1);
        self.early.retain(|&seat, _| !is_past(seat));
        let serving = places.iter().filter(|place| place.is_ready).map(|place| place.generation).max();
        let is_fresh = serving.is_some() && serving != self.active;
        self.active = serving.or(self.active);
        let is_there = |generation: u32| places.iter().any(|place| place.generation == generation);
        let active = self.active;
        self.directories.retain(|&generation, _| Some(generation) == active || is_there(generation));
        let is_changed = std::mem::take(&mut self.is_changed) || is_fresh;
        if is_changed {
            let none = Registry::default();
            let directory = active.and_then(|active| self.directories.get(&active)).unwrap_or(&none);
            self.schedule.set(&directory.timers, &directory.crons, is_fresh, now);
        }
        is_changed
    }

    fn return_call(&mut self, worker: u32, call: Call) {
        match self.directory().and_then(|directory| directory.handlers.get(&call.number)) {
            Some(Target::Worker) => enqueue(&mut self.raised, call),
            Some(Target::Workers | Target::One(_)) => self.keep(worker, call),
            Some(Target::ActiveWorkers) | None => {}
        }
    }

    fn keep(&mut self, worker: u32, call: Call) {
        self.kept.entry(worker).or_default().insert(call);
    }

    fn directory(&self) -> Option<&Registry> {
        self.active.and_then(|active| self.directories.get(&active))
    }

    /// A worker says what its application has registered; false if nobody can have registered that.
    pub fn on_registry(&mut self, seat: Seat, registry: &Registry) -> bool {
        if !registry.is_sound() {
            return false;
        }
        match self.extensions.contains_key(&seat) {
            true => self.enter(seat, registry),
            false => drop(self.early.insert(seat, registry.clone())),
        }
        true
    }

    fn enter(&mut self, seat: Seat, registry: &Registry) {
        let Some(extension) = self.extensions.get_mut(&seat) else { return };
        extension.handled = registry.handlers.keys().copied().collect();
        self.directories.entry(extension.place.generation).or_default().merge(registry);
        self.is_changed = true;
    }

    /// Somebody raises a signal.
    pub fn raise(&mut self, number: u8) {
        enqueue(&mut self.raised, Call { number, is_tick: false });
    }

    /// The same for something that comes again and again.
    pub fn tick(&mut self, number: u8) {
        enqueue(&mut self.raised, Call { number, is_tick: true });
    }

    /// Raises what is due, and passes on what was raised. `workers`: how many there are to be.
    pub fn turn(&mut self, workers: u32, now: Instant, wall: Wall) {
        for number in self.schedule.due(now, wall) {
            self.tick(number);
        }
        for call in std::mem::take(&mut self.raised) {
            self.route(call, workers);
        }
        self.kept.retain(|&worker, _| worker <= workers);
        self.deliver_kept();
    }

    fn route(&mut self, call: Call, workers: u32) {
        let target = self.directory().and_then(|directory| directory.handlers.get(&call.number)).copied();
        match target {
            // Nobody handles it.
            None => {}
            Some(Target::Worker) => match self.choose(call.number) {
                Some(seat) => self.put_through(seat, call),
                None => enqueue(&mut self.raised, call),
            },
            Some(Target::Workers) => (1..=workers).for_each(|worker| self.call_worker(worker, call)),
            Some(Target::One(worker)) if worker <= workers => self.call_worker(worker, call),
            Some(Target::One(_)) => {}
            Some(Target::ActiveWorkers) => {
                let serving: Vec<Seat> = self.handling(call.number).map(|place| place.seat).collect();
                serving.into_iter().for_each(|seat| self.put_through(seat, call));
            }
        }
    }

    fn put_through(&mut self, seat: Seat, call: Call) {
        if let Some(extension) = self.extensions.get_mut(&seat) {
            enqueue(&mut extension.queue, call);
        }
    }

    /// Who serves and handles this signal.
    fn handling(&self, number: u8) -> impl Iterator<Item = Place> {
        let is_meant =
            move |extension: &&Extension| extension.place.is_ready && extension.handled.contains(&number);
        self.extensions.values().filter(is_meant).map(|extension| extension.place)
    }

    fn seat_of(&self, worker: u32) -> Option<Seat> {
        let all = self.extensions.values().map(|extension| extension.place);
        all.filter(|place| place.is_ready && place.seat.0 == worker).map(|place| place.seat).max()
    }

    fn call_worker(&mut self, worker: u32, call: Call) {
        match self.seat_of(worker) {
            Some(seat) if self.extensions[&seat].handled.contains(&call.number) => {
                self.put_through(seat, call);
            }
            // Others have registered it, this one has not.
            Some(_) => {}
            None => self.keep(worker, call),
        }
    }

    /// A worker with a core to spare, each in its turn; else the one with the least to do.
    fn choose(&mut self, number: u8) -> Option<Seat> {
        let waits = |seat: Seat| self.extensions[&seat].queue.len() as i64;
        let busy = |place: &Place| (place.load + waits(place.seat)).max(-1);
        let after = |place: &Place| place.seat.0.wrapping_sub(self.last.wrapping_add(1));
        let chosen = self.handling(number).min_by_key(|place| (busy(place), after(place)))?.seat;
        self.last = chosen.0;
        Some(chosen)
    }

    fn deliver_kept(&mut self) {
        let there: Vec<(u32, Seat)> =
            self.kept.keys().filter_map(|&worker| self.seat_of(worker).map(|seat| (worker, seat))).collect();
        for (worker, seat) in there {
            // A worker says what it handles before it serves.
            for call in self.kept.remove(&worker).unwrap_or_default() {
                if self.extensions[&seat].handled.contains(&call.number) {
                    self.put_through(seat, call);
                }
            }
        }
    }

    /// Everybody for whom there is something, the next of which is `next_for` them.
    pub fn called(&self) -> Vec<Seat> {
        let is_called = |(_, extension): &(&Seat, &Extension)| !extension.queue.is_empty();
        self.extensions.iter().filter(is_called).map(|(&seat, _)| seat).collect()
    }

    /// What is next for this one.
    pub fn next_for(&self, seat: Seat) -> Option<Call> {
        self.extensions.get(&seat)?.queue.front().copied()
    }

    /// It has it.
    pub fn on_sent(&mut self, seat: Seat) {
        if let Some(extension) = self.extensions.get_mut(&seat) {
            extension.queue.pop_front();
        }
    }

    /// The files that are to be watched, and for which signals.
    pub fn monitors(&self) -> BTreeMap<String, BTreeSet<u8>> {
        let mut files: BTreeMap<String, BTreeSet<u8>> = BTreeMap::new();
        for monitor in self.directory().iter().flat_map(|directory| &directory.monitors) {
            files.entry(monitor.path.clone()).or_default().insert(monitor.signal);
        }
        files
    }

    /// When something is due.
    pub fn next_deadline(&self, now: Instant, wall: Wall) -> Option<Instant> {
        self.schedule.next_deadline(now, wall)
    }
}

#[cfg(test)]
mod tests;
