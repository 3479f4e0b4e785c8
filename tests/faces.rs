//! The awaitable forms of the Python package, wherever a coroutine may run, and caches of other servers by the names that it
//! takes. There is one core: whatever is awaited here must not need that of the request that awaits it.
use crate::harness::{Appliance, Client, Doors, ENGINES, Eval, Setup, Uwsgi, caller, free_ports};
use crate::websockets::peer::Peer;
use std::net::TcpListener;

const COUNTED: &str = "[None, None, b'v', False, True, b'w', b'plain', b'made', 5, -2, True, False]";

fn setup() -> Setup {
    Setup::app("faces:application").set("workers.cores", 1).set("cache.pages.items", 1000)
}

/// Asks for each target in each place where coroutines run, on each engine; the answer must be what stands beside it.
#[track_caller]
fn in_every_place(setup: impl Fn() -> Setup, cases: &[(String, &str)]) {
    for engine in ENGINES {
        for native in ["asgi:faces:asgi", "tornado:faces:handlers"] {
            let doors = Doors::open(setup().set("app.suspend", engine).set("native.app", native));
            for (target, expected) in cases {
                let told = |mut client: Client, target: &str| {
                    let answer = client.get(target);
                    assert_eq!(answer.text(), *expected, "{target}, {engine}, {native}");
                };
                told(doors.appliance.client(), target);
                told(doors.appliance.client(), &format!("/thread{target}"));
                told(Client::tcp(doors.native()).unwrap(), target);
            }
        }
    }
}

/// A server whose cache can be asked by others, and its name for them.
fn shared() -> (Appliance, String) {
    let address = format!("127.0.0.1:{}", free_ports(1));
    (setup().set("cache.pages.listen", &address).start(), format!("pages@{address}"))
}

#[test]
fn awaitable_forms_are_the_same_in_requests_threads_asgi_and_tornado() {
    let (_there, name) = shared();
    let cases = [
        ("/at_once?".to_owned(), "(0, 1, None)"),
        ("/cached?pages".to_owned(), COUNTED),
        (format!("/cached?{name}"), COUNTED),
        ("/locked?".to_owned(), "([0, 2, 3], False, False)"),
        ("/called?".to_owned(), "b'awake'"),
    ];
    in_every_place(setup, &cases);
}

#[test]
fn requests_that_hold_every_core_wait_for_no_core_when_they_await_a_call() {
    for engine in ENGINES {
        for app in ["faces:application", "faces:asgi"] {
            let setup = Setup::app(app).set("workers.cores", 2).set("app.suspend", engine);
            let (answers, _) = setup.start().get_all(&["/called?"; 8]);
            assert!(answers.iter().all(|answer| answer.text() == "b'awake'"), "{app} on {engine}");
        }
    }
}

/// What `/refused` gives, call by call.
fn refused(appliance: &Appliance, name: &str) -> Vec<String> {
    let text = appliance.get(&format!("/refused?{name}")).text();
    let text = text.trim_matches(['[', ']']);
    text.split("', ").flat_map(|part| part.split("\", ")).map(str::to_owned).collect()
}

#[test]
fn what_another_server_cannot_be_asked_is_said_in_a_sentence() {
    let (_there, name) = shared();
    let here = setup().start();
    let said = refused(&here, &name);
    assert_eq!(said[..2], ["'None".to_owned(), "'None".to_owned()]);
    for (said, what) in said[2..5].iter().zip(["what is left of a life", "its keys", "its figures"]) {
        let sentence =
            format!("CacheError: cache {name}: the protocol between servers has no word for {what}");
        assert!(said.contains(&sentence), "{said}");
    }
    for (said, why) in said[5..8].iter().zip([
        "ttl 0.5: another server is told whole seconds",
        "a value that is sent to another server has 1 byte at least",
        "a key has 1 byte at least",
    ]) {
        assert!(said.contains("ValueError: cache ") && said.contains(why), "{said}");
    }
    let kinds = "TypeError: keys and values of a cache are bytes or text, not int";
    assert!(said[8].contains(kinds), "{}", said[8]);
    let unshared = name.replace("pages", "unshared");
    assert!(
        refused(&here, &unshared)[1]
            .contains("has refused it, and the protocol between servers cannot say why")
    );
    assert!(refused(&here, "unshared")[0].contains("LookupError: there is no cache"));
}

#[test]
fn a_server_that_is_away_or_silent_is_named_by_the_exception() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let here = setup().set("timeouts.remote", "1s").start();
    for (name, why) in [
        (
            "pages@127.0.0.1:1".to_owned(),
            "CacheError: cache pages@127.0.0.1:1: cannot connect to 127.0.0.1:1: ",
        ),
        (
            "pages@/no/such.sock".to_owned(),
            "CacheError: cache pages@/no/such.sock: cannot connect to /no/such",
        ),
        ("pages@nonsense".to_owned(), "ValueError: cache pages@nonsense: \"nonsense\" is no address; write "),
        (format!("pages@{address}"), "has not answered in time (timeouts.remote)"),
    ] {
        let said = here.get(&format!("/refused?{name}")).text();
        assert!(said.contains(why), "{said}");
    }
    let said = here.get("/on_the_loop?pages@127.0.0.1:1").text();
    assert!(said.contains("in a coroutine await its form with an `a` before its name"), "{said}");
}

#[test]
fn a_websocket_of_another_request_is_sent_to_from_wherever_coroutines_run() {
    for engine in ENGINES {
        for from in ["/told?", "/thread/told?"] {
            let appliance = setup().set("workers.cores", 2).set("app.suspend", engine).start();
            let mut peer = Peer::open(appliance.client(), "/socket");
            let mut teller = appliance.client();
            teller.send(format!("GET {from} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let sent: usize = (0..16).map(|_| peer.frame().1.len()).sum();
            assert_eq!((sent, peer.text().as_str()), (16_000_000, "told"), "{from} on {engine}");
            assert_eq!(teller.answer().text(), "None");
        }
    }
}

#[test]
fn a_call_that_nobody_awaits_any_more_lets_go_of_its_connection() {
    let setup = || setup().set("timeouts.remote", "10m");
    in_every_place(setup, &[("/given_up?".to_owned(), "(b'o', b'')")]);
}

#[test]
fn requests_and_threads_ask_other_servers_by_the_plain_calls() {
    let uwsgi = Uwsgi::start(&["--cache2", "name=pages,items=100,blocksize=70000"]);
    let (there, name) = shared();
    let here = caller().start();
    let ask =
        |name: &str, call: &str| here.eval(&format!("__import__('appliance').cache.named('{name}').{call}"));
    for name in [&name, &format!("pages@{}", uwsgi.address), &format!("@{}", uwsgi.address)] {
        for (call, expected) in [
            ("delete('k') in (True, False)", "True"),
            ("get('k', b'default')", "b'default'"),
            ("add('k', 'v')", "True"),
            ("add('k', 'w')", "False"),
            ("get_or_set('k', lambda: 'w')", "b'v'"),
            ("set('k', bytes(range(256)), ttl=60)", "None"),
            ("get('k') == bytes(range(256))", "True"),
            ("__contains__('k')", "True"),
            ("delete('k')", "True"),
            ("__contains__('k')", "False"),
        ] {
            assert_eq!(ask(name, call), expected, "{call} at {name}");
        }
    }
    assert_eq!([ask(&name, "incr('n', 5)"), ask(&name, "decr('n', 7, ttl=60)")], ["5", "-2"]);
    assert_eq!(there.tell(&["cache", "keys"]).1, "n\n");
    assert_eq!(ask(&name, "clear()"), "None");
    // uWSGI does not know our counters.
    assert!(ask(&format!("pages@{}", uwsgi.address), "incr('n')").contains("has refused it"));
    assert!(ask("pages@127.0.0.1:1", "get('k')").contains("cannot connect to 127.0.0.1:1"));
}
