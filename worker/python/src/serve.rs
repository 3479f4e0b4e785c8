//! In a worker: from the fork to the end of its life.
use crate::aio::Aio;
use crate::application::Application;
use crate::apps::{Apps, native_address};
use crate::host::Worker;
use crate::load::Loaded;
use crate::reach::Reach;
use crate::threads::Threads;
use crate::watch::Watching;
use crate::wsgi::environ::Template;
use crate::wsgi::files::FileWrapper;
use crate::{greenlet, log, task, uwsgi};
use appliance_config::Settings;
use appliance_config::settings::Suspend;
use appliance_worker::abi::{EXIT_BOOT, EXIT_DONE, EXIT_FAILED, RunArgs};
use appliance_worker::board::Board;
use appliance_worker::line::Line;
use appliance_worker::listen::Listener;
use appliance_worker::watch::{Post, Watch};
use appliance_worker::{Boot, Engine, Error, reactor, wear, wire};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Serves until told to stop; the exit code of the process.
pub fn serve(args: &RunArgs, doors: &[RawFd]) -> i32 {
    let Some(loaded) = Loaded::get() else {
        tracing::error!("a worker was started before the application was loaded");
        return EXIT_FAILED;
    };
    let worker = args.worker_id;
    match run(args, doors, loaded) {
        Ok(()) => EXIT_DONE,
        Err(error @ (Error::Native { .. } | Error::Application(_))) => {
            tracing::error!(worker, "{error}");
            EXIT_BOOT
        }
        Err(error) => {
            tracing::error!(worker, "{error}");
            EXIT_FAILED
        }
    }
}

fn run(args: &RunArgs, doors: &[RawFd], loaded: &Loaded) -> Result<(), Error> {
    let settings = &loaded.settings;
    let board = reactor::adopt(args.board).and_then(Board::open);
    let questions = reactor::adopt(args.questions).map_err(Error::io("take the line to the master"))?;
    let line = questions.try_clone().map_err(Error::io("copy the line to the master"))?;
    let engine = Engine::new(Boot {
        worker_id: args.worker_id,
        life: args.life,
        cores: settings.workers.cores,
        waiting: settings.limits.waiting,
        cancel_on_disconnect: settings.app.cancel_on_disconnect,
        limit: Some(settings.timeouts.request).filter(|limit| !limit.is_zero()),
        has_threads: settings.app.suspend == Suspend::Thread,
        wear: wear::limit(settings.workers.max_requests, args.worker_id, args.life),
        rules: settings.into(),
        wire: settings.into(),
        board: Arc::new(board.map_err(Error::io("map the board"))?),
        line: Arc::new(Line::new(line)),
    })?;
    engine.open_doors(
        wire::door::adopt(doors, settings).map_err(Error::io("take the doors of the uwsgi protocol"))?,
        None,
    );
    match settings.app.suspend {
        Suspend::Greenlet => Python::attach(|py| {
            let (worker, apps) = prepare(py, &engine, args, loaded)?;
            let watch = watch(py, &engine, questions, loaded)?;
            let served = engine.run(&apps.host(&*worker), listeners(args, loaded)?, || (args.ready)());
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
                Ok((worker, apps, threads, watch(py, &engine, questions, loaded)?))
            })?;
            let served = engine.run(&apps.host(&threads), listeners(args, loaded)?, || (args.ready)());
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
    let apps = Apps::start_up(py, &worker, loaded, native_address(args, loaded))?;
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
fn watch(py: Python<'_>, engine: &Engine, questions: OwnedFd, loaded: &Loaded) -> Result<Watch, Error> {
    let settings = &loaded.settings;
    let watching = Watching::install(py, engine.roll(), &loaded.event_loop).map_err(internal(py))?;
    let some = |time: Duration| Some(time).filter(|time| !time.is_zero());
    let post = Post {
        worker: engine.worker_id(),
        roll: Arc::clone(engine.roll()),
        remote: engine.remote(),
        questions,
        stall: some(settings.timeouts.stall),
        limit: some(settings.timeouts.request),
    };
    Watch::start(post, watching).map_err(Error::io("start the watch thread"))
}

/// Those that the engine accepts connections from; Tornado does so itself.
fn listeners(args: &RunArgs, loaded: &Loaded) -> Result<Vec<Listener>, Error> {
    let socket = reactor::adopt(args.socket).and_then(Listener::worker);
    let mut listeners = vec![socket.map_err(Error::io("listen on the worker's socket"))?];
    let is_tornado = matches!(loaded.native, Some(Application::Tornado(_)));
    if let Some(address) = native_address(args, loaded).filter(|_| !is_tornado) {
        let native = Listener::native(address, loaded.settings.limits.backlog);
        listeners.push(native.map_err(|source| Error::Native { address, source })?);
    }
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
