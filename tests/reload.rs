//! SIGHUP: the application is loaded anew, and nobody notices but by its answers.
use crate::harness::{Appliance, Client, Setup, command, free_ports, under_load, under_posts, until};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

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

/// Writes the application anew and asks for a reload.
fn reload(appliance: &Appliance, text: &str) {
    appliance.dir().write("webapp.py", text);
    appliance.signal(Signal::SIGHUP);
}

#[test]
fn new_code_is_served_and_no_get_fails_meanwhile() {
    let appliance = start();
    let (served, failures) = under_load(&appliance, || {
        for word in ["second", "third", "fourth"] {
            reload(&appliance, &code(word));
            until(word, || (1..=2).all(|worker| appliance.worker_client(worker).get("/").text() == word));
        }
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    assert!(served > 50, "only {served} requests were served meanwhile");
    assert_eq!(appliance.get("/").text(), "fourth");
}

#[test]
fn a_storm_of_signals_loses_nothing() {
    let appliance = start();
    let (served, failures) = under_load(&appliance, || {
        for number in 0..30 {
            appliance.signal([Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2][number % 3]);
            // Between two signals the load goes on: one comes at every stage of a reload.
            appliance.get("/");
        }
        appliance.dir().write("webapp.py", &code("last"));
        appliance.signal(Signal::SIGHUP);
        until("the last code is served", || {
            (1..=2).all(|worker| appliance.worker_client(worker).get("/").text() == "last")
        });
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    until("there are five processes", || appliance.family().len() == 5);
}

#[test]
fn two_hundred_signals_between_broken_and_good_code_harm_nothing() {
    let appliance = start();
    let master = appliance.process("master");
    let (served, failures) = under_posts(&appliance, || {
        // Any numbers will do, as long as they are the same each time (Numerical Recipes' generator).
        let mut random: u32 = 1;
        for number in 0..200 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let text =
                if random >> 30 == 0 { "raise ValueError('broken')\n".to_owned() } else { code("good") };
            appliance.dir().write("webapp.py", &text);
            appliance.signal(Signal::SIGHUP);
            std::thread::sleep(Duration::from_millis(u64::from(random >> 24) % 20));
            assert!(master.is_alive(), "after {number} signals");
        }
        appliance.dir().write("webapp.py", &code("last"));
        appliance.signal(Signal::SIGHUP);
        until("the last code is served", || {
            (1..=2).all(|worker| appliance.worker_client(worker).get("/").text() == "last")
        });
    });
    assert!(failures.is_empty(), "{} of {served} failed: {failures:?}", failures.len());
    until("there are five processes", || appliance.family().len() == 5);
    assert!(master.is_alive());
}

#[test]
fn descriptors_do_not_add_up_over_many_reloads() {
    let setup = Setup::code(&code("same")).workers(2);
    setup.dir().write("appliance.toml", "");
    let appliance = setup.start();
    appliance.wait_for_workers();
    let reload = |number: u32| {
        let file = format!("[limits]\nconnections = {}\n", 1000 + number);
        appliance.dir().write("appliance.toml", &file);
        let run_dir = format!("admin.run_dir={}", appliance.dir().path().join("run").display());
        let told = command(appliance.dir().path(), &["reload", "--set", &run_dir], &[]);
        assert_eq!(told.0, Some(0), "{told:?}");
        until("the old ones have gone", || appliance.family().len() == 5);
    };
    let held = || {
        let count = |role: &&str| appliance.process(role).descriptors().len();
        ["master", "proxy", "template", "worker 1", "worker 2"].iter().map(count).collect::<Vec<_>>()
    };
    reload(0);
    let mut first = Vec::new();
    until("the descriptors are at rest", || std::mem::replace(&mut first, held()) == held());
    for number in 1..=12 {
        reload(number);
    }
    until("there are as many as before", || held() == first);
}

#[test]
fn whoever_waits_at_a_native_listener_is_served_before_it_closes() {
    let base = free_ports(2);
    let appliance = Setup::code(&code("first")).set("native.base_port", base).start();
    let before = appliance.process("worker 1");
    // More than a worker takes in one turn.
    const CLIENTS: usize = 200;
    before.signal(Signal::SIGSTOP);
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|_| Client::tcp(([127, 0, 0, 1], base + 1).into()).unwrap()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    before.signal(Signal::SIGTERM);
    before.signal(Signal::SIGCONT);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "first");
    }
    appliance.successor(&before);
}

#[test]
fn the_old_processes_go() {
    let appliance = start();
    let before = appliance.family();
    reload(&appliance, &code("second"));
    appliance.log.event("the end of the reload", |event| event["message"] == "reloaded");
    let stays = |title: &str| ["appliance: master", "appliance: proxy"].contains(&title);
    until("the old template and workers are gone", || {
        before.iter().all(|process| process.is_alive() == stays(&process.title))
    });
    until("there are five again", || appliance.family().len() == 5);
}

#[test]
fn broken_code_is_refused_and_the_old_goes_on() {
    let appliance = start();
    let before = appliance.family();
    reload(&appliance, "raise ValueError('broken on purpose')\n");
    appliance.log.wait_for("ValueError: broken on purpose");
    appliance.log.wait_for("reload failed");
    until("the new template is gone", || appliance.family().len() == 5);
    assert!(before.iter().all(|process| process.is_alive()), "somebody was replaced");
    assert_eq!(appliance.get("/").text(), "first");
    reload(&appliance, &code("mended"));
    until("the mended code is served", || appliance.get("/").text() == "mended");
}

#[test]
fn code_whose_workers_cannot_start_is_taken_back() {
    let appliance = start();
    let text =
        "import os\nfrom uwsgidecorators import postfork\n\n@postfork\ndef die():\n    os._exit(7)\n\n";
    reload(&appliance, &(text.to_owned() + &code("never")));
    appliance.log.wait_for("reload failed");
    assert_eq!(appliance.get("/").text(), "first");
}

#[test]
fn a_request_that_runs_is_finished_by_the_old_code() {
    let slow = "import appliance\ndef application(environ, start_response):\n    \
        if environ['PATH_INFO'] == '/slow':\n        open('begun', 'w')\n        appliance.sleep(1)\n    \
        start_response('200 OK', [])\n    return [b'old']\n";
    let appliance = Setup::code(slow).start();
    let mut client = appliance.client();
    client.send("GET /slow HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it has begun", || appliance.dir().path().join("begun").exists());
    reload(&appliance, &code("new"));
    until("the new code is served", || appliance.get("/").text() == "new");
    assert_eq!(client.answer().text(), "old");
}

/// Reloads as soon as it is asked for something.
const RELOADS: &str = "import uwsgi\ndef application(environ, start_response):\n    \
    uwsgi.reload()\n    start_response('200 OK', [])\n    return [b'first']\n";

#[test]
fn the_application_may_ask_for_a_reload() {
    let appliance = Setup::code(RELOADS).start();
    appliance.dir().write("webapp.py", &code("second"));
    assert_eq!(appliance.get("/").text(), "first");
    until("the new code is served", || appliance.get("/").text() == "second");
}

#[test]
fn an_application_that_may_not_signal_the_master_is_heard_too() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can become another user");
        return;
    }
    let text = RELOADS.replace("uwsgi.reload()", "getattr(uwsgi, environ['PATH_INFO'][1:])()");
    let setup = Setup::code(&text).set("security.user", "nobody").set("app.suspend", "thread");
    fs::set_permissions(setup.dir().path(), Permissions::from_mode(0o755)).unwrap();
    let mut appliance = setup.venv(None).env("PATH", "/usr/bin:/bin").start();
    assert_eq!(appliance.get("/reload").status, 200);
    until("it has reloaded", || appliance.log.text().contains("reloaded"));
    assert_eq!(appliance.get("/stop").status, 200);
    assert_eq!(appliance.wait(), Some(0));
}
