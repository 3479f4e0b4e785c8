//! What the engine looks after once a second: connections that have run out of time, the date, and the slow figures of the
//! board.
use super::{ConnId, Due, Engine, HOUSEKEEPING, Way};
use crate::app::Host;
use crate::board;
use crate::http::encode;
use crate::links::Link;
use std::sync::atomic::Ordering::Relaxed;

impl Engine {
    pub(super) fn keep_house(&self, host: &dyn Host) {
        let now = self.now.get();
        self.timers.borrow_mut().add(now + HOUSEKEEPING, Due::Housekeeping);
        self.refresh_date();
        let (resident, _) = board::memory();
        self.slot().rss_kib.store(u32::try_from(resident / 1024).unwrap_or(u32::MAX), Relaxed);
        self.drop_late_wires();
        let is_late = |entry: &super::Entry| {
            let deadline = match &entry.way {
                Way::Http(http) => http.conn.deadline(),
                Way::Link(link) => link.deadline(),
            };
            deadline.is_some_and(|deadline| deadline <= now)
        };
        let late: Vec<ConnId> = (self.conns.borrow().iter())
            .filter(|(_, entry)| is_late(entry))
            .map(|(slot, entry)| ConnId { slot: slot as u32, generation: entry.generation })
            .collect();
        if self.is_going_away() {
            self.close_websockets();
        }
        for id in late {
            // It is one or the other.
            self.on_link(id, Link::on_gone);
            self.with_conn(host, id, |conn, cx| conn.on_deadline(cx));
        }
    }

    pub(super) fn refresh_date(&self) {
        *self.date.borrow_mut() = encode::date(std::time::SystemTime::now());
    }
}
