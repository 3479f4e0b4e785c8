//! Who must run, and what to do when somebody comes, gets ready, goes, or takes too long: the master's whole policy,
//! as a function of (state, event, time). Called by `master.rs` only, which performs the actions. Nothing here makes
//! a system call or reads the clock. This file takes events and changes the table of children; `settle.rs` looks at
//! the table and asks for what is missing.
use crate::child::{Backoff, Child, Order, Role, Stage};
use crate::message::Ended;
use crate::notice::Notice;
use appliance_worker::{abi, board};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

mod demand;
use demand::Demand;
mod event;
pub use event::{Action, Event, Next, Plan, Queue, Vitals};
mod health;
pub use health::Health;
mod recycle;
pub use recycle::Worn;
mod reload;
use reload::Reload;
mod scale;
mod settle;
mod stop;
mod trouble;
use trouble::Trouble;
mod view;
pub use view::Condition;
#[cfg(test)]
mod tests;

/// A worker that crashes this often in a row will not get better by itself.
const START_ATTEMPTS: u32 = 5;

/// What the whole appliance is at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// No worker has ever been ready: any failure is a failed start.
    Starting,
    /// Whatever fails is replaced.
    Serving,
    /// First the proxy, so that no new request comes; then the workers; then the templates.
    Stopping { last: stop::Rank, code: i32, kill_at: Option<Instant> },
    /// `Exit` has been said.
    Over,
}

/// The table.
#[derive(Debug)]
pub struct Fleet {
    plan: Plan,
    phase: Phase,
    /// Generation that new workers belong to.
    generation: u32,
    /// The last generation that a reload was given. One that failed leaves its number unused: what was ordered for it may
    /// still come.
    tried: u32,
    /// Generation of the proxy; it counts by itself, because not every reload replaces the proxy.
    proxy: u32,
    reload: Reload,
    /// A reload was begun while the one before it rolled.
    is_half_rolled: bool,
    /// What the reload under way will put in force.
    next: Option<Next>,
    /// Keys that the last configuration changed and that wait for a restart.
    waiting: Vec<String>,
    /// SIGHUP came while a reload was under way; the files may have changed after it read them.
    reload_again: bool,
    /// When it was first told to stop.
    stop_told: Option<Instant>,
    /// It serves on until then (`timeouts.drain_delay`), and then stops.
    leave_at: Option<Instant>,
    /// When the last event was told.
    told: Option<Instant>,
    /// When the master last looked at what the processes publish.
    looked: Option<Instant>,
    trouble: Trouble,
    demand: Demand,
    /// Somebody waits for [`Notice::Scaled`].
    is_scaling: bool,
    /// Whoever waits for the end of a reload or of [`Event::Scale`] was told that it may not come.
    is_held_up_told: bool,
    /// Places for workers, as the master was told.
    places_told: u32,
    children: Vec<Child>,
    orders: Vec<Order>,
    /// The last life that each worker was given.
    lives: BTreeMap<u32, u32>,
    backoffs: BTreeMap<Role, Backoff>,
    actions: Vec<Action>,
}

impl Fleet {
    /// A fleet of nobody; the first [`Event::Tick`] starts it.
    pub fn new(plan: Plan) -> Fleet {
        Fleet {
            places_told: plan.workers,
            plan,
            phase: Phase::Starting,
            generation: 0,
            tried: 0,
            proxy: 0,
            reload: Reload::Idle,
            is_half_rolled: false,
            next: None,
            waiting: Vec::new(),
            reload_again: false,
            stop_told: None,
            leave_at: None,
            told: None,
            looked: None,
            trouble: Trouble::default(),
            demand: Demand::default(),
            is_scaling: false,
            is_held_up_told: false,
            children: Vec::new(),
            orders: Vec::new(),
            lives: BTreeMap::new(),
            backoffs: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    /// Takes an event and answers what to do, in this order. Each `Start` must be answered before the next event.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        self.forgive(now);
        match event {
            Event::Tick => {}
            Event::Started { role, generation, pid } => self.on_started(role, generation, 0, pid, now),
            Event::NotStarted { role, generation, text } => self.on_not_started(role, generation, text, now),
            Event::Loaded { pid, line } => self.on_loaded(pid, line, now),
            Event::LoadFailed { pid, code, text } => self.on_load_failed(pid, code, text, now),
            Event::Forked { worker, generation, life, pid } => {
                self.on_started(Role::Worker(worker), generation, life, pid, now)
            }
            Event::ForkFailed { template, worker, text } => self.on_not_forked(template, worker, text, now),
            Event::Ready { pid } => self.on_ready(pid, now),
            Event::Exited { pid, forked, ended } => self.on_exited(pid, forked, ended, now),
            Event::Looked { all, queue } => self.on_look(&all, queue, now),
            Event::Worn { pid, requests } => self.on_worn(pid, requests, now),
            Event::Scale { workers } => self.on_scale(workers, now),
            Event::SocketRenewed { worker } => self.on_socket_renewed(worker),
            Event::Stop => self.on_stop(now),
            Event::StopNow => self.on_stop_now(now),
            Event::Reload => self.reload_again = self.is_up() && self.leave_at.is_none(),
            Event::Configured(next) => self.on_configured(next, now),
            Event::Misconfigured { text } => self.on_misconfigured(text, now),
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// When `Tick` is due, if nothing happens before.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if matches!(self.phase, Phase::Stopping { .. }) {
            return self.next_stop();
        }
        let children = self.children.iter().filter_map(|child| child.deadline);
        let orders = self.orders.iter().map(|order| order.deadline);
        let backoffs = self.backoffs.values().filter_map(|backoff| backoff.ends(now));
        children.chain(orders).chain(backoffs).chain(self.leave_at).min()
    }

    fn on_started(&mut self, role: Role, generation: u32, life: u32, pid: Pid, now: Instant) {
        let wanted = self.is_wanted(role, generation);
        self.orders.retain(|order| (order.role, order.generation) != (role, generation));
        let (stage, deadline) =
            if wanted { (Stage::Booting, Some(now + self.boot())) } else { (Stage::Leaving, None) };
        if !wanted {
            self.act(Action::Kill(pid));
        }
        self.children.push(Child {
            role,
            generation,
            life,
            pid,
            since: now,
            stage,
            deadline,
            health: Health::default(),
            is_cut_off: false,
        });
    }

    /// Whatever is missing is asked for.
    fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Serving)
    }

    /// A child that comes late (its template died, or the appliance stops) must not take a place that is filled.
    fn is_wanted(&self, role: Role, generation: u32) -> bool {
        let known = match role {
            Role::Worker(id) => (1..=self.plan.workers).contains(&id) && generation == self.generation,
            Role::Proxy | Role::Template => true,
        };
        known && self.is_up() && self.find(role, generation).is_none()
    }

    fn on_not_started(&mut self, role: Role, generation: u32, text: String, now: Instant) {
        self.orders.retain(|order| (order.role, order.generation) != (role, generation));
        match self.phase {
            Phase::Starting => self.fail(abi::EXIT_FAILED, format!("cannot fork the {role}: {text}")),
            _ if role == Role::Template && generation > self.generation => self.fail_reload(text, now),
            _ if role == Role::Proxy && generation > self.proxy => self.fail_reload(text, now),
            _ => {
                let again_in = self.backoff(role).fail(now);
                self.note_crash(role, &format!("{role} could not be forked: {text}"));
                self.say(Notice::NotForked { role, text, again_in });
            }
        }
    }

    /// Nothing has come of an order to a template. An order that is not known was forgotten with something else.
    fn on_not_forked(&mut self, template: Pid, worker: u32, text: String, now: Instant) {
        let role = Role::Worker(worker);
        let order = self.orders.iter().find(|order| (order.role, order.template) == (role, Some(template)));
        if let Some(generation) = order.map(|order| order.generation) {
            self.on_not_started(role, generation, text, now);
        }
    }

    fn on_loaded(&mut self, pid: Pid, line: String, now: Instant) {
        let Some(child) = self.by_pid(pid).filter(|child| child.stage == Stage::Booting) else { return };
        (child.stage, child.deadline) = (Stage::Ready, None);
        if child.generation > self.generation {
            self.on_next_loaded(now);
        }
        let first = self.phase == Phase::Starting;
        self.say(if first { Notice::Loaded { line } } else { Notice::LoadedAgain { line } });
    }

    fn on_load_failed(&mut self, pid: Pid, code: i32, text: String, now: Instant) {
        let deadline = now + self.plan.graceful;
        let Some(child) = self.by_pid(pid).filter(|child| child.stage == Stage::Booting) else { return };
        (child.stage, child.deadline) = (Stage::Leaving, Some(deadline));
        let generation = child.generation;
        match self.phase {
            Phase::Starting => self.fail(code, text),
            _ if generation > self.generation => self.fail_reload(text, now),
            _ => {
                let again_in = self.backoff(Role::Template).fail(now);
                self.note_crash(Role::Template, &text);
                self.say(Notice::LoadFailed { text, again_in });
            }
        }
    }

    fn on_ready(&mut self, pid: Pid, now: Instant) {
        // A template says `Loaded` instead.
        let is_meant = |child: &&mut Child| child.stage == Stage::Booting && child.role != Role::Template;
        let Some(child) = self.by_pid(pid).filter(is_meant) else { return };
        (child.stage, child.deadline) = (Stage::Ready, None);
        let child = child.clone();
        match child.role {
            Role::Proxy => self.on_proxy_ready(child.generation),
            _ => self.on_worker_ready(&child, now),
        }
        if self.phase == Phase::Starting && self.can_serve() {
            self.phase = Phase::Serving;
            self.say(Notice::Serving);
        }
    }

    /// A proxy accepts connections, and a worker requests.
    fn can_serve(&self) -> bool {
        let is_ready = |is_meant: fn(Role) -> bool| {
            self.children.iter().any(|child| child.stage == Stage::Ready && is_meant(child.role))
        };
        is_ready(|role| role == Role::Proxy) && is_ready(|role| matches!(role, Role::Worker(_)))
    }

    fn on_exited(&mut self, pid: Pid, forked: Option<(Pid, u32)>, ended: Ended, now: Instant) {
        let Some(at) = self.children.iter().position(|child| child.pid == pid) else {
            // It died before it could say that it lived; or it is an orphan of the application's.
            if let Some((template, worker)) = forked {
                self.on_not_forked(template, worker, ended.to_string(), now);
            }
            return;
        };
        let child = self.children.remove(at);
        if let Role::Worker(worker) = child.role
            && self.has_place(worker)
            && !self.is_taken(worker, child.life)
        {
            self.act(Action::MarkDead { worker, life: child.life });
        }
        self.orders.retain(|order| order.template != Some(pid));
        if child.stage != Stage::Leaving && self.is_up() {
            self.on_lost(&child, ended, now);
        }
    }

    /// A child has ended that nobody had told to.
    fn on_lost(&mut self, child: &Child, ended: Ended, now: Instant) {
        let role = child.role;
        if self.is_on_trial(child) {
            return self.on_trial_lost(role, ended, now);
        }
        if child.generation < self.generation && role != Role::Proxy {
            return self.say(Notice::Lost { role, pid: child.pid, ended, again_in: Duration::ZERO });
        }
        let backoff = self.backoff(role);
        let (again_in, failure) = if child.lives_well(now) {
            backoff.reset();
            (Duration::ZERO, None)
        } else if child.serves() && child.age(now) >= Backoff::SHORT_LIFE {
            let again_in = backoff.falter(now);
            // Who is replaced at once is no crash either: nobody waits for it longer than for any other start.
            let is_crash = !again_in.is_zero();
            (again_in, is_crash.then(|| Notice::ended_early(role, ended, child.age(now))))
        } else {
            (backoff.fail(now), Some(Notice::not_started(role, ended)))
        };
        let failures = backoff.failures();
        if let Some(failure) = failure {
            self.note_crash(role, &failure);
        }
        match self.phase {
            Phase::Starting if is_final(role, ended, failures) => {
                self.fail(abi::EXIT_FAILED, Notice::not_started(role, ended));
            }
            _ => self.say(Notice::Lost { role, pid: child.pid, ended, again_in }),
        }
    }

    // ---- the table ----

    /// Tells children to go that have not been told yet.
    fn send_off(&mut self, pids: &[Pid], deadline: Instant) {
        for &pid in pids {
            let Some(child) = self.by_pid(pid).filter(|child| child.stage != Stage::Leaving) else {
                continue;
            };
            let action = match (child.role, child.stage) {
                // It imports the application and reads no orders.
                (Role::Template, Stage::Booting) => Action::Kill(pid),
                (Role::Template, _) => Action::Quit { template: pid },
                _ => Action::Finish(pid),
            };
            (child.stage, child.deadline) = (Stage::Leaving, Some(deadline));
            self.act(action);
        }
    }

    /// The one that fills the place of a role in a generation, or is about to.
    fn find(&self, role: Role, generation: u32) -> Option<&Child> {
        self.children.iter().find(|child| {
            (child.role, child.generation) == (role, generation)
                && !matches!(child.stage, Stage::Retiring | Stage::Leaving)
        })
    }

    /// Whether a process has, or will have, the place on the board of this life of a worker.
    fn is_taken(&self, worker: u32, life: u32) -> bool {
        let place = (Role::Worker(worker), life % board::BANKS);
        self.children.iter().any(|child| (child.role, child.life % board::BANKS) == place)
            || self.orders.iter().any(|order| (order.role, order.life % board::BANKS) == place)
    }

    fn by_pid(&mut self, pid: Pid) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.pid == pid)
    }

    fn pids_where(&self, is_meant: impl Fn(&Child) -> bool) -> Vec<Pid> {
        self.children.iter().filter(|child| is_meant(child)).map(|child| child.pid).collect()
    }

    fn backoff(&mut self, role: Role) -> &mut Backoff {
        self.backoffs.entry(role).or_default()
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn say(&mut self, notice: Notice) {
        self.act(Action::Say(notice));
    }
}

/// Whether the end of a child that never served means that the appliance cannot start.
fn is_final(role: Role, ended: Ended, failures: u32) -> bool {
    match role {
        Role::Proxy | Role::Template => true,
        Role::Worker(_) => ended == Ended::Code(abi::EXIT_BOOT) || failures >= START_ATTEMPTS,
    }
}
