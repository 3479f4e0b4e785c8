//! What only a try shows of a configuration: whether there is the user that it names, and whether its native applications can be
//! loaded. Each is, in a process of its own, because a library runs code meanwhile, which may crash, end its process or
//! never come back. Called by `appliance check`, which has one thread and serves nothing. What an application does to get ready
//! is not done here.
use crate::engine;
use crate::error::Error;
use crate::message::Ended;
use crate::privileges::{self, Identity};
use crate::spawn;
use appliance_config::Settings;
use appliance_config::settings::NativeApp;
use appliance_config::units::duration_text;
use appliance_worker::abi;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, pipe2};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Most bytes of what a trial says; a pipe takes as many at once (`PIPE_BUF`, pipe(7)).
const MOST_SAID: usize = 4096;
/// What it says if all is well: a library that ends its process with exit code 0 is not loaded.
const LOADED: &str = "loaded";

/// Looks up the user, and loads the applications one after the other; says of each that cannot be loaded why.
pub fn run(settings: &Settings) -> Result<(), Error> {
    let identity = privileges::resolve(&settings.security).map_err(Error::Usage)?;
    let apps = [("app.module", settings.app.native()), ("native.app", settings.native.native())];
    let mut problems = Vec::new();
    for (key, app) in apps.iter().filter_map(|(key, app)| Some((key, app.as_ref()?))) {
        if let Some(why) = try_to_load(app, settings, identity.clone())? {
            problems.push(format!("{key}: {why}"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Usage(problems.join("\n"))) }
}

/// Why an application cannot be loaded, if it cannot.
fn try_to_load(
    app: &NativeApp,
    settings: &Settings,
    identity: Option<Identity>,
) -> Result<Option<String>, Error> {
    let tried = load_apart(app, settings, identity);
    Ok(match tried.map_err(Error::system(format!("load {app} in a process of its own")))? {
        Some((Ended::Code(abi::EXIT_DONE), said)) if said == LOADED => None,
        Some((Ended::Code(abi::EXIT_USAGE), said)) if !said.is_empty() => Some(said),
        Some((ended, _)) => Some(format!("{app} ends the process that loads it ({ended})")),
        None => Some(format!(
            "{app} is not loaded after {} (timeouts.boot): the code that it runs meanwhile does not come back",
            duration_text(settings.timeouts.boot)
        )),
    })
}

/// How the process has ended that was to load an application, and what it said; `None`: it has not in time, and was killed.
fn load_apart(
    app: &NativeApp,
    settings: &Settings,
    identity: Option<Identity>,
) -> io::Result<Option<(Ended, String)>> {
    let (heard, told) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    spawn::expect_children()?;
    spawn::require_one_thread()?;
    let process = spawn::fork(move || child(app, settings, identity, &told))?;
    let is_late = !has_ended(process, settings.timeouts.boot)?;
    if is_late {
        let _ = kill(process, Signal::SIGKILL);
        has_ended(process, Duration::MAX)?;
    }
    let ended = spawn::reap(Some(process)).map(|(_, ended)| (ended, said(&heard)));
    Ok(ended.filter(|_| !is_late))
}

/// Waits so long for the end of a process; whether it has come.
fn has_ended(process: Pid, limit: Duration) -> io::Result<bool> {
    let end = spawn::pidfd_open(process)?;
    let since = Instant::now();
    loop {
        let left = PollTimeout::try_from(limit.saturating_sub(since.elapsed())).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], left) {
            Err(Errno::EINTR) => {}
            Ok(0) if since.elapsed() < limit => {}
            ended => return Ok(ended? > 0),
        }
    }
}

/// What the other process says, which has ended.
fn said(heard: &OwnedFd) -> String {
    let mut text = [0; MOST_SAID];
    let length = nix::unistd::read(heard, &mut text).unwrap_or_default();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// The process that loads the application.
fn child(app: &NativeApp, settings: &Settings, identity: Option<Identity>, told: &OwnedFd) -> i32 {
    let loaded = become_loader(identity)
        .map_err(|error| format!("the process that is to load it: {error}"))
        .and_then(|()| engine::examine(app, settings).map_err(|error| error.to_string()));
    let (code, said) = match &loaded {
        Ok(()) => (abi::EXIT_DONE, LOADED),
        Err(why) => (abi::EXIT_USAGE, &why[..]),
    };
    // Who is not told sees at the end that something is wrong.
    let _ = nix::unistd::write(told, &said.as_bytes()[..said.len().min(MOST_SAID)]);
    code
}

/// It is whom the application would run as, and does not outlive who waits for it.
fn become_loader(identity: Option<Identity>) -> io::Result<()> {
    if let Some(identity) = identity {
        identity.assume()?;
    }
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}
