//! Flask, Bottle, Falcon, Tornado and a small Django as people write them, and the core of WSGI on every CPython of this
//! machine. Django with its admin and a database is in `django`.
use crate::bodies::{assert_same, pattern};
use crate::harness::{Answer, Client, DOORS, Doors, Form, Setup, default_venv, free_ports, venvs};
use crate::websockets::peer::{Peer, TEXT};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// Larger than every buffer, and no multiple of one.
const FILE: usize = 3_000_001;

/// An application of `tests/apps` that keeps files in the folder of the test, where `pattern.bin` lies.
#[track_caller]
pub fn with_files(setup: Setup) -> Doors {
    let folder = setup.dir().path().to_owned();
    fs::write(folder.join("pattern.bin"), pattern(FILE)).unwrap();
    Doors::open(setup.env("FILES", folder.display()))
}

/// Sends JSON, which comes back.
#[track_caller]
fn assert_json_comes_back(client: &mut Client) {
    let body = r#"{"text": "buy milk"}"#;
    client.send(format!(
        "POST /json HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = client.answer();
    assert_eq!((answer.status, answer.json()), (201, json!({"received": {"text": "buy milk"}})));
}

/// Sends a file by `PUT`, with and without its length, which is then in the folder of the test.
#[track_caller]
fn assert_puts_arrive(doors: &Doors, client: &mut Client) {
    let content = pattern(FILE);
    for name in ["with-length", "in-chunks"] {
        let target = format!("/upload?name={name}");
        if name == "with-length" {
            client.send(format!("PUT {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {FILE}\r\n\r\n"));
            client.send(&content);
        } else {
            client.send(format!("PUT {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
            for chunk in content.chunks(100_003) {
                client.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            client.send("0\r\n\r\n");
        }
        assert_eq!(client.answer().status / 100, 2);
        assert_same(&fs::read(doors.appliance.dir().path().join(name)).unwrap(), &content, name);
    }
}

/// Submits a form with a file, which is then in the folder of the test.
#[track_caller]
fn assert_form_arrives(doors: &Doors, client: &mut Client) {
    let content = pattern(FILE);
    let form = Form::default().field("title", "A kettle").file("file", "sent.bin", &content);
    assert_eq!(form.submit(client, "/upload", "").json()["title"], "A kettle");
    let saved = doors.appliance.dir().path().join("sent.bin");
    assert_same(&fs::read(&saved).unwrap(), &content, "the file of the form");
    fs::remove_file(saved).unwrap();
}

/// Downloads `pattern.bin`, whole and in part, and learns that it has not changed.
#[track_caller]
fn assert_file_is_served(client: &mut Client) {
    let content = pattern(FILE);
    let whole = client.get("/files/pattern.bin");
    assert_same(&whole.body, &content, "the whole file");
    let part = client.get_with("/files/pattern.bin", "Range: bytes=1000000-2000000\r\n");
    assert_eq!((part.status, part.header("content-range")), (206, Some("bytes 1000000-2000000/3000001")));
    assert_same(&part.body, &content[1_000_000..=2_000_000], "a part of the file");
    let end = client.get_with("/files/pattern.bin", "Range: bytes=-5\r\n");
    assert_same(&end.body, &content[FILE - 5..], "its end");
    let beyond = client.get_with("/files/pattern.bin", "Range: bytes=4000000-\r\n");
    assert_eq!(beyond.status, 416);
    let changed = |answer: &Answer| answer.header("last-modified").unwrap().to_owned();
    let since = format!("If-Modified-Since: {}\r\n", changed(&whole));
    assert_eq!(client.get_with("/files/pattern.bin", &since).status, 304);
    client.send("HEAD /files/pattern.bin HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer_to_head().header("content-length"), Some("3000001"));
    assert_eq!(client.get("/files/none.bin").status, 404);
}

/// A stream arrives line by line, and an exception is a 500 after which the connection goes on.
#[track_caller]
fn assert_streams_and_fails(client: &mut Client) {
    assert_eq!(client.get("/stream").text(), "0 /stream\n1 /stream\n2 /stream\n");
    assert_eq!(client.get("/broken").status, 500);
    assert_eq!(client.get("/stream").status, 200);
}

#[test]
fn flask_works_at_both_doors() {
    use_flask(&with_files(Setup::app("flask_site:app")));
}

/// Does what visitors of the Flask site do.
#[track_caller]
pub fn use_flask(doors: &Doors) {
    for door in DOORS {
        let mut client = doors.client(door);
        assert!(client.get("/").text().starts_with("hello 127.0.0.1 http://test/"), "{door:?}");
        assert_json_comes_back(&mut client);
        let form = Form::default().field("name", "milk").file("file", "a.txt", &pattern(300_000));
        let answer = form.submit(&mut client, "/form", "");
        assert_eq!(answer.json(), json!({"name": "milk", "file": "a.txt", "size": 300_000}), "{door:?}");
        assert_puts_arrive(doors, &mut client);
        assert_file_is_served(&mut client);
        assert_streams_and_fails(&mut client);
        assert_eq!(client.get("/wait").json(), json!([1, 2]), "{door:?}");
        let cookie =
            client.get("/session").header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        assert_eq!(client.get_with("/session", &format!("Cookie: {cookie}\r\n")).text(), "2", "{door:?}");
        assert_eq!(client.get("/missing").status, 404, "{door:?}");
    }
    doors.appliance.log.wait_for("ValueError: a bug in a view");
}

#[test]
fn bottle_works_at_both_doors() {
    let doors = with_files(Setup::app("bottle_site:application"));
    for door in DOORS {
        let mut client = doors.client(door);
        assert_json_comes_back(&mut client);
        assert_form_arrives(&doors, &mut client);
        assert_file_is_served(&mut client);
        assert_streams_and_fails(&mut client);
    }
    doors.appliance.log.wait_for("ValueError: a bug in a view");
}

#[test]
fn falcon_works_at_both_doors() {
    let doors = with_files(Setup::app("falcon_site:application"));
    for door in DOORS {
        let mut client = doors.client(door);
        assert_json_comes_back(&mut client);
        assert_puts_arrive(&doors, &mut client);
        assert_form_arrives(&doors, &mut client);
        assert_file_is_served(&mut client);
        assert_streams_and_fails(&mut client);
    }
    doors.appliance.log.wait_for("ValueError: a bug in a view");
}

#[test]
fn many_clients_of_both_doors_do_not_mix() {
    for target in ["flask_site:app", "bottle_site:application", "falcon_site:application"] {
        let doors = with_files(Setup::app(target));
        std::thread::scope(|scope| {
            for number in 0..8 {
                let mut client = doors.client(DOORS[number % DOORS.len()]);
                scope.spawn(move || {
                    let content = pattern(FILE);
                    for _ in 0..3 {
                        assert_json_comes_back(&mut client);
                        assert_same(&client.get("/files/pattern.bin").body, &content, target);
                        assert_eq!(client.get("/stream").text(), "0 /stream\n1 /stream\n2 /stream\n");
                    }
                });
            }
        });
    }
}

#[test]
fn a_view_of_flask_becomes_a_websocket() {
    let appliance = Setup::app("flask_site:app").start();
    let mut peer = Peer::open(appliance.client(), "/echo");
    peer.send(TEXT, "hello");
    assert_eq!((peer.text().as_str(), peer.close(1000)), ("hello", 1000));
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
            ("/thread_local?v=a", "('unset', 'a', 'unset')"),
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
