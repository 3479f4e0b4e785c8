//! What befalls a proxy while it runs: the master's modes, another number of workers, workers that cannot be reached; and what
//! it tells the master.
use super::harness::{self, Client, Handler, Proxy, echo, eventually, header};
use super::{GET, LAST_GET, LAST_POST, dies};
use crate::Mode;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

fn set_mode(proxy: &Proxy, mode: Mode) {
    *proxy.board.mode.lock().unwrap() = mode;
}

fn ask_admin(proxy: &Proxy, path: &str) -> String {
    Client::to(proxy.admin).ask_for(path)
}

/// Answers when it is told to.
fn told() -> (Sender<()>, Handler) {
    let (go, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let handler: Handler = Arc::new(move |_, stream| {
        wait.lock().unwrap().recv().is_ok()
            && stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    (go, handler)
}

#[test]
fn a_leaving_proxy_serves_and_asks_clients_to_move_on() {
    let proxy = Proxy::start(vec![echo()]);
    let mut client = proxy.client();
    client.send(GET);
    assert_eq!(header(&client.answer().0, "connection"), Some("keep-alive"));
    set_mode(&proxy, Mode::Leaving);
    client.send(GET);
    let (head, _) = client.answer();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(header(&head, "connection"), Some("close"));
    assert!(ask_admin(&proxy, "/readyz").ends_with("it is about to stop\n"));
}

#[test]
fn maintenance_refuses_new_requests_and_finishes_what_runs() {
    let (go, handler) = told();
    let proxy = Proxy::start(vec![handler]);
    let mut running = proxy.client();
    running.send(LAST_GET);
    eventually("the worker has the request", || proxy.requests(1) == 1);
    set_mode(&proxy, Mode::Maintenance);
    let answer = proxy.ask(LAST_GET);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("down for maintenance"), "{answer}");
    assert_eq!(header(&answer, "retry-after"), Some("30"));
    assert!(ask_admin(&proxy, "/readyz").starts_with("HTTP/1.1 503 "));
    go.send(()).unwrap();
    assert!(running.rest().ends_with("ok"));
}

#[test]
fn a_pause_holds_requests_and_tells_the_master() {
    let proxy = Proxy::start(vec![echo()]);
    set_mode(&proxy, Mode::Paused);
    let mut client = proxy.client();
    client.send(LAST_POST);
    let pulse = || *proxy.board.pulse.lock().unwrap();
    eventually("it waits", || (pulse().queued, pulse().in_flight, pulse().connections) == (1, 1, 1));
    assert!(ask_admin(&proxy, "/readyz").starts_with("HTTP/1.1 200 "), "it goes on soon");
    assert!(ask_admin(&proxy, "/status").contains("\"mode\": \"paused\""));
    set_mode(&proxy, Mode::Serving);
    assert!(client.rest().starts_with("HTTP/1.1 200 OK\r\n"));
    eventually("the master is told", || (pulse().queued, pulse().dequeued) == (0, 1));
    assert!(pulse().queue_us > 0 && pulse().age < Duration::from_secs(10));
}

#[test]
fn a_crash_loop_is_a_503_at_once_while_no_worker_lives() {
    let proxy = Proxy::start(vec![echo()]);
    set_mode(&proxy, Mode::CrashLoop);
    proxy.board.loads.lock().unwrap()[0].ready = false;
    let answer = proxy.ask(LAST_GET);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("cannot start"), "{answer}");
    assert_eq!(header(&answer, "retry-after"), Some("30"));
    proxy.board.loads.lock().unwrap()[0].ready = true;
    assert!(proxy.ask(LAST_GET).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn there_may_be_more_workers_and_fewer() {
    let proxy = Proxy::with(vec![echo(), echo()], |settings| settings.proxy.threads = 1);
    let links = |worker: usize| proxy.board.connections[worker - 1].load(SeqCst);
    let served_by_second = || {
        let before = proxy.requests(2);
        assert!(proxy.ask(LAST_GET).starts_with("HTTP/1.1 200 OK\r\n"));
        proxy.requests(2) > before
    };
    proxy.board.count.store(1, SeqCst);
    assert!((0..4).all(|_| !served_by_second()));
    proxy.board.count.store(2, SeqCst);
    eventually("the second one gets requests", served_by_second);
    assert_eq!((links(1), links(2)), (1, 1), "one link each");
}

#[test]
fn the_link_to_a_worker_that_was_removed_is_not_opened_again() {
    let (here, gone) = (echo(), dies());
    let proxy = Proxy::with(vec![here, gone], |settings| settings.proxy.threads = 1);
    let links = || proxy.board.connections[1].load(SeqCst);
    eventually("the second one has a link", || links() == 1);
    // It ends with its next request, which was on its way when the worker was removed.
    while proxy.requests(2) == 0 {
        proxy.ask(LAST_GET);
    }
    proxy.board.count.store(1, SeqCst);
    let links_then = links();
    assert!((0..20).all(|_| proxy.ask(LAST_GET).starts_with("HTTP/1.1 200 OK\r\n")));
    assert!(links() <= links_then + 1, "the one that was being opened");
    assert!(ask_admin(&proxy, "/status").matches("\"id\"").count() == 1);
}

#[test]
fn a_worker_that_turns_out_to_be_busy_gets_the_request_later() {
    let was_busy = Arc::new(AtomicBool::new(false));
    let busy = "HTTP/1.1 503 Service Unavailable\r\nx-appliance-cause: busy\r\ncontent-length: 4\r\n\r\nbusy";
    let handler: Handler = Arc::new(move |_, stream| {
        let answer =
            if was_busy.swap(true, SeqCst) { "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" } else { busy };
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let proxy = Proxy::start(vec![handler]);
    let answer = proxy.ask(LAST_POST);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok"), "{answer}");
    assert_eq!(proxy.requests(1), 2);
}

#[test]
fn a_drain_waits_for_connections_that_carry_another_protocol() {
    let upgrades: Handler = Arc::new(|_, stream| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut ping = [0; 4];
        while std::io::Read::read_exact(stream, &mut ping).is_ok() {
            stream.write_all(b"pong").unwrap();
        }
        false
    });
    let mut proxy = Proxy::start(vec![upgrades]);
    let mut client = proxy.client();
    client.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping");
    client.until("pong");
    proxy.begin_drain();
    eventually("it accepts no more", || TcpStream::connect(proxy.address).is_err());
    client.send("ping");
    client.until("pong");
    assert!(!proxy.has_ended());
    drop(client);
    assert_eq!(proxy.ended(), 0);
}

#[test]
fn a_worker_whose_socket_somebody_removed_is_a_503_until_it_is_back() {
    let proxy = Proxy::with(vec![dies()], |settings| settings.proxy.threads = 1);
    eventually("the link is open", || proxy.board.connections[0].load(SeqCst) == 1);
    let path = proxy.dir.0.join("worker-1.sock");
    std::fs::remove_file(&path).unwrap();
    assert!(proxy.ask(LAST_POST).starts_with("HTTP/1.1 502 "), "its link is gone");
    let answer = proxy.ask(LAST_POST);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("No worker could be reached"), "{answer}");
    assert_eq!(header(&answer, "retry-after"), Some("1"));
    let back = UnixListener::bind(path).unwrap();
    let board = proxy.board.clone();
    std::thread::spawn(move || harness::worker(&back, 0, &board, &echo()));
    assert!(proxy.ask(LAST_POST).starts_with("HTTP/1.1 200 OK\r\n"));
}
