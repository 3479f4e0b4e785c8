//! The two ways to an application: through the proxy, and to the listener of a worker's own. What answers differs, from the
//! parser on; what a client sees may not.
use super::{Appliance, Client, Setup, free_ports, until};
use std::net::SocketAddr;

/// One way in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Door {
    Proxy,
    Native,
}

/// Both ways, for tests that go through each.
pub const DOORS: [Door; 2] = [Door::Proxy, Door::Native];

/// An appliance with one worker that can be reached both ways.
pub struct Doors {
    /// It itself.
    pub appliance: Appliance,
    native: SocketAddr,
}

impl Doors {
    /// Starts it and waits until it serves at both.
    #[track_caller]
    pub fn open(setup: Setup) -> Doors {
        let base = free_ports(2);
        let native = ([127, 0, 0, 1], base + 1).into();
        let appliance = setup.set("native.base_port", base).start();
        until("the worker listens", || Client::tcp(native).is_ok());
        Doors { appliance, native }
    }

    /// Where the worker listens itself.
    pub fn native(&self) -> SocketAddr {
        self.native
    }

    /// A connection.
    #[track_caller]
    pub fn client(&self, door: Door) -> Client {
        match door {
            Door::Proxy => self.appliance.client(),
            Door::Native => Client::tcp(self.native).unwrap(),
        }
    }
}
