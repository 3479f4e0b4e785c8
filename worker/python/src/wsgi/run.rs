//! One call of a WSGI application: enters it, sends what it returns, and ends the request exactly once, whatever happens.
//! Runs in the greenlet of the request's core.
use super::call::{Call, Trouble};
use super::files::{self, FileWrapper};
use super::input::Input;
use super::start::Spare;
use crate::host::Worker;
use crate::{disconnect, greenlet, log, timeout, websocket};
use appliance_worker::answer::{Answer, Cause, Opening};
use appliance_worker::engine::OVERDUE;
use appliance_worker::http::declared::Invalid;
use appliance_worker::{CoreId, Outcome, Request};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Serves the request of this greenlet from beginning to end, or does its errand. Never raises and never unwinds.
pub fn serve(py: Python<'_>, worker: &Worker, call: &Rc<Call>) {
    if let Some(errand) = call.errand.take() {
        return crate::errand::serve(py, worker, call, *errand);
    }
    let served = catch_unwind(AssertUnwindSafe(|| run(py, worker, call)));
    call.set_over();
    if worker.engine.leave_application(py, call.core) {
        call.count_timeout();
    }
    let (outcome, failed) = match served {
        Ok(Ok(())) => {
            if let Some(answer) = &*call.answer.borrow() {
                answer.check_length(&call.request);
            }
            (call.outcome(), false)
        }
        Ok(Err(trouble)) => give_up(py, worker, call, trouble),
        // The panic hook has logged where.
        Err(_) => (fail(py, worker, call, Cause::Exception), true),
    };
    crate::uwsgi::log_if_asked(call);
    if let Some(start) = call.start.take().and_then(Rc::into_inner) {
        start.give_back(py, worker);
    }
    leave(py, worker, call, outcome, failed);
}

/// Ends whatever of a request or an errand still waits, and gives its core back.
pub fn leave(py: Python<'_>, worker: &Worker, call: &Call, outcome: Outcome, failed: bool) {
    if let Err(error) = call.end_parked(py) {
        log::exception(py, &error, "exception in a greenlet that waited when its request ended");
    }
    crate::uwsgi::forget_pending(worker, call);
    worker.forget(call.core);
    worker.engine.finish(call.core, outcome, failed);
}

fn run(py: Python<'_>, worker: &Worker, call: &Rc<Call>) -> Result<(), Trouble> {
    let more = (!call.request.received.complete).then_some(call.core);
    let body = call.body.take();
    let length = body.len();
    let input = Bound::new(py, Input::new(body, more))?;
    let environ =
        worker.template.environ(py, &call.request, (input.clone().into_any(), length), call.core.index)?;
    call.input.replace(Some(input.unbind()));
    call.environ.replace(Some(environ.clone().unbind()));
    let start = Rc::new(Spare::take(py, worker, call.core)?);
    call.start.replace(Some(Rc::clone(&start)));
    let result = worker.app.bind(py).call1((environ, start.callable.bind(py)))?;
    drop(start);
    match call.sendfile.take() {
        Some(file) => {
            let sent = files::send(py, worker, call, file.bind(py));
            first_of(py, sent, close(py, &result))?;
        }
        None => respond(py, worker, call, result)?,
    }
    // A generator promises its file while it is iterated over.
    if let Some(file) = call.sendfile.take() {
        files::send(py, worker, call, file.bind(py))?;
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
    if let Ok(file) = result.cast_exact::<FileWrapper>() {
        return files::send(py, worker, call, file);
    }
    let sent = stream(py, worker, call, &result);
    first_of(py, sent, close(py, &result))
}

/// The trouble that came first is the request's; an exception of `close()` behind it goes to the log.
pub(super) fn first_of(
    py: Python<'_>,
    sent: Result<(), Trouble>,
    closed: PyResult<()>,
) -> Result<(), Trouble> {
    if let (Err(_), Err(error)) = (&sent, &closed) {
        log::exception(py, error, "exception in close() of an answer that was not complete");
    }
    sent?;
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
pub(super) fn stream(
    py: Python<'_>,
    worker: &Worker,
    call: &Call,
    result: &Bound<'_, PyAny>,
) -> Result<(), Trouble> {
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
        Some(end) => call.send(py, worker, end, false),
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

/// Ends a request that was not answered as the application wanted: because it took too long, its client has left, or it
/// failed. How its answer ends, and whether it counts as an exception.
fn give_up(py: Python<'_>, worker: &Worker, call: &Rc<Call>, trouble: Trouble) -> (Outcome, bool) {
    if call.was_timed_out() {
        // Where it was has been logged; what went wrong on the way out has not.
        if let Trouble::Raised(error) = &trouble
            && !timeout::is_said_by(py, error)
        {
            report(py, call.core, &call.request, error);
        }
        return (fail(py, worker, call, Cause::TimedOut), true);
    }
    match raised(py, worker, call, trouble) {
        Some(error) if websocket::is_no_handshake(py, &error) && !call.has_answer() => {
            (refuse(py, worker, call, &error), false)
        }
        Some(error) => {
            report(py, call.core, &call.request, &error);
            (fail(py, worker, call, Cause::Exception), true)
        }
        None => {
            tracing::debug!(core = call.core.index, "the client left before the response was complete");
            worker.engine.abort(call.core, Cause::Exception);
            (Outcome::Cut, false)
        }
    }
}

/// The exception that the application has to answer for; `None`: the request has ended because its client has left, or its
/// WebSocket was closed.
fn raised(py: Python<'_>, worker: &Worker, call: &Call, trouble: Trouble) -> Option<PyErr> {
    match trouble {
        Trouble::Raised(error) => {
            let is_over = disconnect::is_said_by(py, &error) && call.was_left(worker);
            let is_closed = call.is_websocket() && websocket::is_closed(py, &error);
            (!is_over && !is_closed).then_some(error)
        }
        Trouble::Gone => None,
    }
}

/// Logs an exception for which the application has to answer, and in which request or errand it was raised.
pub fn report(py: Python<'_>, core: CoreId, request: &Request, error: &PyErr) {
    let head = &request.received.head;
    let (method, target) = (head.method(), String::from_utf8_lossy(head.target()));
    let id = head.request_id().map_or_else(|| "-".into(), String::from_utf8_lossy);
    let who = format!("{method} {target} (core {}, request {id})", core.index);
    // Greenlet's own, when the last reference is gone; applications raise what they have derived from it.
    if greenlet::exit(py).is_some_and(|exit| error.get_type(py).is(&exit)) {
        tracing::error!("{who} was ended: it waited, and nothing could resume it any more");
    } else {
        tracing::error!("exception in the application: {who}\n{}", log::traceback(py, error));
    }
}

/// A request that went wrong: a 500 or 504 if nothing was sent, else a cut that the client can see.
fn fail(py: Python<'_>, worker: &Worker, call: &Call, cause: Cause) -> Outcome {
    if call.answer.borrow().is_some() {
        worker.engine.abort(call.core, cause);
        return Outcome::Cut;
    }
    let (status, sentence) = match cause {
        Cause::TimedOut => ("504 Gateway Timeout", OVERDUE),
        _ => ("500 Internal Server Error", "Internal Server Error"),
    };
    answer_plainly(py, worker, call, status, sentence, |opening| {
        opening.cause(cause);
        Ok(())
    })
}

/// A request that the application wanted to be a WebSocket, and that is none.
fn refuse(py: Python<'_>, worker: &Worker, call: &Call, error: &PyErr) -> Outcome {
    let refusal = call.offer().err();
    let status = refusal.map_or("400 Bad Request", |refusal| refusal.line());
    let headers = refusal.map_or(&[][..], |refusal| refusal.headers());
    let sentence = error.value(py).str().map_or_else(|_| status.to_owned(), |text| text.to_string());
    answer_plainly(py, worker, call, status, &sentence, |opening| {
        headers.iter().try_for_each(|(name, value)| opening.header(name.as_bytes(), value.as_bytes()))
    })
}

/// An answer of the server itself; `add` may put more into its head.
fn answer_plainly(
    py: Python<'_>,
    worker: &Worker,
    call: &Call,
    status: &str,
    sentence: &str,
    add: impl FnOnce(&mut Opening) -> Result<(), Invalid>,
) -> Outcome {
    let sentence = format!("{sentence}\n").into_bytes();
    let opened = Opening::new(&call.request, call.core, status.as_bytes()).and_then(|mut opening| {
        call.put_variables(&mut opening);
        opening.header(b"Content-Type", b"text/plain; charset=utf-8")?;
        add(&mut opening)?;
        Ok(opening)
    });
    let Ok(opening) = opened else { return Outcome::Cut };
    let opened = opening.finish(&worker.engine, call.core, &call.request, Some(sentence.len() as u64));
    let head = call.begin(worker, opened);
    match call.send_behind(py, worker, head, &sentence) {
        Ok(()) => call.outcome(),
        Err(_) => Outcome::Cut,
    }
}
