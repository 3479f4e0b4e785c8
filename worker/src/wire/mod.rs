//! uWSGI's protocol, by which appliances and uWSGI servers reach each other's caches and procedures. Without I/O are
//! [`packet`] (the bytes), [`asked`] (what can be asked of a cache), [`sync`] (what caches tell each other in datagrams) and
//! [`address`]. [`client`] asks others and waits for them in blocking style; [`conn`] is one connection of somebody who asks
//! us, driven by the engine on sockets that the master has opened ([`door`]). It listens nowhere unless configured.

pub mod address;
pub mod asked;
pub mod client;
pub mod packet;
pub mod remote;
pub mod resolve;
pub mod sync;
