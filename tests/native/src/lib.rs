//! A native application for the tests: one path for each thing that can happen to one. What is dropped is written down in the
//! file that `DROPS` names.
use appliance_app::net::TcpStream;
use appliance_app::{Request, Response, Result, blocking, fetch, sleep, spawn, wait_readable};
use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

mod crowd;
mod mistakes;
mod shared;
mod sockets;

/// Says when it is dropped.
struct Guard(&'static str);

/// Writes a line down.
fn note(line: &str) {
    let file = std::env::var("DROPS").map(|path| OpenOptions::new().append(true).create(true).open(path));
    if let Ok(Ok(mut file)) = file {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        note(self.0);
        // Nothing may wait in here.
        sleep(Duration::ZERO);
    }
}

/// An error that cannot even be shown.
#[derive(Debug)]
struct Obscure;

impl std::error::Error for Obscure {}

impl std::fmt::Display for Obscure {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("in an error")
    }
}

/// Cannot be dropped in peace.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in a destructor")
    }
}

fn handle(request: &mut Request, response: &mut Response) -> Result<()> {
    let path = String::from_utf8(request.path().to_vec())?;
    let number = path.rsplit('/').next().and_then(|last| last.parse().ok()).unwrap_or(100);
    let time = Duration::from_millis(number);
    match path.split('/').nth(1).unwrap_or_default() {
        "ws" => sockets::handle(path.rsplit('/').next().unwrap_or_default(), request, response)?,
        "" => writeln!(response, "native {}", appliance_app::worker_id())?,
        "facts" => facts(request, response)?,
        "until" => crowd::wait(response)?,
        "waiting" => writeln!(response, "{}", crowd::count())?,
        "go" => crowd::go(),
        "greedy" => crowd::greedy(path.rsplit('/').next().unwrap_or_default(), request, response)?,
        "sleep" => {
            let _guard = Guard("sleep");
            sleep(time);
            writeln!(response, "slept")?;
        }
        "panic" => panic!("as it was told"),
        "error" => return Err("as it was told".into()),
        "begun" => {
            response.write_all(b"begun")?;
            response.flush()?;
            sleep(time);
        }
        "late-error" => {
            response.write_all(b"begun")?;
            response.flush()?;
            return Err("after it has begun".into());
        }
        "overflow" => writeln!(response, "{}", deep(number))?,
        "task-overflow" => spawn(|| deep(1))?.join().map(drop)?,
        "task-panic" => spawn(|| panic!("in a task"))?.join()?,
        "segfault" => writeln!(response, "{}", segfault())?,
        "tasks" => tasks(response, time)?,
        "result" => {
            // Nobody takes it, so it is dropped when the task has ended.
            spawn(|| {
                sleep(Duration::from_millis(1));
                Bomb
            })?;
            sleep(time);
            writeln!(response, "still here")?;
        }
        "obscure" => return Err(Box::new(Obscure)),
        "blocking" => {
            let began = Instant::now();
            let caller = std::thread::current().id();
            let is_other = blocking(move || {
                std::thread::sleep(time);
                std::thread::current().id() != caller
            })?;
            writeln!(response, "{is_other} {}", began.elapsed() >= time)?;
        }
        "fetch" => {
            let url = String::from_utf8(request.query().to_vec())?;
            let fetched = fetch(&url)?;
            response.status(fetched.status)?;
            response.write_all(&fetched.body)?;
        }
        "tcp" => {
            let mut stream = TcpStream::connect(std::str::from_utf8(request.query())?, Some(time))?;
            stream.set_read_timeout(Some(time));
            stream.write_all(b"ping")?;
            let mut answer = [0; 4];
            let read = stream.read_exact(&mut answer).map_err(|error| error.kind());
            writeln!(response, "{read:?} {}", String::from_utf8_lossy(&answer))?;
        }
        "ready" => {
            let (here, _there) = UnixStream::pair()?;
            writeln!(response, "{}", wait_readable(&here, Some(time))?)?;
        }
        "stream" => {
            let block = vec![b'x'; 64 * 1024];
            (0..number).try_for_each(|_| response.write_all(&block))?;
        }
        "count" => {
            let mut count = 0;
            let mut part = [0; 4096];
            loop {
                match request.read(&mut part)? {
                    0 => break,
                    n => count += n,
                }
            }
            writeln!(response, "{count}")?;
        }
        "mistake" => mistakes::handle(path.split('/').nth(2).unwrap_or_default(), number, response)?,
        "cache" => shared::cache(request, response)?,
        "edge" => writeln!(response, "{}", shared::edge(1)?)?,
        "metric" => shared::metric(request, response)?,
        _ => response.status(404)?,
    }
    Ok(())
}

fn facts(request: &Request, response: &mut Response) -> Result<()> {
    let header = request.header("x-test").unwrap_or_default();
    let query = String::from_utf8_lossy(request.query());
    let count = request.headers().count();
    let (method, scheme, client) = (request.method(), request.scheme(), request.client());
    let header = String::from_utf8_lossy(header);
    response.header("X-Back", header.as_bytes())?;
    Ok(writeln!(response, "{method} {query} {scheme} {client} {}", count > 0)?)
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    let room = [n; 64];
    if black_box(n) == u64::MAX { 0 } else { deep(n + 1) + black_box(room)[3] }
}

fn segfault() -> u8 {
    let wild = black_box(8usize) as *const u8;
    // SAFETY: there is none: the test wants the worker to die.
    unsafe { wild.read_volatile() }
}

/// Three waits at once, and one that nobody waits for.
fn tasks(response: &mut Response, time: Duration) -> Result<()> {
    let began = Instant::now();
    let wait = move |n: u64| {
        let _guard = Guard("task");
        sleep(time);
        n
    };
    let tasks: Vec<_> = (1..=3).map(|n| spawn(move || wait(n))).collect::<Result<_, _>>()?;
    spawn(|| {
        let _guard = Guard("left behind");
        sleep(Duration::from_secs(3600));
    })?;
    let mut sum = 0;
    for task in tasks {
        sum += task.join()?;
    }
    Ok(writeln!(response, "{sum} {}", began.elapsed() < time * 3)?)
}

appliance_app::export!(handle, shared::load);
