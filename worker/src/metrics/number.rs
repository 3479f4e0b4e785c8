//! Metrics and series as plain numbers, for callers that hold nothing else: native applications, over their C interface. A number
//! of a series knows its metric, so that what may be done to it is checked each time. A wrong number is refused; it never leads
//! out of the shared memory.
use super::exposition::odd_label;
use super::{Error, Family, Kind, Metrics, Series};

/// What is done to a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is added to.
    Add,
    /// It is replaced.
    Set,
    /// It is replaced by what is more.
    Raise,
    /// It is replaced by what is less.
    Lower,
    /// It is an observation more.
    Observe,
}

/// A series, and the metric that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbered {
    family: Family,
    series: Series,
}

impl Family {
    /// As a number, which is not negative.
    pub fn number(self) -> i64 {
        i64::from(self.0)
    }
}

impl Numbered {
    /// As a number, which is not negative.
    pub fn number(self) -> i64 {
        self.family.number() << 32 | i64::from(self.series.0)
    }
}

impl Metrics {
    /// The metric that has this number.
    pub fn numbered_family(&self, number: i64) -> Result<Family, Error> {
        let family = u32::try_from(number).map(Family).ok();
        family.filter(|family| self.kind(*family).is_some()).ok_or(Error::Number(number))
    }

    /// A series of a metric, as [`Metrics::series`] has it; an error if one of the labels cannot have that name.
    pub fn numbered_series(&self, family: Family, labels: &[(&str, &str)]) -> Result<Numbered, Error> {
        match odd_label(labels.iter().map(|(name, _)| *name)) {
            Some(odd) => {
                let record = self.shared.families.get(family.0 as usize);
                let name = record.map(|record| record.name.text()).unwrap_or_default();
                Err(Error::Label(name, odd.to_owned()))
            }
            None => Ok(Numbered { family, series: self.series(family, labels) }),
        }
    }

    /// The series that has this number.
    pub fn numbered(&self, number: i64) -> Result<Numbered, Error> {
        let family = self.numbered_family(number >> 32).map_err(|_| Error::Number(number))?;
        // What is cut off is the metric.
        Ok(Numbered { family, series: Series(number as u32) })
    }

    /// Does this to a series, if a metric of its kind can have that done.
    pub fn apply(&self, Numbered { family, series }: Numbered, how: Change, value: f64) -> Result<(), Error> {
        match (how, self.kind(family)) {
            (Change::Add, Some(Kind::Counter)) => return self.grow(series, value),
            (Change::Add, Some(Kind::Gauge)) => self.add(series, value),
            (Change::Set, Some(Kind::Gauge)) => self.set(series, value),
            (Change::Raise, Some(Kind::Gauge)) => self.raise(series, value),
            (Change::Lower, Some(Kind::Gauge)) => self.lower(series, value),
            (Change::Observe, Some(Kind::Histogram)) => {
                self.observe(&self.histogram(family, series), value);
            }
            (_, kind) => return Err(Error::Change(super::name_of(kind))),
        }
        Ok(())
    }

    /// What has come of a series: its value, and 0; of a histogram the sum of its observations, and how many there were.
    pub fn outcome(&self, Numbered { family, series }: Numbered) -> (f64, u64) {
        if self.kind(family) == Some(Kind::Histogram) {
            let (count, sum) = self.observed(&self.histogram(family, series));
            return (sum, count);
        }
        (self.get(series), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Definition;

    fn series(metrics: &Metrics, name: &str, kind: Kind, bounds: &[f64]) -> Numbered {
        let wanted = Definition { name, kind, help: "", labels: &[], bounds, initial: 0.0 };
        metrics.numbered_series(metrics.define(&wanted).unwrap(), &[]).unwrap()
    }

    #[test]
    fn labels_that_no_page_could_show_are_refused() {
        let metrics = Metrics::create().unwrap();
        let family = series(&metrics, "hits", Kind::Counter, &[]).family;
        let odd = |labels: &[(&str, &str)]| metrics.numbered_series(family, labels).unwrap_err();
        for name in ["", "1a", "a-b", "le", "__a"] {
            assert_eq!(odd(&[("kind", "x"), (name, "y")]), Error::Label("hits".into(), name.into()));
        }
        assert_eq!(odd(&[("kind", "x"), ("kind", "y")]), Error::Label("hits".into(), "kind".into()));
        assert!(metrics.numbered_series(family, &[("kind", "x"), ("size", "x")]).is_ok());
    }

    #[test]
    fn a_number_leads_back_to_its_series() {
        let metrics = Metrics::create().unwrap();
        series(&metrics, "first", Kind::Counter, &[]);
        let counter = series(&metrics, "hits", Kind::Counter, &[]);
        let again = metrics.numbered(counter.number()).unwrap();
        assert_eq!(again, counter);
        metrics.apply(again, Change::Add, 2.0).unwrap();
        assert_eq!(metrics.outcome(counter), (2.0, 0));
    }

    #[test]
    fn numbers_of_nothing_are_refused_or_harmless() {
        let metrics = Metrics::create().unwrap();
        series(&metrics, "hits", Kind::Counter, &[]);
        for number in [-1, i64::MIN, i64::MAX, 1 << 32, 1 << 52] {
            assert_eq!(metrics.numbered(number), Err(Error::Number(number)));
        }
        let nowhere = metrics.numbered(i64::from(u32::MAX)).unwrap();
        assert_eq!(metrics.apply(nowhere, Change::Add, 1.0), Ok(()));
    }

    #[test]
    fn each_kind_takes_what_it_can() {
        let metrics = Metrics::create().unwrap();
        let counter = series(&metrics, "hits", Kind::Counter, &[]);
        assert_eq!(metrics.apply(counter, Change::Add, -1.0), Err(Error::Shrinks(-1.0)));
        assert_eq!(metrics.apply(counter, Change::Set, 1.0), Err(Error::Change("a counter")));
        let gauge = series(&metrics, "depth", Kind::Gauge, &[]);
        let changes = [(Change::Set, 5.0), (Change::Add, -1.0), (Change::Raise, 3.0), (Change::Lower, 2.0)];
        assert!(changes.iter().all(|(how, value)| metrics.apply(gauge, *how, *value).is_ok()));
        assert_eq!(metrics.outcome(gauge), (2.0, 0));
        let histogram = series(&metrics, "took", Kind::Histogram, &[1.0]);
        assert_eq!(metrics.apply(histogram, Change::Add, 1.0), Err(Error::Change("a histogram")));
        assert_eq!(metrics.apply(histogram, Change::Observe, 1.5), Ok(()));
        assert_eq!(metrics.outcome(histogram), (1.5, 1));
    }
}
