//! The configuration that a reload has read and that is not in force yet: what it means, what differs, and the listeners
//! that were opened for it. Made by the master when the fleet asks for it; it becomes the configuration in force with the
//! first new worker that serves, or is dropped, and then everything is as if it had never been read.
use crate::doors::Doors;
use crate::error::Error;
use crate::fleet::{Next, Plan};
use crate::load;
use crate::privileges::Identity;
use appliance_config::change::without_restart;
use appliance_config::{Change, Request, Settings, changes};
use std::path::PathBuf;
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub struct Upcoming {
    /// The reload that it belongs to.
    pub generation: u32,
    /// What will be in force; what only a restart can change is as it was.
    pub settings: Rc<Settings>,
    /// The file that it was read from.
    pub file: Option<PathBuf>,
    /// The listeners; those that stay are the same sockets.
    pub doors: Doors,
    /// What differs from what is in force.
    pub changes: Vec<Change>,
}

impl Upcoming {
    /// Reads the configuration from where it was read at the start, and opens the listeners that are new.
    pub fn read(
        request: &Request,
        generation: u32,
        in_force: &Settings,
        doors: &Doors,
        identity: Option<&Identity>,
    ) -> Result<Upcoming, Error> {
        let loaded = load::load(request)?;
        let changes = changes(in_force, &loaded.settings);
        let settings = without_restart(in_force, loaded.settings);
        let doors = doors.follow(&settings, identity)?;
        Ok(Upcoming { generation, settings: Rc::new(settings), file: loaded.file, doors, changes })
    }

    /// What it asks of the fleet.
    pub fn next(&self, in_force: &Settings) -> Next {
        let waits = self.changes.iter().filter(|change| change.needs_restart());
        Next {
            plan: Plan::of(&self.settings),
            resizes: self.settings.workers.count != in_force.workers.count,
            replaces_proxy: self.changes.iter().any(Change::needs_proxy),
            waiting: waits.map(|change| change.key.clone()).collect(),
        }
    }
}
