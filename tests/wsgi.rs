//! WSGI as PEP 3333 has it, and the HTTP/1.1 around it, both through the proxy and on a worker's own socket.
use crate::harness::{Answer, Appliance, Client, Framing, Setup};
use serde_json::json;

fn start() -> Appliance {
    Setup::app("pep3333:application").start()
}

/// The same request to both doors.
#[track_caller]
fn both(appliance: &Appliance, target: &str) -> [Answer; 2] {
    [appliance.get(target), appliance.worker_client(1).get(target)]
}

#[test]
fn the_environ_says_what_was_asked() {
    let appliance = Setup::app("facts:application").set("workers.cores", 7).start();
    let mut client = appliance.client();
    let lines =
        "X-Twice: 1\r\nX-Twice: 2\r\nCookie: a=1\r\nCookie: b=2\r\nX_Under: 1\r\nContent-Type: text/x\r\n";
    let environ = client.get_with("/environ/../%C3%A9%2f?q=%20&r", lines).text();
    assert_eq!(environ.find("X_UNDER"), None, "{environ}");
    let environ = client.get_with("/environ?q=%20&r", lines).json();
    let port = appliance.address().port().to_string();
    let expected = json!({
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/environ", "QUERY_STRING": "q=%20&r",
        "REQUEST_URI": "/environ?q=%20&r", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": port,
        "CONTENT_TYPE": "text/x", "HTTP_HOST": "test", "HTTP_X_TWICE": "1, 2", "HTTP_COOKIE": "a=1; b=2",
        "REMOTE_ADDR": "127.0.0.1", "wsgi.version": [1, 0], "wsgi.url_scheme": "http", "wsgi.multithread": false,
        "wsgi.multiprocess": false, "wsgi.run_once": false, "wsgi.input_terminated": true,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&environ[key], value, "{key}");
    }
}

#[test]
fn the_path_is_decoded_and_the_target_is_not() {
    let appliance = Setup::app("facts:application").start();
    appliance.get("/caf%C3%A9%2Fbar?x=%41");
    assert_eq!(appliance.get("/seen").json()[0], "/caf%C3%A9%2Fbar?x=%41");
}

#[test]
fn bodies_that_are_known_have_a_length_and_others_are_chunked() {
    let appliance = start();
    for (target, framing, body) in [
        ("/a_list", Framing::Length, "onetwo"),
        ("/a_tuple", Framing::Length, "onetwo"),
        ("/a_generator", Framing::Chunked, "onetwo"),
        ("/nothing", Framing::Length, ""),
        ("/own_length", Framing::Length, "onetwo"),
        ("/with_write", Framing::Chunked, "written and returned"),
    ] {
        for answer in both(&appliance, target) {
            assert_eq!(
                (answer.status, answer.framing, answer.text().as_str()),
                (200, framing, body),
                "{target}"
            );
        }
    }
}

#[test]
fn a_generator_may_start_late_and_an_answer_may_have_no_body() {
    let appliance = start();
    for (target, status, body) in [("/late_start", 202, "late"), ("/no_content", 204, "")] {
        for answer in both(&appliance, target) {
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
        }
    }
}

#[test]
fn a_body_longer_than_its_length_is_cut_and_logged() {
    let appliance = start();
    for answer in both(&appliance, "/too_long") {
        assert_eq!(answer.text(), "one");
    }
    appliance.log.wait_for("longer than its Content-Length");
}

#[test]
fn a_body_shorter_than_its_length_is_seen_to_be_cut() {
    let appliance = start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        client.send("GET /too_short HTTP/1.1\r\nHost: test\r\n\r\n");
        let error = client.try_answer().unwrap_err();
        assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "the connection stays open");
    }
    appliance.log.wait_for("shorter than its Content-Length");
}

#[test]
fn exc_info_replaces_a_head_that_was_not_sent_and_raises_after_one_that_was() {
    let appliance = start();
    for answer in both(&appliance, "/changed_mind") {
        assert_eq!((answer.status, answer.text().as_str()), (503, "later"));
    }
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        client.send("GET /too_late HTTP/1.1\r\nHost: test\r\n\r\n");
        client.try_answer().expect_err("an answer that was cut must not look complete");
    }
    appliance.log.wait_for("ValueError: too late to change");
}

#[test]
fn close_is_called_at_the_end_and_after_an_exception() {
    let appliance = start();
    appliance.get("/closes");
    let mut client = appliance.client();
    client.send("GET /closes_after_error HTTP/1.1\r\nHost: test\r\n\r\n");
    client.rest();
    assert_eq!(appliance.get("/was_closed").text(), "whole,error");
}

#[test]
fn a_file_goes_out_through_the_file_wrapper() {
    let appliance = start();
    let file = std::fs::read(crate::harness::root().join("tests/apps/pep3333.py")).unwrap();
    assert_eq!(appliance.get("/a_file").body, file);
}

#[test]
fn fields_that_stand_twice_stay_two() {
    let appliance = start();
    let answer = appliance.client().get_with("/two_cookies", "Cookie: c=3; d=4\r\n");
    let cookies: Vec<&str> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!((cookies, answer.text().as_str()), (vec!["a=1", "b=2"], "c=3; d=4"));
    assert!(answer.header("date").is_some());
}

#[test]
fn errors_go_to_the_log_and_prints_to_standard_output() {
    let appliance = start();
    appliance.get("/says_errors");
    for line in ["first line for the log", "second line for the log"] {
        appliance.log.event(line, |event| event["message"] == line);
    }
    appliance.output.wait_for("a line for standard output");
}

#[test]
fn lines_of_threads_are_not_mixed_up_in_the_log() {
    let appliance = start();
    appliance.get("/says_errors_in_two_threads");
    for line in ["a line of the request", "a line of another thread"] {
        appliance.log.event(line, |event| event["message"] == line);
    }
}

#[test]
fn head_has_the_length_that_the_application_gave_and_no_body() {
    let appliance = start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        client.send("HEAD /own_length HTTP/1.1\r\nHost: test\r\n\r\n");
        let answer = client.answer_to_head();
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("6")));
        assert_eq!(client.get("/a_list").text(), "onetwo", "the connection goes on");
    }
}

#[test]
fn a_connection_serves_many_requests() {
    let appliance = start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        for target in ["/a_list", "/a_generator", "/nothing", "/no_content", "/with_write", "/a_list"] {
            client.get(target);
        }
        assert_eq!(client.get_with("/a_list", "Connection: close\r\n").text(), "onetwo");
        assert!(client.is_closed());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let appliance = Setup::app("facts:application").start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        let requests: Vec<String> = (0..20)
            .map(|n| {
                format!(
                    "GET /{}?s=0.01&n={n} HTTP/1.1\r\nHost: test\r\nX-Number: {n}\r\n\r\n",
                    ["sleep", "environ"][n % 2]
                )
            })
            .collect();
        client.send(requests.concat());
        for n in 0..20 {
            let answer = client.answer();
            assert_eq!(answer.status, 200);
            if n % 2 == 1 {
                assert_eq!(answer.json()["HTTP_X_NUMBER"], n.to_string());
            }
        }
    }
}

#[test]
fn http_1_0_gets_no_chunks_and_a_closed_connection() {
    let appliance = start();
    for (mut client, host) in [(appliance.client(), "Host: test\r\n"), (appliance.worker_client(1), "")] {
        client.send(format!("GET /a_generator HTTP/1.0\r\n{host}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.framing, answer.text().as_str()), (Framing::Close, "onetwo"));
    }
}

#[test]
fn http_1_0_may_ask_for_keep_alive() {
    let appliance = start();
    let mut client = appliance.worker_client(1);
    for _ in 0..2 {
        client.send("GET /a_list HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.answer().text(), "onetwo");
    }
}

/// Writes a thousand pieces to a client that is always faster, and says whether its worker has served another request
/// meanwhile: one that it has sent itself, to the socket that the query names.
const GREEDY: &str = r#"
import socket

served = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/go":
        served.append(True)
        start_response("200 OK", [])
        return []
    other = socket.socket(socket.AF_UNIX)
    other.connect(environ["QUERY_STRING"])
    other.sendall(b"GET /go HTTP/1.1\r\nHost: test\r\n\r\n")
    write = start_response("200 OK", [])
    for _ in range(1000):
        write(b".")
    return [b"the other was served" if served else b"the other still waits"]
"#;

#[test]
fn who_writes_to_a_fast_client_lets_the_others_have_their_turn() {
    let appliance = Setup::code(GREEDY).start();
    let target = format!("/?{}", appliance.socket(1).display());
    let text = appliance.worker_client(1).get(&target).text();
    assert!(text.ends_with("the other was served"), "{text}");
}

fn continued(mut client: Client) {
    client.send("POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer().status, 100);
    client.send("hello");
    assert_eq!(client.answer().json()["length"], 5);
}

#[test]
fn a_client_that_asks_is_told_to_continue() {
    let appliance = Setup::app("facts:application").start();
    continued(appliance.client());
    continued(appliance.worker_client(1));
}

#[test]
fn a_large_body_is_told_to_continue_only_when_it_may() {
    let appliance = Setup::app("facts:application").set("limits.body", "1MiB").start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        client.send(
            "POST /upload HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n",
        );
        assert_eq!(client.answer().status, 413);
    }
}
