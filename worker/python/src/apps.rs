//! The applications of a worker that are served on the loop itself, ASGI's and Tornado's: what they do before the first request
//! and after the last, and between these as a guest beside the suspend engine's host.
use crate::application::Application;
use crate::asgi::{Asgi, lifespan};
use crate::host::Worker;
use crate::load::Loaded;
use crate::log;
use crate::serve::internal;
use crate::tornado::Server;
use appliance_worker::beside::Guest;
use appliance_worker::{CoreId, Error, Request};
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
                let has_log = worker.engine.here().map_err(internal(py))?.has_access_log();
                Some(Server::listen(py, app, address, backlog, has_log).map_err(failed)?)
            }
            _ => None,
        };
        Ok(Apps { asgi, tornado })
    }

    /// What they are to the worker's host, if there are any.
    pub fn guest(&self) -> Option<&dyn Guest> {
        (self.asgi.is_some() || self.tornado.is_some()).then_some(self as &dyn Guest)
    }

    /// Has them do what they do after their last request, and ends what still runs on the loop, whose ever it is.
    pub fn shut_down(&self, py: Python<'_>, worker: &Worker) {
        if let Err(error) = worker.aio.rest(py) {
            return log::exception(py, &error, "the loop cannot be brought to rest");
        }
        if let Some(asgi) = &self.asgi {
            asgi.shut_down(py);
        }
        if let Err(error) = worker.aio.wind_up(py) {
            log::exception(py, &error, "what runs on the loop cannot be ended");
        }
    }
}

/// Requests are ASGI's. A worker that stops waits for Tornado's own server, whose requests have no cores.
impl Guest for Apps {
    fn serves(&self, request: &Request) -> bool {
        self.asgi.as_ref().is_some_and(|asgi| asgi.serves(request))
    }

    fn has(&self, core: CoreId) -> bool {
        self.asgi.as_ref().is_some_and(|asgi| asgi.has(core))
    }

    fn start(&self, core: CoreId, request: Request) {
        if let Some(asgi) = &self.asgi {
            Python::attach(|py| asgi.start(py, core, request));
        }
    }

    fn resume(&self, core: CoreId) {
        if let Some(asgi) = &self.asgi {
            Python::attach(|py| asgi.resume(py, core));
        }
    }

    fn client_left(&self, core: CoreId) {
        if let Some(asgi) = &self.asgi {
            Python::attach(|py| asgi.client_left(py, core));
        }
    }

    fn overdue(&self, core: CoreId) {
        if let Some(asgi) = &self.asgi {
            Python::attach(|py| asgi.overdue(py, core));
        }
    }

    fn farewell(&self) {
        Python::attach(|py| {
            if let Some(asgi) = &self.asgi {
                asgi.farewell(py);
            }
            if let Some(server) = &self.tornado {
                server.farewell(py);
            }
        });
    }

    fn is_drained(&self) -> bool {
        self.tornado.as_ref().is_none_or(|server| Python::attach(|py| server.is_drained(py)))
    }
}
