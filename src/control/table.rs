//! A status as a table for humans. Pure: text in, text out.
use super::status::{Master, Process, Proxy, Status, Worker};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The head line, and a line for each process, with numbers to the right.
pub fn table(status: &Status) -> String {
    let master = &status.master;
    let mut text = format!(
        "appliance {} · {} · pid {} · up {} · generation {}\n",
        master.version,
        state(master),
        master.pid,
        uptime(master.uptime),
        master.generation
    );
    for url in &master.listen {
        text.push_str(&format!("serving {url}\n"));
    }
    if let Some(reason) = &master.reason {
        text.push_str(&format!("no worker can live: {}\n", reason.trim_end()));
    }
    text.push('\n');
    let mut rows = vec![
        ["process", "pid", "gen", "state", "cores", "waiting", "requests", "exceptions", "rss"]
            .map(str::to_owned),
    ];
    rows.extend(status.proxy.iter().map(proxy_row));
    rows.extend(status.template.iter().map(|process| process_row("template", process)));
    rows.extend(status.workers.iter().map(worker_row));
    text + &aligned(&rows, &RIGHT)
}

/// `serving`, or with what the proxy does instead: `serving, paused for 12s`; both once where they are the same.
pub fn state(master: &Master) -> String {
    match master.mode_seconds {
        None => master.state.clone(),
        Some(seconds) if master.mode == master.state => format!("{} for {}", master.state, uptime(seconds)),
        Some(seconds) => format!("{}, {} for {}", master.state, master.mode, uptime(seconds)),
    }
}

type Row = [String; 9];
/// The columns of numbers.
const RIGHT: [usize; 7] = [1, 2, 4, 5, 6, 7, 8];

fn process_row(name: &str, process: &Process) -> Row {
    let mut row = Row::default();
    row[0] = name.to_owned();
    row[1] = process.pid.to_string();
    row[2] = process.generation.to_string();
    row[3] = process.state.clone();
    row
}

fn proxy_row(proxy: &Proxy) -> Row {
    let mut row = process_row("proxy", &proxy.process);
    row[5] = proxy.queued.to_string();
    row
}

fn worker_row(worker: &Worker) -> Row {
    [
        format!("worker {}", worker.id),
        worker.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        worker.generation.to_string(),
        worker.state.clone(),
        format!("{}/{}", worker.cores.busy, worker.cores.total),
        worker.waiting.to_string(),
        worker.requests.to_string(),
        worker.exceptions.to_string(),
        memory(worker.rss_kib),
    ]
}

/// `39 MiB`; `-` while it has not been measured.
pub fn memory(kib: u32) -> String {
    if kib == 0 { "-".to_owned() } else { format!("{} MiB", kib / 1024) }
}

/// The rows with their columns under each other: those named in `right` to the right, the others to the left.
pub fn aligned<const N: usize>(rows: &[[String; N]], right: &[usize]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let cell = |(column, text): (usize, &String)| match right.contains(&column) {
        false => format!("{text:<0$}", widths[column]),
        true => format!("{text:>0$}", widths[column]),
    };
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// `42s`, `5m 3s`, `2h 10m`, `3d 4h`.
pub fn uptime(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m {}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h {}m", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{}d {}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::super::status::Cores;
    use super::*;

    #[test]
    fn columns_stand_under_their_heads() {
        let status = Status {
            master: Master {
                pid: 100,
                uptime: 7384,
                version: "0.1.0".into(),
                generation: 2,
                state: "serving".into(),
                reason: None,
                mode: "paused".into(),
                mode_seconds: Some(75),
                listen: vec!["http://127.0.0.1:8080".into()],
            },
            proxy: vec![Proxy {
                process: Process { pid: 101, state: "ready".into(), ..Process::default() },
                queued: 4,
                ..Proxy::default()
            }],
            template: Vec::new(),
            workers: vec![
                Worker {
                    id: 1,
                    pid: Some(4711),
                    generation: 2,
                    state: "ready".into(),
                    cores: Cores { busy: 3, total: 100 },
                    waiting: 0,
                    requests: 123_456,
                    exceptions: 1,
                    rss_kib: 40_000,
                    ..Worker::default()
                },
                Worker { id: 2, state: "dead".into(), ..Worker::default() },
            ],
        };
        let expected = "\
appliance 0.1.0 · serving, paused for 1m 15s · pid 100 · up 2h 3m · generation 2
serving http://127.0.0.1:8080

process    pid  gen  state  cores  waiting  requests  exceptions     rss
proxy      101    0  ready               4
worker 1  4711    2  ready  3/100        0    123456           1  39 MiB
worker 2     -    0  dead     0/0        0         0           0       -
";
        assert_eq!(table(&status), expected);
    }

    #[test]
    fn what_holds_is_said_once() {
        let said = |at: &str, mode: &str, mode_seconds| {
            state(&Master { state: at.into(), mode: mode.into(), mode_seconds, ..Master::default() })
        };
        let told = [
            said("serving", "serving", None),
            said("serving", "paused", Some(3)),
            said("crash-loop", "crash-loop", Some(3)),
        ];
        assert_eq!(told, ["serving", "serving, paused for 3s", "crash-loop for 3s"]);
    }

    #[test]
    fn an_uptime_has_two_units_at_most() {
        let told = [0, 59, 60, 303, 7800, 273_600].map(uptime);
        assert_eq!(told, ["0s", "59s", "1m 0s", "5m 3s", "2h 10m", "3d 4h"]);
    }
}
