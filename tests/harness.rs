//! What every test stands on: a folder that goes away, an appliance that never outlives its test, a client that never
//! waits for ever. Tests wait for conditions with a deadline; nothing here or in a test sleeps for a fixed time but the
//! polling in `within`.
mod admin;
mod appliance;
mod client;
mod dir;
mod doors;
mod engines;
mod form;
mod group;
mod load;
mod log;
mod meter;
mod ports;
mod processes;
mod python;
mod uwsgi;

pub use admin::Admin;
pub use appliance::{Appliance, Refusal, Setup, command};
pub use client::{Answer, Client, Framing};
pub use dir::Dir;
pub use doors::{DOORS, Door, Doors};
pub use engines::{ENGINES, everywhere};
pub use form::Form;
pub use group::Group;
pub use load::{meanwhile, under_load, under_posts};
pub use log::Log;
pub use meter::{Fate, Record, Report, measure, metered, metered_code};
pub use ports::free_ports;
pub use processes::{Process, descendants};
pub use python::{default_venv, venvs};
pub use uwsgi::{Eval, Side, Uwsgi, caller};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for anything that should happen at once; generous, because the machine may be busy with other tests.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Each of the texts that were told begins with its sentence.
#[track_caller]
pub fn begin_with(told: &serde_json::Value, sentences: &[&str]) {
    for (n, sentence) in sentences.iter().enumerate() {
        assert!(told[n].as_str().is_some_and(|told| told.starts_with(sentence)), "{sentence:?}: {}", told[n]);
    }
}

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Looks at `condition` until it gives something, for at most `limit`.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = condition();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until `condition` holds; the test fails with `what` when it does not within [`DEADLINE`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let held = within(DEADLINE, || condition().then_some(()));
    assert!(held.is_some(), "not within {DEADLINE:?}: {what}");
}
