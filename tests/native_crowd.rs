//! Ten thousand native requests that wait in one worker, which come as streams of one link, as the proxy sends them, so that
//! neither side needs as many descriptors; and one request that never waits.
use crate::harness::until;
use crate::link::client::Link;
use crate::native_apps::setup;

const COUNT: u32 = 10_000;

#[test]
fn ten_thousand_handlers_wait_in_one_worker() {
    let appliance = setup().set("workers.cores", COUNT + 1).start();
    let before = appliance.process("worker 1");
    let mut link = Link::open(&appliance.socket(1), 4096);
    for id in 1..=COUNT {
        link.get(id, "/until");
    }
    until("all of them wait", || appliance.get("/waiting").text() == format!("{COUNT}\n"));
    assert_eq!(appliance.get("/go").status, 200);
    for id in 1..=COUNT {
        let answer = link.answer(id);
        assert_eq!((answer.status, answer.text().as_str()), (200, "gone\n"), "stream {id}");
    }
    assert_eq!(appliance.process("worker 1").pid, before.pid);
}

#[test]
fn a_request_that_never_waits_lets_the_others_have_their_turn() {
    // Nearly all of the body is read while the handler runs.
    let appliance = setup().set("limits.body_buffer", "1B").start();
    let socket = appliance.socket(1);
    for what in ["body", "answer", "from-server", "to-server"] {
        let answer =
            appliance.worker_client(1).post(&format!("/greedy/{what}?{}", socket.display()), [b'x'; 1000]);
        assert!(answer.text().ends_with("true\n"), "{what}");
    }
}
