//! The module `uwsgi`, as far as it goes here: argument conversion, then one call into the engine. Results follow uWSGI:
//! text comes back as bytes, "no" is often `None`. The functions that wait suspend only their own request.
use crate::host::Worker;
use crate::wait;
use crate::wsgi::call::Call;
use crate::wsgi::files::FileWrapper;
use appliance_worker::board::State;
use appliance_worker::engine::Engine;
use appliance_worker::waits::WaitId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

/// Interface version that we say we are: the uWSGI whose module this one follows.
const VERSION: (u32, u32, u32) = (2, 0, 31);

/// Something that `suspend()` or the next `yield` is to wait for.
pub enum Pending {
    /// `async_sleep`.
    Until(Instant),
    /// `wait_fd_read` and `wait_fd_write`.
    Fd {
        /// The engine's name for it.
        wait: WaitId,
        /// As the application named it.
        fd: RawFd,
        /// When waiting ends without it.
        deadline: Option<Instant>,
    },
}

impl Pending {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Pending::Until(deadline) => Some(*deadline),
            Pending::Fd { deadline, .. } => *deadline,
        }
    }

    fn is_over(&self, engine: &Engine, now: Instant) -> bool {
        let fired = matches!(self, Pending::Fd { wait, .. } if engine.wait_fired(*wait));
        fired || self.deadline().is_some_and(|deadline| deadline <= now)
    }
}

/// Gives the loop back after a chunk of a generator: until what was announced has happened, else for one turn.
pub fn wait_pending(py: Python<'_>, worker: &Worker, call: &Call) -> PyResult<()> {
    if call.pending.borrow().is_empty() {
        return wait::again(py, worker, call);
    }
    let pending = call.pending.take();
    let over = || pending.iter().any(|one| one.is_over(&worker.engine, Instant::now()));
    park_for(py, worker, call, &pending, |parked| parked.is_ok() && !over())
}

/// Parks while `go_on` says so, with the timers of `pending` running, and ends all of them.
fn park_for(
    py: Python<'_>,
    worker: &Worker,
    call: &Call,
    pending: &[Pending],
    mut go_on: impl FnMut(&PyResult<()>) -> bool,
) -> PyResult<()> {
    let engine = &worker.engine;
    let timer =
        pending.iter().filter_map(Pending::deadline).min().map(|when| engine.wake_at(call.core, when));
    call.ready_fd.set(-1);
    let mut parked = wait::park(py, worker, call);
    while go_on(&parked) {
        parked = wait::park(py, worker, call);
    }
    if let Some(timer) = timer {
        engine.cancel_timer(timer);
    }
    cancel(worker, call, pending);
    parked
}

fn cancel(worker: &Worker, call: &Call, pending: &[Pending]) {
    for one in pending {
        if let Pending::Fd { wait, fd, .. } = one {
            if worker.engine.wait_fired(*wait) {
                call.ready_fd.set(*fd);
            }
            worker.engine.cancel_wait(*wait);
        }
    }
}

/// At the end of a request: what was announced and never waited for.
pub fn forget_pending(worker: &Worker, call: &Call) {
    cancel(worker, call, &call.pending.take());
}

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

/// Waits for what `wait_fd_read`, `wait_fd_write` or `async_sleep` announced; otherwise until somebody switches back.
#[pyfunction]
fn suspend(py: Python<'_>) -> PyResult<bool> {
    let (worker, call) = wait::current(py, "uwsgi.suspend()")?;
    let pending = call.pending.take();
    if pending.is_empty() {
        crate::greenlet::switch(py, &worker.hub(py))?;
        return Ok(true);
    }
    let over = || pending.iter().any(|one| one.is_over(&worker.engine, Instant::now()));
    if over() {
        cancel(&worker, &call, &pending);
    } else {
        // Somebody's switch() ends it, a late wake-up of the engine's own does not.
        park_for(py, &worker, &call, &pending, |parked| parked.is_ok() && call.take_resumed() && !over())?;
    }
    Ok(true)
}

#[pyfunction]
#[pyo3(signature = (seconds, /))]
fn async_sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyBytes>> {
    let (_, call) = wait::current(py, "uwsgi.async_sleep()")?;
    call.pending.borrow_mut().push(Pending::Until(Instant::now() + wait::seconds(seconds)?));
    Ok(PyBytes::new(py, b""))
}

fn wait_fd<'py>(
    py: Python<'py>,
    fd: RawFd,
    timeout: f64,
    interest: appliance_worker::Interest,
) -> PyResult<Bound<'py, PyBytes>> {
    let (worker, call) = wait::current(py, "waiting for a descriptor")?;
    let deadline =
        (timeout > 0.0).then(|| wait::seconds(timeout)).transpose()?.map(|pause| Instant::now() + pause);
    let wait = (worker.engine.wake_on_fd(call.core, fd, interest))
        .map_err(|error| PyOSError::new_err(format!("cannot wait for descriptor {fd}: {error}")))?;
    call.pending.borrow_mut().push(Pending::Fd { wait, fd, deadline });
    Ok(PyBytes::new(py, b""))
}

#[pyfunction]
#[pyo3(signature = (fd, timeout = 0.0, /))]
fn wait_fd_read(py: Python<'_>, fd: RawFd, timeout: f64) -> PyResult<Bound<'_, PyBytes>> {
    wait_fd(py, fd, timeout, appliance_worker::Interest::READABLE)
}

#[pyfunction]
#[pyo3(signature = (fd, timeout = 0.0, /))]
fn wait_fd_write(py: Python<'_>, fd: RawFd, timeout: f64) -> PyResult<Bound<'_, PyBytes>> {
    wait_fd(py, fd, timeout, appliance_worker::Interest::WRITABLE)
}

/// The descriptor that ended the last wait, -1 if a timeout did.
#[pyfunction]
fn ready_fd(py: Python<'_>) -> PyResult<RawFd> {
    Ok(wait::current(py, "uwsgi.ready_fd()")?.1.ready_fd.get())
}

#[pyfunction]
fn async_id(py: Python<'_>) -> PyResult<u32> {
    Ok(wait::current(py, "uwsgi.async_id()")?.1.core.index)
}

#[pyfunction]
fn connection_fd(py: Python<'_>) -> PyResult<RawFd> {
    let (worker, call) = wait::current(py, "uwsgi.connection_fd()")?;
    Ok(worker.engine.connection_fd(call.core).unwrap_or(-1))
}

/// Whether the client of this request is still there. The number is uWSGI's way to name its connection.
#[pyfunction]
#[pyo3(signature = (fd, /))]
fn is_connected(py: Python<'_>, fd: RawFd) -> PyResult<bool> {
    let (worker, call) = wait::current(py, "uwsgi.is_connected()")?;
    Ok(worker.engine.connection_fd(call.core) == Some(fd) && worker.engine.is_connected(call.core))
}

/// Ends the response; the request runs on, and nothing that it sends can reach anybody.
#[pyfunction]
fn disconnect(py: Python<'_>) -> PyResult<()> {
    let (worker, call) = wait::current(py, "uwsgi.disconnect()")?;
    call.end_response(py, &worker);
    Ok(())
}

/// The next piece of the request's body, empty at its end. A timeout in seconds raises `OSError`.
#[pyfunction]
#[pyo3(signature = (timeout = 0.0, /))]
fn chunked_read(py: Python<'_>, timeout: f64) -> PyResult<Bound<'_, PyBytes>> {
    let (worker, call) = wait::current(py, "uwsgi.chunked_read()")?;
    let input = call.input(py)?;
    let input = input.bind(py).borrow();
    let pause = (timeout > 0.0).then(|| wait::seconds(timeout)).transpose()?;
    match pause.map(|pause| Instant::now() + pause) {
        Some(deadline) => {
            let timer = worker.engine.wake_at(call.core, deadline);
            let read = input.read_some(py, Some(deadline));
            worker.engine.cancel_timer(timer);
            read
        }
        None => input.read_some(py, None),
    }
}

/// The same without waiting: `None` if nothing has arrived.
#[pyfunction]
fn chunked_read_nb(py: Python<'_>) -> PyResult<Option<Bound<'_, PyBytes>>> {
    let (_, call) = wait::current(py, "uwsgi.chunked_read_nb()")?;
    let input = call.input(py)?;
    let input = input.bind(py).borrow();
    input.read_now(py)
}

/// Promises a file, or a part of one, as the body: `start_response` first, then return `[]`. `None` if it cannot be read.
#[pyfunction]
#[pyo3(signature = (file, chunk = 0, pos = 0, size = 0, /))]
fn sendfile(
    py: Python<'_>,
    file: Bound<'_, PyAny>,
    chunk: usize,
    pos: u64,
    size: u64,
) -> PyResult<Option<bool>> {
    let (_, call) = wait::current(py, "uwsgi.sendfile()")?;
    let file = if file.hasattr("read")? {
        file
    } else {
        match py.import("io")?.call_method1("open", (file, "rb")) {
            Ok(file) => file,
            Err(error) if error.is_instance_of::<PyOSError>(py) => return Ok(None),
            Err(error) => return Err(error),
        }
    };
    if pos > 0 {
        file.call_method1("seek", (pos,))?;
    }
    let part = FileWrapper::part(file.unbind(), chunk, (size > 0).then_some(size));
    call.sendfile.replace(Some(Bound::new(py, part)?.into_any().unbind()));
    Ok(Some(true))
}

/// Bytes of a str (as UTF-8) or of a bytes-like argument.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match value.extract::<&str>() {
        Ok(text) => Ok(text.as_bytes().to_vec()),
        Err(_) => value.extract(),
    }
}

#[pyfunction]
#[pyo3(signature = (key, value, /))]
fn set_logvar(py: Python<'_>, key: Bound<'_, PyAny>, value: Bound<'_, PyAny>) -> PyResult<()> {
    let (_, call) = wait::current(py, "uwsgi.set_logvar()")?;
    let (key, value) = (bytes(&key)?, bytes(&value)?);
    let mut variables = call.logvars.borrow_mut();
    variables.retain(|(name, _)| *name != key);
    variables.push((key, value));
    Ok(())
}

#[pyfunction]
#[pyo3(signature = (key, /))]
fn get_logvar<'py>(py: Python<'py>, key: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let (_, call) = wait::current(py, "uwsgi.get_logvar()")?;
    let key = bytes(&key)?;
    let variables = call.logvars.borrow();
    Ok(variables.iter().find(|(name, _)| *name == key).map(|(_, value)| PyBytes::new(py, value)))
}

/// `Content-Length` of the request.
#[pyfunction]
fn cl(py: Python<'_>) -> PyResult<u64> {
    let (_, call) = wait::current(py, "uwsgi.cl()")?;
    Ok(match call.request.received.head.framing() {
        appliance_worker::http::Framing::Length(n) => n,
        _ => 0,
    })
}

fn signal_master(signal: Signal) -> PyResult<bool> {
    let pid = masterpid();
    if pid <= 0 {
        return Err(PyRuntimeError::new_err("there is no master process"));
    }
    kill(Pid::from_raw(pid), signal)
        .map_err(|error| PyOSError::new_err(format!("cannot signal the master, process {pid}: {error}")))?;
    Ok(true)
}

/// Asks the master for a rolling reload.
#[pyfunction]
fn reload() -> PyResult<bool> {
    signal_master(Signal::SIGHUP)
}

/// Asks the master to stop everything.
#[pyfunction]
fn stop() -> PyResult<bool> {
    signal_master(Signal::SIGTERM)
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
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0) * PAGE);
    let virtual_size = pages.next().unwrap_or(0);
    (pages.next().unwrap_or(0), virtual_size)
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

/// Makes the module and the one with the decorators, importable from now on.
pub fn install(py: Python<'_>, loaded: &crate::load::Facts) -> PyResult<()> {
    let module = PyModule::new(py, "uwsgi")?;
    add_functions(&module)?;
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
    let modules = py.import("sys")?.getattr("modules")?;
    modules.set_item("uwsgi", module)?;
    let code = std::ffi::CString::new(include_str!("uwsgidecorators.py"))?;
    let decorators = PyModule::from_code(py, &code, c"appliance/uwsgidecorators.py", c"uwsgidecorators")?;
    modules.set_item("uwsgidecorators", decorators)
}

fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($function:ident),*) => { $(module.add_function(wrap_pyfunction!($function, module)?)?;)* };
    }
    add!(
        worker_id,
        mypid,
        masterpid,
        log,
        suspend,
        async_sleep,
        wait_fd_read,
        wait_fd_write,
        ready_fd,
        async_id
    );
    add!(
        connection_fd,
        is_connected,
        disconnect,
        chunked_read,
        chunked_read_nb,
        sendfile,
        set_logvar,
        get_logvar,
        cl
    );
    add!(reload, stop, total_requests, mem, micros, workers, _guard);
    module.add("green_schedule", module.getattr("suspend")?)
}

/// uWSGI's `opt`: our own settings under the names that uWSGI gives the same thing, and `[app.env]` is not among them.
fn options<'py>(py: Python<'py>, loaded: &crate::load::Facts) -> PyResult<Bound<'py, PyDict>> {
    let settings = &loaded.settings;
    let options = PyDict::new(py);
    let text = |value: String| PyBytes::new(py, value.as_bytes());
    options.set_item("processes", text(settings.workers.count.to_string()))?;
    options.set_item("async", text(settings.workers.cores.to_string()))?;
    options.set_item("module", text(settings.app.module.clone()))?;
    options.set_item("chdir", text(settings.app.chdir.display().to_string()))?;
    if let Some(venv) = &settings.app.venv {
        options.set_item("virtualenv", text(venv.display().to_string()))?;
    }
    options.set_item("master", true)?;
    options.set_item("greenlet", true)?;
    Ok(options)
}
