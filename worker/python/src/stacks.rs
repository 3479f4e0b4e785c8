//! Stacks of everything in a worker: as `stacks.py` finds them with the interpreter's lock, and as `faulthandler` writes them
//! without it. Called by `watch`; it only reads.
use crate::raw;
use appliance_worker::report::StackReport;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

const MODULE: &str = "_appliance_stacks";
/// What the thread of the loop is called, here and in `stacks.py`.
const LOOP: &str = "thread of the loop";

/// Makes the module that looks; on the loop's thread, so that the watch thread need not.
pub fn install(py: Python<'_>, event_loop: &Py<PyAny>) -> PyResult<()> {
    let code = std::ffi::CString::new(include_str!("stacks.py"))?;
    let module = PyModule::from_code(py, &code, c"appliance/stacks.py", c"_appliance_stacks")?;
    module.setattr("loop_of_worker", event_loop)?;
    module.setattr("objects_of", wrap_pyfunction!(objects_of, py)?)
}

/// Every object of a class that the garbage collector knows. Nothing of Python's runs before the others are let go: the
/// application could do with them meanwhile what it likes, and those that came to their end would do so on this thread.
#[pyfunction]
fn objects_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let all = class.py().import("gc")?.call_method0("get_objects")?;
    let all = all.cast::<PyList>()?;
    Ok(all.iter().filter(|one| raw::is_of(one, class)).collect())
}

/// Something with a stack, as `stacks.py` gives it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Found {
    what: String,
    /// Marks, one of which may be that of a request.
    marks: Vec<u64>,
    state: String,
    stack: String,
}

/// Looks for everything that has a stack. `None`: Python has failed, and the log says how.
pub fn collect(py: Python<'_>) -> Option<Vec<Found>> {
    let found = py.import(MODULE).and_then(|module| module.call_method0("collect")?.extract());
    found.inspect_err(|error| crate::log::exception(py, error, "the stacks cannot be collected")).ok()
}

/// Where a coroutine waits: its frames, and those of what it awaits, as a traceback shows them; empty if nobody knows.
pub fn of_coroutine(py: Python<'_>, coroutine: &Bound<'_, PyAny>) -> String {
    let text = py.import(MODULE).and_then(|module| module.call_method1("chain", (coroutine,))?.extract());
    text.unwrap_or_default()
}

fn request_of(marks: &[(u64, String)], wanted: &[u64]) -> String {
    let found = marks.iter().find(|(mark, _)| wanted.contains(mark));
    found.map(|(_, request)| request.clone()).unwrap_or_default()
}

impl Found {
    /// For the master; `marks` are those of the requests, `running` the one that has the loop.
    pub fn report(self, marks: &[(u64, String)], running: &str) -> StackReport {
        let request = if self.what == LOOP { running.to_owned() } else { request_of(marks, &self.marks) };
        StackReport { what: self.what, request, state: self.state, stack: self.stack }
    }
}

/// The stack of one thread as `faulthandler` writes it, turned round: the innermost frame last, as in a traceback.
pub struct Text {
    /// It is the thread that was asked: the loop's.
    pub is_current: bool,
    /// Its frames.
    pub stack: String,
    /// The number by which Python knows the thread.
    mark: u64,
}

impl Text {
    /// The threads of a dump. Lines that are neither a thread's head nor a frame are passed over.
    pub fn parse(dump: &str) -> Vec<Text> {
        let mut threads: Vec<(bool, u64, Vec<&str>)> = Vec::new();
        for line in dump.lines() {
            let head = line.strip_prefix("Current thread 0x").map(|rest| (true, rest));
            let head = head.or_else(|| line.strip_prefix("Thread 0x").map(|rest| (false, rest)));
            if let Some((is_current, rest)) = head {
                let mark = rest.split(' ').next().and_then(|mark| u64::from_str_radix(mark, 16).ok());
                threads.push((is_current, mark.unwrap_or_default(), Vec::new()));
            } else if let Some((.., frames)) = threads.last_mut().filter(|_| line.starts_with("  ")) {
                frames.push(line);
            }
        }
        let turned = |(is_current, mark, mut frames): (bool, u64, Vec<&str>)| {
            frames.reverse();
            Text { is_current, mark, stack: frames.join("\n") }
        };
        threads.into_iter().map(turned).collect()
    }

    /// For the master; `marks` are those of the requests, `running` the one that has the loop.
    pub fn report(self, marks: &[(u64, String)], running: &str) -> StackReport {
        let request = if self.is_current { running.to_owned() } else { request_of(marks, &[self.mark]) };
        let state = "seen without Python's lock, which somebody keeps".to_owned();
        let what = if self.is_current { LOOP } else { "thread" };
        StackReport { what: what.to_owned(), request, state, stack: self.stack }
    }
}
