//! The proxy and a worker's native listener judge alike: the same bytes are refused at both doors, or the application sees
//! the same requests, field by field and body by body, whichever it came through.
use crate::harness::{Appliance, Client, Setup, free_ports, until};
use crate::malformed::{bytes_of, cases};
use serde_json::Value;
use std::time::Duration;

/// Sent behind every case: a connection that goes on answers it, and one that does not must not.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n";

/// A door that has said nothing for so long waits for more.
const PAUSE: Duration = Duration::from_millis(300);

/// One worker, and the two ways to it.
pub struct Doors {
    /// The proxy's door.
    pub appliance: Appliance,
    native: u16,
}

/// What came of the same bytes at one door.
#[derive(Debug, PartialEq)]
struct Verdict {
    /// Of the final answers.
    statuses: Vec<u16>,
    /// What the application was asked.
    seen: Value,
}

impl Doors {
    /// Opens them to an application of `tests/apps`.
    pub fn open(app: &str) -> Doors {
        let native = free_ports(2);
        let appliance = Setup::app(app).set("native.base_port", native).start();
        let doors = Doors { appliance, native: native + 1 };
        until("the worker listens", || Client::tcp(([127, 0, 0, 1], doors.native).into()).is_ok());
        doors
    }

    /// A client of the worker's own listener.
    pub fn native(&self) -> Client {
        Client::tcp(([127, 0, 0, 1], self.native).into()).unwrap()
    }

    fn judge(&self, mut client: Client, bytes: &[u8]) -> Verdict {
        client.send(bytes);
        // A door that waits for more is told that there is no more.
        if client.arrived_within(PAUSE).is_empty() {
            client.finish();
        }
        let received = client.rest();
        let seen = self.native().get("/witness").json();
        Verdict { statuses: statuses(&received), seen }
    }

    /// The verdicts of the worker and of the proxy.
    fn verdicts(&self, bytes: &[u8]) -> (Verdict, Verdict) {
        (self.judge(self.native(), bytes), self.judge(self.appliance.client(), bytes))
    }
}

/// The statuses of the final answers in what was received.
fn statuses(received: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(received);
    // A sentence for a human may say `HTTP/1.1` as well, but no number behind it.
    let statuses = text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok());
    statuses.filter(|status: &u16| *status >= 200).collect()
}

#[test]
fn what_is_valid_is_understood_alike() {
    let doors = Doors::open("witness:application");
    let mut wrong = Vec::new();
    for (name, path) in cases("valid") {
        let expected = std::fs::read_to_string(path.with_extension("expect")).unwrap();
        let goes_on = !expected.lines().any(|line| line == "close");
        let answers = expected.split("\n\n").count() + usize::from(goes_on);
        let (worker, proxy) = doors.verdicts(&[&bytes_of(&path), LAST].concat());
        if worker != proxy || worker.statuses != vec![200; answers] {
            wrong.push(format!("{name}: {worker:?}\n    through the proxy {proxy:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_malformed_is_refused_alike() {
    let doors = Doors::open("witness:application");
    let mut wrong = Vec::new();
    for (name, path) in cases("invalid") {
        let (worker, proxy) = doors.verdicts(&bytes_of(&path));
        if worker != proxy {
            wrong.push(format!("{name}: {worker:?}\n    through the proxy {proxy:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Pseudo-random numbers (xorshift64), the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 as usize % end
    }

    /// Replaces some bytes of a message by what parsers stumble over.
    fn damage(&mut self, sent: &mut Vec<u8>) {
        const DAMAGE: [&[u8]; 14] =
            [b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"\x80", b"_", b"%", b""];
        for _ in 0..=self.below(2) {
            let start = self.below(sent.len());
            let end = sent.len().min(start + self.below(3));
            sent.splice(start..end, DAMAGE[self.below(DAMAGE.len())].iter().copied());
        }
    }
}

#[test]
fn what_is_damaged_is_judged_alike() {
    let doors = Doors::open("witness:application");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut cases: Vec<Vec<u8>> = cases("valid").values().map(|path| bytes_of(path)).collect();
    cases.retain(|sent| sent.len() < 2000);
    let mut wrong = Vec::new();
    for _ in 0..600 {
        let mut sent = cases[dice.below(cases.len())].clone();
        dice.damage(&mut sent);
        sent.extend_from_slice(LAST);
        let (mut worker, mut proxy) = doors.verdicts(&sent);
        for verdict in [&mut worker, &mut proxy] {
            // Of several faults each door names the one that it meets first, or none to a client that has left.
            verdict.statuses.retain(|status| *status < 400);
        }
        if worker != proxy {
            wrong.push(format!("{}: {worker:?}\n    through the proxy {proxy:?}", sent.escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
