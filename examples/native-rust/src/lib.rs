//! A native application in Rust: a greeting, a number of waits that last no longer than one, and a WebSocket that echoes.
use appliance_app::{Request, Response, Result, WebSocket, sleep, spawn};
use std::io::Write;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(100);

fn handle(request: &mut Request, response: &mut Response) -> Result<()> {
    if request.wants_websocket() {
        let socket = WebSocket::accept(request, response, &[])?;
        return Ok(socket.messages().try_for_each(|message| socket.send(&message))?);
    }
    response.header("Content-Type", "text/plain")?;
    match request.path() {
        b"/" => writeln!(response, "Hello from Rust!")?,
        b"/wait" => {
            let began = Instant::now();
            let tasks: Vec<_> = (0..10).map(|_| spawn(|| sleep(PAUSE))).collect::<Result<_, _>>()?;
            for task in tasks {
                task.join()?;
            }
            writeln!(response, "10 waits of {PAUSE:?} took {:?}", began.elapsed())?;
        }
        _ => {
            response.status(404)?;
            writeln!(response, "there is / and /wait")?;
        }
    }
    Ok(())
}

appliance_app::export!(handle);
