//! HTTP/1.1 as pure code: bytes in, values out, no sockets, no clock and no logging. `conn` feeds it and obeys it.
//!
//! ```text
//! bytes ─► head (scan → httparse → target, fields) ─► Head ─► body::Decoder ─► request
//! answer ◄─ encode ◄─ plan ◄─ declared ◄─ status and headers of the application
//! ```
//! Where RFC 9112 leaves a choice between repairing and refusing, we refuse: what two parsers repair differently is
//! how requests are smuggled.

/// A request body, decoded as it arrives.
pub mod body;
/// What an application says about its answer, checked before a byte of it is sent.
pub mod declared;
/// Bytes of answers.
pub mod encode;
/// A request head.
pub mod head;
/// How an answer is framed, and whether its connection goes on.
pub mod plan;

mod fields;
pub(crate) mod grammar;
mod refusal;
mod scan;
mod target;

#[cfg(test)]
pub(crate) mod corpus;
#[cfg(test)]
mod speed;

pub use fields::Framing;
pub use head::{Head, Version};
pub use refusal::Refusal;
pub use scan::{Limits, Scan};
