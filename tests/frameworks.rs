//! Flask, Django and Tornado from PyPI as people write them, and the core of WSGI on every CPython of this machine.
use crate::harness::{Setup, default_venv, free_ports, venvs};
use serde_json::json;
use std::time::Duration;

#[test]
fn flask_serves_pages_forms_streams_and_errors() {
    let appliance = Setup::app("flask_site:app").start();
    assert_eq!(appliance.get("/").text(), "hello 127.0.0.1 http://test/");
    let mut client = appliance.client();
    let body = r#"{"text": "buy milk"}"#;
    let head = format!(
        "POST /json HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(head + body);
    let answer = client.answer();
    assert_eq!((answer.status, answer.json()), (201, json!({"received": {"text": "buy milk"}})));
    let file = "x".repeat(300_000);
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nmilk\r\n--b\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n{file}\r\n--b--\r\n"
    );
    let head = format!(
        "POST /form HTTP/1.1\r\nHost: test\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        form.len()
    );
    client.send(head + &form);
    assert_eq!(client.answer().json(), json!({"name": "milk", "file": "a.txt", "size": 300_000}));
    assert_eq!(client.get("/stream").text(), "0 /stream\n1 /stream\n2 /stream\n");
    assert_eq!(client.get("/wait").json(), json!([1, 2]));
    let cookie = client.get("/session").header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(client.get_with("/session", &format!("Cookie: {cookie}\r\n")).text(), "2");
    assert_eq!(client.get("/missing").status, 404);
    assert_eq!(client.get("/broken").status, 500);
    appliance.log.wait_for("ValueError: a bug in a view");
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn flask_keeps_its_contexts_apart_while_requests_wait() {
    let appliance = Setup::app("flask_site:app").start();
    let (answers, took) = appliance.get_all(&["/?s=0.4"; 10]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(took < Duration::from_millis(1500), "{took:?}");
    let (answers, _) = appliance.get_all(&["/stream"; 10]);
    assert!(answers.iter().all(|answer| answer.text() == "0 /stream\n1 /stream\n2 /stream\n"));
}

#[test]
fn django_serves_pages_uploads_streams_and_errors() {
    let appliance = Setup::app("django_site:application").start();
    let mut client = appliance.client();
    assert_eq!(client.get("/?q=1").text(), "hello 127.0.0.1 http://test/?q=1");
    let mut put = appliance.client();
    put.send(
        "PUT /upload HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let answer = put.answer();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["method"], "PUT");
    let mut put = appliance.client();
    put.send(format!(
        "PUT /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n{}",
        "x".repeat(200_000)
    ));
    assert_eq!(put.answer().json(), json!({"method": "PUT", "size": 200_000}));
    assert_eq!(client.get("/stream").text(), "0\n1\n2\n");
    assert_eq!(client.get("/nowhere").status, 404);
    // Without DEBUG, Django mails the traceback and logs nothing.
    assert_eq!(client.get("/broken").status, 500);
    let (answers, took) = appliance.get_all(&["/?s=0.4"; 10]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn tornado_s_client_and_server_share_the_loop_with_wsgi() {
    let base = free_ports(2);
    let appliance = Setup::app("tornado_native:application").env("BASE_PORT", base).start();
    let (answers, _) = appliance.get_all(&["/"; 20]);
    assert!(answers.iter().all(|answer| answer.text() == "tornado in worker 1"));
}

#[test]
fn every_python_serves() {
    for venv in venvs() {
        let waits = Setup::app("waits:application").venv(Some(venv.clone())).start();
        let runtime = waits.log.event("the runtime", |event| event["runtime"].is_string())["runtime"].clone();
        for (target, expected) in [
            ("/result", "'result'"),
            ("/exception", "'caught from the coroutine'"),
            ("/thread", "'from a thread'"),
            ("/loops", "[True, True, True]"),
            ("/callback_switches", "'switched'"),
            ("/callback_throws", "'caught thrown'"),
            ("/wait_fd_read", "(True, b'x')"),
            ("/async_sleep", "True"),
            ("/context?v=a", "('unset', 'a', 'a')"),
            ("/inner_greenlet", "'inner'"),
        ] {
            assert_eq!(waits.get(target).text(), expected, "{target} on {runtime}");
        }
        assert_eq!(waits.get("/nobody_resumes").status, 500, "{runtime}");
        let inputs = Setup::app("inputs:application").venv(Some(venv.clone())).start();
        assert_eq!(
            inputs.client().post_chunks("/readlines", &[b"a\nb", b"c\n"]).text(),
            r"[b'a\n', b'bc\n']"
        );
        let mistakes = Setup::app("mistakes:application").venv(Some(venv.clone())).start();
        for mistake in ["raises", "exits", "returns_none", "recurses", "value_injects"] {
            assert_eq!(mistakes.get(&format!("/{mistake}")).status, 500, "{mistake} on {runtime}");
        }
        assert_eq!(mistakes.get("/").text(), "fine");
        let base = free_ports(2);
        let tornado =
            Setup::app("tornado_native:application").venv(Some(venv)).env("BASE_PORT", base).start();
        assert_eq!(tornado.get("/").text(), "tornado in worker 1", "{runtime}");
        let worker = tornado.process("worker 1");
        worker.signal(nix::sys::signal::Signal::SIGKILL);
        tornado.successor(&worker);
        assert_eq!(tornado.get("/").text(), "tornado in worker 1", "{runtime}: the successor");
    }
}

#[test]
fn an_interpreter_without_an_environment_is_used() {
    let python = default_venv().join("bin/python");
    let setup = Setup::app("flask_site:app").venv(None).arg("--python").arg(python.display());
    assert_eq!(setup.start().get("/").status, 200);
}

#[test]
fn an_environment_named_by_the_variable_is_used() {
    let setup = Setup::app("flask_site:app").venv(None).env("VIRTUAL_ENV", default_venv().display());
    assert_eq!(setup.start().get("/").status, 200);
}
