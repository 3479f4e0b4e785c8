//! One request that is stuck among fifty that are not. It is ended by `timeouts.request` and nobody else notices, unless it
//! keeps its worker's loop from going on: then the worker is replaced after `timeouts.hang`, and what it had is all that may
//! fail.
use crate::harness::{Answer, Appliance, Client, Process, Setup, until};

const HEALTHY: usize = 50;

struct Site {
    appliance: Appliance,
    workers: Vec<Process>,
}

/// What became of the stuck one, and of the others.
struct Outcome {
    stuck: Answer,
    /// The worker that it was stuck in.
    worker: u32,
    healthy: Vec<Answer>,
}

impl Site {
    fn start(suspend: &str) -> Site {
        let setup = Setup::app("stuck:application").workers(2).set("app.suspend", suspend);
        let setup =
            setup.set("timeouts.request", "2s").set("timeouts.stall", "1s").set("timeouts.hang", "5s");
        let appliance = setup.start();
        appliance.wait_for_workers();
        let workers = [1, 2].map(|id| appliance.process(&format!("worker {id}"))).to_vec();
        Site { appliance, workers }
    }

    /// Half of the healthy ones come before the stuck one, half of them after it.
    #[track_caller]
    fn ask(&self, target: &str) -> Outcome {
        let open = |target: &str| {
            let mut client = self.appliance.client();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            client
        };
        let mut healthy: Vec<Client> = (0..HEALTHY / 2).map(|_| open("/wait")).collect();
        let mut stuck = open(target);
        healthy.extend((0..HEALTHY / 2).map(|_| open("/wait")));
        let said = || self.appliance.output.text();
        until("it is stuck", || said().contains("stuck in worker"));
        let worker = said().rsplit(' ').next().unwrap().trim().parse().unwrap();
        let healthy = healthy.iter_mut().map(Client::answer).collect();
        Outcome { stuck: stuck.answer(), worker, healthy }
    }

    /// The worker that a request was in when it failed, as the access log has it.
    #[track_caller]
    fn worker_of(&self, answer: &Answer) -> u32 {
        let id = answer.header("x-request-id").unwrap();
        let line = self.appliance.log.event("the request's id", |event| event["id"] == id);
        line["worker"].as_u64().unwrap() as u32
    }

    /// The loop goes on, so that nothing but the stuck request fails and no worker is replaced.
    #[track_caller]
    fn assert_fails_alone(&self, target: &str) {
        let outcome = self.ask(target);
        assert_eq!(outcome.stuck.status, 504, "{}", outcome.stuck.text());
        let failed = outcome.healthy.iter().filter(|answer| answer.status != 200).count();
        assert_eq!(failed, 0, "of {HEALTHY}");
        self.assert_goes_on();
        assert!(self.workers.iter().all(Process::is_alive), "a worker was replaced");
    }

    /// The loop stands still, so that others in the same worker may fail too, but in no other.
    #[track_caller]
    fn assert_fails_with_its_worker(&self, target: &str) {
        let outcome = self.ask(target);
        assert!([502, 504].contains(&outcome.stuck.status), "{}", outcome.stuck.status);
        let failed = outcome.healthy.iter().filter(|answer| answer.status != 200);
        let elsewhere = failed.filter(|answer| self.worker_of(answer) != outcome.worker).count();
        assert_eq!(elsewhere, 0, "failed in another worker than {}", outcome.worker);
        self.assert_goes_on();
        let others = self
            .workers
            .iter()
            .filter(|process| process.title != format!("appliance: worker {}", outcome.worker));
        assert!(others.into_iter().all(Process::is_alive), "another worker was replaced");
    }

    #[track_caller]
    fn assert_goes_on(&self) {
        for worker in [1, 2] {
            assert_eq!(self.appliance.worker_client(worker).get("/wait").json()["worker"], worker);
        }
    }
}

#[test]
fn a_request_that_nobody_resumes_fails_alone() {
    Site::start("greenlet").assert_fails_alone("/suspended");
}

#[test]
fn a_request_that_never_ends_its_loop_is_interrupted() {
    let site = Site::start("greenlet");
    site.assert_fails_with_its_worker("/spinning");
    assert!(site.workers.iter().all(Process::is_alive), "a worker was replaced");
    site.appliance.log.wait_for("in spinning");
}

#[test]
fn a_request_that_sleeps_on_its_loop_is_interrupted() {
    let site = Site::start("greenlet");
    site.assert_fails_with_its_worker("/sleeping");
    assert!(site.workers.iter().all(Process::is_alive), "a worker was replaced");
    site.appliance.log.wait_for("in sleeping");
}

#[test]
fn a_request_that_keeps_the_interpreter_for_itself_fails_with_its_worker() {
    Site::start("greenlet").assert_fails_with_its_worker("/holding");
}

#[test]
fn requests_on_threads_that_sleep_or_spin_fail_alone() {
    for target in ["/sleeping", "/spinning"] {
        Site::start("thread").assert_fails_alone(target);
    }
}
