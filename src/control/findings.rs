//! What workers have answered to `appliance requests` and `stacks`: its form on the control socket, and as text for
//! humans. Pure. Every text in an answer comes from a process that runs application code, and some of it from clients of
//! the application, so a terminal is given none of it as it is.
use super::printable::{line, printable};
use super::table::aligned;
use appliance_worker::report::{RequestReport, StackReport};
use serde::{Deserialize, Serialize};

/// What one worker has answered: one of the lists, or why it has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Its number.
    pub worker: u32,
    /// Process id.
    pub pid: i32,
    /// Its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Vec<RequestReport>>,
    /// Its stacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stacks: Option<Vec<StackReport>>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The columns of the table of requests; numbers to the right.
const COLUMNS: [&str; 8] = ["worker", "core", "age", "state", "method", "target", "client", "id"];
const RIGHT: [usize; 3] = [0, 1, 2];

/// A line for each request of all workers, the oldest first.
pub fn requests_table(told: &[Told]) -> String {
    let of = |told: &Told| {
        let worker = told.worker;
        told.requests.clone().unwrap_or_default().into_iter().map(move |request| (worker, request))
    };
    let mut requests: Vec<(u32, RequestReport)> = told.iter().flat_map(of).collect();
    if requests.is_empty() {
        return "no request is under way\n".to_owned();
    }
    requests.sort_by_key(|(_, request)| std::cmp::Reverse(request.age_ms));
    let head = COLUMNS.map(str::to_owned);
    let rows = requests.iter().map(|(worker, request)| request_row(*worker, request));
    aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), &RIGHT)
}

fn request_row(worker: u32, request: &RequestReport) -> [String; 8] {
    [
        worker.to_string(),
        request.core.map_or_else(|| "-".to_owned(), |core| core.to_string()),
        age(request.age_ms),
        line(&request.state),
        line(&request.method),
        line(&request.target),
        line(&request.client),
        line(&request.id),
    ]
}

/// `0.4s`, `12.3s`, `5m 3s`.
fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..60 => format!("{seconds}.{}s", millis % 1000 / 100),
        _ => format!("{}m {}s", seconds / 60, seconds % 60),
    }
}

/// A block for each worker that has answered, and in it one for each stack.
pub fn stacks_text(told: &[Told]) -> String {
    let mut text = String::new();
    for worker in told {
        let Some(stacks) = &worker.stacks else { continue };
        text.push_str(&format!("worker {} (pid {})\n", worker.worker, worker.pid));
        stacks.iter().for_each(|stack| text.push_str(&stack_text(stack)));
        text.push('\n');
    }
    text
}

fn stack_text(stack: &StackReport) -> String {
    let facts = [&stack.what, &stack.state, &stack.request].map(|fact| line(fact));
    let facts: Vec<&str> = facts.iter().map(String::as_str).filter(|fact| !fact.is_empty()).collect();
    let frames = printable(&stack.stack);
    let frames = frames.lines().map(|frame| format!("    {frame}\n"));
    format!("  {}\n{}", facts.join(" · "), frames.collect::<String>())
}

/// A sentence for each worker that has not answered.
pub fn unanswered(told: &[Told]) -> Vec<String> {
    let sentence = |told: &Told| {
        let why = line(told.error.as_ref()?);
        Some(format!("worker {} (pid {}): {why}", told.worker, told.pid))
    };
    told.iter().filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, age_ms: u64, core: Option<u32>) -> RequestReport {
        let text = str::to_owned;
        let state = if core.is_some() { "suspended" } else { "queued" };
        let (method, client, id) = (text("GET"), text("10.0.0.1"), text("1f2e"));
        RequestReport { id, method, target: text(target), client, core, age_ms, state: text(state) }
    }

    #[test]
    fn requests_stand_in_a_table_the_oldest_first() {
        let of = |worker, requests| Told { worker, requests: Some(requests), ..Told::default() };
        let told = [
            of(1, vec![request("/a", 1_250, Some(0)), request("/b", 30, None)]),
            of(12, vec![request("/long", 303_000, Some(99))]),
            Told { worker: 3, error: Some("no answer".into()), ..Told::default() },
        ];
        let expected = "\
worker  core    age  state      method  target  client    id
    12    99  5m 3s  suspended  GET     /long   10.0.0.1  1f2e
     1     0   1.2s  suspended  GET     /a      10.0.0.1  1f2e
     1     -   0.0s  queued     GET     /b      10.0.0.1  1f2e
";
        assert_eq!(requests_table(&told), expected);
        assert_eq!(requests_table(&[]), "no request is under way\n");
    }

    #[test]
    fn stacks_stand_in_blocks() {
        let stack = StackReport {
            what: "greenlet".into(),
            request: "GET / (core 3, request 1f2e)".into(),
            state: "waits 2.0s more".into(),
            stack: "File \"a.py\", line 3, in f\n  sleep(2)\n".into(),
        };
        let thread = StackReport { what: "thread MainThread".into(), ..StackReport::default() };
        let told = [Told { worker: 1, pid: 47, stacks: Some(vec![stack, thread]), ..Told::default() }];
        let expected = "\
worker 1 (pid 47)
  greenlet · waits 2.0s more · GET / (core 3, request 1f2e)
    File \"a.py\", line 3, in f
      sleep(2)
  thread MainThread

";
        assert_eq!(stacks_text(&told), expected);
    }

    #[test]
    fn nothing_that_a_worker_says_reaches_the_terminal_as_an_order() {
        let evil = "\u{1b}[2J\n\u{9b}1m\r".to_owned();
        let report = RequestReport { target: evil.clone(), state: evil.clone(), ..RequestReport::default() };
        let stack = StackReport { what: evil.clone(), stack: evil.clone(), ..StackReport::default() };
        let told = [Told {
            requests: Some(vec![report]),
            stacks: Some(vec![stack]),
            error: Some(evil),
            ..Told::default()
        }];
        let shown = [requests_table(&told), stacks_text(&told), unanswered(&told).concat()];
        for text in &shown {
            assert!(!text.contains(['\u{1b}', '\u{9b}', '\r']), "{text:?}");
        }
        assert_eq!(shown[0].lines().count(), 2, "a request is one line");
        assert_eq!(shown[2].lines().count(), 1);
    }
}
