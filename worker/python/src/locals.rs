//! `threading.local` for applications whose requests share one thread: `locals.py` makes it a greenlet's own. Called by `load`
//! before the application is imported, and after asyncio, which goes on keeping for each thread what belongs to a thread.
use pyo3::prelude::*;

/// Replaces `threading.local` for whoever imports it from now on.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let code = std::ffi::CString::new(include_str!("locals.py"))?;
    PyModule::from_code(py, &code, c"appliance/locals.py", c"_appliance_locals").map(drop)
}
