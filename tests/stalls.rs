//! A loop that stands still is shown in the log with its stack, once, whatever keeps it: Python code, a system call, or C code
//! that keeps the interpreter's lock. A worker that was stopped, or has nothing to do, is no stall.
use crate::harness::{Appliance, Client, Setup, until, venvs};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

const STALLED: &str = "the loop has stood still for";
const GOES_ON: &str = "the loop goes on after";

fn setup() -> Setup {
    Setup::app("late:application").set("timeouts.stall", "300ms").set("timeouts.hang", 0)
}

fn count(appliance: &Appliance, what: &str) -> usize {
    appliance.log.text().matches(what).count()
}

#[test]
fn it_is_shown_once_with_its_stack_whatever_keeps_it_on_every_python() {
    for venv in venvs() {
        let appliance = setup().venv(Some(venv)).start();
        let python = "in application\\n";
        for (n, target) in (1..).zip(["/block?1.5", "/deaf?1500000"]) {
            assert_eq!(appliance.get(target).status, 200);
            appliance.log.wait_for(&format!("in GET {target} (core "));
            until("it goes on", || count(&appliance, GOES_ON) == n);
            assert_eq!(count(&appliance, STALLED), n, "{}", appliance.log.text());
        }
        assert!(count(&appliance, python) + count(&appliance, "in deaf") > 0, "{}", appliance.log.text());
        assert!(appliance.log.text().contains("in deaf"), "also with the lock kept in C");
    }
}

#[test]
fn neither_a_stopped_worker_nor_an_idle_one_stands_still() {
    let appliance = setup().start();
    appliance.get("/quick");
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    until("it was stopped for long", || stopped.elapsed() > Duration::from_secs(2));
    worker.signal(Signal::SIGCONT);
    assert_eq!(appliance.get("/quick").text(), "quick");
    assert_eq!(appliance.get("/wait?1").text(), "waited");
    assert_eq!(count(&appliance, STALLED), 0, "{}", appliance.log.text());
}

#[test]
fn an_application_that_resets_all_signals_is_not_killed_by_ours() {
    let code = r#"
import signal, time
def application(environ, start_response):
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM}:
        signal.signal(number, signal.SIG_DFL)
    time.sleep(1.5)
    start_response("200 OK", [])
    return [b"alive"]
"#;
    let limits = |setup: Setup| setup.set("timeouts.stall", "300ms").set("timeouts.request", "500ms");
    let appliance = limits(Setup::code(code)).start();
    let mut client: Client = appliance.client();
    // Nobody can interrupt it; what comes afterwards is its own answer.
    assert_eq!(client.get("/").text(), "alive");
    appliance.log.wait_for("the application has taken away the handler");
}
