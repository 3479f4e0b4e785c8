//! Bodies from files: `wsgi.file_wrapper` and `uwsgi.sendfile`, through the proxy and on connections that can use
//! `sendfile(2)`. Whatever is behind the file object, the client gets the bytes that reading it would have given.
use crate::harness::{
    Answer, Appliance, Client, DEADLINE, ENGINES, Framing, Setup, default_venv, until, venvs,
};
use std::fs;
use std::io::Write;

/// Larger than what leaves with its head, and than what sockets hold.
const LARGE: usize = 9_000_000;

/// Bytes of which none can be lost, doubled or moved without being seen.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + ((at / 7 + at / 1000) % 26) as u8).collect()
}

/// The application with a `large`, a `small` and an `empty` file in its folder.
fn start() -> Appliance {
    start_with(|setup| setup)
}

fn start_on(engine: &str) -> Appliance {
    start_with(|setup| setup.set("app.suspend", engine))
}

/// The same, changed by whoever needs it.
fn start_with(change: impl FnOnce(Setup) -> Setup) -> Appliance {
    let setup = change(Setup::app("files:application"));
    for (name, size) in [("large", LARGE), ("small", 100), ("empty", 0)] {
        fs::write(setup.dir().path().join(name), pattern(size)).unwrap();
    }
    let files = setup.dir().path().display().to_string();
    setup.env("FILES", files).start()
}

fn doors(appliance: &Appliance) -> [Client; 2] {
    [appliance.client(), appliance.worker_client(1)]
}

#[track_caller]
fn same(answer: &Answer, expected: &[u8], target: &str) {
    assert_eq!(answer.body.len(), expected.len(), "{target}");
    assert!(answer.body == expected, "{target}: other bytes");
}

#[test]
fn files_that_are_what_they_seem_have_a_length() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for mut client in doors(&appliance) {
            for name in ["large", "small"] {
                let expected = pattern(if name == "large" { LARGE } else { 100 });
                for how in ["buffered", "raw", "random", "temporary", "sendfile/path", "sendfile/raw", "late"]
                {
                    let target = format!("/{how}?name={name}");
                    let answer = client.get(&target);
                    assert_eq!((answer.status, answer.framing), (200, Framing::Length), "{target}");
                    same(&answer, &expected, &target);
                }
            }
        }
    }
}

#[test]
fn every_python_tells_files_from_other_objects() {
    for venv in venvs() {
        let appliance = start_with(|setup| setup.venv(Some(venv.clone())));
        let mut client = appliance.worker_client(1);
        for (how, framing) in [
            ("buffered", Framing::Length),
            ("raw", Framing::Length),
            ("temporary", Framing::Length),
            ("memory", Framing::Chunked),
        ] {
            let answer = client.get(&format!("/{how}?name=large"));
            assert_eq!(answer.framing, framing, "{how} on {}", venv.display());
            same(&answer, &pattern(LARGE), how);
        }
    }
}

#[test]
fn other_objects_are_read() {
    let appliance = start();
    let expected = pattern(LARGE);
    for mut client in doors(&appliance) {
        for how in ["memory", "slow", "buffered/iterated"] {
            let target = format!("/{how}?name=large");
            let answer = client.get(&target);
            assert_eq!(answer.framing, Framing::Chunked, "{target}");
            same(&answer, &expected, &target);
        }
        for how in ["shouting", "own_read"] {
            same(&client.get(&format!("/{how}?name=large")), &expected.to_ascii_uppercase(), how);
        }
        assert_eq!(client.get("/pipe?name=small").text(), "through a pipe");
        assert!(client.get("/proc?name=small").text().starts_with("Name:"));
    }
}

#[test]
fn a_compressed_file_is_read_through_what_decompresses_it() {
    let appliance = start();
    let path = appliance.dir().path().join("stored.gz");
    let python = default_venv().join("bin/python");
    let code = format!("import gzip; gzip.open({:?}, 'wb').write(b'plain' * 9999)", path.to_str().unwrap());
    assert!(std::process::Command::new(python).args(["-c", &code]).status().unwrap().success());
    for mut client in doors(&appliance) {
        same(&client.get("/gzip?name=stored.gz"), &b"plain".repeat(9999), "gzip");
    }
}

#[test]
fn a_file_begins_where_its_object_stands() {
    let appliance = start();
    let expected = pattern(LARGE);
    for mut client in doors(&appliance) {
        same(&client.get("/buffered?name=large&from=1234567"), &expected[1_234_567..], "from");
        same(&client.get("/buffered/begun?name=large"), &expected[5000..], "a block was taken");
        same(&client.get("/temporary?name=small&from=90"), &expected[90..100], "temporary");
        same(&client.get("/raw?name=small&from=500"), b"", "behind the end");
    }
}

#[test]
fn what_python_has_not_written_yet_is_sent_too() {
    let appliance = start();
    let mut expected = pattern(LARGE);
    for mut client in doors(&appliance) {
        expected.extend_from_slice(b"added");
        same(&client.get("/unflushed?name=large"), &expected, "unflushed");
    }
}

#[test]
fn a_part_of_a_file_is_promised_by_path_file_or_descriptor() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        let expected = pattern(LARGE);
        for mut client in doors(&appliance) {
            for what in ["path", "buffered", "descriptor"] {
                let target = format!("/sendfile/{what}?name=large&pos=1000&size=7654321");
                let answer = client.get(&target);
                assert_eq!(answer.framing, Framing::Length);
                same(&answer, &expected[1000..][..7_654_321], &target);
                same(&client.get(&format!("/sendfile/{what}?name=small&pos=90")), &expected[90..100], what);
                same(
                    &client.get(&format!("/sendfile/{what}?name=small&size=500&chunk=7")),
                    &expected[..100],
                    what,
                );
            }
            assert_eq!(client.get("/sendfile/path?name=missing").text(), "None");
        }
    }
}

#[test]
fn an_empty_file_is_an_empty_body() {
    let appliance = start();
    for mut client in doors(&appliance) {
        for how in ["buffered", "sendfile/path", "temporary"] {
            let answer = client.get(&format!("/{how}?name=empty"));
            assert_eq!(
                (answer.status, answer.framing, answer.body.len()),
                (200, Framing::Length, 0),
                "{how}"
            );
        }
    }
}

#[test]
fn the_length_that_the_application_gives_counts() {
    let appliance = start();
    for mut client in doors(&appliance) {
        for name in ["large", "small"] {
            let answer = client.get(&format!("/buffered?name={name}&length=20"));
            assert_eq!(answer.body, pattern(20));
        }
    }
    appliance.log.wait_for("longer than its Content-Length");
    for mut client in doors(&appliance) {
        client.send(format!("GET /buffered?name=large&length={} HTTP/1.1\r\nHost: test\r\n\r\n", LARGE + 1));
        client.try_answer().expect_err("a file that is too short looks complete");
    }
    appliance.log.wait_for("shorter than its Content-Length");
}

#[test]
fn answers_without_a_body_have_none_of_the_file_either() {
    let appliance = start();
    for mut client in doors(&appliance) {
        for name in ["large", "small"] {
            client.send(format!("HEAD /buffered?name={name} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let size = if name == "large" { LARGE } else { 100 };
            let answer = client.answer_to_head();
            assert_eq!(answer.header("content-length"), Some(&*size.to_string()), "{name}");
            for status in ["204", "304"] {
                let answer = client.get(&format!("/buffered?name={name}&status={status}+Nothing"));
                assert_eq!((answer.status.to_string().as_str(), answer.body.len()), (status, 0));
            }
        }
        assert_eq!(client.get("/buffered?name=small").body, pattern(100), "the connection goes on");
    }
}

#[test]
fn clients_of_http_1_0_get_files() {
    let appliance = start();
    for mut client in doors(&appliance) {
        client.send("GET /buffered?name=large HTTP/1.0\r\nHost: test\r\n\r\n");
        let answer = client.answer();
        assert_eq!(answer.framing, Framing::Length);
        same(&answer, &pattern(LARGE), "HTTP/1.0");
    }
}

#[test]
fn a_file_follows_what_was_written_before() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        let expected = [b"before".to_vec(), pattern(LARGE)].concat();
        for mut client in doors(&appliance) {
            let answer = client.get("/buffered?name=large&begin=before");
            assert_eq!(answer.framing, Framing::Chunked);
            same(&answer, &expected, "chunked");
        }
        for mut client in doors(&appliance) {
            client.send("GET /buffered?name=large&begin=before HTTP/1.0\r\nHost: test\r\n\r\n");
            same(&client.answer(), &expected, "until the connection closes");
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_seen_to_be_cut() {
    for door in 0..2 {
        let appliance = start();
        let mut client = if door == 0 { appliance.client() } else { appliance.worker_client(1) };
        client.send("GET /buffered?name=large HTTP/1.1\r\nHost: test\r\n\r\n");
        client.arrived_within(DEADLINE);
        let file = fs::File::options().write(true).open(appliance.dir().path().join("large")).unwrap();
        // Whatever the sockets hold, the end of it has not left.
        file.set_len(LARGE as u64 - 10).unwrap();
        client.try_answer().expect_err("a file that is too short looks complete");
        appliance.log.wait_for("the file became shorter while it was sent");
    }
}

#[test]
fn a_file_that_grows_is_sent_as_long_as_it_was() {
    let appliance = start();
    for mut client in doors(&appliance) {
        client.send("GET /raw?name=large HTTP/1.1\r\nHost: test\r\n\r\n");
        client.arrived_within(DEADLINE);
        let mut file = fs::File::options().append(true).open(appliance.dir().path().join("large")).unwrap();
        file.write_all(b"more").unwrap();
        let answer = client.answer();
        same(&answer, &pattern(LARGE)[..LARGE], "grown");
        file.set_len(LARGE as u64).unwrap();
    }
}

#[test]
fn a_file_is_closed_once() {
    let appliance = start();
    for (door, mut client) in (1..).zip(doors(&appliance)) {
        for (count, target) in [
            (1, "/buffered?name=large"),
            (2, "/buffered?name=large&status=204+Nothing"),
            (3, "/sendfile/buffered?name=large"),
            (4, "/buffered/iterated?name=large"),
        ] {
            client.get(target);
            // A generator over the wrapper does not close it, and nobody else does.
            let closed = (door - 1) * 3 + count.min(3);
            assert_eq!(client.get("/closed?name=large").text(), closed.to_string(), "{target}");
        }
    }
}

#[test]
fn a_client_that_leaves_closes_the_file() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for (door, mut client) in (1..).zip(doors(&appliance)) {
            client.send("GET /buffered?name=large HTTP/1.1\r\nHost: test\r\n\r\n");
            client.arrived_within(DEADLINE);
            drop(client);
            until("the file is closed", || appliance.get("/closed?name=large").text() == door.to_string());
        }
    }
}

#[test]
fn a_client_that_takes_nothing_does_not_hold_the_file() {
    let appliance = start_with(|setup| setup.set("timeouts.write", "1s"));
    for (door, mut client) in (1..).zip(doors(&appliance)) {
        client.send("GET /buffered?name=large HTTP/1.1\r\nHost: test\r\n\r\n");
        until("the file is closed", || appliance.get("/closed?name=large").text() == door.to_string());
        client.try_answer().expect_err("an answer that was given up looks complete");
    }
}

#[test]
fn files_that_cannot_be_sent_are_errors() {
    let appliance = start();
    for mut client in doors(&appliance) {
        for (how, logged) in [("write_only", "UnsupportedOperation"), ("text", "must be bytes")] {
            assert_eq!(client.get(&format!("/{how}?name=small")).status, 500);
            appliance.log.wait_for(logged);
        }
    }
}

#[test]
fn others_are_served_while_a_file_leaves() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for mut client in doors(&appliance) {
            client.send("GET /buffered?name=large HTTP/1.1\r\nHost: test\r\n\r\n");
            client.arrived_within(DEADLINE);
            assert_eq!(appliance.get("/buffered?name=small").body, pattern(100));
            same(&client.answer(), &pattern(LARGE), "slow");
        }
    }
}
