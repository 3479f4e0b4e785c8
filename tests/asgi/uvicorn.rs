//! The same application by uvicorn: the same answers, byte by byte, but for what belongs to the server. On purpose we differ in
//! these: the letters of `Content-Length`; a body that is known whole has its length, where uvicorn sends chunks; and the
//! sentence of our own answers ends with a line break.
use crate::harness::{Answer, Client, Framing, Setup, default_venv, free_ports, root, until};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Uvicorn {
    child: Child,
    address: SocketAddr,
}

impl Uvicorn {
    fn start(app: &str) -> Uvicorn {
        let port = free_ports(1);
        let mut command = Command::new(default_venv().join("bin/uvicorn"));
        command.args([app, "--port", &port.to_string(), "--log-level", "critical"]);
        command.current_dir(root().join("tests/apps")).env("PYTHONDONTWRITEBYTECODE", "1");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let uvicorn = Uvicorn { child, address: ([127, 0, 0, 1], port).into() };
        until("uvicorn listens", || Client::tcp(uvicorn.address).is_ok());
        uvicorn
    }
}

impl Drop for Uvicorn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the application has made of an answer.
fn of_application(answer: Answer) -> (u16, Vec<(String, String)>, String) {
    const OF_SERVER: [&str; 5] = ["server", "date", "connection", "content-length", "transfer-encoding"];
    let text = answer.text().trim_end().to_owned();
    let headers = answer.headers.into_iter().filter(|(name, _)| !OF_SERVER.contains(&name.as_str()));
    let mut headers: Vec<_> = headers.collect();
    headers.sort();
    (answer.status, headers, text)
}

#[test]
fn answers_are_the_same() {
    let starlette = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /facts?x=%20y&z=%C3%A4 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
        "POST /facts HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "PUT /facts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /moved HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /nothing%2Fhere HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /blocking HTTP/1.0\r\n\r\n",
        "GET /fails HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let bare = [
        "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /hosts HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /raise HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /silent HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /size HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ];
    for (app, requests) in [("asgi_starlette:app", &starlette[..]), ("asgi_bare:app", &bare[..])] {
        let uvicorn = Uvicorn::start(app);
        let base = free_ports(2);
        let _appliance = Setup::app(app).set("native.base_port", base).start();
        let native = ([127, 0, 0, 1], base + 1).into();
        until("the worker listens", || Client::tcp(native).is_ok());
        for request in requests {
            let ask = |address| {
                let mut client = Client::tcp(address).unwrap();
                client.send(request);
                client.answer()
            };
            let (theirs, ours) = (ask(uvicorn.address), ask(native));
            assert!(ours.framing == theirs.framing || ours.framing == Framing::Length, "{request}");
            assert_eq!(of_application(ours), of_application(theirs), "{request}");
        }
    }
}

#[test]
fn websockets_say_the_same() {
    const OFFER: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: a, b\r\n";
    /// A text of two bytes, and a close frame with 1000; the masks are all zeros.
    const TEXT: &[u8] = b"\x81\x82\0\0\0\0hi";
    const CLOSE: &[u8] = b"\x88\x82\0\0\0\0\x03\xe8";
    let app = "asgi_starlette:app";
    let uvicorn = Uvicorn::start(app);
    let base = free_ports(2);
    let _appliance = Setup::app(app).set("native.base_port", base).start();
    let native = ([127, 0, 0, 1], base + 1).into();
    until("the worker listens", || Client::tcp(native).is_ok());
    for target in ["/echo", "/closes?x=1", "/refuses", "/denies"] {
        let ask = |address| {
            let mut client = Client::tcp(address).unwrap();
            client.send(format!("GET {target} HTTP/1.1\r\n{OFFER}\r\n"));
            let answer = client.answer();
            let is_open = answer.status == 101;
            let mut frames = Vec::new();
            if is_open {
                client.send(TEXT);
                // uvicorn answers nothing that a close frame follows at once.
                until("a frame has come", || !client.arrived_within(Duration::from_millis(20)).is_empty());
                client.send(CLOSE);
                frames = client.rest();
            }
            (of_application(answer), frames)
        };
        assert_eq!(ask(native), ask(uvicorn.address), "{target}");
    }
}
