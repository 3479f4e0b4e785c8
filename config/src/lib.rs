//! The configuration of `appliance`: what is written in `appliance.toml`, the environment and the flags, and what it
//! means. The binary calls [`load`] once at its start, or [`locate`] to find one that runs; the proxy and the workers only
//! read [`Settings`]. Nothing here binds, forks or logs, and the environment is an argument.
//!
//! ```text
//! appliance.toml ─ toml_file ┐
//! APPLIANCE_*    ────────────┼─ screen ─ figment ─► Written ─ discover ─ check ─► Settings
//! flags          ────────────┘ (unknown keys)          │   (what is there)          │
//!                                                      └─────────── show ───────────┘
//! ```
//! [`keys`] is the list of everything that can be written: loading, errors, `config show`, the documentation and the
//! packaged sample are all held against it.
#![forbid(unsafe_code)]

mod load;
pub use load::{Loaded, Request, Whereabouts, load, locate};

pub mod change;
pub use change::{Change, changes};

pub mod application;
pub use application::{Interface, Target};

pub mod settings;
pub use settings::Settings;

pub mod error;
pub use error::{Error, Errors};

pub mod remote;

pub mod form;
pub mod keys;
pub mod units;

mod check;
mod conflicts;
mod discover;
mod reader;
mod screen;
mod show;
mod suggest;
mod toml_file;
mod written;

#[cfg(test)]
mod tests;
