//! In a worker: from the fork to the end of its life.
use crate::aio::Aio;
use crate::host::Worker;
use crate::load::Loaded;
use crate::wsgi::environ::Template;
use crate::wsgi::files::FileWrapper;
use crate::{log, uwsgi};
use appliance_config::Settings;
use appliance_worker::abi::{EXIT_BOOT, EXIT_DONE, EXIT_FAILED, RunArgs};
use appliance_worker::board::Board;
use appliance_worker::listen::Listener;
use appliance_worker::{Boot, Engine, Error, reactor};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::net::SocketAddr;

/// Serves until told to stop; the exit code of the process.
pub fn serve(args: &RunArgs) -> i32 {
    let Some(loaded) = Loaded::get() else {
        tracing::error!("a worker was started before the application was loaded");
        return EXIT_FAILED;
    };
    let worker = args.worker_id;
    match run(args, loaded) {
        Ok(()) => EXIT_DONE,
        Err(error @ Error::Native { .. }) => {
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
    let board = reactor::adopt(args.board).and_then(|fd| Board::open(fd, settings.workers.count));
    let engine = Engine::new(Boot {
        worker_id: args.worker_id,
        generation: args.generation,
        cores: settings.workers.cores,
        waiting: settings.limits.waiting,
        cancel_on_disconnect: settings.app.cancel_on_disconnect,
        rules: settings.into(),
        board: board.map_err(Error::io("map the board"))?,
    })?;
    Python::attach(|py| {
        let internal = |error: PyErr| Error::Io {
            what: format!("prepare Python in the worker:\n{}", log::traceback(py, &error)),
            source: std::io::ErrorKind::Other.into(),
        };
        let aio = Aio::new(py, loaded.event_loop.clone_ref(py)).map_err(internal)?;
        let template = template(py, settings).map_err(internal)?;
        let worker =
            Worker::install(py, engine, loaded.app.clone_ref(py), template, aio).map_err(internal)?;
        worker.aio.adopt(py).map_err(internal)?;
        uwsgi::run_postfork(py).map_err(internal)?;
        worker.aio.serve(py).map_err(internal)?;
        let listeners = listeners(args, settings)?;
        let served = worker.engine.run(&*worker, listeners, || (args.ready)());
        finish(py);
        served
    })
}

fn listeners(args: &RunArgs, settings: &Settings) -> Result<Vec<Listener>, Error> {
    let socket = reactor::adopt(args.socket).and_then(Listener::worker);
    let mut listeners = vec![socket.map_err(Error::io("listen on the worker's socket"))?];
    if let Some(base) = settings.native.base_port {
        // The configuration was checked: base port + number of workers is a port.
        let port = base.saturating_add(u16::try_from(args.worker_id).unwrap_or(u16::MAX));
        let address = SocketAddr::new(settings.native.address, port);
        let native = Listener::native(address, settings.limits.backlog);
        listeners.push(native.map_err(|source| Error::Native { address, source })?);
    }
    Ok(listeners)
}

/// The parts of an `environ` that are the same for all requests.
fn template(py: Python<'_>, settings: &Settings) -> PyResult<Template> {
    let fixed = PyDict::new(py);
    fixed.set_item("wsgi.version", (1, 0))?;
    fixed.set_item("wsgi.errors", Bound::new(py, log::ErrorLog::new())?)?;
    fixed.set_item("wsgi.multithread", false)?;
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
