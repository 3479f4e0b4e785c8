//! The loop engine of `appliance`: one mio event loop per worker process, its cores, and its HTTP/1.1 server.
//!
//! Read in this order: [`engine`] (one turn of the loop), [`cores`] (who may run), [`app`] (the seam to what is hosted),
//! [`conn`] (the life of a connection), [`http`] (the protocol without I/O), [`links`] (the same for the many requests that
//! the proxy sends over one connection), [`websocket`] (what a connection may become). The binary uses [`board`], [`abi`] and
//! [`logging`]; the language hosts use the rest. Nothing in this crate knows Python.

pub mod abi;
pub mod answer;
pub mod app;
pub mod areas;
pub mod begin;
pub mod bell;
pub mod beside;
pub mod board;
pub mod cache;
pub mod conn;
pub mod cores;
pub mod deadlines;
pub mod desk;
pub mod engine;
pub mod errand;
pub mod error;
pub mod foreign;
pub mod hints;
pub mod http;
pub mod inbox;
pub mod line;
pub mod links;
pub mod listen;
pub mod locks;
pub mod logging;
pub mod metrics;
pub mod native;
pub mod origin;
pub mod panel;
pub mod pool;
pub mod queue;
pub mod reactor;
pub mod report;
pub mod roll;
pub mod shared;
pub mod signals;
pub mod suspend;
pub mod timers;
pub mod told;
pub mod waits;
pub mod watch;
pub mod wear;
pub mod websocket;
pub mod wire;

pub use app::{Door, Host, Next, Request};
pub use conn::{BodyRead, FileSent, Outcome, Sent};
pub use cores::CoreId;
pub use engine::{Boot, Engine};
pub use errand::Errand;
pub use error::Error;
pub use inbox::Remote;
pub use mio::Interest;
