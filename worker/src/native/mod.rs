//! Native applications: handlers in blocking style (Rust, or any language with a C interface), each request in a coroutine of
//! its own. They need no interpreter; corosensei is their suspend engine, as greenlet is Python's.
//!
//! Reading order: `host` (what the engine calls), `call` (one request: its coroutines and how it ends), `fiber` (the only
//! switch), `waiting`, `reply` with `pieces`, and `socket` (how a request waits, answers, and speaks WebSocket), `table` (the functions that an
//! application may call, the other side of the crate `appliance-app`), `library` (loading one), `builtin` (those that are
//! there). `serve` is a worker that hosts nothing else; in one that hosts Python too, they are guests ([`crate::beside`]).
//!
//! No panic crosses the C interface in either direction, and no coroutine is unwound from outside: one that is to end is told
//! so by whatever it waits in, and `appliance-app` makes an unwinding of that on its own side.

mod blocking;
mod builtin;
mod call;
mod fiber;
mod host;
mod library;
mod overflow;
mod pieces;
mod reply;
mod routes;
pub mod serve;
mod socket;
mod stacks;
mod table;
mod waiting;

pub use appliance_app::App;
pub use host::Native;
pub use library::{Apps, examine, why_unloadable};
pub use stacks::stack_reports;
pub use waiting::Here;
