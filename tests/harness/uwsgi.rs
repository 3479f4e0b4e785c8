//! A real uWSGI, for the tests that it and an appliance understand each other: Debian's, or the one of the benchmarks' virtual
//! environment. Serves `tests/apps/caller.py`; everything of it ends with its value.
use super::{Appliance, Client, Dir, Group, Setup, free_ports, root, until};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

/// See the module.
pub struct Uwsgi {
    _group: Group,
    _dir: Dir,
    http: SocketAddr,
    /// Where it speaks its own protocol.
    pub address: SocketAddr,
}

/// Evaluates expressions on one side.
pub type Side<'a> = &'a dyn Fn(&str) -> String;

/// An appliance that serves the same application.
pub fn caller() -> Setup {
    Setup::app("caller:application")
}

/// Such an appliance does what [`Uwsgi::eval`] does.
pub trait Eval {
    /// What a Python expression gives in a request.
    fn eval(&self, expression: &str) -> String;
}

impl Eval for Appliance {
    #[track_caller]
    fn eval(&self, expression: &str) -> String {
        self.client().post("/", expression).text()
    }
}

/// The program, and what makes it load its Python.
fn program() -> (PathBuf, &'static [&'static str]) {
    let debian = PathBuf::from("/usr/bin/uwsgi-core");
    let ours = root().join("benches/.venv/bin/uwsgi");
    if ours.is_file() {
        return (ours, &[]);
    }
    assert!(debian.is_file(), "there is no uWSGI; run packaging/setup.sh uwsgi-core uwsgi-plugin-python3");
    (debian, &["--plugins", "python3,cache,rpc"])
}

impl Uwsgi {
    /// Starts it with further options, and waits until it serves.
    #[track_caller]
    pub fn start(options: &[&str]) -> Uwsgi {
        let first = free_ports(2);
        let [http, address] = [first, first + 1].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let (program, plugins) = program();
        let dir = Dir::new();
        let mut command = Command::new(program);
        command
            .args(plugins)
            .args(["--master", "--need-app", "--no-orphans", "--socket-timeout", "5"])
            .args(["--http-socket", &http.to_string(), "--socket", &address.to_string()])
            .arg("--wsgi-file")
            .arg(root().join("tests/apps/caller.py"))
            .args(options)
            .current_dir(dir.path())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let uwsgi = Uwsgi { _group: Group::start(&mut command), _dir: dir, http, address };
        until("uWSGI listens", || Client::tcp(http).is_ok());
        assert_eq!(uwsgi.eval("1 + 1"), "2");
        uwsgi
    }

    /// What a Python expression gives there.
    #[track_caller]
    pub fn eval(&self, expression: &str) -> String {
        Client::tcp(self.http).unwrap().post("/", expression).text()
    }
}
