//! Processes as /proc shows them.
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A process; its start time makes it different from a later one with the same id.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    /// What `ps` shows: `appliance: worker 1`.
    pub title: String,
    pub is_zombie: bool,
    started: u64,
}

impl Process {
    /// The process with this id, if there is one.
    pub fn find(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may contain anything; fields are counted after it (proc(5): state is field 3).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            title,
            is_zombie: *fields.first()? == "Z",
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Process::find(self.pid).is_some_and(|found| found.started == self.started && !found.is_zombie)
    }

    /// Sends it a signal, unless it has gone.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            kill(Pid::from_raw(self.pid), signal).unwrap();
        }
    }

    /// Bytes of memory that it has in RAM, those that it shares included.
    pub fn resident(&self) -> u64 {
        // proc(5): in kibibytes, although the unit says kB.
        self.status("VmRSS:").parse::<u64>().unwrap() * 1024
    }

    /// Time that its threads have spent on CPUs.
    pub fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        let spent = |path: PathBuf| {
            // The first number, in nanoseconds (Documentation/scheduler/sched-stats.rst).
            fs::read_to_string(path).ok()?.split(' ').next()?.parse::<u64>().ok()
        };
        let each = threads.filter_map(|thread| spent(thread.ok()?.path().join("schedstat")));
        Duration::from_nanos(each.sum())
    }

    /// Sets one of its soft limits, such as `nofile`, while it runs.
    #[track_caller]
    pub fn limit(&self, name: &str, value: impl Display) {
        let mut command = Command::new("setpriv");
        // Without special rights the kernel lets only its own user do that.
        if geteuid().is_root() {
            let (user, group) = (self.status("Uid:"), self.status("Gid:"));
            command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
        }
        command.arg("prlimit").arg(format!("--pid={}", self.pid)).arg(format!("--{name}={value}:"));
        assert!(command.status().unwrap().success());
    }

    /// The first word after `name` in its status.
    fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    }

    /// What its descriptors refer to, such as `socket:[4711]`.
    pub fn descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap();
        let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    }
}

/// The children of `pid`, theirs, and so on.
pub fn descendants(pid: i32) -> Vec<Process> {
    let ids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<Process> = ids.filter_map(Process::find).collect();
    let mut family = vec![pid];
    let mut at = 0;
    while let Some(&parent) = family.get(at) {
        family.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        at += 1;
    }
    all.into_iter().filter(|process| process.pid != pid && family.contains(&process.pid)).collect()
}
