//! Exceptions of the application as log lines, with their tracebacks.
use pyo3::prelude::*;
use std::cell::RefCell;

thread_local! {
    /// What this thread has written to `wsgi.errors` of a line: `print()` writes a line and its end one after the other.
    static UNFINISHED: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Logs an exception with its traceback. Never raises.
pub fn exception(py: Python<'_>, error: &PyErr, what: &str) {
    tracing::error!("{what}\n{}", traceback(py, error));
}

/// An exception the way Python prints it, without the last line end.
pub fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let format = || -> PyResult<String> {
        let arguments = (error.get_type(py), error.value(py), error.traceback(py));
        let lines = py.import("traceback")?.call_method1("format_exception", arguments)?;
        let text: String = pyo3::types::PyString::new(py, "").call_method1("join", (lines,))?.extract()?;
        Ok(text.trim_end().to_owned())
    };
    format().unwrap_or_else(|_| error.to_string())
}

/// `wsgi.errors`: what the application writes there becomes log lines. One object for all requests of a process.
#[pyclass(frozen, module = "appliance")]
pub struct ErrorLog;

/// Adds `text` to what is unfinished; what of it is to be logged now.
fn take(text: &str, all: bool) -> String {
    UNFINISHED.with_borrow_mut(|unfinished| {
        unfinished.push_str(text);
        let end = if all { unfinished.len() } else { unfinished.rfind('\n').map_or(0, |at| at + 1) };
        unfinished.drain(..end).collect()
    })
}

/// One event for what was written at once: a traceback stays together.
fn emit(text: &str) {
    let text = text.trim_end();
    if !text.is_empty() {
        tracing::error!(target: "wsgi.errors", "{text}");
    }
}

#[pymethods]
impl ErrorLog {
    fn write(&self, text: &str) -> usize {
        emit(&take(text, false));
        text.chars().count()
    }

    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.extract::<&str>()?);
        }
        Ok(())
    }

    fn flush(&self) {
        emit(&take("", true));
    }
}
