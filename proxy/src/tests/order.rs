//! Answers in their order: interim ones before the final one and at once, and nothing behind the last request of a connection.
use super::harness::{Handler, Proxy, echo, header};
use super::{LAST_GET, LAST_POST};
use std::io::Write;
use std::sync::{Arc, Mutex, mpsc};

/// Sends these texts one after the other, each but the first when it is told to.
fn step_by_step(texts: Vec<String>, go: mpsc::Receiver<()>) -> Handler {
    let go = Mutex::new(go);
    Arc::new(move |_, stream| {
        texts.iter().enumerate().all(|(index, text)| {
            (index == 0 || go.lock().unwrap().recv().is_ok()) && stream.write_all(text.as_bytes()).is_ok()
        })
    })
}

#[test]
fn interim_answers_come_at_once_and_in_order_however_large() {
    let (go, wait) = mpsc::channel();
    let hint = |link: &str| format!("HTTP/1.1 103 Early Hints\r\nlink: {link}\r\n\r\n");
    let large = "x".repeat(200_000);
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned();
    let texts = vec![hint("<1>"), hint(&large), hint("<3>"), last];
    let proxy = Proxy::start(vec![step_by_step(texts, wait)]);
    let mut client = proxy.client();
    client.send(LAST_GET);
    for link in ["<1>", &large, "<3>"] {
        let head = client.until("\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 103 ") && header(&head, "link") == Some(link), "{:.200}", head);
        // No sooner than this one has come, the next is sent.
        go.send(()).unwrap();
    }
    let rest = client.rest();
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("ok"), "{rest}");
}

#[test]
fn nothing_behind_the_last_request_is_executed() {
    for last in [LAST_GET, LAST_POST, "GET / HTTP/1.0\r\n\r\n"] {
        let proxy = Proxy::start(vec![echo()]);
        let answer = proxy.ask(&format!("{last}GET /never HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("/never"), "{answer}");
        assert_eq!(proxy.requests(1), 1, "{last}");
    }
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let proxy = Proxy::start(vec![echo(), echo()]);
    let requests: Vec<_> = (0..20).map(|index| format!("GET /{index} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    let mut client = proxy.client();
    client.send(&requests.concat());
    for index in 0..20 {
        let (_, seen) = client.answer();
        assert!(seen.starts_with(&format!("GET /{index} HTTP/1.1\r\n")), "{index}: {seen}");
    }
}
