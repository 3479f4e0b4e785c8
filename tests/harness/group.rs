//! A program that is no appliance, with what it starts, for as long as a value lives: all of it is one group of processes, and is
//! killed as one.
use super::Log;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// See the module.
pub struct Group {
    child: Child,
    /// What it writes to its standard error.
    pub log: Log,
}

impl Group {
    /// Starts it.
    pub fn start(command: &mut Command) -> Group {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = quiet.process_group(0).spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        Group { child, log }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the end of its log:\n{}", self.log.tail(40));
        }
    }
}
