//! Every example, and every well-behaved application of these tests, in the checks of `wsgiref.validate`: whatever breaks a
//! rule of PEP 3333, the server or the application, is a 500 or a cut answer, and a line in the log.
use crate::examples::play_the_service;
use crate::harness::{Appliance, Setup, free_ports, root};

/// Starts `callable` of a file of the repository in the checks.
fn start(file: &str, callable: &str) -> Appliance {
    let base = free_ports(3);
    let setup = Setup::app("validated:application").env("BASE_PORT", base).env("SECONDS", "0.1");
    let setup = match file {
        // It asks what is served there.
        "examples/tornado/app.py" => setup
            .set("app.pythonpath", root().join("examples/tornado").display())
            .set("native.base_port", base)
            .set("native.app", "tornado:app:make_app"),
        _ => setup,
    };
    setup.env("APPLICATION", format!("{}:{callable}", root().join(file).display())).start()
}

/// Asks for each target with each method, at both doors.
#[track_caller]
fn ask(file: &str, callable: &str, targets: &[&str]) {
    let appliance = start(file, callable);
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        for target in targets {
            for (method, body) in [("GET", ""), ("HEAD", ""), ("POST", "name=value&more=a")] {
                let request = format!(
                    "{method} {target} HTTP/1.1\r\nHost: localhost\r\nCookie: a=1\r\nContent-Length: {}\r\n\
                     Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
                    body.len()
                );
                client.send(request);
                let answer = if method == "HEAD" { client.answer_to_head() } else { client.answer() };
                assert_ne!(answer.status, 500, "{method} {target} of {file}: {answer:?}");
            }
        }
    }
    let log = appliance.log.text();
    for complaint in ["AssertionError", "WSGIWarning", "garbage collected", "Traceback"] {
        assert!(!log.contains(complaint), "{file}: {log}");
    }
}

#[test]
fn the_examples_keep_the_rules() {
    play_the_service();
    ask("examples/welcome/app.py", "app", &["/", "/hello"]);
    ask("examples/flask/app.py", "app", &["/", "/notes", "/count", "/nowhere"]);
    ask("examples/django/project.py", "application", &["/", "/lines", "/nowhere"]);
    ask("examples/tornado/app.py", "application", &["/"]);
    for name in ["fetch", "sleeper", "generator", "postfork"] {
        ask(&format!("examples/seed/{name}.py"), "application", &["/"]);
    }
}

#[test]
fn what_pep_3333_lets_an_application_do_keeps_the_rules() {
    let paths = "a_list a_tuple a_generator late_start nothing no_content own_length with_write changed_mind closes a_file \
                 two_cookies says_errors";
    let targets: Vec<String> = paths.split(' ').map(|path| format!("/{path}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    ask("tests/apps/pep3333.py", "application", &targets);
}

#[test]
fn applications_of_these_tests_keep_the_rules() {
    ask(
        "tests/apps/facts.py",
        "application",
        &["/", "/environ?a=b", "/sleep?s=0.01", "/pieces?count=3&size=9"],
    );
    ask(
        "tests/apps/bodies.py",
        "application",
        &["/give/announced?size=99", "/give/pieces?size=300000", "/given"],
    );
    ask("tests/apps/waits.py", "application", &["/result", "/thread", "/async_sleep", "/inner_greenlet"]);
    ask("tests/apps/hints.py", "application", &["/late", "/refused"]);
    ask("tests/apps/request_calls.py", "application", &["/logvars", "/env", "/sends", "/slept/cl"]);
}
