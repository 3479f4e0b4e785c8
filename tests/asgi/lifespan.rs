//! What applications do before their first request and after their last.
use super::{bare, get};
use crate::harness::{Admin, DOORS, Door, Doors, ENGINES, Setup, until};
use std::fs;

#[test]
fn the_state_of_the_lifespan_is_every_request_s() {
    let appliance = bare().workers(2).start();
    for worker in [1, 2] {
        let mut client = appliance.worker_client(worker);
        let (first, second) = (client.get("/state").json(), client.get("/state").json());
        assert_eq!(first["started"], first["pid"], "each worker starts by itself");
        assert_eq!((&first["shared"], &second["shared"]), (&[1].into(), &[1, 2].into()));
        assert_eq!((&first["own"], &second["own"]), (&1.into(), &1.into()), "the state is copied");
    }
}

#[test]
fn a_worker_that_ends_says_so_to_its_application() {
    for engine in ["greenlet", "thread"] {
        let setup = bare().set("app.suspend", engine).workers(2);
        let farewell = setup.dir().path().join("farewell");
        let mut appliance = setup.env("FAREWELL", farewell.display()).start();
        appliance.wait_for_workers();
        appliance.stop();
        let said = fs::read_to_string(farewell).unwrap();
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}

/// As `asyncio.run()` does it for other servers.
#[test]
fn tasks_that_run_when_a_worker_ends_are_cancelled() {
    for engine in ENGINES {
        let setup = bare().set("app.suspend", engine).env("LINGERS", "yes");
        let farewell = setup.dir().path().join("farewell");
        let mut appliance = setup.env("FAREWELL", farewell.display()).start();
        appliance.stop();
        let said = fs::read_to_string(farewell).unwrap();
        let who: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(who, ["worker", "task"], "{engine:?}");
    }
}

/// The end of an appliance or a worker whose request does not end: it would be killed, and its worker with it before the
/// lifespan has ended. Its client keeps the connection as long as it can.
#[track_caller]
fn a_request_is_cancelled_when_the_time_is_over(door: Door, end: impl FnOnce(&mut Doors)) {
    let setup = bare().set("timeouts.graceful", "4s");
    let farewell = setup.dir().path().join("farewell");
    let mut doors = Doors::open(setup.env("FAREWELL", farewell.display()));
    let mut client = doors.client(door);
    get(&mut client, "/lingers");
    until("it runs", || doors.appliance.get("/sent").text().contains("began"));
    end(&mut doors);
    assert_eq!(client.answer().status, 500);
    until("both have said goodbye", || {
        let said = fs::read_to_string(&farewell).unwrap_or_default();
        ["request", "worker"].into_iter().eq(said.lines().filter_map(|line| line.split(' ').next()))
    });
    let log = doors.appliance.log.text();
    assert!(log.contains("timeouts.graceful is nearly over") && !log.contains("killed"), "{log}");
}

#[test]
fn requests_that_run_at_the_end_of_a_reload_are_cancelled() {
    for door in DOORS {
        a_request_is_cancelled_when_the_time_is_over(door, |doors| {
            assert_eq!(doors.appliance.tell(&["reload"]).0, Some(0));
        });
    }
}

/// The proxy goes first, and waits for them.
#[test]
fn requests_that_run_at_the_end_of_a_stop_are_cancelled() {
    for door in DOORS {
        a_request_is_cancelled_when_the_time_is_over(door, |doors| {
            assert_eq!(doors.appliance.stop(), Some(0));
        });
    }
}

/// It would begin when the others are gone, and be killed.
#[test]
fn a_request_that_has_waited_for_a_core_until_then_is_cancelled_too() {
    let setup = bare().set("timeouts.graceful", "4s").set("workers.cores", 1);
    let (setup, admin) = Admin::of(setup);
    let doors = Doors::open(setup);
    let mut clients = [doors.client(Door::Native), doors.client(Door::Native)];
    clients.iter_mut().for_each(|client| get(client, "/lingers"));
    until("one runs, one waits", || ["busy", "waiting"].map(|name| admin.workers(name)) == [1, 1]);
    assert_eq!(doors.appliance.tell(&["reload"]).0, Some(0));
    assert_eq!(clients.map(|mut client| client.answer().status), [500, 500]);
    assert!(!doors.appliance.log.text().contains("killed"), "{}", doors.appliance.log.text());
}

#[test]
fn a_start_that_fails_is_told_with_its_reason() {
    for (app, fails, reason) in [
        ("asgi_bare:app", "message", "the database is not there"),
        ("asgi_starlette:app", "raises", "RuntimeError: no database on purpose"),
    ] {
        let refusal = Setup::app(app).env("FAILS", fails).refused();
        assert_eq!(refusal.code, Some(1), "{}", refusal.text);
        assert!(refusal.text.contains(reason), "{}", refusal.text);
        assert!(refusal.text.contains("the application refuses to start in this worker"), "{}", refusal.text);
    }
}

#[test]
fn a_lifespan_that_fails_while_its_worker_serves_is_told_with_its_reason() {
    let appliance = Setup::app("asgi_starlette:app").env("FAILS", "later").start();
    until("it is said", || appliance.log.text().contains("the application's lifespan has ended"));
    assert_eq!(appliance.get("/").text(), "hello");
    let log = appliance.log.text();
    assert!(log.contains("RuntimeError: in a task of the lifespan"), "{log}");
    assert!(!log.contains("nobody has asked"), "{log}");
}

#[test]
fn an_application_without_lifespan_is_served_all_the_same() {
    let code = "
async def application(scope, receive, send):
    assert scope['type'] == 'http'
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    await send({'type': 'http.response.body', 'body': b'served'})
";
    let appliance = Setup::code(code).start();
    assert_eq!(appliance.get("/").text(), "served");
    until("it is said", || appliance.log.text().contains("does not take part in ASGI's lifespan"));
}
