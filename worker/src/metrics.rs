//! The application's metrics: numbers with a name, in shared memory that the master makes before any fork. Whoever has the
//! application counts in it (the template while it is imported, workers from any thread), all see the same numbers, and they
//! outlive every process but the master. The proxy reads them for `/metrics`. Nobody ever waits for anybody here: what is
//! counted is one atomic operation, what is new is written first and published by another one.
//!
//! `layout` says what lies in the memory, `index` how names are found in it, `exposition` how it looks to Prometheus, `number` how those
//! hold it who have nothing but numbers. All of it may be overwritten by application code, so whoever reads it believes nothing. A
//! metric stays until the appliance ends, whatever a reload brings: other workers may still count in it, and what Prometheus
//! has seen does not go away between two of its visits.
use crate::shared::Shared;
use appliance_config::settings::{Metric, MetricKind};
use appliance_config::units::{LABEL_NAME_BYTES, METRIC_NAME_BYTES, metric, metric_identity};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub mod exposition;
mod index;
mod layout;
pub mod number;
mod values;

use layout::{FamilyRecord, HELP_BYTES, LABEL_BYTES, Layout, NAMES_BYTES, SINK, SeriesRecord};
pub use layout::{MOST_BOUNDS, MOST_FAMILIES, MOST_SERIES};
pub use values::Histogram;

/// What the numbers of a metric mean.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows.
    Counter = 1,
    /// It grows and shrinks.
    Gauge = 2,
    /// How many observations there were, in ranges of their size, and their sum.
    Histogram = 3,
    /// It has the value of another metric.
    Alias = 4,
}

impl Kind {
    fn from_number(n: u32) -> Option<Kind> {
        [Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Alias].into_iter().find(|kind| *kind as u32 == n)
    }

    /// What it is called, with its article.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "a counter",
            Kind::Gauge => "a gauge",
            Kind::Histogram => "a histogram",
            Kind::Alias => "an alias",
        }
    }
}

/// What a metric is to be.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    /// As the application spells it; dots and dashes count as underscores.
    pub name: &'a str,
    /// What its numbers mean.
    pub kind: Kind,
    /// What it counts or measures.
    pub help: &'a str,
    /// Names of its labels; without labels it has one series, which is there at once.
    pub labels: &'a [&'a str],
    /// Upper bounds of a histogram's ranges, ascending; there is always another one for what is larger.
    pub bounds: &'a [f64],
    /// The first value of a metric without labels.
    pub initial: f64,
}

/// Why a metric cannot be had.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The name cannot be used.
    #[error(
        "{0:?} is no name for a metric; write letters, digits, \"_\", \".\", \"-\" and \":\", at most {METRIC_NAME_BYTES} of them, \
         and neither \"appliance…\" nor \"core…\" nor \"worker…\""
    )]
    Name(String),
    /// It is something else already.
    #[error(
        "the metric {name} is {is} already, and not {wanted}; choose another name, or start the appliance again: a reload \
         keeps every metric"
    )]
    Kind {
        /// Its name.
        name: String,
        /// What it is.
        is: &'static str,
        /// What it was to be.
        wanted: &'static str,
    },
    /// It has other ranges already.
    #[error(
        "the histogram {0} has other buckets already; choose another name, or start the appliance again: a reload keeps \
         every metric"
    )]
    OtherBounds(String),
    /// No histogram can have these ranges.
    #[error("the buckets of {0} are not 1 to {MOST_BOUNDS} ascending numbers")]
    Bounds(String),
    /// There is no room.
    #[error("there is no room for the metric {0}: there are {MOST_FAMILIES} already")]
    Full(String),
    /// The name of a label cannot be used, or is there twice.
    #[error(
        "{1:?} cannot be the name of a label of {0}: each is there once, of letters, digits and \"_\", at most {LABEL_NAME_BYTES} of \
         them, no digit first, and is neither \"le\" nor \"__…\""
    )]
    Label(String, String),
    /// The names of its labels are too long.
    #[error(
        "the names of the labels of {0} are longer than {NAMES_BYTES} bytes together; use fewer, or shorter ones"
    )]
    Labels(String),
    /// No metric, or series of one, has this number.
    #[error("{0} is the number of no metric")]
    Number(i64),
    /// A counter was to become less.
    #[error("a counter only grows: {0} cannot be added")]
    Shrinks(f64),
    /// That is done to metrics of another kind.
    #[error("that cannot be done to {0}")]
    Change(&'static str),
}

/// A metric: all series of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family(u32);

/// One number, or one histogram, of a metric. Counting in it needs nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series(u32);

/// The mapped memory.
#[derive(Debug)]
pub struct Metrics {
    shared: Shared<Layout>,
    /// A series of this process that was written and is not needed after all, with the process: children do not have it.
    spare: AtomicU64,
}

/// Of this process and of those that are forked from it.
static HERE: OnceLock<Metrics> = OnceLock::new();

impl Metrics {
    /// Makes the memory. Master only, before the first fork.
    pub fn create() -> io::Result<Metrics> {
        Ok(Metrics { shared: Shared::create(c"appliance-metrics")?, spare: AtomicU64::new(0) })
    }

    /// Maps what the master made.
    pub fn open(fd: OwnedFd) -> io::Result<Metrics> {
        Ok(Metrics { shared: Shared::open(fd)?, spare: AtomicU64::new(0) })
    }

    /// Makes them those of this process and of its children, for the rest of its life; before any code of the application runs.
    pub fn install(self) {
        HERE.get_or_init(|| self);
    }

    /// Those of this process; none in a process that runs no application.
    pub fn here() -> Option<&'static Metrics> {
        HERE.get()
    }

    /// The memfd, to hand to another process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.fd()
    }

    /// Makes what the configuration names, as far as it is not there; aliases last.
    pub fn configure(&self, metrics: &[Metric]) -> Result<(), Error> {
        for metric in metrics.iter().filter(|metric| metric.alias.is_none()) {
            let labels: Vec<&str> = metric.labels.iter().map(String::as_str).collect();
            let kind = match metric.kind {
                MetricKind::Counter => Kind::Counter,
                MetricKind::Gauge => Kind::Gauge,
            };
            let (name, help, initial) = (&metric.name, &metric.help, metric.initial as f64);
            self.define(&Definition { name, kind, help, labels: &labels, bounds: &[], initial })?;
        }
        metrics.iter().try_for_each(|metric| match &metric.alias {
            Some(of) => self.define_alias(&metric.name, of),
            None => Ok(()),
        })
    }

    /// The metric of this name, made if there is none.
    pub fn define(&self, wanted: &Definition<'_>) -> Result<Family, Error> {
        let identity = metric(wanted.name).ok_or_else(|| Error::Name(wanted.name.to_owned()))?;
        let identity = metric_identity(&identity);
        let ascend = wanted.bounds.is_sorted_by(|a, b| a < b) && wanted.bounds.iter().all(|b| b.is_finite());
        let has_none = wanted.bounds.is_empty();
        let is_odd = has_none == (wanted.kind == Kind::Histogram);
        if !ascend || is_odd || wanted.bounds.len() > MOST_BOUNDS {
            return Err(Error::Bounds(wanted.name.to_owned()));
        }
        if let Some(odd) = exposition::odd_label(wanted.labels.iter().copied()) {
            return Err(Error::Label(wanted.name.to_owned(), odd.to_owned()));
        }
        let names = wanted.labels.join(",");
        if names.len() > NAMES_BYTES {
            return Err(Error::Labels(wanted.name.to_owned()));
        }
        let family = self.claim_family(&identity, |record| {
            record.kind.store(wanted.kind as u32, Relaxed);
            record.help.write(cut(wanted.help, HELP_BYTES).as_bytes());
            record.labels.write(names.as_bytes());
            record.set_bounds(wanted.bounds);
        });
        let family = family.ok_or_else(|| Error::Full(wanted.name.to_owned()))?;
        self.expect(family, wanted)?;
        if wanted.labels.is_empty() {
            let start = if wanted.kind == Kind::Histogram { 0.0 } else { wanted.initial };
            self.claim_series(family, &[], start);
        }
        Ok(family)
    }

    fn define_alias(&self, name: &str, of: &str) -> Result<(), Error> {
        let target = self.family(of).ok_or_else(|| Error::Name(of.to_owned()))?;
        let family = self.claim_family(&metric_identity(name), |record| {
            record.kind.store(Kind::Alias as u32, Relaxed);
            record.target.store(target.0, Relaxed);
        });
        let family = family.ok_or_else(|| Error::Full(name.to_owned()))?;
        match self.kind(family) {
            Some(Kind::Alias) => Ok(()),
            is => Err(Error::Kind { name: name.to_owned(), is: name_of(is), wanted: Kind::Alias.name() }),
        }
    }

    /// Whether what is there is what is wanted.
    fn expect(&self, family: Family, wanted: &Definition<'_>) -> Result<(), Error> {
        let name = || wanted.name.to_owned();
        match self.kind(family) {
            Some(kind) if kind == wanted.kind && self.bounds(family) == wanted.bounds => Ok(()),
            Some(kind) if kind == wanted.kind => Err(Error::OtherBounds(name())),
            is => Err(Error::Kind { name: name(), is: name_of(is), wanted: wanted.kind.name() }),
        }
    }

    /// The metric of a name, if there is one.
    pub fn family(&self, name: &str) -> Option<Family> {
        let identity = metric_identity(name);
        let families = &self.shared.families;
        let found = self.shared.family_index.find(index::hash(identity.as_bytes()), |n| {
            families.get(n as usize).is_some_and(|record| record.name.is(identity.as_bytes()))
        });
        found.map(Family)
    }

    /// What the numbers of a metric mean; `None`: somebody has written nonsense over it.
    pub fn kind(&self, family: Family) -> Option<Kind> {
        Kind::from_number(self.shared.families.get(family.0 as usize)?.kind.load(Relaxed))
    }

    /// Upper bounds of a histogram's ranges.
    pub fn bounds(&self, family: Family) -> Vec<f64> {
        self.shared.families.get(family.0 as usize).map(FamilyRecord::bounds).unwrap_or_default()
    }

    /// Names of the labels that a metric was made with.
    pub fn label_names(&self, family: Family) -> Vec<String> {
        let names = self.shared.families.get(family.0 as usize).map(|record| record.labels.text());
        names.unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    /// What a metric has the value of: itself, unless it is an alias.
    pub fn target(&self, family: Family) -> Family {
        match (self.kind(family), self.shared.families.get(family.0 as usize)) {
            (Some(Kind::Alias), Some(record)) => Family(record.target.load(Relaxed)),
            _ => family,
        }
    }

    /// The only series of a metric without labels, if it is there.
    pub fn only(&self, family: Family) -> Option<Series> {
        let (hash, is) = self.series_key(family, &[]);
        self.shared.series_index.find(hash, is).map(Series)
    }

    /// The series with these labels, names and values in turn, made if there is none. One that finds no room is refused: what is
    /// counted in it is lost, and the refusal is counted.
    pub fn series(&self, family: Family, labels: &[(&str, &str)]) -> Series {
        let found = packed(labels).and_then(|packed| self.claim_series(family, &packed, 0.0));
        found.unwrap_or_else(|| {
            if self.shared.refused.fetch_add(1, Relaxed) == 0 {
                tracing::warn!(
                    "a series of the application's metrics found no room: there are {MOST_SERIES} already, or its labels take more \
                     than {LABEL_BYTES} bytes; what is counted in it is lost. Let labels have fewer values (this is told once)"
                );
            }
            Series(SINK)
        })
    }

    /// How many series found no room.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    fn series_key<'a>(&'a self, family: Family, labels: &'a [u8]) -> (u64, impl Fn(u32) -> bool + 'a) {
        let is = move |n: u32| {
            let record = self.shared.series.get(n as usize);
            record.is_some_and(|record| record.family.load(Relaxed) == family.0 && record.labels.is(labels))
        };
        (index::hash(labels) ^ u64::from(family.0).wrapping_mul(index::SPREAD), is)
    }

    fn claim_family(&self, identity: &str, fill: impl FnOnce(&FamilyRecord)) -> Option<Family> {
        if let Some(found) = self.family(identity) {
            return Some(found);
        }
        let shared = &*self.shared;
        let n = index::take(&shared.families_taken, MOST_FAMILIES)?;
        let record = shared.families.get(n as usize)?;
        record.name.write(identity.as_bytes());
        fill(record);
        let is = |n: u32| {
            shared.families.get(n as usize).is_some_and(|record| record.name.is(identity.as_bytes()))
        };
        shared.family_index.publish(index::hash(identity.as_bytes()), n, is).map(Family)
    }

    /// `labels` as [`packed`] makes them. `None`: there is no room.
    fn claim_series(&self, family: Family, labels: &[u8], initial: f64) -> Option<Series> {
        let shared = &*self.shared;
        let (hash, is) = self.series_key(family, labels);
        if let Some(found) = shared.series_index.find(hash, &is) {
            return Some(Series(found));
        }
        let n = self.take_spare().or_else(|| index::take(&shared.series_taken, MOST_SERIES))?;
        let record = shared.series.get(n as usize)?;
        record.claim(family.0, labels, initial);
        let published = shared.series_index.publish(hash, n, is);
        if published != Some(n) {
            // Somebody else was faster, or there is no room in the index.
            self.spare.store(u64::from(std::process::id()) << 32 | u64::from(n), Relaxed);
        }
        published.map(Series)
    }

    fn take_spare(&self) -> Option<u32> {
        let spare = self.spare.swap(0, Relaxed);
        // What is cut off is the process.
        (spare >> 32 == u64::from(std::process::id())).then_some(spare as u32)
    }

    fn record(&self, series: Series) -> &SeriesRecord {
        // A series is made with a number that is in bounds.
        self.shared.series.get(series.0 as usize).unwrap_or(&self.shared.series[SINK as usize])
    }
}

fn name_of(kind: Option<Kind>) -> &'static str {
    kind.map_or("something unknown", Kind::name)
}

/// As much of a text as fits.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// Labels as they lie in memory: each name and each value after its length in a byte. `None`: they are too long.
fn packed(labels: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut packed = Vec::with_capacity(LABEL_BYTES);
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        packed.push(u8::try_from(text.len()).ok()?);
        packed.extend_from_slice(text.as_bytes());
    }
    (packed.len() <= LABEL_BYTES).then_some(packed)
}

/// The inverse; `None`: nonsense.
fn unpacked(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut labels = Vec::new();
    let next = |bytes: &mut &[u8]| -> Option<String> {
        let (length, rest) = bytes.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(*length))?;
        *bytes = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    while !bytes.is_empty() {
        labels.push((next(&mut bytes)?, next(&mut bytes)?));
    }
    Some(labels)
}

#[cfg(test)]
mod tests;
