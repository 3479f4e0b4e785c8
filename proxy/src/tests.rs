//! The proxy as a whole, against fake workers: what a client and a worker see of each other.
mod corpus;
pub(crate) mod harness;
mod hostile;
mod leavers;
mod link;
mod modes;
mod order;
mod tunnels;

use crate::Occurrence;
use harness::{Client, Handler, Proxy, echo, eventually, header, says};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const GET: &str = "GET /x?y HTTP/1.1\r\nHost: a.example\r\n\r\n";
const LAST_GET: &str = "GET /x?y HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
const UPLOAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nX-Stream: 1\r\nContent-Length: 900000\r\n\r\n";
const LAST_POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";

/// Reads the request and dies without a word.
fn dies() -> Handler {
    Arc::new(|_, _| false)
}

/// Answers without reading the body.
fn refuses() -> Handler {
    Arc::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").unwrap();
        false
    })
}

/// Never answers; ends with the connection.
fn silent() -> Handler {
    Arc::new(|_, stream| {
        while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        false
    })
}

#[test]
fn a_request_reaches_the_worker_with_the_facts() {
    let proxy = Proxy::start(vec![echo()]);
    let mut client = proxy.client();
    client.send(GET);
    let (head, seen) = client.answer();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && seen.starts_with("GET /x?y HTTP/1.1\r\n"),
        "{head}{seen}"
    );
    let peer = client.stream.local_addr().unwrap().to_string();
    assert_eq!(header(&seen, "host"), Some("a.example"));
    assert_eq!(header(&seen, "x-appliance-peer"), Some(&*peer));
    assert_eq!(header(&seen, "x-appliance-scheme"), Some("http"));
    assert_eq!(header(&seen, "x-appliance-server"), Some(&*proxy.address.to_string()));
    assert_eq!(header(&seen, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(&seen, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(&seen, "x-forwarded-host"), Some("a.example"));
    assert_eq!(header(&seen, "x-request-id"), header(&head, "x-request-id"));
    assert_eq!(header(&head, "x-appliance-core"), None);
}

#[test]
fn forged_facts_do_not_arrive() {
    let proxy = Proxy::start(vec![echo()]);
    let seen = proxy.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Appliance-Peer: 9.9.9.9:9\r\nx-appliance-evil: 1\r\nX-Forwarded-For: 9.9.9.9\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 9\r\nX-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n\
         Proxy: http://evil\r\nX_Forwarded_For: 9.9.9.9\r\nX-Request-ID: evil\r\nConnection: close\r\n\r\n",
    );
    assert!(!seen.contains("9.9.9.9") && !seen.contains("evil"), "{seen}");
    assert_eq!(header(seen.split_once("\r\n\r\n").unwrap().1, "x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn a_trusted_peer_speaks_for_its_client() {
    let trusted = "127.0.0.0".parse().unwrap();
    let proxy = Proxy::with(vec![echo()], |settings| {
        settings.proxy.trusted.push(appliance_config::settings::Network { address: trusted, prefix: 8 });
    });
    let answer = proxy.ask(
        "GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\n\
         X-Request-ID: given-1\r\nConnection: close\r\n\r\n",
    );
    let seen = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(header(seen, "host"), Some("outer"));
    assert_eq!(header(seen, "x-appliance-peer"), Some("9.9.9.9:0"));
    assert_eq!(header(seen, "x-appliance-scheme"), Some("https"));
    assert_eq!(header(seen, "x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(header(seen, "x-request-id"), Some("given-1"));
}

#[test]
fn unix_clients_are_served() {
    let proxy = Proxy::start(vec![echo()]);
    let mut client = proxy.unix_client();
    client.send(GET);
    let (_, seen) = client.answer();
    assert_eq!(header(&seen, "x-appliance-peer"), Some("unix:"));
    assert_eq!(header(&seen, "x-appliance-server"), Some("unix:"));
}

#[test]
fn an_absolute_target_becomes_a_path() {
    let proxy = Proxy::start(vec![echo()]);
    let answer = proxy.ask("GET http://b.example?q HTTP/1.0\r\n\r\n");
    let seen = answer.split_once("\r\n\r\n").unwrap().1;
    assert!(seen.starts_with("GET /?q HTTP/1.1\r\n"), "{seen}");
    assert_eq!(header(seen, "host"), Some("b.example"));
}

#[test]
fn connections_are_reused_on_both_sides() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.proxy.threads = 1);
    let mut client = proxy.client();
    for _ in 0..5 {
        client.send(GET);
        client.answer();
    }
    assert_eq!(proxy.requests(1), 5);
    assert_eq!(proxy.board.connections[0].load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn a_link_that_ends_is_opened_again() {
    let fragile: Handler = Arc::new(|request, stream| {
        !request.head.starts_with("POST ")
            && stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let proxy = Proxy::with(vec![fragile], |settings| settings.proxy.threads = 1);
    for links in 1..=3 {
        assert!(proxy.ask(LAST_GET).starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(proxy.board.connections[0].load(std::sync::atomic::Ordering::SeqCst), links);
        proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    }
}

#[test]
fn a_worker_s_successor_gets_a_link_although_its_predecessor_keeps_its_own() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.proxy.threads = 1);
    let links = || proxy.board.connections[0].load(std::sync::atomic::Ordering::SeqCst);
    let mut client = proxy.client();
    for (instance, expected) in [(1, 1), (2, 2), (2, 2)] {
        proxy.board.loads.lock().unwrap()[0].instance = instance;
        client.send(GET);
        client.answer();
        assert_eq!(links(), expected);
    }
}

#[test]
fn bodies_stream_both_ways() {
    let streams: Handler = Arc::new(|_, stream| {
        let mut five = [0; 5];
        let mut echo = |stream: &mut std::os::unix::net::UnixStream, first: bool| {
            stream.read_exact(&mut five).unwrap();
            let head: &[u8] =
                if first { b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" } else { b"" };
            stream.write_all(&[head, b"5\r\n", &five, b"\r\n"].concat()).unwrap();
        };
        echo(stream, true);
        echo(stream, false);
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let proxy = Proxy::start(vec![streams]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nX-Stream: 1\r\nContent-Length: 10\r\n\r\nfirst");
    client.until("first\r\n");
    client.send("secon");
    client.until("secon\r\n0\r\n\r\n");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let proxy = Proxy::start(vec![echo()]);
    let mut client = proxy.client();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345\
         GET /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHo",
    );
    for (path, body) in [("GET /1", ""), ("POST /2", "12345"), ("GET /3", "")] {
        let (_, seen) = client.answer();
        assert!(seen.starts_with(path) && seen.ends_with(&format!("\r\n\r\n{body}")), "{seen}");
    }
    client.send("st: a\r\n\r\n");
    assert!(client.answer().1.starts_with("GET /4"));
}

#[test]
fn requests_after_a_chunked_body_are_answered() {
    let chunked: Handler = Arc::new(|request, stream| {
        let mut body = Vec::new();
        while header(&request.head, "transfer-encoding").is_some() && !body.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            body.push(byte[0]);
        }
        let path = request.head.split(' ').nth(1).unwrap().to_owned();
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len()).as_bytes())
            .is_ok()
    });
    let proxy = Proxy::start(vec![chunked]);
    let mut client = proxy.client();
    client.send(
        "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(client.answer().1, "/1");
    assert_eq!(client.answer().1, "/2");
}

#[test]
fn a_get_survives_the_death_of_a_worker() {
    let proxy = Proxy::start(vec![dies(), echo()]);
    let mut served = 0;
    eventually("the first one has died", || {
        assert!(proxy.ask(LAST_GET).starts_with("HTTP/1.1 200 OK\r\n"));
        served += 1;
        proxy.requests(1) > 0
    });
    assert_eq!(proxy.requests(2), served);
}

#[test]
fn a_post_is_not_executed_twice() {
    let proxy = Proxy::start(vec![dies(), dies()]);
    let answer = proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("ended before it answered"), "{answer}");
    assert_eq!(proxy.requests(1) + proxy.requests(2), 1);
}

#[test]
fn a_get_that_kills_workers_is_given_up() {
    let proxy = Proxy::start(vec![dies(), dies(), dies(), dies()]);
    assert!(proxy.ask(LAST_GET).starts_with("HTTP/1.1 502 "));
    assert_eq!((1..=4).map(|worker| proxy.requests(worker)).sum::<usize>(), 3);
}

#[test]
fn what_a_worker_did_not_read_goes_elsewhere_whatever_the_method() {
    let proxy = Proxy::start(vec![dies(), echo()]);
    let path = proxy.dir.0.join("worker-1.sock");
    std::fs::remove_file(&path).unwrap();
    let closes_unread = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || closes_unread.incoming().for_each(drop));
    // Whatever links there are, are to its predecessor.
    proxy.board.loads.lock().unwrap()[0].instance = 2;
    for _ in 0..4 {
        let answer =
            proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    assert_eq!(proxy.requests(2), 4);
}

#[test]
fn interim_answers_pass_but_not_to_old_clients() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let proxy = Proxy::start(vec![says(interim)]);
    let answer = proxy.ask(LAST_GET);
    assert!(answer.starts_with("HTTP/1.1 103 ") && answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(proxy.ask("GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn an_early_answer_arrives_although_the_body_is_not_read() {
    let proxy = Proxy::start(vec![refuses()]);
    let mut client = proxy.client();
    client.send(UPLOAD);
    let body = "x".repeat(900_000);
    // The proxy may close while the client is still sending.
    let _ = client.stream.write_all(body.as_bytes());
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 403 ") && body == "no", "{head}");
}

#[test]
fn a_client_that_is_slow_to_read_an_early_answer_still_gets_it() {
    let proxy = Proxy::start(vec![refuses()]);
    let mut client = proxy.client();
    client.send(UPLOAD);
    let sent = "x".repeat(10_000);
    eventually("the proxy has answered", || {
        Client::to(proxy.admin).ask_for("/status").contains("\"requests\": 1")
            && client.stream.peek(&mut [0]).is_ok_and(|count| count == 1)
    });
    // Every one of these would be answered with a reset, were the connection closed.
    for _ in 0..80 {
        client.stream.write_all(sent.as_bytes()).unwrap();
    }
    let (head, body) = client.answer();
    assert!(head.starts_with("HTTP/1.1 403 ") && body == "no", "{head}");
}

#[test]
fn odd_targets_arrive_as_they_were_sent() {
    let proxy = Proxy::start(vec![echo()]);
    for target in ["/a\"b{c}|d^e\\h?`{}|^", "/%00%zz", "//x", "/a;b=c?d=e&f", "/?a?b"] {
        let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        assert!(answer.contains(&format!("\r\nGET {target} HTTP/1.1\r\n")), "{target}: {answer}");
    }
}

#[test]
fn a_cut_answer_is_seen_to_be_cut() {
    let cuts = |text: &'static str| -> Handler {
        Arc::new(move |_, stream| {
            stream.write_all(text.as_bytes()).unwrap();
            false
        })
    };
    let sized = Proxy::start(vec![cuts("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")]);
    let answer = sized.ask(GET);
    assert!(
        !answer.contains("HTTP/1.1 502") && answer.len() < 300 && !answer.ends_with("0\r\n\r\n"),
        "{answer}"
    );
    let chunked = cuts("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let chunked = Proxy::start(vec![chunked]);
    let answer = chunked.ask(GET);
    assert!(answer.ends_with("3\r\nabc\r\n"), "{answer}");
    let mut old = chunked.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    let reset = loop {
        match old.more() {
            Ok(0) => panic!("a cut answer looks complete"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_worker_that_breaks_the_protocol_is_a_502_and_gets_another_link() {
    let proxy =
        Proxy::with(vec![says("what is this, if not a frame?\r\n")], |settings| settings.proxy.threads = 1);
    for links in 1..=2 {
        let answer = proxy.ask(GET);
        assert!(
            answer.starts_with("HTTP/1.1 502 ") && answer.contains("could not be understood"),
            "{answer}"
        );
        // The next one may be there already.
        assert!(proxy.board.connections[0].load(std::sync::atomic::Ordering::SeqCst) >= links);
    }
}

#[test]
fn an_old_client_gets_a_plain_body() {
    let proxy = Proxy::start(vec![says(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    )]);
    let answer = proxy.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"));
}

#[test]
fn a_silent_worker_is_a_504() {
    let proxy =
        Proxy::with(vec![silent()], |settings| settings.timeouts.response = Duration::from_millis(500));
    assert!(proxy.ask(GET).starts_with("HTTP/1.1 504 "));
    eventually("the worker has read the request", || proxy.requests(1) > 0);
    assert_eq!(proxy.requests(1), 1, "it is asked once");
}

#[test]
fn a_slow_head_is_a_408() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.timeouts.header = Duration::from_millis(100));
    let start = Instant::now();
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("took too long"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_stalled_upload_is_a_408() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.timeouts.body = Duration::from_millis(50));
    let answer = proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("stopped arriving"), "{answer}");
}

#[test]
fn idle_connections_are_closed() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.timeouts.keepalive = Duration::from_millis(50));
    assert_eq!(proxy.client().rest(), "");
}

#[test]
fn large_bodies_are_refused_announced_or_not() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.limits.body = 10);
    let announced = proxy.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    assert!(announced.starts_with("HTTP/1.1 413 "), "{announced}");
    let counted = proxy.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nX-Stream: 1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n",
    );
    assert!(counted.starts_with("HTTP/1.1 413 "), "{counted}");
}

#[test]
fn malformed_requests_are_refused_and_closed() {
    let proxy = Proxy::start(vec![echo()]);
    let refused = |request: &str, status: u16| {
        let answer = proxy.ask(request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
        assert_eq!(header(&answer, "connection"), Some("close"));
    };
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET / HTTP/1.1\nHost: a\n\n", 400);
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    );
    refused("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400);
    refused("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505);
    refused(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(2000)), 414);
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(60)), 431);
    assert_eq!(proxy.requests(1), 0);
}

#[test]
fn a_bad_chunk_in_the_middle_is_a_400() {
    let proxy = Proxy::start(vec![silent()]);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    eventually("the worker has the head", || proxy.requests(1) == 1);
    client.send("3\nabc\r\n");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("chunked request body"), "{answer}");
}

#[test]
fn too_many_connections_are_closed_at_once() {
    let proxy = Proxy::with(vec![echo()], |settings| settings.limits.connections = 1);
    let mut first = proxy.client();
    first.send(GET);
    first.answer();
    assert_eq!(proxy.client().rest(), "");
    first.send(GET);
    first.answer();
}

#[test]
fn a_request_waits_for_a_worker_to_come_back() {
    let proxy = Proxy::start(vec![echo()]);
    proxy.board.loads.lock().unwrap()[0].ready = false;
    let mut client = proxy.client();
    client.send(LAST_GET);
    let status = || Client::to(proxy.admin).ask_for("/status");
    eventually("the request is held", || status().contains("\"active\": 1"));
    proxy.board.loads.lock().unwrap()[0].ready = true;
    assert!(client.rest().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_full_backlog_is_a_wait() {
    let proxy = Proxy::with(vec![dies()], |settings| settings.proxy.threads = 1);
    let links = || proxy.board.connections[0].load(std::sync::atomic::Ordering::SeqCst);
    eventually("the link is open", || links() == 1);
    let path = &proxy.dir.0.join("worker-1.sock");
    std::fs::remove_file(path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let full = runtime.block_on(async {
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(path).unwrap();
        socket.listen(1).unwrap().into_std().unwrap()
    });
    full.set_nonblocking(false).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match runtime.block_on(tokio::net::UnixStream::connect(path)) {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(proxy.ask(LAST_POST).starts_with("HTTP/1.1 502 "), "its link is gone");
    let mut client = proxy.client();
    client.send(LAST_POST);
    eventually("the proxy has tried", || {
        !Client::to(proxy.admin).ask_for("/status").contains("\"retries\": 0")
    });
    drop(waiting);
    std::thread::spawn({
        let board = proxy.board.clone();
        move || harness::worker(&full, 0, &board, &echo())
    });
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("abc"), "{answer}");
}

#[test]
fn silent_clients_of_the_admin_endpoint_keep_nobody_from_an_answer() {
    let proxy = Proxy::start(vec![echo()]);
    let connect = || TcpStream::connect(proxy.admin).unwrap();
    let mut silent: Vec<TcpStream> = (0..crate::admin::MAX_PROBES).map(|_| connect()).collect();
    assert!(Client::to(proxy.admin).ask_for("/livez").starts_with("HTTP/1.1 200 "));
    assert_eq!(silent[0].read(&mut [0]).unwrap_or(0), 0, "the oldest has made room");
    silent[1].set_nonblocking(true).unwrap();
    assert!(silent[1].read(&mut [0]).is_err(), "the next is still there");
}

#[test]
fn the_admin_endpoint_tells_the_state() {
    let proxy = Proxy::start(vec![echo()]);
    proxy.ask(LAST_GET);
    let ask = |path| Client::to(proxy.admin).ask_for(path);
    assert!(ask("/readyz").starts_with("HTTP/1.1 200 "));
    assert!(ask("/status").contains("\"requests\": 1"));
    proxy.board.loads.lock().unwrap()[0].ready = false;
    assert!(ask("/readyz").starts_with("HTTP/1.1 503 "));
    assert!(ask("/healthz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn every_request_is_counted_once_also_those_that_no_worker_sees() {
    let proxy = Proxy::start(vec![refuses()]);
    proxy.ask(LAST_GET);
    proxy.ask("GET / HTTP/1.1\r\n\r\n");
    let ended = || {
        let counted = proxy.board.counted.lock().unwrap();
        let statuses = counted.iter().filter_map(|what| match what {
            Occurrence::Ended { status, worker, reason, .. } => Some((*status, *worker, *reason)),
            _ => None,
        });
        // Two threads count them.
        let mut statuses: Vec<_> = statuses.collect();
        statuses.sort_by_key(|(status, ..)| std::cmp::Reverse(*status));
        statuses
    };
    eventually("both are counted", || ended().len() == 2);
    let no_host = crate::reasons().position(|reason| reason == "no-host");
    assert_eq!(ended(), [(403, Some(1), None), (400, None, no_host)]);
    let is_connection = |what: &&Occurrence| **what == Occurrence::Connected;
    assert_eq!(proxy.board.counted.lock().unwrap().iter().filter(is_connection).count(), 2);
    let page = || Client::to(proxy.admin).ask_for("/metrics");
    eventually("the numbers are those of this moment", || page().ends_with("connections 0\n"));
}

impl Client<TcpStream> {
    fn ask_for(mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        self.rest()
    }
}

#[test]
fn a_drain_lets_requests_finish() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow: Handler = Arc::new(move |_, stream| {
        wait.lock().unwrap().recv().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_ok()
    });
    let mut proxy = Proxy::start(vec![slow]);
    let mut busy = proxy.client();
    busy.send(GET);
    eventually("the worker has the request", || proxy.requests(1) == 1);
    let mut idle = proxy.client();
    let connected = || Client::to(proxy.admin).ask_for("/status").contains("\"connections\": 2");
    eventually("both are accepted", connected);
    proxy.begin_drain();
    assert_eq!(idle.rest(), "", "idle connections are closed");
    assert!(!proxy.has_ended());
    go.send(()).unwrap();
    let answer = busy.rest();
    assert!(answer.ends_with("ok"), "{answer}");
    assert_eq!(header(&answer, "connection"), Some("close"));
    assert_eq!(proxy.ended(), 0);
}

#[test]
fn a_drain_answers_a_last_request_on_an_idle_connection() {
    let mut proxy = Proxy::start(vec![echo()]);
    let mut client = proxy.client();
    client.send(GET);
    client.answer();
    proxy.begin_drain();
    client.send(GET);
    assert!(client.rest().starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_drain_ends_with_the_patience() {
    let mut proxy =
        Proxy::with(vec![silent()], |settings| settings.timeouts.graceful = Duration::from_millis(100));
    let mut client = proxy.client();
    client.send(GET);
    eventually("the worker has the request", || proxy.requests(1) == 1);
    proxy.begin_drain();
    assert_eq!(client.rest(), "");
    assert_eq!(proxy.ended(), 1);
}
