//! Loading a native application: one of those that are built in, or a shared library. Called once in the process that forks
//! the workers, before it does, so that a library that cannot be served is known before anything is replaced.
#![expect(unsafe_code, reason = "loads shared libraries and calls what they export")]

use super::{builtin, table};
use appliance_app::abi::{APPLIANCE_VERSION, ApplianceApp, ApplianceEntry};
use appliance_config::Settings;
use appliance_config::settings::NativeApp;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error;
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;

/// What a library exports.
const ENTRY: &str = "appliance_app";

/// Memory mappings of a process beside those of its stacks.
const OTHER_MAPPINGS: u64 = 4096;
/// Mappings of one stack: itself, and its guard page.
const STACK_MAPPINGS: u64 = 2;

/// An application that can be served; the same for every worker.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    handle: unsafe extern "C" fn() -> i32,
}

impl Loaded {
    /// Serves the request of the coroutine that calls this: 0, or anything else if it failed.
    pub(super) fn handle(self) -> i32 {
        // SAFETY: the library is loaded for the life of the process, and its version is ours.
        unsafe { (self.handle)() }
    }
}

/// The native applications of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Apps {
    /// That of `[app]`, if it is native.
    pub main: Option<Loaded>,
    /// That of `[native]`.
    pub beside: Option<Loaded>,
}

impl Apps {
    /// Loads the native applications that are configured, if any, before the first fork. A sentence says what is wrong.
    pub fn load(settings: &Settings) -> Result<Option<Apps>, String> {
        let load = |app: Option<NativeApp>| app.map(|app| load(&app, settings)).transpose();
        let apps = Apps { main: load(settings.app.native())?, beside: load(settings.native.native())? };
        if apps.main.is_none() && apps.beside.is_none() {
            return Ok(None);
        }
        warn_of_mappings(settings);
        Ok(Some(apps))
    }
}

/// Says so if the kernel does not let a worker have a stack for each core.
fn warn_of_mappings(settings: &Settings) {
    let Ok(text) = std::fs::read_to_string("/proc/sys/vm/max_map_count") else { return };
    let needed = u64::from(settings.workers.cores) * STACK_MAPPINGS + OTHER_MAPPINGS;
    if let Some(most) = text.trim().parse::<u64>().ok().filter(|most| *most < needed) {
        tracing::warn!(
            "workers.cores = {} needs {needed} memory mappings for native requests, and vm.max_map_count is {most}: \
             sysctl -w vm.max_map_count={needed}, or lower workers.cores",
            settings.workers.cores
        );
    }
}

/// Loads an application, or says in a sentence why it cannot be served.
fn load(app: &NativeApp, settings: &Settings) -> Result<Loaded, String> {
    match app {
        NativeApp::BuiltIn(name) => {
            let handle = builtin::find(name, settings)?;
            // SAFETY: the functions live as long as the process.
            unsafe { appliance_app::install(&raw const table::HOST) };
            Ok(Loaded { handle })
        }
        NativeApp::Library(path) => load_library(path),
    }
}

/// Loads an application only to say in a sentence why it cannot be served, if it cannot. It is not let get ready.
pub fn examine(app: &NativeApp, settings: &Settings) -> Result<(), String> {
    match app {
        NativeApp::BuiltIn(name) => builtin::find(name, settings).map(drop),
        NativeApp::Library(path) => open_library(path).map(drop),
    }
}

fn load_library(path: &Path) -> Result<Loaded, String> {
    let (app, loaded) = open_library(path)?;
    prepare(&app).map_err(|why| format!("{} {why}", path.display()))?;
    Ok(loaded)
}

/// A library whose application could be served, unless it cannot get ready.
fn open_library(path: &Path) -> Result<(ApplianceApp, Loaded), String> {
    let place = path.display();
    // SAFETY: runs the library's initialisers; it is the application that the user wants to be served.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| {
        let why = why_unloadable(&error);
        let why = why.strip_prefix(&format!("{place}: ")).unwrap_or(&why);
        format!("{place} cannot be loaded: {why}; build it, or name another one")
    })?;
    // Nothing that it started could survive its unloading.
    let library = Box::leak(Box::new(library));
    // SAFETY: the type that the interface declares for this name.
    let entry = unsafe { library.get::<ApplianceEntry>(ENTRY.as_bytes()) };
    let entry = entry.map_err(|_| {
        format!(
            "{place} is no application: it does not export {ENTRY}; in Rust write appliance_app::export!(handler), in C \
             APPLIANCE_APP(handler)"
        )
    })?;
    // SAFETY: the functions live as long as the process.
    let app = unsafe { entry(&raw const table::HOST) };
    if app.is_null() {
        return Err(format!("{place} refuses to work with version {APPLIANCE_VERSION} of the interface"));
    }
    // SAFETY: what a library exports is as large as it says, and lives as long as the process.
    let app = unsafe { taken(app) };
    check(&app).map(|loaded| (app, loaded)).map_err(|why| format!("{place} {why}"))
}

/// Why a library cannot be loaded, in the words of the dynamic linker if it has any.
pub fn why_unloadable(error: &libloading::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// What a library has exported, as far as it goes: one that was built earlier has less, and the rest is none.
///
/// # Safety
/// `app` points to as many bytes as it says that there are.
unsafe fn taken(app: *const ApplianceApp) -> ApplianceApp {
    // SAFETY: every version begins with these two.
    let (version, size) = unsafe { ((*app).version, (*app).size as usize) };
    if version != APPLIANCE_VERSION {
        return ApplianceApp { version, size: size as u32, handle: None, load: None };
    }
    let mut taken = MaybeUninit::<ApplianceApp>::zeroed();
    let size = size.min(size_of::<ApplianceApp>());
    // SAFETY: the caller's promise, and there is room for so many bytes.
    unsafe { ptr::copy_nonoverlapping(app.cast::<u8>(), taken.as_mut_ptr().cast::<u8>(), size) };
    // SAFETY: zeros are a number, and no function.
    unsafe { taken.assume_init() }
}

/// Lets an application get ready, if it wants to.
fn prepare(app: &ApplianceApp) -> Result<(), String> {
    let Some(load) = app.load else { return Ok(()) };
    table::anywhere::take_reason();
    // SAFETY: the library is loaded for the life of the process, and its version is ours.
    if unsafe { load() } == 0 {
        return Ok(());
    }
    let why = table::anywhere::take_reason();
    Err(format!("cannot get ready: {}", if why.is_empty() { "it does not say why" } else { &why }))
}

/// The version comes first and is the only field that every version has.
fn check(app: &ApplianceApp) -> Result<Loaded, String> {
    if app.version != APPLIANCE_VERSION {
        return Err(format!(
            "was built for version {} of the interface, and this is version {APPLIANCE_VERSION}: build it with the \
             appliance.h or the appliance-app of this release",
            app.version
        ));
    }
    app.handle
        .map(|handle| Loaded { handle })
        .ok_or_else(|| "exports an application without a handler".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn nothing() -> i32 {
        0
    }

    #[test]
    fn a_library_of_another_version_is_refused() {
        let checked = |version, size, handle| {
            let app = ApplianceApp { version, size, handle, load: Some(nothing) };
            // SAFETY: it is at least as large as it says.
            check(&unsafe { taken(&raw const app) })
        };
        let (size, handle) =
            (size_of::<ApplianceApp>() as u32, Some(nothing as unsafe extern "C" fn() -> i32));
        assert!(checked(APPLIANCE_VERSION, size, handle).is_ok());
        assert!(checked(APPLIANCE_VERSION + 1, size, handle).unwrap_err().contains("version 2"));
        assert!(checked(APPLIANCE_VERSION, 8, handle).is_err());
        assert!(checked(APPLIANCE_VERSION, size, None).is_err());
    }

    #[test]
    fn an_earlier_library_has_nothing_to_get_ready() {
        let app =
            ApplianceApp { version: APPLIANCE_VERSION, size: 16, handle: Some(nothing), load: Some(nothing) };
        // SAFETY: it is larger than it says.
        let taken = unsafe { taken(&raw const app) };
        assert!(taken.load.is_none() && check(&taken).is_ok() && prepare(&taken).is_ok());
    }

    #[test]
    fn what_is_no_application_is_said_so() {
        let missing = load_library(Path::new("/nowhere/app.so")).unwrap_err();
        let said = "/nowhere/app.so cannot be loaded: cannot open shared object file: No such file or directory; build it";
        assert!(missing.starts_with(said), "{missing}");
        let libc = load_library(Path::new("libc.so.6")).unwrap_err();
        assert!(libc.contains("does not export appliance_app"), "{libc}");
    }
}
