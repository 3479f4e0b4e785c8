//! When patience with a request is over, and its task is cancelled though it is not overdue: a WebSocket whose client has left and
//! which neither receives nor sends would keep its core for ever, and what still runs when the time of a worker that stops is
//! nearly over would be killed with it, without a `finally` and without the end of the lifespan. The loop's own timers call back.
use super::Asgi;
use super::call::Call;
use super::socket::Socket;
use crate::load::Loaded;
use pyo3::intern;
use pyo3::prelude::*;
use std::time::Duration;

/// How often WebSockets are looked after. One whose client has left twice, while it has received nothing, is not waited for.
const ROUND: Duration = Duration::from_secs(5);
/// What requests that are cancelled, and the lifespan after them, have before the worker is killed.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the loop calls.
#[pyclass(frozen, module = "appliance", name = "patience")]
pub struct Patience(With);

#[derive(Clone, Copy)]
enum With {
    /// WebSockets whose clients have left.
    Sockets,
    /// All requests of a worker that stops.
    Worker,
}

#[pymethods]
impl Patience {
    fn __call__(&self, py: Python<'_>) {
        let Some(asgi) = Asgi::current() else { return };
        let calls: Vec<_> = asgi.calls.borrow().iter().flatten().cloned().collect();
        match self.0 {
            With::Sockets => {
                asgi.looks.set(false);
                for (call, socket) in calls.iter().filter_map(|call| Some((call, call.socket.as_ref()?))) {
                    look_after_sockets(py, &asgi);
                    if has_left(&asgi, call, socket) && socket.see_left() {
                        dismiss(py, &asgi, call);
                    }
                }
            }
            With::Worker if calls.is_empty() => {}
            With::Worker => {
                let count = calls.len();
                tracing::warn!("timeouts.graceful is nearly over: requests that run are cancelled: {count}");
                calls.iter().for_each(|call| dismiss(py, &asgi, call));
            }
        }
    }
}

/// Whether the client of a WebSocket has left and its application, which has not closed it, does not know.
fn has_left(asgi: &Asgi, call: &Call, socket: &Socket) -> bool {
    let is_open = socket.has_begun() && !socket.has_closed() && !call.has_heard() && !call.is_over();
    is_open && !asgi.engine.is_connected(call.core)
}

/// A WebSocket has begun, or goes on.
pub fn look_after_sockets(py: Python<'_>, asgi: &Asgi) {
    let may_cancel = Loaded::get().is_some_and(|loaded| loaded.settings.app.cancel_on_disconnect);
    if may_cancel && !asgi.looks.replace(true) {
        later(py, asgi, ROUND, With::Sockets);
    }
}

/// The worker takes no more requests, and is killed after `graceful`.
pub fn begin_farewell(py: Python<'_>, asgi: &Asgi, graceful: Duration) {
    later(py, asgi, graceful - FAREWELL.min(graceful / 4), With::Worker);
}

fn later(py: Python<'_>, asgi: &Asgi, delay: Duration, with: With) {
    let called = Bound::new(py, Patience(with)).and_then(|patience| {
        asgi.event_loop.bind(py).call_method1(intern!(py, "call_later"), (delay.as_secs_f64(), patience))
    });
    if let Err(error) = called {
        crate::log::exception(py, &error, "nobody looks after requests that do not end");
    }
    asgi.worker.aio.stir();
}

fn dismiss(py: Python<'_>, asgi: &Asgi, call: &Call) {
    call.set_dismissed();
    asgi.cancel(py, call);
}
