//! Workers that go wrong while the appliance runs: one that stands still, those that are worn out, and code that lets none
//! live. Whoever is well serves on, and what is ill is replaced.
use crate::harness::{Admin, Appliance, Process, Setup, measure, metered, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// What `appliance status` says.
#[track_caller]
fn status(appliance: &Appliance) -> Value {
    let (_, text, error) = appliance.tell(&["status", "--json"]);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{error}"))
}

// ---- standstills ----

#[test]
fn a_worker_that_hangs_is_replaced_and_the_others_serve_meanwhile() {
    let setup = Setup::app("facts:application").workers(2);
    let appliance = setup.set("timeouts.stall", "500ms").set("timeouts.hang", "4s").start();
    appliance.wait_for_workers();
    let sick = appliance.process("worker 1");
    let mut client = appliance.worker_client(1);
    client.send("GET /block?s=60 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it is seen to stall", || status(&appliance)["workers"][0]["state"] == "stalled");
    assert_eq!(appliance.get("/").json()["worker"], 2);
    let successor = appliance.successor(&sick);
    until("the successor serves", || appliance.worker_client(1).get("/").json()["pid"] == successor.pid);
    let told = appliance.log.event("the hang", |event| {
        event["message"].as_str().is_some_and(|text| text.contains("worker 1 has stood still for"))
    });
    assert_eq!(told["pid"], sick.pid);
}

#[test]
fn an_idle_worker_ticks() {
    let setup = Setup::app("facts:application").set("timeouts.stall", "0").set("timeouts.hang", "3s");
    let appliance = setup.start();
    appliance.wait_for_workers();
    let (before, proxy) = (appliance.process("worker 1"), appliance.process("proxy"));
    std::thread::sleep(Duration::from_secs(5));
    assert!(before.is_alive() && proxy.is_alive(), "{}", appliance.log.text());
}

// ---- recycling ----

/// Puts load on an appliance whose workers are replaced because of it; every one of them must have been replaced, without
/// a failed request.
#[track_caller]
fn replaces_under_load(setup: Setup) {
    let appliance = setup.start();
    appliance.wait_for_workers();
    let before = ["worker 1", "worker 2"].map(|role| appliance.process(role));
    let report =
        measure(&appliance, 8, || before.iter().for_each(|worker| until_replaced(&appliance, worker)));
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert!(appliance.log.text().contains("is replaced: it"), "{}", appliance.log.text());
}

#[track_caller]
fn until_replaced(appliance: &Appliance, worker: &Process) {
    until("it has gone", || !worker.is_alive());
    appliance.successor(worker);
}

#[test]
fn workers_that_have_done_their_requests_are_replaced_and_no_request_is_lost() {
    replaces_under_load(metered().workers(2).set("workers.max_requests", 100));
}

#[test]
fn workers_that_are_old_are_replaced_and_no_request_is_lost() {
    replaces_under_load(metered().workers(2).set("workers.max_lifetime", "2s"));
}

#[test]
fn a_worker_that_has_grown_is_replaced() {
    let text = "kept = []\ndef application(environ, start_response):\n    \
        if environ['PATH_INFO'] == '/grow':\n        kept.append(b'x' * (200 << 20))\n    \
        start_response('200 OK', [])\n    return [b'ok']\n";
    let appliance = Setup::code(text).set("workers.max_memory", "150MiB").start();
    let worker = appliance.process("worker 1");
    assert_eq!(appliance.get("/grow").status, 200);
    until_replaced(&appliance, &worker);
    assert_eq!(appliance.get("/").status, 200);
    assert!(appliance.log.text().contains("MiB of memory"), "{}", appliance.log.text());
}

// ---- crash loops ----

/// An application whose workers cannot start while there is a file `broken`.
const FRAGILE: &str = "import os\nfrom uwsgidecorators import postfork\n\n@postfork\ndef start():\n    \
    if os.path.exists('broken'):\n        os._exit(3)\n\n\
    def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'ok']\n";

/// Breaks it and kills its worker.
fn break_down(appliance: &Appliance) {
    appliance.dir().write("broken", "");
    appliance.process("worker 1").signal(Signal::SIGKILL);
}

#[test]
fn a_crash_loop_is_told_and_good_code_ends_it_at_once() {
    let (setup, admin) = Admin::of(Setup::code(FRAGILE));
    let appliance = setup.start();
    assert_eq!(appliance.get("/").status, 200);
    break_down(&appliance);
    until("it is a crash loop", || status(&appliance)["master"]["state"] == "crash-loop");
    let told = status(&appliance);
    assert_eq!(told["master"]["mode"], "crash-loop");
    let reason = told["master"]["reason"].as_str().unwrap();
    assert!(reason.contains("worker 1 could not start (exit code 3)"), "{reason}");
    let (_, table, _) = appliance.tell(&["status"]);
    assert!(table.contains("no worker can live: worker 1 could not start"), "{table}");
    let answer = appliance.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    assert!(!admin.status()["ready"].as_bool().unwrap_or(false));
    fs::remove_file(appliance.dir().path().join("broken")).unwrap();
    let (code, _, error) = appliance.tell(&["reload"]);
    assert_eq!(code, Some(0), "{error}");
    until("it serves", || appliance.get("/").status == 200);
    assert_eq!(status(&appliance)["master"]["state"], "serving");
    assert_eq!(status(&appliance)["master"]["reason"], Value::Null);
}

#[test]
fn a_crash_loop_that_mends_itself_ends_with_the_next_try() {
    let appliance = Setup::code(FRAGILE).start();
    break_down(&appliance);
    appliance.log.wait_for("no worker can live");
    fs::remove_file(appliance.dir().path().join("broken")).unwrap();
    appliance.log.wait_for("a worker serves again");
    until("it serves", || appliance.get("/").status == 200);
}

#[test]
fn a_crash_loop_may_end_the_container() {
    let mut appliance = Setup::code(FRAGILE).set("workers.on_crash_loop", "exit").start();
    break_down(&appliance);
    assert_eq!(appliance.wait(), Some(1));
    assert!(appliance.log.text().contains("no worker can live: worker 1 could not start"));
}

// ---- a run directory that somebody removes ----

#[test]
fn a_run_directory_that_was_removed_is_made_again_and_no_request_is_lost() {
    let appliance = metered().workers(2).start();
    appliance.wait_for_workers();
    let before = ["worker 1", "worker 2"].map(|role| appliance.process(role));
    let report = measure(&appliance, 4, || {
        fs::remove_dir_all(appliance.socket(1).parent().unwrap()).unwrap();
        before.iter().for_each(|worker| until_replaced(&appliance, worker));
    });
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    appliance.wait_for_workers();
    assert_eq!(appliance.tell(&["status"]).0, Some(0));
}
