//! Mistakes of native applications and of those who run them: what they are told, and that nobody else suffers.
use crate::harness::{Dir, Setup, command, until};
use crate::native_apps::{compile, drops, setup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;

#[test]
fn coroutines_that_wait_for_one_another_are_told_at_once() {
    let appliance = setup().start();
    let told = "Some(Deadlock)";
    assert_eq!(appliance.get("/mistake/circle/1").text(), format!("[{told}]\n"), "for itself");
    for length in [2, 5] {
        let said = appliance.get(&format!("/mistake/circle/{length}")).text();
        // It is told to one of them; the others have their end.
        assert_eq!((said.matches(told).count(), said.matches("None").count()), (1, length - 1), "{said}");
    }
    assert_eq!(appliance.get("/mistake/stale").text(), "1 2\n");
}

#[test]
fn a_request_has_only_so_many_coroutines_at_once_and_any_number_in_turn() {
    let appliance = setup().start();
    for _ in 0..2 {
        let said = appliance.get("/mistake/crowd/5000").text();
        assert!(said.starts_with("4095 the request has as many coroutines as it may have"), "{said}");
    }
    assert_eq!(appliance.get("/mistake/one-by-one/100000").text(), "100000\n");
    assert_eq!(appliance.get("/tasks/1").status, 200);
}

#[test]
fn what_an_ended_request_spawns_is_dropped() {
    let appliance = setup().start();
    let mut client = appliance.client();
    client.send("GET /mistake/ended HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it waits", || appliance.tell(&["stacks"]).1.contains("waits for a time"));
    drop(client);
    until("the closure is dropped", || drops(&appliance) == "never begun\n");
}

#[test]
fn a_body_that_is_not_as_long_as_was_announced_is_reported() {
    let appliance = setup().start();
    assert_eq!(appliance.get("/mistake/length/5").text(), "01234");
    appliance.log.wait_for("the body is longer than its Content-Length");
    let mut worker = appliance.worker_client(1);
    worker.send("GET /mistake/length/20 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(worker.try_answer().is_err(), "it is cut");
    appliance.log.wait_for("the body is shorter than its Content-Length");
}

#[test]
fn of_a_header_field_that_is_refused_nothing_is_kept() {
    let appliance = setup().start();
    let mut worker = appliance.worker_client(1);
    let said = worker.get("/mistake/refused").text();
    assert!(said.starts_with("header \"Connection\" is about the connection"), "{said}");
    assert_eq!(worker.get("/").status, 200, "the connection is used again");
}

#[test]
fn what_cannot_be_said_is_explained_in_the_log() {
    let appliance = setup().start();
    for (path, why) in [
        ("header", "the value contains a control character, such as a line break"),
        ("status/999", "): 999 is the status of no answer"),
        ("forgiven", "): something else; before that: 999 is the status of no answer"),
    ] {
        assert_eq!(appliance.get(&format!("/mistake/{path}")).status, 500);
        appliance.log.wait_for(why);
    }
    let mut worker = appliance.worker_client(1);
    worker.send("GET /mistake/late HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(worker.try_answer().is_err(), "it is cut");
    appliance.log.wait_for("the answer has begun: its status and its header fields have left");
}

#[test]
fn a_failure_behind_a_whole_answer_is_reported() {
    let appliance = setup().start();
    assert_eq!(appliance.get("/mistake/after-all").text(), "whole");
    appliance.log.wait_for("the native application failed: GET /mistake/after-all");
}

#[test]
fn an_answer_that_nobody_takes_is_no_failure() {
    let appliance = setup().set("app.cancel_on_disconnect", false).start();
    let mut client = appliance.worker_client(1);
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send(request("/") + &request("/until"));
    until("it waits", || appliance.get("/waiting").text() == "1\n");
    // A connection with an answer that was not read is reset.
    drop(client);
    assert_eq!(appliance.get("/go").status, 200);
    until("it has ended", || appliance.get("/waiting").text() == "0\n");
    assert_eq!(appliance.get("/error").status, 500);
    appliance.log.wait_for("GET /error");
    let failures = appliance.log.text().matches("the native application failed").count();
    assert_eq!(failures, 1, "{}", appliance.log.text());
}

#[test]
fn a_panic_on_a_thread_is_one_of_its_request() {
    let appliance = setup().start();
    assert_eq!(appliance.get("/mistake/blocking").status, 500);
    appliance.log.wait_for("it panicked: on a thread");
    assert_eq!(appliance.get("/").status, 200);
}

#[test]
fn a_fault_that_was_sent_is_the_end_of_the_worker_at_once() {
    let appliance = setup().start();
    assert_eq!(appliance.get("/overflow").status, 500);
    let before = appliance.process("worker 1");
    kill(Pid::from_raw(before.pid), Signal::SIGSEGV).unwrap();
    appliance.successor(&before);
    appliance.log.wait_for("SIGSEGV");
    assert_eq!(appliance.get("/overflow").status, 500, "the next one catches overflows");
}

#[test]
fn a_library_that_lacks_something_is_refused_with_its_name() {
    let source = "#include <appliance.h>\nextern int lacking(void);\n\
                  static int32_t handle(void) { return lacking(); }\nAPPLIANCE_APP(handle)\n";
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("app.so");
    compile(source, &library);
    let refused = setup.arg(library.display()).refused();
    assert!(refused.text.contains("undefined symbol: lacking"), "{}", refused.text);
}

#[test]
fn an_application_in_c_that_says_nothing_is_quoted() {
    let source =
        "#include <appliance.h>\nstatic int32_t handle(void) { return -22; }\nAPPLIANCE_APP(handle)\n";
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("app.so");
    compile(source, &library);
    let appliance = setup.arg(library.display()).start();
    assert_eq!(appliance.get("/").status, 500);
    appliance.log.wait_for("it returned -22: Invalid argument");
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_cut_and_the_log_says_so() {
    let setup = Setup::bare().arg("native:static").venv(None);
    let folder = setup.dir().path().join("www");
    std::fs::create_dir(&folder).unwrap();
    let file = File::create(folder.join("large")).unwrap();
    // More than sockets hold between here and there.
    file.set_len(256 << 20).unwrap();
    let appliance = setup.set("native.folder", folder.display()).start();
    let mut client = appliance.worker_client(1);
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is being sent", || appliance.tell(&["stacks"]).1.contains("to take what was sent"));
    file.set_len(1).unwrap();
    assert!(client.try_answer().is_err(), "the client sees that it is cut");
    appliance.log.wait_for("a file has ended before all that was to be sent of it");
}

/// A file with so many bytes that they leave in several pieces.
const FILE: usize = 1_000_000;

#[test]
fn a_file_that_cannot_be_sent_whole_cuts_the_answer_whatever_its_application_says() {
    let source = r#"
        #include <appliance.h>
        #include <fcntl.h>
        #include <stdlib.h>
        static int32_t handle(void)
        {
            int fd = open(getenv("FILE_TO_SEND"), O_RDONLY);
            ApplianceText begun;
            if (appliance_header("Begun", &begun) == 0) {
                appliance_write("x", 1);
                appliance_flush();
            }
            appliance_send_file(fd, 0, 2000000);
            return 0;
        }
        APPLIANCE_APP(handle)
    "#;
    let dir = Dir::new();
    let [library, file, folder] = ["app.so", "file", "folder"].map(|name| dir.path().join(name));
    compile(source, &library);
    std::fs::write(&file, [b'f'; FILE]).unwrap();
    std::fs::create_dir(&folder).unwrap();
    for (what, why) in [
        (file, "a file has ended before all that was to be sent of it"),
        (folder, "a file cannot be sent: Is a directory"),
    ] {
        let setup = Setup::bare().venv(None).arg(library.display());
        let appliance = setup.set("app.env.FILE_TO_SEND", what.display()).start();
        for begun in ["", "Begun: yes\r\n"] {
            for mut client in [appliance.client(), appliance.worker_client(1)] {
                client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{begun}\r\n"));
                let answer = client.rest();
                assert!(client.is_closed(), "nothing can follow: {begun:?}");
                assert!(
                    answer.len() < 2_000_000 && !answer.ends_with(b"\r\n0\r\n\r\n"),
                    "it is cut: {begun:?}"
                );
            }
        }
        appliance.log.wait_for(why);
    }
}

#[test]
fn coroutines_of_a_request_that_write_at_once_leave_each_piece_whole() {
    let source = r#"
        #include <appliance.h>
        static char a[1000000], b[1000000];
        static void other(void *data) { (void)data; appliance_write(b, sizeof b); }
        static int32_t handle(void)
        {
            ApplianceText alone;
            memset(a, 'a', sizeof a);
            memset(b, 'b', sizeof b);
            appliance_spawn(other, NULL);
            return appliance_header("Alone", &alone) == 0 ? 0 : appliance_write(a, sizeof a);
        }
        APPLIANCE_APP(handle)
    "#;
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("app.so");
    compile(source, &library);
    let appliance = setup.arg(library.display()).start();
    for alone in ["", "Alone: yes\r\n"] {
        let mut client = appliance.worker_client(1);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{alone}\r\n"));
        until("it waits", || appliance.tell(&["stacks"]).1.contains("to take what was sent"));
        let body = client.try_answer().unwrap().body;
        let pieces: Vec<(u8, usize)> =
            body.chunk_by(|one, next| one == next).map(|piece| (piece[0], piece.len())).collect();
        let expected = [(b'b', 1_000_000), (b'a', 1_000_000)];
        assert_eq!(pieces, expected[..if alone.is_empty() { 2 } else { 1 }]);
    }
}

#[test]
fn a_file_that_another_coroutine_cannot_send_is_reported_after_the_application_has_returned() {
    let source = r#"
        #include <appliance.h>
        #include <fcntl.h>
        #include <stdlib.h>
        static void other(void *data)
        {
            (void)data;
            appliance_send_file(open(getenv("FILE_TO_SEND"), O_RDONLY), 0, 256 << 20);
        }
        static int32_t handle(void)
        {
            appliance_spawn(other, NULL);
            return 0;
        }
        APPLIANCE_APP(handle)
    "#;
    let setup = Setup::bare().venv(None);
    let [library, path] = ["app.so", "large"].map(|name| setup.dir().path().join(name));
    compile(source, &library);
    let file = File::create(&path).unwrap();
    // More than sockets hold between here and there.
    file.set_len(256 << 20).unwrap();
    let appliance = setup.arg(library.display()).set("app.env.FILE_TO_SEND", path.display()).start();
    let mut client = appliance.worker_client(1);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is being sent", || appliance.tell(&["stacks"]).1.contains("to take what was sent"));
    file.set_len(1).unwrap();
    assert!(client.try_answer().is_err(), "the client sees that it is cut");
    appliance.log.wait_for("a file has ended before all that was to be sent of it");
}

#[test]
fn what_a_coroutine_writes_behind_the_end_of_the_answer_reaches_nobody() {
    let source = r#"
        #include <appliance.h>
        static void other(void *data)
        {
            (void)data;
            appliance_sleep(3600000000);
            appliance_write("behind", 6);
            appliance_send_file(0, 0, 6);
        }
        static int32_t handle(void)
        {
            appliance_spawn(other, NULL);
            appliance_write("whole", 5);
            appliance_flush();
            return 0;
        }
        APPLIANCE_APP(handle)
    "#;
    let setup = Setup::bare().venv(None);
    let library = setup.dir().path().join("app.so");
    compile(source, &library);
    let appliance = setup.arg(library.display()).start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), "whole");
        }
    }
}

/// An application in C that serves nothing, with something before it.
fn c(before: &str) -> String {
    format!(
        "#include <appliance.h>\n{before}\nstatic int32_t handle(void) {{ return 0; }}\nAPPLIANCE_APP(handle)\n"
    )
}

#[test]
fn a_check_says_what_is_wrong_with_a_library() {
    let constructor =
        |code: &str| c(&format!("__attribute__((constructor)) static void begin(void) {{ {code}; }}"));
    let other_version = c("")
        .replace("APPLIANCE_APP", "#undef APPLIANCE_VERSION\n#define APPLIANCE_VERSION 9\nAPPLIANCE_APP");
    for (source, why) in [
        ("int nothing;\n".to_owned(), "it does not export appliance_app"),
        (c("extern int lacking;\nint *needed = &lacking;"), "undefined symbol: lacking"),
        (other_version, "refuses to work with version 1 of the interface"),
        (
            format!("#include <stdlib.h>\n{}", constructor("abort()")),
            "ends the process that loads it (SIGABRT)",
        ),
        (
            format!("#include <unistd.h>\n{}", constructor("_exit(3)")),
            "ends the process that loads it (exit code 3)",
        ),
        (
            format!("#include <unistd.h>\n{}", constructor("_exit(0)")),
            "ends the process that loads it (exit code 0)",
        ),
        (
            format!("#include <unistd.h>\n{}", constructor("pause()")),
            "is not loaded after 1s (timeouts.boot)",
        ),
    ] {
        let dir = Dir::new();
        compile(&source, &dir.path().join("app.so"));
        dir.write("appliance.toml", "app.module = \"./app.so\"\ntimeouts.boot = \"1s\"\n");
        let (code, _, err) = command(dir.path(), &["check"], &[]);
        assert_eq!(code, Some(64), "{source}\n{err}");
        assert!(
            err.starts_with("appliance: app.module: ") && err.contains(why),
            "{why:?} of {source}\n{err}"
        );
        assert!(err.contains("/app.so"), "{err}");
    }
}

#[test]
fn a_check_loads_all_that_is_native_and_lets_none_get_ready() {
    let dir = Dir::new();
    let source =
        c("static int32_t load(void) { return 1; }").replace("APP(handle)", "APP_WITH(handle, load)");
    compile(&source, &dir.path().join("app.so"));
    let (code, out, err) = command(dir.path(), &["check", "./app.so"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let missing = ["check", "./app.so", "--set", "native.app=./missing.so", "--set", "native.base_port=9000"];
    let (code, _, err) = command(dir.path(), &missing, &[]);
    assert_eq!(code, Some(64), "{err}");
    assert!(err.starts_with("appliance: native.app: ") && err.contains("No such file or directory"), "{err}");
}
