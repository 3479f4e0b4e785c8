//! How a request ends that was a task: with the answer that its application gave, with ours where it gave none, or with a cut
//! that the client can see.
use super::Asgi;
use super::call::Call;
use super::socket::Socket;
use crate::wsgi::run;
use appliance_worker::Outcome;
use appliance_worker::answer::{Cause, Opening};
use appliance_worker::engine::OVERDUE;
use appliance_worker::websocket::code;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// The application has come to its end: makes its answer complete, or replaces it, and says in the log what was wrong.
pub fn settle(py: Python<'_>, asgi: &Asgi, call: &Call, result: PyResult<()>) {
    if let Some(answer) = call.outgoing.borrow().answer()
        && call.outgoing.borrow().is_complete()
    {
        answer.check_length(&call.request);
    }
    let is_complete = call.outgoing.borrow().is_complete();
    let is_open = call.socket.as_ref().is_some_and(Socket::has_begun);
    match result {
        result if is_open => close(py, asgi, call, result),
        Err(_) if call.was_dismissed() => {
            if !is_complete {
                fail(asgi, call, Cause::Exception);
            }
        }
        _ if call.was_timed_out() => {
            if !is_complete {
                fail(asgi, call, Cause::TimedOut);
            }
        }
        Err(error) if call.has_left() && (call.has_heard() || is_cancelled(py, &error)) => {
            tracing::debug!(core = call.core.index, "the client left before the response was complete");
        }
        Err(error) => {
            run::report(py, call.core, &call.request, &error);
            call.set_failed();
            if !is_complete {
                fail(asgi, call, Cause::Exception);
            }
        }
        Ok(()) if is_complete || call.has_left() => {}
        Ok(()) => {
            let what = if call.outgoing.borrow().is_unheard_of() {
                "without an answer"
            } else {
                "within its answer"
            };
            let (method, target) = (call.request.received.head.method(), call.request.received.head.target());
            let target = String::from_utf8_lossy(target);
            tracing::error!(
                "the application has returned {what}: {method} {target} (core {})",
                call.core.index
            );
            call.set_failed();
            fail(asgi, call, Cause::Exception);
        }
    }
}

/// Closes a WebSocket whose application has come to its end, unless it is closed already.
fn close(py: Python<'_>, asgi: &Asgi, call: &Call, result: PyResult<()>) {
    let code = match result {
        Ok(()) => code::NORMAL,
        Err(error) => {
            // Whoever sends to a client that has closed is told so, and need not have expected it.
            let is_mistake = asgi.engine.is_connected(call.core) || !error.is_instance_of::<PyOSError>(py);
            if is_mistake && !call.was_dismissed() {
                run::report(py, call.core, &call.request, &error);
                call.set_failed();
            }
            code::INTERNAL_ERROR
        }
    };
    asgi.engine.close_websocket(call.core, code, "");
}

fn is_cancelled(py: Python<'_>, error: &PyErr) -> bool {
    let class = py.import("asyncio").and_then(|asyncio| asyncio.getattr("CancelledError"));
    class.is_ok_and(|class| error.get_type(py).is_subclass(&class).unwrap_or(false))
}

/// A 500 or 504 if nothing was sent, else a cut.
fn fail(asgi: &Asgi, call: &Call, cause: Cause) {
    call.set_failed();
    let mut outgoing = call.outgoing.borrow_mut();
    if !outgoing.is_unheard_of() || call.has_left() {
        asgi.engine.abort(call.core, cause);
        return;
    }
    let (status, sentence) = match cause {
        Cause::TimedOut => (&b"504 Gateway Timeout"[..], OVERDUE),
        _ => (&b"500 Internal Server Error"[..], "Internal Server Error"),
    };
    let opened = Opening::new(&call.request, call.core, status).and_then(|mut opening| {
        opening.cause(cause);
        opening.header(b"Content-Type", b"text/plain; charset=utf-8")?;
        Ok(opening)
    });
    if let Ok(opening) = opened {
        outgoing.start(opening);
        outgoing.body(call.to(asgi), format!("{sentence}\n").as_bytes(), true);
    }
}

/// Gives the core back; `outcome` if it is not that of the answer. Whatever else the application has waiting for the
/// connection hears of its end.
pub fn finish(py: Python<'_>, asgi: &Asgi, call: &Call, outcome: Option<Outcome>) {
    let outcome = outcome.unwrap_or_else(|| call.outgoing.borrow().outcome());
    asgi.forget(call.core);
    asgi.engine.finish(call.core, outcome, call.has_failed());
    call.rouse(py, asgi);
}

/// Ends a request whose task does not exist, or not any more.
pub fn abandon(py: Python<'_>, asgi: &Asgi, call: &Call) {
    call.set_failed();
    asgi.engine.abort(call.core, Cause::Exception);
    finish(py, asgi, call, Some(Outcome::Cut));
}
