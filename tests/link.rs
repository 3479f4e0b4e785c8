//! Workers as the proxy reaches them: many requests at once on one connection to the worker's socket. The proxy of these
//! appliances runs too, on links of its own.
use crate::harness::{Appliance, Setup, default_venv};
use appliance_link::Reason;
use appliance_link::frame::{ANNOUNCE, END, EXPECT};
use appliance_link::head::RequestFacts;
use client::{FACTS, Link, data, request, reset};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

pub mod client;

/// Bytes that a test takes on each stream, if it does not matter.
const WINDOW: usize = 256 * 1024;

fn link(appliance: &Appliance) -> Link {
    Link::open(&appliance.socket(1), WINDOW)
}

fn facts() -> Appliance {
    Setup::app("facts:application").start()
}

/// Facts of a `POST`.
fn post(target: &str) -> RequestFacts<'_> {
    RequestFacts { method: b"POST", target: target.as_bytes(), ..FACTS }
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

#[test]
fn many_requests_in_one_write_are_all_answered() {
    let appliance = facts();
    let mut link = link(&appliance);
    let batch: Vec<u8> = (1..=50).flat_map(|id| request(id, END, &FACTS, &[])).collect();
    link.send(&batch);
    for id in (1..=50).rev() {
        let answer = link.answer(id);
        assert_eq!((answer.status, answer.is_complete), (200, true));
        assert_eq!(answer.length, Some(answer.body.len() as u64));
        assert!(!answer.is_entered, "nobody asked for that");
        let names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-type"], "nothing about a connection, and the date is the front's");
    }
}

#[test]
fn a_body_is_streamed_into_the_application() {
    let appliance = facts();
    let mut link = link(&appliance);
    link.send(&request(1, EXPECT, &post("/upload"), &[]));
    link.until(1, |answer| answer.interim == [100]);
    for _ in 0..3 {
        // Less than a window each time, and more than is read before a core is taken.
        link.send(&[data(1, 0, &[b'x'; 60_000]), data(1, 0, &[b'x'; 20_000])].concat());
    }
    link.send(&data(1, END, b""));
    let answer = link.answer(1);
    assert_eq!((answer.status, json(&answer.body)["length"].as_u64()), (200, Some(240_000)));
}

#[test]
fn a_head_request_has_a_head_only() {
    let appliance = facts();
    let mut link = link(&appliance);
    link.send(&request(1, END, &RequestFacts { method: b"HEAD", ..FACTS }, &[]));
    let answer = link.answer(1);
    assert_eq!((answer.status, answer.is_complete, answer.body.len()), (200, true, 0));
    assert!(answer.length.is_some_and(|length| length > 0));
}

#[test]
fn the_proxys_facts_reach_the_application_and_no_field_can_forge_them() {
    let appliance = facts();
    let mut link = link(&appliance);
    let forged = [
        ("x-appliance-peer", "6.6.6.6:6"),
        ("x-appliance-server", "6.6.6.6:6"),
        ("x-appliance-scheme", "gopher"),
        ("x-request-id", "forged"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("x-forwarded-for", "192.0.2.7"),
    ];
    link.send(&request(1, END, &RequestFacts { target: b"/environ?a=b", ..FACTS }, &forged));
    let environ = json(&link.answer(1).body);
    for (key, expected) in [
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_PORT", "4711"),
        ("SERVER_NAME", "2001:db8::1"),
        ("SERVER_PORT", "443"),
        ("wsgi.url_scheme", "https"),
        ("HTTP_X_REQUEST_ID", "id-of-the-proxy"),
        ("HTTP_X_FORWARDED_FOR", "192.0.2.7"),
        ("HTTP_HOST", "test.example"),
        ("PATH_INFO", "/environ"),
        ("QUERY_STRING", "a=b"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
    ] {
        assert_eq!(environ[key], expected, "{key}");
    }
    let text = environ.to_string();
    assert!(!text.contains("6.6.6.6") && !text.contains("APPLIANCE") && !text.contains("forged"), "{text}");
}

#[test]
fn the_proxy_knows_of_a_request_before_the_application_can_die_of_it() {
    let code = "import os, signal\ndef application(environ, start_response):\n    \
        os.kill(os.getpid(), signal.SIGKILL)\n";
    let appliance = Setup::code(code).start();
    let mut link = link(&appliance);
    let batch: Vec<u8> = (1..=3).flat_map(|id| request(id, END | ANNOUNCE, &FACTS, &[])).collect();
    link.send(&batch);
    assert!(link.ends());
    for id in 1..=3 {
        let answer = link.answer(id);
        assert!(answer.is_entered && !answer.is_complete && answer.reset.is_none(), "{answer:?}");
    }
}

#[test]
fn a_request_that_is_announced_does_not_wait_for_a_quiet_moment() {
    let appliance = facts();
    let mut link = link(&appliance);
    link.send(&[request(1, END, &FACTS, &[]), request(2, END | ANNOUNCE, &FACTS, &[])].concat());
    let is_served_beside = |id| {
        link.get(id, "/");
        link.answer(id);
        link.is_answered(2)
    };
    assert!((3..50).any(is_served_beside), "others had their turn again and again");
}

#[test]
fn garbage_ends_its_own_link_and_nothing_else() {
    let appliance = facts();
    let (mut broken, mut other) = (link(&appliance), link(&appliance));
    broken.get(1, "/sleep?s=20");
    broken.send(&[0xff; 200]);
    assert!(broken.ends());
    let line = appliance.log.event("the reason", |event| {
        event["message"].as_str().is_some_and(|text| text.contains("it broke the protocol"))
    });
    assert_eq!((line["level"].as_str(), line["worker"].as_u64()), (Some("WARN"), Some(1)), "{line}");
    other.get(1, "/");
    assert_eq!(other.answer(1).status, 200);
    assert_eq!(appliance.worker_client(1).get("/").status, 200);
    assert_eq!(appliance.get("/").status, 200);
}

#[test]
fn nobody_but_the_proxys_user_may_open_a_link() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can become another user");
        return;
    }
    let appliance = facts();
    let socket = appliance.socket(1);
    let dir = socket.parent().unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let code = "import os, socket\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n\
        s.connect('worker-1.sock')\ns.sendall(b'\\0appliance\\x01\\0\\0\\0\\1\\0')\nprint(s.recv(1000).decode())\n";
    let python = default_venv().join("bin/python");
    let output = Command::new(python).args(["-c", code]).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("HTTP/1.1 400 "), "{output:?}");
}

#[test]
fn a_worker_that_stops_finishes_what_runs_and_refuses_the_rest() {
    let appliance = facts();
    let (mut link, mut idle) = (link(&appliance), link(&appliance));
    link.get(1, "/sleep?s=1.5");
    appliance.output.wait_for("begun /sleep");
    appliance.process("worker 1").signal(Signal::SIGTERM);
    link.wait_for_go_away();
    idle.wait_for_go_away();
    link.get(2, "/");
    assert_eq!(link.answer(2).status, 200, "it may have been on its way");
    link.heed();
    link.get(3, "/");
    assert_eq!(link.answer(3).reset, Some(Reason::Refused));
    assert!(idle.ends(), "a link without requests is closed soon");
    let answer = link.answer(1);
    assert_eq!((answer.status, answer.is_complete), (200, true));
    assert!(link.ends());
}

#[test]
fn who_leaves_while_waiting_for_a_core_makes_room() {
    let setup = Setup::app("facts:application").set("workers.cores", 1).set("limits.waiting", 1);
    let appliance = setup.start();
    let mut link = link(&appliance);
    link.get(1, "/sleep?s=1");
    appliance.output.wait_for("begun /sleep");
    link.get(2, "/two");
    link.get(3, "/three");
    let full = link.answer(3);
    assert_eq!((full.status, full.text().as_str()), (503, "every core is busy; try again in a moment\n"));
    assert!(full.headers.contains(&("retry-after".to_owned(), "1".to_owned())), "{full:?}");
    link.send(&reset(2));
    link.get(4, "/seen");
    let seen = json(&link.answer(4).body);
    assert_eq!(seen, serde_json::json!(["/sleep?s=1", "/seen"]), "the one that left never ran");
    assert_eq!(link.answer(1).status, 200);
}

#[test]
fn a_request_that_has_waited_too_long_is_not_begun() {
    let appliance = Setup::app("facts:application").set("workers.cores", 1).start();
    let mut link = link(&appliance);
    link.get(1, "/sleep?s=1");
    appliance.output.wait_for("begun /sleep");
    link.send(&request(2, END, &RequestFacts { deadline_ms: 100, ..FACTS }, &[]));
    link.send(&request(3, END, &RequestFacts { deadline_ms: 60_000, target: b"/seen", ..FACTS }, &[]));
    assert_eq!(link.answer(2).reset, Some(Reason::Refused));
    assert_eq!(json(&link.answer(3).body), serde_json::json!(["/sleep?s=1", "/seen"]));
}

#[test]
fn a_slow_reader_holds_back_only_its_own_stream() {
    let appliance = facts();
    let worker = appliance.process("worker 1");
    let mut link = Link::open(&appliance.socket(1), 100_000);
    link.get(1, "/");
    link.answer(1);
    let before = resident(worker.pid);
    link.slow = 2;
    // 100 MB, one piece more than anybody would keep.
    link.get(2, "/pieces?count=100&size=1000000");
    link.until(2, |answer| answer.body.len() == 100_000);
    for id in 3..53 {
        link.get(id, "/pieces?count=3&size=100000");
        assert_eq!(link.answer(id).body.len(), 300_000);
    }
    let grown = resident(worker.pid).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    assert_eq!(link.until(2, |_| true).body.len(), 100_000, "no more than was asked for");
    link.send(&reset(2));
    link.get(53, "/");
    assert_eq!(link.answer(53).status, 200);
}

/// Resident memory of a process in KiB.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn what_an_application_does_not_read_is_stopped_behind_its_answer() {
    let appliance = facts();
    let mut link = link(&appliance);
    link.send(
        &[request(1, 0, &post("/"), &[]), data(1, 0, &[b'x'; 60_000]), data(1, 0, &[b'x'; 60_000])].concat(),
    );
    let answer = link.until(1, |answer| answer.reset.is_some());
    assert_eq!((answer.status, answer.is_complete, answer.reset), (200, true, Some(Reason::Gone)));
    link.send(&data(1, END, b"this was on its way"));
    link.get(2, "/");
    assert_eq!(link.answer(2).status, 200);
}

#[test]
fn an_answer_that_is_not_complete_is_seen_to_be_cut() {
    let appliance = Setup::app("pep3333:application").start();
    let mut link = link(&appliance);
    link.get(1, "/too_short");
    let answer = link.answer(1);
    assert_eq!((answer.status, answer.is_complete, answer.reset), (200, false, Some(Reason::Cut)));
}

#[test]
fn headers_without_end_are_the_applications_mistake() {
    let code = "def application(environ, start_response):\n    \
        start_response('200 OK', [('X-Large', 'x' * 600_000)] * 2)\n    return [b'never']\n";
    let appliance = Setup::code(code).start();
    let mut link = link(&appliance);
    link.get(1, "/");
    assert_eq!(link.answer(1).status, 500);
    appliance.log.wait_for("the headers take more than 1048576 bytes");
    appliance.log.wait_for("request id-of-the-proxy");
}

#[test]
fn an_application_waits_for_body_until_the_client_has_left() {
    let code = "def application(environ, start_response):\n    \
        print('begun', flush=True)\n    try:\n        environ['wsgi.input'].read()\n    \
        except OSError as error:\n        print('lost:', error, flush=True)\n        raise\n";
    let appliance = Setup::code(code).start();
    let mut link = link(&appliance);
    link.send(
        &[request(1, 0, &post("/"), &[]), data(1, 0, &[b'x'; 60_000]), data(1, 0, &[b'x'; 6_000])].concat(),
    );
    appliance.output.wait_for("begun");
    link.send(&reset(1));
    appliance.output.wait_for("lost: the client left before the request body was complete");
}
