//! When patience with a request is over, and its task is cancelled though it is not overdue: a WebSocket whose client has left and
//! which neither receives nor sends would keep its core for ever, and what still runs when the time of a worker that stops is
//! nearly over would be killed with it, without a `finally` and without the end of the lifespan.
use super::Asgi;
use super::call::Call;
use super::socket::Socket;
use crate::load::Loaded;
use pyo3::intern;
use pyo3::prelude::*;
use std::rc::Rc;
use std::time::Duration;

/// How often WebSockets are looked after. One whose client has left twice, while it has received nothing, is not waited for.
const ROUND: Duration = Duration::from_secs(5);

/// What the loop's timer calls: the look after WebSockets.
#[pyclass(frozen, module = "appliance", name = "patience")]
struct Patience;

#[pymethods]
impl Patience {
    fn __call__(&self, py: Python<'_>) {
        let Some(asgi) = Asgi::current() else { return };
        asgi.looks.set(false);
        for call in calls(&asgi) {
            let Some(socket) = &call.socket else { continue };
            look_after_sockets(py, &asgi);
            if has_left(&asgi, &call, socket) && socket.see_left() {
                dismiss(py, &asgi, &call);
            }
        }
    }
}

fn calls(asgi: &Asgi) -> Vec<Rc<Call>> {
    asgi.calls.borrow().iter().flatten().cloned().collect()
}

/// Whether the client of a WebSocket has left and its application, which has not closed it, does not know.
fn has_left(asgi: &Asgi, call: &Call, socket: &Socket) -> bool {
    let is_open = socket.has_begun() && !socket.has_closed() && !call.has_heard() && !call.is_over();
    is_open && !asgi.engine.is_connected(call.core)
}

/// A WebSocket has begun, or goes on.
pub fn look_after_sockets(py: Python<'_>, asgi: &Asgi) {
    let may_cancel = Loaded::get().is_some_and(|loaded| loaded.settings.app.cancel_on_disconnect);
    if !may_cancel || asgi.looks.replace(true) {
        return;
    }
    let called = Bound::new(py, Patience).and_then(|patience| {
        asgi.event_loop.bind(py).call_method1(intern!(py, "call_later"), (ROUND.as_secs_f64(), patience))
    });
    if let Err(error) = called {
        crate::log::exception(py, &error, "nobody looks after WebSockets whose clients have left");
    }
    asgi.worker.aio.stir();
}

/// The time of a worker that stops is nearly over.
pub fn end(py: Python<'_>, asgi: &Asgi) {
    let calls = calls(asgi);
    if !calls.is_empty() {
        tracing::warn!("timeouts.graceful is nearly over: requests that run are cancelled: {}", calls.len());
    }
    calls.iter().for_each(|call| dismiss(py, asgi, call));
}

/// Cancels a request that is not waited for any longer.
pub fn dismiss(py: Python<'_>, asgi: &Asgi, call: &Call) {
    call.set_dismissed();
    asgi.cancel(py, call);
}
