//! What a service manager sees: the datagrams on `$NOTIFY_SOCKET`, the watchdog, and sockets that it has opened before us.
//! The manager is played by the test; the units of `packaging/systemd` are read by systemd itself where it is installed.
use crate::harness::{Client, DEADLINE, Dir, Setup, free_ports, root, until, within};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

/// Tells what its environment says of a service manager.
const NOSY: &str = "\
import os

def application(environ, start_response):
    start_response('200 OK', [])
    names = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']
    return [','.join(name for name in names if name in os.environ).encode()]
";

/// Opens sockets as its first argument says, hands them on as systemd does, and becomes the command that follows.
const LAUNCHER: &str = "\
import os, socket, sys
sockets, names = [], []
for number, text in enumerate(sys.argv[1].split()):
    name, _, address = text.partition('=')
    if address == 'udp':
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(('127.0.0.1', 0))
    elif address.startswith('/'):
        opened = socket.socket(socket.AF_UNIX)
        opened.bind(address)
        opened.listen()
    else:
        opened = socket.create_server(('127.0.0.1', int(address)))
    sockets.append(opened)
    names.append(name)
# First out of the way of the numbers that they must have.
held = [os.dup2(opened.fileno(), 50 + number) for number, opened in enumerate(sockets)]
for number, fd in enumerate(held):
    os.dup2(fd, 3 + number, inheritable=True)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=':'.join(names))
os.execv(sys.argv[2], sys.argv[2:])
";

/// A service manager's end of `$NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _dir: Dir,
}

impl Manager {
    fn new() -> Manager {
        let dir = Dir::new();
        let path = dir.path().join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager { socket, path: path.display().to_string(), _dir: dir }
    }

    /// The next datagram that comes within `limit`.
    fn hear(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).unwrap();
        let mut packet = [0; 4096];
        let length = self.socket.recv(&mut packet).ok()?;
        Some(String::from_utf8(packet[..length].to_vec()).unwrap())
    }

    /// Waits for a datagram that begins with `start`, and answers it.
    #[track_caller]
    fn hear_of(&self, start: &str) -> String {
        let mut others = Vec::new();
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            match self.hear(DEADLINE) {
                Some(words) if words.starts_with(start) => return words,
                other => others.extend(other),
            }
        }
        panic!("{start:?} was not said within {DEADLINE:?}, but {others:?}");
    }
}

#[test]
fn the_manager_hears_of_the_start_of_reloads_and_of_the_end() {
    let manager = Manager::new();
    let mut appliance = Setup::code(NOSY).env("NOTIFY_SOCKET", &manager.path).start();
    assert_eq!(manager.hear_of("READY=1"), format!("READY=1\nMAINPID={}", appliance.pid()));
    assert!(manager.hear_of("STATUS=").starts_with("STATUS=serving: 1 of 1 workers ready, "));
    assert_eq!(appliance.get("/").text(), "", "the application is not the service");
    appliance.signal(Signal::SIGHUP);
    let reloading = manager.hear_of("RELOADING=1");
    let clock = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(clock.parse::<u64>().unwrap() > 0);
    assert_eq!(manager.hear_of("READY=1"), "READY=1");
    appliance.dir().write("webapp.py", "raise ValueError('broken on purpose')\n");
    appliance.signal(Signal::SIGHUP);
    manager.hear_of("RELOADING=1");
    assert_eq!(manager.hear_of("READY=1"), "READY=1");
    let told = manager.hear_of("STATUS=");
    assert!(told.contains("the last reload failed: ") && told.contains("broken on purpose"), "{told}");
    assert_eq!(appliance.stop(), Some(0));
    manager.hear_of("STOPPING=1");
}

#[test]
fn a_start_that_fails_says_why() {
    let manager = Manager::new();
    let setup = Setup::code("raise ValueError('broken on purpose')\n").env("NOTIFY_SOCKET", &manager.path);
    assert!(setup.refused().text.contains("broken on purpose"));
    let told = manager.hear_of("STATUS=could not start: ");
    assert!(told.contains("broken on purpose"), "{told}");
}

#[test]
fn a_manager_that_has_gone_or_cannot_be_reached_keeps_nobody_from_serving() {
    for socket in ["/no/such/notify.sock", "vsock:2:1234", ""] {
        let appliance = Setup::app("facts:application").env("NOTIFY_SOCKET", socket).start();
        assert_eq!(appliance.get("/").status, 200, "{socket}");
    }
}

#[test]
fn the_watchdog_is_fed_while_a_worker_has_turns_and_not_while_none_has() {
    let manager = Manager::new();
    let setup = Setup::code(NOSY).env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", 1_000_000);
    let appliance = setup.start();
    for _ in 0..3 {
        assert_eq!(manager.hear_of("WATCHDOG=1"), "WATCHDOG=1");
    }
    let worker = appliance.process("worker 1");
    worker.signal(Signal::SIGSTOP);
    let silent = || {
        let quiet_until = Instant::now() + Duration::from_secs(3);
        while let Some(left) =
            quiet_until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
        {
            if manager.hear(left).is_some_and(|words| words == "WATCHDOG=1") {
                return None;
            }
        }
        Some(())
    };
    assert!(within(DEADLINE, silent).is_some(), "the watchdog is fed though nobody serves");
    worker.signal(Signal::SIGCONT);
    manager.hear_of("WATCHDOG=1");
}

#[test]
fn a_watchdog_of_another_process_is_none_of_ours() {
    let manager = Manager::new();
    let setup = Setup::code(NOSY).env("NOTIFY_SOCKET", &manager.path);
    let appliance = setup.env("WATCHDOG_USEC", 200_000).env("WATCHDOG_PID", 1).start();
    manager.hear_of("READY=1");
    assert_eq!(appliance.get("/").text(), "", "it is not for the application either");
    let heard = std::iter::from_fn(|| manager.hear(Duration::from_secs(1)));
    assert!(heard.take(5).all(|words| words != "WATCHDOG=1"));
}

/// Starts under the launcher, with `sockets` as it reads them.
fn activated(sockets: &str, setup: Setup) -> Setup {
    setup.under(["python3", "-c", LAUNCHER, sockets])
}

#[test]
fn a_socket_of_the_managers_is_served_on_instead_of_one_of_our_own() {
    let port = free_ports(1);
    let setup = Setup::code(NOSY).arg("--listen").arg(format!("127.0.0.1:{port}"));
    let mut appliance = activated(&format!("appliance.socket={port}"), setup).start();
    assert_eq!(appliance.address().port(), port);
    assert_eq!(appliance.get("/").text(), "", "the application's children would take the sockets for theirs");
    appliance.log.wait_for("listening on a socket of the service manager's");
    appliance.process("proxy").signal(Signal::SIGKILL);
    assert_eq!(appliance.get("/").status, 200, "the next proxy has it too");
    assert_eq!(appliance.stop(), Some(0));
}

#[test]
fn a_unix_socket_is_matched_by_its_path_and_stays_when_we_end() {
    let dir = Dir::new();
    let path = dir.path().join("web.sock");
    let setup = Setup::code(NOSY).arg("--listen").arg("127.0.0.1:0");
    let setup = setup.arg("--listen").arg(format!("unix:{}", path.display()));
    let mut appliance = activated(&format!("web={}", path.display()), setup).start();
    until("it is served", || Client::unix(&path).is_ok_and(|mut client| client.get("/").status == 200));
    assert_eq!(appliance.stop(), Some(0));
    assert!(path.exists(), "it belongs to the manager");
}

#[test]
fn a_socket_goes_to_the_entry_that_it_is_named_after_and_the_others_are_closed() {
    let named = free_ports(2);
    let stray = named + 1;
    let setup = Setup::code(NOSY);
    let appliance = activated(&format!("x=udp listen[0]={named} stray={stray}"), setup).start();
    assert_eq!(appliance.address().port(), named, "`listen` asks for a port of the kernel's choice");
    appliance.log.wait_for("it is not a stream socket");
    appliance.log.wait_for(&format!("the inherited socket 127.0.0.1:{stray} (stray) is closed"));
    assert!(Client::tcp(([127, 0, 0, 1], stray).into()).is_err(), "nobody would answer there");
}

#[test]
fn the_units_are_what_systemd_reads() {
    let dir = Dir::new();
    for unit in ["appliance.service", "appliance.socket"] {
        let text = fs::read_to_string(root().join("packaging/systemd").join(unit)).unwrap();
        // Where it will be installed there is nothing yet.
        dir.write(unit, &text.replace("/usr/bin/appliance", env!("CARGO_BIN_EXE_appliance")));
    }
    let units = ["appliance.service", "appliance.socket"].map(|unit| dir.path().join(unit));
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").args(&units).output() else { return };
    let said = String::from_utf8(verified.stderr).unwrap();
    // Only systemd 253 and later know this type.
    let ours = said.lines().filter(|line| line.contains("appliance.") && !line.ends_with("notify-reload"));
    let ours: Vec<&str> = ours.collect();
    assert!(ours.is_empty() && verified.status.success(), "{said}");
}
