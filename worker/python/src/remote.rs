//! Other servers, as Python asks them: whoever calls is suspended until they answer, and everybody else goes on. Used by what
//! speaks of remote caches and procedures; what is said over there is the business of [`appliance_worker::wire`].
use crate::suspended::Suspended;
use appliance_config::Settings;
use appliance_worker::wire::client::Failure;
use appliance_worker::wire::remote::Remote;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::OnceLock;
use std::time::Duration;

/// How long a question may take, and how long its answer may be.
static TERMS: OnceLock<(Duration, usize)> = OnceLock::new();

/// From here on others can be asked.
pub fn set_terms(settings: &Settings) {
    // A process loads its settings once.
    let _ = TERMS.set((settings.timeouts.remote, settings.limits.remote));
}

/// Lets `ask` ask another server; `what` names the call to an application that must not wait here. The outer error ends
/// whoever calls (its client has left, it takes longer than it may), the inner one says why there is no answer.
pub fn ask<T>(
    py: Python<'_>,
    what: &str,
    ask: impl FnOnce(&Remote<'_>) -> Result<T, Failure>,
) -> PyResult<Result<T, Failure>> {
    let Some((timeout, most)) = TERMS.get().copied() else {
        return Err(PyRuntimeError::new_err(format!("{what} works only in the server")));
    };
    let here = Suspended::here(py, what)?;
    match ask(&Remote { suspend: &here, timeout, most }) {
        Err(Failure::Ended(error)) => Err(here.raise(error)),
        answered => Ok(answered),
    }
}
