//! Caches of other servers for `appliance.cache`: what can be asked of them, and what comes of it as Python expects it. Only
//! the request that asks waits. Called by the functions beside it when a name has an `@`. Here a peer that is away is an
//! exception that names it; the protocol has no word for why something is refused, so that is said with what it may be.
use super::error_class;
use crate::remote::{RemoteCache, Unanswered};
use appliance_worker::wire::asked::{Action, Answered, Count};
use appliance_worker::wire::client::Failure;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A cache of another server, under the name by which the application knows it.
pub struct There<'a> {
    name: &'a str,
    cache: RemoteCache<'a>,
}

impl<'a> There<'a> {
    /// The cache of this name, if the name says that it is elsewhere.
    pub fn of(name: &'a str) -> Option<There<'a>> {
        RemoteCache::of(name).map(|cache| There { name, cache })
    }

    /// The value of a key.
    pub fn read(&self, py: Python<'_>, key: &[u8]) -> PyResult<Option<Vec<u8>>> {
        Ok(match self.ask(py, key, Action::Get, None, &[])? {
            Answered::Value(value) => Some(value),
            Answered::Yes | Answered::No => None,
        })
    }

    /// Whether there is such a key.
    pub fn has(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        Ok(self.ask(py, key, Action::Exists, None, &[])? != Answered::No)
    }

    /// Stores a value; false if it was only to be added and there is one.
    pub fn write(
        &self,
        py: Python<'_>,
        key: &[u8],
        value: &[u8],
        ttl: Option<f64>,
        only_add: bool,
    ) -> PyResult<bool> {
        if value.is_empty() {
            return Err(PyValueError::new_err(
                self.said("a value that is sent to another server has 1 byte at least"),
            ));
        }
        let size = value.len() as u64;
        let action = if only_add { Action::Set(size) } else { Action::Update(size) };
        // One that came or went between the two questions is tried once more.
        for _ in 0..2 {
            if self.ask(py, key, action, ttl, value)? != Answered::No {
                return Ok(true);
            }
            // A refused one that is there all the same is what `add` asks for.
            if only_add && self.has(py, key)? {
                return Ok(false);
            }
        }
        Err(self.refused(py))
    }

    /// Removes an item; false if there was none.
    pub fn remove(&self, py: Python<'_>, key: &[u8]) -> PyResult<bool> {
        Ok(self.ask(py, key, Action::Delete, None, &[])? != Answered::No)
    }

    /// Removes everything.
    pub fn wipe(&self, py: Python<'_>) -> PyResult<()> {
        match self.exchange(py, &[], Action::Clear, 0, &[])? {
            Answered::No => Err(self.refused(py)),
            Answered::Yes | Answered::Value(_) => Ok(()),
        }
    }

    /// Adds to the number of a key, and gives it.
    pub fn count(&self, py: Python<'_>, key: &[u8], n: i64, ttl: Option<f64>) -> PyResult<i64> {
        let number = match self.ask(py, key, Action::Count(Count::Add, n), ttl, &[])? {
            Answered::Value(digits) => std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok()),
            Answered::Yes => None,
            Answered::No => return Err(self.refused(py)),
        };
        number.ok_or_else(|| self.error(py, "has counted, and has not said how far"))
    }

    /// The exception for what the protocol has no word for.
    pub fn cannot(&self, py: Python<'_>, what: &str) -> PyErr {
        let why = format!(
            "the protocol between servers has no word for {what}; call a procedure there (appliance.rpc)"
        );
        self.error(py, &why)
    }

    fn ask(
        &self,
        py: Python<'_>,
        key: &[u8],
        action: Action,
        ttl: Option<f64>,
        value: &[u8],
    ) -> PyResult<Answered> {
        // How long one may be is up to the other server.
        if key.is_empty() {
            return Err(PyValueError::new_err(self.said("a key has 1 byte at least")));
        }
        let expires = ttl.map(whole_seconds).transpose();
        let expires = expires.map_err(|why| PyValueError::new_err(self.said(&why)))?.unwrap_or(0);
        self.exchange(py, key, action, expires, value)
    }

    fn exchange(
        &self,
        py: Python<'_>,
        key: &[u8],
        action: Action,
        expires: u64,
        value: &[u8],
    ) -> PyResult<Answered> {
        self.cache.ask(py, key, action, expires, value)?.map_err(|why| match why {
            Unanswered::NoAddress(_) | Unanswered::Failed(Failure::TooLong(_)) => {
                PyValueError::new_err(self.said(&why.to_string()))
            }
            Unanswered::Failed(Failure::Unreachable(..)) => {
                self.error(py, &format!("{why}; is a server there that shares it ([cache.NAME] listen)?"))
            }
            Unanswered::Failed(_) => self.error(py, &why.to_string()),
        })
    }

    fn refused(&self, py: Python<'_>) -> PyErr {
        self.error(
            py,
            "has refused it, and the protocol between servers cannot say why: is there such a cache that listens \
             ([cache.NAME] listen), with room, or the item a number? its log may tell",
        )
    }

    fn error(&self, py: Python<'_>, why: &str) -> PyErr {
        let text = self.said(why);
        error_class(py).map_or_else(|error| error, |class| PyErr::from_type(class.clone(), text))
    }

    fn said(&self, why: &str) -> String {
        format!("cache {}: {why}", self.name)
    }
}

/// Seconds as they are told to other servers, where 0 leaves it to the cache.
fn whole_seconds(ttl: f64) -> Result<u64, String> {
    match ttl {
        ttl if ttl >= 1.0 && ttl.fract() == 0.0 && ttl < u32::MAX.into() => Ok(ttl as u64),
        _ => Err(format!(
            "ttl {ttl}: another server is told whole seconds, 1 or more; None leaves it to its cache"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::whole_seconds;

    #[test]
    fn other_servers_are_told_whole_seconds() {
        assert_eq!(whole_seconds(1.0), Ok(1));
        assert_eq!(whole_seconds(3600.0), Ok(3600));
        for ttl in [0.0, 0.5, 1.5, -1.0, f64::NAN, f64::INFINITY, 1e18] {
            assert!(whole_seconds(ttl).unwrap_err().contains("whole seconds"), "{ttl}");
        }
    }
}
