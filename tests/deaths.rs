//! Workers that are killed with many requests open: what an application had not begun is served all the same, what it had
//! begun is run again only if that does no harm. The application's own ledger is the witness.
use crate::harness::{Admin, Appliance, Client, Process, Setup, meanwhile, until};
use nix::sys::signal::Signal;
use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Requests that are open when the workers die; half of them POST.
const OPEN: u32 = 200;
/// Cores of each worker: most requests wait for one.
const CORES: u32 = 10;

/// A request that an application has begun.
#[derive(Debug, PartialEq)]
struct Entry {
    method: String,
    path: String,
    pid: i32,
}

struct Site {
    appliance: Appliance,
    admin: Admin,
}

impl Site {
    fn start() -> Site {
        let setup = Setup::app("ledger:application").workers(2).set("workers.cores", CORES);
        let (ledger, release) = (setup.dir().path().join("ledger"), setup.dir().path().join("release"));
        let setup = setup.env("LEDGER", ledger.display()).env("RELEASE", release.display());
        let (setup, admin) = Admin::of(setup);
        let appliance = setup.start();
        appliance.wait_for_workers();
        Site { appliance, admin }
    }

    fn ledger(&self) -> Vec<Entry> {
        let text = fs::read_to_string(self.appliance.dir().path().join("ledger")).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split(' ').map(str::to_owned);
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            Entry { method, path, pid: words.next().unwrap().parse().unwrap() }
        };
        text.lines().map(entry).collect()
    }

    /// Opens all requests, each on a connection of its own, and waits until the workers have as many as they can run.
    #[track_caller]
    fn open(&self) -> Vec<(&'static str, String, Client)> {
        let open = |number: u32| {
            let (method, body) = if number.is_multiple_of(2) { ("GET", "") } else { ("POST", "hi") };
            let (path, mut client) = (format!("/{number}"), self.appliance.client());
            let length = body.len();
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
            (method, path, client)
        };
        let clients = (0..OPEN).map(open).collect();
        until("every core is busy and all others wait", || {
            let waiting = self.admin.workers("waiting") + self.admin.proxy("queued");
            let busy = self.admin.workers("busy");
            busy == u64::from(2 * CORES) && busy + waiting == u64::from(OPEN)
        });
        until("the ledger is written", || self.ledger().len() == 2 * CORES as usize);
        clients
    }
}

#[track_caller]
fn nothing_is_lost_but_what_had_begun(victims: &[&str]) {
    let site = Site::start();
    let clients = site.open();
    let victims: Vec<Process> = victims.iter().map(|role| site.appliance.process(role)).collect();
    let had_begun = |entry: &&Entry| victims.iter().any(|victim| victim.pid == entry.pid);
    victims.iter().for_each(|victim| victim.signal(Signal::SIGKILL));
    until("they are dead", || victims.iter().all(|victim| !victim.is_alive()));
    site.appliance.dir().write("release", "");

    let answers = clients.into_iter().map(|(method, path, mut client)| (method, path, client.answer()));
    let answers: Vec<_> = answers.collect();
    let ledger = site.ledger();
    let mut wrong = Vec::new();
    for (method, path, answer) in answers {
        let entries: Vec<&Entry> = ledger.iter().filter(|entry| entry.path == path).collect();
        let begun = entries.iter().copied().filter(had_begun).count();
        // A GET that died with its worker is run again elsewhere.
        let expected = match method {
            "POST" if begun > 0 => (502, 1),
            "POST" => (200, 1),
            _ => (200, 1 + begun),
        };
        if (answer.status, entries.len()) != expected {
            wrong.push(format!("{method} {path}: {} {}, {entries:?}", answer.status, answer.text()));
        }
    }
    assert!(wrong.is_empty(), "{} of {OPEN} are wrong: {wrong:#?}", wrong.len());
    let lost = ledger.iter().filter(had_begun).count();
    assert_eq!(
        lost,
        victims.len() * CORES as usize,
        "a worker died with another number of requests than it had cores"
    );
}

#[test]
fn one_worker_dies_and_the_other_takes_over() {
    nothing_is_lost_but_what_had_begun(&["worker 1"]);
}

#[test]
fn all_workers_die_and_their_successors_take_over() {
    nothing_is_lost_but_what_had_begun(&["worker 1", "worker 2"]);
}

#[test]
fn no_post_is_run_twice_however_many_workers_die() {
    let site = Site::start();
    let next = AtomicU32::new(0);
    let post = |_| {
        let path = format!("/slow/{}", next.fetch_add(1, Relaxed));
        (site.appliance.client().post(&path, "hi").status, path)
    };
    let served = || {
        let begun = site.ledger().len();
        until("requests are served", || site.ledger().len() > begun + 50);
    };
    let answers = meanwhile(16, post, || site.appliance.kill_workers_in_turn(10, served));
    let mut times = HashMap::new();
    site.ledger().into_iter().for_each(|entry| *times.entry(entry.path).or_insert(0) += 1);
    for (status, path) in answers {
        let times = times.get(&path).copied().unwrap_or(0);
        // A kill can also hit between the announcement of a request and its first line of code.
        let is_right = matches!((status, times), (200, 1) | (502, 0 | 1));
        assert!(is_right, "{path} was answered {status} and run {times} times");
    }
}
