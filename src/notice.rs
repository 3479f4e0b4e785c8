//! What the master tells the person who started it: a typed notice, and its words. On a terminal the news are plain
//! lines, in JSON each is one event with its facts as fields. Nothing is decided here.
use crate::child::{Role, Stage};
use crate::fleet::Worn;
use crate::message::Ended;
use appliance_config::Settings;
use appliance_worker::logging;
use nix::unistd::Pid;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Something the fleet has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The first template has loaded the application; its line for humans.
    Loaded { line: String },
    /// A later template has loaded it.
    LoadedAgain { line: String },
    /// The first worker is ready.
    Serving,
    /// The start has failed; the sentence that says why.
    Failed { text: String },
    /// A child has ended that nobody had told to.
    Lost { role: Role, pid: Pid, ended: Ended, again_in: Duration },
    /// A child could not be forked.
    NotForked { role: Role, text: String, again_in: Duration },
    /// A template that had to be replaced cannot load the application any more.
    LoadFailed { text: String, again_in: Duration },
    /// A child was killed because it stayed too long in a stage.
    TooSlow { role: Role, pid: Pid, stage: Stage },
    /// A process was killed because it has stood still for so long.
    Hung { role: Role, pid: Pid, stood: Duration },
    /// A worker is to be replaced, and why.
    Retiring { role: Role, pid: Pid, why: Worn },
    /// Workers end again and again and nobody serves; why the last one did.
    CrashLoop { reason: String },
    /// A worker serves again.
    Recovered,
    /// The load asks for another number of workers.
    Scaling { workers: u32, why: &'static str },
    /// There are as many workers as somebody asked for.
    Scaled { workers: u32 },
    /// There cannot be as many workers as somebody asked for.
    ScaleRefused { workers: u32, why: String },
    /// A worker that a reload or another number of workers needs cannot live; why the last one could not.
    HeldUp { reason: String },
    /// A reload begins.
    Reloading,
    /// A reload was given up; what served before goes on serving.
    ReloadFailed { text: String },
    /// Every worker is of this generation; these keys wait for a restart.
    Reloaded { generation: u32, waiting: Vec<String> },
    /// The appliance serves on for so long and says that it is not ready any more.
    Leaving { delay: Duration },
    /// The appliance finishes what it has.
    Stopping,
    /// A second signal.
    StopNow,
    /// The time to finish is over; so many processes are killed.
    Cut { left: usize },
}

impl Notice {
    /// Why the appliance cannot start: a child ended before any worker was ready.
    pub fn not_started(role: Role, ended: Ended) -> String {
        match role {
            Role::Template => format!("the template died while it loaded the application ({ended})"),
            Role::Proxy => format!("the proxy could not start ({ended}); its reason is in the log above"),
            Role::Worker(_) => format!("{role} could not start ({ended}); its reason is in the log above"),
        }
    }

    /// Why a child counts as one that cannot live although it has served.
    pub fn ended_early(role: Role, ended: Ended, age: Duration) -> String {
        format!("{role} ended {}s after its start ({ended}); its reason is in the log above", age.as_secs())
    }

    /// Why there are not all the workers that there should be.
    pub fn held_up(reason: &str) -> String {
        format!("a worker that is wanted cannot live, it is tried again and again: {reason}")
    }

    /// What a reload could not bring into force.
    pub fn wait_for_restart(keys: &[String]) -> String {
        format!("changed, but not in force before the appliance is started again: {}", keys.join(", "))
    }

    /// Why the appliance cannot start: a child took longer than `timeouts.boot`.
    pub fn too_slow(role: Role, boot: Duration) -> String {
        let what = match role {
            Role::Template => "the application was not loaded",
            Role::Proxy => "the proxy was not ready",
            Role::Worker(_) => "no worker was ready",
        };
        let usual = match role {
            Role::Template => {
                "; its modules must not serve by themselves when they are imported, as `app.run()` does"
            }
            _ => "",
        };
        format!("{what} within {boot:?}; if it needs longer, raise timeouts.boot{usual}")
    }
}

/// Facts that only the master knows and that some notices are told with.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whether the words go to a human.
    pub human: bool,
    /// Configuration file, as the user knows it.
    pub config: Option<String>,
    /// `module:callable`.
    pub app: String,
    /// Virtual environment, if Python is hosted in one.
    pub venv: Option<String>,
    /// `workers.count` and `workers.cores`.
    pub workers: (u32, u32),
    /// Where the proxy listens.
    pub urls: Vec<String>,
    /// Where the workers' own listeners are: `http://127.0.0.1:8001…8002`.
    pub native: Option<String>,
}

impl Facts {
    /// What is known before anything is opened.
    pub fn of(settings: &Settings, config: Option<&Path>) -> Facts {
        let show = |path: &Path| path.display().to_string();
        let count = settings.workers.count;
        Facts {
            human: logging::human(&settings.log),
            config: config.map(show),
            app: settings.app.module.clone(),
            venv: settings.app.venv.as_deref().filter(|_| settings.app.native().is_none()).map(show),
            workers: (count, settings.workers.cores),
            urls: Vec::new(),
            native: settings.native.base_port.map(|base| native_url(settings.native.address, base, count)),
        }
    }

    /// The first line of all.
    pub fn say_hello(&self) {
        let version = env!("CARGO_PKG_VERSION");
        if self.human {
            let config =
                self.config.as_ref().map_or("no configuration file".into(), |path| format!("config {path}"));
            return line(format_args!("appliance {version} · {config}"));
        }
        tracing::info!(version, config = self.config, "starting");
    }

    /// The last line of all.
    pub fn say_goodbye(&self) {
        if self.human {
            return line(format_args!("stopped"));
        }
        tracing::info!("stopped");
    }

    /// Tells one notice; `busy` are the requests under way in all workers.
    pub fn say(&self, notice: &Notice, busy: u64) {
        match notice {
            Notice::Loaded { line } => self.say_loaded(line),
            Notice::LoadedAgain { line } => tracing::info!(runtime = line, "application loaded again"),
            Notice::Serving => self.say_serving(),
            Notice::Failed { text } => say_error(text),
            Notice::Lost { role, pid, ended, again_in } if again_in.is_zero() => {
                tracing::warn!(pid = pid.as_raw(), %ended, "{role} ended; replaced at once");
            }
            Notice::Lost { role, pid, ended, again_in } => {
                tracing::warn!(pid = pid.as_raw(), %ended, "{role} ended early; replaced in {again_in:?}");
            }
            Notice::NotForked { role, text, again_in } => {
                tracing::error!(error = text, "{role} could not be forked; tried again in {again_in:?}");
            }
            Notice::LoadFailed { text, again_in } => {
                tracing::error!(
                    "the application cannot be loaded any more; it is tried again in {again_in:?}: {text}"
                );
            }
            Notice::TooSlow { role, pid, stage } => {
                let what = if *stage == Stage::Booting { "start" } else { "finish" };
                tracing::warn!(pid = pid.as_raw(), "{role} took too long to {what}; killed");
            }
            Notice::Hung { role, pid, stood } => {
                tracing::error!(
                    pid = pid.as_raw(),
                    "{role} has stood still for {}s; killed",
                    stood.as_secs()
                );
            }
            Notice::Retiring { role, pid, why } => {
                tracing::info!(pid = pid.as_raw(), "{role} is replaced: {why}");
            }
            Notice::CrashLoop { reason } => {
                tracing::error!("no worker can live; requests are answered 503 until one does: {reason}");
            }
            Notice::Recovered => tracing::info!("a worker serves again"),
            Notice::Scaling { workers, why } => tracing::info!(workers, "scaling: {why}"),
            Notice::Scaled { workers } => tracing::info!(workers, "scaled"),
            Notice::ScaleRefused { workers, why } => tracing::warn!(workers, "not scaled: {why}"),
            Notice::HeldUp { reason } => tracing::error!("{}", Notice::held_up(reason)),
            Notice::Reloading => tracing::info!("reloading the application"),
            Notice::ReloadFailed { text } => {
                tracing::error!("reload failed, everything stays as it was: {text}");
            }
            Notice::Leaving { delay } if self.human => {
                line(format_args!("leaving: serving on for {delay:?} (Ctrl-C again to stop now)"));
            }
            Notice::Leaving { delay } => {
                tracing::info!(?delay, "leaving; it serves on, and is not ready any more")
            }
            Notice::Reloaded { generation, waiting } => {
                tracing::info!(generation, "reloaded");
                if !waiting.is_empty() {
                    tracing::warn!("{}", Notice::wait_for_restart(waiting));
                }
            }
            Notice::Stopping if self.human => {
                let requests = if busy == 1 { "request" } else { "requests" };
                line(format_args!("stopping: finishing {busy} {requests} (Ctrl-C again to stop now)"))
            }
            Notice::Stopping => tracing::info!(requests = busy, "stopping"),
            Notice::StopNow => tracing::warn!("stopping now; requests under way are cut"),
            Notice::Cut { left } => {
                tracing::warn!(processes = left, "timeouts.graceful is over; what still runs is killed");
            }
        }
    }

    fn say_loaded(&self, runtime: &str) {
        let (count, cores) = self.workers;
        if self.human {
            let venv = self.venv.as_ref().map(|venv| format!(" · venv {venv}")).unwrap_or_default();
            line(format_args!("app  {} · {runtime}{venv}", self.app));
            let workers = if count == 1 { "worker" } else { "workers" };
            return line(format_args!("{count} {workers} × {cores} cores"));
        }
        tracing::info!(
            app = self.app,
            runtime,
            venv = self.venv,
            workers = count,
            cores,
            "application loaded"
        );
    }

    fn say_serving(&self) {
        let native = self.native.as_ref().map(|url| ("native", url));
        for (what, url) in self.urls.iter().map(|url| ("serving", url)).chain(native) {
            if self.human {
                line(format_args!("{what} {url}"));
            } else {
                tracing::info!(url, "{what}");
            }
        }
        if self.human {
            line(format_args!("stop with Ctrl-C"));
        }
    }
}

/// `http://127.0.0.1:8001`, or `http://127.0.0.1:8001…8004` for more than one worker.
fn native_url(address: IpAddr, base: u16, workers: u32) -> String {
    let first = SocketAddr::new(address, base.saturating_add(1));
    let last = u32::from(base) + workers;
    if workers > 1 { format!("http://{first}…{last}") } else { format!("http://{first}") }
}

/// A plain line for a human, unless the log level is below the news. A terminal that has gone, or takes nothing, is no reason to
/// stop serving.
fn line(text: std::fmt::Arguments<'_>) {
    if tracing::enabled!(tracing::Level::INFO) {
        logging::write(format!("{text}\n").as_bytes());
    }
}

/// What `appliance check` answers when nothing is wrong.
pub fn say_checked(config: Option<&Path>) {
    match config {
        Some(path) => print(&format!("{}: the configuration is valid\n", path.display())),
        None => print("no configuration file; the defaults are valid here\n"),
    }
}

/// Prints what a command was asked for. A reader that has closed the pipe has seen enough.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// How a command that takes its time goes on.
pub fn say_progress(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text} …");
}

/// The one sentence that a failed command ends with.
pub fn say_error(text: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "appliance: {text}");
}
