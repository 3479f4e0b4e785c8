//! From what is asked on the command line to settings: the one place that hands the environment, the current folder
//! and the number of CPUs to the config crate. Starts nothing.
use crate::cli::Source;
use crate::error::Error;
use appliance_config::{Loaded, Request, Whereabouts};
use std::path::{Path, PathBuf};

/// Loads the configuration, or names everything that is wrong with it.
/// The master does so again for each reload, when the machine may have other CPUs than at the start.
pub fn load(request: &Request) -> Result<Loaded, Error> {
    let request = Request { cpus: cpus(), ..request.clone() };
    appliance_config::load(&request).map_err(|errors| Error::Usage(errors.to_string()))
}

/// Where the appliance that runs with this configuration can be found.
pub fn locate(source: Source) -> Result<Whereabouts, Error> {
    appliance_config::locate(&request(source)?).map_err(|errors| Error::Usage(errors.to_string()))
}

/// What the configuration is loaded from.
pub fn request(source: Source) -> Result<Request, Error> {
    let cwd = std::env::current_dir().map_err(Error::system("find the current folder"))?;
    let config = std::env::var_os("APPLIANCE_CONFIG").map(PathBuf::from);
    let asked = source.asked(&cwd, config, Path::is_dir, Path::is_file).map_err(Error::Usage)?;
    Ok(Request {
        file: asked.file,
        dir: asked.dir,
        // A variable that is not UTF-8 is none of ours.
        env: std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect(),
        flags: asked.flags,
        cpus: cpus(),
    })
}

/// CPUs that this process may use.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}
