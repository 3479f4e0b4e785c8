//! What operators do in a year, and what befalls workers in one, within seconds and under 32 clients: nothing may be lost
//! but a POST that a killed worker had begun. `make test` does it for ten seconds each, `make soak` for a minute, and shows
//! the counts.
use crate::harness::{Appliance, Fate, Record, Report, measure, metered, metered_code, until, within};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

const CLIENTS: u64 = 32;
const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
/// From one kill to the next.
const PAUSE: Duration = Duration::from_secs(2);
const WORKERS: u32 = 3;
/// What [`Operator::work`] does.
const ROUND: &str = "three reloads, a broken one, scaling up and down, a new proxy and worn-out workers";
/// Requests after which a worker is recycled, several times in ten seconds.
const WEAR: u64 = 300;
/// What a worker that is killed has lived at least.
const LIFE: Duration = Duration::from_millis(1100);

fn start() -> Appliance {
    let setup = metered().workers(WORKERS).set("log.access", false);
    setup.dir().write("appliance.toml", &configuration(1));
    let appliance = setup.start();
    // Each start of a worker's own is over before the clients come.
    let ready = |worker| appliance.worker_client(worker).get("/quick/first").status == 200;
    assert!((1..=WORKERS).all(ready));
    appliance
}

/// Any change of what `[proxy]` says, here to an address that no client has; and workers that are worn out soon.
fn configuration(version: u32) -> String {
    format!("[proxy]\ntrusted = [\"192.0.2.{}\"]\n[workers]\nmax_requests = {WEAR}\n", version % 250)
}

/// An operator who deploys one version after the other.
struct Operator<'a> {
    appliance: &'a Appliance,
    version: u32,
}

impl Operator<'_> {
    #[track_caller]
    fn tell(&self, verb: &[&str]) {
        let (code, out, err) = self.appliance.tell(verb);
        assert_eq!(code, Some(0), "{verb:?} said {out}{err}");
    }

    #[track_caller]
    fn deploy(&mut self) {
        self.version += 1;
        self.appliance.dir().write("webapp.py", &metered_code(self.version));
        self.tell(&["reload"]);
        let answer = self.appliance.get("/quick/deployed");
        assert_eq!(answer.header("x-version"), Some(self.version.to_string().as_str()));
    }

    #[track_caller]
    fn deploy_broken(&self) {
        self.appliance.dir().write("webapp.py", "raise ValueError('broken on purpose')\n");
        let (code, out, err) = self.appliance.tell(&["reload"]);
        assert_eq!(code, Some(1), "{out}");
        assert!(err.contains("ValueError: broken on purpose"), "{err}");
        self.appliance.dir().write("webapp.py", &metered_code(self.version));
    }

    /// Another proxy takes over, with a changed setting of its own.
    #[track_caller]
    fn replace_proxy(&mut self) {
        let before = self.appliance.process("proxy");
        self.version += 1;
        self.appliance.dir().write("appliance.toml", &configuration(self.version));
        self.tell(&["reload"]);
        until("the old proxy has gone", || !before.is_alive());
    }

    /// One worker more and two less, and as many as before.
    #[track_caller]
    fn scale(&self) {
        for count in [WORKERS + 1, WORKERS - 1, WORKERS] {
            self.tell(&["scale", &count.to_string()]);
            let workers = || self.appliance.family().into_iter().filter(|one| one.title.contains("worker"));
            until("there are so many", || workers().count() == count as usize);
        }
    }

    /// Until every worker has been worn out, as many as there are.
    #[track_caller]
    fn wear_out(&self) {
        let before = recycled(self.appliance);
        until("workers are recycled", || recycled(self.appliance) >= before + WORKERS as usize);
    }

    /// One round of everything.
    #[track_caller]
    fn work(&mut self) {
        for _ in 0..3 {
            self.deploy();
        }
        self.deploy_broken();
        self.scale();
        self.replace_proxy();
        self.wear_out();
    }
}

/// Workers that were replaced because of `workers.max_requests` so far.
fn recycled(appliance: &Appliance) -> usize {
    let is_one =
        |event: &&Value| event["message"].as_str().is_some_and(|text| text.contains("it has finished"));
    appliance.log.events().iter().filter(is_one).count()
}

fn operate(length: Duration) {
    let appliance = start();
    let mut rounds = 0;
    let report = measure(&appliance, CLIENTS, || {
        let (began, mut operator) = (Instant::now(), Operator { appliance: &appliance, version: 1 });
        while began.elapsed() < length {
            operator.work();
            rounds += 1;
        }
    });
    println!("{rounds} rounds of {ROUND}; {} workers recycled\n{report}", recycled(&appliance));
    assert_nothing_failed(&report);
}

/// Kills a worker every now and then, each fourth time the template; the next one when it has been replaced.
fn kill(appliance: &Appliance, length: Duration) -> usize {
    let (began, mut kills) = (Instant::now(), 0);
    while began.elapsed() < length {
        let last = Instant::now();
        let worker = 1 + began.elapsed().subsec_nanos() % WORKERS;
        let role = if kills % 4 == 3 { "template".to_owned() } else { format!("worker {worker}") };
        let victim = appliance.process(&role);
        victim.signal(Signal::SIGKILL);
        appliance.successor(&victim);
        kills += 1;
        within(PAUSE.saturating_sub(last.elapsed()), || None::<()>);
    }
    kills
}

fn survive(length: Duration) {
    let appliance = start();
    let mut kills = 0;
    let report = measure(&appliance, CLIENTS, || kills = kill(&appliance, length));
    println!("{kills} kills\n{report}");
    // A POST that a killed worker had begun is lost, and its client is told so.
    let is_lawful = |record: &&&Record| record.method == "POST" && record.fate == Fate::Status(502);
    let unlawful: Vec<_> = report.failures().into_iter().filter(|record| !is_lawful(&record)).collect();
    assert!(unlawful.is_empty(), "{} failed: {unlawful:#?}\n{report}", unlawful.len());
    assert!(report.impossible().is_empty(), "{:#?}\n{report}", report.impossible());
    let lost = report.failures().len();
    assert!(lost <= kills * CLIENTS as usize / 2, "{lost} lost by {kills} kills\n{report}");
}

#[track_caller]
fn assert_nothing_failed(report: &Report) {
    let failures = report.failures();
    assert!(failures.is_empty(), "{} failed: {failures:#?}\n{report}", failures.len());
    assert!(report.impossible().is_empty(), "{:#?}\n{report}", report.impossible());
    let repeated = report.count(|record| record.runs > 1);
    assert_eq!(repeated, 0, "run twice although nothing died\n{report}");
}

#[test]
fn the_meter_sees_what_is_lost() {
    let appliance = start();
    let report = measure(&appliance, CLIENTS, || {
        for _ in 0..3 {
            let proxy = appliance.process("proxy");
            proxy.signal(Signal::SIGKILL);
            appliance.successor(&proxy);
            appliance.get("/quick/again");
        }
    });
    let is_lost = |record: &Record| matches!(record.fate, Fate::Reset | Fate::ReusedEof | Fate::Cut);
    assert!(report.count(is_lost) > 0, "connections of a killed proxy were not missed\n{report}");
    assert!(report.impossible().is_empty(), "{:#?}\n{report}", report.impossible());
}

#[test]
fn ten_seconds_of_operation_lose_nothing() {
    operate(SHORT);
}

#[test]
fn ten_seconds_of_kills_lose_no_get_and_run_no_post_twice() {
    survive(SHORT);
}

#[test]
#[ignore = "takes a minute: make soak"]
fn a_hundred_killed_workers_are_replaced() {
    let appliance = start();
    let mut born = [Instant::now(); WORKERS as usize];
    let mut times = Vec::new();
    for number in 0..100 {
        let index = number % WORKERS as usize;
        // Whoever dies within a second of its birth is replaced after a pause.
        within(LIFE.saturating_sub(born[index].elapsed()), || None::<()>);
        let worker = index as u32 + 1;
        appliance.process(&format!("worker {worker}")).signal(Signal::SIGKILL);
        let killed = Instant::now();
        // The socket is the same, so this waits for the successor.
        assert_eq!(appliance.worker_client(worker).get("/quick/first").status, 200);
        times.push(killed.elapsed());
        born[index] = Instant::now();
    }
    times.sort();
    println!(
        "100 workers killed one by one; the successor answered after {:?} (median), {:?} (p99)",
        times[50], times[98]
    );
}

#[test]
#[ignore = "takes a minute: make soak"]
fn a_minute_of_operation_loses_nothing() {
    operate(LONG);
}

#[test]
#[ignore = "takes a minute: make soak"]
fn a_minute_of_kills_loses_no_get_and_runs_no_post_twice() {
    survive(LONG);
}
