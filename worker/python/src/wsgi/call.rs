//! One call of a WSGI application: enters it, sends what it returns, and ends the request exactly once, whatever happens.
//! Runs in the greenlet of its core; `write()` may come from anywhere.
use crate::host::Worker;
use crate::wsgi::input::Input;
use crate::wsgi::start::Spare;
use crate::{greenlet, log, raw, wait};
use appliance_worker::answer::{Answer, Opening, TOGETHER};
use appliance_worker::{CoreId, Request, Sent};
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// A request that has a core, as Python hosting sees it.
pub struct Call {
    /// Where it runs.
    pub core: CoreId,
    /// What was asked.
    pub request: Request,
    /// What it waits for beside being woken (`uwsgi.wait_fd_read`, `async_sleep`).
    pub pending: RefCell<Vec<crate::uwsgi::Pending>>,
    /// uWSGI's log variables.
    pub logvars: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
    /// The descriptor that ended the last wait (`uwsgi.ready_fd`).
    pub ready_fd: Cell<i32>,
    input: RefCell<Option<Py<Input>>>,
    /// A file that `uwsgi.sendfile` has promised as the body.
    pub sendfile: RefCell<Option<Py<PyAny>>>,
    body: RefCell<Vec<u8>>,
    greenlet: Cell<usize>,
    parked: RefCell<Vec<Py<PyAny>>>,
    resumed: Cell<bool>,
    start: RefCell<Option<Rc<Spare>>>,
    answer: RefCell<Option<Answer>>,
    ending: Cell<bool>,
}

/// Why a request could not be answered as the application wanted.
enum Trouble {
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
        Call {
            core,
            request,
            pending: RefCell::default(),
            logvars: RefCell::default(),
            ready_fd: Cell::new(-1),
            input: RefCell::default(),
            sendfile: RefCell::default(),
            body: RefCell::new(body),
            greenlet: Cell::new(0),
            parked: RefCell::default(),
            resumed: Cell::new(false),
            start: RefCell::default(),
            answer: RefCell::default(),
            ending: Cell::new(false),
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
                self.resumed.set(true);
                greenlet::switch(py, &greenlet)?;
            }
        }
        Ok(())
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

    /// Ends the response while the request goes on (uWSGI `disconnect`).
    pub fn end_response(&self, py: Python<'_>, worker: &Worker) {
        let end = self.answer.borrow().as_ref().map_or(&b""[..], Answer::end);
        let _ = self.send(py, worker, end);
        worker.engine.disconnect(self.core);
    }

    /// Ends a request that never got a greenlet.
    pub fn abandon(&self, worker: &Worker) {
        worker.engine.abort(self.core);
        worker.forget(self.core);
        worker.engine.finish(self.core, false, true);
    }

    /// Sends data through `write()`.
    pub fn write(&self, py: Python<'_>, worker: &Worker, data: &Bound<'_, PyBytes>) -> PyResult<()> {
        match self.send_piece(py, worker, data.as_bytes(), None) {
            Ok(()) => Ok(()),
            Err(Trouble::Raised(error)) => Err(error),
            Err(Trouble::Gone) => Err(PyOSError::new_err("write(): the client has left")),
        }
    }

    /// Opens the answer if that has not been done, and sends a piece of its body. Empty pieces open nothing (PEP 3333:
    /// the headers wait for the first byte), unless `whole` says that there will be no more.
    fn send_piece(
        &self,
        py: Python<'_>,
        worker: &Worker,
        content: &[u8],
        whole: Option<u64>,
    ) -> Result<(), Trouble> {
        let mut out = Vec::new();
        if self.answer.borrow().is_none() {
            if content.is_empty() && whole.is_none() {
                return Ok(());
            }
            let (answer, head) = self.open(py, worker, whole)?;
            out = head;
            self.answer.replace(Some(answer));
        }
        // The borrow ends before anything can switch.
        let piece = self.answer.borrow_mut().as_mut().map(|answer| answer.piece(content));
        let Some(piece) = piece else { return Ok(()) };
        out.extend_from_slice(&piece.before);
        if piece.content.len() <= TOGETHER {
            out.extend_from_slice(piece.content);
            out.extend_from_slice(piece.after);
            return self.send(py, worker, &out);
        }
        self.send(py, worker, &out)?;
        self.send(py, worker, piece.content)?;
        self.send(py, worker, piece.after)
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
        let opening = opening(status.bind(py), headers.bind(py))?;
        start.set_head_sent();
        Ok(opening.finish(&worker.engine, self.core, &self.request, whole))
    }

    /// Sends bytes; waits, and lets the others run, while the client is slower than we are.
    fn send(&self, py: Python<'_>, worker: &Worker, mut data: &[u8]) -> Result<(), Trouble> {
        while !data.is_empty() {
            match worker.engine.send(self.core, data) {
                Sent::All => break,
                Sent::Part(n) if !self.ending.get() => {
                    data = &data[n..];
                    wait::park(py, worker, self)?;
                }
                Sent::Part(_) | Sent::Gone => return Err(Trouble::Gone),
            }
        }
        Ok(())
    }
}

fn opening(status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) -> PyResult<Opening> {
    let invalid = |error: appliance_worker::http::declared::Invalid| PyValueError::new_err(error.to_string());
    let mut opening = Opening::new(&raw::latin1_bytes(status)?).map_err(invalid)?;
    for item in headers {
        let wrong =
            |_| PyTypeError::new_err("start_response(): a header is not a (str, str) tuple (PEP 3333)");
        let (name, value): (Bound<'_, PyString>, Bound<'_, PyString>) = item.extract().map_err(wrong)?;
        opening.header(&raw::latin1_bytes(&name)?, &raw::latin1_bytes(&value)?).map_err(invalid)?;
    }
    Ok(opening)
}

/// Serves the request of this greenlet from beginning to end. Never raises and never unwinds.
pub fn serve(py: Python<'_>, worker: &Worker, call: &Rc<Call>) {
    let served = catch_unwind(AssertUnwindSafe(|| run(py, worker, call)));
    let (keep, failed) = match served {
        Ok(Ok(())) => (close_answer(call), false),
        Ok(Err(Trouble::Gone)) => {
            tracing::debug!(core = call.core.index, "the client left before the response was complete");
            (false, false)
        }
        Ok(Err(Trouble::Raised(error))) => {
            report(py, call, &error);
            (fail(py, worker, call), true)
        }
        // The panic hook has logged where.
        Err(_) => (fail(py, worker, call), true),
    };
    crate::uwsgi::forget_pending(worker, call);
    if let Some(start) = call.start.take().and_then(Rc::into_inner) {
        start.give_back(py, worker);
    }
    worker.forget(call.core);
    worker.engine.finish(call.core, keep, failed);
}

fn run(py: Python<'_>, worker: &Worker, call: &Rc<Call>) -> Result<(), Trouble> {
    let more = (!call.request.received.complete).then_some(call.core);
    let input = Bound::new(py, Input::new(call.body.take(), more))?;
    let environ = worker.template.environ(py, &call.request, input.clone().into_any(), call.core.index)?;
    call.input.replace(Some(input.unbind()));
    let start = Rc::new(Spare::take(py, worker, call.core)?);
    call.start.replace(Some(Rc::clone(&start)));
    let result = worker.app.bind(py).call1((environ, start.callable.bind(py)))?;
    drop(start);
    match call.sendfile.take() {
        Some(file) => {
            let file = file.into_bound(py);
            let streamed = stream(py, worker, call, &file);
            let closed = close(py, &file).and(close(py, &result));
            streamed?;
            closed?;
        }
        None => respond(py, worker, call, result)?,
    }
    end(py, worker, call)
}

fn respond(py: Python<'_>, worker: &Worker, call: &Call, result: Bound<'_, PyAny>) -> Result<(), Trouble> {
    if let Ok(bytes) = result.cast::<PyBytes>() {
        return call.send_piece(py, worker, bytes.as_bytes(), Some(bytes.as_bytes().len() as u64));
    }
    if result.is_none() {
        return Err(PyTypeError::new_err(
            "the application returned None instead of an iterable of bytes (PEP 3333)",
        )
        .into());
    }
    if result.is_instance_of::<PyString>() {
        return Err(not_bytes(&result).into());
    }
    if let Ok(list) = result.cast_exact::<PyList>() {
        return whole(py, worker, call, list.iter().collect());
    }
    if let Ok(tuple) = result.cast_exact::<PyTuple>() {
        return whole(py, worker, call, tuple.iter().collect());
    }
    let streamed = stream(py, worker, call, &result);
    let closed = close(py, &result);
    streamed?;
    Ok(closed?)
}

/// PEP 3333: whatever has a `close()` is closed, however the request ended.
fn close(py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
    match result.getattr_opt(pyo3::intern!(py, "close"))? {
        Some(close) => close.call0().map(drop),
        None => Ok(()),
    }
}

/// A body that is there already: its length is known, and no code of the application runs in between.
fn whole(py: Python<'_>, worker: &Worker, call: &Call, chunks: Vec<Bound<'_, PyAny>>) -> Result<(), Trouble> {
    let mut total = 0;
    for chunk in &chunks {
        total += bytes_of(chunk)?.as_bytes().len() as u64;
    }
    for chunk in &chunks {
        call.send_piece(py, worker, bytes_of(chunk)?.as_bytes(), Some(total))?;
    }
    Ok(())
}

/// Any other iterable. After each chunk the loop has its turn, and `again` brings us back.
fn stream(py: Python<'_>, worker: &Worker, call: &Call, result: &Bound<'_, PyAny>) -> Result<(), Trouble> {
    for chunk in result.try_iter().map_err(|_| not_iterable(result))? {
        let chunk = chunk?;
        call.send_piece(py, worker, bytes_of(&chunk)?.as_bytes(), None)?;
        crate::uwsgi::wait_pending(py, worker, call)?;
        // Nothing more is sent, so nothing else would ever end an endless iterable.
        if call.answer.borrow().as_ref().is_some_and(Answer::is_full) {
            break;
        }
    }
    Ok(())
}

/// What follows the last piece of a body that came to its end; a body without pieces still has a head.
fn end(py: Python<'_>, worker: &Worker, call: &Call) -> Result<(), Trouble> {
    let rest = call.answer.borrow().as_ref().map(Answer::end);
    match rest {
        Some(end) => call.send(py, worker, end),
        None => call.send_piece(py, worker, b"", Some(0)),
    }
}

fn bytes_of<'a, 'py>(chunk: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    chunk.cast::<PyBytes>().map_err(|_| not_bytes(chunk))
}

fn not_bytes(found: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "the response body must be bytes, but there is an object of type {} (PEP 3333)",
        kind(found)
    ))
}

fn not_iterable(found: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "the application must return an iterable of bytes, not {} (PEP 3333)",
        kind(found)
    ))
}

fn kind(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "object".to_owned(), |name| name.to_string())
}

/// After a body that ended normally: whether the connection can be used again.
fn close_answer(call: &Call) -> bool {
    let answer = call.answer.borrow();
    let Some(answer) = &*answer else { return false };
    let target = String::from_utf8_lossy(call.request.received.head.target()).into_owned();
    if answer.missing() > 0 {
        tracing::warn!(
            target,
            missing = answer.missing(),
            "the body is shorter than its Content-Length; connection closed"
        );
    }
    if answer.dropped() > 0 {
        tracing::warn!(
            target,
            dropped = answer.dropped(),
            "the body is longer than its Content-Length; the rest was not sent"
        );
    }
    answer.missing() == 0 && answer.keep_alive()
}

fn report(py: Python<'_>, call: &Call, error: &PyErr) {
    let head = &call.request.received.head;
    let (method, target) = (head.method(), String::from_utf8_lossy(head.target()));
    let id = head.header("x-request-id").map_or_else(|| "-".into(), String::from_utf8_lossy);
    let who = format!("{method} {target} (core {}, request {id})", call.core.index);
    if greenlet::is_exit(py, error) {
        tracing::error!("{who} was ended: it waited, and nothing could resume it any more");
    } else {
        tracing::error!("exception in the application: {who}\n{}", log::traceback(py, error));
    }
}

/// A request that went wrong: a 500 if nothing was sent, else a cut that the client can see. Whether the connection can
/// be used again.
fn fail(py: Python<'_>, worker: &Worker, call: &Call) -> bool {
    const SENTENCE: &[u8] = b"Internal Server Error\n";
    if call.answer.borrow().is_some() {
        worker.engine.abort(call.core);
        return false;
    }
    let opened = Opening::new(b"500 Internal Server Error").and_then(|mut opening| {
        opening.header(b"Content-Type", b"text/plain; charset=utf-8")?;
        Ok(opening)
    });
    let Ok(opening) = opened else { return false };
    let (mut answer, mut out) =
        opening.finish(&worker.engine, call.core, &call.request, Some(SENTENCE.len() as u64));
    out.extend_from_slice(answer.piece(SENTENCE).content);
    call.send(py, worker, &out).is_ok() && answer.keep_alive()
}
