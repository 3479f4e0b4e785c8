//! A line of the access log: what it says of one request, how that is written for a human or as JSON, and the buffer in which
//! lines wait until a write is worth its system call. Used by the proxy and by a worker for its own listener, so that the two
//! write the same lines; each of them flushes its own buffer. Pure: it opens nothing and reads no clock. A line must never
//! contain a raw byte that the client chose.
use crate::private::split_variable;
use bytes::Bytes;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Above this many bytes the buffer is to be written at once; two pages, so that a write is worth its syscall.
const FLUSH_BYTES: usize = 8 * 1024;
/// What is written to a pipe at once stays together: other processes write there too (`PIPE_BUF`, pipe(7)).
const ATOMIC_BYTES: usize = 4096;
/// A line waits no longer than this in the buffer.
pub const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// Bytes of a request target that are logged.
pub const PATH_BYTES: usize = 2048;
/// A shorter time than this is no wait for a worker or a core: it is what asking for one takes.
const LEAST_QUEUED: Duration = Duration::from_millis(1);

/// One finished request. The default one was never sent to anybody.
#[derive(Debug, Default)]
pub struct Entry<'a> {
    /// Address without port, or `unix:`.
    pub client: &'a [u8],
    /// As sent; empty if there was none.
    pub method: &'a [u8],
    /// The target as sent.
    pub path: &'a [u8],
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: &'static str,
    /// What the client got, or would have got (499).
    pub status: u16,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// From the complete head to the end of the answer.
    pub took: Duration,
    /// Of that, the time in which it waited for a worker or a core.
    pub queued: Duration,
    /// From the worker's own beginning to the head of the answer, if there was one.
    pub app: Option<Duration>,
    /// The last worker it was sent to.
    pub worker: Option<u32>,
    /// The core that ran it.
    pub core: Option<u32>,
    /// Times it was sent to a worker.
    pub tries: u32,
    /// Its id; empty if it has none.
    pub id: &'a [u8],
    /// Why it failed, unless it is the application's own answer that says so.
    pub reason: Option<&'static str>,
    /// The application's variables (uWSGI `set_logvar`), as [`crate::private::variable`] writes them.
    pub variables: &'a [Bytes],
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line of words.
    Human,
    /// A JSON object.
    Json,
}

/// Lines that wait to be written.
#[derive(Debug)]
pub struct Lines {
    style: Style,
    text: Vec<u8>,
    clock: Clock,
}

impl Lines {
    /// None yet.
    pub fn new(style: Style) -> Lines {
        Lines { style, text: Vec::new(), clock: Clock::default() }
    }

    /// Adds the line of a request that ends now.
    pub fn add(&mut self, entry: &Entry<'_>, now: SystemTime) {
        match self.style {
            Style::Human => human(&mut self.text, entry, &mut self.clock, now),
            Style::Json => json(&mut self.text, entry, &mut self.clock, now),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether so much waits that it is to be written at once.
    pub fn is_large(&self) -> bool {
        self.text.len() > FLUSH_BYTES
    }

    /// Hands all that waits to `write`, in pieces of whole lines that stay together in a pipe. What it does not write is lost.
    pub fn drain(&mut self, mut write: impl FnMut(&[u8])) {
        let mut rest = &self.text[..];
        while !rest.is_empty() {
            let (lines, others) = rest.split_at(at_once(rest));
            write(lines);
            rest = others;
        }
        self.text.clear();
    }
}

/// What may be called the method and the target of a request that cannot be read, for its line.
pub fn named(received: &[u8]) -> (&[u8], &[u8]) {
    let start = received.trim_ascii_start();
    let end = memchr::memchr2(b'\r', b'\n', start).unwrap_or(start.len());
    let mut words = start[..end].split(|byte| *byte == b' ');
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// How many bytes to write at once: the whole lines that fit `ATOMIC_BYTES`, at least one.
fn at_once(text: &[u8]) -> usize {
    if text.len() <= ATOMIC_BYTES {
        return text.len();
    }
    let is_end = |byte: &u8| *byte == b'\n';
    let last = text[..ATOMIC_BYTES].iter().rposition(is_end).or(text.iter().position(is_end));
    last.map_or(text.len(), |last| last + 1)
}

/// `2024-02-28T23:59:59.042Z 127.0.0.1 "GET /path HTTP/1.1" 200 1234B 3.2ms app=1.1ms worker=2 core=17 id=…`
fn human(line: &mut Vec<u8>, entry: &Entry<'_>, clock: &mut Clock, now: SystemTime) {
    clock.put(line, now);
    line.push(b' ');
    put_plain(line, entry.client);
    line.extend_from_slice(b" \"");
    put_plain(line, entry.method);
    line.push(b' ');
    put_plain(line, capped(entry.path));
    line.push(b' ');
    line.extend_from_slice(entry.version.as_bytes());
    put_number(line, "\" ", entry.status.into());
    put_number(line, " ", entry.bytes);
    put_tenths(line, "B ", entry.took);
    if entry.queued >= LEAST_QUEUED {
        put_tenths(line, " queue=", entry.queued);
    }
    if let Some(app) = entry.app {
        put_tenths(line, " app=", app);
    }
    if let Some(worker) = entry.worker {
        put_number(line, " worker=", worker.into());
    }
    if let Some(core) = entry.core {
        put_number(line, " core=", core.into());
    }
    if entry.tries > 1 {
        put_number(line, " tries=", entry.tries.into());
    }
    line.extend_from_slice(b" id=");
    put_plain(line, id(entry));
    if let Some(reason) = entry.reason {
        line.extend_from_slice(b" reason=");
        line.extend_from_slice(reason.as_bytes());
    }
    for (key, value) in split(entry.variables) {
        line.push(b' ');
        put_plain(line, key);
        line.extend_from_slice(b"=\"");
        put_plain(line, value);
        line.push(b'"');
    }
    line.push(b'\n');
}

/// One JSON object; keys without a value are left out.
fn json(line: &mut Vec<u8>, entry: &Entry<'_>, clock: &mut Clock, now: SystemTime) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    clock.put(line, now);
    line.extend_from_slice(b"\",\"level\":\"INFO\",\"kind\":\"access\"");
    put_text(line, ",\"client\":", entry.client);
    put_text(line, ",\"method\":", entry.method);
    put_text(line, ",\"path\":", capped(entry.path));
    put_number(line, ",\"status\":", entry.status.into());
    put_number(line, ",\"bytes\":", entry.bytes);
    put_thousandths(line, ",\"ms\":", entry.took);
    if entry.queued >= LEAST_QUEUED {
        put_thousandths(line, ",\"queue_ms\":", entry.queued);
    }
    if let Some(app) = entry.app {
        put_thousandths(line, ",\"app_ms\":", app);
    }
    if let Some(worker) = entry.worker {
        put_number(line, ",\"worker\":", worker.into());
    }
    if let Some(core) = entry.core {
        put_number(line, ",\"core\":", core.into());
    }
    put_number(line, ",\"tries\":", entry.tries.into());
    put_text(line, ",\"id\":", id(entry));
    if let Some(reason) = entry.reason {
        put_text(line, ",\"reason\":", reason.as_bytes());
    }
    let mut before = ",\"vars\":{";
    for (key, value) in split(entry.variables) {
        put_text(line, before, key);
        put_text(line, ":", value);
        before = ",";
    }
    line.extend_from_slice(if before == "," { b"}}\n" } else { b"}\n" });
}

/// A whole number behind `before`. `write!` would take several times as long.
fn put_number(line: &mut Vec<u8>, before: &str, number: u64) {
    line.extend_from_slice(before.as_bytes());
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Milliseconds with one decimal and their unit.
fn put_tenths(line: &mut Vec<u8>, before: &str, time: Duration) {
    let tenths = (micros(time) + 50) / 100;
    put_number(line, before, tenths / 10);
    line.extend_from_slice(&[b'.', digit(tenths), b'm', b's']);
}

/// Milliseconds with three decimals.
fn put_thousandths(line: &mut Vec<u8>, before: &str, time: Duration) {
    let micros = micros(time);
    put_number(line, before, micros / 1000);
    line.extend_from_slice(&[b'.', digit(micros / 100), digit(micros / 10), digit(micros)]);
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2)
}

/// The last decimal digit.
fn digit(number: u64) -> u8 {
    b'0' + (number % 10) as u8
}

/// Printable ASCII as it is, everything else, quotes and backslashes as `\xNN` (as nginx does).
fn put_plain(line: &mut Vec<u8>, text: &[u8]) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| !is_plain(byte)) {
        line.extend_from_slice(&rest[..at]);
        write!(line, "\\x{:02X}", rest[at]).expect("memory takes any text");
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
}

/// `"text"` behind `before`; bytes that are not UTF-8 become U+FFFD.
fn put_text(line: &mut Vec<u8>, before: &str, text: &[u8]) {
    line.extend_from_slice(before.as_bytes());
    serde_json::to_writer(line, &String::from_utf8_lossy(text)).expect("memory takes any text");
}

/// Only what can be split is kept.
fn split(variables: &[Bytes]) -> impl Iterator<Item = (&[u8], &[u8])> {
    variables.iter().filter_map(|field| split_variable(field))
}

fn capped(path: &[u8]) -> &[u8] {
    &path[..path.len().min(PATH_BYTES)]
}

/// A line has a place for the id in any case.
fn id<'a>(entry: &Entry<'a>) -> &'a [u8] {
    if entry.id.is_empty() { b"-" } else { entry.id }
}

/// Writes moments as RFC 3339 in UTC with milliseconds. Most lines are of the same second as the one before.
#[derive(Debug, Default)]
struct Clock {
    /// Since 1970.
    second: u64,
    /// That second without a fraction; empty: none yet.
    text: String,
}

impl Clock {
    fn put(&mut self, line: &mut Vec<u8>, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text = text(self.second);
        }
        let millis = u64::from(since.subsec_millis());
        line.extend_from_slice(self.text.as_bytes());
        line.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

/// So many seconds after 1970 began, as `2024-02-28T23:59:59`.
fn text(second: u64) -> String {
    let (year, month, day) = date(second / 86_400);
    let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day so many days after 1970-01-01, Gregorian. Years are counted from March, so that the leap day is the
/// last of its year and months have a closed formula.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests;
