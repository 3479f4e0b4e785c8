//! uWSGI's protocol, by which appliances and uWSGI servers reach each other's caches and procedures. Without I/O are
//! [`packet`] (the bytes), [`asked`] (what can be asked of a cache), [`sync`] (what caches tell each other in datagrams) and
//! [`address`]. [`client`] asks others and waits for them in blocking style; [`conn`] is one connection of somebody who asks
//! us, driven by the engine on sockets that the master has opened ([`door`]). It listens nowhere unless configured.

pub mod address;
pub mod asked;
pub mod client;
pub mod conn;
pub mod door;
pub mod ear;
pub mod packet;
pub mod remote;
pub mod resolve;
mod serve;
pub use serve::answer;
pub mod sync;

use appliance_config::Settings;
use std::time::Duration;

/// What holds for every connection of somebody who asks us.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a question may take to come, and an answer to leave.
    pub timeout: Duration,
    /// Longest value that is taken, in bytes.
    pub most: usize,
    /// Procedures that run at the same time.
    pub calls: usize,
}

impl From<&Settings> for Terms {
    fn from(settings: &Settings) -> Terms {
        Terms { timeout: settings.timeouts.remote, most: settings.limits.remote, calls: settings.rpc.calls }
    }
}
