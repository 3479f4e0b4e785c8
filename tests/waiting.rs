//! uWSGI's calls that wait for descriptors of the application's own, and its small calls: only whoever calls waits, in requests
//! on both engines, in threads and on cores that coroutines wait for.
use crate::harness::{Appliance, ENGINES, Setup, everywhere, until};
use std::io::{Read, Write};
use std::net::TcpListener;

fn start_on(engine: &str) -> Appliance {
    Setup::app("waiting:application").set("app.suspend", engine).set("workers.cores", 10).start()
}

/// What `target` answers whose peer answers only after another request of the only worker has been served.
#[track_caller]
fn with_slow_peer(appliance: &Appliance, target: &str) -> String {
    let peer = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("/{target}?peer={}", peer.local_addr().unwrap());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| appliance.get(&target).text());
        let (mut stream, _) = peer.accept().unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello");
        assert_eq!(appliance.get("/now").text(), "'now'");
        stream.write_all(b"answer").unwrap();
        drop(stream);
        waiting.join().unwrap()
    })
}

#[test]
fn only_whoever_talks_to_a_slow_peer_waits() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for target in ["exchange", "in_a_thread", "on_core"] {
            let expected = "[True, True, True, b'answer', None, None, False, None]";
            assert_eq!(with_slow_peer(&appliance, target), expected, "{target} on {engine}");
        }
        let expected = "[True, True, True, True, b'answer', None]";
        assert_eq!(with_slow_peer(&appliance, "announced"), expected, "{engine}");
    }
}

#[test]
fn coroutines_are_told_not_to_keep_the_loop() {
    for engine in ENGINES {
        let text = start_on(engine).get("/on_the_loop").text();
        assert!(text.contains("uwsgi.recv() works only inside a request or in a thread"), "{text}");
    }
}

#[test]
fn who_is_not_there_is_no_exception() {
    everywhere(start_on, &[("/nobody", "[-1, -1, None, None, None, None, True]")]);
}

#[test]
fn what_does_not_fit_at_once_is_waited_for() {
    everywhere(start_on, &[("/much", "[1000000, 1000000]")]);
}

#[test]
fn the_connections_of_the_server_are_out_of_reach() {
    for engine in ENGINES {
        let appliance = start_on(engine);
        for mut client in [appliance.client(), appliance.worker_client(1)] {
            client.get("/own_connection");
        }
        // Afterwards the number may be free, of which `None` tells. Their answers had ended before they did.
        let expected = "[[True, True, True, True, True, True], [True, True, True, True, True, True]]";
        until("both have seen it", || {
            appliance.get("/afterwards").text().replace("None", "True") == expected
        });
    }
}

#[test]
fn small_calls_are_answered_in_requests_and_threads() {
    everywhere(
        start_on,
        &[
            ("/now", "'now'"),
            ("/small_calls", "[1, 0, True, 0, None, None, b'\"\"\"', 'renamed', 0, True, 1, True, None]"),
            (
                "/refused",
                "['uwsgi.accepting(0)', 'there is no socket 1', 'no mule configured', \
             'no data named x is embedded in this server']",
            ),
        ],
    );
}

#[test]
fn warnings_and_alarms_are_in_the_log() {
    let appliance = start_on("greenlet");
    appliance.get("/small_calls");
    appliance.log.wait_for("a warning from the application");
    appliance.log.wait_for("an alarm from the application");
}
