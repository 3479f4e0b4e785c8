//! WebSockets as clients, applications and operators see them: through the proxy and on a worker's own listener, on both
//! suspend engines. `peer` is the client, `conformance` plays the public cases.
use crate::harness::{Appliance, DOORS, Door, Doors, ENGINES, Setup, default_venv, root, until, within};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

mod browser;
mod conformance;
pub mod peer;
use peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, closing, frame, handshake};

/// Most bytes of memory that an open one may cost the proxy, however much has gone through it: less than nginx's two buffers.
const IN_PROXY: u64 = 12 * 1024;

fn setup() -> Setup {
    Setup::app("sockets:application")
}

fn open(appliance: &Appliance, target: &str) -> Peer {
    Peer::open(appliance.client(), target)
}

/// What `/ended` tells, as soon as something of that kind is there.
#[track_caller]
fn ended(appliance: &Appliance, wanted: &Value) {
    let last = std::cell::RefCell::new(Value::Null);
    let is_there = || {
        let all = appliance.get("/ended").json();
        let found = all.as_array().is_some_and(|all| all.contains(wanted));
        last.replace(all);
        found
    };
    until(&format!("{wanted} in {last:?}"), is_there);
}

/// Runs a test on both engines and at both doors.
fn everywhere(setup: impl Fn() -> Setup, test: impl Fn(&Doors, Door)) {
    for engine in ENGINES {
        let doors = Doors::open(setup().set("app.suspend", engine));
        DOORS.into_iter().for_each(|door| test(&doors, door));
    }
}

#[test]
fn messages_keep_their_kind() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/kinds");
        for (first, payload, said) in
            [(TEXT, "é", "str 1"), (BINARY, "é", "bytes 2"), (TEXT, "", "str 0"), (BINARY, "", "bytes 0")]
        {
            peer.send(first, payload);
            assert_eq!(peer.text(), said);
        }
        assert_eq!(peer.close(1000), 1000);
        let mut two = Peer::open(doors.client(door), "/two");
        assert_eq!([two.frame(), two.frame()], [(TEXT, b"one".to_vec()), (BINARY, b"two".to_vec())]);
        assert_eq!(two.closed().0, 1000, "the end of the request closes");
        two.send(CLOSE, closing(1000, ""));
        assert!(two.client.is_closed());
    });
}

#[test]
fn a_subprotocol_is_one_that_both_speak() {
    let appliance = setup().start();
    let chosen = |path, offered: &str| {
        let line = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        Peer::open_with(appliance.client(), path, &line).subprotocol
    };
    assert_eq!(chosen("/echo", "x, other, chat").as_deref(), Some("chat"));
    assert_eq!(chosen("/echo", "x"), None);
    assert_eq!(chosen("/uwsgi/echo", "x"), None);
    assert_eq!(
        chosen("/uwsgi/proto", "x").as_deref(),
        Some("chat"),
        "uWSGI's call says it whatever was offered"
    );
}

#[test]
fn headers_of_the_application_go_with_the_handshake() {
    let doors = Doors::open(setup());
    for door in DOORS {
        let answer = doors.client(door).get_with("/echo", &handshake());
        assert_eq!((answer.status, answer.header("x-mine")), (101, Some("1")));
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("x-appliance-")), "{answer:?}");
    }
}

#[test]
fn what_is_no_handshake_is_refused_with_a_status() {
    let doors = Doors::open(setup());
    for door in DOORS {
        let answer = doors.client(door).get("/echo");
        assert_eq!(answer.status, 400, "{answer:?}");
        let old = handshake().replace("Version: 13", "Version: 8");
        let answer = doors.client(door).get_with("/echo", &old);
        assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")), "{answer:?}");
        let short = handshake().replace("Key: dGhl", "Key: ");
        assert_eq!(doors.client(door).get_with("/echo", &short).status, 400);
        let answer = doors.client(door).get_with("/answered", &handshake());
        assert_eq!(answer.status, 200);
        assert!(answer.text().starts_with("begun the answer has begun already"), "{answer:?}");
    }
}

#[test]
fn an_application_closes_with_its_own_code() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/closes");
        assert_eq!(peer.closed(), (4001, "that is all".to_owned()));
        ended(&doors.appliance, &json!(["late", 4001, "that is all"]));
    });
}

#[test]
fn an_application_that_fails_closes_with_1011() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/fails");
        assert_eq!(peer.closed().0, 1011);
        doors.appliance.log.wait_for("ValueError: it fails");
    });
}

#[test]
fn mistakes_are_exceptions_that_say_so() {
    let appliance = setup().start();
    let mut peer = open(&appliance, "/misuses");
    let names = ["ValueError", "ValueError", "TypeError", "ValueError", "HandshakeError", "TypeError"];
    assert_eq!(names.map(|_| peer.text()), names);
    let mut peer = open(&appliance, "/impatient");
    assert_eq!(peer.text(), "no message has come in time");
}

#[test]
fn a_closed_websocket_is_no_error_of_the_application() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/raises_closed");
        assert_eq!(peer.close(1001), 1001);
        ended(&doors.appliance, &json!(["/raises_closed", "ConnectionClosed", 1001]));
        drop(Peer::open(doors.client(door), "/raises_closed"));
        ended(&doors.appliance, &json!(["/raises_closed", "ConnectionClosed", 1006]));
        let log = doors.appliance.log.text();
        assert!(!log.contains("Traceback"), "{log}");
    });
}

#[test]
fn messages_that_came_before_the_end_are_received_behind_it() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/late");
        let all = [frame(TEXT, b"a"), frame(TEXT, b"b"), frame(CLOSE, &closing(4000, "bye"))].concat();
        peer.client.send(all);
        assert_eq!(peer.closed(), (4000, "bye".to_owned()), "it is answered behind them");
        ended(&doors.appliance, &json!(["late", ["a", "b"], 4000, "bye"]));
    });
}

#[test]
fn pings_are_answered_while_the_application_does_something_else() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/silent");
        peer.send(PING, "are you there");
        assert_eq!(peer.frame(), (PONG, b"are you there".to_vec()));
        assert_eq!(peer.close(4000), 4000);
    });
}

#[test]
fn a_silent_client_is_pinged_and_given_up() {
    let appliance =
        setup().set("websocket.ping_interval", "50ms").set("websocket.ping_timeout", "50ms").start();
    let mut peer = open(&appliance, "/raises_closed");
    assert_eq!(peer.frame(), (PING, Vec::new()));
    peer.send(PONG, "");
    assert_eq!(peer.frame(), (PING, Vec::new()));
    assert_eq!(peer.closed().0, 1011);
    ended(&appliance, &json!(["/raises_closed", "ConnectionClosed", 1011]));
}

#[test]
fn a_sender_waits_for_a_client_that_does_not_read() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/floods");
        let far = |doors: &Doors| {
            let all = doors.appliance.get("/ended").json();
            all.as_array().and_then(|all| all.last()?.get(1)?.as_u64())
        };
        // 65 MB do not fit into anybody's buffers.
        until("it sends", || far(doors).is_some_and(|number| number > 0 && number < 999));
        for _ in 0..1000 {
            assert_eq!(peer.frame().1.len(), 65536);
        }
        assert_eq!(peer.text(), "done");
    });
}

#[test]
fn every_request_of_a_worker_may_send_to_a_websocket() {
    everywhere(setup, |doors, door| {
        let mut peers: Vec<Peer> = (0..5).map(|_| Peer::open(doors.client(door), "/chat")).collect();
        // Until all are members, whoever speaks reaches some only.
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(TEXT, format!("hello {number}"));
            while peer.text() != format!("hello {number}") {}
        }
        peers[0].send(TEXT, "to all");
        for peer in &mut peers {
            while peer.text() != "to all" {}
        }
    });
}

#[test]
fn who_waits_to_send_hears_of_the_end_of_the_request() {
    everywhere(setup, |doors, door| {
        let _slow = Peer::open(doors.client(door), "/leaver");
        let mut feeder = Peer::open(doors.client(door), "/feeder");
        let sent = || doors.appliance.get("/ended").json().as_array().map_or(0, Vec::len);
        let mut before = 0;
        until("the feeder waits", || {
            std::thread::sleep(Duration::from_millis(100));
            let now = sent();
            now > 0 && std::mem::replace(&mut before, now) == now
        });
        doors.appliance.get("/leave");
        assert_eq!(feeder.text(), "it has left");
    });
}

#[test]
fn uwsgis_calls_take_and_give_what_uwsgi_documents() {
    everywhere(setup, |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/uwsgi/echo");
        peer.send(TEXT, "é");
        assert_eq!(peer.frame(), (BINARY, "bytes é".into()));
        let mut peer = Peer::open(doors.client(door), "/uwsgi/types");
        let said: Vec<String> =
            (0..12).map(|_| peer.frame()).map(|(_, said)| String::from_utf8(said).unwrap()).collect();
        let expected = "text,None,bytes,None,array,None,as bytes,None,view,None,ValueError,TypeError";
        assert_eq!(said.join(","), expected);
        let mut peer = Peer::open(doors.client(door), "/uwsgi/nb");
        for number in 0..20 {
            peer.send(TEXT, number.to_string());
        }
        for number in 0..20 {
            assert_eq!(peer.text(), format!("nb {number}"));
        }
    });
}

#[test]
fn an_open_websocket_is_a_request_that_may_take_long() {
    for engine in ENGINES {
        let setup = setup().set("app.suspend", engine).set("timeouts.request", "500ms");
        let mut appliance = setup.set("timeouts.response", "500ms").start();
        let mut peer = open(&appliance, "/longer");
        assert_eq!(peer.text(), "still here");
        let (_, shown, _) = appliance.tell(&["requests"]);
        assert!(shown.contains("/longer"), "{shown}");
        peer.close(1000);
        let logged = appliance.log.event("the access line", |event| event["path"] == "/longer");
        assert_eq!(logged["status"], 101);
        assert!(logged["ms"].as_f64().is_some_and(|ms| ms > 1000.0), "{logged}");
        let mut limited = open(&appliance, "/limited");
        assert_eq!(limited.closed().0, 1011, "what it allows itself still holds");
        limited.send(CLOSE, closing(1011, ""));
        assert_eq!(appliance.stop(), Some(0));
    }
}

/// A stop or a reload closes with 1001, long before `timeouts.graceful` is over.
fn goes_away(action: impl Fn(&mut Appliance)) {
    for engine in ENGINES {
        let mut appliance = setup().set("app.suspend", engine).start();
        let mut peer = open(&appliance, "/raises_closed");
        let begun = Instant::now();
        action(&mut appliance);
        assert_eq!(peer.closed().0, 1001, "{engine}");
        peer.send(CLOSE, closing(1001, ""));
        assert!(peer.client.is_closed());
        assert!(begun.elapsed() < Duration::from_secs(20), "{engine}");
    }
}

#[test]
fn a_worker_that_goes_away_says_so() {
    goes_away(|appliance| appliance.signal(Signal::SIGHUP));
}

#[test]
fn an_appliance_that_stops_says_so() {
    goes_away(|appliance| appliance.signal(Signal::SIGTERM));
}

#[test]
fn a_client_that_leaves_frees_its_core() {
    for engine in ENGINES {
        let doors = Doors::open(setup().set("app.suspend", engine).set("workers.cores", 3));
        for door in DOORS {
            for _ in 0..10 {
                drop(Peer::open(doors.client(door), "/echo"));
            }
        }
        assert_eq!(doors.appliance.get("/").status, 200);
    }
}

#[test]
fn nothing_else_is_served_on_a_connection_that_was_a_websocket() {
    let doors = Doors::open(setup());
    for door in DOORS {
        let mut peer = Peer::open(doors.client(door), "/two");
        peer.client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let rest = peer.client.rest();
        assert!(!rest.windows(5).any(|window| window == b"HTTP/" || window == b"plain"), "{rest:?}");
    }
}

#[test]
fn a_thousand_at_once_in_one_worker() {
    let appliance = setup().set("workers.cores", 1010).set("limits.backlog", 4096).start();
    let mut peers: Vec<Peer> = (0..10).map(|_| open(&appliance, "/echo")).collect();
    let proxy = appliance.process("proxy");
    let before = proxy.resident();
    peers.extend((0..1000).map(|_| open(&appliance, "/echo")));
    let idle = proxy.resident().saturating_sub(before) / 1000;
    for round in 0..2 {
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(TEXT, format!("{round} {number}"));
        }
        for (number, peer) in peers.iter_mut().enumerate() {
            assert_eq!(peer.text(), format!("{round} {number}"));
        }
    }
    let used = proxy.resident().saturating_sub(before) / 1000;
    assert!(idle <= IN_PROXY && used <= IN_PROXY, "{idle} bytes for each in the proxy, and {used} later");
}

#[test]
fn a_worker_that_is_killed_takes_its_websockets_along() {
    let appliance = setup().start();
    let mut peer = open(&appliance, "/echo");
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGKILL);
    assert!(peer.client.is_closed());
    appliance.successor(&worker);
    let mut next = open(&appliance, "/echo");
    next.send(TEXT, "again");
    assert_eq!(next.text(), "again");
}

#[test]
fn a_proxy_that_is_told_to_go_keeps_its_websockets_to_their_end() {
    let appliance = setup().start();
    let mut peer = open(&appliance, "/echo");
    let proxy = appliance.process("proxy");
    proxy.signal(Signal::SIGTERM);
    peer.send(TEXT, "still here");
    assert_eq!(peer.text(), "still here");
    assert!(proxy.is_alive());
    assert_eq!(peer.close(1000), 1000);
    appliance.successor(&proxy);
    assert_eq!(appliance.get("/").status, 200);
}

#[test]
fn the_websockets_package_is_content() {
    let python = default_venv().join("bin/python");
    let script = root().join("tests/apps/sockets_client.py");
    for mode in ["plain", "compressed"] {
        let doors = Doors::open(setup().set("websocket.compression", mode == "compressed"));
        for address in [doors.appliance.address(), doors.native()] {
            let url = format!("ws://{address}");
            let run = Command::new(&python).arg(&script).args([&url, mode]).output().unwrap();
            assert!(run.status.success(), "{mode} at {url}: {}", String::from_utf8_lossy(&run.stderr));
        }
    }
}

#[test]
fn a_browser_is_content() {
    let appliance = setup().set("websocket.compression", true).start();
    let page = format!("http://{}/page", appliance.address());
    let Some(browser) = browser::show(appliance.dir(), &page) else { return };
    let expected = r#"[["chat","text",[0,255],true,4000,true],[4001,"that is all",true]]"#;
    let said = within(Duration::from_secs(120), || {
        let all = appliance.get("/ended").json();
        let told = all.as_array()?.iter().find(|entry| entry[0] == "browser")?;
        Some(unquoted(told[1].as_str()?))
    });
    assert_eq!(said.as_deref(), Some(expected), "{}", browser.log.text());
}

/// What `encodeURIComponent` has made, as it was before.
fn unquoted(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
