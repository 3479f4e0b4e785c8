//! What happens when something dies or is told to: nothing is lost that need not be, and nothing is left.
use crate::harness::{Appliance, Setup, descendants, under_load, until};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs;
use std::time::{Duration, Instant};

fn start(workers: u32) -> Appliance {
    let appliance = Setup::app("facts:application").workers(workers).start();
    appliance.wait_for_workers();
    appliance
}

/// Waits until so many requests that shall take some time have reached the application.
#[track_caller]
fn wait_until_begun(appliance: &Appliance, count: usize) {
    until("the requests have begun", || appliance.output.text().matches("begun").count() == count);
}

#[test]
fn every_process_says_what_it_is() {
    let appliance = start(2);
    let master = appliance.process("master");
    assert_eq!(master.pid, appliance.pid());
    let template = appliance.process("template");
    assert_eq!((appliance.process("proxy").parent, template.parent), (master.pid, master.pid));
    for worker in ["worker 1", "worker 2"] {
        assert_eq!(appliance.process(worker).parent, template.pid);
    }
    assert_eq!(appliance.family().len(), 5);
}

#[test]
fn workers_may_be_killed_under_load_and_no_get_fails() {
    let appliance = start(2);
    let (served, failures) = under_load(&appliance, || {
        for number in 0..12 {
            let worker = appliance.process(&format!("worker {}", 1 + number % 2));
            worker.signal(Signal::SIGKILL);
            let successor = appliance.successor(&worker);
            let socket = 1 + number % 2;
            until("the successor answers", || {
                appliance.worker_client(socket).get("/").json()["pid"] == successor.pid
            });
        }
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    assert!(served > 100, "only {served} requests were served meanwhile");
}

#[test]
fn a_request_that_waits_for_a_killed_worker_is_served_by_its_successor() {
    let appliance = start(1);
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGSTOP);
    let mut client = appliance.worker_client(1);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    worker.signal(Signal::SIGKILL);
    assert_eq!(client.answer().json()["pid"], appliance.successor(&worker).pid);
}

#[test]
fn a_post_that_has_reached_a_killed_worker_is_not_sent_again() {
    let text = "import os, time\ndef application(environ, start_response):\n    \
        if environ['REQUEST_METHOD'] == 'POST':\n        open('posts', 'a').write('x')\n        time.sleep(60)\n    \
        start_response('200 OK', [])\n    return [b'{}']\n";
    let appliance = Setup::code(text).workers(2).start();
    appliance.wait_for_workers();
    let mut client = appliance.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi");
    let posts = appliance.dir().path().join("posts");
    until("the application has it", || fs::read_to_string(&posts).is_ok_and(|text| text == "x"));
    for worker in ["worker 1", "worker 2"] {
        appliance.process(worker).signal(Signal::SIGKILL);
    }
    assert_eq!(client.answer().status, 502);
    assert_eq!(appliance.get("/").status, 200);
    assert_eq!(fs::read_to_string(posts).unwrap(), "x", "executed twice");
}

#[test]
fn an_answer_that_a_kill_cuts_never_looks_complete() {
    let text = "import appliance\ndef application(environ, start_response):\n    \
        start_response('200 OK', [])\n    yield b'begun'\n    appliance.sleep(60)\n";
    let appliance = Setup::code(text).start();
    let mut client = appliance.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the answer has begun", || {
        client.arrived_within(Duration::from_millis(50)).windows(5).any(|bytes| bytes == b"begun")
    });
    appliance.process("worker 1").signal(Signal::SIGKILL);
    let error = client.try_answer().expect_err("half an answer was passed on as a whole one");
    assert_ne!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_worker_that_is_told_to_go_finishes_and_is_replaced() {
    let appliance = start(1);
    let worker = appliance.process("worker 1");
    let mut client = appliance.client();
    client.send("GET /sleep?s=0.5 HTTP/1.1\r\nHost: test\r\n\r\n");
    wait_until_begun(&appliance, 1);
    worker.signal(Signal::SIGTERM);
    assert_eq!(client.answer().json()["pid"], worker.pid);
    assert_eq!(appliance.get("/").json()["pid"], appliance.successor(&worker).pid);
}

#[test]
fn a_killed_proxy_is_replaced_within_a_second() {
    let appliance = start(1);
    let proxy = appliance.process("proxy");
    proxy.signal(Signal::SIGKILL);
    let began = Instant::now();
    assert_eq!(appliance.get("/").status, 200);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    appliance.successor(&proxy);
}

#[test]
fn workers_go_on_without_their_template_and_a_new_one_replaces_them() {
    let appliance = start(2);
    let (template, workers) =
        (appliance.process("template"), ["worker 1", "worker 2"].map(|role| appliance.process(role)));
    let (served, failures) = under_load(&appliance, || {
        template.signal(Signal::SIGKILL);
        appliance.successor(&template);
    });
    assert!(failures.is_empty() && served > 0, "{failures:?}");
    assert!(workers.iter().all(|worker| worker.is_alive()), "a worker died with its template");
    workers[0].signal(Signal::SIGKILL);
    let successor = appliance.successor(&workers[0]);
    assert_eq!(appliance.worker_client(1).get("/").json()["pid"], successor.pid);
}

#[test]
fn nothing_outlives_a_killed_master() {
    let mut appliance = start(2);
    let mut client = appliance.client();
    client.send("GET /block?s=60 HTTP/1.1\r\nHost: test\r\n\r\n");
    wait_until_begun(&appliance, 1);
    let family = appliance.family();
    assert_eq!(family.len(), 5);
    let began = Instant::now();
    appliance.signal(Signal::SIGKILL);
    assert_eq!(appliance.wait(), None);
    until("all are gone", || family.iter().all(|process| !process.is_alive()));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_stop_lets_requests_finish() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut appliance = start(2);
        let _idle = appliance.client().get("/");
        let mut clients: Vec<_> = (0..6).map(|_| appliance.client()).collect();
        for client in &mut clients {
            client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        wait_until_begun(&appliance, 6);
        appliance.signal(signal);
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
        assert_eq!(appliance.wait(), Some(0));
    }
}

#[test]
fn ctrl_c_reaches_every_process_and_the_master_decides() {
    let mut appliance = Setup::app("facts:application").workers(2).own_group().start();
    let mut client = appliance.client();
    client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: test\r\n\r\n");
    wait_until_begun(&appliance, 1);
    // What a terminal does on Ctrl-C.
    killpg(Pid::from_raw(appliance.pid()), Signal::SIGINT).unwrap();
    assert_eq!(client.answer().status, 200);
    assert_eq!(appliance.wait(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let mut appliance = start(1);
    let mut client = appliance.client();
    client.send("GET /sleep?s=60 HTTP/1.1\r\nHost: test\r\n\r\n");
    wait_until_begun(&appliance, 1);
    appliance.signal(Signal::SIGTERM);
    appliance.log.event("the stop", |event| event["message"] == "stopping");
    let told = Instant::now();
    until("the second signal is no echo of the first", || told.elapsed() > Duration::from_millis(150));
    appliance.signal(Signal::SIGTERM);
    let began = Instant::now();
    assert_eq!(appliance.wait(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_request_that_takes_too_long_is_cut_at_a_stop() {
    for target in ["/sleep?s=60", "/block?s=60"] {
        let mut appliance = Setup::app("facts:application").set("timeouts.graceful", "1s").start();
        let mut client = appliance.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        wait_until_begun(&appliance, 1);
        let began = Instant::now();
        appliance.signal(Signal::SIGTERM);
        let cut = client.try_answer();
        assert!(cut.as_ref().map_or(true, |answer| answer.status >= 500), "{target}: {cut:?}");
        assert_eq!(appliance.wait(), Some(0), "{target}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{target}: {took:?}");
    }
}

#[test]
fn a_stop_takes_its_sockets_and_its_run_directory_away() {
    let setup = Setup::app("facts:application");
    let runtime = setup.dir().path().join("runtime");
    fs::create_dir(&runtime).unwrap();
    let socket = setup.dir().path().join("web.sock");
    let setup = setup.env("XDG_RUNTIME_DIR", runtime.display()).arg("--listen").arg("127.0.0.1:0");
    let mut appliance = setup.arg("--listen").arg(format!("unix:{}", socket.display())).start();
    assert!(socket.exists());
    // The run directory, and the folder of the user's control sockets.
    assert_eq!(fs::read_dir(&runtime).unwrap().count(), 2);
    assert_eq!(appliance.stop(), Some(0));
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(&runtime).unwrap().count(), 0);
}

#[test]
fn an_appliance_starts_where_a_killed_one_has_left_its_sockets() {
    let mut first = start(1);
    let run_dir = first.dir().path().join("run");
    first.signal(Signal::SIGKILL);
    first.wait();
    assert!(first.socket(1).exists(), "nobody was there to remove it");
    let second = Setup::app("facts:application").set("admin.run_dir", run_dir.display()).start();
    assert_eq!(second.get("/").status, 200);
}

#[test]
fn a_worker_holds_no_socket_that_is_not_its_own() {
    let appliance = start(2);
    let port = format!("0100007F:{:04X}", appliance.address().port());
    let tables = fs::read_to_string("/proc/net/tcp").unwrap();
    // proc(5): the local address is column 2, the state (0A: LISTEN) column 4, the inode column 10.
    let listener = tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listener = listener.filter(|columns| columns.len() > 9 && columns[1] == port && columns[3] == "0A");
    let listener: Vec<String> = listener.map(|columns| format!("socket:[{}]", columns[9])).collect();
    assert_eq!(listener.len(), 1);
    let path = appliance.socket(2).display().to_string();
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    let other = sockets.lines().filter(|line| line.ends_with(&path));
    let other: Vec<String> =
        other.filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(6)?))).collect();
    assert!(!other.is_empty());
    let held = appliance.process("worker 1").descriptors();
    assert!(held.iter().all(|descriptor| !listener.contains(descriptor)), "the public listener: {held:?}");
    assert!(held.iter().all(|descriptor| !other.contains(descriptor)), "the socket of worker 2: {held:?}");
    assert!(
        appliance.process("template").descriptors().iter().all(|descriptor| !listener.contains(descriptor))
    );
}

#[test]
fn descriptors_do_not_add_up_over_many_workers() {
    let appliance = start(1);
    let count = |appliance: &Appliance| {
        ["master", "template", "proxy"].map(|role| appliance.process(role).descriptors().len())
    };
    let mut before = None;
    for _ in 0..4 {
        let worker = appliance.process("worker 1");
        worker.signal(Signal::SIGKILL);
        let successor = appliance.successor(&worker);
        until("the successor answers", || appliance.get("/").json()["pid"] == successor.pid);
        let now = count(&appliance);
        let before = before.get_or_insert(now);
        assert!(now.iter().zip(*before).all(|(now, before)| *now <= before + 1), "{before:?} then {now:?}");
    }
}

#[test]
fn the_dead_are_buried() {
    let appliance = start(2);
    for role in ["worker 1", "proxy", "template", "worker 2"] {
        let process = appliance.process(role);
        process.signal(Signal::SIGKILL);
        appliance.successor(&process);
    }
    until("no zombie is left", || descendants(appliance.pid()).iter().all(|process| !process.is_zombie));
}

#[test]
fn a_subprocess_of_the_application_does_not_outlive_it_nor_confuse_it() {
    let text = "import subprocess\ndef application(environ, start_response):\n    \
        out = subprocess.run(['echo', 'from a child'], capture_output=True, check=True).stdout\n    \
        start_response('200 OK', [])\n    return [out]\n";
    let appliance = Setup::code(text).start();
    for _ in 0..3 {
        assert_eq!(appliance.get("/").text(), "from a child\n");
    }
    until("no zombie is left", || descendants(appliance.pid()).iter().all(|process| !process.is_zombie));
}
