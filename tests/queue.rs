//! Requests for which no worker has a free core wait in the proxy: in order, within `limits.queue` and `timeouts.queue`, and at
//! hardly any cost. A worker whose loop stands still gets none.
use crate::harness::{Admin, Appliance, Client, Process, Setup, until};
use nix::sys::signal::Signal;

/// An application whose requests run until they are released, in workers of one core each.
struct Site {
    appliance: Appliance,
    admin: Admin,
}

impl Site {
    fn start(change: impl FnOnce(Setup) -> Setup) -> Site {
        let setup = Setup::app("ledger:application").set("workers.cores", 1);
        let (ledger, release) = (setup.dir().path().join("ledger"), setup.dir().path().join("release"));
        let setup = setup.env("LEDGER", ledger.display()).env("RELEASE", release.display());
        let (setup, admin) = Admin::of(change(setup));
        let appliance = setup.start();
        appliance.wait_for_workers();
        until("what asked whether it serves is over", || admin.workers("busy") == 0);
        Site { appliance, admin }
    }

    fn ask(&self, path: &str) -> Client {
        let mut client = self.appliance.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client
    }

    /// A request that has a core.
    #[track_caller]
    fn run(&self, path: &str) -> Client {
        let busy = self.admin.workers("busy");
        let client = self.ask(path);
        until("it runs", || self.admin.workers("busy") == busy + 1);
        client
    }

    /// A request that waits.
    #[track_caller]
    fn wait(&self, path: &str) -> Client {
        let queued = self.admin.proxy("queued");
        let client = self.ask(path);
        until("it waits", || self.admin.proxy("queued") == queued + 1);
        client
    }

    fn release(&self) {
        self.appliance.dir().write("release", "");
    }

    /// The paths of the requests in the order in which the application saw them.
    fn order(&self) -> Vec<String> {
        let ledger = std::fs::read_to_string(self.appliance.dir().path().join("ledger")).unwrap();
        ledger.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn reason(&self, path: &str) -> String {
        let log = &self.appliance.log;
        let line = log.access(path);
        line["reason"].as_str().unwrap_or("none").to_owned()
    }
}

/// CPU time of a process so far, in hundredths of a second.
fn cpu(process: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    // proc(5): utime and stime are fields 14 and 15; the name in brackets is the second.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn whoever_came_first_is_served_first_by_whichever_worker() {
    let site = Site::start(|setup| setup.workers(2));
    let mut running = [site.run("/a"), site.run("/b")];
    let paths = ["/1", "/2", "/3", "/4"];
    let mut waiting = paths.map(|path| site.wait(path));
    assert_eq!(site.admin.workers("waiting"), 0, "they wait in the proxy");
    site.release();
    assert!(running.iter_mut().chain(&mut waiting).all(|client| client.answer().status == 200));
    let order = site.order();
    let place = |path: &str| order.iter().position(|other| other == path).unwrap();
    // Two run at a time, so neighbours may change places.
    assert!(place("/1") < place("/3") && place("/2") < place("/4"), "{order:?}");
    assert_eq!(site.admin.proxy("queued"), 0);
}

#[test]
fn a_full_queue_is_a_503_at_once() {
    let site = Site::start(|setup| setup.set("limits.queue", 1));
    let (mut running, mut waiting) = (site.run("/runs"), site.wait("/waits"));
    let answer = site.ask("/one-too-many").answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(site.reason("/one-too-many"), "queue-full");
    site.release();
    assert_eq!((running.answer().status, waiting.answer().status), (200, 200));
}

#[test]
fn nobody_waits_longer_than_allowed() {
    let site = Site::start(|setup| setup.set("timeouts.queue", "100ms"));
    let mut running = site.run("/runs");
    let answer = site.ask("/late").answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(site.reason("/late"), "queue-timeout");
    site.release();
    assert_eq!(running.answer().status, 200);
}

#[test]
fn a_client_that_leaves_leaves_the_queue() {
    let site = Site::start(|setup| setup);
    let mut running = site.run("/runs");
    let (leaves, mut stays) = (site.wait("/leaves"), site.wait("/stays"));
    drop(leaves);
    until("one waits", || site.admin.proxy("queued") == 1);
    site.release();
    assert_eq!((running.answer().status, stays.answer().status), (200, 200));
    assert_eq!(site.order(), ["/runs", "/stays"]);
}

#[test]
fn hundreds_that_wait_cost_hardly_more_than_none() {
    const WAITING: u64 = 300;
    const SECONDS: u64 = 3;
    let site = Site::start(|setup| setup.set("timeouts.queue", "10m"));
    let running = site.run("/runs");
    let waiting: Vec<Client> = (0..WAITING).map(|number| site.ask(&format!("/{number}"))).collect();
    until("all of them wait", || site.admin.proxy("queued") == WAITING);
    let proxy = site.appliance.process("proxy");
    let (begun, since) = (site.admin.proxy("uptime_seconds"), cpu(&proxy));
    until("some seconds pass", || site.admin.proxy("uptime_seconds") >= begun + SECONDS);
    // Looking for the seconds costs some, too.
    let used = cpu(&proxy) - since;
    assert!(used <= 10 * SECONDS, "{used} hundredths of a second for {WAITING} in {SECONDS} s");
    drop((running, waiting));
    until("nobody waits", || site.admin.proxy("queued") == 0);
}

#[test]
fn a_worker_that_stands_still_gets_no_requests_until_it_goes_on() {
    let site = Site::start(|setup| setup.workers(2).set("timeouts.stall", "1500ms"));
    let stalled = || -> Vec<bool> {
        let status = site.admin.status();
        status["workers"].as_array().unwrap().iter().map(|worker| worker["stalled"] == true).collect()
    };
    let worker = site.appliance.process("worker 1");
    worker.signal(Signal::SIGSTOP);
    until("it is seen", || stalled() == [true, false]);
    for number in 0..10 {
        assert_eq!(site.appliance.get(&format!("/slow/{number}")).status, 200);
    }
    let other = site.appliance.process("worker 2");
    other.signal(Signal::SIGSTOP);
    until("nobody is left", || stalled() == [true, true]);
    let mut waiting = site.wait("/slow/waits");
    worker.signal(Signal::SIGCONT);
    assert_eq!(waiting.answer().status, 200, "no worker was killed, and the first that goes on serves");
    other.signal(Signal::SIGCONT);
    until("both go on", || stalled() == [false, false]);
    assert_eq!([site.appliance.process("worker 1"), site.appliance.process("worker 2")], [worker, other]);
}

#[test]
fn requests_that_wait_outlive_the_only_worker() {
    let site = Site::start(|setup| setup);
    let mut running = site.run("/runs");
    let mut waiting: Vec<Client> = (0..5).map(|number| site.wait(&format!("/{number}"))).collect();
    let worker = site.appliance.process("worker 1");
    worker.signal(Signal::SIGKILL);
    site.appliance.successor(&worker);
    site.release();
    assert_eq!(running.answer().status, 200, "a GET is run again");
    assert!(waiting.iter_mut().all(|client| client.answer().status == 200));
}

#[test]
fn a_failed_request_keeps_no_core_while_its_client_stays() {
    let code = "\
import uwsgi
def application(environ, start_response):
    if environ['PATH_INFO'] == '/silent':
        uwsgi.disconnect()
    start_response('200 OK', [])
    return [b'quick']
";
    let setup = Setup::code(code).set("workers.cores", 1).set("timeouts.queue", "500ms");
    let appliance = setup.start();
    let mut client = appliance.client();
    // As the client has sent more, the connection is not closed at once.
    client.send("GET /silent HTTP/1.1\r\nHost: test\r\n\r\n".repeat(2));
    assert_eq!(client.answer().status, 502);
    assert_eq!(appliance.get("/next").status, 200);
}
