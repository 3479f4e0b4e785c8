//! The Python modules of our own: `appliance` for applications, `_appliance` for the event loop.
use crate::wsgi::hints;
use crate::{aio, disconnect, timeout, wait};
use pyo3::prelude::*;

/// `appliance`: what a WSGI application can do here that it could not do elsewhere.
pub fn public(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "appliance")?;
    let about = "Waiting without blocking: sleep(seconds), wait(awaitable, timeout=None), ClientDisconnected and RequestTimeout. \
                 What a client may know before the answer: early_hints(headers).";
    module.add("__doc__", about)?;
    module.add("ClientDisconnected", disconnect::class(py)?)?;
    module.add("RequestTimeout", timeout::class(py)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(wait::sleep, &module)?)?;
    module.add_function(wrap_pyfunction!(wait::wait, &module)?)?;
    module.add_function(wrap_pyfunction!(hints::early_hints, &module)?)?;
    Ok(module)
}

/// `_appliance`: the reactor, for `loop.py`.
pub fn engine(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "_appliance")?;
    module.add_function(wrap_pyfunction!(aio::watch, &module)?)?;
    module.add_function(wrap_pyfunction!(aio::change, &module)?)?;
    module.add_function(wrap_pyfunction!(aio::unwatch, &module)?)?;
    module.add_function(wrap_pyfunction!(aio::select, &module)?)?;
    Ok(module)
}
