//! What the test's application does with WebSockets: one path for each thing. What its handlers saw at the end is written down
//! where destructors are.
use super::{Guard, deep, note};
use appliance_app::websocket::{Message, Sender};
use appliance_app::{Request, Response, Result, WebSocket, sleep, spawn};
use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

thread_local! {
    /// Who is in the room.
    static MEMBERS: RefCell<Vec<Sender>> = const { RefCell::new(Vec::new()) };
}

/// Serves `/ws/WHAT`.
pub fn handle(what: &str, request: &mut Request, response: &mut Response) -> Result<()> {
    if what == "answered" {
        response.write_all(b"begun: ")?;
        let error = WebSocket::accept(request, response, &[]).map(drop).unwrap_err();
        return Ok(writeln!(response, "{error}")?);
    }
    response.header("X-Mine", "1")?;
    let offered: Vec<&str> = request.subprotocols().collect();
    let offered = offered.join(" ");
    let socket = Rc::new(WebSocket::accept(request, response, &["chat", "other"])?);
    let _guard = Guard("socket");
    match what {
        "echo" => socket.messages().try_for_each(|message| socket.send(&message))?,
        "offered" => socket.send_text(&format!("{offered}, {:?}", socket.subprotocol()))?,
        "closes" => socket.close(4001, "that is all")?,
        "fails" => return Err("as it was told".into()),
        "panics" => panic!("as it was told"),
        "edge" => edge(&socket, 1)?,
        "overflows" => socket.send_text(&deep(1).to_string())?,
        "writes" => {
            let written = response.write_all(b"x").and_then(|()| response.flush());
            socket.send_text(&format!("{:?} {:?}", written.is_err(), response.status(200).is_err()))?;
        }
        "impatient" => {
            let received = socket.receive_timeout(Duration::from_millis(10));
            socket.send_text(&format!("{:?}", received.unwrap_err().kind()))?;
            socket.receive_timeout(Duration::from_secs(60))?;
        }
        // Ends with an error that only says so.
        "late" => {
            while socket.receive()?.is_some() {}
            note(&format!("{:?}", socket.closed()));
            socket.send_text("too late")?;
        }
        "busy" => {
            sleep(Duration::from_millis(300));
            note(&format!("was busy, and hears {:?}, {:?}", socket.receive()?, socket.receive()?));
        }
        "floods" => {
            let block = vec![b'x'; 64 * 1024];
            (0..1000).try_for_each(|_| socket.send_binary(&block))?;
            socket.send_text("done")?;
        }
        "ticks" => ticks(&socket)?,
        "two" => two(&socket)?,
        "chat" => chat(&socket)?,
        _ => socket.close(4004, "")?,
    }
    Ok(())
}

/// Sends and receives with less and less stack, down to the end.
fn edge(socket: &WebSocket, n: u64) -> Result<()> {
    let room = std::hint::black_box([n; 16]);
    socket.send_text("x")?;
    let _ = socket.receive_timeout(Duration::ZERO);
    edge(socket, room[3] + 1)
}

/// A sibling sends while its request receives.
fn ticks(socket: &Rc<WebSocket>) -> Result<()> {
    let ticker = Rc::clone(socket);
    spawn(move || {
        let _guard = Guard("ticker");
        while ticker.send_text("tick").is_ok() {
            sleep(Duration::from_millis(1));
        }
    })?;
    socket.messages().try_for_each(|message| socket.send(&message))?;
    Ok(())
}

/// Two siblings receive, each its own message.
fn two(socket: &Rc<WebSocket>) -> Result<()> {
    let one = |name: &'static str| {
        let socket = Rc::clone(socket);
        spawn(move || match socket.receive() {
            Ok(Some(Message::Text(text))) => format!("{name} {text}"),
            other => format!("{name} {other:?}"),
        })
    };
    let (a, b) = (one("a")?, one("b")?);
    socket.send_text("ready")?;
    let mut said = [a.join()?, b.join()?].map(|said| said.split(' ').nth(1).unwrap_or_default().to_owned());
    said.sort();
    socket.send_text(&said.join(" "))?;
    Ok(())
}

/// Everybody in the room hears what anybody says.
fn chat(socket: &WebSocket) -> Result<()> {
    MEMBERS.with_borrow_mut(|members| members.push(socket.sender()));
    for message in socket.messages() {
        // No borrow is held while a slow client is waited for.
        for member in MEMBERS.with_borrow(Vec::clone) {
            let _ = member.send(&message);
        }
    }
    MEMBERS.with_borrow_mut(|members| members.retain(|member| *member != socket.sender()));
    Ok(())
}
