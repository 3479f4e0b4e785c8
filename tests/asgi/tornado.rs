//! A Tornado application on the workers' own listeners, by `native.app`.
use crate::harness::{Appliance, Client, Setup, free_ports, until};

fn start(app: &str, change: impl FnOnce(Setup) -> Setup) -> (Appliance, u16) {
    let base = free_ports(3);
    let setup = Setup::app("tornado_app:application").workers(2);
    let setup = setup.set("native.base_port", base).set("native.app", app);
    (change(setup).start(), base)
}

fn connect(port: u16) -> Client {
    let address = ([127, 0, 0, 1], port).into();
    until("the worker listens", || Client::tcp(address).is_ok());
    Client::tcp(address).unwrap()
}

#[test]
fn each_worker_serves_it_beside_wsgi() {
    for (app, engine) in [("tornado:tornado_app:make_app", "greenlet"), ("tornado:tornado_app:app", "thread")]
    {
        let (appliance, base) = start(app, |setup| setup.set("app.suspend", engine));
        for worker in 1..=2 {
            let pid = connect(base + worker).get("/0.01").json()["pid"].to_string();
            assert_eq!(appliance.worker_client(worker.into()).get("/").text(), pid);
        }
    }
}

#[test]
fn its_requests_end_before_their_worker() {
    let (mut appliance, base) = start("tornado:tornado_app:make_app", |setup| setup);
    let (mut busy, mut idle) = (connect(base + 1), connect(base + 1));
    assert!(idle.get("/").json()["pid"].is_u64());
    busy.send("GET /1 HTTP/1.1\r\nHost: test\r\n\r\n");
    let stopping = std::thread::spawn(move || appliance.stop());
    assert!(busy.answer().json()["pid"].is_u64());
    assert!(idle.is_closed());
    assert_eq!(stopping.join().unwrap(), Some(0));
}

#[test]
fn what_cannot_be_made_stops_the_start() {
    let setup = Setup::app("tornado_app:application").env("FAILS", 1).set("native.base_port", free_ports(2));
    let refusal = setup.set("native.app", "tornado:tornado_app:make_app").refused();
    assert_eq!(refusal.code, Some(1), "{}", refusal.text);
    assert!(refusal.text.contains("RuntimeError: cannot be made"), "{}", refusal.text);
}
