//! What every thread of a worker may know of it: plain figures, without the loop and without a request. Set once, after the
//! fork.
use appliance_worker::Engine;
use appliance_worker::board::Board;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::{Arc, OnceLock};

static HOME: OnceLock<Home> = OnceLock::new();

/// See the module.
pub struct Home {
    /// Number of this worker, from 1.
    pub worker_id: u32,
    /// The board that all workers share.
    pub board: Arc<Board>,
}

impl Home {
    /// Makes this process a worker.
    pub fn install(engine: &Engine) {
        // A process becomes a worker once.
        let _ = HOME.set(Home { worker_id: engine.worker_id(), board: Arc::clone(engine.board()) });
    }

    /// This worker; none in the template.
    pub fn get() -> Option<&'static Home> {
        HOME.get()
    }

    /// The same where there must be one.
    pub fn of(what: &str) -> PyResult<&'static Home> {
        HOME.get().ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "{what} works only in a worker, not while the application is imported"
            ))
        })
    }
}
