//! What a worker says of its requests and stacks when it is asked, whether its loop works or stands still.
use crate::harness::{Appliance, Client, Setup, command, until, venvs};
use serde_json::Value;

/// What worker 1 answers to `appliance requests` or `stacks`.
#[track_caller]
fn asked(appliance: &Appliance, verb: &str) -> Vec<Value> {
    let (code, out, err) =
        command(appliance.dir().path(), &[verb, "--json", "--set", &run_dir(appliance)], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let told: Value = serde_json::from_str(&out).unwrap();
    let worker = told["workers"].get(0).unwrap_or(&told[0]);
    worker[verb].as_array().unwrap_or_else(|| panic!("no {verb} in {told}")).clone()
}

fn run_dir(appliance: &Appliance) -> String {
    format!("admin.run_dir={}", appliance.dir().path().join("run").display())
}

fn send(appliance: &Appliance, target: &str) -> Client {
    let mut client = appliance.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client
}

/// Waits until the requests are these, as `target core state`, in any order.
#[track_caller]
fn until_requests(appliance: &Appliance, expected: &[&str]) {
    let of = |one: &Value| {
        format!("{} {} {}", one["target"].as_str().unwrap(), one["core"], one["state"].as_str().unwrap())
    };
    let mut seen = Vec::new();
    until(&format!("the requests are {expected:?}"), || {
        seen = asked(appliance, "requests").iter().map(of).collect();
        seen.sort();
        seen == expected
    });
}

#[test]
fn requests_are_known_by_where_they_are() {
    let appliance = Setup::app("late:application").set("workers.cores", 2).start();
    // One after the other, so that the first has the first core.
    let _first = send(&appliance, "/wait?30");
    until_requests(&appliance, &["/wait?30 0 suspended"]);
    let _second = send(&appliance, "/wait?31");
    until_requests(&appliance, &["/wait?30 0 suspended", "/wait?31 1 suspended"]);
    let mut direct = appliance.worker_client(1);
    direct.send("GET /third HTTP/1.1\r\nHost: test\r\nX-Request-ID: mine\r\n\r\n");
    until_requests(&appliance, &["/third null queued", "/wait?30 0 suspended", "/wait?31 1 suspended"]);
    let third = asked(&appliance, "requests").into_iter().find(|one| one["target"] == "/third").unwrap();
    assert_eq!((&third["id"], &third["method"]), (&"mine".into(), &"GET".into()));
}

#[test]
fn the_client_of_a_websocket_is_known_behind_the_proxy() {
    let appliance = Setup::app("late:application").start();
    let mut client = appliance.client();
    client.send(
        "GET /wait?30 HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    until_requests(&appliance, &["/wait?30 0 suspended"]);
    assert_eq!(asked(&appliance, "requests")[0]["client"], "127.0.0.1");
}

#[test]
fn they_are_known_while_the_loop_is_stuck() {
    let appliance = Setup::app("late:application").set("timeouts.hang", 0).start();
    let _waits = send(&appliance, "/wait?30");
    until_requests(&appliance, &["/wait?30 0 suspended"]);
    let _stuck = send(&appliance, "/block?8");
    until_requests(&appliance, &["/block?8 1 running", "/wait?30 0 suspended"]);
}

/// The stack of the request for this target.
#[track_caller]
fn stack_of(appliance: &Appliance, target: &str) -> Value {
    let mut found = None;
    until(&format!("there is a stack of {target}"), || {
        let is_it = |one: &Value| one["request"].as_str().unwrap().contains(target);
        found = asked(appliance, "stacks").into_iter().find(is_it);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn stacks_are_shown_of_greenlets_tasks_and_threads_on_every_python() {
    for venv in venvs() {
        let appliance = Setup::app("late:application").set("timeouts.hang", 0).venv(Some(venv)).start();
        let _waiting = send(&appliance, "/wait?30");
        let waits = stack_of(&appliance, "GET /wait?30 (core 0, request ");
        assert_eq!(waits["what"], "greenlet");
        assert!(waits["state"].as_str().unwrap().starts_with("waits in application"), "{waits}");
        assert!(waits["stack"].as_str().unwrap().contains("appliance.sleep(float("), "{waits}");
        let _awaiting = send(&appliance, "/awaiting");
        stack_of(&appliance, "GET /awaiting (core 1, request ");
        let of = |what: &str| {
            let is_it = |one: &Value| one["what"].as_str().unwrap().starts_with(what);
            asked(&appliance, "stacks").into_iter().find(is_it)
        };
        // Its request is there before asyncio's thread has begun it.
        until("there is a task", || of("task ").is_some());
        let task = of("task ").unwrap();
        assert!(task["stack"].as_str().unwrap().contains("in sleep"), "{task}");
        assert!(of("thread of the loop").is_some());
    }
}

#[test]
fn stacks_are_shown_when_the_interpreter_s_lock_is_kept_on_every_python() {
    for venv in venvs() {
        // Each look at it interrupts the call of C that keeps the lock, so there must be no other.
        let setup = Setup::app("late:application").set("timeouts.hang", 0).set("timeouts.stall", 0);
        let appliance = setup.venv(Some(venv)).start();
        let mut deaf = send(&appliance, "/deaf?6000000");
        until_requests(&appliance, &["/deaf?6000000 0 running"]);
        let stack = stack_of(&appliance, "GET /deaf?6000000 (core 0, request ");
        assert_eq!(stack["what"], "thread of the loop");
        assert!(stack["stack"].as_str().unwrap().trim_end().ends_with("in deaf"), "{stack}");
        assert_eq!(deaf.answer().status, 200, "nothing has disturbed it");
    }
}

#[test]
fn whoever_keeps_the_loop_is_named_with_its_stack() {
    let appliance = Setup::app("late:application").set("timeouts.hang", 0).start();
    let mut held = send(&appliance, "/block?3");
    // At first it has the loop and is not in Python yet.
    until("its stack shows where it is", || {
        let stack = stack_of(&appliance, "GET /block?3 (core 0, request ");
        assert_eq!(stack["what"], "thread of the loop");
        stack["stack"].as_str().unwrap().contains("time.sleep(")
    });
    assert_eq!(held.answer().status, 200);
}

#[test]
fn on_threads_each_request_has_its_own_stack() {
    let appliance = Setup::app("late:application").set("app.suspend", "thread").start();
    let _held = [send(&appliance, "/block?30"), send(&appliance, "/wait?30")];
    for target in ["/block?30", "/wait?30"] {
        let stack = stack_of(&appliance, target);
        assert!(stack["what"].as_str().unwrap().starts_with("thread appliance-"), "{stack}");
        assert!(stack["stack"].as_str().unwrap().contains("in application"), "{stack}");
    }
}

#[test]
fn looking_for_stacks_wakes_no_lazy_object() {
    let code = "\
import appliance
fetched = []
class Lazy:
    @property
    def __class__(self):
        fetched.append('fetched')
        return dict
def application(environ, start_response):
    start_response('200 OK', [])
    if environ['PATH_INFO'] == '/hold':
        lazy = Lazy()
        appliance.sleep(30)
    return [repr(fetched).encode()]
";
    let appliance = Setup::code(code).start();
    let _held = send(&appliance, "/hold");
    stack_of(&appliance, "GET /hold (core 0, request ");
    assert_eq!(appliance.get("/fetched").text(), "[]");
}

#[test]
fn objects_do_not_come_to_their_end_where_stacks_are_looked_for() {
    let code = "\
import collections, threading
ended = set()
class Ends:
    def __del__(self):
        ended.add(threading.get_ident())
def churn():
    last = collections.deque(maxlen=1000)
    while True:
        last.append(Ends())
churning, kept = [], []
def application(environ, start_response):
    if not churning:
        kept.extend([] for _ in range(500_000))
        churning.append(threading.Thread(target=churn, daemon=True))
        churning[0].start()
    start_response('200 OK', [])
    return [repr(ended == {churning[0].ident}).encode()]
";
    let appliance = Setup::code(code).start();
    until("objects end", || appliance.get("/").text() == "True");
    for _ in 0..10 {
        asked(&appliance, "stacks");
    }
    assert_eq!(appliance.get("/").text(), "True");
}
