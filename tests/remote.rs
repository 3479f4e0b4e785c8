//! Caches of other servers: of another appliance, and of a real uWSGI, which uses ours too; and caches that follow each other
//! over UDP. A peer that is away, or silent, is a miss for whoever asked and nothing to anybody else.
use crate::harness::{DEADLINE, Eval, Setup, Side, Uwsgi, caller, free_ports, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

/// With a cache of this name and these settings.
fn cached(setup: Setup, name: &str, settings: &[(&str, &str)]) -> Setup {
    let set = |setup: Setup, (key, value): &(&str, &str)| setup.set(&format!("cache.{name}.{key}"), value);
    settings.iter().fold(setup.set(&format!("cache.{name}.items"), 1000), set)
}

/// Asks for each expression, with `THERE` for a cache, and compares the answers.
#[track_caller]
fn script(eval: impl Fn(&str) -> String, there: &str, lines: &[(&str, &str)]) {
    for (expression, expected) in lines {
        let expression = expression.replace("THERE", &format!("'{there}'"));
        assert_eq!(eval(&expression), *expected, "{expression}");
    }
}

const USUAL: [(&str, &str); 14] = [
    ("uwsgi.cache_del('k', THERE) in (True, None)", "True"),
    ("uwsgi.cache_get('k', THERE)", "None"),
    ("uwsgi.cache_exists('k', THERE)", "None"),
    ("uwsgi.cache_set('k', 'v', 0, THERE)", "True"),
    ("uwsgi.cache_set('k', 'w', 0, THERE)", "None"),
    ("uwsgi.cache_get('k', THERE)", "b'v'"),
    ("uwsgi.cache_exists('k', THERE)", "True"),
    ("uwsgi.cache_update('k', bytes(range(256)), 60, THERE)", "True"),
    ("uwsgi.cache_get('k', THERE) == bytes(range(256))", "True"),
    ("uwsgi.cache_update('k', 'x' * 60000, 0, THERE)", "True"),
    ("len(uwsgi.cache_get('k', THERE))", "60000"),
    ("uwsgi.cache_del('k', THERE)", "True"),
    ("uwsgi.cache_del('k', THERE)", "None"),
    ("uwsgi.cache_set('k', '', 0, THERE)", "None"),
];

#[test]
fn another_appliance_has_the_cache_over_tcp_and_a_unix_socket() {
    let address = format!("127.0.0.1:{}", free_ports(1));
    let listen = format!("[\"{address}\", \"unix:cache.sock\"]");
    let there = cached(caller().workers(2), "pages", &[("listen", &listen)]);
    let there = cached(there, "other", &[]).start();
    let here = caller().start();
    let socket = there.dir().path().join("cache.sock");
    for node in [format!("pages@{address}"), format!("@{address}"), format!("pages@{}", socket.display())] {
        script(|text| here.eval(text), &node, &USUAL);
    }
    let node = format!("pages@{address}");
    script(
        |text| here.eval(text),
        &node,
        &[
            ("uwsgi.cache_inc('n', 5, 0, THERE)", "True"),
            ("uwsgi.cache_inc('n', 3, 0, THERE)", "True"),
            ("uwsgi.cache_mul('n', 4, 0, THERE)", "True"),
            ("uwsgi.cache_dec('n', 2, 0, THERE)", "True"),
            ("uwsgi.cache_div('n', 3, 0, THERE)", "True"),
            ("uwsgi.cache_num('n', THERE)", "10"),
            ("uwsgi.cache_clear(THERE)", "True"),
            ("uwsgi.cache_num('n', THERE)", "0"),
            ("uwsgi.cache_update('e', 'v', 1, THERE)", "True"),
        ],
    );
    until("it expires", || here.eval(&format!("uwsgi.cache_get('e', '{node}')")) == "None");
    assert_eq!(there.eval("uwsgi.cache_set('local', 'v', 0, 'pages')"), "True");
    assert_eq!(here.eval(&format!("uwsgi.cache_get('local', '{node}')")), "b'v'");
    // What is not shared is not there for others.
    assert_eq!(here.eval(&format!("uwsgi.cache_set('k', 'v', 0, 'other@{address}')")), "None");
}

#[test]
fn uwsgi_uses_our_cache_and_we_use_its() {
    let uwsgi = Uwsgi::start(&["--cache2", "name=pages,items=100,blocksize=70000"]);
    let address = format!("127.0.0.1:{}", free_ports(1));
    let here = cached(caller(), "pages", &[("listen", &address)]).start();
    script(|text| here.eval(text), &format!("pages@{}", uwsgi.address), &USUAL);
    script(|text| here.eval(text), &format!("@{}", uwsgi.address), &USUAL);
    script(|text| uwsgi.eval(text), &format!("pages@{address}"), &USUAL);
    script(|text| uwsgi.eval(text), &format!("@{address}"), &USUAL);
    // It does not know our counters, and is not harmed by them.
    assert_eq!(here.eval(&format!("uwsgi.cache_inc('n', 1, 0, 'pages@{}')", uwsgi.address)), "None");
    assert_eq!(uwsgi.eval("uwsgi.cache_exists('n', 'pages')"), "None");
    assert_eq!(uwsgi.eval(&format!("uwsgi.cache_clear('pages@{address}')")), "True");
}

#[test]
fn caches_follow_each_other_over_udp() {
    let ports = free_ports(2);
    let [one, other] = [ports, ports + 1].map(|port| format!("127.0.0.1:{port}"));
    let mirror = |udp: &str, nodes: &str| cached(caller(), "sync", &[("udp", udp), ("nodes", nodes)]).start();
    let (here, there) = (mirror(&one, &other), mirror(&other, &one));
    for (from, to) in [(&here, &there), (&there, &here)] {
        let sees = |expression: &str, expected: &str| until(expression, || to.eval(expression) == expected);
        assert_eq!(from.eval("uwsgi.cache_set('k', 'v', 0, 'sync')"), "True");
        sees("uwsgi.cache_get('k', 'sync')", "b'v'");
        assert_eq!(from.eval("uwsgi.cache_update('k', 'w', 60, 'sync')"), "True");
        sees("uwsgi.cache_get('k', 'sync')", "b'w'");
        assert_eq!(from.eval("uwsgi.cache_del('k', 'sync')"), "True");
        sees("uwsgi.cache_exists('k', 'sync')", "None");
        assert_eq!(from.eval("[uwsgi.cache_inc('n', 5), uwsgi.cache_inc('n', 2)]"), "[True, True]");
        sees("uwsgi.cache_num('n')", "7");
        assert_eq!(from.eval("uwsgi.cache_clear('sync')"), "True");
        sees("uwsgi.cache_keys('sync')", "[]");
    }
}

#[test]
fn a_cache_follows_that_of_uwsgi_and_the_other_way_round() {
    let ports = free_ports(2);
    let [ours, theirs] = [ports, ports + 1].map(|port| format!("127.0.0.1:{port}"));
    let uwsgi = Uwsgi::start(&["--cache2", &format!("name=sync,items=100,udp={theirs},nodes={ours}")]);
    let here = cached(caller(), "sync", &[("udp", &ours), ("nodes", &theirs)]).start();
    let sees = |eval: Side<'_>, expression: &str, expected: &str| {
        until(expression, || eval(expression) == expected);
    };
    let (of_us, of_them): (Side<'_>, Side<'_>) =
        (&|text: &str| here.eval(text), &|text: &str| uwsgi.eval(text));
    assert_eq!(of_them("uwsgi.cache_set('a', 'v', 60, 'sync')"), "True");
    sees(of_us, "uwsgi.cache_get('a', 'sync')", "b'v'");
    assert_eq!(of_them("uwsgi.cache_del('a', 'sync')"), "True");
    sees(of_us, "uwsgi.cache_exists('a', 'sync')", "None");
    assert_eq!(of_us("uwsgi.cache_set('b', 'v', 60, 'sync')"), "True");
    sees(of_them, "uwsgi.cache_get('b', 'sync')", "b'v'");
    // The removals of uWSGI itself are ignored by it; ours are not.
    assert_eq!(of_us("uwsgi.cache_del('b', 'sync')"), "True");
    sees(of_them, "uwsgi.cache_exists('b', 'sync')", "None");
}

#[test]
fn a_peer_that_is_away_or_silent_is_a_miss() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (silent, address)).unwrap();
    let here = caller().set("timeouts.remote", "1s").start();
    for node in [
        "pages@127.0.0.1:1".to_owned(),
        "pages@/no/such.sock".to_owned(),
        "pages@@nobody".to_owned(),
        "pages@nonsense".to_owned(),
        format!("pages@{}", silent.1),
    ] {
        script(
            |text| here.eval(text),
            &node,
            &[
                ("uwsgi.cache_get('k', THERE)", "None"),
                ("uwsgi.cache_set('k', 'v', 0, THERE)", "None"),
                ("uwsgi.cache_inc('k', 1, 0, THERE)", "None"),
                ("uwsgi.cache_num('k', THERE)", "0"),
            ],
        );
    }
    until("the log says why", || here.log.text().contains("has not answered in time (timeouts.remote)"));
}

#[test]
fn hostile_questions_change_nothing() {
    let address = format!("127.0.0.1:{}", free_ports(1));
    let udp = format!("127.0.0.1:{}", free_ports(1));
    let setup =
        cached(caller().set("timeouts.remote", "1s"), "pages", &[("listen", &address), ("udp", &udp)]);
    let appliance = setup.start();
    assert_eq!(appliance.eval("uwsgi.cache_set('k', 'v')"), "True");
    let dump = b"\x6f\x00\x00\x06".to_vec();
    let call = b"\xad\x07\x00\x00\x05\x00hello".to_vec();
    let huge =
        b"\x6f\x29\x00\x11\x03\x00cmd\x06\x00update\x03\x00key\x01\x00k\x04\x00size\x0c\x00999999999999"
            .to_vec();
    for bytes in [dump, call, huge, b"\x6f\xff\xff\x11\x03".to_vec(), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{bytes:?}");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for datagram in
        [&b""[..], b"\x6f", b"\x6f\x02\x00\x0b\x00\x00", b"\x6f\xff\xff\x0a\x01\x00k", &[0xff; 60_000]]
    {
        socket.send_to(datagram, &udp).unwrap();
    }
    socket.send_to(b"\x6f\x08\x00\x0a\x01\x00s\x01\x00v\x00\x00", &udp).unwrap();
    socket.send_to(b"\x6f\x06\x00\x0a\x01\x00t\x01\x00v", &udp).unwrap();
    until("what is well formed is followed", || appliance.eval("uwsgi.cache_get('t')") == "b'v'");
    assert_eq!(appliance.eval("[uwsgi.cache_get('k'), uwsgi.cache_exists('s')]"), "[b'v', None]");
}
