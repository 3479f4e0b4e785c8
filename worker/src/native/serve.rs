//! A worker that hosts a native application and nothing else: it needs no interpreter, so the binary itself is its engine.
use super::host::Native;
use super::library::Apps;
use super::stacks::Watching;
use crate::Error;
use crate::abi::RunArgs;
use crate::begin::{self, begin, listeners};
use appliance_config::Settings;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;

/// Lives one worker's life; the exit code of the process.
pub fn serve(args: &RunArgs, doors: &[RawFd], settings: &Settings, apps: Apps) -> i32 {
    begin::exit_code(args.worker_id, run(args, doors, settings, apps))
}

fn run(args: &RunArgs, doors: &[RawFd], settings: &Settings, apps: Apps) -> Result<(), Error> {
    let begun = begin(args, doors, settings, false)?;
    let engine = Rc::clone(&begun.engine);
    let native = Native::install(Rc::clone(&engine), apps, settings)
        .map_err(Error::io("prepare for native applications"))?;
    let watching = Watching { roll: Arc::clone(engine.roll()) };
    let watch = begun.watch(settings, watching)?;
    let served = engine.run(&*native, listeners(args, settings)?, || (args.ready)());
    watch.stop();
    served
}
