//! Clients that leave while the proxy waits for somebody else: it must notice, and give back what they held.
use super::harness::{Client, Proxy, echo, eventually};
use super::{GET, silent};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const BEGUN: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
const TWO: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Far less than a request would be held.
const SOON: Duration = Duration::from_secs(5);

fn waits_for(proxy: &Proxy, active: u32) {
    let line = format!("\"active\": {active},");
    let what = format!("{active} requests are active");
    eventually(&what, || Client::to(proxy.admin).ask_for("/status").contains(&line));
}

/// Sends each request on a connection of its own, and leaves when all of them wait.
fn leave(proxy: &Proxy, requests: &[&str]) {
    let clients: Vec<Client<TcpStream>> = requests
        .iter()
        .map(|request| {
            let mut client = proxy.client();
            client.send(request);
            client
        })
        .collect();
    waits_for(proxy, requests.len() as u32);
    let left = Instant::now();
    drop(clients);
    waits_for(proxy, 0);
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
}

#[test]
fn leaving_while_there_is_no_worker() {
    let proxy = Proxy::start(vec![echo()]);
    proxy.board.loads.lock().unwrap()[0].ready = false;
    leave(&proxy, &[GET, UPGRADE, BEGUN, TWO]);
    assert_eq!(proxy.requests(1), 0);
}

#[test]
fn leaving_while_there_is_no_link() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.timeouts.response = Duration::ZERO);
    // A successor that takes connections and says nothing yet.
    let path = &proxy.dir.0.join("worker-1.sock");
    std::fs::remove_file(path).unwrap();
    let _mute = UnixListener::bind(path).unwrap();
    proxy.board.loads.lock().unwrap()[0].instance = 2;
    leave(&proxy, &[GET, BEGUN, TWO]);
    assert_eq!(proxy.requests(1), 0);
}

#[test]
fn leaving_while_the_worker_is_silent() {
    let proxy = Proxy::with(vec![silent()], |settings| settings.timeouts.response = Duration::ZERO);
    leave(&proxy, &[GET, UPGRADE, TWO]);
}

#[test]
fn a_client_that_closes_its_side_behind_its_requests_gets_quick_answers() {
    let proxy = Proxy::start(vec![echo()]);
    for (requests, answers) in [(GET, 1), (TWO, 2)] {
        let mut client = proxy.client();
        client.send(requests);
        client.close_writing();
        assert_eq!(client.rest().matches("HTTP/1.1 200 OK\r\n").count(), answers, "{requests}");
    }
}

#[test]
fn a_unix_client_is_missed_as_well() {
    let proxy = Proxy::start(vec![echo()]);
    proxy.board.loads.lock().unwrap()[0].ready = false;
    let mut client = proxy.unix_client();
    client.send(TWO);
    waits_for(&proxy, 1);
    drop(client);
    waits_for(&proxy, 0);
}
