//! What native applications share with all workers, and with Python beside them: caches and metrics; and what comes to them
//! that is no request. Their paths are in `tests/native/src/shared.rs`.
use crate::harness::{Admin, Appliance, DEADLINE, ENGINES, Eval, Setup, caller, free_ports};
use crate::native_apps::{compile, library, setup};
use nix::sys::signal::Signal;
use std::time::Instant;

const ROUTES: &str = r#"[{path="/cache"}, {path="/metric"}]"#;

/// The test's library beside this Python application.
fn beside(app: &str, suspend: &str) -> Setup {
    let setup = Setup::app(app).set("app.suspend", suspend).set("route", ROUTES);
    setup.set("native.app", library("native_test").display())
}

/// The test's library alone, with a cache.
fn with_cache() -> Setup {
    setup().set("cache.first.items", 100).set("cache.second.items", 2)
}

#[track_caller]
fn answers(appliance: &Appliance, cases: &[(&str, &str)]) {
    for (target, expected) in cases {
        assert_eq!(appliance.get(target).text().trim_end(), *expected, "{target}");
    }
}

#[test]
fn python_and_native_applications_see_the_same_cache() {
    for suspend in ENGINES {
        let appliance = beside("caches:application", suspend).set("cache.first.items", 100).start();
        let cases = [
            ("/set?key=a&value=python", "True"),
            ("/cache?get+a", "python"),
            ("/cache?set+b+native", "()"),
            ("/get?key=b", "b'native'"),
            ("/inc?times=3", "1"),
            ("/cache?inc+count+4", "7"),
            ("/num", "7"),
            ("/cache?on-a-thread+count", "8"),
            ("/cache?keys", "a b count"),
        ];
        answers(&appliance, &cases);
    }
}

#[test]
fn every_call_of_a_cache_does_what_it_says() {
    let appliance = with_cache().start();
    let cases = [
        ("/cache?get+a", "nothing"),
        ("/cache?has+a", "false"),
        ("/cache?add+a+1", "true"),
        ("/cache?add+a+2", "false"),
        ("/cache?make+a+3", "1"),
        ("/cache?make+b+3", "3"),
        ("/cache?has+a", "true"),
        ("/cache?life+a", "true"),
        ("/cache?life+b", "Some(Forever)"),
        ("/cache?life+c", "None"),
        ("/cache?inc+n+-3", "-3"),
        ("/cache?delete+n", "true"),
        ("/cache?delete+n", "false"),
        ("/cache?long+long+5000", "()"),
        ("/cache?keys", "a b long"),
        ("/cache?clear", "()"),
        ("/cache?keys", ""),
    ];
    answers(&appliance, &cases);
    assert_eq!(appliance.get("/cache?stats").json()["max_items"], 100);
    appliance.get("/cache?long+long+5000");
    assert_eq!(appliance.get("/cache?get+long").text().len(), 5001, "a value of any length is whole");
}

#[test]
fn what_a_cache_refuses_is_a_sentence_with_the_way_out() {
    let appliance = with_cache().start();
    let refusals = [
        (
            "/cache?in+third+set+a+1",
            "NotFound: there is no cache \"third\" in this process; configure it with [cache.third], and use it in a worker",
        ),
        ("/cache?set+text+abc", "()"),
        ("/cache?inc+text+1", "InvalidInput: cache first: the value is not a number"),
        ("/cache?in+second+set+a+1", "()"),
        ("/cache?in+second+set+b+1", "()"),
        (
            "/cache?in+second+set+c+1",
            "StorageFull: cache second: is full; raise items or size, or let it drop what is used least: lru = true",
        ),
    ];
    answers(&appliance, &refusals);
    for (target, begin) in [
        ("/cache?set++1", "InvalidInput: cache first: a key has 1 to "),
        ("/cache?long+a+100000", "FileTooLarge: cache first: a value has at most "),
    ] {
        let refused = appliance.get(target).text();
        assert!(refused.starts_with(begin), "{refused}");
    }
    let none = setup().start();
    let missing = "NotFound: there is no cache in this process; configure one with [cache.NAME], and use it in a worker";
    answers(&none, &[("/cache?get+a", missing)]);
}

#[test]
fn who_has_no_stack_left_leaves_the_cache_as_it_was() {
    let appliance = with_cache().start();
    let before = appliance.process("worker 1").pid;
    assert_eq!(appliance.get("/edge").status, 500);
    appliance.log.wait_for("stack overflow: raise workers.stack");
    answers(&appliance, &[("/cache?set+a+1", "()"), ("/cache?get+a", "1")]);
    assert_eq!(appliance.process("worker 1").pid, before);
}

#[test]
fn workers_share_a_cache_that_outlives_them() {
    let appliance = with_cache().workers(2).start();
    appliance.wait_for_workers();
    let count = |worker: u32| appliance.worker_client(worker).get("/cache?inc+n+1").text();
    assert_eq!([count(1), count(2), count(1)], ["1\n", "2\n", "3\n"]);
    let before = appliance.process("worker 1");
    before.signal(Signal::SIGKILL);
    appliance.successor(&before);
    assert_eq!(count(1), "4\n");
}

#[test]
fn python_and_native_applications_count_in_the_same_metrics() {
    for suspend in ENGINES {
        let (setup, admin) = Admin::of(beside("counting:application", suspend));
        let appliance = setup.start();
        assert_eq!(appliance.get("/count?kind=book&amount=2").status, 200);
        assert_eq!(appliance.get("/metric?order+book+1.5").text(), "3.5\n");
        assert_eq!(appliance.get("/metric?order+pen+1").text(), "1\n");
        let page = admin.get("/metrics").text();
        for line in ["shop_orders_total{kind=\"book\"} 3.5", "shop_orders_total{kind=\"pen\"} 1"] {
            assert!(page.lines().any(|other| other == line), "{line} is not in {page}");
        }
    }
}

#[test]
fn metrics_of_a_native_application_need_no_python_and_outlive_its_workers() {
    let (setup, admin) = Admin::of(setup().workers(2));
    let appliance = setup.start();
    appliance.wait_for_workers();
    let cases = [
        ("/metric?gauge", "8 7"),
        ("/metric?histogram", "2 true"),
        ("/metric?order+book+-1", "InvalidInput: a counter only grows: -1 cannot be added"),
    ];
    answers(&appliance, &cases);
    let kind = appliance.get("/metric?kind").text();
    assert!(kind.starts_with("InvalidInput: the metric shop_orders_total is a counter already"), "{kind}");
    let order = |worker: u32| appliance.worker_client(worker).get("/metric?order+pen+2").text();
    assert_eq!([order(1), order(2)], ["2\n", "4\n"]);
    let before = appliance.process("worker 1");
    before.signal(Signal::SIGKILL);
    appliance.successor(&before);
    assert_eq!(appliance.tell(&["reload"]).0, Some(0));
    assert_eq!(order(1), "6\n");
    let page = admin.get("/metrics").text();
    for line in
        ["# HELP native_depth How deep it is.", "native_depth 7", "native_seconds_bucket{le=\"0.5\"} 1"]
    {
        assert!(page.lines().any(|other| other == line), "{line} is not in {page}");
    }
}

#[test]
fn a_library_gets_ready_before_there_are_workers() {
    let (setup, admin) = Admin::of(setup().workers(2));
    let appliance = setup.start();
    appliance.log.wait_for("the library gets ready");
    assert!(admin.get("/metrics").text().contains("\nnative_loads_total 1\n"));
    let refused = self::setup().env("REFUSES", "there is no licence").refused();
    assert!(refused.text.contains("cannot get ready: there is no licence"), "{}", refused.text);
}

/// Everything that a C application can do with them, in one line.
const IN_C: &str = r#"
#include <appliance.h>
#include <stdio.h>

static void count_key(void *data, ApplianceText key) { *(int *)data += (int)key.length; }

static int32_t handle(void)
{
    const double bounds[] = {0.5, 1.0};
    char text[600], value[8], why[200];
    int keys = 0;
    int64_t micros = 0, number = 0;
    double sum = 0;
    uint64_t count = 0;
    int32_t set = appliance_cache_set("", "key", "value", 5, 60000000);
    int32_t add = appliance_cache_add("first", "key", "other", 5, APPLIANCE_FOREVER);
    long length = (long)appliance_cache_get("", "key", value, sizeof value);
    int32_t life = appliance_cache_life("", "key", &micros);
    int32_t increment = appliance_cache_increment("", "n", 5, APPLIANCE_CONFIGURED, &number);
    int32_t listed = appliance_cache_keys("", count_key, &keys);
    int is_none = appliance_cache_get("", "none", value, sizeof value) == -ENODATA;
    int is_json = appliance_cache_stats("", text, sizeof text) > 0 && text[0] == '{';
    int is_missing = appliance_cache_clear("third") == -ENOENT;
    int64_t took = appliance_metric_histogram("c_seconds", "Help.", bounds, 2, NULL, NULL);
    int64_t depth = appliance_metric_gauge("c_depth", "Help.", "side", "left");
    appliance_reason(why, sizeof why);
    appliance_metric_observe(took, 0.75);
    appliance_metric_set(depth, 5);
    appliance_metric_set_max(depth, 8);
    appliance_metric_set_min(depth, 9);
    appliance_metric_value(took, &sum, &count);
    number += appliance_cache_delete("", "n") + appliance_cache_delete("", "n");
    return appliance_write(text, (size_t)snprintf(text, sizeof text, "%d %d %ld %.5s %d %d %d %lld %d %d %d %d %d %g %lld %s",
        set, add, length, value, life, micros > 59000000, increment, (long long)number, listed, keys, is_none, is_json,
        is_missing, sum, (long long)count, why));
}

static int32_t load(void) { return (int32_t)appliance_metric_add(appliance_metric_counter("c_loads_total", "", NULL, NULL), 1); }

APPLIANCE_APP_WITH(handle, load)
"#;

#[test]
fn c_has_the_same_calls() {
    let setup = Setup::bare().venv(None).set("cache.first.items", 100);
    let library = setup.dir().path().join("libshared.so");
    compile(IN_C, &library);
    let (setup, admin) = Admin::of(setup.arg(library.display()));
    let appliance = setup.start();
    let expected = "0 1 5 value 0 1 0 6 0 4 1 1 1 0.75 1 there is no cache \"third\" in this process; \
                    configure it with [cache.third], and use it in a worker";
    assert_eq!(appliance.get("/").text(), expected);
    let page = admin.get("/metrics").text();
    for line in ["c_depth{side=\"left\"} 8", "c_loads_total 1"] {
        assert!(page.lines().any(|other| other == line), "{line} is not in {page}");
    }
}

#[test]
fn a_procedure_that_a_native_application_does_not_have_is_refused_at_once() {
    let address = format!("127.0.0.1:{}", free_ports(1));
    let native = setup().set("rpc.listen", &address).start();
    let python = caller().start();
    let began = Instant::now();
    let call = format!("__import__('appliance').rpc.call('greet', node='{address}')");
    let refused = python.eval(&call);
    assert!(refused.contains("has closed the connection without an answer"), "{refused}");
    assert!(began.elapsed() < DEADLINE);
    native.log.wait_for("there is no procedure \\\"greet\\\" in this worker: native applications have none");
}

#[test]
fn a_handler_of_faults_that_python_installs_later_takes_no_overflow_from_us() {
    for suspend in ENGINES {
        let setup = caller().set("app.suspend", suspend).set("native.app", library("native_test").display());
        let appliance = setup.set("route", r#"[{path="/overflow"}, {path="/segfault"}]"#).start();
        let before = appliance.process("worker 1");
        for _ in 0..2 {
            assert_eq!(appliance.eval("__import__('faulthandler').enable()"), "None");
            assert_eq!(appliance.get("/overflow").status, 500, "{suspend}");
        }
        assert_eq!(appliance.process("worker 1").pid, before.pid, "{suspend}");
        appliance.log.wait_for("stack overflow: raise workers.stack");
        assert_eq!(appliance.get("/segfault").status, 502);
        appliance.successor(&before);
    }
}
