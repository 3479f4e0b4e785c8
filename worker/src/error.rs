//! What can end a worker. Each variant names the operation and its object.
use std::io;

/// Why a worker could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The loop itself failed.
    #[error("{what}: {source}")]
    Io {
        /// Operation and object.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The native listener cannot be bound.
    #[error("native listener {address}: {source}; choose another native.base_port, or leave it out")]
    Native {
        /// Address and port.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The application does not want to be served.
    #[error("the application refuses to start in this worker: {0}")]
    Application(String),
}

impl Error {
    /// For `map_err`: names what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
