//! The loss meter: clients on kept connections that send requests with ids of their own while a test does something to the
//! appliance, judge every answer, and are held against the application's ledger afterwards. The application is
//! `tests/apps/metered.py`. Nothing here retries anything: what a client loses is counted.
use super::{Answer, Appliance, Client, Setup, root};
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Requests on one connection: both new connections and kept ones are under way at any time.
const REQUESTS_EACH: u64 = 50;
/// A client thinks for up to this long before its next request, so that connections are idle when something happens to them.
const THOUGHT: Duration = Duration::from_millis(20);
/// A connection that was idle for longer is not used again, as with any client: the server may close it by right, after
/// 250 ms when it drains. Only a machine that is very busy lets a thought take so long.
const FRESH: Duration = Duration::from_millis(100);
/// Bodies have up to so many bytes.
const LONGEST_BODY: u64 = 4000;

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// 200, and the answer is the one to this request.
    Served,
    /// 200, and it is not.
    Wrong,
    /// Another status.
    Status(u16),
    /// No connection.
    Refused,
    /// A new connection ended before the first byte of the answer.
    Reset,
    /// A kept connection ended before the first byte of the answer: the server closed it while it was being used.
    ReusedEof,
    /// The answer ended in the middle.
    Cut,
    /// No answer in time.
    Silent,
}

/// One request, as its client saw it and as the application did.
#[derive(Debug)]
pub struct Record {
    pub method: &'static str,
    pub id: String,
    pub fate: Fate,
    /// From the first byte sent to the last one received.
    pub took: Duration,
    /// How often the application began it.
    pub runs: u32,
}

/// All requests of a run.
pub struct Report {
    pub records: Vec<Record>,
}

impl Report {
    /// Those that did not get their answer.
    pub fn failures(&self) -> Vec<&Record> {
        self.records.iter().filter(|record| record.fate != Fate::Served).collect()
    }

    /// Those that cannot be explained whatever was killed: executed twice without being idempotent, or answered but never
    /// executed.
    pub fn impossible(&self) -> Vec<&Record> {
        let twice = |record: &Record| record.method == "POST" && record.runs > 1;
        let never = |record: &Record| record.fate == Fate::Served && record.runs == 0;
        self.records.iter().filter(|record| twice(record) || never(record)).collect()
    }

    /// How many requests pleased `wanted`.
    pub fn count(&self, wanted: impl Fn(&Record) -> bool) -> usize {
        self.records.iter().filter(|record| wanted(record)).count()
    }

    /// Time that so many hundredths of the served requests took at most.
    pub fn percentile(&self, hundredths: usize) -> Duration {
        let served = self.records.iter().filter(|record| record.fate == Fate::Served);
        let mut times: Vec<Duration> = served.map(|record| record.took).collect();
        times.sort();
        let last = times.len().saturating_sub(1);
        times.get((times.len() * hundredths / 100).min(last)).copied().unwrap_or_default()
    }
}

/// The counts of a run in two lines.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = |wanted: Fate| self.count(|record| record.fate == wanted);
        let is_5xx = |record: &Record| matches!(record.fate, Fate::Status(500..));
        let is_4xx = |record: &Record| matches!(record.fate, Fate::Status(..500));
        writeln!(
            f,
            "{} requests: {} served, {} refused, {} reset, {} cut, {} 5xx, {} other statuses, {} wrong, {} silent, \
             {} kept connections closed under a request",
            self.records.len(),
            fate(Fate::Served),
            fate(Fate::Refused),
            fate(Fate::Reset),
            fate(Fate::Cut),
            self.count(is_5xx),
            self.count(is_4xx),
            fate(Fate::Wrong),
            fate(Fate::Silent),
            fate(Fate::ReusedEof),
        )?;
        write!(
            f,
            "p50 {:?}, p99 {:?}, longest {:?}; executed more than once: {} GET, {} POST; failed without having run: {}",
            self.percentile(50),
            self.percentile(99),
            self.percentile(100),
            self.count(|record| record.method == "GET" && record.runs > 1),
            self.count(|record| record.method == "POST" && record.runs > 1),
            self.count(|record| record.fate != Fate::Served && record.runs == 0),
        )
    }
}

/// An appliance whose application keeps a ledger.
pub fn metered() -> Setup {
    let setup = Setup::code(&metered_code(1));
    let ledger = setup.dir().path().join("ledger");
    setup.env("LEDGER", ledger.display())
}

/// Another version of the application, which says so in `X-Version`.
pub fn metered_code(version: u32) -> String {
    let text = fs::read_to_string(root().join("tests/apps/metered.py")).unwrap();
    text.replace("VERSION = 1", &format!("VERSION = {version}"))
}

/// So many clients ask until `action` is over.
#[track_caller]
pub fn measure(appliance: &Appliance, clients: u64, action: impl FnOnce()) -> Report {
    let stop = AtomicBool::new(false);
    let mut records: Vec<Record> = thread::scope(|scope| {
        let ask = |number| {
            let stop = &stop;
            scope.spawn(move || Asker::new(appliance, number).ask_until(stop))
        };
        let threads: Vec<_> = (0..clients).map(ask).collect();
        // Also when the action panics, or the clients would go on for ever.
        let _stop = Stop(&stop);
        action();
        drop(_stop);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let runs = ledger(&appliance.dir().path().join("ledger"));
    for record in &mut records {
        record.runs = runs.get(&record.id).copied().unwrap_or(0);
    }
    Report { records }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// How often each id was begun.
fn ledger(path: &PathBuf) -> HashMap<String, u32> {
    let mut runs = HashMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        let id = line.split(' ').nth(1).unwrap_or_else(|| panic!("not a line of the ledger: {line:?}"));
        *runs.entry(id.to_owned()).or_insert(0) += 1;
    }
    runs
}

/// One client.
struct Asker<'a> {
    appliance: &'a Appliance,
    number: u64,
    /// Requests so far.
    asked: u64,
    /// State of a xorshift generator: lengths and pauses differ from client to client, and are the same in each run.
    random: u64,
}

impl Asker<'_> {
    fn new(appliance: &Appliance, number: u64) -> Asker<'_> {
        Asker { appliance, number, asked: 0, random: 0x9e37_79b9_7f4a_7c15 ^ (number + 1) }
    }

    fn ask_until(mut self, stop: &AtomicBool) -> Vec<Record> {
        let mut records = Vec::new();
        while !stop.load(Relaxed) {
            match Client::tcp(self.appliance.address()) {
                Ok(client) => self.ask_on(client, stop, &mut records),
                Err(_) => {
                    let began = Instant::now();
                    let (method, id, _) = self.next_request();
                    records.push(Record { method, id, fate: Fate::Refused, took: began.elapsed(), runs: 0 });
                }
            }
        }
        records
    }

    /// Asks on one connection as long as it may.
    fn ask_on(&mut self, mut client: Client, stop: &AtomicBool, records: &mut Vec<Record>) {
        for turn in 0..REQUESTS_EACH {
            let (method, id, body) = self.next_request();
            let pace = if self.asked.is_multiple_of(3) { "slow" } else { "quick" };
            let began = Instant::now();
            client.send(format!(
                "{method} /{pace}/{id} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            let received = client.received_so_far();
            let answer = client.try_answer();
            let took = began.elapsed();
            let is_last = !answer.as_ref().is_ok_and(is_kept);
            let expected = format!("{method} {id} {body}");
            let fate = match answer {
                Ok(answer) if answer.status != 200 => Fate::Status(answer.status),
                Ok(answer) if answer.text() == expected => Fate::Served,
                Ok(_) => Fate::Wrong,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Fate::Wrong,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Fate::Silent,
                Err(_) if client.received_so_far() > received => Fate::Cut,
                Err(_) if turn == 0 => Fate::Reset,
                Err(_) => Fate::ReusedEof,
            };
            records.push(Record { method, id, fate, took, runs: 0 });
            let answered = Instant::now();
            thread::sleep(THOUGHT * (self.number_below(100) as u32) / 100);
            if is_last || stop.load(Relaxed) || answered.elapsed() > FRESH {
                return;
            }
        }
    }

    /// Method, id and body.
    fn next_request(&mut self) -> (&'static str, String, String) {
        self.asked += 1;
        let id = format!("{}-{}", self.number, self.asked);
        if self.number_below(2) == 0 {
            return ("GET", id, String::new());
        }
        let length = self.number_below(LONGEST_BODY);
        ("POST", id, "x".repeat(length as usize))
    }

    fn number_below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }
}

/// Whether the connection may be used again after this answer.
fn is_kept(answer: &Answer) -> bool {
    !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}
