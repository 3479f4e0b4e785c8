//! WebSockets of native applications, through the proxy and on a worker's own listener: what `tests/native/src/sockets.rs` does
//! with each path. The protocol is the same as Python's, whose tests are in `websockets`.
use crate::harness::{Admin, Appliance, DOORS, Door, Doors, Setup, until};
use crate::native_apps::{compile, drops, setup};
use crate::websockets::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, closing, frame, handshake};
use nix::sys::signal::Signal;

/// Runs a test at both doors.
fn everywhere(setup: Setup, test: impl Fn(&Doors, Door)) {
    let doors = Doors::open(setup);
    DOORS.into_iter().for_each(|door| test(&doors, door));
}

fn open(appliance: &Appliance, path: &str) -> Peer {
    Peer::open(appliance.client(), path)
}

fn waits_for_a_message(appliance: &Appliance) -> bool {
    appliance.tell(&["stacks"]).1.contains("waits for a message on its WebSocket")
}

#[test]
fn messages_and_fragments_come_back_as_they_are() {
    everywhere(setup(), |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/ws/echo");
        for (first, payload) in [(TEXT, "é"), (BINARY, "\0\u{7f}"), (TEXT, ""), (BINARY, "")] {
            peer.send(first, payload);
            assert_eq!(peer.frame(), (first, payload.as_bytes().to_vec()));
        }
        peer.send(0x01, "one ");
        peer.send(PING, "between");
        peer.send(0x80, "message");
        assert_eq!(peer.frame(), (PONG, b"between".to_vec()));
        assert_eq!(peer.text(), "one message");
        assert_eq!(peer.close(4000), 4000);
    });
}

#[test]
fn the_built_in_echo_speaks_websocket() {
    everywhere(Setup::bare().arg("native:echo").venv(None), |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/");
        peer.send(TEXT, "hello");
        assert_eq!(peer.text(), "hello");
        assert_eq!(peer.close(1000), 1000);
        assert_eq!(doors.client(door).post("/", "body").text(), "body");
    });
}

#[test]
fn the_handshake_has_a_subprotocol_and_header_fields_of_the_application() {
    everywhere(setup(), |doors, door| {
        let answer = doors.client(door).get_with("/ws/echo", &handshake());
        assert_eq!((answer.status, answer.header("x-mine")), (101, Some("1")));
        let chosen = |offered: &str| {
            let line = format!("Sec-WebSocket-Protocol: {offered}\r\n");
            let mut peer = Peer::open_with(doors.client(door), "/ws/offered", &line);
            (peer.subprotocol.clone(), peer.text())
        };
        assert_eq!(
            chosen("x, other, chat"),
            (Some("chat".to_owned()), "x other chat, Some(\"chat\")".to_owned())
        );
        assert_eq!(chosen("x"), (None, "x, None".to_owned()));
    });
}

#[test]
fn what_is_no_handshake_is_refused_and_no_fault_of_the_application() {
    everywhere(setup(), |doors, door| {
        let answer = doors.client(door).get("/ws/echo");
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("no WebSocket handshake"), "{answer:?}");
        let old = handshake().replace("Version: 13", "Version: 8");
        let answer = doors.client(door).get_with("/ws/echo", &old);
        assert_eq!((answer.status, answer.header("sec-websocket-version")), (426, Some("13")));
        let answer = doors.client(door).get_with("/ws/answered", &handshake());
        assert_eq!(answer.status, 200);
        assert!(answer.text().starts_with("begun: "), "{answer:?}");
        let mut peer = Peer::open(doors.client(door), "/ws/writes");
        assert_eq!(peer.text(), "true true", "there is no body any more");
        assert!(!doors.appliance.log.text().contains("the native application failed"));
    });
}

#[test]
fn every_end_has_its_code() {
    everywhere(setup(), |doors, door| {
        for (path, code) in
            [("offered", 1000), ("closes", 4001), ("fails", 1011), ("panics", 1011), ("overflows", 1011)]
        {
            let mut peer = Peer::open(doors.client(door), &format!("/ws/{path}"));
            let closed = if path == "offered" { peer.text() } else { String::new() };
            assert!(closed.is_empty() || closed == ", None", "{closed}");
            let (found, reason) = peer.closed();
            assert_eq!(
                (found, reason.as_str()),
                (code, if code == 4001 { "that is all" } else { "" }),
                "{path}"
            );
            peer.send(CLOSE, closing(code, ""));
            assert!(peer.client.is_closed());
        }
    });
}

#[test]
fn who_has_no_stack_left_is_not_let_into_the_engine() {
    let appliance = setup().start();
    let before = appliance.process("worker 1").pid;
    // With compression, whose code is not ours.
    for lines in ["", "Sec-WebSocket-Extensions: permessage-deflate\r\n"] {
        let mut peer = Peer::open_with(appliance.client(), "/ws/edge", lines);
        while peer.frame().0 != CLOSE {}
        appliance.log.wait_for("stack overflow: raise workers.stack");
    }
    assert_eq!(appliance.get("/").status, 200);
    assert_eq!(appliance.process("worker 1").pid, before);
}

#[test]
fn a_client_that_breaks_the_rules_is_told_so() {
    everywhere(setup().set("websocket.max_message", "1KiB"), |doors, door| {
        for (first, payload, code) in
            [(TEXT, vec![b'x'; 1025], 1009), (TEXT, vec![0xff], 1007), (0xf1, b"x".to_vec(), 1002)]
        {
            let mut peer = Peer::open(doors.client(door), "/ws/late");
            peer.send(first, payload);
            assert_eq!(peer.closed().0, code);
            until("its application hears of it", || {
                drops(&doors.appliance).contains(&format!("code: {code}"))
            });
        }
    });
}

#[test]
fn an_end_that_the_client_brought_about_is_no_error_of_the_application() {
    everywhere(setup(), |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/ws/late");
        peer.client.send([frame(TEXT, b"a"), frame(CLOSE, &closing(4000, "bye"))].concat());
        assert_eq!(peer.closed(), (4000, "bye".to_owned()));
        until("it hears of the end", || drops(&doors.appliance).contains("code: 4000, reason: \"bye\""));
        drop(Peer::open(doors.client(door), "/ws/late"));
        until("it hears of the next one", || drops(&doors.appliance).contains("code: 1006"));
        let ends = || drops(&doors.appliance).matches("socket\n").count();
        until("both have ended", || ends().is_multiple_of(2));
        assert!(!doors.appliance.log.text().contains("the native application failed"));
    });
}

#[test]
fn a_message_that_does_not_come_in_time_is_not_waited_for() {
    let appliance = setup().start();
    let mut peer = open(&appliance, "/ws/impatient");
    assert_eq!(peer.text(), "TimedOut");
    until("it waits for another", || waits_for_a_message(&appliance));
    assert_eq!(peer.close(1000), 1000);
}

#[test]
fn a_sender_waits_for_a_client_that_does_not_read() {
    everywhere(setup(), |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/ws/floods");
        // 65 MB do not fit into anybody's buffers.
        until("it waits", || doors.appliance.tell(&["stacks"]).1.contains("to take what was sent"));
        assert_eq!(doors.client(door).get("/").status, 200, "and nobody else does");
        for _ in 0..1000 {
            assert_eq!(peer.frame().1.len(), 64 * 1024);
        }
        assert_eq!(peer.text(), "done");
    });
}

#[test]
fn siblings_send_and_receive_at_the_same_time() {
    everywhere(setup(), |doors, door| {
        let mut peer = Peer::open(doors.client(door), "/ws/ticks");
        for number in 0..3 {
            assert_eq!(peer.text(), "tick");
            peer.send(TEXT, format!("message {number}"));
            while peer.text() != format!("message {number}") {}
        }
        peer.send(CLOSE, closing(1000, ""));
        until("both have ended", || drops(&doors.appliance).contains("ticker\n"));
        let mut peer = Peer::open(doors.client(door), "/ws/two");
        assert_eq!(peer.text(), "ready");
        peer.send(TEXT, "1");
        peer.send(TEXT, "2");
        assert_eq!(peer.text(), "1 2");
    });
}

#[test]
fn every_request_of_a_worker_may_send_to_a_websocket() {
    everywhere(setup(), |doors, door| {
        let mut peers: Vec<Peer> = (0..5).map(|_| Peer::open(doors.client(door), "/ws/chat")).collect();
        // Until all are in the room, whoever speaks reaches some only.
        for (number, peer) in peers.iter_mut().enumerate() {
            peer.send(TEXT, format!("hello {number}"));
            while peer.text() != format!("hello {number}") {}
        }
        drop(peers.pop());
        peers[0].send(TEXT, "to all");
        for peer in &mut peers {
            while peer.text() != "to all" {}
        }
    });
}

#[test]
fn a_client_that_leaves_is_noticed_by_whoever_receives_and_frees_its_core() {
    let (setup, admin) = Admin::of(setup().set("workers.cores", 3));
    everywhere(setup, |doors, door| {
        for _ in 0..10 {
            drop(Peer::open(doors.client(door), "/ws/echo"));
        }
        let mut busy = Peer::open(doors.client(door), "/ws/busy");
        busy.send(TEXT, "before");
        drop(busy);
        let heard = "was busy, and hears Some(Text(\"before\")), None\n";
        let times = DOORS.iter().take_while(|other| **other != door).count() + 1;
        until("it hears of the end", || drops(&doors.appliance).matches(heard).count() == times);
        until("all cores are free", || admin.workers("busy") == 0);
        assert_eq!(doors.client(door).get("/").status, 200);
    });
}

#[test]
fn an_open_websocket_is_a_request_that_may_take_long() {
    let mut appliance = setup().set("timeouts.request", "300ms").set("timeouts.response", "300ms").start();
    let mut peer = open(&appliance, "/ws/ticks");
    let mut ticks = 0;
    let longer = |appliance: &Appliance| {
        let shown = appliance.tell(&["requests"]).1;
        shown.lines().any(|line| line.contains("/ws/ticks") && !line.contains(" 0."))
    };
    until("it has lasted for longer than that", || {
        assert_eq!(peer.text(), "tick");
        ticks += 1;
        ticks % 50 == 0 && longer(&appliance)
    });
    peer.send(CLOSE, closing(1000, ""));
    let logged = appliance.log.event("the access line", |event| event["path"] == "/ws/ticks");
    assert_eq!(logged["status"], 101);
    assert_eq!(appliance.stop(), Some(0));
}

#[test]
fn a_worker_that_stops_closes_and_destructors_run() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let mut appliance = setup().start();
        let mut peer = open(&appliance, "/ws/late");
        until("it waits", || waits_for_a_message(&appliance));
        appliance.signal(signal);
        assert_eq!(peer.closed().0, 1001, "{signal}");
        peer.send(CLOSE, closing(1001, ""));
        assert!(peer.client.is_closed());
        until("it has ended", || drops(&appliance).ends_with("socket\n"));
        assert!(drops(&appliance).contains("code: 1001"));
        if signal == Signal::SIGTERM {
            assert_eq!(appliance.wait(), Some(0));
        }
    }
}

#[test]
fn a_panic_ends_one_websocket_and_no_other() {
    let appliance = setup().start();
    let mut others: Vec<Peer> = (0..10).map(|_| open(&appliance, "/ws/echo")).collect();
    for path in ["/ws/panics", "/ws/overflows", "/ws/fails"] {
        assert_eq!(open(&appliance, path).closed().0, 1011, "{path}");
        for peer in &mut others {
            peer.send(TEXT, path);
            assert_eq!(peer.text(), path);
        }
    }
    appliance.log.wait_for("it panicked: as it was told");
}

/// Echoes, and says how it was closed; refuses what is no WebSocket without a word.
const IN_C: &str = r#"
#include <appliance.h>
#include <stdio.h>

static int32_t echo(void)
{
    ApplianceText data, offered;
    int64_t socket;
    int32_t kind, code;
    char line[256];
    socket = appliance_websocket_accept(appliance_websocket_speaks("chat") ? "chat" : "");
    if (socket < 0)
        return 1;
    if (appliance_websocket_offer(0, &offered) == 0)
        appliance_websocket_send(socket, APPLIANCE_MESSAGE_TEXT, offered.data, offered.length);
    if (appliance_websocket_receive(&data, 0) != -ETIMEDOUT)
        return appliance_fail("nothing can have come");
    if (appliance_websocket_send(socket, APPLIANCE_MESSAGE_TEXT, "\xff", 1) != -EILSEQ)
        return appliance_fail("this is no text");
    while ((kind = appliance_websocket_receive(&data, -1)) > 0) {
        if (data.length == 3 && memcmp(data.data, "end", 3) == 0)
            return appliance_websocket_close(socket, 4002, "it was asked to");
        if (appliance_websocket_send(socket, kind, data.data, data.length) < 0)
            break;
    }
    code = appliance_websocket_closed(&data);
    snprintf(line, sizeof line, "closed with %d %.*s", (int)code, (int)data.length, data.data);
    appliance_log(2, line);
    /* Nothing can be sent any more. */
    return appliance_websocket_send(socket, APPLIANCE_MESSAGE_BINARY, "x", 1);
}

APPLIANCE_APP(echo)
"#;

#[test]
fn an_application_in_c_speaks_websocket() {
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("libecho.so");
    compile(IN_C, &library);
    everywhere(setup.arg(library.display()), |doors, door| {
        let mut peer = Peer::open_with(doors.client(door), "/", "Sec-WebSocket-Protocol: x, chat\r\n");
        assert_eq!(peer.subprotocol.as_deref(), Some("chat"));
        assert_eq!(peer.text(), "x");
        for (first, payload) in [(TEXT, "é"), (BINARY, "\0\0"), (TEXT, "")] {
            peer.send(first, payload);
            assert_eq!(peer.frame(), (first, payload.as_bytes().to_vec()));
        }
        peer.send(CLOSE, closing(4000, "from C"));
        assert_eq!(peer.closed(), (4000, "from C".to_owned()));
        doors.appliance.log.wait_for("closed with 4000 from C");
        let mut peer = Peer::open(doors.client(door), "/");
        peer.send(TEXT, "end");
        assert_eq!(peer.closed(), (4002, "it was asked to".to_owned()));
        assert_eq!(doors.client(door).get("/").status, 400);
        assert!(!doors.appliance.log.text().contains("the native application failed"));
    });
}

#[test]
fn native_websockets_are_served_beside_python() {
    let library = crate::native_apps::library("native_test");
    let setup = Setup::app("sockets:application").set("native.app", library.display()).by_file();
    setup.dir().write("appliance.toml", "[[route]]\npath = \"/ws\"\n[workers]\ncount = 1\n");
    let doors = Doors::open(setup.arg("--listen").arg("127.0.0.1:0").env("DROPS", "/dev/null"));
    for path in ["/ws/echo", "/echo"] {
        let mut peer = open(&doors.appliance, path);
        peer.send(TEXT, path);
        assert_eq!(peer.text(), path);
    }
    let mut peer = Peer::open(doors.client(Door::Native), "/ws/echo");
    peer.send(TEXT, "native");
    assert_eq!(peer.text(), "native");
}
