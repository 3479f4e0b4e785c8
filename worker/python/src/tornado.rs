//! A Tornado application on a worker's own listener: Tornado's HTTP server (`tornado.py`) on the loop that serves everything,
//! bound after the fork. Its requests hold no cores, and the limits are Tornado's own. It says of each request what belongs into
//! the access log.
use crate::host::Worker;
use appliance_worker::engine::Foreign;
use appliance_worker::http::Version;
use pyo3::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;

/// A server that listens.
pub struct Server(Py<PyAny>);

impl Server {
    /// Makes the application if need be, and binds its listener. `has_log`: requests have lines in the access log.
    pub fn listen(
        py: Python<'_>,
        app: &Py<PyAny>,
        address: SocketAddr,
        backlog: u32,
        has_log: bool,
    ) -> PyResult<Server> {
        let code = std::ffi::CString::new(include_str!("tornado.py"))?;
        let module = PyModule::from_code(py, &code, c"appliance/tornado.py", c"_appliance_tornado")?;
        let (host, port) = (address.ip().to_string(), address.port());
        Ok(Server(module.call_method1("listen", (app, host, port, backlog, has_log))?.unbind()))
    }

    /// The worker is killed soon: what still runs is cut.
    pub fn farewell(&self, py: Python<'_>) {
        let cut = self.0.bind(py).call_method0("farewell").and_then(|cut| cut.extract());
        match cut {
            Ok(0) => {}
            Ok(count) => {
                let count: usize = count;
                tracing::warn!(
                    "timeouts.graceful is nearly over: requests of Tornado's that run are cut: {count}"
                );
            }
            Err(error) => crate::log::exception(py, &error, "the Tornado server cannot be closed"),
        }
    }

    /// Takes no more connections; whether the last request has ended. Asked until it has.
    pub fn is_drained(&self, py: Python<'_>) -> bool {
        let drained = self.0.bind(py).call_method0("is_drained").and_then(|drained| drained.is_truthy());
        drained.unwrap_or_else(|error| {
            crate::log::exception(py, &error, "the Tornado server cannot be drained");
            true
        })
    }
}

/// Writes the line of a request that Tornado has answered, on the loop's thread: its client, method, target, version and id;
/// the status, whether the client left before the end, the bytes of the body, and how many seconds it took.
#[pyfunction]
pub fn log_request(asked: [String; 5], answered: (Option<u16>, bool, u64, f64)) -> PyResult<()> {
    let [client, method, target, version, id] = &asked;
    let (status, has_left, bytes, took) = answered;
    let version = if version == "HTTP/1.0" { Version::Http10 } else { Version::Http11 };
    // The wall clock, by which Tornado measures, may have been set back.
    let took = Duration::try_from_secs_f64(took).unwrap_or_default();
    let request = Foreign { client, method, target, version, status, has_left, bytes, took, id };
    Worker::current()?.engine.here()?.log_foreign(&request);
    Ok(())
}
