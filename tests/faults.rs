//! A machine that runs out of something: disk behind the log, descriptors, processes, the run directory. Whatever is
//! lacking is lacking for a while; the service goes on, and is whole again afterwards.
use crate::harness::{
    Appliance, Client, DEADLINE, Log, Process, Setup, free_ports, under_load, until, within,
};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// More clients than descriptors.
const CROWD: usize = 60;
/// Descriptors that are left to whom they are taken from.
const SPARE: usize = 10;

fn start(workers: u32) -> Appliance {
    let setup = Setup::app("facts:application").workers(workers).set("log.access", false);
    let appliance = setup.start();
    appliance.wait_for_workers();
    appliance
}

#[test]
fn a_full_disk_costs_the_log_and_nothing_else() {
    let setup = Setup::app("facts:application").workers(2).set("log.access", false);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let appliance = setup.start_unheard(free_ports(1), full);
    appliance.wait_for_workers();
    let (served, failures) = under_load(&appliance, || {
        for role in ["worker 1", "template", "worker 2"] {
            let process = appliance.process(role);
            process.signal(Signal::SIGKILL);
            appliance.successor(&process);
        }
        let before = appliance.process("worker 1");
        let (code, _, err) = appliance.tell(&["reload"]);
        assert_eq!(code, Some(0), "{err}");
        assert_ne!(appliance.process("worker 1").pid, before.pid);
    });
    assert!(failures.is_empty() && served > 0, "{} of {served} failed: {failures:?}", failures.len());
}

#[test]
fn a_log_that_nobody_reads_costs_its_lines_and_holds_nobody() {
    let (reader, writer) = io::pipe().unwrap();
    let appliance = Setup::app("facts:application").workers(2).start_unheard(free_ports(1), writer);
    let mut client = appliance.client();
    // Several times what a pipe takes: 64 KiB.
    let target = format!("/?{}", "x".repeat(1900));
    let served = (0..150).filter(|_| client.get(&target).status == 200).count();
    assert_eq!(served, 150);
    let (code, _, err) = appliance.tell(&["reload"]);
    assert_eq!(code, Some(0), "the master is not held either: {err}");
    let log = Log::of(reader);
    // Each process tells of its own.
    let told = within(DEADLINE, || {
        assert_eq!(appliance.get("/").status, 200);
        let events = log.events();
        let written = events.iter().filter(|event| event["path"] == target.as_str()).count();
        let lost: u64 = events.iter().filter_map(|event| event["lines"].as_u64()).sum();
        (lost > 0 && written + lost as usize >= served).then_some(())
    });
    assert!(told.is_some(), "lines are missing of which nothing is said:\n{}", log.text());
}

/// Part of a CPU that a process takes for the next second.
fn load_of(process: &Process) -> f64 {
    let (before, began) = (process.cpu(), Instant::now());
    within(Duration::from_secs(1), || None::<()>);
    (process.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64()
}

/// Takes descriptors from `process`, which listens behind `connect`, and lets a crowd come.
#[track_caller]
fn run_out_of_descriptors(process: &Process, connect: impl Fn() -> Client) {
    let mut kept = connect();
    assert_eq!(kept.get("/").status, 200);
    let before = process.descriptors().len();
    process.limit("nofile", before + SPARE);
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| connect()).collect();
    crowd.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n"));
    until("some of the crowd are served", || {
        crowd.iter_mut().filter_map(|client| client.arrived_within(Duration::ZERO).first()).count()
            > SPARE / 2
    });
    assert_eq!(kept.get("/").status, 200, "who is there is served on");
    let load = load_of(process);
    assert!(load < 0.1, "{load:.2} of a CPU for nothing");
    // Those who have been served go, one after the other, and make room for all others.
    let answers = crowd.into_iter().map(|mut client| client.answer().status);
    assert!(answers.into_iter().all(|status| status == 200));
    assert_eq!(connect().get("/").status, 200);
    assert!(process.is_alive());
}

#[test]
fn a_proxy_without_descriptors_serves_whom_it_has_and_then_all_others() {
    let appliance = start(2);
    run_out_of_descriptors(&appliance.process("proxy"), || appliance.client());
}

#[test]
fn a_worker_without_descriptors_serves_whom_it_has_and_then_all_others() {
    let base = free_ports(2);
    let appliance = Setup::app("facts:application").set("native.base_port", base).start();
    appliance.wait_for_workers();
    let native = ([127, 0, 0, 1], base + 1).into();
    run_out_of_descriptors(&appliance.process("worker 1"), || Client::tcp(native).unwrap());
}

/// Takes something from a process, kills a worker, and gives it back when the lack has been noticed.
#[track_caller]
fn lose_a_worker_without(appliance: &Appliance, from: &Process, limit: &str, value: usize) {
    let worker = appliance.process("worker 1");
    let (served, failures) = under_load(appliance, || {
        from.limit(limit, value);
        worker.signal(Signal::SIGKILL);
        appliance.log.event("why worker 1 is not there", |event| {
            event["level"] == "ERROR"
                && event["message"].as_str().is_some_and(|text| text.contains("worker 1"))
        });
        assert_eq!(appliance.get("/").status, 200);
        from.limit(limit, 1024);
        appliance.successor(&worker);
        appliance.wait_for_workers();
    });
    assert!(failures.is_empty() && served > 0, "{} of {served} failed: {failures:?}", failures.len());
    assert!(from.is_alive());
}

#[test]
fn a_master_without_descriptors_replaces_a_worker_when_it_has_some() {
    let appliance = start(2);
    lose_a_worker_without(&appliance, &appliance.process("master"), "nofile", 3);
}

#[test]
fn a_worker_that_cannot_be_forked_is_forked_when_it_can() {
    // Root may have as many processes as it likes.
    let setup = Setup::app("facts:application").workers(2).set("log.access", false);
    let setup = if geteuid().is_root() {
        fs::set_permissions(setup.dir().path(), Permissions::from_mode(0o755)).unwrap();
        setup
            .set("security.user", "nobody")
            .set("app.suspend", "thread")
            .venv(None)
            .env("PATH", "/usr/bin:/bin")
    } else {
        setup
    };
    let appliance = setup.start();
    appliance.wait_for_workers();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", appliance.pid())).unwrap().count();
    let before = descriptors();
    lose_a_worker_without(&appliance, &appliance.process("template"), "nproc", 1);
    until("what was opened for workers that never came is closed", || descriptors() == before);
}
