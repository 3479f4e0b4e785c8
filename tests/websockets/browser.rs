//! A real browser without a window, which shows one page. It is large, and not everybody's: `make test` installs it where it
//! can, and where there is none the test says so and nothing is tested.
use crate::harness::{Dir, Log};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// One that runs; it ends with its value, and so do its children.
pub struct Browser {
    child: Child,
    log: Log,
}

impl Browser {
    /// Has a page shown; what it writes goes below `dir`. `None`: there is no browser.
    pub fn open(dir: &Dir, page: &str) -> Option<Browser> {
        let Some(program) = BROWSERS.iter().find(|path| Path::new(path).exists()) else {
            let why = "NOT TESTED: WebSockets in a browser, because there is none: apt-get install chromium-headless-shell";
            // Not by a macro, whose output is shown only of tests that fail.
            std::io::stderr().write_all(format!("\n{why}\n").as_bytes()).unwrap();
            return None;
        };
        let home = dir.path().join("browser");
        let mut child = Command::new(program)
            .args(QUIETLY)
            .arg(format!("--user-data-dir={}", home.display()))
            .arg(page)
            .env("HOME", &home)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Some(Browser { child, log })
    }

    /// What it has written, for a test that fails.
    pub fn log(&self) -> String {
        self.log.text()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
