//! The master: opens everything that outlives its children, then waits, turns what has happened into events, and
//! performs what `fleet.rs` answers. Single-threaded for ever; runs no application code, serves no request, decides
//! nothing itself.
use crate::activation;
use crate::cache_dir::CacheDir;
use crate::channel::{self, Orders, Reporter, Reports};
use crate::child::Backoff;
use crate::control::Control;
use crate::doors::Doors;
use crate::error::Error;
use crate::fleet::{Action, Event, Fleet, Plan};
use crate::message::Message;
use crate::mode::Modes;
use crate::monitors::Monitors;
use crate::notice::{Facts, Notice};
use crate::notify::Notify;
use crate::privileges::{self, Identity};
use crate::run_dir::RunDir;
use crate::signals::{Signals, Wish};
use crate::sockets::{self, Listener};
use crate::spawn::{self, Lifeline, Tie};
use crate::survey::{Lines, Surveys};
use crate::switchboard::Switchboard;
use crate::touch::Touch;
use crate::upcoming::Upcoming;
use appliance_config::{Loaded, Request, Settings};
use appliance_worker::abi;
use appliance_worker::areas;
use appliance_worker::bell::Bell;
use appliance_worker::board::{Board, State};
use appliance_worker::locks::Table;
use appliance_worker::metrics::Metrics;
use appliance_worker::panel::Panel;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

mod annals;
mod locks;
mod look;
mod places;
mod questions;
mod reload;
mod starting;
mod switching;
mod verbs;
mod view;

/// Runs the appliance until it is told to stop, and answers the exit code of the process.
/// `request` is what it was loaded from; a reload loads from it again.
pub fn run(request: Request, loaded: Loaded) -> Result<i32, Error> {
    let mut master = Master::open(request, loaded)?;
    let code = master.serve().map_err(Error::system("the master's loop"))?;
    if code == abi::EXIT_DONE {
        master.facts.say_goodbye();
    }
    Ok(code)
}

/// Everything that the master owns. Sockets go before the directory that they lie in.
#[derive(Debug)]
struct Master {
    request: Request,
    /// The configuration in force.
    settings: Rc<Settings>,
    /// The one that a reload has read.
    upcoming: Option<Upcoming>,
    touch: Touch,
    began: Instant,
    facts: Facts,
    fleet: Fleet,
    pid: Pid,
    identity: Option<Identity>,
    doors: Doors,
    workers: Vec<Listener>,
    control: Option<Control>,
    /// Made when the first cache is configured.
    cache_dir: Option<CacheDir>,
    run_dir: RunDir,
    board: Board,
    /// How often the application has asked for a reload, and for a stop, at the last look.
    asked: [u32; 2],
    panel: Panel,
    metrics: Metrics,
    /// Of the queue and the shared areas; nobody looks into it here.
    areas: OwnedFd,
    locks: Table,
    lock_bell: Bell,
    notify: Notify,
    modes: Modes,
    lines: Lines,
    switchboard: Switchboard,
    monitors: Monitors,
    surveys: Surveys,
    signals: Signals,
    reports: Reports,
    reporter: Reporter,
    templates: BTreeMap<Pid, Orders>,
    /// When memory was last measured.
    measured: Option<Instant>,
    /// When the run directory was last looked after, and how it went.
    kept: Option<Instant>,
    place_backoff: Backoff,
    tie: Tie,
    _lifeline: Lifeline,
}

impl Master {
    /// Opens everything; nothing has been forked when this fails.
    fn open(request: Request, loaded: Loaded) -> Result<Master, Error> {
        let origin = loaded.origin().to_owned();
        let settings = Rc::new(loaded.settings);
        spawn::set_title("appliance: master");
        // Before anything is opened: their numbers are fixed.
        let inherited = activation::take();
        let notify = Notify::take(settings.timeouts.boot, Instant::now());
        umask(Mode::from_bits_truncate(settings.security.umask));
        spawn::expect_children().map_err(Error::system("become the reaper of orphans"))?;
        let signals = Signals::open().map_err(Error::system("open the signals"))?;
        let identity = privileges::resolve(&settings.security).map_err(Error::Usage)?;
        let (owner, backlog) = (identity.as_ref(), settings.limits.backlog);
        let doors = Doors::inherited(&settings, inherited).follow(&settings, owner)?;
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let run_dir = RunDir::open(settings.admin.run_dir.as_deref(), runtime.as_deref(), owner)?;
        let socket = |id| sockets::open_worker(&run_dir.socket(id), backlog, owner);
        let workers = (1..=settings.workers.count).map(socket).collect::<Result<Vec<_>, _>>()?;
        let control = Control::open(settings.admin.run_dir.as_deref(), &origin)?;
        let board = Board::create(settings.workers.count).map_err(Error::system("make the board"))?;
        let panel = Panel::create().map_err(Error::system("make the panel"))?;
        panel.set_workers(settings.workers.count);
        let metrics = Metrics::create().map_err(Error::system("make the memory of the metrics"))?;
        let areas = areas::create(&settings).map_err(Error::system("make the queue and the shared areas"))?;
        let locks = Table::create().map_err(Error::system("make the locks"))?;
        let lock_bell = Bell::new().map_err(Error::system("make the bell of the locks"))?;
        let (reports, reporter) = channel::reports().map_err(Error::system("open the reports"))?;
        let (lifeline, tie) = spawn::lifeline(owner).map_err(Error::system("open the lifeline"))?;
        let mut touch = Touch::default();
        touch.watch(&settings.workers.touch_reload, Instant::now());
        Ok(Master {
            began: Instant::now(),
            facts: Facts { urls: doors.urls(), ..Facts::of(&settings, loaded.file.as_deref()) },
            fleet: Fleet::new(Plan::of(&settings)),
            pid: Pid::this(),
            request,
            settings,
            upcoming: None,
            touch,
            identity,
            doors,
            workers,
            control,
            cache_dir: None,
            run_dir,
            board,
            asked: [0; 2],
            panel,
            metrics,
            areas,
            locks,
            lock_bell,
            notify,
            modes: Modes::default(),
            lines: Lines::new(),
            switchboard: Switchboard::default(),
            monitors: Monitors::default(),
            surveys: Surveys::default(),
            signals,
            reports,
            reporter,
            templates: BTreeMap::new(),
            measured: None,
            kept: None,
            place_backoff: Backoff::default(),
            tie,
            _lifeline: lifeline,
        })
    }

    /// The whole life: wait, take what has happened, do what the fleet answers.
    fn serve(&mut self) -> io::Result<i32> {
        self.facts.say_hello();
        self.open_annals();
        let mut events = VecDeque::from([Event::Tick]);
        loop {
            let is_somebody_gone = events.iter().any(|event| matches!(event, Event::Exited { .. }));
            while let Some(event) = events.pop_front() {
                if let Some(code) = self.handle(event) {
                    return Ok(code);
                }
            }
            if is_somebody_gone {
                self.free_locks();
            }
            self.put_through();
            self.show_mode();
            self.tell_manager();
            self.wait()?;
            events = self.take_events()?;
            events.extend(self.look(Instant::now()));
            events.extend(self.keep_places(Instant::now()));
            events.push_back(Event::Tick);
        }
    }

    /// Tells the fleet one event and performs its answer; `Some`: exit with this code.
    fn handle(&mut self, event: Event) -> Option<i32> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.fleet.on(event, Instant::now()) {
                match action {
                    Action::Exit(code) => {
                        self.tell_clients(|control, now| control.on_exit(now));
                        return Some(code);
                    }
                    Action::Start { role, generation } => events.push_back(self.start(role, generation)),
                    Action::Configure { generation } => events.push_back(self.configure(generation)),
                    Action::Fork { template, worker, life } => {
                        events.extend(self.order_fork(template, worker, life).err().map(|error| {
                            let text = format!("it cannot be ordered: {error}");
                            Event::ForkFailed { template, worker, text }
                        }));
                    }
                    other => self.perform(other),
                }
            }
        }
        None
    }

    // ---- what has happened ----

    /// Sleeps until a signal, a report, a control client, a worker's answer, or the next deadline of the fleet's or of
    /// theirs.
    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let clients = self.control.as_ref().and_then(Control::next_deadline);
        let deadlines = [
            self.fleet.next_deadline(now),
            self.fleet.next_look(now),
            clients,
            self.surveys.next_deadline(),
            self.touch.next_deadline(),
            self.notify.next_deadline(now),
            self.next_call(now),
        ];
        let timeout = match deadlines.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            // Rounded up: waking a moment too early would only mean to sleep again.
            Some(at) => PollTimeout::try_from(at.saturating_duration_since(now) + Duration::from_millis(1))
                .unwrap_or(PollTimeout::MAX),
        };
        let own = [self.signals.as_fd(), self.reports.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let clients = self.control.iter().flat_map(Control::sources);
        let files = self.monitors.as_fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let mut sources: Vec<PollFd<'_>> =
            own.into_iter().chain(clients).chain(self.lines.sources()).chain(files).collect();
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take_events(&mut self) -> io::Result<VecDeque<Event>> {
        let mut events = VecDeque::new();
        self.take_reports(&mut events)?;
        while let Some(wish) = self.signals.take()? {
            match wish {
                Wish::Stop => events.push_back(Event::Stop),
                Wish::Reload => events.push_back(Event::Reload),
                Wish::Reap => self.reap(&mut events)?,
                Wish::Nothing(signal) => {
                    tracing::info!(%signal, "a signal that means nothing to appliance; ignored")
                }
            }
        }
        if let Some(path) = self.touch.look(Instant::now()) {
            tracing::info!(path = %path.display(), "touched");
            events.push_back(Event::Reload);
        }
        self.take_wishes(&mut events);
        self.take_verbs(&mut events);
        self.take_answers(&mut events, Instant::now());
        Ok(events)
    }

    fn take_reports(&mut self, events: &mut VecDeque<Event>) -> io::Result<()> {
        for (pid, message) in self.reports.take_all()? {
            events.extend(match message {
                Message::Loaded { line } => Some(Event::Loaded { pid, line }),
                Message::LoadFailed { code, text } => Some(Event::LoadFailed { pid, code, text }),
                Message::Forked { worker, generation, life } => {
                    Some(Event::Forked { worker, generation, life, pid })
                }
                Message::ForkFailed { worker, text } => {
                    Some(Event::ForkFailed { template: pid, worker, text })
                }
                Message::Ready => Some(Event::Ready { pid }),
                Message::Exited { worker, pid: gone, ended } => {
                    Some(Event::Exited { pid: Pid::from_raw(gone), forked: Some((pid, worker)), ended })
                }
                Message::Fork { .. } | Message::Quit => None,
            });
        }
        Ok(())
    }

    /// Takes the ends of its own children, of workers whose template is gone, and of the application's orphans.
    fn reap(&mut self, events: &mut VecDeque<Event>) -> io::Result<()> {
        while let Some((pid, ended)) = spawn::reap(None) {
            // What a process said before its end comes before its end.
            self.take_reports(events)?;
            self.templates.remove(&pid);
            events.push_back(Event::Exited { pid, forked: None, ended });
        }
        Ok(())
    }

    // ---- what to do ----

    fn perform(&mut self, action: Action) {
        match action {
            Action::Quit { template } => {
                let ordered = self.templates.get(&template).map_or(Ok(()), Orders::quit);
                warn_if_refused(template, ordered);
            }
            Action::Finish(pid) => signal(pid, Signal::SIGTERM),
            Action::Kill(pid) => signal(pid, Signal::SIGKILL),
            Action::MarkDead { worker, life } => {
                self.lines.remove((worker, life));
                self.board.slot(worker, life).set_state(State::Dead);
            }
            Action::Say(notice) => {
                let now = Instant::now();
                if matches!(notice, Notice::Leaving { .. } | Notice::Stopping) {
                    self.modes.leave(now);
                }
                if matches!(notice, Notice::Stopping) {
                    // A WebSocket has no end of its own: the proxy, which goes first, would wait for it.
                    self.board.set_leaving();
                }
                self.write_annals(&notice);
                self.notify.on_notice(&notice, now);
                self.facts.say(&notice, self.busy());
                self.tell_clients(|control, now| control.on_notice(&notice, now));
            }
            Action::Resize { workers } => self.resize(workers),
            Action::Adopt => self.adopt(),
            Action::Abandon => self.abandon(),
            // Answered in `handle`.
            Action::Start { .. } | Action::Fork { .. } | Action::Configure { .. } | Action::Exit(_) => {}
        }
    }
}

/// An order that a template does not take is noticed by its deadline, or by the template's end.
fn warn_if_refused(template: Pid, ordered: io::Result<()>) {
    if let Err(error) = ordered {
        tracing::warn!(pid = template.as_raw(), %error, "the template takes no orders");
    }
}

/// A process that has gone in this very moment is what was wanted.
fn signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}
