//! The examples do what their READMEs say.
use crate::harness::{Appliance, Client, Setup, command, free_ports, root, until};
use crate::websockets::peer::{Peer, TEXT};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Starts an example on a free port; `change` adds what it needs.
#[track_caller]
fn start(name: &str, change: impl FnOnce(Setup) -> Setup) -> Appliance {
    let config = root().join("examples").join(name).join("appliance.toml");
    change(Setup::bare().arg("--config").arg(config.display())).workers(2).start()
}

#[test]
fn each_configuration_is_valid() {
    let mut found = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let config = entry.unwrap().path().join("appliance.toml");
        if config.is_file() {
            found += 1;
            let (code, _, err) = command(&root(), &["check", "--config", &config.to_string_lossy()], &[]);
            assert_eq!((code, err.as_str()), (Some(0), ""), "{}", config.display());
        }
    }
    assert_eq!(found, 7);
}

#[test]
fn welcome_shows_where_it_runs_and_a_burst_of_waiting_requests() {
    let port = free_ports(1);
    let appliance = start("welcome", |setup| {
        let setup = setup.arg("--listen").arg(format!("127.0.0.1:{port}"));
        setup.set("app.env.FRONT_DOOR", format!("http://127.0.0.1:{port}"))
    });
    let page = appliance.get("/");
    assert!(page.status == 200 && page.text().contains("worker"), "{page:?}");
    assert!(appliance.get("/hello").json()["worker"].is_u64());
    let began = Instant::now();
    let burst = appliance.get("/burst?n=20").text();
    let took = began.elapsed();
    let answers: Vec<Value> = burst.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(answers.iter().all(|answer| answer["error"].is_null()), "{burst}");
    let numbers: BTreeSet<u64> = answers.iter().filter_map(|answer| answer["number"].as_u64()).collect();
    assert_eq!(numbers.len(), 20);
    assert!(took < Duration::from_secs(4), "twenty requests of one second took {took:?}");
}

#[test]
fn flask_and_django_answer() {
    let flask = start("flask", |setup| setup);
    assert!(flask.get("/").text().contains("Hello from Flask"));
    assert_eq!(flask.get("/count").text().lines().count(), 5);
    let django = start("django", |setup| setup);
    let mut client = django.client();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(client.answer().text().contains("Hello, world"));
    client.send("GET /lines HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.answer().text().lines().count(), 5);
}

#[test]
fn tornado_answers_beside_wsgi() {
    let base = free_ports(3);
    let appliance =
        start("tornado", |setup| setup.set("native.base_port", base).set("app.env.BASE_PORT", base));
    let facts = appliance.get("/").json();
    assert_eq!(
        facts["page"],
        serde_json::json!({"worker": facts["tornado"]["worker"], "pid": facts["tornado"]["pid"]})
    );
}

#[test]
fn asgi_answers_at_both_doors() {
    let base = free_ports(3);
    let appliance = start("asgi", |setup| setup.set("native.base_port", base));
    assert!(appliance.get("/").text().starts_with("Hello from worker process"));
    assert_eq!(appliance.get("/events").text().lines().count(), 10);
    let native = ([127, 0, 0, 1], base + 2).into();
    until("the worker listens", || Client::tcp(native).is_ok());
    assert_eq!(Client::tcp(native).unwrap().post("/echo", "hello").json()["bytes"], 5);
}

#[test]
fn the_seed_s_generator_and_postfork_answer() {
    let generator = start("seed", |setup| setup.arg("generator:application"));
    assert_eq!(generator.get("/").text(), "onetwothree");
    let postfork = start("seed", |setup| setup.arg("postfork:application"));
    assert!(postfork.get("/").text().contains("also listens on port 800"));
}

/// What `examples/seed/backend.py` does, unless somebody does it already.
pub fn play_the_service() {
    let Ok(listener) = TcpListener::bind("127.0.0.1:9191") else { return };
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer =
                "HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\nhello from services\n";
            // Its clients are the examples under test: they send a request of one packet.
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(answer.as_bytes()));
        }
    });
}

#[test]
fn the_seed_s_fetch_and_sleeper_answer() {
    play_the_service();
    for (app, seconds) in [("fetch:application", 0.0), ("sleeper:application", 0.3)] {
        let appliance = start("seed", |setup| setup.arg(app).set("app.env.SECONDS", seconds));
        let (answers, took) = appliance.get_all(&["/"; 5]);
        for answer in answers {
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello from services\n"));
        }
        assert!(took >= Duration::from_secs_f64(seconds) && took < Duration::from_secs(4), "{took:?}");
    }
}

#[test]
fn whatever_a_visitor_of_the_chat_says_reaches_all() {
    let config = root().join("examples/websocket-chat/appliance.toml");
    let appliance = Setup::bare().arg("--config").arg(config.display()).start();
    assert!(appliance.get("/").text().contains("<h1>Chat</h1>"));
    let mut visitors = ["ann", "bob"].map(|name| {
        let mut visitor = Peer::open(appliance.client(), "/chat");
        visitor.send(TEXT, name);
        assert_eq!(
            visitor.text(),
            format!("{{\"name\": \"{name}\", \"joined\": {}}}", if name == "ann" { 1 } else { 2 })
        );
        visitor
    });
    visitors[0].text();
    visitors[1].send(TEXT, "hello");
    for visitor in &mut visitors {
        assert_eq!(visitor.text(), r#"{"name": "bob", "text": "hello"}"#);
    }
    assert_eq!(visitors[1].close(1000), 1000);
    assert_eq!(visitors[0].text(), r#"{"name": "bob", "left": 1}"#);
}
