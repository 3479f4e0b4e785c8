//! Starlette, FastAPI, Quart and Django by its ASGI handler, as people write them.
use crate::bodies::{assert_same, pattern};
use crate::harness::{DOORS, Doors, Form, Setup, until, venvs};
use serde_json::json;
use std::fs;

#[test]
fn starlette_serves_pages_forms_streams_and_files() {
    for stamp in ["", "1"] {
        let doors = Doors::open(Setup::app("asgi_starlette:app").env("STAMP", stamp));
        let (path, content) = (doors.appliance.dir().path().join("pattern.bin"), pattern(3_000_001));
        fs::write(&path, &content).unwrap();
        for door in DOORS {
            let mut client = doors.client(door);
            let index = client.get("/");
            assert_eq!(
                (index.text().as_str(), index.header("x-stamp").is_some()),
                ("hello", !stamp.is_empty())
            );
            assert_eq!(client.get("/blocking").text(), "from a thread");
            let form = Form::default().field("title", "A kettle").file("file", "sent.bin", &content);
            let received = form.submit(&mut client, "/upload", "").json();
            assert_eq!(received, json!({"title": "A kettle", "name": "sent.bin", "bytes": 3_000_001}));
            assert_eq!(client.get("/stream").text().lines().count(), 5);
            let file = client.get(&format!("/file?path={}", path.display()));
            assert_same(&file.body, &content, "a file");
            let part = client.get_with(&format!("/file?path={}", path.display()), "Range: bytes=7-10006\r\n");
            assert_eq!(part.status, 206);
            assert_same(&part.body, &content[7..10007], "a range");
            assert_eq!(client.get("/fails").status, 500);
            assert_eq!(client.get("/moved").header("location"), Some("/"));
            assert_eq!(client.get("/background").text(), "accepted");
            until("the background task has ended", || {
                client.get("/notes").json() == json!(["done in the background"])
            });
        }
    }
}

/// AnyIO keeps threads only for a loop of whose main task it knows.
#[test]
fn views_that_are_no_coroutines_share_their_threads() {
    for venv in venvs() {
        let appliance = Setup::app("asgi_starlette:app").venv(Some(venv.clone())).start();
        let mut client = appliance.client();
        for _ in 0..5 {
            assert_eq!(client.get("/blocking").text(), "from a thread");
        }
        assert_eq!(client.get("/workers").text(), "1", "{}", venv.display());
    }
}

#[test]
fn an_application_may_cancel_all_tasks_and_wait_for_their_end() {
    for venv in venvs() {
        let appliance = Setup::app("asgi_starlette:app").venv(Some(venv)).start();
        let mut client = appliance.client();
        for how in ["/sweep", "/trample", "/sweep"] {
            assert!(client.get(how).text().contains("\"appliance\""), "the loop's own was among them");
            assert_eq!(client.get("/blocking").text(), "from a thread");
        }
        assert!(!appliance.log.text().contains("Traceback"), "{}", appliance.log.text());
    }
}

#[test]
fn starlette_s_event_stream_ends_when_its_client_leaves() {
    for stamp in ["", "1"] {
        let doors = Doors::open(Setup::app("asgi_starlette:app").env("STAMP", stamp));
        for door in DOORS {
            let mut client = doors.client(door);
            client.send("GET /events HTTP/1.1\r\nHost: test\r\n\r\n");
            until("the stream has begun", || {
                client.received_so_far() > 500
                    || client.arrived_within(std::time::Duration::from_millis(20)).len() > 500
            });
            drop(client);
            let mut notes = Vec::new();
            until("the stream has ended", || {
                notes.extend(doors.appliance.get("/notes").json().as_array().unwrap().clone());
                notes == ["began", "ended"]
            });
        }
    }
}

#[test]
fn fastapi_checks_types_and_runs_blocking_views() {
    let doors = Doors::open(Setup::app("asgi_fastapi:app"));
    for door in DOORS {
        let mut client = doors.client(door);
        assert_eq!(client.get("/items/7?limit=3").json(), json!({"number": 7, "limit": 3}));
        assert_eq!(client.get("/items/seven").status, 422);
        assert_eq!(client.get("/items/101").json(), json!({"detail": "no such item"}));
        let body = r#"{"name": "kettle", "price": 1.5}"#;
        client.send(format!(
            "POST /items HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        let created = client.answer();
        assert_eq!((created.status, created.json()), (201, json!({"twice": 3.0})));
        until("the background task has ended", || client.get("/finished").text().contains("kettle"));
        let form = Form::default().file("file", "a.bin", &pattern(200_000));
        let uploaded = form.submit(&mut client, "/upload", "").json();
        assert_eq!(uploaded, json!({"name": "a.bin", "bytes": 200_000}));
        assert_eq!(client.get("/openapi.json").json()["info"]["title"], "FastAPI");
    }
}

#[test]
fn quart_and_django_answer() {
    for (app, greeting) in
        [("asgi_quart:app", "hello from Quart"), ("asgi_django:application", "hello from Django")]
    {
        let doors = Doors::open(Setup::app(app));
        for door in DOORS {
            let mut client = doors.client(door);
            assert_eq!(client.get("/").text(), greeting);
            assert_eq!(client.post("/size", pattern(1_000_000)).json(), json!({"bytes": 1_000_000}));
            assert_eq!(client.get("/stream").text().lines().count(), 5);
            if app.starts_with("asgi_django") {
                assert_eq!(client.get("/blocking").text(), "from a thread");
            }
        }
    }
}
