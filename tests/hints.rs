//! Early hints (103): at the client before the answer is, through the proxy and on the worker's own socket.
use crate::harness::{Appliance, Client, ENGINES, Setup};

const FIRST: &str = "</a.css>; rel=preload; as=style";
const SECOND: &str = "</b.js>; rel=preload; as=script";

fn start() -> Appliance {
    start_on("greenlet")
}

fn start_on(engine: &str) -> Appliance {
    Setup::app("hints:application").set("app.suspend", engine).start()
}

fn doors(appliance: &Appliance) -> [Client; 2] {
    [appliance.client(), appliance.worker_client(1)]
}

/// The `Link` fields of the next answer, which must be an interim one.
#[track_caller]
fn hints(client: &mut Client) -> Vec<String> {
    let answer = client.answer();
    assert_eq!(answer.status, 103);
    let links = answer.headers.into_iter().filter(|(name, _)| name == "link");
    links.map(|(_, value)| value).collect()
}

#[test]
fn hints_are_there_before_the_answer_is_made() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for (door, mut client) in doors(&appliance).into_iter().enumerate() {
            for path in ["appliance", "environ", "slept"] {
                let until = appliance.dir().path().join(format!("{path}-{door}"));
                client.send(format!("GET /{path}?until={} HTTP/1.1\r\nHost: test\r\n\r\n", until.display()));
                assert_eq!(hints(&mut client), [FIRST]);
                assert_eq!(hints(&mut client), [FIRST, SECOND]);
                std::fs::write(until, "").unwrap();
                assert_eq!(client.answer().text(), "answered", "{path}");
            }
        }
    }
}

#[test]
fn hints_may_follow_a_continue() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for mut client in doors(&appliance) {
            client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
            assert_eq!(client.answer().status, 100);
            client.send("hello");
            assert_eq!(hints(&mut client), [FIRST]);
            assert_eq!(hints(&mut client), [FIRST, SECOND]);
            assert_eq!(client.answer().text(), "answeredhello");
        }
    }
}

#[test]
fn pipelined_requests_keep_their_hints() {
    let appliance = start();
    for mut client in doors(&appliance) {
        client.send("GET /bytes HTTP/1.1\r\nHost: test\r\n\r\n".repeat(3));
        for _ in 0..3 {
            assert_eq!(hints(&mut client), ["</c.css>"]);
            assert_eq!(client.answer().text(), "answered");
        }
    }
}

#[test]
fn clients_of_http_1_0_get_none() {
    let appliance = start();
    for mut client in doors(&appliance) {
        client.send("GET / HTTP/1.0\r\nHost: test\r\n\r\n");
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "answered"));
    }
}

#[test]
fn hints_after_the_head_are_forgotten() {
    let appliance = start();
    for mut client in doors(&appliance) {
        let answer = client.get("/late");
        assert_eq!((answer.status, answer.text().as_str()), (200, "begun, answered"));
    }
}

#[test]
fn hints_that_would_break_the_answer_are_refused() {
    let appliance = start();
    for mut client in doors(&appliance) {
        let answer = client.get("/refused");
        let kinds = answer.text();
        assert_eq!(answer.status, 200);
        let expected =
            [&["ValueError"; 8][..], &["UnicodeEncodeError"], &["TypeError"; 4]].concat().join(" ");
        assert_eq!(kinds, expected);
    }
}

#[test]
fn a_head_request_gets_hints_too() {
    let appliance = start();
    for mut client in doors(&appliance) {
        client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(hints(&mut client), [FIRST]);
        assert_eq!(hints(&mut client), [FIRST, SECOND]);
        assert_eq!(client.answer_to_head().status, 200);
    }
}
