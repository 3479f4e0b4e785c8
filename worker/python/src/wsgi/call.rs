//! A request that has a core, as Python hosting sees it: where it runs, what it waits for, and its answer on the way out.
//! `run.rs` carries it through; `write()`, `uwsgi` and the loop reach it from anywhere.
use crate::host::Worker;
use crate::wsgi::files::FileWrapper;
use crate::wsgi::input::Input;
use crate::wsgi::start::Spare;
use crate::{greenlet, raw, wait};
use appliance_worker::answer::{Answer, Cause, Opening};
use appliance_worker::http::declared::Invalid;
use appliance_worker::{CoreId, Errand, Outcome, Request, Sent};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyWeakrefReference};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

mod end;
mod switch;

/// A request that has a core, as Python hosting sees it.
pub struct Call {
    /// Where it runs.
    pub core: CoreId,
    /// What was asked.
    pub request: Request,
    /// What is to be done instead of a request, until it is done.
    pub errand: Cell<Option<Box<Errand>>>,
    /// What it waits for beside being woken (`uwsgi.wait_fd_read`, `async_sleep`).
    pub pending: RefCell<Vec<crate::uwsgi::Pending>>,
    /// uWSGI's log variables.
    pub logvars: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
    /// `uwsgi.log_this_request` was called.
    pub wants_line: Cell<bool>,
    /// The signal that it handles, or has waited for last (`uwsgi.signal_received`).
    pub signal: Cell<u8>,
    /// The descriptor that ended the last wait (`uwsgi.ready_fd`).
    pub ready_fd: Cell<i32>,
    /// What the application was called with.
    pub(super) environ: RefCell<Option<Py<PyDict>>>,
    pub(super) input: RefCell<Option<Py<Input>>>,
    /// A file that `uwsgi.sendfile` has promised as the body.
    pub sendfile: RefCell<Option<Py<FileWrapper>>>,
    pub(super) body: RefCell<Vec<u8>>,
    greenlet: Cell<usize>,
    suspended: RefCell<Option<Py<PyWeakrefReference>>>,
    parked: RefCell<Vec<Py<PyAny>>>,
    resumed: Cell<bool>,
    pub(super) start: RefCell<Option<Rc<Spare>>>,
    pub(super) answer: RefCell<Option<Answer>>,
    ending: Cell<bool>,
    /// The application has ended its response and runs on.
    disconnected: Cell<bool>,
    /// There was nobody to take what was sent.
    unheard: Cell<bool>,
    /// How often it was told that it takes longer than it may.
    timeouts: Cell<u32>,
    /// The application has given the request back for good.
    over: Cell<bool>,
}

/// Why a request could not be answered as the application wanted.
pub(super) enum Trouble {
    /// An exception of the application, or about what it returned.
    Raised(PyErr),
    /// The client is not there any more.
    Gone,
}

impl From<PyErr> for Trouble {
    fn from(error: PyErr) -> Trouble {
        Trouble::Raised(error)
    }
}

impl Call {
    /// A request that was just given a core.
    pub fn new(core: CoreId, mut request: Request) -> Call {
        let body = std::mem::take(&mut request.received.body);
        let errand = Cell::new(request.errand.take());
        Call {
            core,
            errand,
            request,
            pending: RefCell::default(),
            logvars: RefCell::default(),
            wants_line: Cell::new(false),
            signal: Cell::new(0),
            ready_fd: Cell::new(-1),
            environ: RefCell::default(),
            input: RefCell::default(),
            sendfile: RefCell::default(),
            body: RefCell::new(body),
            greenlet: Cell::new(0),
            suspended: RefCell::default(),
            parked: RefCell::default(),
            resumed: Cell::new(false),
            start: RefCell::default(),
            answer: RefCell::default(),
            ending: Cell::new(false),
            disconnected: Cell::new(false),
            unheard: Cell::new(false),
            timeouts: Cell::new(0),
            over: Cell::new(false),
        }
    }

    /// Notes which greenlet serves this request. Only its identity is kept: a reference would keep it alive.
    pub fn set_greenlet(&self, greenlet: &Bound<'_, PyAny>) {
        self.greenlet.set(greenlet.as_ptr().addr());
    }

    /// Whether that is this request's greenlet.
    pub fn is_greenlet(&self, greenlet: &Bound<'_, PyAny>) -> bool {
        self.greenlet.get() == greenlet.as_ptr().addr()
    }

    /// Its greenlet has given the loop back for the first time. One that waits for somebody else's `switch()` must end when
    /// nobody can do that any more, so this is no reference that keeps it alive.
    pub fn set_suspended(&self, greenlet: &Bound<'_, PyAny>) -> PyResult<()> {
        self.suspended.replace(Some(PyWeakrefReference::new(greenlet)?.unbind()));
        Ok(())
    }

    /// Whether the client waits for nothing more: it has been given all of its answer, or the application has ended that.
    pub fn is_answered(&self) -> bool {
        self.disconnected.get() || self.answer.borrow().as_ref().is_some_and(Answer::is_whole)
    }

    /// A greenlet of this request that the engine is to resume.
    pub fn add_parked(&self, greenlet: &Bound<'_, PyAny>) {
        self.parked.borrow_mut().push(greenlet.clone().unbind());
    }

    /// It has been resumed, by whomever.
    pub fn remove_parked(&self, greenlet: &Bound<'_, PyAny>) {
        let mut parked = self.parked.borrow_mut();
        if let Some(at) = parked.iter().position(|one| one.is(greenlet)) {
            let one = parked.swap_remove(at);
            drop(parked);
            // Never the last reference: the caller holds one, since this greenlet runs.
            drop(one);
        }
    }

    /// Whether any greenlet of this request waits for the engine.
    pub fn has_parked(&self) -> bool {
        !self.parked.borrow().is_empty()
    }

    /// Resumes every greenlet that waits now; each looks again at what it waits for.
    pub fn resume(&self, py: Python<'_>) -> PyResult<()> {
        let parked: Vec<_> = self.parked.borrow().iter().map(|one| one.bind(py).clone()).collect();
        for greenlet in parked {
            if self.parked.borrow().iter().any(|one| one.is(&greenlet)) {
                self.set_resumed();
                greenlet::switch(py, &greenlet)?;
            }
        }
        Ok(())
    }

    /// The engine has come back to whatever waits.
    pub fn set_resumed(&self) {
        self.resumed.set(true);
    }

    /// Whether the engine came back to the greenlet that asks, and not somebody else's `switch()`; asked once.
    pub fn take_resumed(&self) -> bool {
        self.resumed.take()
    }

    /// The greenlet was told to end: it must not wait any more.
    pub fn set_ending(&self) {
        self.ending.set(true);
    }

    /// What `wsgi.input` is.
    pub fn input(&self, py: Python<'_>) -> PyResult<Py<Input>> {
        let input = self.input.borrow();
        input
            .as_ref()
            .map(|input| input.clone_ref(py))
            .ok_or_else(|| PyValueError::new_err("the request has no body yet"))
    }

    /// The application's `environ` and its `start_response`, while it has a request.
    pub fn arguments(&self, py: Python<'_>) -> Option<(Py<PyDict>, Py<PyAny>)> {
        let environ = self.environ.borrow().as_ref()?.clone_ref(py);
        let start = self.start.borrow().as_ref()?.callable.clone_ref(py);
        Some((environ, start))
    }

    /// The status of the answer, once it has begun.
    pub fn status(&self) -> Option<u16> {
        self.answer.borrow().as_ref().map(Answer::status)
    }

    /// Whether there is a status and headers for the answer, sent or not.
    pub fn is_started(&self, py: Python<'_>) -> bool {
        self.start.borrow().as_ref().is_some_and(|start| start.started(py).is_some())
    }

    /// Ends the response while the request goes on (uWSGI `disconnect`). A head that waits for a body gets none.
    pub fn end_response(&self, py: Python<'_>, worker: &Worker) -> PyResult<()> {
        // The borrow ends before anything can switch.
        let end = self.answer.borrow().as_ref().map(Answer::end);
        let ended = match end {
            Some(end) => self.send(py, worker, end, false),
            None if self.is_started(py) => self.send_piece(py, worker, b"", Some(0)),
            None => Ok(()),
        };
        if let Err(Trouble::Raised(error)) = ended {
            return Err(error);
        }
        self.disconnected.set(true);
        worker.engine.disconnect(self.core, self.outcome());
        Ok(())
    }

    /// Ends a request that never got as far as its application.
    pub fn abandon(&self, py: Python<'_>, worker: &Worker) {
        // Whoever wants to interrupt it would hit the next request of this thread.
        worker.engine.leave_application(py, self.core);
        worker.engine.abort(self.core, Cause::Exception);
        worker.forget(self.core);
        worker.engine.finish(self.core, Outcome::Cut, true);
    }

    /// How the answer ends if nothing is added to it.
    pub(super) fn outcome(&self) -> Outcome {
        match &*self.answer.borrow() {
            Some(answer) if answer.missing() > 0 => Outcome::Cut,
            Some(answer) if answer.keep_alive() => Outcome::Keep,
            Some(_) => Outcome::Close,
            None => Outcome::Cut,
        }
    }

    /// Sends a piece of the body now; false if the client has left. The loop has its turn after it, as after a chunk of an
    /// iterable: a client that is always faster would keep it for as long as the application goes on.
    pub fn write(&self, py: Python<'_>, worker: &Worker, data: &Bound<'_, PyBytes>) -> PyResult<bool> {
        let sent = self.send_piece(py, worker, data.as_bytes(), None);
        worker.engine.post();
        match sent {
            // A callback of the loop has no turn to give.
            Ok(()) if wait::is_loop(py, worker) => Ok(true),
            Ok(()) => wait::again(py, worker, self).map(|()| true),
            Err(Trouble::Raised(error)) => Err(error),
            Err(Trouble::Gone) => Ok(false),
        }
    }

    /// Opens the answer if that has not been done, and sends a piece of its body. Empty pieces open nothing (PEP 3333:
    /// the headers wait for the first byte), unless `whole` says that there will be no more.
    pub(super) fn send_piece(
        &self,
        py: Python<'_>,
        worker: &Worker,
        content: &[u8],
        whole: Option<u64>,
    ) -> Result<(), Trouble> {
        if content.is_empty() && whole.is_none() && self.answer.borrow().is_none() {
            return Ok(());
        }
        if self.disconnected.get() && !content.is_empty() {
            return Err(Trouble::Gone);
        }
        let head = self.head(py, worker, whole)?;
        self.send_behind(py, worker, head, content)
    }

    /// Opens the answer if that has not been done; what of its head must leave with the first piece of the body. `whole`:
    /// how long the body is, if that is known.
    pub(super) fn head(&self, py: Python<'_>, worker: &Worker, whole: Option<u64>) -> PyResult<Vec<u8>> {
        if self.answer.borrow().is_some() {
            return Ok(Vec::new());
        }
        Ok(self.begin(worker, self.open(py, worker, whole)?))
    }

    /// The answer has a head now; what of it must leave with the first piece of the body.
    pub(super) fn begin(&self, worker: &Worker, (answer, head): (Answer, Vec<u8>)) -> Vec<u8> {
        let end = answer.has_no_body();
        self.answer.replace(Some(answer));
        worker.engine.send_head(self.core, head, end)
    }

    /// Sends a piece of the body behind what has been written before it.
    pub(super) fn send_behind(
        &self,
        py: Python<'_>,
        worker: &Worker,
        out: Vec<u8>,
        content: &[u8],
    ) -> Result<(), Trouble> {
        // The borrow ends before anything can switch.
        let piece = self.answer.borrow_mut().as_mut().map(|answer| answer.piece(content));
        piece.map_or(Ok(()), |piece| piece.send_behind(out, |part, last| self.send(py, worker, part, last)))
    }

    fn open(&self, py: Python<'_>, worker: &Worker, whole: Option<u64>) -> PyResult<(Answer, Vec<u8>)> {
        let start = self.start.borrow().clone();
        let Some((start, (status, headers))) =
            start.and_then(|start| start.started(py).map(|said| (start, said)))
        else {
            return Err(PyValueError::new_err(
                "the application returned a body without calling start_response()",
            ));
        };
        let opening = self.opening(status.bind(py), headers.bind(py))?;
        start.set_head_sent();
        Ok(opening.finish(&worker.engine, self.core, &self.request, whole))
    }

    fn opening(&self, status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) -> PyResult<Opening> {
        let invalid = |error: Invalid| PyValueError::new_err(error.to_string());
        let status = raw::latin1_bytes(status)?;
        let mut opening = Opening::new(&self.request, self.core, &status).map_err(invalid)?;
        self.put_variables(&mut opening);
        for item in headers {
            let wrong =
                |_| PyTypeError::new_err("start_response(): a header is not a (str, str) tuple (PEP 3333)");
            let (name, value): (Bound<'_, PyString>, Bound<'_, PyString>) = item.extract().map_err(wrong)?;
            opening.header(&raw::latin1_bytes(&name)?, &raw::latin1_bytes(&value)?).map_err(invalid)?;
        }
        Ok(opening)
    }

    /// What `uwsgi.set_logvar` has noted so far goes with the head of the answer.
    pub(super) fn put_variables(&self, opening: &mut Opening) {
        opening.variables(self.logvars.borrow().iter().map(|(key, value)| (&**key, &**value)));
    }

    /// Sends bytes, which may be the `last` of the answer; waits, and lets the others run, while the client is slower
    /// than we are.
    pub(super) fn send(
        &self,
        py: Python<'_>,
        worker: &Worker,
        mut data: &[u8],
        last: bool,
    ) -> Result<(), Trouble> {
        while !data.is_empty() {
            match worker.engine.send(self.core, data, last) {
                Sent::All => break,
                Sent::Part(n) => {
                    data = &data[n..];
                    self.wait_for_room(py, worker)?;
                }
                Sent::Gone => {
                    self.unheard.set(true);
                    return Err(Trouble::Gone);
                }
            }
        }
        Ok(())
    }

    /// Waits until the client has taken some of what was sent. A request that was told to end does not wait.
    pub(super) fn wait_for_room(&self, py: Python<'_>, worker: &Worker) -> Result<(), Trouble> {
        if self.ending.get() {
            return Err(Trouble::Gone);
        }
        Ok(wait::park(py, worker, self)?)
    }
}
