//! The module `uwsgi`, as far as it goes here: argument conversion, then one call into the engine. Results follow uWSGI:
//! text comes back as bytes, "no" is often `None`. The functions that wait suspend only their own request.
use crate::host::Worker;
use appliance_config::settings::Suspend;
use appliance_worker::board::{State, Wish};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::sync::atomic::Ordering::Relaxed;

mod request;
mod waiting;
pub use request::log_if_asked;
pub use waiting::{Pending, forget_pending, wait_pending};

/// Interface version that we say we are: the uWSGI whose module this one follows.
const VERSION: (u32, u32, u32) = (2, 0, 31);

#[pyfunction]
fn worker_id() -> u32 {
    Worker::current().map_or(0, |worker| worker.engine.worker_id())
}

#[pyfunction]
fn mypid() -> u32 {
    std::process::id()
}

#[pyfunction]
fn masterpid() -> i32 {
    crate::load::master_pid()
}

#[pyfunction]
#[pyo3(signature = (text, /))]
fn log(text: &str) -> bool {
    tracing::info!(target: "uwsgi.log", "{text}");
    true
}

/// Signals the master, or, where only root may do that, asks it through the board.
fn ask_master(signal: Signal, wish: Wish) -> PyResult<bool> {
    let pid = masterpid();
    if pid <= 0 {
        return Err(PyRuntimeError::new_err("there is no master process"));
    }
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) => {}
        Err(Errno::EPERM) => Worker::current()?.engine.board().ask(wish),
        Err(error) => {
            return Err(PyOSError::new_err(format!("cannot signal the master, process {pid}: {error}")));
        }
    }
    Ok(true)
}

/// Asks the master for a rolling reload.
#[pyfunction]
fn reload() -> PyResult<bool> {
    ask_master(Signal::SIGHUP, Wish::Reload)
}

/// Asks the master to stop everything.
#[pyfunction]
fn stop() -> PyResult<bool> {
    ask_master(Signal::SIGTERM, Wish::Stop)
}

#[pyfunction]
fn total_requests() -> PyResult<u64> {
    let worker = Worker::current()?;
    let board = worker.engine.board();
    Ok((1..=board.workers()).map(|id| board.current(id).requests.load(Relaxed)).sum())
}

/// Resident and virtual memory of this process in bytes.
#[pyfunction]
fn mem() -> (u64, u64) {
    appliance_worker::board::memory()
}

#[pyfunction]
fn micros() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

/// One dict per worker, from the board.
#[pyfunction]
fn workers(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    let worker = Worker::current()?;
    let board = worker.engine.board();
    let mut all = Vec::new();
    for id in 1..=board.workers() {
        let slot = board.current(id);
        let status: &[u8] = match slot.state() {
            State::Ready if slot.busy.load(Relaxed) > 0 => b"busy",
            State::Ready => b"idle",
            State::Booting | State::Draining => b"pause",
            State::Dead => b"cheap",
        };
        let facts = PyDict::new(py);
        facts.set_item("id", id)?;
        facts.set_item("pid", slot.pid.load(Relaxed))?;
        facts.set_item("requests", slot.requests.load(Relaxed))?;
        facts.set_item("exceptions", slot.exceptions.load(Relaxed))?;
        facts.set_item("status", PyBytes::new(py, status))?;
        facts.set_item("rss", u64::from(slot.rss_kib.load(Relaxed)) * 1024)?;
        facts.set_item("tx", slot.bytes_out.load(Relaxed))?;
        facts.set_item("cores", slot.cores.load(Relaxed))?;
        facts.set_item("busy", slot.busy.load(Relaxed))?;
        facts.set_item("waiting", slot.waiting.load(Relaxed))?;
        all.push(facts);
    }
    PyTuple::new(py, all)
}

/// Runs a hook; an exception goes to the log and nowhere else.
#[pyfunction]
fn _guard(py: Python<'_>, hook: Bound<'_, PyAny>) {
    if let Err(error) = hook.call0() {
        crate::log::exception(py, &error, "exception in a @postfork function");
    }
}

/// Runs what the application wants to be run in each worker before it serves.
pub fn run_postfork(py: Python<'_>) -> PyResult<()> {
    if let Some(hook) = py.import("uwsgi")?.getattr_opt("post_fork_hook")?
        && !hook.is_none()
    {
        _guard(py, hook);
    }
    Ok(())
}

/// Makes the module, importable from now on.
pub fn install(py: Python<'_>, loaded: &crate::load::Facts) -> PyResult<()> {
    let module = PyModule::new(py, "uwsgi")?;
    add_functions(&module)?;
    request::set_access_log(loaded.settings.log.access);
    let (major, minor, patch) = VERSION;
    module.add("version", PyBytes::new(py, format!("{major}.{minor}.{patch}").as_bytes()))?;
    module.add("version_info", (major, minor, patch, 0, ""))?;
    module.add("numproc", loaded.settings.workers.count)?;
    module.add("cores", loaded.settings.workers.cores)?;
    module.add(
        "hostname",
        PyBytes::new(py, nix::unistd::gethostname().unwrap_or_default().as_encoded_bytes()),
    )?;
    module.add("started_on", micros() as u64 / 1_000_000)?;
    module.add("is_a_reload", loaded.generation > 0)?;
    module.add("loop", PyBytes::new(py, b"appliance"))?;
    module.add("has_threads", true)?;
    module.add("post_fork_hook", py.None())?;
    module.add("applications", PyDict::new(py))?;
    module.add("opt", options(py, loaded)?)?;
    py.import("sys")?.getattr("modules")?.set_item("uwsgi", module)
}

fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($function:path),* $(,)?) => { $(module.add_function(wrap_pyfunction!($function, module)?)?;)* };
    }
    add!(worker_id, mypid, masterpid, log, reload, stop, total_requests, mem, micros, workers, _guard);
    add!(
        waiting::suspend,
        waiting::async_sleep,
        waiting::wait_fd_read,
        waiting::wait_fd_write,
        waiting::ready_fd,
    );
    add!(
        request::async_id,
        request::connection_fd,
        request::is_connected,
        request::disconnect,
        request::chunked_read,
        request::chunked_read_nb,
        request::sendfile,
        request::set_logvar,
        request::get_logvar,
        request::add_var,
        request::log_this_request,
        request::set_user_harakiri,
        request::request_id,
        request::send,
        request::cl,
        request::__getattr__,
    );
    module.add("green_schedule", module.getattr("suspend")?)
}

/// uWSGI's `opt`: our own settings under the names that uWSGI gives the same thing, and `[app.env]` is not among them.
fn options<'py>(py: Python<'py>, loaded: &crate::load::Facts) -> PyResult<Bound<'py, PyDict>> {
    let settings = &loaded.settings;
    let options = PyDict::new(py);
    let text = |value: String| PyBytes::new(py, value.as_bytes());
    options.set_item("processes", text(settings.workers.count.to_string()))?;
    options.set_item("module", text(settings.app.module.clone()))?;
    options.set_item("chdir", text(settings.app.chdir.display().to_string()))?;
    if let Some(venv) = &settings.app.venv {
        options.set_item("virtualenv", text(venv.display().to_string()))?;
    }
    options.set_item("master", true)?;
    match settings.app.suspend {
        Suspend::Greenlet => {
            options.set_item("async", text(settings.workers.cores.to_string()))?;
            options.set_item("greenlet", true)?;
        }
        Suspend::Thread => options.set_item("threads", text(settings.workers.cores.to_string()))?,
    }
    Ok(options)
}
