//! ASGI applications: through the proxy and on the native listener, on either suspend engine. The messages one by one with
//! `apps/asgi_bare.py`, which notes what becomes of its requests; frameworks and uvicorn are in `asgi/`, WebSockets in theirs.
use crate::bodies::{assert_same, pattern};
use crate::harness::{Client, DOORS, Doors, ENGINES, Framing, Setup, command, free_ports, until, venvs};
use serde_json::{Value, json};
use std::fs;

mod frameworks;
mod lifespan;
mod tornado;
mod uvicorn;
mod websockets;

fn bare() -> Setup {
    Setup::app("asgi_bare:app")
}

/// What the application has noted since it was last asked, as soon as there are so many notes.
#[track_caller]
fn noted(doors: &Doors, count: usize) -> Vec<Value> {
    let mut notes = Vec::new();
    until("the application has noted it", || {
        notes.extend(doors.appliance.get("/notes").json().as_array().unwrap().iter().cloned());
        notes.len() >= count
    });
    notes
}

fn get(client: &mut Client, target: &str) {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
}

#[test]
fn the_scope_says_what_was_asked() {
    let doors = Doors::open(bare());
    for door in DOORS {
        let mut client = doors.client(door);
        let scope = client.get_with("/scope/%C3%A4%20b?x=%20&y", "X-Upper: One\r\nx-upper: two\r\n").json();
        assert_eq!(scope["asgi"], json!({"version": "3.0", "spec_version": "2.4"}));
        for (key, value) in [
            ("type", "http"),
            ("http_version", "1.1"),
            ("method", "GET"),
            ("scheme", "http"),
            ("path", "/scope/ä b"),
            ("raw_path", "/scope/%C3%A4%20b"),
            ("query_string", "x=%20&y"),
            ("root_path", ""),
        ] {
            assert_eq!(scope[key], value, "{key} by {door:?}");
        }
        assert_eq!(scope["client"], json!(["127.0.0.1", client.local().port()]));
        assert_eq!(scope["server"][0], "127.0.0.1");
        let headers = scope["headers"].as_array().unwrap();
        for field in [["host", "test"], ["x-upper", "One"], ["x-upper", "two"]] {
            assert!(headers.contains(&json!(field)), "{headers:?}");
        }
    }
}

#[test]
fn nobody_can_claim_to_be_another_client() {
    let doors = Doors::open(bare());
    let lines =
        "X-Appliance-Peer: 192.0.2.1:99\r\nX-Forwarded-For: 192.0.2.1\r\nX-Appliance-Scheme: https\r\n";
    for door in DOORS {
        let scope = doors.client(door).get_with("/scope", lines).json();
        assert_eq!((&scope["client"][0], &scope["scheme"]), (&json!("127.0.0.1"), &json!("http")));
        assert!(!scope["headers"].to_string().contains("192.0.2.1"), "{scope}");
    }
}

#[test]
fn bodies_come_whole_in_pieces_and_go_back() {
    let body = pattern(3_000_001);
    for engine in ENGINES {
        let doors = Doors::open(bare().set("app.suspend", engine));
        for door in DOORS {
            let mut client = doors.client(door);
            assert_same(&client.post("/echo", &body).body, &body, "sent with its length");
            let chunks: Vec<_> = body.chunks(700_001).collect();
            assert_same(&client.post_chunks("/echo", &chunks).body, &body, "sent in chunks");
            assert_eq!(client.post("/size", "little").json(), json!({"bytes": 6, "pieces": 1}));
            assert!(client.post("/size", &body).json()["pieces"].as_u64().unwrap() > 1);
        }
    }
}

#[test]
fn answers_are_framed_as_they_come() {
    let doors = Doors::open(bare());
    for door in DOORS {
        let mut client = doors.client(door);
        let answer = client.get("/stream");
        assert_eq!((answer.framing, answer.text().as_str()), (Framing::Chunked, "line 0\nline 1\nline 2\n"));
        let whole = client.post("/echo", "known at once");
        assert_eq!((whole.framing, whole.text().as_str()), (Framing::Length, "known at once"));
        let odd = client.get("/hosts");
        assert_eq!((odd.status, odd.text().as_str()), (299, "memoryarray"));
        client.send("HEAD /stream HTTP/1.1\r\nHost: test\r\n\r\nHEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.answer_to_head().status, 200);
        assert_eq!(client.answer_to_head().header("content-length"), Some("5"));
        assert_eq!(client.get("/").text(), "hello");
    }
}

#[test]
fn who_reads_slowly_holds_the_sender_and_nobody_else() {
    let doors = Doors::open(bare());
    for door in DOORS {
        let mut slow = doors.client(door);
        get(&mut slow, "/flood");
        let sent = || doors.appliance.get("/sent").json()[0].as_u64().unwrap_or(0);
        // It stands still when all buffers on the way are full.
        let mut before = 0;
        until("the sender waits", || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let now = sent();
            now > 0 && std::mem::replace(&mut before, now) == now
        });
        assert!(before < 2000, "{before} messages were taken");
        assert_eq!(slow.answer().body.len(), 20_000_000);
    }
}

#[test]
fn what_goes_wrong_is_answered_by_the_server() {
    let doors = Doors::open(bare());
    for door in DOORS {
        let mut client = doors.client(door);
        for target in ["/raise", "/silent", "/header", "/text", "/nothing-here"] {
            assert_eq!(client.get(target).status, 500, "{target} by {door:?}");
        }
        assert!(client.get("/disorder").text().contains("where http.response.start was expected"));
        for target in ["/cut", "/half"] {
            let mut client = doors.client(door);
            get(&mut client, target);
            assert!(client.try_answer().is_err(), "{target} by {door:?} looks complete");
        }
    }
    doors.appliance.log.wait_for("RuntimeError: on purpose");
    doors.appliance.log.wait_for("the application has returned without an answer: GET /silent");
}

#[test]
fn a_whole_answer_is_the_client_s_whatever_follows() {
    let doors = Doors::open(bare().set("workers.cores", 3));
    for door in DOORS {
        let mut client = doors.client(door);
        assert_eq!(client.get("/late").text(), "done");
        assert_eq!(client.get("/background").text(), "at once");
        // The same connection serves on, while the task goes on in the background.
        assert_eq!(client.get("/").text(), "hello");
        let notes = noted(&doors, 3);
        assert!(notes[0].as_str().unwrap().contains("after the response was complete"), "{notes:?}");
        assert_eq!(notes[1..], ["http.disconnect", "background"]);
    }
}

#[test]
fn whoever_still_waits_hears_of_the_end_of_the_answer() {
    let doors = Doors::open(bare().set("workers.cores", 2));
    for door in DOORS {
        for target in ["/overhears", "/forgets"] {
            let mut client = doors.client(door);
            assert_eq!(client.get(target).status, 200);
            assert_eq!(noted(&doors, 1), ["http.disconnect"], "{target} by {door:?}");
        }
    }
}

#[test]
fn a_client_that_leaves_is_told_of_or_its_request_cancelled() {
    let doors = Doors::open(bare().set("workers.cores", 2));
    for door in DOORS {
        for (target, told) in [
            ("/listens", &["began", "http.disconnect", "ended"][..]),
            ("/waits", &["began", "cancelled"][..]),
            ("/streams", &["began", "cancelled or told"][..]),
        ] {
            let mut client = doors.client(door);
            get(&mut client, target);
            assert_eq!(noted(&doors, 1), ["began"]);
            drop(client);
            assert_eq!(noted(&doors, told.len() - 1), told[1..], "{target} by {door:?}");
        }
    }
    assert!(!doors.appliance.log.text().contains("exception"), "{}", doors.appliance.log.text());
}

#[test]
fn a_request_runs_on_for_a_client_that_left_if_it_is_to() {
    let doors = Doors::open(bare().set("app.cancel_on_disconnect", false));
    for door in DOORS {
        let mut client = doors.client(door);
        get(&mut client, "/waits?1");
        assert_eq!(noted(&doors, 1), ["began"]);
        drop(client);
        assert_eq!(noted(&doors, 2), ["awake", "ConnectionResetError"], "{door:?}");
    }
}

#[test]
fn a_request_that_takes_too_long_is_ended_alone() {
    for engine in ENGINES {
        let setup = bare().set("timeouts.request", "500ms").set("app.suspend", engine);
        let doors = Doors::open(setup.set("workers.cores", 2));
        for door in DOORS {
            let mut client = doors.client(door);
            assert_eq!(client.get("/waits").status, 504);
            assert_eq!(noted(&doors, 2), ["began", "cancelled"]);
            assert_eq!(client.get("/spins").status, 504);
            assert_eq!(client.get("/spins?task").status, 504);
            assert_eq!(client.get("/").text(), "hello");
        }
        // The innermost frame is shown of those that wait.
        doors.appliance.log.wait_for("in page_waits");
        doors.appliance.log.wait_for("in spin");
    }
}

#[test]
fn every_python_serves_it() {
    for venv in venvs() {
        let doors = Doors::open(bare().venv(Some(venv.clone())).set("timeouts.request", "1s"));
        let mut client = doors.client(DOORS[0]);
        assert_eq!(client.get("/stream").text().lines().count(), 3, "{}", venv.display());
        assert_eq!(client.post("/size", pattern(200_000)).json()["bytes"], 200_000);
        assert_eq!(client.get("/tasks?7").json()[0], "http.request");
        assert_eq!((client.get("/waits").status, client.get("/spins?task").status), (504, 504));
    }
}

/// uvloop's policy, which applications install for uvicorn, has no watcher of children.
#[test]
fn children_are_started_under_any_policy() {
    for venv in venvs() {
        let doors = Doors::open(bare().venv(Some(venv.clone())).env("POLICY", "own"));
        let answer = doors.client(DOORS[0]).get("/child");
        assert_eq!((answer.status, answer.text().as_str()), (200, "from a child\n"), "{}", venv.display());
    }
}

#[test]
fn hints_come_before_the_answer() {
    let doors = Doors::open(bare());
    for door in DOORS {
        let mut client = doors.client(door);
        let hints = client.get("/hints");
        assert_eq!((hints.status, hints.header("link")), (103, Some("</a.css>; rel=preload")));
        assert_eq!(client.answer().text(), "hinted");
    }
}

#[test]
fn files_are_sent_by_their_path() {
    let doors = Doors::open(bare());
    let (path, content) = (doors.appliance.dir().path().join("pattern.bin"), pattern(5_000_001));
    fs::write(&path, &content).unwrap();
    let empty = doors.appliance.dir().path().join("empty");
    fs::write(&empty, "").unwrap();
    let pipe = doors.appliance.dir().path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    for door in DOORS {
        let mut client = doors.client(door);
        assert_same(&client.get(&format!("/file?{}", path.display())).body, &content, "a file");
        assert_eq!(client.get(&format!("/file?{}", empty.display())).text(), "");
        assert_eq!(client.get(&format!("/file?{}", pipe.display())).status, 500, "nobody waits for a pipe");
        assert_eq!(client.get("/").text(), "hello");
    }
}

#[test]
fn receive_and_send_are_coroutines_and_requests_are_tasks() {
    let doors = Doors::open(bare());
    for door in DOORS {
        let seen = doors.client(door).get("/tasks?7").json();
        assert_eq!(seen, json!(["http.request", true, true, "GET /tasks", "7"]));
    }
}

#[test]
fn requests_are_known_by_where_they_wait() {
    let doors = Doors::open(bare());
    let run_dir = format!("admin.run_dir={}", doors.appliance.dir().path().join("run").display());
    let asked = |verb: &str| {
        let (_, out, _) = command(doors.appliance.dir().path(), &[verb, "--set", &run_dir], &[]);
        out
    };
    let mut client = doors.appliance.client();
    get(&mut client, "/waits");
    assert_eq!(noted(&doors, 1), ["began"]);
    until("it is among the requests", || asked("requests").contains("/waits"));
    let stacks = asked("stacks");
    assert!(stacks.contains("in page_waits") && stacks.contains("GET /waits (core"), "{stacks}");
}

#[test]
fn applications_are_told_apart_by_what_they_look_like() {
    for target in ["asgi_bare:app", "asgi_bare:plain", "asgi_bare:make()", "asgi:asgi_bare:app"] {
        let appliance = Setup::app(target).start();
        assert_eq!(appliance.get("/").text(), "hello", "{target}");
        appliance.log.wait_for(", ASGI");
    }
    let appliance = Setup::app("wsgi:asgi_bare:environ_and_start").start();
    assert!(appliance.get("/").text().starts_with("wsgi in"));
    for (target, sentence) in [
        (
            "wsgi:asgi_bare:app",
            "cannot be called with (environ, start_response), so it is no WSGI application",
        ),
        ("asgi:asgi_bare:make", "cannot be called with (scope, receive, send), so it is no ASGI application"),
        ("asgi_bare:notes", "is not callable"),
        ("tornado:asgi_bare:app", "is not an application"),
    ] {
        let refusal = Setup::app(target).refused();
        assert_eq!(refusal.code, Some(64), "{target}: {}", refusal.text);
        assert!(refusal.text.contains(sentence), "{target}: {}", refusal.text);
    }
}

#[test]
fn wsgi_behind_the_proxy_and_asgi_on_the_native_listener_share_a_worker() {
    for engine in ENGINES {
        let base = free_ports(2);
        let setup = Setup::app("asgi_bare:environ_and_start").set("app.suspend", engine);
        let setup = setup.set("native.base_port", base).set("native.app", "asgi:asgi_bare:app");
        let appliance = setup.start();
        let native = ([127, 0, 0, 1], base + 1).into();
        until("the worker listens", || Client::tcp(native).is_ok());
        let pid = Client::tcp(native).unwrap().get("/state").json()["pid"].clone();
        assert_eq!(appliance.get("/").text(), format!("wsgi in {pid}"));
    }
}
