//! A Tornado application on a worker's own listener: Tornado's HTTP server (`tornado.py`) on the loop that serves everything,
//! bound after the fork. Its requests hold no cores, and the limits are Tornado's own.
use pyo3::prelude::*;
use std::net::SocketAddr;

/// A server that listens.
pub struct Server(Py<PyAny>);

impl Server {
    /// Makes the application if need be, and binds its listener.
    pub fn listen(py: Python<'_>, app: &Py<PyAny>, address: SocketAddr, backlog: u32) -> PyResult<Server> {
        let code = std::ffi::CString::new(include_str!("tornado.py"))?;
        let module = PyModule::from_code(py, &code, c"appliance/tornado.py", c"_appliance_tornado")?;
        let (host, port) = (address.ip().to_string(), address.port());
        Ok(Server(module.call_method1("listen", (app, host, port, backlog))?.unbind()))
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
