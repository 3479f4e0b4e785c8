//! Exceptions of the application as log lines, with their tracebacks.
use pyo3::prelude::*;

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
pub struct ErrorLog {
    unfinished: std::sync::Mutex<String>,
}

impl ErrorLog {
    /// An empty stream.
    pub fn new() -> ErrorLog {
        ErrorLog { unfinished: std::sync::Mutex::default() }
    }

    fn take(&self, text: &str, all: bool) -> String {
        // A poisoned lock means that a log line panicked; the text is still good.
        let mut unfinished = self.unfinished.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unfinished.push_str(text);
        let end = if all { unfinished.len() } else { unfinished.rfind('\n').map_or(0, |at| at + 1) };
        unfinished.drain(..end).collect()
    }
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
        emit(&self.take(text, false));
        text.chars().count()
    }

    fn writelines(&self, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(line?.extract::<&str>()?);
        }
        Ok(())
    }

    fn flush(&self) {
        emit(&self.take("", true));
    }
}
