//! Caches of other servers, as uWSGI's calls name and ask them. Only the request that asks waits. Whatever keeps an answer from
//! coming is a miss, and the log says what.
use crate::remote::RemoteCache;
use appliance_worker::cache::Math;
use appliance_worker::wire::asked::{Action, Answered, Count};
use pyo3::prelude::*;

/// A cache of another server.
pub struct There<'a>(RemoteCache<'a>);

impl<'a> There<'a> {
    /// The cache of this name, if the name says that it is elsewhere.
    pub fn of(name: Option<&'a str>) -> Option<There<'a>> {
        RemoteCache::of(name?).map(There)
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
        let answered = self.0.ask(py, key, action, u64::try_from(expires).unwrap_or(0), value)?;
        Ok(answered.unwrap_or_else(|why| {
            tracing::warn!("remote cache {:?}: {why}", self.0.name);
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
