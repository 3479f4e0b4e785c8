//! A native application in Rust: a greeting that all workers count together, a number of waits that last no longer than one,
//! visits in a cache, and a WebSocket that echoes.
use appliance_app::cache::{Cache, Life};
use appliance_app::{Request, Response, Result, WebSocket, metrics, sleep, spawn};
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
        b"/" => {
            metrics::counter("greetings_total", "How often somebody was greeted.")?.inc();
            writeln!(response, "Hello from Rust!")?;
        }
        b"/visit" => {
            let count = Cache::named("visits").increment("count", 1, Life::Configured)?;
            writeln!(response, "visit {count}")?;
        }
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
            writeln!(response, "there is /, /wait and /visit")?;
        }
    }
    Ok(())
}

appliance_app::export!(handle);
