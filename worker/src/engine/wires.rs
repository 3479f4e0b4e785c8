//! The engine's side of uWSGI's protocol: accepts whoever may ask, moves the bytes of their questions and answers, has the
//! caches asked here and now, and lets procedures run as errands. What is asked, and what the bytes mean, is the business of
//! `wire/`.
use super::{ACCEPT_PAUSE, ACCEPTS_PER_TURN, ConnId, Due, Engine, Way, entry};
use crate::errand::{Errand, Replied, Reply};
use crate::listen::Socket;
use crate::reactor::{Event, Source};
use crate::wire::conn::{Conn, Rights, Step};
use crate::wire::door::{Door, Knock};
use crate::wire::ear::Ear;
use crate::wire::{self, Terms};
use slab::Slab;
use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections of one worker, in all. Whoever comes then waits in the backlog, where another worker may find them.
const MOST_CONNS: usize = 1024;
/// Strangers are logged at most this often.
const STRANGER_WARNING: Duration = Duration::from_secs(60);

/// Names one of them; never the next one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WireId {
    slot: u32,
    generation: u32,
}

/// Results on their way to those who wait for them, from whatever thread has them.
type Results = Arc<Mutex<Vec<(WireId, Replied)>>>;

#[derive(Debug)]
struct Wire {
    conn: Conn<Socket>,
    generation: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Wires {
    terms: Terms,
    doors: Vec<Door>,
    ears: Vec<Ear>,
    conns: Slab<Wire>,
    generation: u32,
    calls: usize,
    results: Results,
    stranger_warned: Option<Instant>,
}

impl Wires {
    pub(super) fn new(terms: Terms) -> Wires {
        Wires {
            terms,
            doors: Vec::new(),
            ears: Vec::new(),
            conns: Slab::new(),
            generation: 0,
            calls: 0,
            results: Results::default(),
            stranger_warned: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    fn get(&mut self, id: WireId) -> Option<&mut Wire> {
        self.conns.get_mut(id.slot as usize).filter(|wire| wire.generation == id.generation)
    }

    fn ids(&self, wanted: impl Fn(&Wire) -> bool) -> Vec<WireId> {
        let wires = self.conns.iter().filter(|(_, wire)| wanted(wire));
        wires.map(|(slot, wire)| WireId { slot: slot as u32, generation: wire.generation }).collect()
    }
}

impl Engine {
    /// Has these doors answered, and these ears listened to, from when the worker serves. The first worker alone listens.
    pub fn open_doors(&self, doors: Vec<Door>, ears: Vec<Ear>) {
        let mut wires = self.wires.borrow_mut();
        wires.doors = doors;
        if self.boot.worker_id == 1 {
            wires.ears = ears;
        }
    }

    pub(super) fn watch_doors(&self) -> std::io::Result<()> {
        let reactor = self.reactor.borrow();
        let mut wires = self.wires.borrow_mut();
        for (index, door) in (0..).zip(&mut wires.doors) {
            door.watch(&reactor, Source::Door(index))?;
        }
        (0..).zip(&mut wires.ears).try_for_each(|(index, ear)| ear.watch(&reactor, Source::Ear(index)))
    }

    /// Nobody is let in any more, and nothing heard.
    pub(super) fn close_doors(&self) {
        let reactor = self.reactor.borrow();
        let mut wires = self.wires.borrow_mut();
        let (doors, ears) = (std::mem::take(&mut wires.doors), std::mem::take(&mut wires.ears));
        let doors = doors.into_iter().map(|mut door| door.unwatch(&reactor));
        for error in
            doors.chain(ears.into_iter().map(|mut ear| ear.unwatch(&reactor))).filter_map(Result::err)
        {
            tracing::warn!(worker = self.boot.worker_id, %error, "cannot stop watching a listener");
        }
    }

    /// Caches have told one of ours something.
    pub(super) fn listen(&self, index: u32) {
        let has_more = {
            let wires = self.wires.borrow();
            let Some(ear) = wires.ears.get(index as usize) else { return };
            ear.listen(&mut self.scratch.borrow_mut())
        };
        if has_more {
            // It is edge-triggered, and does not say so twice.
            self.timers.borrow_mut().add(self.now.get() + Duration::from_micros(1), Due::Ear(index));
        }
    }

    pub(super) fn answer_door(&self, index: u32) {
        for _ in 0..ACCEPTS_PER_TURN {
            let knock = {
                let wires = self.wires.borrow();
                match wires.doors.get(index as usize) {
                    Some(door) if wires.conns.len() < MOST_CONNS => door.accept(),
                    Some(_) => return self.rest_from_door(index),
                    None => return,
                }
            };
            match knock {
                Ok(Knock::Welcome(socket, rights)) => self.add_wire(socket, rights, Vec::new()),
                Ok(Knock::Stranger(address)) => self.warn_of_stranger(address),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    tracing::debug!(worker = self.boot.worker_id, %error, "cannot accept connections; trying again");
                    return self.rest_from_door(index);
                }
            }
        }
        // More may wait, and an edge-triggered listener does not say so twice.
        self.timers.borrow_mut().add(self.now.get() + Duration::from_micros(1), Due::Door(index));
    }

    fn rest_from_door(&self, index: u32) {
        self.timers.borrow_mut().add(self.now.get() + ACCEPT_PAUSE, Due::Door(index));
    }

    fn warn_of_stranger(&self, address: std::net::IpAddr) {
        let (now, mut wires) = (self.now.get(), self.wires.borrow_mut());
        if wires.stranger_warned.is_none_or(|last| now >= last + STRANGER_WARNING) {
            wires.stranger_warned = Some(now);
            let worker = self.boot.worker_id;
            tracing::warn!(worker, "turned {address} away, which no rpc.allow or cache.NAME.allow admits");
        }
    }

    /// A connection to the worker's own socket has begun as a question does: another worker of ours asks.
    pub(super) fn make_wire(&self, id: ConnId) {
        let mut conns = self.conns.borrow_mut();
        if entry(&mut conns, id).is_none_or(|entry| matches!(entry.way, Way::Link(_))) {
            return;
        }
        let Way::Http(http) = conns.remove(id.slot as usize).way else { return };
        self.slot().connections.store(conns.len() as u32, Relaxed);
        drop(conns);
        let (mut socket, begun, _) = http.conn.into_parts();
        // It is registered under the name that it had.
        let _ = socket.unwatch(&self.reactor.borrow());
        self.add_wire(socket, Rights { rpc: true, caches: Vec::new() }, begun);
    }

    fn add_wire(&self, socket: Socket, rights: Rights, begun: Vec<u8>) {
        let id = {
            let mut wires = self.wires.borrow_mut();
            let generation = Source::generation(wires.generation.wrapping_add(1));
            wires.generation = generation;
            let deadline = self.now.get() + wires.terms.timeout;
            let mut conn = Conn::new(socket, rights, begun, wires.terms.most, deadline);
            let vacant = wires.conns.vacant_entry();
            let id = WireId { slot: vacant.key() as u32, generation };
            if let Err(error) =
                conn.stream().watch(&self.reactor.borrow(), Source::Wire(id.slot, id.generation))
            {
                tracing::warn!(worker = self.boot.worker_id, %error, "cannot watch a connection; it is dropped");
                return;
            }
            vacant.insert(Wire { conn, generation });
            id
        };
        self.advance_wire(id);
    }

    pub(super) fn on_wire_event(&self, slot: u32, generation: u32, event: Event) {
        let id = WireId { slot, generation };
        if event.gone {
            self.remove_wire(id);
        } else {
            self.advance_wire(id);
        }
    }

    fn advance_wire(&self, id: WireId) {
        self.tell_wire(id, |conn| conn.advance(&mut self.scratch.borrow_mut()));
    }

    /// Tells a connection something, and does what it asks for until it has to wait.
    fn tell_wire(&self, id: WireId, tell: impl FnOnce(&mut Conn<Socket>) -> Step) {
        let Some(mut step) = self.wires.borrow_mut().get(id).map(|wire| tell(&mut wire.conn)) else { return };
        loop {
            match step {
                Step::Wait => return,
                Step::Call(name, args) => return self.call(id, name, args),
                Step::Cache(name, asked, value) => {
                    let answer = wire::answer(&name, &asked, &value).bytes();
                    let deadline = self.wire_deadline();
                    let mut wires = self.wires.borrow_mut();
                    let Some(wire) = wires.get(id) else { return };
                    step = wire.conn.answer(answer, deadline);
                }
                Step::Drop(why) => {
                    if let Some(why) = why {
                        tracing::debug!(
                            worker = self.boot.worker_id,
                            "a question of another server is dropped: {why}"
                        );
                    }
                    return self.remove_wire(id);
                }
            }
        }
    }

    fn wire_deadline(&self) -> Instant {
        self.now.get() + self.wires.borrow().terms.timeout
    }

    /// A procedure is called: it waits for a core like a request.
    fn call(&self, id: WireId, name: String, args: Vec<Vec<u8>>) {
        let reply = {
            let mut wires = self.wires.borrow_mut();
            if wires.calls >= wires.terms.calls {
                drop(wires);
                tracing::warn!(
                    worker = self.boot.worker_id,
                    "rpc.calls is reached: a call of {name:?} is refused"
                );
                return self
                    .finish_call(id, &Err("the worker has as many calls as rpc.calls allows".to_owned()));
            }
            wires.calls += 1;
            let (results, remote) = (Arc::clone(&wires.results), self.remote());
            Reply::new(move |replied| {
                results.lock().unwrap_or_else(PoisonError::into_inner).push((id, replied));
                if let Err(error) = remote.poke() {
                    tracing::error!(%error, "the result of a procedure cannot wake the loop");
                }
            })
        };
        if let Err(errand) = self.run_errand(Errand::Rpc { name, args, reply }) {
            tracing::warn!(
                worker = self.boot.worker_id,
                "{errand} is refused: every core is busy and limits.waiting is reached"
            );
        }
    }

    /// Sends the results that have come.
    pub(super) fn send_results(&self) {
        let results = {
            let wires = self.wires.borrow();
            std::mem::take(&mut *wires.results.lock().unwrap_or_else(PoisonError::into_inner))
        };
        for (id, replied) in results {
            self.wires.borrow_mut().calls -= 1;
            self.finish_call(id, &self.fitting(replied));
        }
    }

    /// A result that is too long is none.
    fn fitting(&self, replied: Replied) -> Replied {
        let most = self.wires.borrow().terms.most;
        match replied {
            Ok(result) if result.len() > most => {
                let why = format!(
                    "a procedure has a result of {} bytes, and limits.remote allows {most}",
                    result.len()
                );
                tracing::warn!(worker = self.boot.worker_id, "{why}");
                Err(why)
            }
            replied => replied,
        }
    }

    fn finish_call(&self, id: WireId, replied: &Replied) {
        let deadline = self.wire_deadline();
        self.tell_wire(id, |conn| conn.answer_call(replied, deadline));
    }

    fn remove_wire(&self, id: WireId) {
        let mut wires = self.wires.borrow_mut();
        if wires.get(id).is_some() {
            wires.conns.remove(id.slot as usize);
        }
    }

    /// Drops the connections whose time is over.
    pub(super) fn drop_late_wires(&self) {
        let now = self.now.get();
        let late = |wire: &Wire| wire.conn.deadline().is_some_and(|deadline| deadline <= now);
        let late = self.wires.borrow().ids(late);
        late.into_iter().for_each(|id| self.remove_wire(id));
    }

    /// Drops the connections that have asked nothing yet, in a worker that ends.
    pub(super) fn drop_idle_wires(&self) {
        let idle = self.wires.borrow().ids(|wire| wire.conn.is_receiving());
        idle.into_iter().for_each(|id| self.remove_wire(id));
    }
}
