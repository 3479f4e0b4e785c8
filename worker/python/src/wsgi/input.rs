//! `wsgi.input`: the request's body as a binary stream. What has not arrived yet is waited for, which suspends the request
//! and nobody else. A body that was cut short raises `OSError`; it never looks complete.
use crate::wait;
use appliance_worker::{BodyRead, CoreId};
use pyo3::exceptions::{PyOSError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes asked of the connection at once.
const PIECE: usize = 64 * 1024;

/// See the module. Belongs to one request; afterwards it can still give what was buffered, then raises.
#[pyclass(frozen, module = "appliance")]
pub struct Input {
    state: Mutex<State>,
}

struct State {
    /// The request to read on for; `None` when all of the body is in `buffer`.
    core: Option<CoreId>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were given away.
    used: usize,
}

impl State {
    fn available(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    fn take(&mut self, n: usize) -> &[u8] {
        let start = self.used;
        self.used += n.min(self.buffer.len() - start);
        &self.buffer[start..self.used]
    }
}

impl Input {
    /// `body` is what has arrived; with a `core` more is to come.
    pub fn new(body: Vec<u8>, core: Option<CoreId>) -> Input {
        Input { state: Mutex::new(State { core, buffer: body, used: 0 }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way, and nothing under it waits.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends more of the body to the buffer; false at its end. Suspends the request while nothing is there, so no
    /// borrow of the state is held here.
    fn fill(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        let core = self.state().core;
        let Some(core) = core else { return Ok(false) };
        let mut piece = Vec::new();
        let read = wait::for_body(py, core, &mut piece, PIECE, deadline)?;
        let mut state = self.state();
        let used = std::mem::take(&mut state.used);
        state.buffer.drain(..used);
        state.buffer.append(&mut piece);
        match read {
            BodyRead::End => state.core = None,
            BodyRead::Cut(why) => return Err(PyOSError::new_err(why)),
            BodyRead::Data | BodyRead::Wait => {}
        }
        Ok(read == BodyRead::Data)
    }

    /// Buffers until `enough` says so, or the body ends.
    fn fill_until(&self, py: Python<'_>, mut enough: impl FnMut(&[u8]) -> bool) -> PyResult<()> {
        loop {
            let is_enough = enough(self.state().available());
            if is_enough || !self.fill(py, None)? {
                break;
            }
        }
        Ok(())
    }

    fn has_available(&self) -> bool {
        !self.state().available().is_empty()
    }

    fn give<'py>(&self, py: Python<'py>, n: usize) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.state().take(n))
    }

    /// What is there of the body, at least one byte; waits only while nothing is; empty at the end. `OSError` when
    /// `deadline` passes before, for which the caller keeps a timer.
    pub fn read_some<'py>(
        &self,
        py: Python<'py>,
        deadline: Option<Instant>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        while !self.has_available() && self.fill(py, deadline)? {}
        Ok(self.give(py, usize::MAX))
    }

    /// What is there already; `None` if more has to be waited for.
    pub fn read_now<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if !self.has_available() {
            match self.fill(py, Some(Instant::now())) {
                Err(error) if error.is_instance_of::<PyTimeoutError>(py) => return Ok(None),
                other => other?,
            };
        }
        Ok(Some(self.give(py, usize::MAX)))
    }

    fn line<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let most = limit(size);
        // What was searched once has no line end: only new bytes are looked at.
        let mut searched = 0;
        let mut end = None;
        self.fill_until(py, |available| {
            end = available[searched..].iter().position(|&byte| byte == b'\n').map(|at| searched + at + 1);
            searched = available.len();
            end.is_some() || searched >= most
        })?;
        let n = end.unwrap_or(usize::MAX).min(most);
        Ok(self.give(py, n))
    }
}

/// A missing, `None` or negative size means no limit.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX)
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let most = limit(size);
        self.fill_until(py, |available| available.len() >= most)?;
        Ok(self.give(py, most))
    }

    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.line(py, size)
    }

    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let (mut total, most) = (0, limit(hint.filter(|&hint| hint > 0)));
        while total < most {
            let line = self.line(py, None)?;
            if line.as_bytes().is_empty() {
                break;
            }
            total += line.as_bytes().len();
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(py, None)?;
        Ok((!line.as_bytes().is_empty()).then_some(line))
    }
}
