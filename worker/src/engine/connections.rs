//! The engine's connections: accepting them, telling those of HTTP/1.1 what has happened, and doing what they answer.
use super::access::{End, Line};
use super::{ACCEPT_PAUSE, ACCEPT_WARNING, ACCEPTS_PER_TURN, ConnId, Due, Engine, Place, WHOLE};
use crate::app::{Host, Peer, Received};
use crate::board;
use crate::conn::{Conn, Context, Step};
use crate::cores::CoreId;
use crate::links::Link;
use crate::listen::{Listener, Socket};
use crate::reactor::{Event, Source};
use slab::Slab;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A connection.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) way: Way,
    pub(super) peer: Arc<Peer>,
    pub(super) generation: u32,
}

/// How requests come on a connection.
#[derive(Debug)]
pub(super) enum Way {
    /// One after the other.
    Http(Http),
    /// Many at once.
    Link(Link<Socket>),
}

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Http {
    pub(super) conn: Conn<Socket>,
    /// Serves the current request.
    pub(super) core: Option<CoreId>,
    /// Want to send on this WebSocket too, and wait until they can.
    pub(super) others: Vec<CoreId>,
    /// Of the access log, if its requests have lines here.
    pub(super) line: Option<Box<Line>>,
}

/// The connection of that name, unless it has ended.
pub(super) fn entry(conns: &mut Slab<Entry>, id: ConnId) -> Option<&mut Entry> {
    conns.get_mut(id.slot as usize).filter(|entry| entry.generation == id.generation)
}

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

    /// Takes whoever waits at the native listener, whose queue goes with this worker; that of the unix socket does not.
    pub(super) fn accept_last(&self, host: &dyn Host) {
        let next =
            || self.listeners.borrow().iter().find(|listener| listener.is_native()).map(Listener::accept);
        loop {
            match next() {
                Some(Ok((socket, peer))) => self.add_conn(host, socket, peer),
                Some(Err(error))
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                _ => return,
            }
        }
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

    fn add_conn(&self, host: &dyn Host, socket: Socket, peer: Arc<Peer>) {
        let generation = Source::generation(self.generation.get().wrapping_add(1));
        self.generation.set(generation);
        let mut conn = Conn::new(socket, &self.boot.rules, self.now.get());
        let line = self.line_for(&peer);
        let id = {
            let mut conns = self.conns.borrow_mut();
            let vacant = conns.vacant_entry();
            let id = ConnId { slot: vacant.key() as u32, generation };
            if let Err(error) = conn.stream().watch(&self.reactor.borrow(), Source::Conn(id.slot, generation))
            {
                tracing::warn!(worker = self.boot.worker_id, %error, "cannot watch a connection; it is dropped");
                return;
            }
            vacant.insert(Entry {
                way: Way::Http(Http { conn, core: None, others: Vec::new(), line }),
                peer,
                generation,
            });
            self.slot().connections.store(conns.len() as u32, Relaxed);
            id
        };
        // What came with the connection is read now, without waiting for its first event.
        self.with_conn(host, id, |conn, cx| conn.advance(cx));
    }

    pub(super) fn on_conn_event(&self, host: &dyn Host, id: ConnId, event: Event) {
        let awaits_room = match entry(&mut self.conns.borrow_mut(), id).map(|entry| &entry.way) {
            Some(Way::Http(http)) => Some(http.conn.awaits_room()),
            Some(Way::Link(_)) => None,
            None => return,
        };
        let Some(awaits_room) = awaits_room else { return self.on_link_event(host, id, event) };
        // Nearly every event says that there is room, and hardly anybody wants to know.
        if event.writable && awaits_room {
            self.with_conn(host, id, |conn, cx| conn.on_writable(cx));
        }
        if event.readable {
            let hung_up = event.hung_up;
            self.with_conn(host, id, |conn, cx| conn.on_readable(hung_up, cx));
        }
        if event.gone {
            self.with_conn(host, id, |conn, cx| conn.on_gone(cx));
        }
    }

    /// Goes on with a connection that asked for it.
    pub(super) fn advance(&self, host: &dyn Host, id: ConnId) {
        if self.is_link(id) {
            self.advance_link(host, id);
        } else {
            self.with_conn(host, id, |conn, cx| conn.advance(cx));
        }
    }

    fn is_link(&self, id: ConnId) -> bool {
        entry(&mut self.conns.borrow_mut(), id).is_some_and(|entry| matches!(entry.way, Way::Link(_)))
    }

    /// Tells a connection something and does what it answers.
    pub(super) fn with_conn(
        &self,
        host: &dyn Host,
        id: ConnId,
        tell: impl FnOnce(&mut Conn<Socket>, &mut Context<'_>) -> Step,
    ) {
        let step = self.tell(id, |http, cx| {
            let step = tell(&mut http.conn, cx);
            self.log_refused(http);
            step
        });
        if let Some(received) = step.and_then(|step| self.follow(id, step)) {
            self.dispatch(Place { conn: id, stream: WHOLE }, received, false);
            self.enter_claimed(host);
        }
    }

    pub(super) fn tell<T>(
        &self,
        id: ConnId,
        tell: impl FnOnce(&mut Http, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let mut conns = self.conns.borrow_mut();
        let entry = entry(&mut conns, id)?;
        let Way::Http(http) = &mut entry.way else { return None };
        let may_link = entry.peer.trusted;
        let rules = if may_link { &self.proxied } else { &self.boot.rules };
        let mut scratch = self.scratch.borrow_mut();
        let (now, date) = (self.now.get(), self.date.borrow());
        Some(tell(http, &mut Context { rules, scratch: &mut scratch, now, date: &date, may_link }))
    }

    /// Does what a connection asked for, but for running a request, which is handed back.
    pub(super) fn follow(&self, id: ConnId, step: Step) -> Option<Box<Received>> {
        match step {
            Step::Wait => {}
            Step::Run(received) => return Some(received),
            Step::More => self.pending.borrow_mut().push(id),
            Step::Wake => {
                let woken = self.tell(id, |http, cx| {
                    let needs_turn = http.conn.needs_turn(cx.rules.write_buffer);
                    (http.core, std::mem::take(&mut http.others), needs_turn)
                });
                let (core, others, needs_turn) = woken.unwrap_or_default();
                core.into_iter().chain(others).for_each(|core| self.wake(core));
                if needs_turn {
                    self.pending.borrow_mut().push(id);
                }
            }
            Step::Left => match self.tell(id, |http, cx| {
                http.line.iter_mut().for_each(|line| line.leave(cx.now));
                (http.core, http.conn.is_gone())
            }) {
                Some((Some(core), _)) => self.note_left(core),
                Some((None, is_gone)) if is_gone || self.boot.cancel_on_disconnect => {
                    self.forget_if_waiting(id);
                }
                _ => {}
            },
            Step::Link => self.make_link(id),
            Step::Wire => self.make_wire(id),
            Step::Drop => self.remove_conn(id),
        }
        None
    }

    pub(super) fn remove_conn(&self, id: ConnId) {
        let mut conns = self.conns.borrow_mut();
        if entry(&mut conns, id).is_some() {
            if let Way::Http(mut http) = conns.remove(id.slot as usize).way {
                board::add(&self.slot().bytes_out, http.conn.take_bytes_out());
            }
            self.slot().connections.store(conns.len() as u32, Relaxed);
        }
    }

    /// A client that has left does not wait for a core.
    fn forget_if_waiting(&self, id: ConnId) {
        if self.forget_waiting(Place { conn: id, stream: WHOLE }) {
            self.tell(id, |http, cx| self.end_line(http, End::Left, cx.now));
            self.remove_conn(id);
        }
    }
}
