//! Other servers, as Python asks them: whoever calls is suspended until they answer, and everybody else goes on. Used by what
//! speaks of remote caches and procedures; what is said over there is the business of [`appliance_worker::wire`].
use crate::suspended::Suspended;
use appliance_config::Settings;
use appliance_worker::wire::address::{Address, NoAddress, split};
use appliance_worker::wire::asked::{Action, Answered, Asked};
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

/// A cache of another server, as it is named everywhere: `name@host:port`, `name@/unix/socket`, and `@host:port` for the one
/// that the server has first.
pub struct RemoteCache<'a> {
    /// Its name over there; may be empty.
    pub name: &'a str,
    address: &'a str,
}

/// Why a remote cache has not answered.
pub enum Unanswered {
    /// What stands behind the `@` cannot be asked.
    NoAddress(NoAddress),
    /// Anything else.
    Failed(Failure),
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unanswered::NoAddress(error) => error.fmt(f),
            Unanswered::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<'a> RemoteCache<'a> {
    /// The cache of this name, if the name says that it is elsewhere.
    pub fn of(name: &'a str) -> Option<RemoteCache<'a>> {
        split(name).map(|(name, address)| RemoteCache { name, address })
    }

    /// Asks it; the errors are those of [`ask`]. `value` is what an item is to have, `expires` its life in seconds, 0 for none.
    pub fn ask(
        &self,
        py: Python<'_>,
        key: &[u8],
        action: Action,
        expires: u64,
        value: &[u8],
    ) -> PyResult<Result<Answered, Unanswered>> {
        let address: Address = match self.address.parse() {
            Ok(address) => address,
            Err(error) => return Ok(Err(Unanswered::NoAddress(error))),
        };
        let asked = Asked { cache: self.name.as_bytes().to_vec(), key: key.to_vec(), action, expires };
        let answered = ask(py, "a remote cache", |remote| remote.ask_cache(&address, &asked, value))?;
        Ok(answered.map_err(Unanswered::Failed))
    }
}
