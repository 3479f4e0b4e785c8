//! What an application on a core may ask of its WebSocket, and of one that belongs to another core, since a chat sends to all
//! of its clients. All of it is short and none of it waits: see [`crate::websocket`] for the way.
use super::{ConnId, Engine, Http, Place, WHOLE, Way};
use crate::conn::{Context, Step};
use crate::cores::CoreId;
use crate::websocket::{Closed, Incoming, Message, Posted, code};

impl Engine {
    /// Sends `head`, with which [`Opening::switching`](crate::answer::Opening::switching) began the answer, and makes the
    /// connection of this request a WebSocket. The general limit of a request's time ends here. False if the client has left,
    /// or sent the request in another way than on a connection of its own.
    pub fn open_websocket(&self, core: CoreId, head: &[u8]) -> bool {
        let opened = self.on_websocket(core, |http, cx| http.conn.open_socket(head, cx));
        let Some((conn, true)) = opened else { return false };
        self.deadlines.borrow_mut().forget(core);
        if self.is_going_away() {
            self.close_conn(conn, code::GOING_AWAY, "");
        }
        // Its first messages may have come with the request.
        self.pending.borrow_mut().push(conn);
        true
    }

    /// The next message for this request.
    pub fn receive_message(&self, core: CoreId) -> Incoming {
        let received = self.on_websocket(core, |http, cx| http.conn.receive_message(cx));
        received.map_or_else(|| Incoming::Closed(Closed::gone()), |(_, incoming)| incoming)
    }

    /// Whether [`Engine::receive_message`] would give something else than [`Incoming::Wait`] now.
    pub fn has_message(&self, core: CoreId) -> bool {
        self.on_websocket(core, |http, _| http.conn.has_message()).is_some_and(|(_, has)| has)
    }

    /// Whether this request has become a WebSocket.
    pub fn is_websocket(&self, core: CoreId) -> bool {
        self.on_websocket(core, |http, _| http.conn.is_socket()).is_some_and(|(_, is)| is)
    }

    /// Sends a message on the WebSocket of `core`. If it is [`Posted::Full`], `by` is woken when it may be tried again.
    pub fn send_message(&self, core: CoreId, by: Option<CoreId>, message: &Message) -> Posted {
        let send = |http: &mut Http, cx: &mut Context<'_>| {
            let posted = http.conn.send_message(message, cx);
            let other = by.filter(|by| *by != core && posted == Posted::Full);
            http.others.extend(other.filter(|other| !http.others.contains(other)));
            posted
        };
        self.on_websocket(core, send).map_or_else(|| Posted::Closed(Closed::gone()), |(_, posted)| posted)
    }

    /// A request ends, and with it its WebSocket: whoever waits to send on that finds it closed.
    pub(super) fn wake_others(&self, conn: ConnId) {
        let others = self.tell(conn, |http, _| std::mem::take(&mut http.others));
        others.into_iter().flatten().for_each(|core| self.wake(core));
    }

    /// Sends a ping with this payload on the WebSocket of `core`; it is lost if too much waits to leave.
    pub fn ping_websocket(&self, core: CoreId, payload: &[u8]) {
        self.on_websocket(core, |http, cx| http.conn.ping(payload, cx));
    }

    /// Closes the WebSocket of `core`. Whoever waits for its messages hears of that.
    pub fn close_websocket(&self, core: CoreId, code: u16, reason: &str) {
        if let Some(Place { conn, stream: WHOLE }) = self.place_of(core) {
            self.close_conn(conn, code, reason);
        }
    }

    fn close_conn(&self, conn: ConnId, code: u16, reason: &str) {
        if let Some(step) = self.tell(conn, |http, cx| http.conn.close_socket(code, reason, cx)) {
            self.follow(conn, step);
        }
    }

    /// Tells the connection of this request something; what it has to do afterwards comes in the next turn.
    fn on_websocket<T>(
        &self,
        core: CoreId,
        tell: impl FnOnce(&mut Http, &mut Context<'_>) -> T,
    ) -> Option<(ConnId, T)> {
        let Place { conn, stream: WHOLE } = self.place_of(core)? else { return None };
        let told = self.tell(conn, |http, cx| {
            let result = tell(http, cx);
            (result, http.conn.needs_turn(cx.rules.write_buffer))
        });
        let (result, needs_turn) = told?;
        if needs_turn {
            self.follow(conn, Step::More);
        }
        Some((conn, result))
    }

    /// This worker, or the whole appliance, is about to end: every client of a WebSocket is told so, and may connect again.
    pub(super) fn close_websockets(&self) {
        let is_websocket = |way: &Way| matches!(way, Way::Http(http) if http.conn.is_socket());
        let open: Vec<ConnId> = (self.conns.borrow().iter())
            .filter(|(_, entry)| is_websocket(&entry.way))
            .map(|(slot, entry)| ConnId { slot: slot as u32, generation: entry.generation })
            .collect();
        for conn in open {
            self.close_conn(conn, code::GOING_AWAY, "");
        }
    }

    /// Whether there is no point in opening a WebSocket any more.
    pub(super) fn is_going_away(&self) -> bool {
        self.is_draining() || self.board().is_leaving()
    }
}
