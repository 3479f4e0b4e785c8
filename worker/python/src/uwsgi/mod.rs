//! The module `uwsgi`, as far as it goes here: argument conversion, then one call into the engine. Results follow uWSGI:
//! text comes back as bytes, "no" is often `None`. The functions that wait suspend only their own request.
use crate::home::Home;
use appliance_config::settings::Suspend;
use appliance_worker::board::Wish;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

mod cache;
pub mod locks;
mod metrics;
mod process;
mod queue;
mod remote_cache;
mod request;
pub mod rpc;
mod sharedarea;
pub mod signals;
mod sockets;
mod waiting;
mod websocket;
pub use request::log_if_asked;
pub use waiting::{Pending, forget_pending, wait_pending};

/// Interface version that we say we are: the uWSGI whose module this one follows.
const VERSION: (u32, u32, u32) = (2, 0, 31);

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
        Err(Errno::EPERM) => Home::of("asking the master")?.board.ask(wish),
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
fn micros() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros())
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
    queue::add(&module)?;
    sharedarea::add(&module)?;
    crate::remote::set_terms(&loaded.settings);
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
    module.add("buffer_size", loaded.settings.limits.header_bytes)?;
    for (name, code) in [("SPOOL_OK", -2), ("SPOOL_RETRY", -1), ("SPOOL_IGNORE", 0)] {
        // Returned by the tasks of spoolers, of which there are none here; code that is shared with them names these.
        module.add(name, code)?;
    }
    module.add("post_fork_hook", py.None())?;
    module.add("applications", PyDict::new(py))?;
    module.add("opt", options(py, loaded)?)?;
    py.import("sys")?.getattr("modules")?.set_item("uwsgi", module)
}

fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($function:path),* $(,)?) => { $(module.add_function(wrap_pyfunction!($function, module)?)?;)* };
    }
    add!(mypid, masterpid, log, reload, stop, micros, _guard);
    add!(
        process::worker_id,
        process::total_requests,
        process::mem,
        process::workers,
        process::listen_queue,
        process::ready,
        process::accepting,
        process::logsize,
        process::alarm,
        process::set_warning_message,
        process::extract,
        process::setprocname,
        process::embedded_data,
        process::mule_id,
        process::i_am_the_spooler,
        process::in_farm,
        process::i_am_the_lord,
        process::mule_msg,
        process::mule_get_msg,
        process::farm_msg,
        process::farm_get_msg,
        process::parsefile,
    );
    add!(
        sockets::connect,
        sockets::async_connect,
        sockets::send,
        sockets::recv,
        sockets::close,
        sockets::is_connected,
    );
    add!(
        signals::register_signal,
        signals::signal,
        signals::signal_registered,
        signals::signal_wait,
        signals::signal_received,
        signals::add_timer,
        signals::add_rb_timer,
        signals::add_ms_timer,
        signals::add_cron,
        signals::add_file_monitor,
        metrics::metric_get,
        metrics::metric_set,
        metrics::metric_inc,
        metrics::metric_dec,
        metrics::metric_mul,
        metrics::metric_div,
        metrics::metric_set_max,
        metrics::metric_set_min,
        locks::lock,
        locks::unlock,
        locks::is_locked,
        waiting::suspend,
        waiting::async_sleep,
        waiting::wait_fd_read,
        waiting::wait_fd_write,
        waiting::ready_fd,
    );
    add!(
        websocket::websocket_handshake,
        websocket::websocket_recv,
        websocket::websocket_recv_nb,
        websocket::websocket_send,
        websocket::websocket_send_binary,
    );
    add!(
        request::async_id,
        request::connection_fd,
        request::disconnect,
        request::chunked_read,
        request::chunked_read_nb,
        request::sendfile,
        request::offload,
        request::set_logvar,
        request::get_logvar,
        request::add_var,
        request::log_this_request,
        request::set_user_harakiri,
        request::request_id,
        request::cl,
        request::__getattr__,
    );
    add!(
        cache::cache_get,
        cache::cache_set,
        cache::cache_update,
        cache::cache_del,
        cache::cache_exists,
        cache::cache_clear,
        cache::cache_keys,
        cache::cache_inc,
        cache::cache_dec,
        cache::cache_mul,
        cache::cache_div,
        cache::cache_num,
    );
    add!(rpc::register_rpc, rpc::rpc_list, rpc::rpc, rpc::call);
    module.add("green_schedule", module.getattr("suspend")?)
}

/// uWSGI's `opt`: `[app.options]`, and our own settings under the names that uWSGI gives the same thing. `[app.env]` is not among
/// them.
fn options<'py>(py: Python<'py>, loaded: &crate::load::Facts) -> PyResult<Bound<'py, PyDict>> {
    let settings = &loaded.settings;
    let options = PyDict::new(py);
    let text = |value: String| PyBytes::new(py, value.as_bytes());
    for (name, value) in &settings.app.options {
        options.set_item(name, text(value.clone()))?;
    }
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
