//! What an application may ask about the processes around it, and the small calls of uWSGI that need no request. Safe on every
//! thread. There are no mules, farms, spoolers and legions here, and the calls about them say so in uWSGI's own way.
use crate::home::Home;
use appliance_worker::board::{self, State};
use appliance_worker::wire::packet;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// Modifier 1 of what uWSGI's spooler writes.
const SPOOLED: u8 = 17;
/// `PR_SET_NAME` keeps so many bytes of a name.
const MOST_NAME: usize = 15;
/// Bytes of a page, and ticks of a second, in what `/proc` says (`USER_HZ`).
const PAGE: u64 = 4096;
const TICKS: u64 = 100;

#[pyfunction]
pub fn worker_id() -> u32 {
    Home::get().map_or(0, |home| home.worker_id)
}

#[pyfunction]
pub fn total_requests() -> PyResult<u64> {
    let board = &Home::of("uwsgi.total_requests()")?.board;
    let requests = |id| board.current(id).requests.load(Relaxed);
    // Every worker writes there, and may write nonsense.
    Ok((1..=board.workers()).map(requests).fold(0, u64::wrapping_add))
}

/// Resident and virtual memory of this process in bytes.
#[pyfunction]
pub fn mem() -> (u64, u64) {
    board::memory()
}

/// One dict per worker, from the board.
#[pyfunction]
pub fn workers(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    let board = &Home::of("uwsgi.workers()")?.board;
    let mut all = Vec::new();
    for id in 1..=board.workers() {
        all.push(worker(py, id, board.current(id))?);
    }
    PyTuple::new(py, all)
}

fn worker<'py>(py: Python<'py>, id: u32, slot: &board::Slot) -> PyResult<Bound<'py, PyDict>> {
    let status: &[u8] = match slot.state() {
        State::Ready if slot.busy.load(Relaxed) > 0 => b"busy",
        State::Ready => b"idle",
        State::Booting | State::Draining => b"pause",
        State::Dead => b"cheap",
    };
    let (requests, exceptions) = (slot.requests.load(Relaxed), slot.exceptions.load(Relaxed));
    let app = PyDict::new(py);
    app.set_item("id", 0)?;
    app.set_item("modifier1", 0)?;
    app.set_item("mountpoint", PyBytes::new(py, b""))?;
    app.set_item("requests", requests)?;
    app.set_item("exceptions", exceptions)?;
    let facts = PyDict::new(py);
    facts.set_item("id", id)?;
    let (pid, micros) = (slot.pid.load(Relaxed), slot.latency_us.load(Relaxed));
    let finished: u64 = slot.latency.iter().map(|bucket| bucket.load(Relaxed)).fold(0, u64::wrapping_add);
    facts.set_item("pid", pid)?;
    facts.set_item("requests", requests)?;
    facts.set_item("delta_requests", requests)?;
    facts.set_item("exceptions", exceptions)?;
    facts.set_item("signals", slot.signals.load(Relaxed))?;
    facts.set_item("status", PyBytes::new(py, status))?;
    facts.set_item("rss", u64::from(slot.rss_kib.load(Relaxed)) * 1024)?;
    facts.set_item("vsz", virtual_memory(pid).unwrap_or(0))?;
    facts.set_item("running_time", micros)?;
    facts.set_item("avg_rt", micros.checked_div(finished).unwrap_or(0))?;
    facts.set_item("last_spawn", started(pid).unwrap_or(0))?;
    facts.set_item("tx", slot.bytes_out.load(Relaxed))?;
    facts.set_item("respawn_count", slot.life.load(Relaxed))?;
    facts.set_item("cores", slot.cores.load(Relaxed))?;
    facts.set_item("busy", slot.busy.load(Relaxed))?;
    facts.set_item("waiting", slot.waiting.load(Relaxed))?;
    facts.set_item("apps", (app,))?;
    Ok(facts)
}

/// Virtual memory of a process in bytes; `None` if there is no such process, for the number comes from the board.
fn virtual_memory(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    Some(statm.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(PAGE))
}

/// When a process began, in seconds since 1970: the kernel says it in ticks since it booted itself (proc(5), `starttime`).
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let kernel = std::fs::read_to_string("/proc/stat").ok()?;
    let booted: u64 = kernel.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted.saturating_add(ticks / TICKS))
}

/// Requests that wait for a core, of all workers. There is one queue, number 0.
#[pyfunction]
#[pyo3(signature = (socket = 0, /))]
pub fn listen_queue(socket: i64) -> PyResult<u64> {
    if socket != 0 {
        return Err(PyValueError::new_err(format!(
            "there is no socket {socket}: the queue of requests is number 0"
        )));
    }
    let board = &Home::of("uwsgi.listen_queue()")?.board;
    Ok((1..=board.workers()).map(|id| u64::from(board.current(id).waiting.load(Relaxed))).sum())
}

/// Whether this worker serves; `None` if not.
#[pyfunction]
pub fn ready() -> Option<bool> {
    let home = Home::get()?;
    (home.board.current(home.worker_id).state() == State::Ready).then_some(true)
}

/// Workers accept always; whoever wants one that does not is told how requests are held back here.
#[pyfunction]
#[pyo3(signature = (flag = 1, /))]
pub fn accepting(flag: i64) -> PyResult<()> {
    if flag == 0 {
        return Err(PyValueError::new_err(
            "uwsgi.accepting(0): a worker cannot stop to accept by itself; hold requests back with `appliance pause`",
        ));
    }
    Ok(())
}

/// Bytes in the log file: there is none, the log goes to standard error.
#[pyfunction]
pub fn logsize() -> u64 {
    0
}

/// A line in the log, as an error.
#[pyfunction]
#[pyo3(signature = (alarm, text, /))]
pub fn alarm(alarm: &str, text: &str) {
    tracing::error!(target: "uwsgi.alarm", alarm, "{text}");
}

/// A line in the log, as a warning.
#[pyfunction]
#[pyo3(signature = (text, /))]
pub fn set_warning_message(text: &str) -> bool {
    tracing::warn!(target: "uwsgi.warning", "{text}");
    true
}

/// The contents of a file; `None` if it cannot be read.
#[pyfunction]
#[pyo3(signature = (path, /))]
pub fn extract(py: Python<'_>, path: PathBuf) -> Option<Bound<'_, PyBytes>> {
    let contents = py.detach(|| std::fs::read(path)).ok()?;
    Some(PyBytes::new(py, &contents))
}

/// What a file says that holds a packet of variables, as uWSGI's spooler writes them; `None` if it cannot be read, or is no such
/// file.
#[pyfunction]
#[pyo3(signature = (path, /))]
pub fn parsefile(py: Python<'_>, path: PathBuf) -> PyResult<Option<Bound<'_, PyDict>>> {
    let contents = py.detach(|| std::fs::read(path)).unwrap_or_default();
    let Some(header) = packet::Header::read(&contents) else { return Ok(None) };
    let body = contents.get(packet::HEADER..packet::HEADER + usize::from(header.size));
    let is_known = [0, SPOOLED].contains(&header.modifier1);
    let Some(Ok(vars)) = body.filter(|_| is_known).map(packet::vars) else { return Ok(None) };
    let found = PyDict::new(py);
    for (name, value) in vars {
        found.set_item(PyBytes::new(py, name), PyBytes::new(py, value))?;
    }
    Ok(Some(found))
}

/// Names this process, as `ps` and `top` show it.
#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn setprocname(name: &str) -> PyResult<()> {
    let end = (0..=name.len().min(MOST_NAME)).rev().find(|&end| name.is_char_boundary(end));
    // Of the whole process, whichever thread says so.
    Ok(std::fs::write("/proc/self/comm", &name[..end.unwrap_or_default()])?)
}

#[pyfunction]
#[pyo3(signature = (name, /))]
pub fn embedded_data(name: &str) -> PyResult<()> {
    Err(PyValueError::new_err(format!("no data named {name} is embedded in this server")))
}

#[pyfunction]
pub fn mule_id() -> u32 {
    0
}

#[pyfunction]
pub fn i_am_the_spooler() {}

#[pyfunction]
#[pyo3(signature = (farm = None, /))]
pub fn in_farm(farm: Option<&str>) {
    let _ = farm;
}

#[pyfunction]
#[pyo3(signature = (legion, /))]
pub fn i_am_the_lord(legion: &str) -> bool {
    let _ = legion;
    false
}

#[pyfunction]
#[pyo3(signature = (*_message, **_more))]
pub fn mule_msg(_message: &Bound<'_, PyTuple>, _more: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    Err(no_mule())
}

#[pyfunction]
#[pyo3(signature = (*_options, **_more))]
pub fn mule_get_msg(_options: &Bound<'_, PyTuple>, _more: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    Err(no_mule())
}

#[pyfunction]
#[pyo3(signature = (farm, _message, /))]
pub fn farm_msg(farm: &str, _message: &Bound<'_, PyAny>) -> PyResult<()> {
    Err(PyValueError::new_err(format!("no farm {farm} is configured: {WITHOUT_MULES}")))
}

#[pyfunction]
pub fn farm_get_msg() -> PyResult<()> {
    Err(PyValueError::new_err(format!("you can receive farm messages only in a mule: {WITHOUT_MULES}")))
}

/// What to do where uWSGI has mules.
const WITHOUT_MULES: &str =
    "there are none here; use a thread, appliance.on_core(), a queue, or a signal with the target \"worker\"";

fn no_mule() -> PyErr {
    PyValueError::new_err(format!("no mule configured: {WITHOUT_MULES}"))
}
