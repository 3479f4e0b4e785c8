//! How an appliance ends when it is told to: first it says that it leaves, then it finishes, and it never takes longer than it
//! was given; also as the first process of a container.
use crate::harness::{
    Admin, Client, DEADLINE, Dir, Process, Setup, default_venv, descendants, until, within,
};
use nix::sys::signal::Signal;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn it_serves_on_and_is_not_ready_before_it_stops() {
    let (setup, admin) = Admin::of(Setup::app("facts:application"));
    let mut appliance = setup.set("timeouts.drain_delay", "2s").start();
    let began = Instant::now();
    appliance.signal(Signal::SIGTERM);
    appliance.log.wait_for("leaving");
    let ready = within(DEADLINE, || (admin.get("/readyz").status == 503).then_some(()));
    assert!(ready.is_some(), "it still says that it is ready");
    assert_eq!(appliance.get("/").status, 200, "it serves on");
    assert_eq!(appliance.wait(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_second_signal_does_not_wait_for_that() {
    let mut appliance = Setup::app("facts:application").set("timeouts.drain_delay", "1h").start();
    appliance.signal(Signal::SIGTERM);
    appliance.log.wait_for("leaving");
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(appliance.stop(), Some(0));
}

#[test]
fn it_never_takes_longer_than_it_was_given() {
    let setup = Setup::app("facts:application").set("timeouts.graceful", "1s");
    let mut appliance = setup.set("timeouts.drain_delay", "1s").start();
    let mut client = appliance.client();
    client.send("GET /sleep?s=60 HTTP/1.1\r\nHost: test\r\n\r\n");
    appliance.output.wait_for("begun");
    let began = Instant::now();
    assert_eq!(appliance.stop(), Some(0));
    // Half a second for last words, and some for a machine that is busy.
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(client.try_answer().is_err() || appliance.log.text().contains("graceful"));
}

/// Leaves an orphan behind that ends a moment later.
const ORPHANS: &str = "import subprocess\ndef application(environ, start_response):\n    \
    subprocess.run(['sh', '-c', 'sleep 0.1 &'])\n    start_response('200 OK', [])\n    return [b'ok']\n";

/// `unshare` that makes the appliance process 1 of a process namespace; killed with the value, and all in it.
struct Container(Child);

impl Container {
    /// `None` where the kernel does not let us make one.
    fn start(dir: &Dir) -> Option<Container> {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
            return None;
        }
        dir.write("webapp.py", ORPHANS);
        let mut command = unshare();
        command.arg(env!("CARGO_BIN_EXE_appliance")).args(["run", "webapp:application", "--workers", "2"]);
        command.arg("--listen").arg(format!("unix:{}", dir.path().join("web.sock").display()));
        command.arg("--set").arg(format!("admin.run_dir={}", dir.path().join("run").display()));
        command.arg("--venv").arg(default_venv()).current_dir(dir.path());
        Some(Container(command.spawn().unwrap()))
    }

    fn family(&self) -> Vec<Process> {
        descendants(self.0.id() as i32)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn as_process_1_it_reaps_orphans_reloads_and_ends_with_0() {
    let dir = Dir::new();
    let Some(mut container) = Container::start(&dir) else {
        return eprintln!("unshare is not permitted here; nothing was tested");
    };
    let socket = dir.path().join("web.sock");
    let connect = || Client::unix(&socket).ok();
    let mut client = within(DEADLINE, connect).unwrap();
    assert_eq!(client.get("/").status, 200);
    until("the orphan is reaped", || {
        let family = container.family();
        !family.iter().any(|process| process.is_zombie || process.title.starts_with("sleep"))
    });
    let master = container.family().into_iter().find(|process| process.title == "appliance: master").unwrap();
    let workers = |family: Vec<Process>| -> Vec<i32> {
        family
            .iter()
            .filter(|process| process.title.starts_with("appliance: worker"))
            .map(|process| process.pid)
            .collect()
    };
    let before = workers(container.family());
    master.signal(Signal::SIGHUP);
    until("the workers are replaced", || {
        let now = workers(container.family());
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    });
    assert_eq!(connect().unwrap().get("/").status, 200);
    master.signal(Signal::SIGTERM);
    let ended = within(DEADLINE, || container.0.try_wait().unwrap()).expect("it does not end");
    assert_eq!(ended.code(), Some(0));
}
