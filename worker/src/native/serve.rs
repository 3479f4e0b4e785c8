//! A worker that hosts a native application and nothing else: it needs no interpreter, so the binary itself is its engine.
use super::host::Native;
use super::library::{self, Loaded};
use super::stacks::Watching;
use crate::Error;
use crate::begin::{self, Given, begin, listeners};
use appliance_config::Settings;
use std::rc::Rc;
use std::sync::Arc;

/// Memory mappings of a process beside those of its stacks.
const OTHER_MAPPINGS: u64 = 4096;
/// Mappings of one stack: itself, and its guard page.
const STACK_MAPPINGS: u64 = 2;

/// Loads the application of `[app]`, before the first fork. A sentence says what is wrong.
pub fn load(settings: &Settings) -> Result<Loaded, String> {
    let app = settings.app.native().ok_or("app.module names no native application")?;
    warn_of_mappings(settings);
    library::load(&app, settings)
}

/// Loads the application of `[native]`, if it names one of ours.
pub fn load_beside(settings: &Settings) -> Result<Option<Loaded>, String> {
    let Some(app) = settings.native.native() else { return Ok(None) };
    warn_of_mappings(settings);
    library::load(&app, settings).map(Some)
}

/// Says so if the kernel does not let a worker have a stack for each core.
fn warn_of_mappings(settings: &Settings) {
    let Ok(text) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else { return };
    let needed = u64::from(settings.workers.cores) * STACK_MAPPINGS + OTHER_MAPPINGS;
    if let Some(most) = text.trim().parse::<u64>().ok().filter(|most| *most < needed) {
        tracing::warn!(
            "workers.cores = {} needs {needed} memory mappings for native requests, and vm.max_map_count is {most}: \
             sysctl -w vm.max_map_count={needed}, or lower workers.cores",
            settings.workers.cores
        );
    }
}

/// Lives one worker's life; the exit code of the process.
pub fn serve(given: Given<'_>, app: Loaded) -> i32 {
    begin::exit_code(given.args.worker_id, run(given, app))
}

fn run(given: Given<'_>, app: Loaded) -> Result<(), Error> {
    let Given { args, settings, .. } = given;
    let begun = begin(given, false)?;
    let engine = Rc::clone(&begun.engine);
    let native = Native::install(Rc::clone(&engine), app, settings)
        .map_err(Error::io("prepare for native applications"))?;
    let watching = Watching { roll: Arc::clone(engine.roll()) };
    let watch = begun.watch(settings, watching)?;
    let served = engine.run(&*native, listeners(args, settings)?, || (args.ready)());
    watch.stop();
    served
}
