//! The master's part of a reload: reads the configuration when the fleet asks for it, and puts it in force, or forgets it,
//! when the fleet says so. Decides nothing.
use super::Master;
use crate::control::Answer;
use crate::doors::Doors;
use crate::error::Error;
use crate::fleet::{Event, Next};
use crate::load;
use crate::notice::Facts;
use crate::upcoming::Upcoming;
use appliance_config::{Settings, changes};
use appliance_worker::logging;
use std::rc::Rc;
use std::time::Instant;

impl Master {
    /// Reads the configuration again, and opens what it needs and we do not have.
    pub(super) fn configure(&mut self, generation: u32) -> Event {
        match self.read_next(generation) {
            Ok(next) => Event::Configured(next),
            Err(error) => Event::Misconfigured { text: error.to_string() },
        }
    }

    fn read_next(&mut self, generation: u32) -> Result<Next, Error> {
        let identity = self.identity.as_ref();
        let upcoming = Upcoming::read(&self.request, generation, &self.settings, &self.doors, identity)?;
        self.open_workers(upcoming.settings.workers.count)?;
        let next = upcoming.next(&self.settings);
        self.upcoming = Some(upcoming);
        Ok(next)
    }

    /// The configuration that was read is in force. Listeners that it does not have are closed here, and in the old proxy
    /// as soon as that is told to finish.
    pub(super) fn adopt(&mut self) {
        let Some(upcoming) = self.upcoming.take() else { return };
        for change in upcoming.changes.iter().filter(|change| !change.needs_restart()) {
            tracing::info!("configuration: {change}");
        }
        self.settings = upcoming.settings;
        self.doors = upcoming.doors;
        self.doors.set_backlog(self.settings.limits.backlog);
        for socket in &self.workers {
            socket.set_backlog(self.settings.limits.backlog);
        }
        logging::set_level(&self.settings.log.level);
        self.touch.watch(&self.settings.workers.touch_reload, Instant::now());
        self.facts = Facts { urls: self.doors.urls(), ..Facts::of(&self.settings, upcoming.file.as_deref()) };
        self.panel.set_proxy(self.fleet.proxy());
    }

    /// Nothing comes of it.
    pub(super) fn abandon(&mut self) {
        self.upcoming = None;
    }

    /// What `appliance reload` would change.
    pub(super) fn plan(&self) -> Answer {
        match load::load(&self.request) {
            Ok(loaded) => Answer::Plan(changes(&self.settings, &loaded.settings)),
            Err(error) => Answer::Error(error.to_string()),
        }
    }

    /// The settings and the doors of a template, which may be of a generation that is still being tried.
    pub(super) fn settings_of_template(&self, generation: u32) -> (Rc<Settings>, Doors) {
        let upcoming = self.upcoming.as_ref().filter(|upcoming| upcoming.generation == generation);
        self.of(upcoming)
    }

    fn of(&self, upcoming: Option<&Upcoming>) -> (Rc<Settings>, Doors) {
        match upcoming {
            Some(upcoming) => (Rc::clone(&upcoming.settings), upcoming.doors.clone()),
            None => (Rc::clone(&self.settings), self.doors.clone()),
        }
    }

    /// The settings and the doors of a proxy, likewise.
    pub(super) fn settings_of_proxy(&self, generation: u32) -> (Rc<Settings>, Doors) {
        self.of(self.upcoming.as_ref().filter(|_| generation > self.fleet.proxy()))
    }
}
