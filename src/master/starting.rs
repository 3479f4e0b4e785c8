//! The master's part in starting its processes: what each is given, and the order or the fork itself. Who is started when is
//! up to the fleet.
use super::{Master, warn_if_refused};
use crate::bridge;
use crate::cache_dir::CacheDir;
use crate::channel;
use crate::child::Role;
use crate::fleet::Event;
use crate::spawn;
use crate::template;
use appliance_worker::board::CAPACITY;
use nix::unistd::Pid;
use std::io;
use std::os::fd::AsFd;

impl Master {
    /// An error: the order could not be made, for want of descriptors.
    pub(super) fn order_fork(&mut self, template: Pid, worker: u32, life: u32) -> io::Result<()> {
        self.open_workers(worker).map_err(io::Error::other)?;
        let Some(orders) = self.templates.get(&template) else { return Ok(()) };
        let socket = self.workers.get(worker.wrapping_sub(1) as usize).ok_or(io::ErrorKind::InvalidInput)?;
        let (here, there) = channel::questions()?;
        let ordered = orders.fork(worker, life, socket.as_fd(), there.as_fd());
        if ordered.is_ok() {
            self.lines.add((worker, life), here);
            self.count_start(worker);
        }
        warn_if_refused(template, ordered);
        Ok(())
    }

    /// Forks a template or a proxy.
    pub(super) fn start(&mut self, role: Role, generation: u32) -> Event {
        let started = spawn::require_one_thread().and_then(|()| match role {
            Role::Template => self.start_template(generation),
            _ => self.start_proxy(generation),
        });
        match started {
            Ok(pid) => Event::Started { role, generation, pid },
            Err(error) => Event::NotStarted { role, generation, text: error.to_string() },
        }
    }

    fn start_template(&mut self, generation: u32) -> io::Result<Pid> {
        let (orders, inbox) = channel::orders()?;
        let (settings, doors) = self.settings_of_template(generation);
        if !settings.caches.is_empty() && self.cache_dir.is_none() {
            let made = CacheDir::make(self.run_dir.path(), self.identity.as_ref());
            self.cache_dir = Some(made.map_err(io::Error::other)?);
        }
        let job = template::Job {
            settings: &settings,
            master: self.pid,
            generation,
            identity: self.identity.as_ref(),
            cache_dir: self.cache_dir.as_ref().map(CacheDir::path),
            board: self.board.fd().try_clone_to_owned()?,
            doors: doors.wire()?,
            locks: self.locks.fd().try_clone_to_owned()?,
            metrics: self.metrics.fd().try_clone_to_owned()?,
            areas: self.areas.try_clone()?,
            lock_bell: self.lock_bell.as_fd().try_clone_to_owned()?,
            inbox,
            reporter: self.reporter.try_clone()?,
        };
        let tie = self.tie.try_clone()?;
        let pid = spawn::fork(|| job.live(tie))?;
        self.templates.insert(pid, orders);
        Ok(pid)
    }

    fn start_proxy(&self, generation: u32) -> io::Result<Pid> {
        let (settings, doors) = self.settings_of_proxy(generation);
        let job = bridge::Job {
            settings: &settings,
            master: self.pid,
            generation,
            identity: self.identity.as_ref(),
            listeners: doors.public()?,
            admin: doors.admin()?,
            reporter: self.reporter.try_clone()?,
            board: self.board.fd().try_clone_to_owned()?,
            panel: self.panel.fd().try_clone_to_owned()?,
            metrics: self.metrics.fd().try_clone_to_owned()?,
            sockets: (1..=CAPACITY).map(|id| self.run_dir.socket(id)).collect(),
        };
        let tie = self.tie.try_clone()?;
        spawn::fork(|| job.live(tie))
    }
}
