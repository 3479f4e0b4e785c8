//! In a worker: from the fork to the end of its life.
use crate::aio::Aio;
use crate::application::Application;
use crate::apps::Apps;
use crate::home::Home;
use crate::host::Worker;
use crate::load::Loaded;
use crate::reach::Reach;
use crate::threads::Threads;
use crate::watch::Watching;
use crate::wsgi::environ::Template;
use crate::wsgi::files::FileWrapper;
use crate::{greenlet, log, metrics, task, uwsgi};
use appliance_config::Settings;
use appliance_config::settings::Suspend;
use appliance_worker::abi::{EXIT_FAILED, RunArgs};
use appliance_worker::begin::{self, Begun, Given, begin};
use appliance_worker::beside::{self, Guest};
use appliance_worker::foreign;
use appliance_worker::listen::Listener;
use appliance_worker::native::Native;
use appliance_worker::watch::Watch;
use appliance_worker::{Engine, Error};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

/// Serves until told to stop; the exit code of the process.
pub fn serve(args: &RunArgs, doors: &[RawFd]) -> i32 {
    let Some(loaded) = Loaded::get() else {
        tracing::error!("a worker was started before the application was loaded");
        return EXIT_FAILED;
    };
    let given = Given { args, doors, cache_dir: &loaded.cache_dir, settings: &loaded.settings };
    begin::exit_code(args.worker_id, run(given, loaded))
}

fn run(given: Given<'_>, loaded: &Loaded) -> Result<(), Error> {
    let Given { args, settings, .. } = given;
    let begun = begin(given, settings.app.suspend == Suspend::Thread)?;
    let engine = Rc::clone(&begun.engine);
    uwsgi::locks::install(&begun.locks);
    metrics::install_board(engine.board());
    Home::install(&engine);
    let native = loaded.compiled.map(|apps| Native::install(Rc::clone(&engine), apps, settings)).transpose();
    let native = native.map_err(Error::io("prepare for native applications"))?;
    match settings.app.suspend {
        Suspend::Greenlet => Python::attach(|py| {
            let (worker, apps) = prepare(py, &engine, args, loaded)?;
            let watch = watch(py, begun, loaded)?;
            let listeners = listeners(given, loaded)?;
            let guests = guests(native.as_deref(), &apps);
            let served =
                beside::with(&*worker, guests, |host| engine.run(host, listeners, || (args.ready)()));
            apps.shut_down(py, &worker);
            finish(py);
            // It may be asking for stacks, for which a thread needs the interpreter.
            py.detach(|| watch.stop());
            served
        }),
        // The loop's thread has the GIL only before and after.
        Suspend::Thread => {
            let (worker, apps, threads, watch) = Python::attach(|py| {
                let (worker, apps) = prepare(py, &engine, args, loaded)?;
                let threads = Threads::start(py, &engine, &worker, settings).map_err(internal(py))?;
                Ok((worker, apps, threads, watch(py, begun, loaded)?))
            })?;
            let listeners = listeners(given, loaded)?;
            let guests = guests(native.as_deref(), &apps);
            let served =
                beside::with(&threads, guests, |host| engine.run(host, listeners, || (args.ready)()));
            Python::attach(|py| {
                threads.stop(py);
                apps.shut_down(py, &worker);
                finish(py);
            });
            watch.stop();
            served
        }
    }
}

/// Who serves beside the suspend engine's host; routes to native applications come first.
fn guests<'a>(native: Option<&'a Native>, apps: &'a Apps) -> Vec<&'a dyn Guest> {
    native.map(|native| native as &dyn Guest).into_iter().chain(apps.guest()).collect()
}

/// What to say of an exception where nobody else could.
pub fn internal(py: Python<'_>) -> impl Fn(PyErr) -> Error {
    move |error| Error::Io {
        what: format!("prepare Python in the worker:\n{}", log::traceback(py, &error)),
        source: std::io::ErrorKind::Other.into(),
    }
}

/// Makes this thread the loop's, for Python too, and runs what the application wants to be run before it serves.
fn prepare(
    py: Python<'_>,
    engine: &Rc<Engine>,
    args: &RunArgs,
    loaded: &Loaded,
) -> Result<(Rc<Worker>, Apps), Error> {
    let worker = install(py, engine, loaded).map_err(internal(py))?;
    let apps = Apps::start_up(py, &worker, loaded, begin::native_address(args, &loaded.settings))?;
    worker.aio.serve(py).map_err(internal(py))?;
    task::set_loop(engine.remote());
    Ok((worker, apps))
}

fn install(py: Python<'_>, engine: &Rc<Engine>, loaded: &Loaded) -> PyResult<Rc<Worker>> {
    let hub = match loaded.settings.app.suspend {
        Suspend::Greenlet => Some(greenlet::current(py)?.unbind()),
        Suspend::Thread => None,
    };
    let aio = Aio::new(py, loaded.event_loop.clone_ref(py))?;
    let template = Arc::new(template(py, &loaded.settings)?);
    let reach = Reach::Here(Rc::clone(engine));
    let worker = Worker::install(py, reach, loaded.wsgi(py), template, aio, hub)?;
    worker.aio.adopt(py)?;
    uwsgi::run_postfork(py)?;
    Ok(worker)
}

/// Starts the thread that watches the loop.
fn watch(py: Python<'_>, begun: Begun, loaded: &Loaded) -> Result<Watch, Error> {
    let watching = Watching::install(py, begun.engine.roll(), &loaded.event_loop).map_err(internal(py))?;
    begun.watch(&loaded.settings, uwsgi::signals::ledger(), watching)
}

/// Those that the engine accepts connections from; Tornado does so itself.
fn listeners(given: Given<'_>, loaded: &Loaded) -> Result<Vec<Listener>, Error> {
    let Given { args, doors, settings, .. } = given;
    let socket = begin::socket(args)?;
    if let Some(path) = socket.path() {
        uwsgi::rpc::set_place(args.worker_id, &path);
    }
    let mut listeners = vec![socket];
    if !matches!(loaded.native, Some(Application::Tornado(_))) {
        listeners.extend(begin::native_listener(args, settings)?);
    }
    foreign::keep_off(listeners.iter().map(AsRawFd::as_raw_fd).chain(doors.iter().copied()));
    Ok(listeners)
}

/// The parts of an `environ` that are the same for all requests.
fn template(py: Python<'_>, settings: &Settings) -> PyResult<Template> {
    let fixed = PyDict::new(py);
    fixed.set_item("wsgi.version", (1, 0))?;
    fixed.set_item("wsgi.errors", Bound::new(py, log::ErrorLog)?)?;
    fixed.set_item("wsgi.multithread", settings.app.suspend == Suspend::Thread)?;
    fixed.set_item("wsgi.multiprocess", settings.workers.count > 1)?;
    fixed.set_item("wsgi.run_once", false)?;
    fixed.set_item("wsgi.input_terminated", true)?;
    fixed.set_item("wsgi.file_wrapper", py.get_type::<FileWrapper>())?;
    fixed.set_item("wsgi.early_hints", py.import("_appliance")?.getattr("early_hints")?)?;
    let uwsgi = py.import("uwsgi")?;
    fixed.set_item("uwsgi.version", uwsgi.getattr("version")?)?;
    fixed.set_item("uwsgi.node", uwsgi.getattr("hostname")?)?;
    Template::new(py, fixed)
}

/// What Python does at the end of a program, as far as it concerns the application: `atexit`, and buffered output.
fn finish(py: Python<'_>) {
    let ended = || -> PyResult<()> {
        py.import("atexit")?.call_method0("_run_exitfuncs")?;
        let sys = py.import("sys")?;
        sys.getattr("stdout")?.call_method0("flush")?;
        sys.getattr("stderr")?.call_method0("flush").map(drop)
    };
    if let Err(error) = ended() {
        log::exception(py, &error, "exception at the end of the worker");
    }
}
