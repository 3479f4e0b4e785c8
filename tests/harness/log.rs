//! The lines that a process writes, collected by a thread while the test goes on.
use super::{DEADLINE, within};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// See the module.
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Log {
    /// Collects from `pipe` until nobody has its other end open any more.
    pub fn of(pipe: impl Read + Send + 'static) -> Log {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                collected.lock().unwrap().push(text);
                line.clear();
            }
        });
        Log { lines, reader }
    }

    /// All of it so far.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The last `count` lines so far.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock().unwrap();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// The lines so far that are JSON objects.
    pub fn events(&self) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
    }

    /// The first line that is a JSON object and pleases `wanted`; waits for it.
    #[track_caller]
    pub fn event(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        within(DEADLINE, || self.events().into_iter().find(&wanted))
            .unwrap_or_else(|| panic!("no log line with {what} in\n{}", self.text()))
    }

    /// The line of the access log for a target; waits for it.
    #[track_caller]
    pub fn access(&self, target: &str) -> Value {
        self.event(target, |event| event["kind"] == "access" && event["path"] == target)
    }

    /// Waits until the log contains `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let found = within(DEADLINE, || self.text().contains(text).then_some(()));
        assert!(found.is_some(), "the log does not say {text:?}:\n{}", self.text());
    }

    /// Whether every process that could write to it has ended.
    pub fn is_closed(&self) -> bool {
        self.reader.is_finished()
    }
}
