//! Workers that break the protocol or lie, and clients that want them to: what the others see of it.
use super::harness::{Handler, Proxy, eventually, header, settings};
use super::link::{answer_head, data, frames};
use super::{GET, LAST_GET};
use appliance_link::frame::{self, END, Kind};
use appliance_link::head;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// Sends these frames, whose stream it is told.
fn sends(make: impl Fn(u32) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Handler {
    Arc::new(move |request, stream| {
        let id = frames(&request, stream);
        stream.write_all(&make(id).concat()).is_ok()
    })
}

#[test]
fn a_head_that_no_worker_takes_is_refused_and_the_link_lives() {
    let (got, heads) = std::sync::mpsc::channel();
    let got = std::sync::Mutex::new(got);
    let counts: Handler = Arc::new(move |request, stream| {
        got.lock().unwrap().send(request.head.len()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let proxy = Proxy::start(vec![counts]);
    let most = settings().limits.header_bytes;
    let ask = |host: usize| {
        let host = "h".repeat(host);
        proxy.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    let answer = ask(most - 100);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(heads.try_recv().is_err());
    assert!(ask(most / 4).starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_answer_shorter_or_longer_than_announced_is_cut_and_the_client_is_not_blamed() {
    for bodies in [&b"abc"[..], b"0123456789too much"] {
        let proxy = Proxy::start(vec![sends(move |id| {
            vec![answer_head(id, 0, 200, Some(10)), data(id, END, bodies)]
        })]);
        let answer = proxy.ask(GET);
        assert!(!answer.contains("0123456789"), "{answer}");
        let errors = || super::Client::to(proxy.admin).ask_for("/status").contains("\"errors\": 1");
        eventually("the failure counts as one of the worker", errors);
    }
    let proxy = Proxy::start(vec![sends(|id| vec![answer_head(id, END, 200, Some(10))])]);
    assert!(proxy.ask(GET).starts_with("HTTP/1.1 502 "));
}

#[test]
fn an_answer_that_ends_with_its_head_says_so() {
    let proxy = Proxy::start(vec![sends(|id| vec![answer_head(id, END, 200, None)])]);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(GET);
        let (head, _) = client.answer();
        assert_eq!(header(&head, "connection"), Some("keep-alive"), "{head}");
    }
}

#[test]
fn an_answer_that_has_no_body_gets_none() {
    let lies = |status| {
        sends(move |id| vec![answer_head(id, 0, status, None), data(id, 0, b"not"), data(id, END, b" this")])
    };
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let proxy = Proxy::start(vec![lies(status)]);
        let mut client = proxy.client();
        for _ in 0..2 {
            client.send(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = client.until("\r\n\r\n");
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!(header(&head, "transfer-encoding"), None);
        }
    }
}

#[test]
fn nobody_is_switched_to_another_protocol_over_the_link() {
    let switches = sends(|id| vec![answer_head(id, 0, 101, None), answer_head(id, END, 200, Some(0))]);
    let answer = Proxy::start(vec![switches]).ask(GET);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[test]
fn an_answer_with_a_multitude_of_fields_is_a_502() {
    let many = sends(|id| {
        let mut head = Vec::new();
        let at = frame::begin(&mut head, Kind::Response, id, END);
        head::put_response(&mut head, &head::ResponseFacts { status: 200, ..Default::default() });
        (0..40_000).for_each(|number| head::put_field(&mut head, format!("x{number}").as_bytes(), b""));
        frame::finish(&mut head, at);
        vec![head]
    });
    let answer = Proxy::start(vec![many]).ask(LAST_GET);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[test]
fn what_an_application_has_sent_arrives_although_it_does_not_read() {
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let ends = std::sync::Mutex::new(ends);
    let early: Handler = Arc::new(move |request, stream| {
        let id = frames(&request, stream);
        let begun = [answer_head(id, 0, 200, Some(10)), data(id, 0, b"abc")].concat();
        stream.write_all(&begun).unwrap();
        ends.lock().unwrap().recv().is_ok()
    });
    let proxy = Proxy::with(vec![early], |settings| settings.timeouts.graceful = Duration::from_millis(50));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nX-Stream: 1\r\nContent-Length: 900000\r\n\r\n");
    let mut upload = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || upload.write_all(&vec![b'y'; 900_000]));
    client.until("\r\n\r\nabc");
    drop((end, proxy));
    // Cut or not: nobody reads it.
    let _ = sender.join().unwrap();
}

#[test]
fn what_was_sent_before_a_cut_arrives() {
    let cuts = sends(|id| {
        let mut reset = Vec::new();
        frame::put_reset(&mut reset, id, appliance_link::Reason::Cut);
        vec![answer_head(id, 0, 200, Some(10)), data(id, 0, b"abc"), reset]
    });
    let answer = Proxy::start(vec![cuts]).ask(GET);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nabc"), "{answer}");
}

#[test]
fn what_an_application_has_executed_is_not_sent_elsewhere() {
    use appliance_link::Reason;
    for (reason, status) in [(Reason::Raised, "500"), (Reason::Cut, "502")] {
        let gives_up = move || {
            sends(move |id| {
                let mut reset = Vec::new();
                frame::put_reset(&mut reset, id, reason);
                vec![reset]
            })
        };
        let proxy = Proxy::start(vec![gives_up(), gives_up()]);
        let answer = proxy.ask(LAST_GET);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(proxy.requests(1) + proxy.requests(2), 1, "{reason:?}");
    }
}

#[test]
fn a_client_that_pauses_in_its_body_is_not_the_worker_s_silence() {
    let reads: Handler = Arc::new(|_, stream| {
        let mut body = [0; 4];
        stream.read_exact(&mut body).is_ok()
            && stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_ok()
    });
    let proxy = Proxy::with(vec![reads], |settings| {
        settings.timeouts.response = Duration::from_millis(500);
        settings.timeouts.body = Duration::from_secs(2);
    });
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nX-Stream: 1\r\nContent-Length: 4\r\n\r\nab");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}
