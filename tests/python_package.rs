//! The Python package `appliance`: what it has that the functions of the engine have not, in the server and outside of it.
use crate::harness::{
    Appliance, Dir, ENGINES, Setup, command, default_venv, everywhere, free_ports, root, venvs,
};
use std::path::Path;
use std::process::Command;

fn start_on(engine: &str) -> Appliance {
    Setup::app("package:application").set("app.suspend", engine).set("workers.cores", 20).start()
}

#[test]
fn blocking_calls_are_awaited_on_cores_of_their_own() {
    everywhere(
        start_on,
        &[
            ("/at_once", "['set', None]"),
            ("/many", "19900"),
            ("/raises", "'of the call'"),
            ("/context", "('blue', 'blue')"),
            ("/on_another_loop", "'result'"),
        ],
    );
}

#[test]
fn a_call_that_nobody_awaits_any_more_ends_where_it_waits() {
    everywhere(
        start_on,
        &[
            ("/cancelled", "['ClientDisconnected']"),
            ("/cancelled_elsewhere", "['ClientDisconnected']"),
            ("/never_began", "[]"),
        ],
    );
}

#[test]
fn an_awaited_call_may_not_take_longer_than_a_request() {
    everywhere(start_on, &[("/too_long", "'TimeoutError'")]);
}

#[test]
fn waiting_is_for_requests_and_threads_and_not_for_the_loop() {
    everywhere(start_on, &[("/sleeps_in_a_thread", "None")]);
    for engine in ENGINES {
        let text = start_on(engine).get("/on_the_loop").text();
        assert!(text.contains("works only inside a request or in a thread"), "{text}");
    }
}

#[test]
fn modules_are_the_servers_own_and_come_when_they_are_asked_for() {
    everywhere(
        start_on,
        &[
            ("/where", "['Embedded', 'Embedded']"),
            ("/lazily", r#"(False, "module 'appliance' has no attribute 'nonsense'")"#),
        ],
    );
}

#[test]
fn every_call_is_safe_from_every_thread() {
    for engine in ENGINES {
        let appliance =
            Setup::app("hammer:application").set("app.suspend", engine).set("workers.cores", 20).start();
        let worker = appliance.get("/").text();
        let answer = appliance.get("/hammer");
        assert_eq!((answer.status, answer.text().as_str()), (200, "(8, True)"), "{engine}");
        assert_eq!(appliance.get("/").text(), worker, "{engine}: the worker lives on");
    }
}

/// Writes the package into a folder and installs it beside that, as a user without a package index does.
fn install(dir: &Dir, venv: &Path) {
    let (code, _, err) = command(dir.path(), &["python-package", "package"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-index", "--target", "installed", "./package"]);
    let installed = pip.current_dir(dir.path()).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
}

#[track_caller]
fn run(program: &mut Command, dir: &Dir) -> String {
    let output = program.current_dir(dir.path()).env("PYTHONPATH", "installed").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn stand_ins_work_where_no_server_runs() {
    let dir = Dir::new();
    install(&dir, &default_venv());
    let address = format!("127.0.0.1:{}", free_ports(1));
    let server = Setup::app("package:application").set("cache.pages.items", 100);
    let _server = server.set("cache.pages.listen", &address).start();
    for venv in venvs() {
        let script = root().join("tests/apps/outside.py");
        assert_eq!(
            run(Command::new(venv.join("bin/python")).arg(script).arg(format!("pages@{address}")), &dir),
            "fine\n",
            "{}",
            venv.display()
        );
    }
}

#[test]
fn the_server_has_its_own_modules_also_where_the_package_is_installed() {
    let setup = Setup::app("package:application");
    install(setup.dir(), &default_venv());
    let appliance = setup.set("app.pythonpath", "[\"installed\"]").start();
    assert_eq!(appliance.get("/where").text(), "['Embedded', 'Embedded']");
    assert_eq!(appliance.get("/at_once").text(), "['set', None]");
}

#[test]
fn the_stand_in_has_the_calls_of_the_server() {
    let appliance = Setup::app("hammer:application").start();
    let dir = Dir::new();
    install(&dir, &default_venv());
    let script = "import ast, sys\nsys.path.insert(0, sys.argv[1])\nimport hammer\n\
        here, there = hammer.signatures(), ast.literal_eval(sys.argv[2])\n\
        differs = {name: (here.get(name), there[name]) for name in there if here.get(name) != there[name]\n    \
        and -1 not in there[name] + here.get(name, ())}\n\
        print(differs)";
    let mut python = Command::new(default_venv().join("bin/python"));
    python.args(["-c", script]).arg(root().join("tests/apps")).arg(appliance.get("/signatures").text());
    assert_eq!(run(&mut python, &dir), "{}\n");
}

#[test]
fn types_are_checked_strictly() {
    let dir = Dir::new();
    install(&dir, &default_venv());
    let check = |what: &[&str]| {
        let mut mypy = Command::new(default_venv().join("bin/python"));
        mypy.args(["-m", "mypy", "--config-file", "package/pyproject.toml", "--cache-dir", "cache"]);
        mypy.args(what).env("MYPYPATH", "installed");
        assert!(run(&mut mypy, &dir).starts_with("Success"));
    };
    check(&[]);
    // An application that uses all of it.
    check(&[root().join("tests/apps/typed.py").to_str().unwrap()]);
}
