//! Clients and applications that take their time over large bodies: each holds back its own request and nothing else. The
//! others are served meanwhile, memory stays bounded, and the slow one gets everything in the end.
use crate::bodies::{assert_same, pattern};
use crate::harness::{Appliance, Client, Process, Setup, under_load, until};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Bytes of a large body; more than sockets, frames and windows can hold together.
const LARGE: usize = 20_000_000;
/// What the proxy and a worker may grow by while several large bodies are held back.
const GROWTH: u64 = 40 << 20;
/// A number that has not changed for so long has stopped changing.
const STILL: Duration = Duration::from_millis(300);

struct Memory {
    processes: Vec<(Process, u64)>,
}

impl Memory {
    /// What the proxy and the worker use now, when they have served something.
    #[track_caller]
    fn of(appliance: &Appliance) -> Memory {
        appliance.client().post("/echo/whole", pattern(1_000_000));
        let processes = ["proxy", "worker 1"].map(|role| appliance.process(role));
        Memory {
            processes: processes.into_iter().map(|process| (process.clone(), process.resident())).collect(),
        }
    }

    #[track_caller]
    fn assert_bounded(&self) {
        for (process, before) in &self.processes {
            let grown = process.resident().saturating_sub(*before);
            assert!(grown < GROWTH, "{} has grown by {grown} bytes from {before}", process.title);
        }
    }
}

fn start() -> Appliance {
    Setup::app("bodies:application").set("limits.body", "32MiB").start()
}

/// Many fast requests, none of which may fail or wait for the slow ones.
#[track_caller]
fn assert_others_are_served(appliance: &Appliance) {
    let (served, failures) = under_load(appliance, || {
        let mut client = appliance.client();
        for _ in 0..50 {
            assert_eq!(client.get("/fast").text(), "fast");
            assert_same(
                &client.post("/echo/pieces", pattern(100_000)).body,
                &pattern(100_000),
                "beside slow ones",
            );
        }
    });
    assert!(failures.is_empty() && served > 0, "{served} served, but {failures:?}");
}

#[test]
fn readers_that_are_slow_hold_up_only_themselves() {
    read_slowly(&start());
}

/// Large answers to clients that pause, beside others that do not.
pub fn read_slowly(appliance: &Appliance) {
    let memory = Memory::of(appliance);
    let forms = ["pieces", "announced-pieces", "whole", "announced"];
    let mut slow: Vec<Client> = forms.iter().map(|_| appliance.client()).collect();
    for (client, form) in slow.iter_mut().zip(forms) {
        client.send(format!("GET /give/{form}?size={LARGE} HTTP/1.1\r\nHost: test\r\n\r\n"));
        until("the answer has begun", || !client.arrived_within(Duration::from_millis(100)).is_empty());
    }
    assert_others_are_served(appliance);
    memory.assert_bounded();
    for (client, form) in slow.iter_mut().zip(forms) {
        assert_same(&client.answer().body, &pattern(LARGE), form);
    }
    memory.assert_bounded();
}

#[test]
fn a_generator_is_not_asked_for_more_than_its_client_takes() {
    let appliance = start();
    let mut slow = appliance.client();
    slow.send(format!("GET /give/pieces?size={LARGE} HTTP/1.1\r\nHost: test\r\n\r\n"));
    let mut client = appliance.client();
    let (last, since) = (Cell::new(0), Cell::new(Instant::now()));
    until("the generator is asked no more", || {
        let given = client.get("/given").text().parse().unwrap();
        if last.replace(given) != given {
            since.set(Instant::now());
        }
        given > 0 && since.get().elapsed() > STILL
    });
    assert!(last.get() < LARGE, "all of it was produced for a client that reads nothing");
    assert_same(&slow.answer().body, &pattern(LARGE), "the whole answer");
}

#[test]
fn uploaders_that_are_slow_hold_up_only_themselves() {
    upload_slowly(&start());
}

/// Large uploads of clients that pause, beside others that do not.
pub fn upload_slowly(appliance: &Appliance) {
    let memory = Memory::of(appliance);
    let body = pattern(LARGE);
    // The first stops before a request is given to a core, the others while the application reads.
    let begun = [1_000, 100_000, 5_000_000];
    let mut slow: Vec<Client> = begun.iter().map(|_| appliance.client()).collect();
    for (client, begun) in slow.iter_mut().zip(begun) {
        client.send(format!("POST /echo/whole HTTP/1.1\r\nHost: test\r\nContent-Length: {LARGE}\r\n\r\n"));
        client.send(&body[..begun]);
    }
    assert_others_are_served(appliance);
    memory.assert_bounded();
    for (mut client, begun) in slow.into_iter().zip(begun) {
        client.send(&body[begun..]);
        assert_same(&client.answer().body, &body, &format!("an upload that paused after {begun} bytes"));
    }
}

#[test]
fn an_application_that_does_not_read_holds_up_only_its_client() {
    let appliance = start();
    let memory = Memory::of(&appliance);
    let body = pattern(LARGE);
    let release = appliance.dir().path().join("release");
    let target = format!("/held/whole?until={}", release.display());
    std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = appliance.client();
                    client.post(&target, &body).body
                })
            })
            .collect();
        until("the application has all of them", || {
            appliance.get("/seen").text().parse::<u32>().unwrap() > 4
        });
        assert_others_are_served(&appliance);
        memory.assert_bounded();
        std::fs::write(release, "").unwrap();
        for upload in uploads {
            assert_same(&upload.join().unwrap(), &body, "an upload that was not read at first");
        }
    });
}
