//! The control socket: `appliance status`, `reload` and `stop` against a master that runs, one that does not, and one
//! that cannot answer; and whatever else may come in through the socket.
use crate::harness::{Appliance, Setup, command, under_load, until, within};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What a client may wait for its answer; the master gives it five seconds.
const SOON: Duration = Duration::from_secs(15);

/// An application that answers with `word`.
fn code(word: &str) -> String {
    format!(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{word}']\n"
    )
}

fn start() -> Appliance {
    let appliance = Setup::code(&code("first")).workers(2).start();
    appliance.wait_for_workers();
    appliance
}

/// Runs `appliance VERB` for the one that runs in `dir`; exit code, standard output, standard error.
#[track_caller]
fn tell(dir: &Path, verb: &[&str]) -> (Option<i32>, String, String) {
    let run_dir = format!("admin.run_dir={}", dir.join("run").display());
    command(dir, &[verb, &["--set", &run_dir]].concat(), &[])
}

#[track_caller]
fn status(appliance: &Appliance) -> Value {
    let (code, out, err) = tell(appliance.dir().path(), &["status", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    serde_json::from_str(&out).unwrap()
}

fn socket(appliance: &Appliance) -> PathBuf {
    appliance.dir().path().join("run/control.sock")
}

#[track_caller]
fn connect(appliance: &Appliance) -> UnixStream {
    let stream = UnixStream::connect(socket(appliance)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Everything that the master says until it closes the connection.
#[track_caller]
fn said(mut stream: UnixStream) -> String {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
            // What it was sent and did not want to read makes its end a reset.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The answer to `line`, of a client that then says no more.
#[track_caller]
fn answer(appliance: &Appliance, line: &[u8]) -> String {
    let mut stream = connect(appliance);
    // The master may have closed it before the last byte of a long line.
    let _ = stream.write_all(line);
    let _ = stream.shutdown(Shutdown::Write);
    said(stream)
}

#[test]
fn status_tells_of_every_process_as_a_table_and_as_json() {
    let appliance = start();
    appliance.get("/");
    let told = status(&appliance);
    assert_eq!(told["master"]["pid"], appliance.pid());
    assert_eq!((&told["master"]["state"], &told["master"]["generation"]), (&"serving".into(), &0.into()));
    assert_eq!(told["master"]["listen"][0], format!("http://{}", appliance.address()));
    assert_eq!(told["proxy"][0]["pid"], appliance.process("proxy").pid);
    assert_eq!(told["template"][0]["pid"], appliance.process("template").pid);
    for (index, id) in [(0, 1), (1, 2)] {
        let worker = &told["workers"][index];
        assert_eq!((&worker["id"], &worker["state"]), (&id.into(), &"ready".into()));
        assert_eq!(worker["pid"], appliance.process(&format!("worker {id}")).pid);
        assert_eq!(worker["cores"]["total"], 100);
        assert!(worker["requests"].as_u64().unwrap() >= 1, "{worker}");
    }
    let (code, table, _) = tell(appliance.dir().path(), &["status"]);
    assert_eq!(code, Some(0));
    for part in ["serving", "generation 0", "process", "requests", "worker 1", "worker 2", "0/100", "rss"] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
}

#[test]
fn status_counts_what_runs() {
    let appliance = Setup::app("facts:application").start();
    let mut client = appliance.client();
    client.send("GET /sleep?s=2 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request runs", || status(&appliance)["workers"][0]["cores"]["busy"] == 1);
    assert_eq!(client.answer().status, 200);
    until("the request has ended", || status(&appliance)["workers"][0]["cores"]["busy"] == 0);
}

#[test]
fn status_tells_of_a_dead_and_of_a_booting_worker() {
    let text = "import os, time\nfrom uwsgidecorators import postfork\n\n@postfork\ndef wait():\n    \
        while os.path.exists('wait'):\n        time.sleep(0.01)\n    \
        if os.path.exists('die'):\n        os._exit(7)\n\n";
    let appliance = Setup::code(&(text.to_owned() + &code("first"))).start();
    let state = || status(&appliance)["workers"][0]["state"].clone();
    assert_eq!(state(), "ready");
    appliance.dir().write("wait", "");
    appliance.process("worker 1").signal(Signal::SIGKILL);
    until("the successor boots", || state() == "booting");
    appliance.dir().write("die", "");
    fs::remove_file(appliance.dir().path().join("wait")).unwrap();
    until("it is dead, and its successor has to wait", || state() == "dead");
    let worker = status(&appliance)["workers"][0].clone();
    assert_eq!(worker["id"], 1, "{worker}");
    fs::remove_file(appliance.dir().path().join("die")).unwrap();
    until("it serves again", || state() == "ready");
}

#[test]
fn reload_ends_when_every_worker_is_replaced() {
    let appliance = start();
    let before = appliance.process("worker 2");
    appliance.dir().write("webapp.py", &code("second"));
    let (code, out, err) = tell(appliance.dir().path(), &["reload"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "reloaded; every worker is of generation 1\n");
    assert!(!before.is_alive(), "worker 2 is still the old one");
    for worker in 1..=2 {
        assert_eq!(appliance.worker_client(worker).get("/").text(), "second");
    }
    assert_eq!(status(&appliance)["master"]["generation"], 1);
}

#[test]
fn reloads_under_load_lose_nothing() {
    let appliance = start();
    let (served, failures) = under_load(&appliance, || {
        for number in 1..=3 {
            let (code, out, err) = tell(appliance.dir().path(), &["reload"]);
            assert_eq!(code, Some(0), "{out}{err}");
            assert!(out.contains(&format!("generation {number}")), "{out}");
        }
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    assert!(served > 50, "only {served} requests were served meanwhile");
}

#[test]
fn reload_of_broken_code_shows_the_traceback_and_changes_nothing() {
    let appliance = start();
    let before = appliance.family();
    appliance
        .dir()
        .write("webapp.py", "def fail():\n    raise ValueError('broken \\x1b[2J on purpose')\n\nfail()\n");
    let (code, out, err) = tell(appliance.dir().path(), &["reload"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    for part in ["everything stays as it was", "Traceback", "in fail", "ValueError: broken", "on purpose"] {
        assert!(err.contains(part), "{part:?} is not in\n{err}");
    }
    assert!(!err.contains('\x1b'), "the terminal would obey it");
    until("the new template is gone", || appliance.family().len() == 5);
    assert!(before.iter().all(|process| process.is_alive()), "somebody was replaced");
    assert_eq!(appliance.get("/").text(), "first");
    assert_eq!(status(&appliance)["master"]["generation"], 0);
}

#[test]
fn a_reload_that_is_asked_for_during_another_waits_for_its_own() {
    let appliance = start();
    let dir = appliance.dir();
    // The first one waits here while it has the old text of the module.
    dir.write(
        "webapp.py",
        &format!(
            "import os, time\nopen('loading', 'w')\nwhile os.path.exists('wait'):\n    time.sleep(0.01)\n{}",
            code("old")
        ),
    );
    dir.write("wait", "");
    std::thread::scope(|scope| {
        let first = scope.spawn(|| tell(dir.path(), &["reload"]));
        until("the first loads", || dir.path().join("loading").exists());
        assert_eq!(status(&appliance)["master"]["state"], "reloading");
        dir.write("webapp.py", &code("new"));
        let mut second = connect(&appliance);
        second.write_all(b"{\"version\":1,\"verb\":\"reload\"}\n").unwrap();
        let mut heard = [0; 10];
        second.read_exact(&mut heard).unwrap();
        fs::remove_file(dir.path().join("wait")).unwrap();
        assert_eq!(first.join().unwrap().1, "reloaded; every worker is of generation 1\n");
        assert!(said(second).contains("every worker is of generation 2"));
    });
    assert_eq!(appliance.get("/").text(), "new");
}

#[test]
fn a_reload_that_a_stop_overtakes_says_so() {
    let mut appliance = start();
    appliance.dir().write("webapp.py", "import time\ntime.sleep(60)\n");
    let mut stream = connect(&appliance);
    stream.write_all(b"{\"version\":1,\"verb\":\"reload\"}\n").unwrap();
    until("it loads", || status(&appliance)["master"]["state"] == "reloading");
    assert_eq!(appliance.stop(), Some(0));
    assert!(said(stream).contains("told to stop meanwhile"));
}

#[test]
fn stop_finishes_what_runs_and_ends_when_the_master_has() {
    let mut appliance = Setup::app("facts:application").start();
    let mut client = appliance.client();
    client.send("GET /sleep?s=1 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request runs", || status(&appliance)["workers"][0]["cores"]["busy"] == 1);
    let (code, out, err) = tell(appliance.dir().path(), &["stop"]);
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "stopped\n", ""));
    assert!(appliance.family().iter().all(|process| process.is_zombie), "it still runs");
    assert_eq!(client.answer().status, 200);
    assert_eq!(appliance.wait(), Some(0));
    assert!(!socket(&appliance).exists());
}

#[test]
fn two_stops_wait_together_and_stop_now_waits_for_nothing() {
    let mut appliance = Setup::app("facts:application").start();
    let mut client = appliance.client();
    client.send("GET /sleep?s=60 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request runs", || status(&appliance)["workers"][0]["cores"]["busy"] == 1);
    let stops = [(); 2].map(|()| {
        let mut stream = connect(&appliance);
        stream.write_all(b"{\"version\":1,\"verb\":\"stop\"}\n").unwrap();
        stream
    });
    until("it stops", || status(&appliance)["master"]["state"] == "stopping");
    let (code, _, err) = tell(appliance.dir().path(), &["reload"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("about to stop"), "{err}");
    assert!(appliance.process("worker 1").is_alive(), "the second stop was taken for `--now`");
    let began = Instant::now();
    let (code, out, _) = tell(appliance.dir().path(), &["stop", "--now"]);
    assert_eq!((code, out.as_str()), (Some(0), "stopped\n"));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    for stream in stops {
        assert!(said(stream).ends_with("{\"version\":1,\"done\":\"stopped\"}\n"));
    }
    assert_eq!(appliance.wait(), Some(0));
}

#[test]
fn garbage_half_lines_and_unknown_verbs_are_answered_and_the_master_goes_on() {
    let appliance = start();
    let long = [b"{\"version\":1,\"verb\":\"".as_slice(), &[b'x'; 100_000]].concat();
    for (line, says) in [
        (b"GET / HTTP/1.1\r\n\r\n".as_slice(), "a request is one line"),
        (b"\n", "a request is one line"),
        (b"\xff\xfe\x00\n", "a request is one line"),
        (b"{\"version\":1,\"verb\":\"sta", "the line has no end"),
        (b"{\"version\":1,\"verb\":\"exec\"}\n", "there is no verb"),
        (b"{\"version\":9,\"verb\":\"status\"}\n", "speaks version 1"),
        (b"{\"version\":1,\"verb\":\"status\",\"file\":\"/etc/passwd\"}\n", "takes no field"),
        (&long, "longer than 4096 bytes"),
    ] {
        let told = answer(&appliance, line);
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        assert!(told["error"].as_str().unwrap().contains(says), "{told}");
        assert_eq!(told["version"], 1);
    }
    assert_eq!(answer(&appliance, b""), "");
    assert_eq!(status(&appliance)["master"]["state"], "serving");
    assert_eq!(appliance.get("/").text(), "first");
}

#[test]
fn clients_that_say_nothing_or_read_nothing_hold_nobody_and_are_closed() {
    let appliance = start();
    let silent: Vec<UnixStream> = (0..20).map(|_| connect(&appliance)).collect();
    let mut deaf: Vec<UnixStream> = (0..20).map(|_| connect(&appliance)).collect();
    for stream in &mut deaf {
        stream.write_all(b"{\"version\":1,\"verb\":\"status\"}\n").unwrap();
    }
    let began = Instant::now();
    assert_eq!(status(&appliance)["master"]["state"], "serving");
    appliance.process("worker 1").signal(Signal::SIGKILL);
    until("the master still replaces workers", || status(&appliance)["workers"][0]["state"] == "ready");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    for stream in silent {
        assert_eq!(said(stream), "");
    }
    let held = || appliance.process("master").descriptors().len();
    let idle = held();
    drop(deaf);
    until("nothing is left of them", || held() <= idle);
}

#[test]
fn a_master_that_does_not_answer_is_said_to() {
    let appliance = start();
    appliance.signal(Signal::SIGSTOP);
    let (code, _, err) = tell(appliance.dir().path(), &["status"]);
    appliance.signal(Signal::SIGCONT);
    assert_eq!(code, Some(1));
    let says = format!("the master (pid {}): it does not answer within 5s", appliance.pid());
    assert!(err.contains(&says), "{err}");
    assert_eq!(status(&appliance)["master"]["state"], "serving");
}

#[test]
fn without_a_master_every_verb_says_so_and_fails() {
    let mut appliance = start();
    let dir = appliance.dir().path().to_owned();
    appliance.signal(Signal::SIGKILL);
    appliance.wait();
    assert!(socket(&appliance).exists(), "nobody was there to remove it");
    for verb in [&["status"][..], &["status", "--json"], &["reload"], &["stop"], &["stop", "--now"]] {
        let (code, out, err) = tell(&dir, verb);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{verb:?}");
        assert!(
            err.contains("no appliance runs for") && err.contains("left by one that was killed"),
            "{err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
    let run_dir = dir.join("run");
    let second = Setup::code(&code("second")).set("admin.run_dir", run_dir.display()).start();
    let (code, out, _) = tell(&dir, &["status", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["master"]["pid"]), (Some(0), &second.pid().into()));
}

#[test]
fn a_second_master_is_refused_and_the_first_keeps_its_socket() {
    let first = start();
    let run_dir = first.dir().path().join("run");
    let refusal = Setup::code(&code("second")).set("admin.run_dir", run_dir.display()).refused();
    assert_eq!(refusal.code, Some(1));
    assert!(refusal.text.contains(&format!("pid {}", first.pid())), "{}", refusal.text);
    assert_eq!(status(&first)["master"]["pid"], first.pid());
}

#[test]
fn a_master_of_another_version_is_said_to_be_one() {
    let setup = Setup::bare();
    let dir = setup.dir().path().to_owned();
    fs::create_dir(dir.join("run")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.join("run/control.sock")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in ["{\"version\":7,\"done\":\"?\"}\n", "HTTP/1.1 400 Bad Request\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 5]).unwrap();
                stream.write_all(line.as_bytes()).unwrap();
            }
        });
        for says in ["speaks version 7 of the control protocol", "not the control protocol"] {
            let (code, out, err) = tell(&dir, &["stop"]);
            assert_eq!((code, out.as_str()), (Some(1), ""));
            assert!(err.contains(says), "{err}");
        }
    });
}

#[test]
fn the_socket_is_for_its_user_alone() {
    let appliance = start();
    let path = socket(&appliance);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let children = ["proxy", "template", "worker 1"].map(|role| appliance.process(role));
    let held = held_by_the_master(&appliance, &path);
    assert!(!held.is_empty());
    for child in children {
        let has = child.descriptors();
        assert!(held.iter().all(|socket| !has.contains(socket)), "{}: {has:?}", child.title);
    }
}

/// The inodes of the control socket, as `/proc/PID/fd` shows them.
fn held_by_the_master(appliance: &Appliance, path: &Path) -> Vec<String> {
    let path = path.display().to_string();
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    let lines = table.lines().filter(|line| line.ends_with(&path));
    let inodes = lines.filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(6)?)));
    let has = appliance.process("master").descriptors();
    inodes.filter(|inode| has.contains(inode)).collect()
}

/// Needs root, to become somebody else; the mode of the socket is taken away, so that only the kernel's word is left.
#[test]
fn another_user_is_refused() {
    if !nix::unistd::Uid::effective().is_root() {
        return;
    }
    let appliance = start();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(appliance.dir().path(), 0o755);
    open(&appliance.dir().path().join("run"), 0o755);
    let script = "import os, socket, sys\nos.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\ntry:\n    s.sendall(b'{\"version\":1,\"verb\":\"stop\",\"now\":true}\\n')\n\
        except BrokenPipeError:\n    pass\nprint(s.recv(1000).decode())\n";
    let attempt = || {
        let mut python = Command::new("python3");
        let output = python.args(["-c", script]).arg(socket(&appliance)).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    assert!(attempt().contains("PermissionError"));
    open(&socket(&appliance), 0o666);
    let told = attempt();
    assert!(told.contains("only the user of the master, and root"), "{told}");
    assert_eq!(status(&appliance)["master"]["state"], "serving");
}

#[test]
fn without_a_run_directory_the_folder_says_which_appliance_is_meant() {
    let setup = Setup::code(&code("first"));
    let runtime = setup.dir().path().join("runtime");
    fs::create_dir(&runtime).unwrap();
    let runtime = runtime.display().to_string();
    let mut appliance = setup.env("XDG_RUNTIME_DIR", &runtime).start();
    let dir = appliance.dir().path().to_owned();
    let environment = [("XDG_RUNTIME_DIR", runtime.as_str())];
    let (code, out, err) = command(&dir, &["status", "--json"], &environment);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["master"]["pid"], appliance.pid());
    let folder = fs::read_dir(&runtime).unwrap().map(|entry| entry.unwrap().path());
    let folder = folder.into_iter().find(|path| path.ends_with(format!("appliance-{}", Uid::effective())));
    fs::remove_dir_all(folder.unwrap()).unwrap();
    until("the socket is made again", || command(&dir, &["status"], &environment).0 == Some(0));
    let elsewhere = Setup::bare();
    let (code, _, err) = command(elsewhere.dir().path(), &["stop"], &environment);
    assert_eq!(code, Some(1));
    assert!(err.contains("no appliance runs for") && err.contains("there is no control socket"), "{err}");
    let (code, out, _) = command(&dir, &["stop"], &environment);
    assert_eq!((code, out.as_str()), (Some(0), "stopped\n"));
    assert_eq!(appliance.wait(), Some(0));
}

#[test]
fn a_broken_file_keeps_nobody_from_finding_the_appliance_that_runs() {
    let setup = Setup::code(&code("first")).by_file();
    setup.dir().write("appliance.toml", "[admin]\nrun_dir = \"run\"\n");
    let mut appliance = setup.start();
    let dir = appliance.dir().path().to_owned();
    appliance.dir().write("appliance.toml", "[admin]\nrun_dir = \"run\"\n[workers\ncount = 2\n");
    for verb in [&["status"][..], &["pause"], &["resume"], &["stop"]] {
        let (code, out, err) = command(&dir, verb, &[]);
        assert!(code == Some(0) && !out.is_empty(), "{verb:?}: {err}");
        assert!(err.starts_with("appliance: appliance.toml:3:9: `[workers` is not TOML"), "{verb:?}: {err}");
    }
    assert_eq!(appliance.wait(), Some(0));
    let (code, _, err) = command(&dir, &["stop"], &[]);
    assert_eq!(code, Some(64));
    assert!(err.contains("appliance.toml:3:9") && err.contains("no appliance runs for"), "{err}");
}

#[test]
fn a_second_appliance_of_a_folder_serves_without_a_control_socket() {
    let setup = Setup::code(&code("first"));
    let dir = setup.dir().path().to_owned();
    let runtime = dir.join("runtime");
    fs::create_dir(&runtime).unwrap();
    let runtime = runtime.display().to_string();
    let first = setup.env("XDG_RUNTIME_DIR", &runtime).start();
    let second = Setup::bare().arg(dir.display()).arg("--set").arg("app.module=webapp:application");
    let second = second.env("XDG_RUNTIME_DIR", &runtime).start();
    second.log.wait_for(&format!("the appliance with pid {} has it", first.pid()));
    assert_eq!(second.get("/").text(), "first");
    let (_, out, _) = command(&dir, &["status", "--json"], &[("XDG_RUNTIME_DIR", runtime.as_str())]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["master"]["pid"], first.pid());
}

#[test]
fn a_master_whose_run_directory_is_removed_goes_on() {
    let appliance = start();
    fs::remove_file(socket(&appliance)).unwrap();
    let (code, _, err) = tell(appliance.dir().path(), &["status"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("there is no control socket"), "{err}");
    let gone = within(Duration::from_millis(50), || (!appliance.process("master").is_alive()).then_some(()));
    assert!(gone.is_none());
    assert_eq!(appliance.get("/").text(), "first");
}
