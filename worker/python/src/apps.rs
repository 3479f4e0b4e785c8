//! The applications of a worker that are served on the loop itself, ASGI's and Tornado's: what they do before the first request
//! and after the last, and the host that the engine is given because of them.
use crate::application::Application;
use crate::asgi::{Asgi, lifespan};
use crate::beside::Beside;
use crate::host::Worker;
use crate::load::Loaded;
use crate::log;
use crate::serve::internal;
use crate::tornado::Server;
use appliance_worker::{Error, Host};
use pyo3::prelude::*;
use std::net::SocketAddr;
use std::rc::Rc;

/// See the module.
pub struct Apps {
    asgi: Option<Rc<Asgi>>,
    tornado: Option<Server>,
}

impl Apps {
    /// Has them do what they do before their first request; the loop does not serve yet. `native` is the address of the
    /// worker's own listener.
    pub fn start_up(
        py: Python<'_>,
        worker: &Rc<Worker>,
        loaded: &Loaded,
        native: Option<SocketAddr>,
    ) -> Result<Apps, Error> {
        let refused = |failure| match failure {
            lifespan::Failure::Refused(reason) => Error::Application(reason),
            lifespan::Failure::Python(error) => internal(py)(error),
        };
        let asgi = Asgi::start_up(py, worker, (&loaded.app, loaded.native.as_ref())).map_err(refused)?;
        let tornado = match (&loaded.native, native) {
            (Some(Application::Tornado(app)), Some(address)) => {
                let backlog = loaded.settings.limits.backlog;
                let failed = |error| Error::Application(log::traceback(py, &error));
                Some(Server::listen(py, app, address, backlog).map_err(failed)?)
            }
            _ => None,
        };
        Ok(Apps { asgi, tornado })
    }

    /// The host that serves them beside `other`, which serves all the rest.
    pub fn host<'a>(&'a self, other: &'a dyn Host) -> Beside<'a> {
        Beside { asgi: self.asgi.clone(), tornado: self.tornado.as_ref(), other }
    }

    /// Has them do what they do after their last request.
    pub fn shut_down(&self, py: Python<'_>, worker: &Worker) {
        let Some(asgi) = &self.asgi else { return };
        match worker.aio.rest(py) {
            Ok(()) => asgi.shut_down(py),
            Err(error) => log::exception(py, &error, "the loop cannot be brought to rest"),
        }
    }
}
