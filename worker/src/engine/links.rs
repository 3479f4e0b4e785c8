//! The engine's links: what it tells them, what it does with their news, and when they send. What applications have
//! produced in one turn leaves with one write for each link.
use super::{ConnId, Engine, Http, Place, Way, entry};
use crate::app::Host;
use crate::board;
use crate::links::{Link, News};
use crate::listen::Socket;
use crate::reactor::{Event, Source};
use std::time::Duration;

/// Finished answers do not wait longer than this for the end of the turn, unless a single application keeps the loop.
const BATCH: Duration = Duration::from_micros(200);

impl Engine {
    /// Tells a link something, and does what follows from it; `None` if there is no such link any more.
    pub(super) fn on_link<T>(&self, id: ConnId, tell: impl FnOnce(&mut Link<Socket>) -> T) -> Option<T> {
        let mut conns = self.conns.borrow_mut();
        let Way::Link(link) = &mut entry(&mut conns, id)?.way else { return None };
        let answer = tell(link);
        board::add(&self.slot().bytes_out, link.take_bytes_out());
        if link.is_to_be_scheduled() {
            self.unsent.borrow_mut().push(id);
        }
        if let Some(wanted) = link.take_interest() {
            let source = Source::Conn(id.slot, id.generation);
            if let Err(error) = link.socket().watch_room(&self.reactor.borrow(), source, wanted) {
                // Without it the link would hang; without the link the proxy opens another.
                tracing::warn!(worker = self.boot.worker_id, %error, "cannot watch a link; it is closed");
                link.on_gone();
            }
        }
        let has_news = link.has_news();
        drop(conns);
        if has_news {
            self.settle(id);
        }
        Some(answer)
    }

    fn settle(&self, id: ConnId) {
        while let Some(news) = self.next_news(id) {
            match news {
                News::Run(arrived) => {
                    let place = Place { conn: id, stream: arrived.stream };
                    self.dispatch(place, arrived.received, arrived.announce);
                }
                News::Wake(core) => self.wake(core),
                News::Gone(core) => self.note_left(core),
                News::Left(stream) => drop(self.forget_waiting(Place { conn: id, stream })),
                News::Withdrawn(stream) => self.withdraw(Place { conn: id, stream }),
                News::More => self.pending.borrow_mut().push(id),
                News::Over(violation) => {
                    if let Some(violation) = violation {
                        let worker = self.boot.worker_id;
                        tracing::warn!(
                            worker,
                            "a link of the proxy is closed, it broke the protocol: {violation}"
                        );
                    }
                    self.remove_conn(id);
                }
            }
        }
    }

    fn next_news(&self, id: ConnId) -> Option<News> {
        match &mut entry(&mut self.conns.borrow_mut(), id)?.way {
            Way::Link(link) => link.next_news(),
            Way::Http(_) => None,
        }
    }

    /// A connection has begun as a link does: from now on it is one, in the same place and under the same name.
    pub(super) fn make_link(&self, id: ConnId) {
        let mut conns = self.conns.borrow_mut();
        if entry(&mut conns, id).is_none_or(|entry| matches!(entry.way, Way::Link(_))) {
            return;
        }
        let slot = id.slot as usize;
        let mut entry = conns.remove(slot);
        let Way::Http(Http { conn, .. }) = entry.way else { return };
        let (socket, begun, hung_up) = conn.into_parts();
        let mut link = Link::new(socket, hung_up, &self.proxied, self.now.get());
        if self.draining.get() {
            link.go_away(self.now.get());
        }
        entry.way = Way::Link(link);
        // A slab gives the place that was left last to whoever comes next, and the socket is registered for this one.
        let same = conns.insert(entry);
        assert_eq!(same, slot, "a connection has moved in the slab");
        drop(conns);
        self.on_link(id, |link| link.receive(&begun));
        // It may have said more than was read before it was recognised.
        self.pending.borrow_mut().push(id);
    }

    pub(super) fn on_link_event(&self, host: &dyn Host, id: ConnId, event: Event) {
        self.on_link(id, |link| {
            let scratch = &mut self.scratch.borrow_mut();
            if event.writable {
                link.on_writable();
            }
            if event.readable {
                link.on_readable(event.hung_up, scratch);
            } else if event.writable {
                link.advance(scratch);
            }
            if event.gone {
                link.on_gone();
            }
        });
        self.enter_claimed(host);
    }

    /// Reads on where a link had its share of the last turn.
    pub(super) fn advance_link(&self, host: &dyn Host, id: ConnId) {
        self.on_link(id, |link| link.advance(&mut self.scratch.borrow_mut()));
        self.enter_claimed(host);
    }

    /// No new requests come on any link.
    pub(super) fn send_links_away(&self) {
        for id in self.ids_of_links() {
            self.on_link(id, |link| link.go_away(self.now.get()));
        }
    }

    fn ids_of_links(&self) -> Vec<ConnId> {
        let conns = self.conns.borrow();
        let links = conns.iter().filter(|(_, entry)| matches!(entry.way, Way::Link(_)));
        links.map(|(slot, entry)| ConnId { slot: slot as u32, generation: entry.generation }).collect()
    }

    /// Sends what the links have gathered.
    pub(super) fn flush_links(&self) {
        let mut unsent = std::mem::take(&mut *self.unsent.borrow_mut());
        for id in unsent.drain(..) {
            self.on_link(id, Link::flush);
        }
        // Its memory is used again, unless something has been added meanwhile.
        let mut newer = self.unsent.borrow_mut();
        if newer.is_empty() {
            *newer = unsent;
        }
        self.flushed.set(self.latest.get());
    }

    /// Sends before the next application is entered what finished ones have left, if that has waited long enough.
    pub(super) fn flush_if_late(&self) {
        if !self.unsent.borrow().is_empty() && self.latest.get() > self.flushed.get() + BATCH {
            self.flush_links();
        }
    }
}
