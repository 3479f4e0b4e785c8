//! Numbers as Prometheus reads them: its text format, version 0.0.4. The binary writes the appliance's own metrics with
//! [`Page`], [`Metrics::expose`] adds those of the application. What application code has left in the memory may be anything;
//! what is no metric is left out, and nothing of it can leave its place on the page.
use super::layout::{FamilyRecord, MOST_BOUNDS, SeriesRecord};
use super::{Kind, Metrics, unpacked};
use appliance_config::units::{label, metric};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

/// A page that is being written, metric by metric.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    /// Of the metric that is being written.
    name: String,
    /// Names of metrics and of histograms' parts, each of which may come once.
    names: HashSet<String>,
}

impl Page {
    /// Begins a metric, whose samples follow; false: there is one of this name already, and it must not be written.
    pub fn begin(&mut self, name: &str, kind: Kind, help: &str) -> bool {
        let parts = if kind == Kind::Histogram { &["", "_bucket", "_sum", "_count"][..] } else { &[""] };
        let names: Vec<String> = parts.iter().map(|part| format!("{name}{part}")).collect();
        if names.iter().any(|name| self.names.contains(name)) {
            return false;
        }
        self.names.extend(names);
        name.clone_into(&mut self.name);
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Gauge | Kind::Alias => "gauge",
        };
        if !help.is_empty() {
            self.put(format_args!("# HELP {name} "));
            escape(&mut self.text, help, false);
            self.text.push('\n');
        }
        self.put(format_args!("# TYPE {name} {kind}\n"));
        true
    }

    /// A metric with one number and no labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        if self.begin(name, kind, help) {
            self.sample(&[], value);
        }
    }

    /// One number of the metric.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, Number(value));
    }

    /// One histogram of the metric: how many observations each range has, the last one without a bound, and their sum.
    pub fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], sum: f64) {
        let mut total: u64 = 0;
        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(counts) {
            total = total.wrapping_add(*count);
            self.line("_bucket", labels, Some(bound), total);
        }
        self.line("_sum", labels, None, Number(sum));
        self.line("_count", labels, None, total);
    }

    /// The whole page.
    pub fn finish(self) -> String {
        self.text
    }

    fn line(&mut self, part: &str, labels: &[(&str, &str)], le: Option<f64>, value: impl std::fmt::Display) {
        self.text.push_str(&self.name);
        self.text.push_str(part);
        let mut separator = '{';
        for (name, label) in labels {
            self.put(format_args!("{separator}{name}=\""));
            escape(&mut self.text, label, true);
            self.text.push('"');
            separator = ',';
        }
        if let Some(le) = le {
            self.put(format_args!("{separator}le=\"{}\"", Number(le)));
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Memory takes any text.
        let _ = self.text.write_fmt(text);
    }
}

/// Backslashes and line feeds, and in labels quotes, are escaped; nothing else means anything to a reader.
fn escape(into: &mut String, text: &str, is_label: bool) {
    for c in text.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '"' if is_label => into.push_str("\\\""),
            c => into.push(c),
        }
    }
}

/// A double as the format spells it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value if value.is_nan() => f.write_str("NaN"),
            value if value.fract() == 0.0 && value.abs() < 1e15 => write!(f, "{value}"),
            value => write!(f, "{value:?}"),
        }
    }
}

impl Metrics {
    /// Adds the application's metrics, and how many of their series found no room.
    pub fn expose(&self, page: &mut Page) {
        let mut series: BTreeMap<u32, Vec<&SeriesRecord>> = BTreeMap::new();
        for n in self.shared.series_index.all() {
            if let Some(record) = self.shared.series.get(n as usize) {
                series.entry(record.family.load(Relaxed)).or_default().push(record);
            }
        }
        let help = "Series of the application's metrics that found no room; what is counted in them is lost.";
        page.single("appliance_metrics_refused_total", Kind::Counter, help, self.refused() as f64);
        for n in self.shared.family_index.all() {
            let Some(family) = self.shared.families.get(n as usize) else { continue };
            if let Some(series) = series.get(&n) {
                expose_family(page, family, series);
            }
        }
    }
}

fn expose_family(page: &mut Page, family: &FamilyRecord, series: &[&SeriesRecord]) {
    let name = family.name.text();
    let Some(kind) = Kind::from_number(family.kind.load(Relaxed)) else { return };
    // Our own begin with a name that no application's may have.
    let is_plain = metric(&name).is_some() && !name.contains(['.', '-']);
    if !is_plain || kind == Kind::Alias || !page.begin(&name, kind, &family.help.text()) {
        return;
    }
    let bounds = family.bounds();
    let mut seen = HashSet::new();
    for record in series {
        let packed = record.labels.bytes();
        let Some(labels) =
            unpacked(&packed).filter(|labels| odd_label(labels.iter().map(|(name, _)| &**name)).is_none())
        else {
            continue;
        };
        if !seen.insert(packed) {
            continue;
        }
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        if kind == Kind::Histogram {
            let ranges = &record.cells[..=bounds.len().min(MOST_BOUNDS)];
            let counts: Vec<u64> = ranges.iter().map(|cell| cell.load(Relaxed)).collect();
            page.histogram(&labels, &bounds, &counts, f64::from_bits(record.sum().load(Relaxed)));
        } else {
            page.sample(&labels, f64::from_bits(record.cells[0].load(Relaxed)));
        }
    }
}

/// The first of these that cannot be the name of a label, or is there for the second time.
pub(super) fn odd_label<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let is_odd =
        |(n, name): &(usize, &str)| label(name).is_none() || names.clone().take(*n).any(|it| it == *name);
    names.clone().enumerate().find(is_odd).map(|(_, name)| name)
}
