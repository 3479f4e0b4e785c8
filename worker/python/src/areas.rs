//! The memory of the queue and the shared areas as this process has mapped it: in the template before the application is
//! imported, and by the fork in its workers. It may be used from any thread.
use appliance_config::Settings;
use appliance_worker::areas::Areas;
use appliance_worker::reactor;
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// Of this process and of those that are forked from it.
static AREAS: OnceLock<Areas> = OnceLock::new();

/// Maps it, before any code of the application runs. The descriptor is this process's from here.
pub fn install(fd: RawFd, settings: &Settings) -> io::Result<()> {
    let areas = reactor::adopt(fd).and_then(|fd| Areas::open(fd, settings))?;
    AREAS.get_or_init(|| areas);
    Ok(())
}

/// Nothing before it is mapped.
pub fn ours() -> Option<&'static Areas> {
    AREAS.get()
}
