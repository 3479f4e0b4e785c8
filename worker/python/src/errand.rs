//! Errands in Python: what runs on a core, in a greenlet or a thread of its own, without being a request. An errand has a
//! [`Call`] like a request, so whatever suspends works in it; it has no `environ` and nobody to answer. Called by
//! `wsgi::run` in place of the application; ends exactly once, whatever happens.
use crate::host::Worker;
use crate::timeout;
use crate::uwsgi::{rpc, signals};
use crate::wsgi::call::Call;
use crate::wsgi::run;
use appliance_worker::{Errand, Outcome};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What an [`Errand::Host`] carries: it is called on the core, with the GIL, and may suspend. Its exception is logged.
pub type Work = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// Does the errand of this greenlet, or thread. Never raises and never unwinds.
pub fn serve(py: Python<'_>, worker: &Worker, call: &Call, errand: Errand) {
    let done = catch_unwind(AssertUnwindSafe(|| perform(py, errand)));
    call.set_over();
    if worker.engine.leave_application(py, call.core) {
        call.count_timeout();
    }
    match &done {
        // Where it was when it was told to end has been logged.
        Ok(Err(error)) if !timeout::is_said_by(py, error) => run::report(py, call.core, &call.request, error),
        // The panic hook has logged where.
        Ok(_) | Err(_) => {}
    }
    run::leave(py, worker, call, Outcome::Cut, !matches!(done, Ok(Ok(()))));
}

fn perform(py: Python<'_>, errand: Errand) -> PyResult<()> {
    match errand {
        Errand::Signal(mut ticket) => {
            ticket.begin();
            // The ticket is held until the handler has ended.
            signals::handle(py, ticket.number())
        }
        Errand::Rpc { name, args, reply } => rpc::serve(py, &name, &args, reply),
        Errand::Host { kind, work, .. } => match work.downcast::<Work>() {
            Ok(work) => work(py),
            Err(_) => Err(PyRuntimeError::new_err(format!("nothing here knows how to do an errand {kind}"))),
        },
    }
}
