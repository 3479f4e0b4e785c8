//! A real browser without a window, which shows one page. It is large, and not everybody's: `make test` installs it where it
//! can, and where there is none the test says so and nothing is tested.
use crate::harness::{Dir, Group};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Where they are, the smallest one first.
const BROWSERS: [&str; 3] =
    ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/google-chrome"];

/// What keeps it out of the way: it runs as root too, in a container with a small `/dev/shm`, and asks nobody on the network.
const QUIETLY: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-port=0",
];

/// Has a page shown for as long as the value lives; what the browser writes goes below `dir`. `None`: there is no browser.
pub fn show(dir: &Dir, page: &str) -> Option<Group> {
    let Some(program) = BROWSERS.iter().find(|path| Path::new(path).exists()) else {
        let why = "NOT TESTED: WebSockets in a browser, because there is none: apt-get install chromium-headless-shell";
        // Not by a macro, whose output is shown only of tests that fail.
        std::io::stderr().write_all(format!("\n{why}\n").as_bytes()).unwrap();
        return None;
    };
    let home = dir.path().join("browser");
    let profile = format!("--user-data-dir={}", home.display());
    Some(Group::start(Command::new(program).args(QUIETLY).args([&profile, page]).env("HOME", &home)))
}
