//! Caches of other servers, as uWSGI names them: `name@host:port`, `name@/unix/socket`, and `@host:port` for the one that the
//! server has first. Only the request that asks waits. Whatever keeps an answer from coming is a miss, and the log says what.
use crate::remote;
use appliance_worker::cache::Math;
use appliance_worker::wire::address::{Address, split};
use appliance_worker::wire::asked::{Action, Answered, Asked, Count};
use pyo3::prelude::*;

/// A cache of another server.
pub struct There<'a> {
    cache: &'a str,
    address: &'a str,
}

impl<'a> There<'a> {
    /// The cache of this name, if the name says that it is elsewhere.
    pub fn of(name: Option<&'a str>) -> Option<There<'a>> {
        let (cache, address) = split(name?)?;
        Some(There { cache, address })
    }

    /// The value of an item.
    pub fn get(&self, py: Python<'_>, key: &[u8]) -> PyResult<Option<Vec<u8>>> {
        Ok(match self.ask(py, key, Action::Get, 0, &[])? {
            // uWSGI knows no empty value.
            Answered::Value(value) => Some(value).filter(|value| !value.is_empty()),
            Answered::Yes | Answered::No => None,
        })
    }

    /// Has something done: `True`, or `None` if it was not. `value` is what an item is to have.
    pub fn tell(
        &self,
        py: Python<'_>,
        key: &[u8],
        action: Action,
        expires: i64,
        value: &[u8],
    ) -> PyResult<Option<bool>> {
        let answered = self.ask(py, key, action, expires, value)?;
        Ok((answered != Answered::No).then_some(true))
    }

    fn ask(
        &self,
        py: Python<'_>,
        key: &[u8],
        action: Action,
        expires: i64,
        value: &[u8],
    ) -> PyResult<Answered> {
        let address: Address = match self.address.parse() {
            Ok(address) => address,
            Err(error) => {
                tracing::warn!("remote cache {:?}: {error}", self.cache);
                return Ok(Answered::No);
            }
        };
        let (cache, key) = (self.cache.as_bytes().to_vec(), key.to_vec());
        let asked = Asked { cache, key, action, expires: u64::try_from(expires).unwrap_or(0) };
        let answered = remote::ask(py, "a remote cache", |remote| remote.ask_cache(&address, &asked, value))?;
        Ok(answered.unwrap_or_else(|failure| {
            tracing::warn!("remote cache {:?}: {failure}", self.cache);
            Answered::No
        }))
    }
}

/// The same sum, as it is said to others.
pub fn count(math: Math) -> Action {
    match math {
        Math::Add(n) => Action::Count(Count::Add, n),
        Math::Subtract(n) => Action::Count(Count::Subtract, n),
        Math::Multiply(n) => Action::Count(Count::Multiply, n),
        Math::Divide(n) => Action::Count(Count::Divide, n),
    }
}
