//! The command line: what is checked, shown and refused without anything being started, and how `run` finds what to run.
use crate::harness::{Dir, Setup, command};

const HELLO: &str = "def application(environ, start_response):\n    \
    start_response('200 OK', [])\n    return [b'hello']\n\napp = application\n";

#[test]
fn check_is_content_with_a_good_file() {
    let dir = Dir::new();
    dir.write(
        "appliance.toml",
        "listen = \"127.0.0.1:8080\"\n[app]\nmodule = \"app:app\"\n[workers]\ncount = 2\n",
    );
    let (code, out, err) = command(dir.path(), &["check"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("appliance.toml") && out.contains("valid"), "{out}");
}

#[test]
fn check_tells_every_mistake_at_once() {
    let dir = Dir::new();
    let text = "[app]\nmodule = \"app:app\"\n[workers]\ncont = 2\ncores = \"many\"\n[timeouts]\nbody = 60\n[limits]\nbody = \"1 MB\"\n";
    dir.write("appliance.toml", text);
    let (code, _, err) = command(dir.path(), &["check"], &[("APPLIANCE_WORKERS__COUNT", "-1")]);
    assert_eq!(code, Some(64));
    for part in [
        "appliance.toml:4: workers.cont",
        "did you mean `count`",
        "appliance.toml:5: workers.cores",
        "appliance.toml:7: timeouts.body",
        "60s",
        "appliance.toml:9: limits.body",
        "APPLIANCE_WORKERS__COUNT",
    ] {
        assert!(err.contains(part), "{part} is not in\n{err}");
    }
}

#[test]
fn check_looks_up_the_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = Dir::new();
    dir.write("appliance.toml", "app.module = \"app:app\"\nsecurity.user = \"no-such-user\"\n");
    let (code, _, err) = command(dir.path(), &["check"], &[]);
    let sentence = "appliance: security.user: there is no user `no-such-user` on this machine; create it or name another\n";
    assert_eq!((code, err.as_str()), (Some(64), sentence));
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    let dir = Dir::new();
    dir.write("appliance.toml", "[app]\nmodule = \"app:app\"\n[workers\n");
    for arguments in [["check"], ["run"]] {
        let (code, out, err) = command(dir.path(), &arguments, &[]);
        assert_eq!((code, out.as_str()), (Some(64), ""));
        assert!(err.contains("appliance.toml:3"), "{err}");
    }
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let dir = Dir::new();
    for arguments in [["check", "--config", "no.toml"], ["run", "--config", "no.toml"]] {
        let (code, _, err) = command(dir.path(), &arguments, &[]);
        assert_eq!(code, Some(64));
        assert!(err.contains("no.toml"), "{err}");
    }
}

#[test]
fn config_show_prints_what_is_in_force_and_where_it_comes_from() {
    let dir = Dir::new();
    dir.write("my.toml", "[app]\nmodule = \"app:app\"\n[workers]\ncount = 2\ncores = 10\n");
    let arguments = ["config", "show", "--config", "my.toml", "--set", "workers.count=5"];
    let (code, out, _) = command(dir.path(), &arguments, &[("APPLIANCE_LOG__LEVEL", "debug")]);
    assert_eq!(code, Some(0));
    let line = |key: &str| {
        out.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key} in\n{out}"))
    };
    assert!(line("count").contains('5') && line("count").contains("command line"), "{}", line("count"));
    assert!(line("cores").contains("10") && line("cores").contains("my.toml:5"), "{}", line("cores"));
    assert!(
        line("level").contains("debug") && line("level").contains("APPLIANCE_LOG__LEVEL"),
        "{}",
        line("level")
    );
    assert!(line("backlog").contains("default"), "{}", line("backlog"));
}

#[test]
fn what_config_show_prints_is_a_configuration() {
    let dir = Dir::new();
    dir.write("appliance.toml", "[app]\nmodule = \"app:app\"\n");
    let (_, shown, _) = command(dir.path(), &["config", "show"], &[]);
    dir.write("shown.toml", &shown);
    let (code, _, err) = command(dir.path(), &["check", "--config", "shown.toml"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{shown}");
}

#[test]
fn a_wrong_command_line_is_refused_with_the_way_out() {
    let dir = Dir::new();
    dir.write("app.py", HELLO);
    for (arguments, says) in [
        (&["run", "--wrokers", "2"][..], "--workers"),
        (&["start"], "start"),
        (&["run", "app.py"], "app:callable"),
        (&["run", "no/such/folder"], "no such folder"),
        (&["run", "--set", "workers.count"], "key=value"),
        (&["run", "--workers", "none"], "whole number"),
        (&["run", "--listen", "nowhere"], "127.0.0.1:8080"),
    ] {
        let (code, out, err) = command(dir.path(), arguments, &[]);
        assert_eq!((code, out.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let dir = Dir::new();
    let (code, out, _) = command(dir.path(), &["--version"], &[]);
    assert_eq!((code, out.trim()), (Some(0), concat!("appliance ", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = command(dir.path(), &["run", "--help"], &[]);
    assert!(code == Some(0) && out.contains("--native-base-port"), "{out}");
}

#[test]
fn a_folder_without_an_application_is_refused() {
    let dir = Dir::new();
    for arguments in [["run"], ["check"]] {
        let (code, _, err) = command(dir.path(), &arguments, &[]);
        assert_eq!(code, Some(64));
        assert!(err.contains("app.py") && err.contains("wsgi.py") && err.contains("app.module"), "{err}");
    }
}

#[test]
fn run_finds_the_application_by_its_usual_names() {
    for name in ["app.py", "wsgi.py", "asgi.py", "main.py"] {
        let setup = Setup::bare();
        setup.dir().write(name, HELLO);
        assert_eq!(setup.start().get("/").text(), "hello", "{name}");
    }
}

#[test]
fn run_takes_a_callable_a_module_a_folder_and_a_file() {
    let setup = || {
        let setup = Setup::bare();
        setup.dir().write("shop.py", HELLO);
        setup.dir().write("below/app.py", HELLO);
        setup.dir().write("my.toml", "[app]\nmodule = \"shop:application\"\n");
        setup
    };
    for arguments in [&["shop:application"][..], &["shop"], &["below"], &["--config", "my.toml"]] {
        let appliance = arguments.iter().fold(setup(), |setup, argument| setup.arg(argument)).start();
        assert_eq!(appliance.get("/").text(), "hello", "{arguments:?}");
    }
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let setup = Setup::bare()
        .env("APPLIANCE_APP__ENV__WHO", "environment")
        .env("APPLIANCE_APP__MODULE", "who:application");
    let text = "import os\ndef application(environ, start_response):\n    start_response('200 OK', [])\n    \
        return [os.environ['WHO'].encode(), b' ', os.environ['FILE'].encode()]\n";
    setup.dir().write("who.py", text);
    setup
        .dir()
        .write("appliance.toml", "[app]\nmodule = \"no:such\"\n[app.env]\nWHO = \"file\"\nFILE = \"file\"\n");
    assert_eq!(setup.start().get("/").text(), "environment file");
}
