//! A worker's first steps, in the child of a template: tie its life to the master's, say that it lives, become a
//! worker in name, and hand over to the engine library for the rest of its life. The master's view of it is
//! `child.rs`.
use crate::channel::Reporter;
use crate::engine::{Engine, Seat};
use crate::message::Message;
use crate::spawn::{self, Tie};
use appliance_worker::abi::{self, ForkPhase};
use std::os::fd::RawFd;
use std::sync::Mutex;

/// Until the worker is ready; a C function pointer cannot carry it.
static REPORTER: Mutex<Option<Reporter>> = Mutex::new(None);

/// Lives a worker's life and answers its exit code. `generation` is that of its template, `templates` are the descriptors that it must not have.
pub fn live(
    engine: &Engine,
    seat: Seat,
    generation: u32,
    reporter: Reporter,
    tie: Tie,
    templates: Vec<RawFd>,
) -> i32 {
    let Ok(_tie) = tie.tighten() else { return abi::EXIT_FAILED };
    reporter.report(&Message::Forked { worker: seat.worker, generation, life: seat.life });
    spawn::close(templates);
    spawn::set_title(&format!("appliance: worker {}", seat.worker));
    if let Ok(mut place) = REPORTER.lock() {
        *place = Some(reporter);
    }
    engine.on_fork(ForkPhase::Child);
    engine.run(seat)
}

/// Called by the engine when the worker is about to accept. Closes the reports, which the application has no business
/// with.
pub extern "C" fn on_ready() {
    if let Some(reporter) = REPORTER.lock().ok().and_then(|mut place| place.take()) {
        reporter.report(&Message::Ready);
    }
}
