//! The WebSocket calls of the engine, from the loop's thread and from those of a pool.
use super::Reach;
use appliance_worker::websocket::{Closed, Incoming, Message, Posted};
use appliance_worker::{CoreId, Engine};
use std::time::Instant;

impl Reach {
    /// See [`Engine::open_websocket`].
    pub fn open_websocket(&self, core: CoreId, head: Vec<u8>) -> bool {
        match self {
            Reach::Here(engine) => engine.open_websocket(core, &head),
            Reach::There(there) => {
                there.ask(core, move |engine| engine.open_websocket(core, &head)).unwrap_or(false)
            }
        }
    }

    /// See [`Engine::receive_message`].
    pub fn receive_message(&self, core: CoreId) -> Incoming {
        match self {
            Reach::Here(engine) => engine.receive_message(core),
            Reach::There(there) => there
                .ask(core, move |engine| engine.receive_message(core))
                .unwrap_or_else(|| Incoming::Closed(Closed::gone())),
        }
    }

    /// The same; a pool thread waits in here, until `deadline`, and gives [`Incoming::Wait`] only after that.
    pub fn await_message(&self, core: CoreId, deadline: Option<Instant>) -> Incoming {
        let Reach::There(there) = self else { return self.receive_message(core) };
        let try_receive = move |engine: &Engine| {
            let incoming = engine.receive_message(core);
            Some(incoming).filter(|incoming| *incoming != Incoming::Wait)
        };
        there.until(core, deadline, try_receive).unwrap_or(Incoming::Wait)
    }

    /// See [`Engine::has_message`].
    pub fn has_message(&self, core: CoreId) -> bool {
        match self {
            Reach::Here(engine) => engine.has_message(core),
            Reach::There(there) => there.ask(core, move |engine| engine.has_message(core)).unwrap_or(false),
        }
    }

    /// See [`Engine::send_message`]. A pool thread waits in here, and never gives [`Posted::Full`].
    pub fn send_message(&self, core: CoreId, by: Option<CoreId>, message: &Message) -> Posted {
        match (self, by) {
            (Reach::Here(engine), _) => engine.send_message(core, by, message),
            (Reach::There(there), Some(own)) => {
                let message = message.clone();
                let try_send = move |engine: &Engine| {
                    let posted = engine.send_message(core, by, &message);
                    Some(posted).filter(|posted| *posted != Posted::Full)
                };
                there.until(own, None, try_send).unwrap_or_else(|| Posted::Closed(Closed::gone()))
            }
            // A pool thread without a request runs no code of the application.
            (Reach::There(_), None) => Posted::Closed(Closed::gone()),
        }
    }

    /// See [`Engine::ping_websocket`]; `by` is the request that does it.
    pub fn ping_websocket(&self, core: CoreId, by: Option<CoreId>, payload: Vec<u8>) {
        self.have_done(by, move |engine| engine.ping_websocket(core, &payload));
    }

    /// See [`Engine::close_websocket`]; `by` is the request that does it.
    pub fn close_websocket(&self, core: CoreId, by: Option<CoreId>, code: u16, reason: String) {
        self.have_done(by, move |engine| engine.close_websocket(core, code, &reason));
    }

    fn have_done(&self, by: Option<CoreId>, command: impl FnOnce(&Engine) + Send + 'static) {
        match (self, by) {
            (Reach::Here(engine), _) => command(engine),
            // Not before what this thread has sent until now.
            (Reach::There(there), Some(own)) => drop(there.ask(own, command)),
            (Reach::There(_), None) => {}
        }
    }
}
