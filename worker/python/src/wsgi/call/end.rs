//! How a request is ended from outside: because its client has left, or because it takes longer than it may. Both are an exception
//! that is thrown into its greenlet where that waits; and with the request end the greenlets of its own that still wait.
use super::Call;
use crate::host::Worker;
use crate::{disconnect, greenlet, timeout};
use appliance_worker::roll::Roll;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefMethods;

impl Call {
    /// Whether the client has left before it had its answer. Afterwards it may, and when the application has ended its
    /// response it is not missed either.
    pub(in crate::wsgi) fn was_left(&self, worker: &Worker) -> bool {
        let is_missed =
            || self.unheard.get() || !(self.is_answered() || worker.engine.is_connected(self.core));
        !self.disconnected.get() && is_missed()
    }

    /// The client has left: ends the request where it waits, unless the client has had its answer.
    pub fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_answered() {
            return Ok(());
        }
        let greenlet = self.suspended.borrow().as_ref().and_then(|greenlet| greenlet.bind(py).upgrade());
        match greenlet {
            Some(greenlet) => greenlet::throw(py, &greenlet, &disconnect::exception(py)?).map(drop),
            None => Ok(()),
        }
    }

    /// The request takes longer than it may: ends it where it waits.
    pub fn time_out(&self, py: Python<'_>, roll: &Roll) -> PyResult<()> {
        let greenlet = self.suspended.borrow().as_ref().and_then(|greenlet| greenlet.bind(py).upgrade());
        let Some(greenlet) = greenlet else { return Ok(()) };
        let frame = greenlet.getattr("gr_frame").ok();
        timeout::log(py, roll, self.core, frame.as_ref(), self.count_timeout());
        greenlet::throw(py, &greenlet, &timeout::exception(py)?).map(drop)
    }

    /// It is told now that it takes longer than it may; how often it was told before.
    pub fn count_timeout(&self) -> u32 {
        let before = self.timeouts.get();
        self.timeouts.set(before.saturating_add(1));
        before
    }

    /// Whether it was told that it takes longer than it may.
    pub(in crate::wsgi) fn was_timed_out(&self) -> bool {
        self.timeouts.get() > 0
    }

    /// Whether no code of the application runs for this request any more.
    pub fn is_over(&self) -> bool {
        self.over.get()
    }

    /// See [`Call::is_over`].
    pub fn set_over(&self) {
        self.over.set(true);
    }

    /// The request is over, and nothing would ever come back to greenlets of its own that still wait: they end with it.
    pub(in crate::wsgi) fn end_parked(&self, py: Python<'_>) -> PyResult<()> {
        let left = self.parked.borrow().len();
        for _ in 0..left {
            let one = self.parked.borrow_mut().pop();
            let (Some(one), Some(exit)) = (one, greenlet::exit(py)) else { break };
            match greenlet::throw(py, one.bind(py), &exit.call0()?) {
                Err(error) if !greenlet::is_exit(py, &error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
