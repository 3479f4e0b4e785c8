//! Clients that send a request body too slowly, by the rate on the whole: they are given up, and nobody is blamed for the
//! slowness of somebody else.
use crate::bodies::{assert_same, pattern};
use crate::harness::{Appliance, Client, Setup, until, within};
use std::time::{Duration, Instant};

/// What a body may be late in all. A drip comes much more often, so no pause is as long.
const LATE: &str = "500ms";
/// What it takes at most, on a busy machine, until such a client is given up; far from every default.
const SOON: Duration = Duration::from_secs(10);

fn start() -> Appliance {
    Setup::app("bodies:application").set("timeouts.body", LATE).set("limits.body_rate", "1KiB").start()
}

/// Sends one `drip` after the other until the server has closed the connection; what it has said.
#[track_caller]
fn dripped(mut client: Client, drip: &str) -> String {
    let ended = within(SOON, || {
        client.send(drip);
        client.arrived_within(Duration::from_millis(20));
        client.is_ended().then_some(())
    });
    assert!(ended.is_some(), "the connection is still open");
    String::from_utf8_lossy(&client.rest()).into_owned()
}

#[test]
fn a_body_that_drips_is_given_up() {
    let appliance = start();
    let heads = [
        ("Content-Length: 1000000", "x"),
        ("Transfer-Encoding: chunked", "1\r\nx\r\n"),
        // On the way that pingora takes.
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1000000", "x"),
    ];
    for (index, (fields, drip)) in heads.into_iter().enumerate() {
        let mut client = appliance.client();
        client.send(format!("POST /echo/whole?{index} HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n"));
        let said = dripped(client, drip);
        assert!(said.starts_with("HTTP/1.1 408 "), "{fields}: {said}");
        let target = format!("/echo/whole?{index}");
        let line = appliance.log.event("the request", |event| event["path"] == target.as_str());
        assert_eq!((&line["status"], &line["reason"]), (&408.into(), &"slow-body".into()), "{line}");
    }
}

#[test]
fn a_body_that_is_fast_enough_may_take_its_time() {
    let appliance = start();
    let (body, began) = (pattern(30_000), Instant::now());
    let mut client = appliance.client();
    client.send(format!("POST /echo/whole HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    let (last, pieces) = body.split_last().unwrap();
    for piece in pieces.chunks(500) {
        client.send(piece);
        assert!(client.arrived_within(Duration::from_millis(20)).is_empty(), "it was given up");
    }
    client.send([*last]);
    assert!(began.elapsed() > Duration::from_millis(500), "this was to take longer than a pause may");
    assert_same(&client.answer().body, &body, "a body that came in many pieces");
}

#[test]
fn a_client_is_not_blamed_for_an_application_that_does_not_read() {
    let appliance = start();
    let (body, release) = (pattern(1_000_000), appliance.dir().path().join("release"));
    let mut client = appliance.client();
    let target = format!("/held/whole?until={}", release.display());
    client.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    let sender = std::thread::scope(|scope| {
        let began = Instant::now();
        let sender = scope.spawn(move || {
            client.send(pattern(1_000_000));
            client
        });
        until("several times the patience has passed", || began.elapsed() > Duration::from_secs(2));
        std::fs::write(&release, "").unwrap();
        sender.join()
    });
    assert_same(&sender.unwrap().answer().body, &body, "an upload that nobody took for long");
}

#[test]
fn time_in_which_the_answer_leaves_is_not_waiting_for_the_body() {
    const CODE: &str = "
def application(environ, start):
    start('200 OK', [])
    for _ in range(20):
        yield bytes(1_000_000)
    yield environ['wsgi.input'].read()[-10:]
";
    let setup = Setup::code(CODE).set("timeouts.body", "1s").set("limits.body_rate", "1GiB");
    let appliance = setup.start();
    let mut client = appliance.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 100010\r\n\r\n");
    client.send(pattern(100_000));
    let began = Instant::now();
    until("more than the patience has passed", || began.elapsed() > Duration::from_secs(2));
    client.send("01234");
    until("most of the answer has come", || {
        client.arrived_within(Duration::from_millis(20)).len() > 20_000_000
    });
    client.send("56789");
    assert!(client.rest().ends_with(b"0123456789\r\n0\r\n\r\n"), "the body was given up");
}
