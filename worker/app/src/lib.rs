//! Applications for `appliance` in Rust: handlers in blocking style, each request in a coroutine of its own.
//!
//! ```
//! use appliance_app::{Request, Response, Result};
//! use std::io::Write;
//!
//! fn hello(_request: &mut Request, response: &mut Response) -> Result<()> {
//!     response.header("Content-Type", "text/plain")?;
//!     Ok(response.write_all(b"Hello, world!\n")?)
//! }
//!
//! appliance_app::export!(hello);
//! ```
//!
//! With `crate-type = ["cdylib"]` this becomes a library that `appliance run ./libhello.so` serves. Whatever waits in this
//! crate ([`sleep`], [`net`], [`fetch()`], [`spawn`], [`blocking`], [`websocket`], reading and writing bodies) suspends only the request
//! that waits. When a request is ended (its client has left, it took too long), the call that it waits in unwinds: every
//! destructor runs. A panic ends its own request with 500.
//!
//! [`cache`] and [`metrics`] are shared with all workers, and with Python if there is some beside; they wait for nobody and work on
//! every thread.
//!
//! Reading order: [`abi`] (what crosses the boundary), `host` (the only calls across it), then one file for each noun. The
//! worker uses this crate for its built-in applications; a library links a copy of its own, and never the worker.

pub mod abi;
pub mod cache;
pub mod fetch;
mod host;
pub mod metrics;
pub mod net;
mod request;
mod response;
mod tasks;
mod wait;
pub mod websocket;

pub use fetch::fetch;
#[doc(hidden)]
pub use host::install;
pub use host::{Level, log, status, worker_id};
pub use request::Request;
pub use response::Response;
pub use tasks::{Task, blocking, spawn};
pub use wait::{sleep, wait_readable, wait_writable};
pub use websocket::WebSocket;

use host::Ended;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Anything that can go wrong in a handler; its text goes to the log and the client gets a 500.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// What a handler gives back.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A native application. Functions and closures with the arguments of [`App::handle`] are applications.
pub trait App: Sync {
    /// Serves one request, in a coroutine; called many times at once. Whatever has been written to `response` is its answer;
    /// an error after something was sent cuts it, so that the client notices.
    fn handle(&self, request: &mut Request, response: &mut Response) -> Result<()>;
}

impl<F: Fn(&mut Request, &mut Response) -> Result<()> + Sync> App for F {
    fn handle(&self, request: &mut Request, response: &mut Response) -> Result<()> {
        self(request, response)
    }
}

/// Serves the request of the calling coroutine; what [`abi::ApplianceApp::handle`] answers. Never unwinds.
pub fn serve(app: &dyn App) -> i32 {
    let (mut request, mut response) = (Request::new(), Response::new());
    // What an error says, and its end, is the application's code too.
    let handled = catch_unwind(AssertUnwindSafe(|| {
        match app.handle(&mut request, &mut response) {
            Ok(()) => 0,
            // The worker knows what the client is to be told, if anything.
            Err(error) if websocket::is_of_client(&*error) => 1,
            Err(error) => host::fail(&error.to_string()),
        }
    }));
    match handled {
        Ok(code) => code,
        Err(payload) if payload.is::<Ended>() => 1,
        Err(payload) => host::fail(&format!("it panicked: {}", message(&*payload))),
    }
}

/// What a panic says.
fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Gets an application ready; what [`abi::ApplianceApp::load`] answers. Never unwinds.
pub fn load(prepare: &dyn Fn() -> Result<()>) -> i32 {
    let prepared = catch_unwind(AssertUnwindSafe(|| {
        prepare().map_or_else(|error| host::fail(&error.to_string()), |()| 0)
    }));
    prepared.unwrap_or_else(|payload| host::fail(&format!("it panicked: {}", message(&*payload))))
}

/// Makes a library of this crate's handler: a function, or a closure that captures nothing but statics. A second function, without
/// arguments, is called once when the library has been loaded, before the workers are forked: what it makes is there in all of
/// them. Its error, or panic, is why the application cannot be served.
///
/// ```
/// # use appliance_app::{Request, Response, Result};
/// fn handle(_request: &mut Request, _response: &mut Response) -> Result<()> {
///     Ok(())
/// }
///
/// fn load() -> Result<()> {
///     appliance_app::metrics::counter("shop_visits_total", "Visits.").map(drop).map_err(Into::into)
/// }
///
/// appliance_app::export!(handle, load);
/// ```
#[macro_export]
macro_rules! export {
    ($handler:expr) => {
        $crate::export!($handler, || Ok(()));
    };
    ($handler:expr, $load:expr) => {
        const _: () = {
            extern "C" fn __appliance_handle() -> i32 {
                $crate::serve(&$handler)
            }

            extern "C" fn __appliance_load() -> i32 {
                $crate::load(&$load)
            }

            static __APPLIANCE_APP: $crate::abi::ApplianceApp = $crate::abi::ApplianceApp {
                version: $crate::abi::APPLIANCE_VERSION,
                size: ::core::mem::size_of::<$crate::abi::ApplianceApp>() as u32,
                handle: Some(__appliance_handle),
                load: Some(__appliance_load),
            };

            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn appliance_app(
                host: *const $crate::abi::ApplianceHost,
            ) -> *const $crate::abi::ApplianceApp {
                // SAFETY: a worker gives functions that live as long as the process.
                unsafe { $crate::install(host) };
                &raw const __APPLIANCE_APP
            }
        };
    };
}
