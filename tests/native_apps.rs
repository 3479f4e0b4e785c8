//! Native applications: built in, from libraries, on every door of a worker, and what can happen to them. `tests/native` is a
//! library with one path for each thing.
use crate::harness::{Admin, Appliance, Client, DEADLINE, Door, Doors, Setup, free_ports, root, until};
use crate::websockets::peer::{Peer, TEXT};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// A library that `cargo build --workspace` has made.
pub fn library(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_appliance")).with_file_name(format!("lib{name}.so"))
}

/// The test's library as the application, without any Python.
pub fn setup() -> Setup {
    let setup = Setup::bare().arg(library("native_test").display()).venv(None).env("PATH", "/nowhere");
    let drops = setup.dir().path().join("drops");
    setup.set("app.env.DROPS", drops.display())
}

pub fn drops(appliance: &Appliance) -> String {
    std::fs::read_to_string(appliance.dir().path().join("drops")).unwrap_or_default()
}

fn on_port(port: u16) -> Client {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    until("the worker listens", || Client::tcp(address).is_ok());
    Client::tcp(address).unwrap()
}

#[test]
fn hello_needs_no_python() {
    let base = free_ports(2);
    let setup = Setup::bare().arg("native:hello").venv(None).env("PATH", "/nowhere");
    let appliance = setup.set("native.base_port", base).start();
    let answer = appliance.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello, world!\n"));
    assert_eq!(on_port(base + 1).get("/").text(), "Hello, world!\n");
}

#[test]
fn echo_gives_bodies_back_as_they_come() {
    let appliance = Setup::bare().arg("native:echo").venv(None).start();
    let body = "0123456789abcdef".repeat(64 * 1024);
    assert_eq!(appliance.client().post("/", &body).text(), body);
    let mut worker = appliance.worker_client(1);
    assert_eq!(worker.post_chunks("/", &[b"one ", b"two"]).text(), "one two");
    assert_eq!(worker.get("/").text(), "", "the connection is used again");
}

#[test]
fn status_is_that_of_the_worker() {
    let appliance = Setup::bare().arg("native:status").venv(None).set("workers.cores", 7).start();
    let status = appliance.get("/").json();
    assert_eq!((&status["worker"], &status["cores"], &status["busy"]), (&1.into(), &7.into(), &1.into()));
    assert_eq!(status["pid"], appliance.process("worker 1").pid);
}

#[test]
fn a_library_sees_its_request_and_answers_it() {
    let appliance = setup().start();
    let mut client = appliance.client();
    let answer = client.get_with("/facts?a=%20b", "X-Test: yes\r\n");
    assert_eq!((answer.status, answer.header("x-back")), (200, Some("yes")));
    assert_eq!(answer.text(), "GET a=%20b http 127.0.0.1 true\n");
    assert_eq!(client.get("/nothing").status, 404);
    assert_eq!(client.post("/count", "x".repeat(300_000)).text(), "300000\n");
    assert_eq!(client.get("/stream/64").body.len(), 64 * 64 * 1024);
}

#[test]
fn coroutines_and_threads_wait_without_keeping_the_others() {
    let appliance = setup().start();
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| appliance.get("/sleep/600").text());
        assert_eq!(appliance.get("/tasks/100").text(), "6 true\n");
        assert_eq!(appliance.get("/blocking/100").text(), "true true\n");
        assert_eq!(appliance.get("/ready/50").text(), "false\n");
        assert!(!slow.is_finished() || drops(&appliance).contains("task"));
        slow.join().unwrap()
    });
    assert_eq!(slow, "slept\n");
    assert!(drops(&appliance).contains("left behind"), "what was spawned ends with its request");
}

#[test]
fn other_servers_are_asked_in_blocking_style() {
    let appliance = setup().start();
    let fetched = appliance.get(&format!("/fetch?http://{}/facts", appliance.address()));
    assert!(fetched.text().starts_with("GET  http 127.0.0.1"), "{fetched:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).unwrap();
        stream.write_all(b"pong").unwrap();
        // The second one is silent.
        listener.accept().unwrap()
    });
    assert_eq!(appliance.get(&format!("/tcp/20000?{address}")).text(), "Ok(()) pong\n");
    assert!(appliance.get(&format!("/tcp/50?{address}")).text().starts_with("Err(TimedOut)"));
    drop(server.join().unwrap());
}

#[test]
fn what_goes_wrong_ends_one_request_and_no_other() {
    let appliance = setup().start();
    let before = appliance.process("worker 1").pid;
    std::thread::scope(|scope| {
        let sibling = scope.spawn(|| appliance.get("/sleep/4000"));
        until("the sibling waits", || appliance.tell(&["requests"]).1.contains("/sleep"));
        for path in ["/panic", "/error", "/obscure", "/overflow", "/task-overflow", "/task-panic"] {
            let answer = appliance.get(path);
            assert_eq!((answer.status, answer.text().as_str()), (500, "Internal Server Error\n"), "{path}");
        }
        assert_eq!(appliance.get("/result").text(), "still here\n");
        let mut client = appliance.worker_client(1);
        client.send("GET /late-error HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_answer().is_err(), "an answer that has begun is cut");
        assert_eq!(sibling.join().unwrap().text(), "slept\n");
    });
    assert_eq!(appliance.process("worker 1").pid, before);
    appliance.log.wait_for("GET /panic (core");
    appliance.log.wait_for("as it was told");
    appliance.log.wait_for("stack overflow: raise workers.stack");
}

#[test]
fn a_real_fault_is_the_death_of_a_worker() {
    let appliance = setup().start();
    let before = appliance.process("worker 1");
    assert_eq!(appliance.get("/segfault").status, 502);
    appliance.successor(&before);
    assert_eq!(appliance.get("/").status, 200);
    appliance.log.wait_for("SIGSEGV");
}

#[test]
fn a_client_that_leaves_ends_its_coroutine_and_destructors_run() {
    let appliance = setup().start();
    let mut client = appliance.client();
    client.send("GET /sleep/3600000 HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it waits", || appliance.tell(&["stacks"]).1.contains("waits for a time"));
    drop(client);
    until("its destructor has run", || drops(&appliance) == "sleep\n");
    assert_eq!(appliance.get("/").status, 200);
}

#[test]
fn a_client_that_has_closed_its_side_sees_that_its_answer_is_cut() {
    let doors = Doors::open(setup());
    let mut client = doors.client(Door::Native);
    // The end of the connection is that of the body.
    client.send("GET /begun/3600000 HTTP/1.0\r\n\r\n");
    until("it has begun", || client.arrived_within(Duration::from_millis(10)).ends_with(b"begun"));
    client.finish();
    assert_eq!(client.exactly(100_000).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_request_that_takes_too_long_is_ended() {
    let appliance = setup().set("timeouts.request", "300ms").start();
    let answer = appliance.get("/sleep/3600000");
    assert_eq!(answer.status, 504);
    assert_eq!(drops(&appliance), "sleep\n");
    appliance.log.wait_for("takes longer than it may");
}

#[test]
fn a_worker_drains_while_a_thousand_requests_wait() {
    const COUNT: usize = 1000;
    let mut appliance =
        setup().set("workers.cores", COUNT).set("timeouts.graceful", "60s").set("limits.waiting", 0).start();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| appliance.worker_client(1)).collect();
    for client in &mut clients {
        client.send("GET /sleep/10000 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    until("all of them wait", || appliance.tell(&["requests"]).1.lines().count() >= COUNT);
    appliance.signal(Signal::SIGTERM);
    assert!(clients.iter_mut().all(|client| client.answer().text() == "slept\n"));
    assert_eq!(appliance.wait(), Some(0));
    assert_eq!(drops(&appliance).lines().count(), COUNT);
}

#[test]
fn native_requests_are_served_beside_python() {
    for suspend in ["greenlet", "thread"] {
        let base = free_ports(2);
        let setup = Setup::app("facts:application").set("app.suspend", suspend).set("native.base_port", base);
        let setup = setup.set("native.app", library("native_test").display()).by_file();
        setup.dir().write("appliance.toml", "[[route]]\npath = \"/sleep\"\n[workers]\ncount = 1\n");
        let appliance = setup.arg("--listen").arg("127.0.0.1:0").start();
        assert_eq!(on_port(base + 1).get("/").text(), "native 1\n");
        assert_eq!(appliance.get("/").json()["worker"], 1, "the main application is Python's");
        let began = Instant::now();
        let (answers, _) = appliance.get_all(&["/sleep/300"; 3]);
        assert!(answers.iter().all(|answer| answer.text() == "slept\n"), "{answers:?}");
        // The route is compared with the decoded path; the library looks at what was sent, and does not know that.
        assert_eq!(appliance.get("/%73leep/300").status, 404);
        assert!(began.elapsed() < DEADLINE);
        assert_eq!(appliance.get("/overflow").json()["worker"], 1, "no route leads there");
        assert_eq!(on_port(base + 1).get("/overflow").status, 500);
        assert_eq!(appliance.get("/").json()["worker"], 1);
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_a_reason() {
    let refused = |target: &str| Setup::bare().arg(target).venv(None).refused();
    let missing = refused("./missing.so");
    assert!(missing.text.contains("missing.so cannot be loaded"), "{}", missing.text);
    let setup = Setup::bare().venv(None);
    let other = setup.dir().path().join("other.so");
    compile("int other;", &other);
    let other = setup.arg(other.display()).refused();
    assert!(other.text.contains("does not export appliance_app"), "{}", other.text);
    let old = "#include <appliance.h>\nstatic const ApplianceApp app = {7, sizeof app, 0, 0};\n\
               const ApplianceApp *appliance_app(const ApplianceHost *host) { (void)host; return &app; }\n";
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("old.so");
    compile(old, &library);
    let old = setup.arg(library.display()).refused();
    assert!(old.text.contains("was built for version 7 of the interface"), "{}", old.text);
}

/// Makes a library of C.
pub fn compile(source: &str, library: &Path) {
    compile_as("c", "-std=c99", source, library);
}

/// Makes a library of C or C++.
fn compile_as(language: &str, standard: &str, source: &str, library: &Path) {
    let file = library.with_extension(language);
    std::fs::write(&file, source).unwrap();
    let include = root().join("packaging/include");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror"]);
    cc.args(["-x", language, standard]);
    assert!(cc.arg("-I").arg(include).arg("-o").arg(library).arg(&file).status().unwrap().success());
}

#[test]
fn the_examples_do_what_their_readmes_say() {
    let rust = Setup::bare().arg(library("native_rust").display()).venv(None);
    let (rust, rusts) = Admin::of(rust.set("cache.visits.items", 100));
    let rust = rust.start();
    assert_eq!(rust.get("/").text(), "Hello from Rust!\n");
    assert_eq!([rust.get("/visit").text(), rust.get("/visit").text()], ["visit 1\n", "visit 2\n"]);
    assert!(rusts.get("/metrics").text().contains("\ngreetings_total 1\n"));
    assert!(rust.get("/wait").text().starts_with("10 waits of 100ms took"));
    let mut peer = Peer::open(rust.client(), "/");
    peer.send(TEXT, "hello");
    assert_eq!(peer.text(), "hello");
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("libhello.so");
    compile(&std::fs::read_to_string(root().join("examples/native-c/hello.c")).unwrap(), &library);
    let (setup, cs) = Admin::of(setup.arg(library.display()).set("cache.visits.items", 100));
    let c = setup.start();
    assert_eq!(c.get("/").text(), "Hello from C!\n");
    assert_eq!(c.get("/?wait").text(), "Hello from C!\n");
    assert_eq!([c.get("/?visit").text(), c.get("/?visit").text()], ["visit 1\n", "visit 2\n"]);
    assert!(cs.get("/metrics").text().contains("\ngreetings_total 2\n"));
}

#[test]
fn an_application_in_c_is_one_in_c_plus_plus_too() {
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("libhello.so");
    let source = std::fs::read_to_string(root().join("examples/native-c/hello.c")).unwrap();
    compile_as("c++", "-std=c++11", &source, &library);
    assert_eq!(setup.arg(library.display()).start().get("/").text(), "Hello from C!\n");
}

/// A folder of files, served by `native:static`.
fn files() -> Appliance {
    let setup = Setup::bare().arg("native:static").venv(None);
    let folder = setup.dir().path().join("public");
    std::fs::create_dir_all(folder.join("sub/.hidden")).unwrap();
    std::fs::write(setup.dir().path().join("secret.txt"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret.txt", folder.join("out.txt")).unwrap();
    std::os::unix::fs::symlink("a.txt", folder.join("in.txt")).unwrap();
    for (name, text) in
        [("a.txt", "0123456789"), ("sub/index.html", "<p>sub</p>"), (".env", "no"), ("app.js", "plain")]
    {
        std::fs::write(folder.join(name), text).unwrap();
    }
    std::fs::write(folder.join("large.bin"), vec![7; 3 << 20]).unwrap();
    std::fs::write(folder.join("app.js.gz"), "compressed").unwrap();
    let old = File::create(folder.join("old.txt")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH - Duration::from_secs(86_400)).unwrap();
    setup.set("native.folder", folder.display()).start()
}

#[test]
fn files_are_sent_whole_in_part_or_not_again() {
    let appliance = files();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        let whole = client.get("/a.txt");
        assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
        assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
        let tag = whole.header("etag").unwrap().to_owned();
        let again = client.get_with("/a.txt", &format!("If-None-Match: {tag}\r\n"));
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*tag)));
        let modified = whole.header("last-modified").unwrap();
        let again = client.get_with("/a.txt", &format!("If-Modified-Since: {modified}\r\n"));
        assert_eq!(again.status, 304);
        let part = client.get_with("/a.txt", "Range: bytes=2-4\r\n");
        assert_eq!((part.status, part.text().as_str()), (206, "234"));
        assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
        let none = client.get_with("/a.txt", "Range: bytes=10-\r\n");
        assert_eq!((none.status, none.header("content-range")), (416, Some("bytes */10")));
        let large = client.get("/large.bin");
        assert!(large.body.len() == 3 << 20 && large.body.iter().all(|byte| *byte == 7));
        let part = client.get_with("/large.bin", "Range: bytes=1000000-2999999\r\n");
        assert_eq!((part.status, part.body.len()), (206, 2_000_000));
        assert_eq!(client.post("/a.txt", "x").status, 405);
        client.send("HEAD /a.txt HTTP/1.1\r\nHost: test\r\nRange: bytes=2-4\r\n\r\n");
        let head = client.answer_to_head();
        assert_eq!((head.status, head.header("content-length")), (200, Some("10")), "a range is for GET");
        let old = client.get("/old.txt");
        assert_eq!((old.status, old.header("last-modified")), (200, Some("Thu, 01 Jan 1970 00:00:00 GMT")));
    }
}

#[test]
fn files_outside_of_the_folder_and_hidden_ones_are_not_there() {
    let appliance = files();
    let mut client = appliance.worker_client(1);
    assert_eq!(client.get("/in.txt").text(), "0123456789");
    for path in
        ["/out.txt", "/.env", "/sub/.hidden/", "/%2e%2e/secret.txt", "/sub%2findex.html", "/missing", "/"]
    {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    let folder = client.get("/sub?x=1");
    assert_eq!((folder.status, folder.header("location")), (301, Some("/sub/?x=1")));
    let index = client.get("/sub/");
    assert_eq!(
        (index.text().as_str(), index.header("content-type")),
        ("<p>sub</p>", Some("text/html; charset=utf-8"))
    );
}

#[test]
fn files_that_are_compressed_already_are_sent_to_those_who_accept_them() {
    let appliance = files();
    let mut client = appliance.client();
    let plain = client.get("/app.js");
    assert_eq!((plain.text().as_str(), plain.header("vary")), ("plain", Some("Accept-Encoding")));
    let small = client.get_with("/app.js", "Accept-Encoding: br, gzip\r\n");
    assert_eq!((small.text().as_str(), small.header("content-encoding")), ("compressed", Some("gzip")));
    assert_eq!(small.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_ne!(small.header("etag"), plain.header("etag"));
    let none = client.get_with("/app.js", "Accept-Encoding: gzip\r\nRange: bytes=10-\r\n");
    assert_eq!((none.status, none.header("content-encoding")), (416, None), "the sentence is not compressed");
    assert_eq!(client.get_with("/app.js", "Accept-Encoding: gzip;q=0\r\n").text(), "plain");
}
