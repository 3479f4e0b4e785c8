//! The link: many requests at once as frames over one unix connection between a thread of the proxy and a worker. This
//! crate is both sides' common language, and nothing else: it knows no socket, no clock, no HTTP text and no runtime.
//!
//! ```text
//! proxy                                                      worker
//!   Hello ─────────────────────────────────────────────────────►     both say hello first: version, window
//!   ◄───────────────────────────────────────────────────── Hello
//!   Request(7) Data(7) Data(7,end) ────────────────────────────►     frames of many streams, interleaved
//!   ◄───────────────────── Entered(7) Response(7) Data(7,end)
//!   Window(9), Reset(9), Ping ──────────────────────────────────►     and back
//!   ◄───────────────────────────────────────────────────── GoAway
//! ```
//! - [`frame`]: what a frame is, from and to bytes; nothing in it is ever parsed as HTTP.
//! - [`head`]: the payloads of `Request` and `Response`.
//! - [`stream`]: what may come and go on one stream, and how much: the states and the windows.
//! - [`outbox`]: frames on their way out, gathered for one `writev`; small ones overtake bulk.
//! - [`private`]: fields of an answer's head that only the two sides see.
//! - [`hello`]: the first bytes of each side.
//! - [`access`], [`reason`]: beside the link, what both sides write into the access log.
//! - [`violation`]: what the other side did wrong. A violation ends the link, and only that link.
#![forbid(unsafe_code)]

pub mod access;
pub mod frame;
pub mod head;
pub mod hello;
pub mod outbox;
pub mod private;
pub mod reason;
pub mod stream;
pub mod violation;

pub use frame::{Frame, Header, Reason, StreamId};
pub use hello::Hello;
pub use outbox::Outbox;
pub use stream::Stream;
pub use violation::Violation;

#[cfg(test)]
mod tests;
