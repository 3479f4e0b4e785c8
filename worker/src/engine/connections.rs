//! The engine's connections: accepting them, telling them what has happened, and doing what they answer. A request that is
//! complete gets a core here, or waits for one.
use super::{ACCEPT_PAUSE, ACCEPT_WARNING, ACCEPTS_PER_TURN, ConnId, Due, Engine, Entry, Serving, entry};
use crate::app::{Host, Peer, Received, Request};
use crate::board;
use crate::conn::{Conn, Context, Step};
use crate::cores::CoreId;
use crate::listen::Socket;
use crate::reactor::{Event, Source};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Engine {
    pub(super) fn accept(&self, host: &dyn Host, index: u32) {
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match self.listeners.borrow().get(index as usize) {
                Some(listener) => listener.accept(),
                None => return,
            };
            match accepted {
                Ok((socket, peer)) => self.add_conn(host, socket, peer),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => return self.rest_from_accepting(index, &error),
            }
        }
        // More may wait, and an edge-triggered listener does not say so twice: on with it in the next turn.
        self.timers.borrow_mut().add(self.now.get() + Duration::from_micros(1), Due::Accept(index));
    }

    /// Usually out of descriptors: each listener tries again with one timer, and one line a minute says why.
    fn rest_from_accepting(&self, index: u32, error: &io::Error) {
        let now = self.now.get();
        if self.accept_warned.get().is_none_or(|last| now >= last + ACCEPT_WARNING) {
            self.accept_warned.set(Some(now));
            tracing::warn!(worker = self.boot.worker_id, %error, "cannot accept connections; trying again");
        }
        let bit = 1 << index;
        if self.resting.get() & bit == 0 {
            self.resting.set(self.resting.get() | bit);
            self.timers.borrow_mut().add(now + ACCEPT_PAUSE, Due::Accept(index));
        }
    }

    fn add_conn(&self, host: &dyn Host, socket: Socket, peer: Rc<Peer>) {
        let generation = Source::generation(self.generation.get().wrapping_add(1));
        self.generation.set(generation);
        let conn = Conn::new(socket, &self.boot.rules, self.now.get());
        let id = {
            let mut conns = self.conns.borrow_mut();
            let slot = conns.insert(Entry { conn, peer, generation, core: None });
            let id = ConnId { slot: slot as u32, generation };
            let socket = conns[slot].conn.stream();
            if let Err(error) = socket.watch(&self.reactor.borrow(), Source::Conn(id.slot, generation)) {
                tracing::warn!(worker = self.boot.worker_id, %error, "cannot watch a connection; it is dropped");
                conns.remove(slot);
                return;
            }
            self.slot().connections.store(conns.len() as u32, Relaxed);
            id
        };
        // What came with the connection is read now, without waiting for its first event.
        self.with_conn(host, id, |conn, cx| conn.advance(cx));
    }

    pub(super) fn on_conn_event(&self, host: &dyn Host, id: ConnId, event: Event) {
        if event.writable {
            self.with_conn(host, id, |conn, cx| conn.on_writable(cx));
        }
        if event.readable {
            let hung_up = event.hung_up;
            self.with_conn(host, id, |conn, cx| conn.on_readable(hung_up, cx));
        }
        if event.gone {
            self.with_conn(host, id, |conn, _| conn.on_gone());
            self.forget_if_waiting(id);
        }
    }

    /// Tells a connection something and does what it answers.
    pub(super) fn with_conn(
        &self,
        host: &dyn Host,
        id: ConnId,
        tell: impl FnOnce(&mut Conn<Socket>, &mut Context<'_>) -> Step,
    ) {
        let step = self.tell(id, |entry, cx| tell(&mut entry.conn, cx));
        if let Some(received) = step.and_then(|step| self.follow(id, step)) {
            self.dispatch(host, id, *received);
        }
    }

    pub(super) fn tell<T>(
        &self,
        id: ConnId,
        tell: impl FnOnce(&mut Entry, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let mut conns = self.conns.borrow_mut();
        let entry = entry(&mut conns, id)?;
        let rules = if entry.peer.trusted { &self.proxied } else { &self.boot.rules };
        let mut scratch = self.scratch.borrow_mut();
        let date = self.date.borrow();
        Some(tell(entry, &mut Context { rules, scratch: &mut scratch, now: self.now.get(), date: &date }))
    }

    /// Does what a connection asked for, but for running a request, which is handed back.
    pub(super) fn follow(&self, id: ConnId, step: Step) -> Option<Box<Received>> {
        match step {
            Step::Wait => {}
            Step::Run(received) => return Some(received),
            Step::More => self.pending.borrow_mut().push(id),
            Step::Wake => {
                let core = entry(&mut self.conns.borrow_mut(), id).and_then(|entry| entry.core);
                if let Some(core) = core {
                    self.wake(core);
                }
            }
            Step::Drop => self.remove_conn(id),
        }
        None
    }

    fn remove_conn(&self, id: ConnId) {
        let mut conns = self.conns.borrow_mut();
        if entry(&mut conns, id).is_some() {
            let mut entry = conns.remove(id.slot as usize);
            board::add(&self.slot().bytes_out, entry.conn.take_bytes_out());
            self.slot().connections.store(conns.len() as u32, Relaxed);
        }
    }

    /// A client that has left does not wait for a core.
    fn forget_if_waiting(&self, id: ConnId) {
        let waits = entry(&mut self.conns.borrow_mut(), id).is_some_and(|entry| entry.core.is_none());
        if waits {
            let mut cores = self.cores.borrow_mut();
            cores.retain_waiting(|request| request.conn != id);
            self.slot().waiting.store(cores.waiting() as u32, Relaxed);
            drop(cores);
            self.remove_conn(id);
        }
    }

    fn dispatch(&self, host: &dyn Host, id: ConnId, received: Received) {
        let peer = match entry(&mut self.conns.borrow_mut(), id) {
            Some(entry) => Rc::clone(&entry.peer),
            None => return,
        };
        let request = Request { received, peer, arrived: self.now.get(), conn: id };
        let mut cores = self.cores.borrow_mut();
        if cores.waiting() == 0
            && let Some(core) = cores.claim()
        {
            drop(cores);
            return self.enter(host, core, request);
        }
        if cores.waiting() < self.boot.waiting {
            cores.push_waiting(request);
            self.slot().waiting.store(cores.waiting() as u32, Relaxed);
            return;
        }
        drop(cores);
        tracing::warn!(worker = self.boot.worker_id, "every core is busy and limits.waiting is reached: 503");
        let sentence = "every core is busy; try again in a moment";
        if let Some(step) = self.tell(id, |entry, cx| entry.conn.reject(503, sentence, cx)) {
            self.follow(id, step);
        }
    }

    pub(super) fn enter(&self, host: &dyn Host, core: CoreId, request: Request) {
        if let Some(entry) = entry(&mut self.conns.borrow_mut(), request.conn) {
            entry.core = Some(core);
        }
        self.serving.borrow_mut()[core.index as usize] =
            Some(Serving { conn: request.conn, arrived: request.arrived });
        self.publish_cores();
        host.start(core, request);
    }

    pub(super) fn publish_cores(&self) {
        let cores = self.cores.borrow();
        self.slot().busy.store(cores.busy() as u32, Relaxed);
        self.slot().waiting.store(cores.waiting() as u32, Relaxed);
    }
}
