//! The listener of each worker's own, bound after the fork: by the engine, or by the application in `@postfork`.
use crate::harness::{Appliance, Client, Setup, free_ports, until};
use nix::sys::signal::Signal;
use std::net::SocketAddr;

fn start(app: &str, workers: u32) -> (Appliance, u16) {
    let base = free_ports(workers as u16 + 1);
    let setup = Setup::app(app).workers(workers).env("BASE_PORT", base);
    let setup = if app.starts_with("facts") { setup.set("native.base_port", base) } else { setup };
    (setup.start(), base)
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// A connection to a worker's listener; waits until it listens.
#[track_caller]
fn connect(port: u16) -> Client {
    until("the worker listens", || Client::tcp(address(port)).is_ok());
    Client::tcp(address(port)).unwrap()
}

#[test]
fn each_port_answers_from_its_worker() {
    let (appliance, base) = start("facts:application", 3);
    for worker in 1..=3 {
        for _ in 0..3 {
            let facts = connect(base + worker).get("/").json();
            assert_eq!(facts["worker"], worker);
            assert_eq!(facts["pid"], appliance.process(&format!("worker {worker}")).pid);
        }
    }
}

#[test]
fn the_client_is_whoever_connected_and_nobody_else_can_be_claimed() {
    let (_appliance, base) = start("facts:application", 1);
    let lines =
        "X-Appliance-Peer: 192.0.2.1:99\r\nX-Appliance-Scheme: https\r\nX-Appliance-Server: evil:1\r\n";
    let mut client = connect(base + 1);
    let environ = client.get_with("/environ", lines).json();
    assert_eq!(environ["REMOTE_ADDR"], "127.0.0.1");
    assert_eq!(environ["REMOTE_PORT"], client.local().port().to_string());
    assert_eq!((&environ["wsgi.url_scheme"], &environ["SERVER_NAME"]), (&"http".into(), &"127.0.0.1".into()));
    assert_eq!(environ["SERVER_PORT"], (base + 1).to_string());
    assert!(environ.as_object().unwrap().keys().all(|key| !key.contains("APPLIANCE")), "{environ}");
}

#[test]
fn a_killed_worker_s_port_is_answered_by_its_successor() {
    let (appliance, base) = start("facts:application", 2);
    appliance.wait_for_workers();
    let before = appliance.process("worker 1");
    before.signal(Signal::SIGKILL);
    let successor = appliance.successor(&before);
    let facts = connect(base + 1).get("/").json();
    assert_eq!((&facts["worker"], &facts["pid"]), (&1.into(), &successor.pid.into()));
    assert_eq!(connect(base + 2).get("/").json()["worker"], 2);
}

#[test]
fn a_reload_leaves_no_moment_without_a_listener() {
    let (appliance, base) = start("facts:application", 1);
    let before = connect(base + 1).get("/").json()["pid"].clone();
    appliance.signal(Signal::SIGHUP);
    until("the successor answers", || connect(base + 1).get("/").json()["pid"] != before);
    appliance.log.event("the end of the reload", |event| event["message"] == "reloaded");
    assert_eq!(connect(base + 1).get("/").json()["worker"], 1);
}

#[test]
fn tornado_listens_in_every_worker_on_the_loop_that_serves_wsgi() {
    let (appliance, base) = start("tornado_native:application", 2);
    for worker in 1..=2 {
        assert_eq!(connect(base + worker).get("/").text(), format!("tornado in worker {worker}"));
        let answer = appliance.worker_client(u32::from(worker)).get("/");
        assert_eq!(answer.text(), format!("tornado in worker {worker}"));
        assert_eq!(answer.header("x-answers"), Some("2"), "both sides share their memory");
    }
    assert_eq!(appliance.get("/loops").text(), "[True, True]");
}

#[test]
fn no_native_listener_is_there_unless_asked_for() {
    let base = free_ports(2);
    let _appliance = Setup::app("facts:application").start();
    assert!(Client::tcp(address(base + 1)).is_err());
}
