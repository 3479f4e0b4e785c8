//! A real appliance under test: `Setup` says how it is started, `Appliance` is one that serves, `Refusal` one that did not
//! want to. Whatever a test does to it, nothing of it is left when the test ends, and that is asserted each time.
use super::{Answer, Client, DEADLINE, Dir, Log, Process, default_venv, descendants, root, until, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Everything ends with the master within this time, even when it is killed.
const GONE: Duration = Duration::from_secs(2);

/// Log lines that a failed test shows.
const TAIL: usize = 40;

/// How to start an appliance: `appliance run`, in a folder of its own, without any setting of whoever runs the tests.
pub struct Setup {
    dir: Dir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    venv: Option<PathBuf>,
    workers: u32,
    by_file: bool,
    has_own_group: bool,
    launcher: Vec<String>,
}

impl Setup {
    /// An application of `tests/apps`, as `module:callable`.
    pub fn app(target: &str) -> Setup {
        Setup::bare().arg(target).set("app.chdir", root().join("tests/apps").display())
    }

    /// A module with this text, in the folder of the test.
    pub fn code(text: &str) -> Setup {
        let setup = Setup::bare().arg("webapp:application");
        setup.dir.write("webapp.py", text);
        setup
    }

    /// No application: the folder of the test and the arguments decide.
    pub fn bare() -> Setup {
        Setup {
            dir: Dir::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            venv: Some(default_venv()),
            workers: 1,
            by_file: false,
            has_own_group: false,
            launcher: Vec::new(),
        }
    }

    /// The folder of the test, which the appliance is started in.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// A further argument of `run`.
    pub fn arg(mut self, argument: impl ToString) -> Setup {
        self.arguments.push(argument.to_string());
        self
    }

    /// `--set key=value`.
    pub fn set(self, key: &str, value: impl ToString) -> Setup {
        self.arg("--set").arg(format!("{key}={}", value.to_string()))
    }

    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Setup {
        self.environment.push((name.to_owned(), value.to_string()));
        self
    }

    /// Number of workers, 1 if nothing is said.
    pub fn workers(mut self, count: u32) -> Setup {
        self.workers = count;
        self
    }

    /// Listeners and number of workers are those of the configuration file, which flags would overrule.
    pub fn by_file(mut self) -> Setup {
        self.by_file = true;
        self
    }

    /// Another virtual environment; `None`: the test says by itself where Python is, or that it is nowhere.
    pub fn venv(mut self, venv: Option<PathBuf>) -> Setup {
        self.venv = venv;
        self
    }

    /// A process group of its own, as a shell gives to what is started from a terminal.
    pub fn own_group(mut self) -> Setup {
        self.has_own_group = true;
        self
    }

    /// A program that becomes the appliance, whose command line follows on these arguments.
    pub fn under<const N: usize>(mut self, launcher: [&str; N]) -> Setup {
        self.launcher = launcher.map(str::to_owned).to_vec();
        self
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Appliance {
        let mut child = self.command().spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let output = Log::of(child.stdout.take().unwrap());
        let (dir, workers) = (self.dir, self.workers);
        let mut appliance = Appliance { dir, child, log, output, workers, address: ([0; 4], 0).into() };
        appliance.wait_until_it_serves();
        appliance
    }

    /// Starts it with a log that nobody reads, such as a full disk. It cannot say where it listens, so that is said here; waits
    /// until it serves there.
    #[track_caller]
    pub fn start_unheard(self, port: u16, log: impl Into<Stdio>) -> Appliance {
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let setup = self.arg("--listen").arg(address);
        let mut child = setup.command().stderr(log).spawn().unwrap();
        let (log, output) = (Log::of(io::empty()), Log::of(child.stdout.take().unwrap()));
        let (dir, workers) = (setup.dir, setup.workers);
        let appliance = Appliance { dir, child, log, output, workers, address };
        until("it listens", || Client::tcp(address).is_ok());
        assert_eq!(appliance.get("/").status, 200);
        appliance
    }

    /// Starts it and waits until it has given up.
    #[track_caller]
    pub fn refused(self) -> Refusal {
        let mut child = self.command().spawn().unwrap();
        let log = Log::of(child.stderr.take().unwrap());
        let output = Log::of(child.stdout.take().unwrap());
        let ended = within(DEADLINE, || child.try_wait().unwrap());
        let Some(status) = ended else {
            let _ = child.kill();
            panic!("it has not given up within {DEADLINE:?}:\n{}", log.text());
        };
        let closed = within(GONE, || (log.is_closed() && output.is_closed()).then_some(()));
        assert!(closed.is_some(), "something of it still runs and holds its standard error");
        Refusal { code: status.code(), text: log.text(), dir: self.dir }
    }

    fn command(&self) -> Command {
        let mut line = self.launcher.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_appliance")]);
        let mut command = Command::new(line.next().unwrap());
        command.args(line);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("APPLIANCE_")) {
            command.env_remove(name);
        }
        command.arg("run").args(&self.arguments).args(["--log-format", "json"]);
        if !self.by_file {
            command.arg("--workers").arg(self.workers.to_string());
        }
        if !self.by_file && !self.arguments.iter().any(|argument| argument == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        // With XDG_RUNTIME_DIR a test asks for the private run directory that a user gets.
        let has_own_run_dir = self.arguments.iter().any(|argument| argument.starts_with("admin.run_dir="))
            || self.environment.iter().any(|(name, _)| name == "XDG_RUNTIME_DIR");
        if !has_own_run_dir {
            command.arg("--set").arg(format!("admin.run_dir={}", self.dir.path().join("run").display()));
        }
        if let Some(venv) = &self.venv {
            command.arg("--venv").arg(venv);
        }
        // A module that changes twice within a second must be read twice.
        command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("VIRTUAL_ENV");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if self.has_own_group {
            command.process_group(0);
        }
        command
    }
}

/// One that did not start; nothing of it is left.
pub struct Refusal {
    pub code: Option<i32>,
    /// What it said.
    pub text: String,
    /// The folder it was started in.
    pub dir: Dir,
}

/// One that serves.
pub struct Appliance {
    dir: Dir,
    child: Child,
    /// Standard error: the log.
    pub log: Log,
    /// Standard output: what the application prints.
    pub output: Log,
    workers: u32,
    address: SocketAddr,
}

impl Appliance {
    #[track_caller]
    fn wait_until_it_serves(&mut self) {
        let url = within(DEADLINE, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended before it served:\n{}", self.log.text());
            let events = self.log.events();
            events
                .iter()
                .filter_map(|event| event["url"].as_str())
                .find(|url| url.starts_with("http://"))
                .map(str::to_owned)
        });
        let Some(url) = url else { panic!("it does not serve:\n{}", self.log.text()) };
        self.address = url["http://".len()..].parse().unwrap();
    }

    /// The folder it was started in.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection to the proxy.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::tcp(self.address).unwrap()
    }

    /// One `GET` on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.client().get(target)
    }

    /// The socket of a worker.
    pub fn socket(&self, worker: u32) -> PathBuf {
        self.dir.path().join(format!("run/worker-{worker}.sock"))
    }

    /// A connection to a worker's own socket.
    #[track_caller]
    pub fn worker_client(&self, worker: u32) -> Client {
        Client::unix(&self.socket(worker)).unwrap()
    }

    /// Sends all of these at once, each on a connection of its own; the answers in order, and how long all took.
    #[track_caller]
    pub fn get_all(&self, targets: &[&str]) -> (Vec<Answer>, Duration) {
        let began = Instant::now();
        let mut clients: Vec<Client> = targets.iter().map(|_| self.client()).collect();
        for (client, target) in clients.iter_mut().zip(targets) {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        let answers = clients.iter_mut().map(Client::answer).collect();
        (answers, began.elapsed())
    }

    /// The master's process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The master and all that it has started.
    pub fn family(&self) -> Vec<Process> {
        Process::find(self.pid()).into_iter().chain(descendants(self.pid())).collect()
    }

    /// The process with this title: `worker 1`, `proxy`, `template`, `master`; waits for it.
    #[track_caller]
    pub fn process(&self, role: &str) -> Process {
        let title = format!("appliance: {role}");
        let is_it = |process: &Process| process.title == title && !process.is_zombie;
        within(DEADLINE, || self.family().into_iter().find(is_it))
            .unwrap_or_else(|| panic!("there is no {title:?} among {:?}", self.family()))
    }

    /// Waits until another process than `before` has its title, and answers it.
    #[track_caller]
    pub fn successor(&self, before: &Process) -> Process {
        let is_it = |process: &Process| process.title == before.title && process.pid != before.pid;
        within(DEADLINE, || self.family().into_iter().find(|process| is_it(process) && !process.is_zombie))
            .unwrap_or_else(|| panic!("nobody follows {before:?}:\n{}", self.log.text()))
    }

    /// Kills the first two workers in turn, so often, each time when `ready` is over and the last one has its successor.
    #[track_caller]
    pub fn kill_workers_in_turn(&self, times: u32, ready: impl Fn()) {
        for number in 0..times {
            let worker = self.process(&format!("worker {}", 1 + number % 2));
            ready();
            worker.signal(Signal::SIGKILL);
            self.successor(&worker);
        }
    }

    /// Waits until every worker answers on its own socket.
    #[track_caller]
    pub fn wait_for_workers(&self) {
        for worker in 1..=self.workers {
            self.worker_client(worker).get("/");
        }
    }

    /// Sends a signal to the master.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Runs `appliance VERB…` for this one; exit code, standard output, standard error.
    #[track_caller]
    pub fn tell(&self, verb: &[&str]) -> (Option<i32>, String, String) {
        let run_dir = format!("admin.run_dir={}", self.dir.path().join("run").display());
        command(self.dir.path(), &[verb, &["--set", &run_dir]].concat(), &[])
    }

    /// Waits for the master's end; its exit code, `None` if a signal ended it. All others must end with it.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let family = self.family();
        let ended = within(DEADLINE, || self.child.try_wait().unwrap());
        let Some(status) = ended else { panic!("it does not end:\n{}", self.log.text()) };
        let left = still_alive(&family);
        assert!(left.is_empty(), "left running: {left:?}");
        let closed = within(GONE, || self.log.is_closed().then_some(()));
        assert!(closed.is_some(), "something of it still runs and holds its standard error");
        status.code()
    }

    /// SIGTERM, and [`Appliance::wait`].
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

/// Those of `family` that have not ended within [`GONE`].
fn still_alive(family: &[Process]) -> Vec<Process> {
    let left = || family.iter().filter(|process| process.is_alive()).cloned().collect::<Vec<_>>();
    within(GONE, || left().is_empty().then_some(()));
    left()
}

impl Drop for Appliance {
    fn drop(&mut self) {
        let family = self.family();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let left = still_alive(&family);
        for process in &left {
            process.signal(Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("the end of the appliance's log:\n{}", self.log.tail(TAIL));
        } else {
            assert!(left.is_empty(), "left running after the master was killed: {left:?}");
        }
    }
}

/// Runs `appliance` with these arguments in `dir` to its end; exit code, standard output, standard error.
#[track_caller]
pub fn command(
    dir: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appliance"));
    command.args(arguments).current_dir(dir).envs(environment.iter().copied()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
