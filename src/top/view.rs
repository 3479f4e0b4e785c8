//! How `appliance top` looks: from a status, and what has changed since the one before, to cells of the screen. Pure.
use super::rates::Rates;
use crate::control::status::{Status, Worker};
use crate::control::table;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use std::time::{Duration, Instant};

/// Cells of the bar that shows how many cores are busy.
const BAR: u32 = 10;
/// A status older than this is said to be old.
const OLD: Duration = Duration::from_secs(3);
/// The columns of the table of workers and their widths.
const COLUMNS: [(&str, u16); 9] = [
    ("worker", 6),
    ("pid", 8),
    ("state", 9),
    ("cores", 20),
    ("waiting", 7),
    ("req/s", 8),
    ("requests", 10),
    ("lag", 8),
    ("rss", 9),
];

/// What is shown.
#[derive(Debug)]
pub struct View {
    status: Status,
    seen: Instant,
    /// None before the second look.
    rates: Option<Rates>,
    /// Workers above the first line of the table.
    above: usize,
    has_color: bool,
}

impl View {
    /// After the first look.
    pub fn new(status: Status, has_color: bool, now: Instant) -> View {
        View { status, seen: now, rates: None, above: 0, has_color }
    }

    /// After the next one.
    pub fn take(&mut self, status: Status, now: Instant) {
        self.rates = Some(Rates::between(&self.status, &status, now.saturating_duration_since(self.seen)));
        (self.status, self.seen) = (status, now);
        self.scroll(0);
    }

    /// Moves the table by so many lines.
    pub fn scroll(&mut self, lines: isize) {
        let last = self.status.workers.len().saturating_sub(1);
        self.above = self.above.saturating_add_signed(lines).min(last);
    }

    /// Draws all of it; what has no room is left out.
    pub fn draw(&self, frame: &mut Frame<'_>, now: Instant) {
        let head = self.head(now);
        let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
        let areas = [Constraint::Length(height), Constraint::Min(2), Constraint::Length(1)];
        let [top, middle, bottom] = Layout::vertical(areas).areas(frame.area());
        frame.render_widget(Paragraph::new(head), top);
        frame.render_widget(self.workers(), middle);
        frame.render_widget(Paragraph::new("q quits, arrows move").style(self.style(Modifier::DIM)), bottom);
    }

    fn head(&self, now: Instant) -> Vec<Line<'static>> {
        let master = &self.status.master;
        let uptime = table::uptime(master.uptime);
        let state = table::state(master);
        let title = format!(
            "appliance {} · {state} · pid {} · up {uptime} · generation {}",
            master.version, master.pid, master.generation
        );
        let mut lines = vec![Line::styled(title, self.style(Modifier::BOLD))];
        let old = now.saturating_duration_since(self.seen);
        if old >= OLD {
            let text = format!("the master has not answered for {}s", old.as_secs());
            lines.push(Line::styled(text, self.color(Color::Red)));
        } else if !master.listen.is_empty() {
            lines.push(Line::raw(format!("serving {}", master.listen.join(" "))));
        }
        lines.extend([Line::raw(self.traffic()), Line::raw("")]);
        lines
    }

    fn traffic(&self) -> String {
        let sum = |of: fn(&crate::control::status::Proxy) -> u32| -> u64 {
            self.status.proxy.iter().map(|proxy| u64::from(of(proxy))).sum()
        };
        let rate = |of: fn(&Rates) -> f64| {
            self.rates.as_ref().map_or_else(|| "-".to_owned(), |rates| per_second(of(rates)))
        };
        let wait = self.rates.as_ref().and_then(|rates| rates.wait).map_or_else(|| "-".to_owned(), short);
        format!(
            "requests/s {} · errors/s {} · under way {} · queued {} · wait {wait} · connections {}",
            rate(|rates| rates.requests),
            rate(|rates| rates.exceptions),
            sum(|proxy| proxy.in_flight),
            sum(|proxy| proxy.queued),
            sum(|proxy| proxy.connections),
        )
    }

    fn workers(&self) -> Table<'static> {
        let head = Row::new(COLUMNS.map(|(name, _)| name)).style(self.style(Modifier::BOLD));
        let rows = self.status.workers.iter().skip(self.above).map(|worker| self.row(worker));
        let rows: Vec<Row<'static>> = rows.collect();
        Table::new(rows, COLUMNS.map(|(_, width)| Constraint::Length(width))).header(head)
    }

    fn row(&self, worker: &Worker) -> Row<'static> {
        let rate = worker.pid.and_then(|pid| self.rates.as_ref()?.by_worker.get(&pid).copied());
        let state = match &*worker.state {
            "ready" => Color::Green,
            "booting" | "retiring" | "draining" => Color::Yellow,
            _ => Color::Red,
        };
        Row::new([
            Cell::new(worker.id.to_string()),
            Cell::new(worker.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())),
            Cell::new(worker.state.clone()).style(self.color(state)),
            Cell::new(bar(worker.cores.busy, worker.cores.total)),
            Cell::new(worker.waiting.to_string()),
            Cell::new(rate.map_or_else(|| "-".to_owned(), per_second)),
            Cell::new(worker.requests.to_string()),
            Cell::new(short(Duration::from_micros(worker.lag_us))),
            Cell::new(table::memory(worker.rss_kib)),
        ])
    }

    fn color(&self, color: Color) -> Style {
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    fn style(&self, modifier: Modifier) -> Style {
        Style::new().add_modifier(modifier)
    }
}

/// `███······· 3/10`; whoever is busy at all has a cell.
fn bar(busy: u32, total: u32) -> String {
    let share = u64::from(busy) * u64::from(BAR);
    let full = share.div_ceil(u64::from(total.max(1))).min(u64::from(BAR)) as usize;
    format!("{}{} {busy}/{total}", "█".repeat(full), "·".repeat(BAR as usize - full))
}

/// `0.3`, `12.5`, `1234`.
fn per_second(rate: f64) -> String {
    if rate < 100.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// `30us`, `1.2ms`, `3.0s`.
fn short(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1_000 => format!("{micros}us"),
        micros @ 1_000..1_000_000 => format!("{:.1}ms", micros as f64 / 1e3),
        micros => format!("{:.1}s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{Cores, Master, Proxy};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn worker(id: u32, state: &str, busy: u32) -> Worker {
        Worker {
            id,
            pid: (state != "dead").then_some(4000 + id as i32),
            state: state.into(),
            cores: Cores { busy, total: 100 },
            requests: 1_000,
            rss_kib: 40_000,
            lag_us: 1_250,
            ..Worker::default()
        }
    }

    fn status() -> Status {
        let master = Master {
            pid: 100,
            uptime: 7384,
            version: "0.1.0".into(),
            state: "serving".into(),
            listen: vec!["http://127.0.0.1:8080".into()],
            ..Master::default()
        };
        let proxy = Proxy { connections: 12, in_flight: 3, queued: 1, ..Proxy::default() };
        let workers = vec![worker(1, "ready", 31), worker(2, "draining", 0), worker(3, "dead", 0)];
        Status { master, proxy: vec![proxy], template: Vec::new(), workers }
    }

    fn drawn(view: &View, size: (u16, u16), now: Instant) -> (String, ratatui::buffer::Buffer) {
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        terminal.draw(|frame| view.draw(frame, now)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        let text = (0..size.1).map(|y| row(y).trim_end().to_owned() + "\n").collect();
        (text, buffer)
    }

    fn colors(buffer: &ratatui::buffer::Buffer) -> usize {
        buffer.content().iter().filter(|cell| cell.fg != Color::Reset).count()
    }

    #[test]
    fn the_first_look_has_no_rates_and_the_second_has() {
        let now = Instant::now();
        let mut view = View::new(status(), true, now);
        let (text, _) = drawn(&view, (100, 9), now);
        let expected = "\
appliance 0.1.0 · serving · pid 100 · up 2h 3m · generation 0
serving http://127.0.0.1:8080
requests/s - · errors/s - · under way 3 · queued 1 · wait - · connections 12

worker pid      state     cores                waiting req/s    requests   lag      rss
1      4001     ready     ████······ 31/100    0       -        1000       1.2ms    39 MiB
2      4002     draining  ·········· 0/100     0       -        1000       1.2ms    39 MiB
3      -        dead      ·········· 0/100     0       -        1000       1.2ms    39 MiB
q quits, arrows move
";
        assert_eq!(text, expected);
        let mut next = status();
        next.workers[0].requests += 250;
        let later = now + 2 * Duration::from_secs(1);
        view.take(next, later);
        let (text, _) = drawn(&view, (100, 9), later);
        assert!(text.contains("requests/s 125 · errors/s 0.0"), "{text}");
        assert!(text.contains("0       125      1250"), "{text}");
    }

    #[test]
    fn colors_are_left_out_where_none_are_wanted() {
        let now = Instant::now();
        let of = |has_color| colors(&drawn(&View::new(status(), has_color, now), (100, 9), now).1);
        assert_eq!(of(false), 0);
        assert!(of(true) > 0);
    }

    #[test]
    fn a_master_that_is_silent_is_said_to_be() {
        let now = Instant::now();
        let (text, _) = drawn(&View::new(status(), true, now), (100, 9), now + Duration::from_secs(4));
        assert!(text.contains("the master has not answered for 4s"), "{text}");
    }

    #[test]
    fn any_size_of_terminal_will_do() {
        let now = Instant::now();
        for size in [(1, 1), (5, 3), (20, 2), (300, 100)] {
            drawn(&View::new(status(), true, now), size, now);
        }
        drawn(&View::new(Status::default(), true, now), (80, 24), now);
    }

    #[test]
    fn the_table_moves_within_its_lines() {
        let now = Instant::now();
        let mut view = View::new(status(), true, now);
        let first = |view: &View| drawn(view, (100, 9), now).0.lines().nth(5).unwrap().to_owned();
        view.scroll(1);
        assert!(first(&view).starts_with("2 "), "{}", first(&view));
        view.scroll(50);
        assert!(first(&view).starts_with("3 "));
        view.scroll(-50);
        assert!(first(&view).starts_with("1 "));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 12.34, 1234.5].map(per_second), ["0.0", "12.3", "1234"]);
        assert_eq!(
            [30, 1_200, 3_000_000].map(|us| short(Duration::from_micros(us))),
            ["30us", "1.2ms", "3.0s"]
        );
        assert_eq!(
            [bar(0, 10), bar(1, 1000), bar(7, 0)],
            ["·········· 0/10", "█········· 1/1000", "██████████ 7/0"]
        );
    }
}
