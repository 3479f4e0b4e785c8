//! The number of workers, changed while it serves: by hand, and by the load.
use crate::harness::{Appliance, Setup, measure, metered, until};
use serde_json::Value;

/// Numbers of the workers that are ready, as `status` tells them.
#[track_caller]
fn ready(appliance: &Appliance) -> Vec<u64> {
    let (_, text, error) = appliance.tell(&["status", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}{error}"));
    let workers = told["workers"].as_array().unwrap().iter();
    workers.filter(|worker| worker["state"] == "ready").map(|worker| worker["id"].as_u64().unwrap()).collect()
}

#[test]
fn it_is_scaled_up_and_down_and_no_request_is_lost() {
    let appliance = metered().workers(1).start();
    let report = measure(&appliance, 8, || {
        for (count, word) in [("4", "4 workers"), ("2", "2 workers"), ("3", "3 workers"), ("1", "1 worker")] {
            let told = appliance.tell(&["scale", count]);
            assert_eq!(told, (Some(0), format!("scaled to {word}\n"), String::new()));
            let expected: Vec<u64> = (1..=count.parse().unwrap()).collect();
            assert_eq!(ready(&appliance), expected);
            assert!(!appliance.socket(expected.len() as u32 + 1).exists(), "its socket is closed");
        }
    });
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

#[test]
fn a_worker_that_is_too_many_finishes_its_requests() {
    let appliance = Setup::app("facts:application").workers(2).start();
    appliance.wait_for_workers();
    let mut client = appliance.worker_client(2);
    client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it has begun", || appliance.output.text().contains("begun"));
    assert_eq!(appliance.tell(&["scale", "1"]).0, Some(0));
    assert_eq!(client.answer().json()["worker"], 2);
}

#[test]
fn a_number_out_of_bounds_is_refused() {
    let setup = Setup::app("facts:application").workers(2);
    let appliance = setup.set("workers.min", 2).set("workers.max", 4).start();
    for count in ["0", "1", "5"] {
        let (code, _, error) = appliance.tell(&["scale", count]);
        assert_eq!(code, Some(1), "{count}");
        assert!(error.contains("there can be 2 to 4 workers here"), "{error}");
    }
    assert_eq!(appliance.tell(&["scale", "two"]).0, Some(64));
    assert_eq!(ready(&appliance).len(), 2);
}

#[test]
fn a_scaled_number_survives_a_reload() {
    let appliance = Setup::app("facts:application").workers(1).start();
    assert_eq!(appliance.tell(&["scale", "3"]).0, Some(0));
    assert_eq!(appliance.tell(&["reload"]).0, Some(0));
    assert_eq!(ready(&appliance), [1, 2, 3]);
}

#[test]
fn requests_that_wait_bring_another_worker() {
    let setup = Setup::app("facts:application").workers(1).set("workers.cores", 1);
    let appliance = setup.set("workers.max", 2).start();
    let mut clients: Vec<_> = (0..4).map(|_| appliance.client()).collect();
    for client in &mut clients {
        client.send("GET /sleep?s=8 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    appliance.log.wait_for("scaling: requests wait");
    until("there is another worker", || ready(&appliance) == [1, 2]);
}
