//! A worker that hosts a native application and nothing else: it needs no interpreter, so the binary itself is its engine.
use super::host::Native;
use super::library::Apps;
use super::stacks::Watching;
use crate::Error;
use crate::begin::{self, Given, begin, listeners};
use std::rc::Rc;
use std::sync::Arc;

/// Lives one worker's life; the exit code of the process.
pub fn serve(given: Given<'_>, apps: Apps) -> i32 {
    begin::exit_code(given.args.worker_id, run(given, apps))
}

fn run(given: Given<'_>, apps: Apps) -> Result<(), Error> {
    let Given { args, settings, .. } = given;
    let begun = begin(given, false)?;
    let engine = Rc::clone(&begun.engine);
    let native = Native::install(Rc::clone(&engine), apps, settings)
        .map_err(Error::io("prepare for native applications"))?;
    let watching = Watching { roll: Arc::clone(engine.roll()) };
    let watch = begun.watch(settings, Arc::default(), watching)?;
    let served = engine.run(&*native, listeners(args, settings)?, || (args.ready)());
    watch.stop();
    served
}
