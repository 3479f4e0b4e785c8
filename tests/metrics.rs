//! Metrics as Prometheus and applications see them: what all workers count together, what outlives them, and that the log, the
//! metrics and the clients tell the same story. Probes beside them.
use crate::harness::{Admin, Appliance, Setup, begin_with, default_venv, meanwhile, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

const CONFIGURED: &str = r#"[{name="kit.hits", type="gauge", help="Hits."}, {name="kit.init", initial=7}, {name="kit.alias", alias="kit.hits"}, {name="kit.kinds", labels=["kind"]}]"#;

struct Site {
    appliance: Appliance,
    admin: Admin,
}

impl Site {
    fn start(workers: u32) -> Site {
        Site::of(Setup::app("counting:application").workers(workers))
    }

    fn of(setup: Setup) -> Site {
        let (setup, admin) = Admin::of(setup.set("metric", CONFIGURED));
        let appliance = setup.start();
        appliance.wait_for_workers();
        Site { appliance, admin }
    }

    /// Every sample by its name and labels, as they stand on the page.
    #[track_caller]
    fn samples(&self) -> BTreeMap<String, f64> {
        let answer = self.admin.get("/metrics");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = answer.text();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        samples.map(sample).collect()
    }

    #[track_caller]
    fn sample(&self, name: &str) -> f64 {
        let samples = self.samples();
        *samples.get(name).unwrap_or_else(|| panic!("no {name} in {samples:#?}"))
    }

    /// What a function of the module `uwsgi` says.
    #[track_caller]
    fn call(&self, name: &str, arguments: &Value) -> Value {
        let arguments = arguments.to_string().replace('"', "%22").replace(' ', "");
        self.appliance.get(&format!("/call?name={name}&arguments={arguments}")).json()
    }
}

// ---- the application's ----

#[test]
fn what_all_workers_count_is_one_number_and_outlives_them() {
    let site = Site::start(2);
    let count = |worker: u32| site.appliance.worker_client(worker).get("/count?kind=a%22b&amount=2").status;
    assert_eq!([1, 2, 1].map(count), [200; 3]);
    let name = "shop_orders_total{kind=\"a\\\"b\"}";
    assert_eq!(site.sample(name), 6.0);
    let before = site.appliance.process("worker 1");
    before.signal(Signal::SIGKILL);
    site.appliance.successor(&before);
    assert_eq!(count(1), 200);
    let (code, _, error) = site.appliance.tell(&["reload"]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(count(2), 200);
    assert_eq!(site.sample(name), 10.0);
    assert_eq!(site.sample("shop_seconds_count"), 5.0);
    assert_eq!(site.sample("shop_seconds_bucket{le=\"+Inf\"}"), 5.0);
}

#[test]
fn threads_count_like_requests_on_both_engines() {
    for engine in ["greenlet", "thread"] {
        let site = Site::of(Setup::app("counting:application").set("app.suspend", engine));
        assert_eq!(site.appliance.get("/threads?times=500").json(), 2000.0, "{engine}");
        assert_eq!(site.sample("kit_hits"), 2000.0, "{engine}");
        assert_eq!(site.appliance.get("/bounds").json(), json!([9.0, 7.5]), "{engine}");
    }
}

#[test]
fn mistakes_are_told_with_the_way_out() {
    let site = Site::start(1);
    let told = site.appliance.get("/mistakes").json();
    let expected = [
        "the metric shop_orders_total is a counter already, and not a gauge; choose another name",
        "\"worker.1.requests\" is no name for a metric; write letters",
        "the histogram shop_seconds has other buckets already; choose another name",
        "<Counter shop_orders_total> has labels; say which: .labels(kind=…)",
        "<Counter shop_orders_total> has the labels kind; give a value for each",
        "a counter only grows: -1 cannot be added",
    ];
    begin_with(&told, &expected);
}

#[test]
fn uwsgi_s_calls_answer_as_uwsgi_does() {
    let site = Site::start(2);
    let cases = [
        ("metric_get", json!(["kit.init"]), json!(7)),
        ("metric_set", json!(["kit.hits", 5]), json!(true)),
        ("metric_inc", json!(["kit.hits"]), json!(true)),
        ("metric_mul", json!(["kit.hits", 7]), json!(true)),
        ("metric_div", json!(["kit.hits", 4]), json!(true)),
        ("metric_div", json!(["kit.hits", 0]), json!(null)),
        ("metric_set_max", json!(["kit.hits", 3]), json!(true)),
        ("metric_set_min", json!(["kit.hits", 50]), json!(true)),
        ("metric_get", json!(["kit.alias"]), json!(10)),
        ("metric_inc", json!(["kit.alias"]), json!(null)),
        ("metric_inc", json!(["nobody"]), json!(null)),
        ("metric_get", json!(["nobody"]), json!(0)),
        ("metric_set", json!(["worker.1.requests", 0]), json!(null)),
        ("metric_get", json!(["worker.1.respawns"]), json!(0)),
        ("metric_get", json!(["core.idle_workers"]), json!(1)),
        ("metric_get", json!(["shop_depth"]), json!(0)),
    ];
    for (name, arguments, expected) in cases {
        assert_eq!(site.call(name, &arguments), expected, "{name}{arguments}");
    }
    let requests = site.call("metric_get", &json!(["worker.0.requests"])).as_u64().unwrap();
    assert!(requests >= 16, "{requests}");
    assert_eq!(site.sample("kit_hits"), 10.0, "an alias is not told, and a dot is an underscore");
}

#[test]
fn a_configuration_that_makes_another_metric_of_one_is_refused() {
    let code = "import appliance.metrics\n\
                shop = appliance.metrics.gauge('kit.init')\n\
                def application(environ, start_response): start_response('200 OK', []); return []\n";
    let refusal = Setup::code(code).set("metric", CONFIGURED).refused();
    let expected = "the metric kit.init is a counter already, and not a gauge; choose another name";
    assert!(refusal.text.contains(expected), "{}", refusal.text);
}

// ---- the appliance's ----

/// How many answers of each status the page tells.
fn by_status(samples: &BTreeMap<String, f64>) -> BTreeMap<u16, u64> {
    let mut counts = BTreeMap::new();
    for (name, count) in samples {
        if let Some(rest) = name.strip_prefix("appliance_http_requests_total{code=\"") {
            *counts.entry(rest[..3].parse().unwrap()).or_insert(0) += *count as u64;
        }
    }
    counts
}

/// The same, as the access log tells it.
fn logged(appliance: &Appliance) -> BTreeMap<u16, u64> {
    let mut counts = BTreeMap::new();
    for event in appliance.log.events().iter().filter(|event| event["kind"] == "access") {
        *counts.entry(event["status"].as_u64().unwrap() as u16).or_insert(0) += 1;
    }
    counts
}

/// A request of each kind; the statuses that their client saw.
fn browse(appliance: &Appliance) -> Vec<u16> {
    let targets = ["/", "/?status=404", "/count?kind=x", "/fail", "/?status=301"];
    let mut seen: Vec<u16> = targets.iter().map(|target| appliance.get(target).status).collect();
    let mut broken = appliance.client();
    broken.send("GET / HTTP/1.1\r\n\r\n");
    seen.push(broken.answer().status);
    seen
}

#[test]
fn log_metrics_and_clients_tell_the_same_story_whoever_dies() {
    let setup = Setup::app("counting:application").workers(2).set("log.format", "json");
    let site = Site::of(setup);
    let before: u64 = logged(&site.appliance).values().sum();
    assert_eq!(before, 0, "workers are asked on their own sockets");
    let served = || {
        let so_far = site.appliance.log.events().len();
        until("requests are served", || site.appliance.log.events().len() > so_far + 50);
    };
    let answers = meanwhile(
        4,
        |_| browse(&site.appliance),
        || {
            site.appliance.kill_workers_in_turn(6, served);
            let (code, _, error) = site.appliance.tell(&["reload"]);
            assert_eq!(code, Some(0), "{error}");
        },
    );
    let mut seen = BTreeMap::new();
    for status in answers.into_iter().flatten() {
        *seen.entry(status).or_insert(0) += 1;
    }
    until("all of it is in the log", || logged(&site.appliance) == seen);
    until("all of it is counted", || by_status(&site.samples()) == seen);
    let samples = site.samples();
    assert_eq!(samples["appliance_processes_lost_total{role=\"worker\"}"], 6.0);
    let starts: f64 =
        [1, 2].iter().map(|id| samples[&format!("appliance_worker_starts_total{{worker=\"{id}\"}}")]).sum();
    assert_eq!(starts, 10.0, "two at first, six after their deaths, two of the reload");
    assert_eq!(samples["appliance_generation"], 1.0);
    let total: u64 = seen.values().sum();
    assert_eq!(samples["appliance_http_request_duration_seconds_count"], total as f64);
    assert_eq!(samples["appliance_http_failures_total{reason=\"no-host\"}"], seen[&400] as f64);
}

#[test]
fn a_new_proxy_goes_on_with_the_numbers_of_the_old_one() {
    let site = Site::start(1);
    assert_eq!(site.appliance.get("/?status=404").status, 404);
    let name = "appliance_http_requests_total{code=\"404\",worker=\"1\"}";
    until("it is counted", || site.samples().get(name) == Some(&1.0));
    let proxy = site.appliance.process("proxy");
    proxy.signal(Signal::SIGKILL);
    site.appliance.successor(&proxy);
    assert_eq!(site.appliance.get("/?status=404").status, 404);
    until("both are counted", || site.samples().get(name) == Some(&2.0));
    assert_eq!(site.sample("appliance_processes_lost_total{role=\"proxy\"}"), 1.0);
}

#[test]
fn the_public_listener_tells_nothing() {
    let site = Site::start(1);
    let answer = site.appliance.get("/metrics");
    assert_eq!((answer.header("content-type"), answer.text().as_str()), (Some("application/json"), "null"));
}

/// Reads the page as Prometheus' own client does, and checks what every reader relies on.
const READER: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families as read
families = list(read(sys.stdin.read()))
names = [family.name for family in families]
assert len(names) == len(set(names)), names
for family in families:
    assert family.documentation or not family.name.startswith('appliance'), family
    assert family.type in ('counter', 'gauge', 'histogram'), family
    if family.type == 'histogram':
        for series in {json.dumps({k: v for k, v in s.labels.items() if k != 'le'}) for s in family.samples}:
            of = [s for s in family.samples if {k: v for k, v in s.labels.items() if k != 'le'} == json.loads(series)]
            ranges = [s.value for s in of if s.name.endswith('_bucket')]
            assert ranges == sorted(ranges) and ranges[-1] == [s.value for s in of if s.name.endswith('_count')][0]
print(json.dumps({family.name: family.documentation for family in families}))
";

#[test]
fn prometheus_own_parser_reads_the_page() {
    let site = Site::start(2);
    assert_eq!(site.appliance.get("/count?kind=%22%5C%0A%C3%A9").status, 200);
    let page = site.admin.get("/metrics").text();
    let mut reader = Command::new(default_venv().join("bin/python"))
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    reader.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let read = reader.wait_with_output().unwrap();
    assert!(read.status.success(), "{page}");
    let families: Value = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(families["shop_orders"], "Orders that were \"paid\".\nNot those \\ others.", "{families:#}");
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE appliance_")) {
        let name = format!("| `appliance_{}` |", line.split(' ').next().unwrap());
        let manual = include_str!("../docs/metrics.md");
        assert!(manual.contains(&name), "docs/metrics.md has no {name}");
    }
}

// ---- probes ----

#[test]
fn probes_tell_apart_what_lives_what_is_ready_and_what_has_begun() {
    let code = "import os, time, uwsgidecorators\n\
                @uwsgidecorators.postfork\n\
                def hold():\n    while os.path.exists('hold'): time.sleep(0.05)\n\
                def application(environ, start_response): start_response('200 OK', []); return []\n";
    let (setup, admin) = Admin::of(Setup::code(code));
    let appliance = setup.start();
    let probes = || ["/livez", "/readyz", "/startupz"].map(|probe| admin.get(probe).status);
    until("all of it is well", || probes() == [200; 3]);
    appliance.dir().write("hold", "");
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGKILL);
    appliance.successor(&worker);
    until("nobody serves", || probes() == [200, 503, 200]);
    std::fs::remove_file(appliance.dir().path().join("hold")).unwrap();
    until("it serves again", || probes() == [200; 3]);
}
