//! Many requests that wait until they may go, and one that never waits.
use appliance_app::net::TcpStream;
use appliance_app::{Request, Response, Result, sleep};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

thread_local! {
    static WAITING: Cell<u32> = const { Cell::new(0) };
    static MAY_GO: Cell<bool> = const { Cell::new(false) };
}

/// Waits for [`go`].
pub fn wait(response: &mut Response) -> Result<()> {
    WAITING.set(WAITING.get() + 1);
    while !MAY_GO.get() {
        sleep(Duration::from_secs(1));
    }
    WAITING.set(WAITING.get() - 1);
    Ok(writeln!(response, "gone")?)
}

/// How many wait.
pub fn count() -> u32 {
    WAITING.get()
}

/// All of them may go.
pub fn go() {
    MAY_GO.set(true);
}

/// What a greedy request reads or writes.
const PIECES: usize = 1000;

/// Reads or writes so many pieces and need not wait for any. Says whether its worker has served another request meanwhile:
/// `/go`, which it asks for itself, at the socket that the query names.
pub fn greedy(what: &str, request: &mut Request, response: &mut Response) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(&listener.local_addr()?.to_string(), None)?;
    let mut peer = listener.accept()?.0;
    peer.write_all(&[0; PIECES])?;
    MAY_GO.set(false);
    let mut other = UnixStream::connect(std::str::from_utf8(request.query())?)?;
    other.write_all(b"GET /go HTTP/1.1\r\nHost: a\r\n\r\n")?;
    response.flush()?;
    for _ in 0..PIECES {
        match what {
            "body" => request.read_exact(&mut [0])?,
            "answer" => response.write_all(b".")?,
            "from-server" => stream.read_exact(&mut [0])?,
            _ => stream.write_all(&[0])?,
        }
    }
    Ok(writeln!(response, "{}", MAY_GO.get())?)
}
