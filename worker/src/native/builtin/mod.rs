//! The native applications that are there, written with the crate that others are written with: `native:NAME`.
use crate::Engine;
use crate::board::LATENCY_MS;
use appliance_app::{Request, Response, Result, WebSocket, serve};
use appliance_config::Settings;
use serde_json::json;
use std::io::{Read, Write};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

mod files;

/// Bytes of a request's body that `native:echo` gives back at once.
const ECHO: usize = 16 * 1024;

/// The handler of an application, or a sentence that says why there is none.
pub(super) fn find(name: &str, settings: &Settings) -> Result<unsafe extern "C" fn() -> i32, String> {
    match name {
        "hello" => Ok(handle_hello),
        "echo" => Ok(handle_echo),
        "status" => Ok(handle_status),
        "static" => {
            let folder = settings.native.folder.as_ref();
            files::open(folder.ok_or("native:static has no folder to serve; write native.folder")?)?;
            Ok(handle_static)
        }
        _ => Err(format!("there is no native:{name}")),
    }
}

extern "C" fn handle_hello() -> i32 {
    serve(&hello)
}

extern "C" fn handle_echo() -> i32 {
    serve(&echo)
}

extern "C" fn handle_status() -> i32 {
    serve(&status)
}

extern "C" fn handle_static() -> i32 {
    serve(&files::serve)
}

fn hello(_request: &mut Request, response: &mut Response) -> Result<()> {
    response.header("Content-Type", "text/plain; charset=utf-8")?;
    Ok(response.write_all(b"Hello, world!\n")?)
}

/// Gives the body back as it comes, with its type, and the messages of a WebSocket.
fn echo(request: &mut Request, response: &mut Response) -> Result<()> {
    if request.wants_websocket() {
        let socket = WebSocket::accept(request, response, &[])?;
        return Ok(socket.messages().try_for_each(|message| socket.send(&message))?);
    }
    let kind = request.header("Content-Type").unwrap_or(b"application/octet-stream").to_vec();
    response.header("Content-Type", kind)?;
    let mut part = vec![0; ECHO];
    loop {
        match request.read(&mut part)? {
            0 => return Ok(()),
            count => response.write_all(&part[..count])?,
        }
    }
}

fn status(_request: &mut Request, response: &mut Response) -> Result<()> {
    response.header("Content-Type", "application/json")?;
    response.header("Cache-Control", "no-store")?;
    Ok(response.write_all(appliance_app::status()?.as_bytes())?)
}

/// What this worker publishes on the board, as JSON.
pub(super) fn status_text(engine: &Engine) -> String {
    let slot = engine.board().current(engine.worker_id());
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let latency: Vec<u64> = slot.latency.iter().map(count).collect();
    let text = json!({
        "worker": engine.worker_id(),
        "pid": slot.pid.load(Relaxed),
        "state": format!("{:?}", slot.state()).to_lowercase(),
        "cores": slot.cores.load(Relaxed),
        "busy": slot.busy.load(Relaxed),
        "waiting": slot.waiting.load(Relaxed),
        "connections": slot.connections.load(Relaxed),
        "rss_kib": slot.rss_kib.load(Relaxed),
        "requests": count(&slot.requests),
        "exceptions": count(&slot.exceptions),
        "bytes_out": count(&slot.bytes_out),
        "lag_us": count(&slot.lag_us),
        "latency_bounds_ms": LATENCY_MS,
        "latency": latency,
    });
    format!("{text}\n")
}
