//! The metrics as their users see them: names, values, other processes, and memory that somebody has scribbled on.
use super::exposition::Page;
use super::*;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

fn counter(name: &str) -> Definition<'_> {
    Definition { name, kind: Kind::Counter, help: "", labels: &[], bounds: &[], initial: 0.0 }
}

fn other(metrics: &Metrics) -> Metrics {
    Metrics::open(metrics.fd().try_clone_to_owned().unwrap()).unwrap()
}

fn page(metrics: &Metrics) -> String {
    let mut page = Page::default();
    metrics.expose(&mut page);
    page.finish()
}

fn only(metrics: &Metrics, name: &str) -> Series {
    metrics.only(metrics.family(name).unwrap()).unwrap()
}

#[test]
fn what_one_process_counts_another_sees() {
    let (here, there) = {
        let here = Metrics::create().unwrap();
        let there = other(&here);
        (here, there)
    };
    let family = here.define(&Definition { initial: 7.0, ..counter("kit.hits") }).unwrap();
    assert_eq!(
        there.define(&counter("kit_hits")),
        Ok(family),
        "a dot is an underscore, and the first one begins it"
    );
    let series = only(&there, "kit-hits");
    there.add(series, 0.5);
    assert_eq!(here.get(only(&here, "kit.hits")), 7.5);
    assert_eq!(here.change(series, |value| Some(value.max(9.0))), Some(9.0));
    assert_eq!(here.change(series, |_| None), None);
    assert_eq!(there.get(series), 9.0);
}

#[test]
fn a_label_that_no_page_could_show_is_refused() {
    let metrics = Metrics::create().unwrap();
    for name in ["le", "", "a-b", "a,b", "1a", "__a"] {
        let refused = metrics.define(&Definition { labels: &["kind", name], ..counter("orders") });
        assert_eq!(refused, Err(Error::Label("orders".to_owned(), name.to_owned())));
    }
    let refused = metrics.define(&Definition { labels: &["kind", "kind"], ..counter("orders") });
    assert!(
        refused.unwrap_err().to_string().starts_with("\"kind\" cannot be the name of a label of orders: ")
    );
    assert_eq!(metrics.family("orders"), None);
}

#[test]
fn labels_make_series() {
    let metrics = Metrics::create().unwrap();
    let labels = &["kind", "size"][..];
    let family = metrics.define(&Definition { labels, ..counter("orders") }).unwrap();
    assert_eq!(metrics.only(family), None);
    let one = metrics.series(family, &[("kind", "a"), ("size", "")]);
    let two = metrics.series(family, &[("kind", "a"), ("size", "b\"\\\n")]);
    assert_ne!(one, two);
    assert_eq!(metrics.series(family, &[("kind", "a"), ("size", "")]), one);
    assert_eq!(metrics.label_names(family), ["kind", "size"]);
    metrics.add(two, 3.0);
    let expected = "orders{kind=\"a\",size=\"\"} 0\norders{kind=\"a\",size=\"b\\\"\\\\\\n\"} 3\n";
    assert!(page(&metrics).ends_with(expected), "{}", page(&metrics));
}

#[test]
fn histograms_count_in_ranges() {
    let metrics = Metrics::create().unwrap();
    let wanted = Definition {
        kind: Kind::Histogram,
        bounds: &[0.1, 1.0],
        help: "It\\\ntakes",
        ..counter("took_seconds")
    };
    let family = metrics.define(&wanted).unwrap();
    let histogram = metrics.histogram(family, metrics.only(family).unwrap());
    for value in [0.1, 0.5, 0.6, 100.0, f64::NAN.min(2.0)] {
        metrics.observe(&histogram, value);
    }
    assert_eq!(metrics.observed(&histogram).0, 5);
    let expected = "# HELP took_seconds It\\\\\\ntakes\n# TYPE took_seconds histogram\n\
                    took_seconds_bucket{le=\"0.1\"} 1\ntook_seconds_bucket{le=\"1\"} 3\n\
                    took_seconds_bucket{le=\"+Inf\"} 5\ntook_seconds_sum 103.2\ntook_seconds_count 5\n";
    assert!(page(&metrics).ends_with(expected), "{}", page(&metrics));
    let other_bounds = Definition { bounds: &[0.2], ..wanted };
    assert_eq!(metrics.define(&other_bounds), Err(Error::OtherBounds("took_seconds".to_owned())));
    assert_eq!(
        metrics.define(&Definition { bounds: &[2.0, 1.0], ..wanted }),
        Err(Error::Bounds("took_seconds".to_owned()))
    );
}

#[test]
fn a_metric_stays_what_it_is() {
    let metrics = Metrics::create().unwrap();
    metrics.define(&counter("a")).unwrap();
    let again = metrics.define(&Definition { kind: Kind::Gauge, ..counter("a") });
    let error = again.unwrap_err().to_string();
    assert!(
        error.starts_with("the metric a is a counter already, and not a gauge; choose another name"),
        "{error}"
    );
    assert!(matches!(metrics.define(&counter("worker.1.requests")), Err(Error::Name(_))));
}

#[test]
fn an_alias_has_the_value_of_another() {
    let metrics = Metrics::create().unwrap();
    let one = |name: &str, alias: Option<&str>| Metric {
        name: name.to_owned(),
        kind: MetricKind::Gauge,
        help: String::new(),
        labels: Vec::new(),
        initial: 4,
        alias: alias.map(str::to_owned),
    };
    let all = [one("shown", Some("kit.real")), one("kit.real", None)];
    metrics.configure(&all).unwrap();
    metrics.configure(&all).unwrap();
    let shown = metrics.family("shown").unwrap();
    assert_eq!(metrics.kind(shown), Some(Kind::Alias));
    assert_eq!(metrics.get(metrics.only(metrics.target(shown)).unwrap()), 4.0);
    assert!(!page(&metrics).contains("shown"));
}

#[test]
fn many_threads_make_the_same_series_once() {
    let metrics = Metrics::create().unwrap();
    let made = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..200 {
                    let name = format!("m{n}");
                    let family = metrics.define(&Definition { labels: &["x"], ..counter(&name) }).unwrap();
                    metrics.add(metrics.series(family, &[("x", "y")]), 1.0);
                    made.fetch_add(1, Relaxed);
                }
            });
        }
    });
    let text = page(&metrics);
    assert_eq!((made.load(Relaxed), text.matches("\"} 4\n").count()), (800, 200), "{text}");
}

#[test]
fn what_was_not_published_is_not_there_and_blocks_nobody() {
    let metrics = Metrics::create().unwrap();
    // As if a process had been killed with a record in its hand.
    let n = index::take(&metrics.shared.families_taken, MOST_FAMILIES).unwrap();
    metrics.shared.families[n as usize].name.write(b"torn");
    assert_eq!(metrics.family("torn"), None);
    metrics.define(&counter("torn")).unwrap();
    assert_eq!(page(&metrics).matches("# TYPE torn counter").count(), 1);
}

#[test]
fn what_finds_no_room_is_counted_and_harms_nobody() {
    let metrics = Metrics::create().unwrap();
    let family = metrics.define(&Definition { labels: &["n"], ..counter("many") }).unwrap();
    for n in 0..MOST_SERIES + 10 {
        metrics.add(metrics.series(family, &[("n", &n.to_string())]), 1.0);
    }
    let long = "x".repeat(300);
    metrics.add(metrics.series(family, &[("n", &long)]), 1.0);
    assert_eq!(metrics.refused(), 11);
    assert_eq!(page(&metrics).matches("many{").count(), MOST_SERIES as usize);
}

#[test]
fn any_bytes_in_the_memory_make_a_page() {
    for pattern in [u32::MAX, 1, 0x0022_0a5c, 0x6161_6161] {
        let metrics = Metrics::create().unwrap();
        metrics.define(&counter("good")).unwrap();
        for family in &metrics.shared.families {
            family.kind.store(1 + pattern % 3, Relaxed);
            family.target.store(pattern, Relaxed);
            family.name.write(&pattern.to_le_bytes());
            family.help.write(&pattern.to_le_bytes());
        }
        for (n, record) in metrics.shared.series.iter().enumerate() {
            record.family.store(n as u32 % 3, Relaxed);
            record.labels.write(&pattern.to_be_bytes());
            record.cells.iter().for_each(|cell| cell.store(u64::from(pattern) << 32, Relaxed));
        }
        for _ in 0..2000 {
            metrics.shared.series_index.publish(u64::from(pattern), pattern % (MOST_SERIES + 9), |_| false);
            metrics.shared.family_index.publish(u64::from(pattern), pattern % (MOST_FAMILIES + 9), |_| false);
        }
        let text = page(&metrics);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(!name.is_empty() && value.parse::<f64>().is_ok(), "{line:?}");
        }
        let target = metrics.target(Family(3));
        assert!(metrics.kind(target).is_none_or(|kind| kind != Kind::Alias) || target == Family(3));
        metrics.add(Series(u32::MAX), 1.0);
        assert!(metrics.define(&counter("another")).is_ok_and(|family| metrics.kind(family).is_some()));
    }
}
