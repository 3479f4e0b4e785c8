//! The configuration of `appliance`: what is written in `appliance.toml`, the environment and the flags, and what it
//! means. Nothing here binds, forks or logs.
#![forbid(unsafe_code)]

/// Validated settings.
pub mod settings;
pub use settings::Settings;
