//! A request that takes longer than `timeouts.request`, or than it has allowed itself, ends alone: with 504, a line in the log
//! that shows where it was, and nobody else hurt. The application in `apps/late.py` takes too long in every way it can.
use crate::harness::{Answer, Appliance, Client, DOORS, Doors, Setup, default_venv, until, venvs};
use std::time::{Duration, Instant};

/// The limit in most tests; long enough that a quick request on a busy machine is not overdue.
const LIMIT: &str = "300ms";
/// Within this time whatever is overdue must be ended, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn setup() -> Setup {
    Setup::app("late:application").set("timeouts.request", LIMIT).set("timeouts.stall", 0)
}

/// What the application has noted since it was last asked.
fn noted(appliance: &Appliance) -> Vec<String> {
    appliance.get("/log").text().lines().map(str::to_owned).collect()
}

fn send(client: &mut Client, name: &str) {
    client.send(format!("GET /{name} HTTP/1.1\r\nHost: test\r\n\r\n"));
}

/// The answer to a request that takes too long; it must come soon.
#[track_caller]
fn late(client: &mut Client, name: &str) -> Answer {
    let began = Instant::now();
    let answer = client.get(&format!("/{name}"));
    assert!(began.elapsed() < SOON, "/{name}: {:?}", began.elapsed());
    answer
}

#[track_caller]
fn reason(appliance: &Appliance, path: &str) -> String {
    let line = appliance.log.access(path);
    line["reason"].as_str().unwrap_or("none").to_owned()
}

#[test]
fn it_is_ended_wherever_it_is_on_every_python() {
    for venv in venvs() {
        let doors = Doors::open(setup().venv(Some(venv)));
        let waits = ["sleeping", "descriptor", "awaiting"];
        let keeps = ["looping", "blocking", "locked", "receiving", "selecting"];
        for name in waits.into_iter().chain(keeps) {
            for door in DOORS {
                let answer = late(&mut doors.client(door), name);
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (504, "the request took longer than it may\n")
                );
                let expected = [format!("{name} began"), format!("{name}: appliance.RequestTimeout")];
                assert_eq!(noted(&doors.appliance), expected);
            }
            assert_eq!(reason(&doors.appliance, &format!("/{name}")), "request-timeout");
            doors.appliance.log.wait_for(&format!("GET /{name} (core "));
            doors.appliance.log.wait_for(&format!(", in {name}\\n"));
        }
    }
}

#[test]
fn among_fifty_others_only_it_fails() {
    let appliance = setup().set("timeouts.request", "3s").start();
    for stuck in ["sleeping", "looping", "blocking"] {
        let mut late = appliance.client();
        let mut others: Vec<Client> = (0..50).map(|_| appliance.client()).collect();
        for client in &mut others {
            send(client, "wait?0.2");
        }
        send(&mut late, stuck);
        // It may keep the loop while the others become overdue too: they get their turn first.
        let answers: Vec<u16> = others.iter_mut().map(|client| client.answer().status).collect();
        assert_eq!((answers, late.answer().status), (vec![200; 50], 504), "{stuck}");
    }
}

#[test]
fn one_that_keeps_the_loop_is_not_ended_for_one_that_waits() {
    let appliance = setup().set("timeouts.request", "2s").start();
    let (mut waits, mut keeps) = (appliance.client(), appliance.client());
    send(&mut waits, "sleeping");
    until("it waits", || noted(&appliance) == ["sleeping began"]);
    until("its time is nearly over", || appliance.get("/wait?1.2").status == 200);
    // While this one has the loop, the other becomes overdue.
    send(&mut keeps, "block?1.5");
    assert_eq!((keeps.answer().text().as_str(), waits.answer().status), ("blocked", 504));
}

#[test]
fn whoever_catches_it_answers_for_itself() {
    let doors = Doors::open(setup());
    for door in DOORS {
        let answer = late(&mut doors.client(door), "caught");
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "caught: the request took longer than it may")
        );
    }
    assert_eq!(reason(&doors.appliance, "/caught"), "none");
}

#[test]
fn whoever_swallows_it_is_told_again() {
    let appliance = setup().start();
    assert_eq!(late(&mut appliance.client(), "stubborn").status, 504);
    let swallowed = "stubborn: swallowed";
    let expected = ["stubborn began", swallowed, swallowed, "stubborn: appliance.RequestTimeout"];
    assert_eq!(noted(&appliance), expected);
    let said = "has not ended with appliance.RequestTimeout";
    assert_eq!(appliance.log.text().matches(said).count(), 1, "once");
}

#[test]
fn an_answer_that_has_begun_is_cut() {
    let doors = Doors::open(setup());
    for door in DOORS {
        let mut client = doors.client(door);
        send(&mut client, "streamed");
        let received = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(received.contains("begun") && !received.ends_with("0\r\n\r\n"), "{received}");
    }
    assert_eq!(reason(&doors.appliance, "/streamed"), "request-timeout");
}

#[test]
fn a_request_may_limit_itself() {
    let appliance = setup().set("timeouts.request", 0).start();
    for name in ["own", "decorated"] {
        assert_eq!(late(&mut appliance.client(), name).status, 504);
        assert_eq!(noted(&appliance), [format!("{name} began"), format!("{name}: appliance.RequestTimeout")]);
    }
    assert_eq!(appliance.get("/taken_back").text(), "done");
}

#[test]
fn a_body_that_never_comes_is_not_waited_for() {
    let doors = Doors::open(setup().set("limits.body_buffer", "1KiB"));
    for door in DOORS {
        let mut client = doors.client(door);
        client.send("POST /reading HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
        client.send("x".repeat(2000));
        assert_eq!(client.answer().status, 504);
    }
}

#[test]
fn on_a_thread_the_client_is_answered_at_once_and_the_core_is_free_afterwards() {
    let setup = setup().set("app.suspend", "thread").set("workers.cores", 4);
    let doors = Doors::open(setup.venv(Some(default_venv())));
    for name in ["sleeping", "looping", "awaiting", "reading", "block?3"] {
        for door in DOORS {
            let mut client = doors.client(door);
            if name == "reading" {
                client.send("POST /reading HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
                client.send("x".repeat(80_000));
                assert_eq!(client.answer().status, 504);
            } else {
                assert_eq!(late(&mut client, name).status, 504, "{name}");
            }
        }
        let path = format!("/{name}");
        assert_eq!(reason(&doors.appliance, &path), "request-timeout");
    }
    until("the threads are free", || {
        let (answers, _) = doors.appliance.get_all(&["/wait?0.1"; 4]);
        answers.iter().all(|answer| answer.status == 200)
    });
}

#[test]
fn an_exception_for_one_request_never_reaches_the_next_on_its_thread() {
    let setup = setup().set("app.suspend", "thread").set("workers.cores", 1);
    let appliance = setup.set("timeouts.request", "300ms").start();
    for n in 0..20 {
        // Around the limit: the exception comes before, at and after the end.
        let pause = 0.25 + f64::from(n) * 0.005;
        let status = appliance.get(&format!("/block?{pause}")).status;
        assert!([200, 504].contains(&status), "{status}");
        until("its thread is back", || appliance.get("/quick").text() == "quick");
    }
    assert!(!appliance.log.text().contains("exception in the application"), "{}", appliance.log.text());
}

#[test]
fn an_exception_for_a_request_that_never_began_reaches_nobody() {
    let code = "\
import ctypes, threading, time
usleep = ctypes.PyDLL(None).usleep
def hold():
    time.sleep(0.05)
    usleep(600_000)
def application(environ, start_response):
    if environ['PATH_INFO'] == '/hold':
        threading.Thread(target=hold).start()
    start_response('200 OK', [])
    return [b'quick']
";
    let setup = Setup::code(code).set("app.suspend", "thread").set("workers.cores", 2);
    let appliance = setup.set("timeouts.request", LIMIT).set("timeouts.stall", 0).start();
    for _ in 0..5 {
        // The interpreter's lock is kept beside the requests, so that this one is overdue before its thread can begin.
        let mut late = appliance.client();
        assert_eq!(appliance.get("/hold").status, 200);
        std::thread::sleep(Duration::from_millis(100));
        send(&mut late, "late");
        let status = late.answer().status;
        assert!([200, 504].contains(&status), "{status}");
        for _ in 0..4 {
            assert_eq!(appliance.get("/next").status, 200);
        }
    }
}
