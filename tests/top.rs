//! `appliance top` on a terminal that Python makes: it shows what runs, ends when it is told to or when the master does, and
//! gives the terminal back each time. And its refusal where there is no terminal.
use crate::harness::{Appliance, DEADLINE, Dir, Setup, command, until, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Runs the command that follows on a terminal of 100 by 24, with our input as its keyboard, and prints what it shows, its exit
/// code, and whether the terminal is as it was.
const TERMINAL: &str = "\
import fcntl, os, pty, select, struct, sys, termios
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.execv(sys.argv[1], sys.argv[1:])
print('PID', pid, flush=True)
keyboard, status = [0], None
while status is None or select.select([master], [], [], 0)[0]:
    ready, _, _ = select.select([master] + keyboard, [], [], 0.05)
    if master in ready:
        os.write(1, os.read(master, 65536))
    if 0 in ready:
        keys = os.read(0, 100)
        os.write(master, keys) if keys else keyboard.clear()
    if status is None:
        ended, code = os.waitpid(pid, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if ended else None
print('\\nEXIT', status, 'TERMINAL', 'same' if termios.tcgetattr(slave) == before else 'changed', flush=True)
";

/// What leaves the screen that programs draw on (DECRST 1049).
const LEAVE: &str = "\x1b[?1049l";

/// A running `appliance top`.
struct Top {
    child: Child,
    keyboard: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Top {
    fn start(appliance: &Appliance, environment: &[(&str, &str)]) -> Top {
        let run_dir = format!("admin.run_dir={}", appliance.dir().path().join("run").display());
        let mut command = Command::new("python3");
        command.args(["-c", TERMINAL, env!("CARGO_BIN_EXE_appliance"), "top", "--set", &run_dir]);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(n @ 1..) = screen.read(&mut part) {
                collected.lock().unwrap().extend_from_slice(&part[..n]);
            }
        });
        Top { child, keyboard, shown }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let found = within(DEADLINE, || self.shown().contains(text).then_some(()));
        assert!(found.is_some(), "{text:?} is not shown: {}", self.shown());
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn pid(&self) -> Pid {
        let shown = self.shown();
        Pid::from_raw(shown.split_whitespace().nth(1).unwrap().parse().unwrap())
    }

    /// Waits for its end; what was shown after the screen was left.
    #[track_caller]
    fn end(mut self) -> String {
        let ended = within(DEADLINE, || self.child.try_wait().unwrap());
        assert!(ended.is_some(), "it goes on: {}", self.shown());
        until("all of it is collected", || self.shown().contains(" TERMINAL "));
        let shown = self.shown();
        let (_, after) = shown.rsplit_once(LEAVE).unwrap_or_else(|| panic!("the screen is kept: {shown}"));
        after.to_owned()
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_shows_what_runs_and_ends_with_q() {
    let appliance = Setup::app("facts:application").workers(2).start();
    let mut top = Top::start(&appliance, &[]);
    for text in ["serving", "worker", "ready", "0/100", "q quits"] {
        top.shows(text);
    }
    top.shows("errors/s");
    assert!(
        top.shown().contains("\x1b[32m") || top.shown().contains("38;5;2"),
        "no green: {:?}",
        top.shown()
    );
    top.press("q");
    assert!(top.end().contains("EXIT 0 TERMINAL same"));
}

#[test]
fn control_c_and_sigterm_end_it_and_no_color_is_shown_where_none_is_wanted() {
    let appliance = Setup::app("facts:application").start();
    let mut keys = Top::start(&appliance, &[("NO_COLOR", "1")]);
    keys.shows("q quits");
    assert!(!keys.shown().contains("\x1b[32m") && !keys.shown().contains("38;5;2"), "{:?}", keys.shown());
    keys.press("\x03");
    assert!(keys.end().contains("EXIT 0 TERMINAL same"));
    let signal = Top::start(&appliance, &[]);
    signal.shows("q quits");
    kill(signal.pid(), Signal::SIGTERM).unwrap();
    assert!(signal.end().contains("EXIT 0 TERMINAL same"));
}

#[test]
fn it_says_that_the_master_has_gone_and_gives_the_terminal_back() {
    let mut appliance = Setup::app("facts:application").start();
    let top = Top::start(&appliance, &[]);
    top.shows("q quits");
    assert_eq!(appliance.stop(), Some(0));
    let after = top.end();
    assert!(after.contains("appliance: ") && after.contains("EXIT 1 TERMINAL same"), "{after}");
}

#[test]
fn a_master_that_hangs_is_said_to_and_q_is_still_heard() {
    let appliance = Setup::app("facts:application").start();
    let mut top = Top::start(&appliance, &[]);
    top.shows("q quits");
    appliance.signal(Signal::SIGSTOP);
    top.shows("has not answered for");
    top.press("q");
    let after = top.end();
    appliance.signal(Signal::SIGCONT);
    assert!(after.contains("TERMINAL same"), "{after}");
}

#[test]
fn without_a_terminal_or_a_master_it_says_so() {
    let dir = Dir::new();
    let (code, out, err) = command(dir.path(), &["top"], &[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("`appliance top` needs a terminal") && err.contains("status --json"), "{err}");
}
