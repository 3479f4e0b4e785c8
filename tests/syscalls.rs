//! What a request costs in system calls under load, when many requests can share each of them. Counts, unlike times, are the
//! same on a busy machine.
use crate::harness::{Appliance, Client, DEADLINE, Log, Process, Setup, free_ports, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Clients that always have a request open.
const CLIENTS: u32 = 64;
const REQUESTS_EACH: u32 = 100;
/// Most system calls of the proxy for each request. It has to read each request from its own client and to write each
/// answer to it; the rest is shared.
const PROXY: f64 = 3.0;
/// Likewise of the worker, whose only client is the proxy.
const WORKER: f64 = 0.6;

/// An `strace` that counts what one process does.
struct Counter {
    strace: Child,
    report: PathBuf,
}

impl Counter {
    /// Returns when counting has begun.
    #[track_caller]
    fn attach(appliance: &Appliance, process: &Process) -> Counter {
        let report = appliance.dir().path().join(format!("strace-{}", process.pid));
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-p", &process.pid.to_string(), "-o"]).arg(&report);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut strace = command.spawn().expect("this test needs strace, which `make test` installs");
        let said = Log::of(strace.stderr.take().unwrap());
        let settled = || (said.text().contains("attached") || said.is_closed()).then_some(());
        within(DEADLINE, settled);
        assert!(
            said.text().contains("attached"),
            "strace cannot attach to {process:?}; this test must run as root, or with kernel.yama.ptrace_scope=0: {}",
            said.text()
        );
        Counter { strace, report }
    }

    /// Ends counting; how often this system call was made since it began, or all of them together (`total`).
    #[track_caller]
    fn calls(mut self, name: &str) -> f64 {
        kill(Pid::from_raw(self.strace.id() as i32), Signal::SIGINT).unwrap();
        let ended = within(DEADLINE, || self.strace.try_wait().unwrap());
        let report = fs::read_to_string(&self.report).unwrap_or_default();
        assert!(ended.is_some(), "strace does not end; it has written {report}");
        // "100.00    0.98    15    62717    343 total": the number of calls is the fourth column.
        assert!(report.contains(" total"), "no total in {report:?}");
        let is_it = |line: &&str| line.split_whitespace().next_back() == Some(name);
        let calls = report.lines().find(is_it).and_then(|line| line.split_whitespace().nth(3));
        calls.map_or(0.0, |calls| calls.parse().unwrap())
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // Only if the test has failed; an strace that has ended is not harmed.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// Clients that ask without a pause; every answer must be right.
fn load(appliance: &Appliance) {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = appliance.client();
                for _ in 0..REQUESTS_EACH {
                    assert_eq!(client.get("/hello").text(), "hello");
                }
            });
        }
    });
}

#[test]
fn requests_share_system_calls() {
    let appliance = Setup::app("bodies:application").set("log.access", false).start();
    load(&appliance);
    let counters = ["proxy", "worker 1"].map(|role| Counter::attach(&appliance, &appliance.process(role)));
    load(&appliance);
    let [proxy, worker] = counters.map(|counter| counter.calls("total") / f64::from(CLIENTS * REQUESTS_EACH));
    assert!(
        proxy < PROXY && worker < WORKER,
        "system calls for each request: proxy {proxy:.2} (allowed {PROXY}), worker {worker:.2} (allowed {WORKER})"
    );
}

#[test]
fn a_file_is_sent_by_the_kernel_where_nothing_stands_between() {
    let large: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let setup = Setup::app("files:application");
    fs::write(setup.dir().path().join("large"), &large).unwrap();
    let files = setup.dir().path().display().to_string();
    let base = free_ports(2);
    let appliance = setup.env("FILES", files).set("native.base_port", base).start();
    let native = std::net::SocketAddr::from(([127, 0, 0, 1], base + 1));
    let ask = |mut client: Client| {
        for how in ["buffered", "sendfile/path"] {
            assert!(client.get(&format!("/{how}?name=large")).body == large, "other bytes");
        }
    };
    ask(appliance.client());
    for (client, is_direct) in [
        (Client::tcp(native).unwrap(), true),
        (appliance.worker_client(1), true),
        (appliance.client(), false),
    ] {
        let counter = Counter::attach(&appliance, &appliance.process("worker 1"));
        ask(client);
        assert_eq!(
            counter.calls("sendfile") >= 2.0,
            is_direct,
            "sendfile(2) on a direct connection: {is_direct}"
        );
    }
}
