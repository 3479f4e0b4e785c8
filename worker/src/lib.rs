//! The loop engine of `appliance`.

/// The C interface between the binary and the engine library.
pub mod abi;
/// The shared-memory page on which workers publish what they do.
pub mod board;
/// The HTTP/1.1 protocol, without I/O.
pub mod http;
/// One log subscriber per process.
pub mod logging;
