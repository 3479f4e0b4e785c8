//! The engine library: Python applications in the loop engine. The template loads it at run time, after libpython; it
//! links neither, and one build serves every CPython from 3.10 on. Only here do PyO3, the GIL and "the current request"
//! exist.
//!
//! Reading order: `load` (template), `serve` (worker), `host` (what the engine calls), `wsgi::run` (one
//! request), `wait` (how it waits), `aio` (asyncio on the same loop).
//!
//! The rules for greenlets stand in `greenlet`. For the GIL there is one: the loop's thread holds it always, but for the
//! moment in which it waits for events. Where requests run on threads instead (`threads`), it holds it only for asyncio.
#![expect(unsafe_code, reason = "the C interface to the binary")]

mod aio;
mod application;
mod apps;
mod areas;
mod asgi;
mod cache;
mod disconnect;
mod errand;
mod greenlet;
mod home;
mod host;
mod interpreter;
mod load;
mod locals;
mod log;
mod metrics;
mod modules;
mod raw;
mod reach;
mod remote;
mod serve;
mod stacks;
mod suspended;
mod task;
mod threads;
mod timeout;
mod tornado;
mod uwsgi;
mod wait;
mod watch;
mod websocket;
mod wsgi;

use appliance_worker::abi::{self, ForkPhase, LoadArgs, RunArgs};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// See [`abi::VERSION_SYMBOL`].
#[unsafe(no_mangle)]
pub extern "C" fn appliance_engine_version() -> u32 {
    abi::VERSION
}

/// See [`abi::LoadFn`].
///
/// # Safety
/// `args` points to valid [`LoadArgs`], and libpython is loaded globally.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appliance_engine_load(args: *const LoadArgs) -> i32 {
    // SAFETY: the caller's promise.
    let args = unsafe { &*args };
    // SAFETY: the caller's promise: `settings_len` bytes that live during the call.
    let json = unsafe { std::slice::from_raw_parts(args.settings, args.settings_len) };
    // SAFETY: likewise.
    let cache_dir = unsafe { std::slice::from_raw_parts(args.cache_dir, args.cache_dir_len) };
    let loaded = catch_unwind(AssertUnwindSafe(|| {
        let settings: appliance_config::Settings =
            serde_json::from_slice(json).map_err(|error| load::Failure {
                code: abi::EXIT_FAILED,
                text: format!("the engine library does not understand the settings of this binary: {error}"),
            })?;
        appliance_worker::logging::init(&settings.log);
        let cache_dir = Path::new(OsStr::from_bytes(cache_dir)).to_owned();
        let (master_pid, generation) = (args.master_pid, args.generation);
        metrics::install(args.metrics).map_err(|error| load::Failure {
            code: abi::EXIT_FAILED,
            text: format!("cannot map the metrics: {error}"),
        })?;
        areas::install(args.areas, &settings).map_err(|error| load::Failure {
            code: abi::EXIT_FAILED,
            text: format!("cannot map the queue and the shared areas: {error}"),
        })?;
        load::load(load::Facts { settings, master_pid, generation, cache_dir })
    }));
    let (code, text) = match loaded {
        Ok(Ok(line)) => (abi::EXIT_DONE, line),
        Ok(Err(failure)) => (failure.code, failure.text),
        Err(_) => (abi::EXIT_FAILED, "the engine library failed while it loaded the application".to_owned()),
    };
    (args.report)(args.context, text.as_ptr(), text.len());
    code
}

/// See [`abi::ForkFn`].
#[unsafe(no_mangle)]
pub extern "C" fn appliance_engine_fork(phase: ForkPhase) {
    match phase {
        ForkPhase::Before => interpreter::fork::before(),
        ForkPhase::Parent => interpreter::fork::parent(),
        ForkPhase::Child => interpreter::fork::child(),
    }
}

/// See [`abi::RunFn`].
///
/// # Safety
/// `args` points to valid [`RunArgs`] whose descriptors are given away.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appliance_engine_run(args: *const RunArgs) -> i32 {
    // SAFETY: the caller's promise.
    let args = unsafe { &*args };
    // SAFETY: the caller's promise: `doors_len` numbers that live during the call.
    let doors = unsafe { std::slice::from_raw_parts(args.doors, args.doors_len) };
    catch_unwind(AssertUnwindSafe(|| serve::serve(args, doors))).unwrap_or(abi::EXIT_FAILED)
}
