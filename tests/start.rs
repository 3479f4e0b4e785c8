//! What can be wrong when an appliance is started: an exit code (64 usage or configuration, 1 start-up failed), one sentence
//! with the way out, and nothing left running (`Setup::refused` asserts that).
use crate::harness::{Client, Dir, Refusal, Setup, default_venv, free_ports};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

/// The refusal has this code and says all of this, and it says it once.
#[track_caller]
fn assert_refused(refusal: &Refusal, code: i32, says: &[&str]) {
    assert_eq!(refusal.code, Some(code), "{}", refusal.text);
    for part in says {
        assert!(refusal.text.contains(part), "{part:?} is not in\n{}", refusal.text);
    }
    let sentences = refusal.text.lines().filter(|line| line.starts_with("appliance: "));
    assert_eq!(sentences.count(), 1, "{}", refusal.text);
    assert!(!refusal.text.contains("panicked"), "{}", refusal.text);
}

#[test]
fn a_module_that_is_not_there() {
    let refusal = Setup::app("no_such_module:application").refused();
    assert_refused(&refusal, 64, &["there is no module no_such_module", "tests/apps", "app.chdir"]);
}

#[test]
fn a_module_that_imports_another_that_is_not_there() {
    let refusal = Setup::code("import no_such_module\n").refused();
    assert_refused(&refusal, 1, &["webapp cannot be imported", "ModuleNotFoundError", "webapp.py"]);
}

#[test]
fn a_callable_that_is_not_there() {
    let refusal = Setup::app("facts:app").refused();
    assert_refused(&refusal, 64, &["module facts has no `app`", "app.module"]);
}

#[test]
fn a_module_without_any_callable() {
    let setup = Setup::bare().arg("webapp");
    setup.dir().write("webapp.py", "");
    let refusal = setup.refused();
    assert_refused(&refusal, 64, &["module webapp has neither `application` nor `app`", "app.module"]);
}

#[test]
fn something_that_cannot_be_called() {
    let refusal = Setup::app("facts:seen").refused();
    assert_refused(&refusal, 64, &["facts:seen is not callable"]);
}

#[test]
fn a_factory_that_nobody_calls_is_told_how_to_be_called() {
    let refusal = Setup::code("def application():\n    return None\n").refused();
    let sentence = "webapp:application cannot be called with (environ, start_response), so it is no WSGI application; \
                    if it makes one, write app.module = \"webapp:application()\"";
    assert_refused(&refusal, 64, &[sentence]);
}

#[test]
fn what_the_workers_user_may_not_reach_is_not_said_to_be_missing() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let closed = Dir::new();
    fs::create_dir(closed.path().join("bin")).unwrap();
    fs::write(closed.path().join("bin/python"), "").unwrap();
    let open = || {
        let setup = Setup::code("").set("security.user", "nobody");
        fs::set_permissions(setup.dir().path(), Permissions::from_mode(0o755)).unwrap();
        setup
    };
    let refusal = open().venv(Some(closed.path().to_owned())).refused();
    assert_refused(&refusal, 1, &["app.venv", "is out of reach of user nobody; give that user access"]);
    let setup = open().venv(None).env("PATH", "/usr/bin:/bin").set("app.suspend", "thread");
    let refusal = setup.set("app.chdir", closed.path().display()).refused();
    assert_refused(&refusal, 1, &["app.chdir", "is out of reach of user nobody; give that user access"]);
}

#[test]
fn an_application_that_raises_while_it_is_imported() {
    let refusal = Setup::code("def fail():\n    raise ValueError('no database')\n\nfail()\n").refused();
    assert_refused(
        &refusal,
        1,
        &["webapp cannot be imported", "Traceback", "in fail", "ValueError: no database"],
    );
    assert!(!refusal.text.contains("importlib"), "only the application's own frames: {}", refusal.text);
}

#[test]
fn an_application_with_a_syntax_error() {
    let refusal = Setup::code("def application(:\n").refused();
    assert_refused(&refusal, 1, &["webapp cannot be imported", "webapp.py", "line 1", "SyntaxError"]);
}

#[test]
fn an_application_that_exits_while_it_is_imported() {
    let refusal = Setup::code("import sys\nsys.exit('call me later')\n").refused();
    assert_refused(&refusal, 1, &["webapp cannot be imported", "call me later"]);
}

#[test]
fn an_application_that_ends_its_process_while_it_is_imported() {
    let refusal = Setup::code("import os\nos._exit(3)\n").refused();
    assert_refused(&refusal, 1, &["the template died while it loaded the application"]);
}

#[test]
fn an_application_that_never_finishes_its_import() {
    let refusal = Setup::code("import time\ntime.sleep(600)\n").set("timeouts.boot", "500ms").refused();
    assert_refused(
        &refusal,
        1,
        &["the application was not loaded within 500ms", "timeouts.boot", "`app.run()`"],
    );
}

#[test]
fn a_virtual_environment_that_is_not_there() {
    let refusal = Setup::app("facts:application").venv(Some("/nowhere/venv".into())).refused();
    assert_refused(&refusal, 64, &["app.venv", "/nowhere/venv", "python3 -m venv"]);
}

#[test]
fn a_virtual_environment_without_greenlet() {
    let setup = Setup::app("facts:application");
    let venv = setup.dir().path().join("venv");
    let made = Command::new(base_python()).args(["-m", "venv", "--without-pip"]).arg(&venv).status().unwrap();
    assert!(made.success());
    let install = format!("{}/bin/python -m pip install greenlet", venv.display());
    assert_refused(&setup.venv(Some(venv)).refused(), 64, &["greenlet is missing", &install]);
}

/// The interpreter that the default environment was made from.
pub fn base_python() -> PathBuf {
    let code = "import os, sys; print(os.path.realpath(sys.executable))";
    let output = Command::new(default_venv().join("bin/python")).args(["-c", code]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

#[test]
fn an_interpreter_that_is_not_there() {
    let refusal = Setup::app("facts:application").venv(None).arg("--python").arg("/nowhere/python").refused();
    assert_refused(&refusal, 64, &["/nowhere/python", "not found", "--python"]);
}

#[test]
fn an_interpreter_that_is_none() {
    let refusal = Setup::app("facts:application").venv(None).arg("--python").arg("/bin/cat").refused();
    assert_refused(&refusal, 64, &["/bin/cat", "does not answer like Python"]);
}

#[test]
fn an_interpreter_that_is_too_old() {
    let setup = Setup::app("facts:application");
    // Not every machine has an old Python; every machine has one that can say that it is.
    let text =
        "#!/bin/sh\nexec PYTHON -c 'import sys; sys.version_info = (3, 9, 18); exec(sys.argv[1])' \"$2\"\n";
    let python = setup.dir().write("python3.9", &text.replace("PYTHON", &base_python().to_string_lossy()));
    Command::new("chmod").arg("+x").arg(&python).status().unwrap();
    let refusal = setup.venv(None).arg("--python").arg(python.display()).refused();
    assert_refused(&refusal, 64, &["is Python 3.9.18, which is too old", "3.10 or newer"]);
}

/// Those that pyenv has here, if any.
#[test]
fn a_real_interpreter_that_is_too_old() {
    let versions = std::env::var("HOME").unwrap() + "/.pyenv/versions";
    let entries =
        std::fs::read_dir(versions).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let is_old = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ["2.7", "3.7", "3.8", "3.9"].iter().any(|old| name.starts_with(old))
    };
    for path in entries.filter(is_old) {
        let python = path.join("bin/python");
        let refusal =
            Setup::app("facts:application").venv(None).arg("--python").arg(python.display()).refused();
        assert_refused(&refusal, 64, &["too old", "3.10 or newer"]);
    }
}

#[test]
fn a_port_that_is_taken() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let refusal = Setup::app("facts:application").arg("--listen").arg(address).refused();
    assert_refused(&refusal, 1, &[&address.to_string(), "address already in use", "--listen"]);
}

#[test]
fn a_unix_socket_that_another_program_listens_on() {
    let setup = Setup::app("facts:application");
    let path = setup.dir().path().join("web.sock");
    let _other = UnixListener::bind(&path).unwrap();
    let refusal = setup.arg("--listen").arg(format!("unix:{}", path.display())).refused();
    assert_refused(&refusal, 1, &["web.sock", "already in use"]);
    assert!(path.exists(), "the other's socket was taken away");
}

#[test]
fn a_native_port_that_is_taken() {
    let port = free_ports(2);
    let _other = TcpListener::bind(("127.0.0.1", port + 1)).unwrap();
    let refusal = Setup::app("facts:application").set("native.base_port", port).refused();
    assert_refused(&refusal, 1, &[&format!("127.0.0.1:{}", port + 1), "native"]);
}

#[test]
fn a_run_directory_that_cannot_be_used() {
    let refusal = Setup::app("facts:application").set("admin.run_dir", "/proc/appliance").refused();
    assert_refused(&refusal, 1, &["admin.run_dir /proc/appliance"]);
    let setup = Setup::app("facts:application");
    let file = setup.dir().write("file", "");
    let refusal = setup.set("admin.run_dir", file.display()).refused();
    assert_refused(&refusal, 1, &["admin.run_dir", "file"]);
}

#[test]
fn a_run_directory_that_another_appliance_uses() {
    let first = Setup::app("facts:application").start();
    let run_dir = first.dir().path().join("run");
    let refusal = Setup::app("facts:application").set("admin.run_dir", run_dir.display()).refused();
    assert_refused(&refusal, 1, &["another appliance runs there", &format!("pid {}", first.pid())]);
    assert_eq!(first.get("/").status, 200, "the first one goes on");
}

#[test]
fn a_worker_that_dies_each_time_it_starts() {
    let text = "import os\nfrom uwsgidecorators import postfork\n\n@postfork\ndef die():\n    os._exit(7)\n\n\
        def application(environ, start_response):\n    pass\n";
    let refusal = Setup::code(text).workers(2).refused();
    assert_refused(&refusal, 1, &["could not start"]);
}

#[test]
fn nothing_of_a_failed_start_lies_about() {
    let refusal = Setup::code("raise ValueError\n").refused();
    let names: Vec<String> = std::fs::read_dir(refusal.dir.path().join("run"))
        .map(|entries| {
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn a_good_start_says_what_was_chosen() {
    let appliance = Setup::app("facts:application").workers(2).set("workers.cores", 5).start();
    let loaded = appliance.log.event("the application", |event| event["app"] == "facts:application");
    assert!(loaded["runtime"].as_str().unwrap().starts_with("CPython 3."), "{loaded}");
    assert_eq!((&loaded["workers"], &loaded["cores"]), (&2.into(), &5.into()));
}

#[test]
fn it_also_listens_on_a_unix_socket_and_replaces_a_stale_one() {
    let setup = Setup::app("facts:application");
    let path = setup.dir().path().join("web.sock");
    drop(UnixListener::bind(&path).unwrap());
    let appliance = setup
        .arg("--listen")
        .arg("127.0.0.1:0")
        .arg("--listen")
        .arg(format!("unix:{}", path.display()))
        .start();
    assert_eq!(Client::unix(&path).unwrap().get("/").status, 200);
    assert_eq!(appliance.get("/").status, 200);
}
