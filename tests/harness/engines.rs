//! The suspend engines: what does not depend on how a request waits is tested on each of them.
use super::Appliance;

/// All of them (`app.suspend`).
pub const ENGINES: [&str; 2] = ["greenlet", "thread"];

/// Asks the appliance that `start` gives on each engine for each target, whose text must be what stands beside it.
#[track_caller]
pub fn everywhere(start: impl Fn(&str) -> Appliance, cases: &[(&str, &str)]) {
    for engine in ENGINES {
        let appliance = start(engine);
        for (target, expected) in cases {
            let answer = appliance.get(target);
            assert_eq!((answer.status, answer.text().as_str()), (200, *expected), "{target} on {engine}");
        }
    }
}
