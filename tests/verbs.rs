//! The verbs that look into workers or hold requests back: `pause`, `resume`, `maintenance`, `requests`, `stacks`. And all
//! verbs against a master that is not there, does not answer or speaks otherwise.
use crate::harness::{Appliance, DEADLINE, Process, Setup, command, until, within};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

/// Every verb of a person's, as typed.
const VERBS: [&[&str]; 12] = [
    &["status"],
    &["status", "--json"],
    &["reload"],
    &["stop"],
    &["stop", "--now"],
    &["pause"],
    &["resume"],
    &["maintenance", "on"],
    &["maintenance", "off"],
    &["requests"],
    &["stacks"],
    &["stacks", "--worker", "1", "--json"],
];

/// Runs `appliance VERB` for the one that runs in `dir`; exit code, standard output, standard error.
#[track_caller]
fn tell(dir: &Path, verb: &[&str]) -> (Option<i32>, String, String) {
    let run_dir = format!("admin.run_dir={}", dir.join("run").display());
    command(dir, &[verb, &["--set", &run_dir]].concat(), &[])
}

/// What it prints, when it succeeds.
#[track_caller]
fn done(appliance: &Appliance, verb: &[&str]) -> String {
    let (code, out, err) = tell(appliance.dir().path(), verb);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{verb:?}");
    out
}

#[track_caller]
fn status(appliance: &Appliance) -> Value {
    serde_json::from_str(&done(appliance, &["status", "--json"])).unwrap()
}

fn mode(appliance: &Appliance) -> Value {
    status(appliance)["master"]["mode"].clone()
}

#[test]
fn pause_and_maintenance_are_switched_on_and_off_and_shown() {
    let appliance = Setup::app("facts:application").start();
    assert_eq!(mode(&appliance), "serving");
    assert_eq!(done(&appliance, &["pause"]), "paused: requests wait in the proxy\n");
    assert!(done(&appliance, &["pause"]).starts_with("already paused, for "));
    assert_eq!(mode(&appliance), "paused");
    assert!(done(&appliance, &["status"]).contains("serving, paused for "));
    let told = done(&appliance, &["maintenance", "on"]);
    assert_eq!(told, "in maintenance: requests are answered 503\n");
    assert_eq!(mode(&appliance), "maintenance");
    assert_eq!(done(&appliance, &["maintenance", "off"]), "maintenance ended; the mode is paused\n");
    assert_eq!(done(&appliance, &["resume"]), "resumed\n");
    assert_eq!(done(&appliance, &["resume"]), "it was not paused\n");
    assert_eq!(mode(&appliance), "serving");
    assert_eq!(appliance.get("/").status, 200);
}

#[test]
fn a_request_waits_while_paused_and_is_refused_in_maintenance() {
    let appliance = Setup::app("facts:application").start();
    done(&appliance, &["pause"]);
    let mut client = appliance.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it waits in the proxy", || status(&appliance)["proxy"][0]["queued"] == 1);
    assert!(client.arrived_within(Duration::from_millis(100)).is_empty());
    done(&appliance, &["resume"]);
    assert_eq!(client.answer().status, 200);
    done(&appliance, &["maintenance", "on"]);
    let refused =
        within(DEADLINE, || Some(appliance.get("/")).filter(|answer| answer.status == 503)).unwrap();
    assert_eq!(refused.header("retry-after"), Some("30"));
    done(&appliance, &["maintenance", "off"]);
    until("it serves again", || appliance.get("/").status == 200);
}

#[test]
fn a_worker_that_cannot_answer_is_named_and_holds_nobody_up() {
    let appliance = Setup::app("facts:application").start();
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGSTOP);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let asked = ["requests", "stacks"].map(|verb| scope.spawn(|| tell(appliance.dir().path(), &[verb])));
        assert_eq!(status(&appliance)["master"]["state"], "serving", "the master waits for the worker");
        for asked in asked {
            let (code, out, err) = asked.join().unwrap();
            assert_eq!((code, out.as_str()), (Some(1), ""));
            assert_eq!(err, format!("appliance: worker 1 (pid {}): no answer within 3s\n", worker.pid));
        }
    });
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    worker.signal(Signal::SIGCONT);
}

/// Finds the line on which its worker is asked, among everything that it has open, and says what it likes there.
const LIAR: &str = "\
import os, socket

def lines():
    for name in os.listdir('/proc/self/fd'):
        try:
            line = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        if line.family == socket.AF_UNIX and line.type == socket.SOCK_SEQPACKET:
            yield line

def application(environ, start_response):
    for line in lines():
        try:
            while environ['PATH_INFO'] == '/flood':
                line.send(b'+' + b'x' * 60000, socket.MSG_DONTWAIT)
            line.send(b'.{\"requests\": \"\\x1b[2J\"}', socket.MSG_DONTWAIT)
        except OSError:
            pass
    start_response('200 OK', [])
    return [b'said']
";

#[test]
fn a_worker_that_says_nonsense_is_named_and_serves_on() {
    for lie in ["/garbage", "/flood"] {
        let appliance = Setup::code(LIAR).start();
        assert_eq!(appliance.get(lie).text(), "said");
        let worker = appliance.process("worker 1");
        let name = format!("appliance: worker 1 (pid {}): ", worker.pid);
        let (code, out, err) = tell(appliance.dir().path(), &["requests"]);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
        assert!(err.starts_with(&name) && !err.contains('\u{1b}'), "{err}");
        let (_, _, err) = tell(appliance.dir().path(), &["requests"]);
        assert_eq!(err, format!("{name}it cannot be asked: its line is closed\n"));
        assert_eq!(appliance.get("/").text(), "said");
        assert!(worker.is_alive() && status(&appliance)["master"]["state"] == "serving");
    }
}

#[test]
fn a_worker_that_does_not_exist_is_said_not_to_run() {
    let appliance = Setup::app("facts:application").start();
    let (code, out, err) = tell(appliance.dir().path(), &["stacks", "--worker", "7"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "appliance: no process of worker 7 runs\n");
}

#[test]
fn every_verb_says_that_there_is_no_master() {
    let mut appliance = Setup::app("facts:application").start();
    let dir = appliance.dir().path().to_owned();
    appliance.signal(Signal::SIGKILL);
    appliance.wait();
    for verb in VERBS {
        let (code, out, err) = tell(&dir, verb);
        assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{verb:?}: {err}");
        assert!(err.contains("no appliance runs for"), "{verb:?}: {err}");
    }
}

/// All at once: each waits for five seconds.
#[test]
fn every_verb_says_that_the_master_does_not_answer() {
    let mut appliance = Setup::app("facts:application").start();
    let master = Process::find(appliance.pid()).unwrap();
    master.signal(Signal::SIGSTOP);
    std::thread::scope(|scope| {
        let dir = appliance.dir().path();
        let told = VERBS.map(|verb| (verb, scope.spawn(move || tell(dir, verb))));
        for (verb, told) in told {
            let (code, out, err) = told.join().unwrap();
            assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{verb:?}: {err}");
            assert!(err.contains("it does not answer within 5s; is it stopped?"), "{verb:?}: {err}");
        }
    });
    // It then hears all of them, `stop --now` among them.
    master.signal(Signal::SIGCONT);
    assert_eq!(appliance.wait(), Some(0));
}

#[test]
fn every_verb_says_that_the_master_speaks_another_version() {
    let setup = Setup::bare();
    let dir = setup.dir().path().to_owned();
    fs::create_dir(dir.join("run")).unwrap();
    let listener = UnixListener::bind(dir.join("run/control.sock")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in VERBS {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
                stream.write_all(b"{\"version\":7,\"done\":\"?\"}\n").unwrap();
            }
        });
        for verb in VERBS {
            let (code, out, err) = tell(&dir, verb);
            assert_eq!((code, out.as_str(), err.lines().count()), (Some(1), "", 1), "{verb:?}: {err}");
            assert!(err.contains("speaks version 7 of the control protocol"), "{verb:?}: {err}");
        }
    });
}

/// What a program could get wrong that speaks to the socket itself.
#[test]
fn a_verb_that_lacks_a_field_or_has_a_wrong_one_is_told() {
    let appliance = Setup::app("facts:application").start();
    let ask = |line: &str| {
        let socket = appliance.dir().path().join("run/control.sock");
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        told
    };
    for (line, says) in [
        ("{\"version\":1,\"verb\":\"maintenance\"}\n", "needs the field"),
        ("{\"version\":1,\"verb\":\"maintenance\",\"on\":1}\n", "is true or false, not 1"),
        ("{\"version\":1,\"verb\":\"requests\",\"worker\":\"x\"}\n", "is the number of a worker"),
        ("{\"version\":1,\"verb\":\"pause\",\"on\":true}\n", "takes no field"),
    ] {
        let told = ask(line);
        assert!(told.contains("\"error\"") && told.contains(says), "{told}");
    }
    until("the mode is as before", || mode(&appliance) == "serving");
}
