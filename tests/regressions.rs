//! What once went wrong and must not again, each on the connection where it did: a worker's own socket, so that no proxy
//! repairs it.
use crate::harness::{Appliance, Setup, until};
use nix::sys::signal::Signal;

fn start(cores: u32) -> Appliance {
    Setup::app("regressions:application").set("workers.cores", cores).start()
}

#[track_caller]
fn assert_says(target: &str, expected: &str) {
    let appliance = start(4);
    let answer = appliance.worker_client(1).get(target);
    assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{}", appliance.log.text());
}

#[test]
fn timers_are_on_time_after_asyncio_has_cleared_out_cancelled_ones() {
    assert_says("/many_cancelled_timers", "True");
}

#[test]
fn a_loop_with_cancelled_timers_does_not_spin() {
    let appliance = start(4);
    appliance.worker_client(1).get("/many_cancelled_timers");
    assert_eq!(appliance.worker_client(1).get("/cpu_time").text(), "True");
}

#[test]
fn a_wait_that_was_announced_and_forgotten_leaves_no_descriptor() {
    let appliance = start(4);
    // The proxy's link has its descriptor from now on.
    appliance.client().get("/descriptors");
    let mut client = appliance.worker_client(1);
    let before = client.get("/descriptors").text();
    for _ in 0..5 {
        client.get("/announced_and_forgotten");
    }
    assert_eq!(client.get("/descriptors").text(), before);
}

#[test]
fn two_greenlets_of_one_request_may_wait() {
    assert_says("/two_greenlets_wait", "['child']");
}

#[test]
fn ready_fd_forgets_the_wait_before() {
    assert_says("/ready_fd", "(True, -1)");
}

#[test]
fn a_late_wake_up_does_not_end_the_next_wait() {
    assert_says("/late_wake_up", "True");
}

#[test]
fn a_body_may_be_read_in_a_thread() {
    let appliance = start(4);
    assert_eq!(appliance.worker_client(1).post("/read_in_a_thread", "abc").text(), "'abc'");
}

#[test]
fn a_callback_that_would_wait_does_not_take_the_wake_up_of_its_request() {
    let appliance = start(4);
    let mut client = appliance.worker_client(1);
    // More than is buffered before the request gets its core, and not all of it.
    client.send("POST /wait_in_the_hub HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    assert_eq!(client.answer().text(), "1", "{}", appliance.log.text());
}

#[test]
fn sendfile_closes_what_the_application_returned() {
    let appliance = start(4);
    let mut client = appliance.worker_client(1);
    assert_eq!(client.get("/sendfile").text(), "What");
    assert_eq!(client.get("/closes").text(), "['closed']");
}

#[test]
fn a_head_request_for_an_endless_body_ends() {
    let appliance = start(2);
    for _ in 0..3 {
        let mut client = appliance.worker_client(1);
        client.send("HEAD /endless HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.answer_to_head().status, 200);
    }
    assert_eq!(appliance.get("/pause").status, 200, "both cores are free again");
}

#[test]
fn a_free_core_takes_the_next_request_although_the_last_client_has_gone() {
    // A client that only sends no more counts as one that has left.
    let setup = Setup::app("regressions:application").set("workers.cores", 1);
    let appliance = setup.set("app.cancel_on_disconnect", false).start();
    let started = std::time::Instant::now();
    let mut clients: Vec<_> = (0..5).map(|_| appliance.worker_client(1)).collect();
    for client in &mut clients {
        client.send("GET /pause HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        client.finish();
    }
    assert!(clients.iter_mut().all(|client| client.answer().status == 200));
    assert!(started.elapsed().as_millis() < 1_500, "{:?} for five pauses of 0.1 s", started.elapsed());
}

#[test]
fn an_answer_that_is_still_leaving_survives_the_worker_being_told_to_stop() {
    const SIZE: usize = 300_000;
    let appliance = start(4);
    let mut client = appliance.worker_client(1);
    client.send(format!("GET /large?{SIZE} HTTP/1.1\r\nHost: test\r\n\r\n"));
    let worker = appliance.process("worker 1");
    until("the application is through", || appliance.get("/descriptors").status == 200);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker.pid), Signal::SIGTERM).unwrap();
    let told = std::time::Instant::now();
    until("idle connections would be closed by now", || told.elapsed().as_millis() > 600);
    assert_eq!(client.answer().body.len(), SIZE);
    appliance.successor(&worker);
}
