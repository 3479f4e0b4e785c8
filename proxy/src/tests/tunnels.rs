//! Requests for a WebSocket, and the connections that carry one: what client and worker see of each other.
use super::harness::{Handler, Proxy, echo, eventually, header, says};
use super::{LAST_GET, dies};
use crate::Occurrence;
use crate::error::Failure;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A request for a WebSocket.
const OPEN: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const OPENED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                      x-appliance-core: 3 1500\r\n\r\n";
/// More than sockets, and what lies between them, take.
const FLOOD: usize = 16 * 1024 * 1024;

/// Takes the request, and does with the connection what it is told; then closes it.
fn opens(then: impl Fn(&mut UnixStream) + Send + Sync + 'static) -> Handler {
    Arc::new(move |_, stream| {
        stream.write_all(OPENED.as_bytes()).unwrap();
        then(stream);
        false
    })
}

/// Sends back what comes, to its end.
fn echoes() -> Handler {
    opens(|stream| {
        let mut space = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut space) {
            if stream.write_all(&space[..count]).is_err() {
                return;
            }
        }
    })
}

/// What has been counted of the requests that are over.
fn ended(proxy: &Proxy) -> Vec<(u16, u64, Option<usize>)> {
    let counted = proxy.board.counted.lock().unwrap();
    let ended = counted.iter().filter_map(|what| match what {
        Occurrence::Ended { status, bytes, reason, .. } => Some((*status, *bytes, *reason)),
        _ => None,
    });
    ended.collect()
}

#[test]
fn what_is_sent_behind_the_heads_arrives() {
    let speaks: Handler = Arc::new(|_, stream| {
        stream.write_all(format!("{OPENED}hello ").as_bytes()).unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
        false
    });
    // Which does not apply.
    let proxy = Proxy::with(vec![speaks], |settings| settings.timeouts.response = Duration::from_millis(1));
    let mut client = proxy.client();
    client.send(&format!("{OPEN}early"));
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (Some("websocket"), Some("upgrade")));
    assert!(header(&head, "x-request-id").is_some() && header(&head, "x-appliance-core").is_none(), "{head}");
    assert_eq!(client.rest(), "hello early");
    eventually("it is counted", || ended(&proxy) == [(101, 11, None)]);
}

#[test]
fn the_worker_gets_the_facts_and_nothing_forged() {
    let proxy = Proxy::start(vec![echo()]);
    let mut client = proxy.client();
    let fields = "X-Appliance-Peer: 9.9.9.9:9\r\nX-Forwarded-For: 9.9.9.9\r\nX-Mine: 1\r\nSec-WebSocket-Version: 13\r\n";
    let listed = OPEN.replace("Connection: Upgrade", "Connection: keep-alive, X-Mine, Upgrade");
    client.send(&listed.replace("\r\n\r\n", &format!("\r\n{fields}\r\n")));
    let (head, seen) = client.answer();
    assert!(seen.starts_with("GET /ws HTTP/1.1\r\n"), "{seen}");
    let peer = client.stream.local_addr().unwrap().to_string();
    for (name, value) in [
        ("host", Some("a")),
        ("connection", Some("upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-version", Some("13")),
        ("x-mine", None),
        ("x-appliance-peer", Some(&*peer)),
        ("x-appliance-scheme", Some("http")),
        ("x-appliance-server", Some(&*proxy.address.to_string())),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-host", Some("a")),
        ("x-request-id", header(&head, "x-request-id")),
    ] {
        assert_eq!(header(&seen, name), value, "{name} in {seen}");
    }
}

#[test]
fn a_refusal_is_an_answer_like_any_other() {
    let proxy = Proxy::start(vec![says(
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 426 Upgrade Required\r\ntransfer-encoding: chunked\r\n\
         x-appliance-variable: a=b\r\n\r\n3\r\nold\r\n0\r\n\r\n",
    )]);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(OPEN);
        let hints = client.until("\r\n\r\n");
        assert!(hints.starts_with("HTTP/1.1 103 "), "{hints}");
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{head}");
        assert_eq!(header(&head, "connection"), Some("keep-alive"));
        assert_eq!(header(&head, "x-appliance-variable"), None);
        client.until("3\r\nold\r\n0\r\n\r\n");
    }
    eventually("both are counted", || ended(&proxy) == [(426, 3, None); 2]);
}

#[test]
fn an_answer_that_cannot_be_understood_is_a_502() {
    for answer in ["HTTP/1.1 200 OK\r\n\r\nwithout an end", "not HTTP\r\n\r\n"] {
        let proxy = Proxy::start(vec![says(answer)]);
        let page = proxy.ask(&OPEN.replace("Connection: ", "Connection: close, "));
        assert!(page.starts_with("HTTP/1.1 502 ") && page.contains("could not be understood"), "{page}");
    }
    let proxy = Proxy::start(vec![Arc::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
        false
    })]);
    assert!(proxy.ask(OPEN).ends_with("\r\n\r\nhalf"));
    eventually("it is counted", || ended(&proxy) == [(200, 4, Some(Failure::AnswerCut as usize))]);
}

#[test]
fn a_worker_that_dies_before_its_answer_has_a_successor() {
    let proxy = Proxy::start(vec![dies(), echoes()]);
    let mut opened = 0;
    eventually("the first one has died", || {
        let mut client = proxy.client();
        client.send(OPEN);
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        drop(client);
        opened += 1;
        eventually("the other one is free again", || ended(&proxy).len() == opened);
        proxy.requests(1) > 0
    });
    let proxy = Proxy::start(vec![dies(), dies(), dies(), dies()]);
    let page = proxy.ask(OPEN);
    assert!(page.starts_with("HTTP/1.1 502 ") && page.contains("ended before it answered"), "{page}");
}

#[test]
fn what_is_no_request_for_a_websocket_goes_over_the_link() {
    let proxy = Proxy::start(vec![echo()]);
    eventually("the links are open", || proxy.board.connections[0].load(SeqCst) == 2);
    for request in [
        OPEN.replace("websocket", "h2c"),
        OPEN.replace("GET", "OPTIONS"),
        OPEN.replace("Upgrade\r\n", "x\r\n"),
        OPEN.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi"),
    ] {
        let mut client = proxy.client();
        client.send(&request);
        let (head, seen) = client.answer();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(header(seen.split("\r\n\r\n").next().unwrap(), "upgrade"), None);
    }
    assert_eq!(proxy.board.connections[0].load(SeqCst), 2, "there are no more connections");
}

#[test]
fn each_side_may_end_before_the_other() {
    let proxy = Proxy::start(vec![opens(|stream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        stream.write_all(format!("{all}, and the end").as_bytes()).unwrap();
    })]);
    let mut client = proxy.client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    client.send("all");
    client.close_writing();
    assert_eq!(client.rest(), "all, and the end");

    let proxy = Proxy::start(vec![opens(|stream| stream.write_all(b"bye").unwrap())]);
    let mut client = proxy.client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    assert_eq!(client.rest(), "bye", "although the client says nothing");
    eventually("it is counted", || ended(&proxy) == [(101, 3, None)]);
}

#[test]
fn only_the_worker_knows_how_long_an_open_one_has_a_core() {
    let opens = echoes();
    let both: Handler = Arc::new(move |request, stream| match request.header("upgrade") {
        Some(_) => opens(request, stream),
        None => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok(),
    });
    let proxy = Proxy::start(vec![both]);
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        client.send(OPEN);
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    }
    assert!(proxy.ask(LAST_GET).starts_with("HTTP/1.1 200 OK\r\n"), "its one core is free, the worker says");
}

#[test]
fn whoever_does_not_read_holds_the_other_back() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let proxy = Proxy::start(vec![opens(move |stream| {
        for piece in (0_u8..128).cycle().map(|byte| [byte; 4096]).take(FLOOD / 4096) {
            stream.write_all(&piece).unwrap();
            counter.fetch_add(piece.len(), SeqCst);
        }
    })]);
    let mut client = proxy.client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    let mut before = 0;
    eventually("the worker waits", || {
        std::thread::sleep(Duration::from_millis(100));
        let now = sent.load(SeqCst);
        now > 0 && std::mem::replace(&mut before, now) == now
    });
    assert!(before < FLOOD, "{before}");
    let all = client.rest();
    assert_eq!(all.len(), FLOOD);
    let pieces = all.as_bytes().chunks(4096).zip((0..128).cycle());
    assert!(pieces.into_iter().all(|(piece, byte)| piece == [byte; 4096]), "in order");
    eventually("it is counted", || ended(&proxy) == [(101, FLOOD as u64, None)]);
}

#[test]
fn a_worker_that_does_not_read_holds_the_client_back() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let proxy = Proxy::start(vec![opens(move |stream| {
        let _ = wait.lock().unwrap().recv();
        let count = std::io::copy(stream, &mut std::io::sink()).unwrap();
        stream.write_all(format!("{count} bytes").as_bytes()).unwrap();
    })]);
    let mut client = proxy.client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    let sent = fill(&mut client.stream);
    go.send(()).unwrap();
    client.close_writing();
    assert_eq!(client.rest(), format!("{sent} bytes"));
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let flood = opens(|stream| while stream.write_all(&[0; 4096]).is_ok() {});
    let proxy = Proxy::with(vec![flood], |settings| settings.timeouts.write = Duration::from_millis(50));
    let mut client = proxy.client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    eventually("it is counted", || !ended(&proxy).is_empty());
    let (status, _, reason) = ended(&proxy)[0];
    assert_eq!((status, reason), (101, Some(Failure::ClientStalled as usize)));
}

#[test]
fn a_client_that_vanishes_is_missed_by_its_worker() {
    let proxy = Proxy::start(vec![echoes()]);
    let mut client = proxy.client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    drop(client);
    eventually("it is counted", || ended(&proxy).len() == 1);
    assert_eq!(ended(&proxy)[0].0, 101);
}

/// Greets, and then neither reads nor writes before it is told to; then tells when its peer has left.
fn holds() -> (Handler, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let ((go, wait), (tell, told)) = (mpsc::channel::<()>(), mpsc::channel());
    let wait = Mutex::new(wait);
    let handler = opens(move |stream| {
        stream.write_all(b"hello").unwrap();
        let _ = wait.lock().unwrap().recv();
        // The proxy counts the end before it lets go of the connection.
        stream.set_nonblocking(true).unwrap();
        let is_gone = |error: io::Error| error.kind() != ErrorKind::WouldBlock;
        eventually("its peer has left", || stream.write(b"late").is_err_and(is_gone));
        let _ = tell.send(());
    });
    (handler, go, told)
}

/// Sends until nobody takes any more; the number of bytes.
fn fill(stream: &mut TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut sent = 0;
    let full = loop {
        match stream.write(&[0; 4096]) {
            Ok(count) => sent += count,
            Err(error) => break error.kind(),
        }
        assert!(sent < FLOOD, "somebody keeps it all");
    };
    assert!(matches!(full, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{full:?}");
    sent
}

#[test]
fn a_client_that_leaves_a_busy_worker_is_noticed_and_the_worker_is_told() {
    // Who closes with something unread breaks the connection off.
    for (how, reads, sends) in
        [("closes", true, false), ("breaks off", false, false), ("breaks off with much unsent", false, true)]
    {
        let (handler, go, told) = holds();
        let proxy = Proxy::start(vec![handler]);
        let mut client = proxy.client();
        client.send(OPEN);
        let mut space = [0; 1024];
        eventually("the greeting", || {
            let count = client.stream.peek(&mut space).unwrap();
            space[..count].ends_with(b"hello")
        });
        if reads {
            client.until("hello");
        }
        if sends {
            fill(&mut client.stream);
        }
        drop(client);
        eventually(how, || !ended(&proxy).is_empty());
        assert_eq!(ended(&proxy), [(101, 5, Some(Failure::ClientGone as usize))], "{how}");
        go.send(()).unwrap();
        assert_eq!(told.recv(), Ok(()), "{how}: the worker finds nobody");
    }
}

#[test]
fn a_unix_client_that_leaves_a_busy_worker_is_noticed() {
    let (handler, _go, _told) = holds();
    let proxy = Proxy::start(vec![handler]);
    let mut client = proxy.unix_client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    drop(client);
    eventually("it is counted", || !ended(&proxy).is_empty());
}

#[test]
fn a_drain_cuts_what_does_not_end() {
    let mut proxy =
        Proxy::with(vec![echoes()], |settings| settings.timeouts.graceful = Duration::from_millis(50));
    let mut client = proxy.client();
    client.send(OPEN);
    client.until("\r\n\r\n");
    proxy.begin_drain();
    assert_eq!(proxy.ended(), 1);
    let end = client.more();
    assert!(end.is_ok_and(|count| count == 0), "the connection has ended");
}
