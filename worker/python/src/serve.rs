//! In a worker: from the fork to the end of its life.
use crate::aio::Aio;
use crate::application::Application;
use crate::asgi::{Asgi, lifespan};
use crate::beside::Beside;
use crate::host::Worker;
use crate::load::Loaded;
use crate::reach::Reach;
use crate::threads::Threads;
use crate::tornado::Server;
use crate::watch::Watching;
use crate::wsgi::environ::Template;
use crate::wsgi::files::FileWrapper;
use crate::{greenlet, log, uwsgi};
use appliance_config::Settings;
use appliance_config::settings::Suspend;
use appliance_worker::abi::{EXIT_BOOT, EXIT_DONE, EXIT_FAILED, RunArgs};
use appliance_worker::board::Board;
use appliance_worker::listen::Listener;
use appliance_worker::watch::{Post, Watch};
use appliance_worker::{Boot, Engine, Error, Host, reactor};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Serves until told to stop; the exit code of the process.
pub fn serve(args: &RunArgs) -> i32 {
    let Some(loaded) = Loaded::get() else {
        tracing::error!("a worker was started before the application was loaded");
        return EXIT_FAILED;
    };
    let worker = args.worker_id;
    match run(args, loaded) {
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

fn run(args: &RunArgs, loaded: &Loaded) -> Result<(), Error> {
    let settings = &loaded.settings;
    let board = reactor::adopt(args.board).and_then(Board::open);
    let engine = Engine::new(Boot {
        worker_id: args.worker_id,
        life: args.life,
        cores: settings.workers.cores,
        waiting: settings.limits.waiting,
        cancel_on_disconnect: settings.app.cancel_on_disconnect,
        limit: Some(settings.timeouts.request).filter(|limit| !limit.is_zero()),
        has_threads: settings.app.suspend == Suspend::Thread,
        rules: settings.into(),
        board: Arc::new(board.map_err(Error::io("map the board"))?),
    })?;
    match settings.app.suspend {
        Suspend::Greenlet => Python::attach(|py| {
            let worker = prepare(py, &engine, loaded).map_err(internal(py))?;
            let apps = Apps::start_up(py, &worker, args, loaded)?;
            let watch = watch(py, &engine, args, loaded)?;
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
                let worker = prepare(py, &engine, loaded).map_err(internal(py))?;
                let apps = Apps::start_up(py, &worker, args, loaded)?;
                let threads = Threads::start(py, &engine, &worker, settings).map_err(internal(py))?;
                Ok((worker, apps, threads, watch(py, &engine, args, loaded)?))
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

fn internal(py: Python<'_>) -> impl Fn(PyErr) -> Error {
    move |error| Error::Io {
        what: format!("prepare Python in the worker:\n{}", log::traceback(py, &error)),
        source: std::io::ErrorKind::Other.into(),
    }
}

/// Makes this thread the loop's, for Python too, and runs what the application wants to be run before it serves.
fn prepare(py: Python<'_>, engine: &Rc<Engine>, loaded: &Loaded) -> PyResult<Rc<Worker>> {
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

/// The applications that are served on the loop itself.
struct Apps {
    asgi: Option<Rc<Asgi>>,
    tornado: Option<Server>,
}

impl Apps {
    /// Has them do what they do before their first request; from then on the loop serves.
    fn start_up(py: Python<'_>, worker: &Rc<Worker>, args: &RunArgs, loaded: &Loaded) -> Result<Apps, Error> {
        let asgi =
            Asgi::start_up(py, worker, (&loaded.app, loaded.native.as_ref())).map_err(
                |failure| match failure {
                    lifespan::Failure::Refused(reason) => Error::Application(reason),
                    lifespan::Failure::Python(error) => internal(py)(error),
                },
            )?;
        let tornado = match (&loaded.native, native_address(args, loaded)) {
            (Some(Application::Tornado(app)), Some(address)) => {
                let backlog = loaded.settings.limits.backlog;
                let server = Server::listen(py, app, address, backlog);
                let failed =
                    |error| Error::Application(format!("native.app: {}", log::traceback(py, &error)));
                Some(server.map_err(failed)?)
            }
            _ => None,
        };
        worker.aio.serve(py).map_err(internal(py))?;
        Ok(Apps { asgi, tornado })
    }

    fn host<'a>(&'a self, other: &'a dyn Host) -> Beside<'a> {
        Beside { asgi: self.asgi.clone(), tornado: self.tornado.as_ref(), other }
    }

    /// Has them do what they do after their last request.
    fn shut_down(&self, py: Python<'_>, worker: &Worker) {
        let Some(asgi) = &self.asgi else { return };
        match worker.aio.rest(py) {
            Ok(()) => asgi.shut_down(py),
            Err(error) => log::exception(py, &error, "the loop cannot be brought to rest"),
        }
    }
}

/// Starts the thread that watches the loop.
fn watch(py: Python<'_>, engine: &Engine, args: &RunArgs, loaded: &Loaded) -> Result<Watch, Error> {
    let settings = &loaded.settings;
    let watching = Watching::install(py, engine.roll(), &loaded.event_loop).map_err(internal(py))?;
    let some = |time: Duration| Some(time).filter(|time| !time.is_zero());
    let post = Post {
        worker: args.worker_id,
        roll: Arc::clone(engine.roll()),
        remote: engine.remote(),
        questions: reactor::adopt(args.questions).map_err(Error::io("take the master's questions"))?,
        stall: some(settings.timeouts.stall),
        limit: some(settings.timeouts.request),
    };
    Watch::start(post, watching).map_err(Error::io("start the watch thread"))
}

/// The worker's own listener, if it has one.
fn native_address(args: &RunArgs, loaded: &Loaded) -> Option<SocketAddr> {
    let native = &loaded.settings.native;
    // The configuration was checked: base port + number of workers is a port.
    let port = native.base_port?.saturating_add(u16::try_from(args.worker_id).unwrap_or(u16::MAX));
    Some(SocketAddr::new(native.address, port))
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
    fixed.set_item("wsgi.early_hints", py.import("appliance")?.getattr("early_hints")?)?;
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
