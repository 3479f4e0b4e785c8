//! `appliance reload` with a changed configuration: what is refused changes nothing, what is good comes into force, and
//! whoever is served meanwhile notices nothing.
use crate::harness::{Appliance, Client, Setup, command, free_ports, under_posts, until};
use nix::sys::signal::Signal;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const APP: &str = "def application(environ, start_response):\n    \
    body = environ['wsgi.input'].read()\n    start_response('200 OK', [])\n    return [b'%d bytes' % len(body)]\n";

/// One whose configuration file is this; flags say only what every test needs.
fn start(file: &str) -> Appliance {
    let setup = Setup::code(APP);
    setup.dir().write("appliance.toml", file);
    let appliance = setup.start();
    appliance.wait_for_workers();
    appliance
}

/// `appliance reload` with these arguments; exit code, standard output, standard error.
#[track_caller]
fn reload(appliance: &Appliance, arguments: &[&str]) -> (Option<i32>, String, String) {
    let dir = appliance.dir().path();
    let run_dir = format!("admin.run_dir={}", dir.join("run").display());
    command(dir, &[&["reload", "--set", &run_dir], arguments].concat(), &[])
}

#[track_caller]
fn must_reload(appliance: &Appliance) {
    let told = reload(appliance, &[]);
    assert_eq!(told.0, Some(0), "{told:?}");
}

fn pids(appliance: &Appliance) -> Vec<i32> {
    let mut pids: Vec<i32> = appliance.family().iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    pids
}

fn post(client: &mut Client, size: usize) -> u16 {
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n"));
    client.send(vec![b'x'; size]);
    client.answer().status
}

#[test]
fn a_refused_configuration_changes_nothing_and_is_told_whole() {
    let appliance = start("");
    let before = pids(&appliance);
    appliance.dir().write("appliance.toml", "[workers]\ncors = 5\n[timeouts]\nbody = 60\n");
    let (code, out, err) = reload(&appliance, &[]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    for sentence in [
        "reload failed, everything stays as it was",
        "appliance.toml:2: workers.cors: unknown key; did you mean `cores`?",
        "appliance.toml:4: timeouts.body: 60 has no unit",
    ] {
        assert!(err.contains(sentence), "{err}");
    }
    appliance.signal(Signal::SIGHUP);
    let logged = |event: &serde_json::Value| {
        event["message"].as_str().is_some_and(|text| text.contains("reload failed") && text.contains("cors"))
    };
    appliance.log.event("the reason", logged);
    assert_eq!(pids(&appliance), before);
    appliance.dir().write("appliance.toml", "");
    must_reload(&appliance);
}

#[test]
fn a_plan_says_what_would_change_and_changes_nothing() {
    let appliance = start("");
    let before = pids(&appliance);
    let (code, out, _) = reload(&appliance, &["--plan"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("the configuration is the one in force"), "{out}");
    appliance.dir().write(
        "appliance.toml",
        "[workers]\ncores = 50\n[timeouts]\nboot = \"5m\"\n[security]\numask = \"0077\"\n[app.env]\nKEY = \"secret\"\n",
    );
    let (code, out, err) = reload(&appliance, &["--plan"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let expected = "app.env.KEY: not set → (not shown) (rolling)\n\
        workers.cores: 100 → 50 (rolling, new proxy)\n\
        timeouts.boot: \"1m\" → \"5m\" (live)\n\
        security.umask: \"0027\" → \"0077\" (restart)\n";
    assert_eq!(out, expected);
    assert_eq!(pids(&appliance), before);
    appliance.dir().write("appliance.toml", "cores = 5\n");
    let (code, out, err) = reload(&appliance, &["--plan"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("appliance.toml:1: cores: unknown key"), "{err}");
}

#[test]
fn proxy_settings_come_with_a_new_proxy_and_no_request_is_lost() {
    let appliance = start("");
    assert_eq!(post(&mut appliance.client(), 5000), 200);
    let (served, failures) = under_posts(&appliance, || {
        for limit in ["1000B", "2000B", "4000B"] {
            let proxy = appliance.process("proxy");
            appliance.dir().write(
                "appliance.toml",
                &format!("limits = {{ body = \"{limit}\", body_buffer = \"500B\" }}\n"),
            );
            must_reload(&appliance);
            assert!(!proxy.is_alive(), "its last request has ended, or the reload would not have");
            assert_eq!(post(&mut appliance.client(), 5000), 413);
        }
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    let proxy = appliance.process("proxy");
    must_reload(&appliance);
    assert!(proxy.is_alive(), "nothing has changed for it");
    let (_, out, _) = reload(&appliance, &["--plan"]);
    assert!(out.starts_with("the configuration is the one in force"), "{out}");
}

#[test]
fn listeners_come_and_go_and_those_that_stay_lose_nothing() {
    let port = free_ports(2);
    let listen = |ports: &[u16]| {
        let list: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        format!("listen = [\"unix:web.sock\", {}]\nworkers.count = 1\n", list.join(", "))
    };
    let setup = Setup::code(APP).by_file();
    setup.dir().write("appliance.toml", &listen(&[port]));
    let appliance = setup.start();
    let unix = appliance.dir().path().join("web.sock");
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&unix).unwrap());
    let before = inode();
    let (served, failures) = under_posts(&appliance, || {
        appliance.dir().write("appliance.toml", &listen(&[port, port + 1]));
        must_reload(&appliance);
        assert_eq!(Client::tcp(([127, 0, 0, 1], port + 1).into()).unwrap().get("/").status, 200);
        appliance.dir().write("appliance.toml", &listen(&[port]));
        must_reload(&appliance);
        assert!(Client::tcp(([127, 0, 0, 1], port + 1).into()).is_err(), "nobody listens there any more");
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    assert_eq!(Client::unix(&unix).unwrap().get("/").status, 200);
    assert_eq!(inode(), before, "it is the same socket");
    appliance.dir().write("appliance.toml", &format!("listen = [\"127.0.0.1:{port}\"]\n"));
    must_reload(&appliance);
    assert!(!unix.exists());
}

#[test]
fn an_address_that_cannot_be_had_fails_the_reload() {
    let port = free_ports(1);
    let other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let setup = Setup::code(APP).by_file();
    setup.dir().write("appliance.toml", "listen = [\"127.0.0.1:0\"]\n");
    let appliance = setup.start();
    let before = pids(&appliance);
    appliance.dir().write("appliance.toml", &format!("listen = [\"127.0.0.1:0\", \"127.0.0.1:{port}\"]\n"));
    let (code, _, err) = reload(&appliance, &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&format!("127.0.0.1:{port}: address already in use")), "{err}");
    assert_eq!(pids(&appliance), before);
    drop(other);
    must_reload(&appliance);
    assert_eq!(appliance.get("/").status, 200);
}

#[test]
fn what_waits_for_a_restart_is_said_and_all_else_is_done() {
    let appliance = start("");
    appliance.dir().write(
        "appliance.toml",
        "[security]\numask = \"0077\"\n[limits]\nbody = \"1000B\"\nbody_buffer = \"500B\"\n",
    );
    let (code, out, _) = reload(&appliance, &[]);
    assert_eq!(code, Some(0));
    assert!(out.contains("not in force before the appliance is started again: security.umask"), "{out}");
    assert_eq!(post(&mut appliance.client(), 5000), 413);
    let (_, out, _) = reload(&appliance, &["--plan"]);
    assert_eq!(out, "security.umask: \"0027\" → \"0077\" (restart)\n");
}

#[test]
fn a_touched_path_reloads() {
    let setup = Setup::code(&code("first")).set("workers.touch_reload", "[\"reload.me\"]");
    let appliance = setup.start();
    appliance.log.wait_for("there is no such path");
    appliance.dir().write("webapp.py", &code("second"));
    appliance.dir().write("reload.me", "");
    until("it has appeared", || appliance.get("/").text() == "second");
    appliance.dir().write("webapp.py", &code("third"));
    fs::remove_file(appliance.dir().path().join("reload.me")).unwrap();
    until("it has vanished", || appliance.get("/").text() == "third");
}

#[test]
fn no_broken_line_gets_past_the_reading() {
    let appliance = start("");
    let before = pids(&appliance);
    for line in BROKEN.lines() {
        appliance.dir().write("appliance.toml", &format!("# a comment\n{line}\n"));
        let (code, _, err) = reload(&appliance, &[]);
        assert_eq!(code, Some(1), "{line}");
        assert!(err.contains("appliance.toml:2"), "{line}: {err}");
    }
    appliance.dir().write("appliance.toml", "# a comment\n[workers\n");
    for arguments in [&[][..], &["--plan"]] {
        let (code, _, err) = reload(&appliance, arguments);
        assert_eq!((code, err.matches("is not TOML").count()), (Some(1), 1), "{err}");
        assert!(err.contains("appliance.toml:2:9: `[workers`"), "{err}");
    }
    appliance.log.wait_for("reload failed, everything stays as it was: appliance.toml:2:9");
    assert_eq!(pids(&appliance), before);
    assert_eq!(appliance.get("/").status, 200);
}

/// Lines that nobody can have meant.
const BROKEN: &str = r#"workers = 3
workers.cores = "many"
workers.cores = 0
workers.max_memory = 100
workers.max_lifetime = "1y"
workers.on_crash_loop = "panic"
wrokers.cores = 3
timeouts.graceful = 30
timeouts.graceful = "0s"
timeouts.stall = "-1s"
limits.body = "16 MegaByte"
limits.headers = 100000000
limits.nothing = 1
proxy.threads = 1000
proxy.trusted = ["10.0.0.0/99"]
log.level = "loud"
log.access = "yes"
admin.listen = "localhost"
native.base_port = 70000
security.umask = "999"
app.suspend = "fiber"
app.env = ["A"]
"#;

#[test]
fn the_number_of_workers_follows_the_configuration() {
    let setup = Setup::code(APP).by_file();
    let file = |count: u32| format!("listen = \"127.0.0.1:0\"\nworkers.count = {count}\n");
    setup.dir().write("appliance.toml", &file(1));
    let appliance = setup.start();
    let (served, failures) = under_posts(&appliance, || {
        for count in [3, 2, 1, 2] {
            appliance.dir().write("appliance.toml", &file(count));
            must_reload(&appliance);
            let workers = || {
                let family = appliance.family();
                family.iter().filter(|process| process.title.starts_with("appliance: worker")).count()
            };
            until("there are so many workers", || workers() == count as usize);
        }
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
}

#[test]
fn probes_never_see_a_gap_and_the_admin_endpoint_may_move() {
    let port = free_ports(2);
    let file =
        |port: u16, cores: u32| format!("admin.listen = \"127.0.0.1:{port}\"\nworkers.cores = {cores}\n");
    let appliance = start(&file(port, 100));
    let probe =
        |port: u16| Client::tcp(([127, 0, 0, 1], port).into()).map(|mut client| client.get("/readyz").status);
    let over = AtomicBool::new(false);
    let slow = "GET /?slow HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\n";
    std::thread::scope(|scope| {
        let probes = scope.spawn(|| {
            let mut seen = Vec::new();
            while !over.load(Relaxed) {
                seen.push(probe(port).ok());
            }
            seen
        });
        for cores in [50, 60] {
            // A request that is not complete keeps the old proxy draining for a while.
            let mut client = appliance.client();
            client.send(slow);
            appliance.dir().write("appliance.toml", &file(port, cores));
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(300));
                client.send("x");
                assert_eq!(client.answer().status, 200);
            });
            must_reload(&appliance);
        }
        over.store(true, Relaxed);
        let seen = probes.join().unwrap();
        assert!(seen.len() > 10 && seen.iter().all(|status| *status == Some(200)), "{seen:?}");
    });
    appliance.dir().write("appliance.toml", &file(port + 1, 60));
    must_reload(&appliance);
    assert_eq!(probe(port + 1).unwrap(), 200);
    assert!(probe(port).is_err());
}

/// An application that answers with `word`.
fn code(word: &str) -> String {
    format!(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{word}']\n"
    )
}
