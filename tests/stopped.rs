//! Processes that stand still through no fault of theirs: stopped one by one and all together, as when a machine is
//! suspended, and a wall clock that jumps. Nobody is killed for it, and what was under way goes on.
use crate::harness::{Appliance, Client, Process, Setup, until};
use nix::sys::signal::Signal;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A worker that stands still so long gets no new requests.
const STALL: Duration = Duration::from_millis(300);
/// A worker that stands still so long is killed.
const HANG: Duration = Duration::from_secs(3);

fn start(hang: &str) -> Appliance {
    let setup = Setup::app("facts:application").workers(2);
    let setup = setup.set("timeouts.stall", "300ms").set("timeouts.hang", hang);
    let appliance = setup.start();
    appliance.wait_for_workers();
    appliance
}

/// Lets time pass: how long something stands still is what these tests are about.
fn stand_still(time: Duration) {
    thread::sleep(time);
}

fn signal_all(processes: &[Process], signal: Signal) {
    processes.iter().for_each(|process| process.signal(signal));
}

fn send(client: &mut Client, target: &str) {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
}

/// A request that is under way.
#[track_caller]
fn begin_request(appliance: &Appliance) -> Client {
    let begun = || appliance.output.text().matches("begun").count();
    let (before, mut client) = (begun(), appliance.client());
    send(&mut client, "/sleep?s=0.5");
    until("it has begun", || begun() > before);
    client
}

#[track_caller]
fn assert_all_live(appliance: &Appliance, family: &[Process]) {
    let dead: Vec<_> = family.iter().filter(|process| !process.is_alive()).collect();
    assert!(dead.is_empty(), "killed without need: {dead:?}\n{}", appliance.log.text());
    assert_eq!(appliance.family().len(), family.len(), "somebody was started without need");
}

#[test]
fn a_worker_that_stands_still_for_a_moment_is_left_alone() {
    let appliance = start("3s");
    let family = appliance.family();
    let worker = appliance.process("worker 1");
    for _ in 0..3 {
        worker.signal(Signal::SIGSTOP);
        stand_still(HANG / 3);
        worker.signal(Signal::SIGCONT);
        // Its own socket, so that it is this one that answers.
        assert_eq!(appliance.worker_client(1).get("/").json()["pid"], worker.pid);
    }
    assert_all_live(&appliance, &family);
}

#[test]
fn a_worker_that_stands_still_gets_no_new_requests() {
    let appliance = start("20s");
    let family = appliance.family();
    let (worker, other) = (appliance.process("worker 1"), appliance.process("worker 2"));
    worker.signal(Signal::SIGSTOP);
    // A loop that has nothing to do has a turn once a second, so it is noticed no sooner.
    stand_still(Duration::from_millis(2500));
    let answers: Vec<_> = (0..40).map(|_| appliance.get("/").json()["pid"].clone()).collect();
    worker.signal(Signal::SIGCONT);
    assert!(answers.iter().all(|pid| *pid == other.pid), "{answers:?}");
    until("it gets requests again", || appliance.get("/").json()["pid"] == worker.pid);
    assert_all_live(&appliance, &family);
}

#[test]
fn a_template_that_stands_still_harms_nobody_and_goes_on() {
    let appliance = start("3s");
    let family = appliance.family();
    let template = appliance.process("template");
    template.signal(Signal::SIGSTOP);
    stand_still(HANG + STALL);
    assert!((0..20).all(|_| appliance.get("/").status == 200));
    template.signal(Signal::SIGCONT);
    assert_all_live(&appliance, &family);
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGKILL);
    assert_eq!(appliance.successor(&worker).parent, template.pid);
}

#[test]
fn a_proxy_that_stands_still_for_a_moment_answers_afterwards() {
    let appliance = start("3s");
    let family = appliance.family();
    let mut kept = appliance.client();
    assert_eq!(kept.get("/").status, 200);
    let proxy = appliance.process("proxy");
    proxy.signal(Signal::SIGSTOP);
    let mut clients: Vec<Client> = (0..20).map(|_| appliance.client()).collect();
    clients.push(kept);
    clients.iter_mut().for_each(|client| send(client, "/"));
    stand_still(HANG / 2);
    proxy.signal(Signal::SIGCONT);
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
    assert_all_live(&appliance, &family);
}

#[test]
fn a_machine_that_was_suspended_goes_on_where_it_was() {
    let appliance = start("3s");
    let mut kept = appliance.client();
    assert_eq!(kept.get("/").status, 200);
    let mut family = appliance.family();
    for _ in 0..2 {
        let mut waiting = begin_request(&appliance);
        signal_all(&family, Signal::SIGSTOP);
        stand_still(2 * HANG);
        // Once the master is the first to see how late it is, and once the last.
        signal_all(&family, Signal::SIGCONT);
        family.reverse();
        assert_eq!(waiting.answer().status, 200);
        assert_eq!(kept.get("/").status, 200);
        assert!((0..20).all(|_| appliance.get("/").status == 200));
    }
    // Whoever decides too soon that somebody hangs has had the time for it now.
    stand_still(2 * STALL);
    assert_all_live(&appliance, &family);
    let warned = appliance.log.text().matches("\"level\":\"ERROR\"").count();
    assert_eq!(warned, 0, "{}", appliance.log.text());
}

/// Adds the number in the file $JUMP to the seconds of every wall clock; the monotonic ones cannot jump.
const JUMPING_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static const volatile long none, *jump = &none;
__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("JUMP"), O_RDONLY);
    void *page = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) jump = page;
    close(fd);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += *jump;
    return result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (now) *now = at.tv_sec;
    return at.tv_sec;
}
"#;

#[test]
fn a_wall_clock_that_jumps_changes_nothing() {
    let setup = Setup::app("facts:application").workers(2);
    let setup =
        setup.set("timeouts.stall", "300ms").set("timeouts.hang", "3s").set("timeouts.response", "3s");
    let (source, jump) = (setup.dir().write("clock.c", JUMPING_CLOCK), setup.dir().path().join("jump"));
    let library = setup.dir().path().join("clock.so");
    // Rust needs a C compiler for linking, so there is one.
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source);
    assert!(compiler.status().unwrap().success());
    fs::write(&jump, 0i64.to_ne_bytes()).unwrap();
    let appliance = setup.env("LD_PRELOAD", library.display()).env("JUMP", jump.display()).start();
    appliance.wait_for_workers();
    let (family, day) = (appliance.family(), 86_400);
    for shift in [day, -day, 365 * day, 0] {
        let mut waiting = begin_request(&appliance);
        let date = || appliance.get("/").header("date").map(|date| date[..16].to_owned());
        let before = date();
        // Never shorter than it is, because it is mapped.
        let file = OpenOptions::new().write(true).open(&jump).unwrap();
        file.write_all_at(&i64::to_ne_bytes(shift), 0).unwrap();
        assert_eq!(waiting.answer().status, 200);
        until("answers are of another day", || date() != before);
        assert!((0..20).all(|_| appliance.get("/").status == 200));
    }
    stand_still(2 * STALL);
    assert_all_live(&appliance, &family);
}
