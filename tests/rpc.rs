//! Procedures: called here, in another worker, in another appliance, and in a real uWSGI; by it too. Nobody waits but whoever
//! calls, and nobody calls who may not.
use crate::harness::{Appliance, DEADLINE, Eval, Setup, Side, Uwsgi, caller, free_ports, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

/// Somebody who answers no more than the kernel does.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// One that can be called at the address that is answered too.
fn callable(setup: Setup) -> (Appliance, String) {
    let address = format!("127.0.0.1:{}", free_ports(1));
    (setup.set("rpc.listen", &address).start(), address)
}

/// A call as it goes on the wire.
fn call(items: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> =
        items.iter().flat_map(|item| [&(item.len() as u16).to_le_bytes()[..], item].concat()).collect();
    let [low, high] = (body.len() as u16).to_le_bytes();
    [&[173, low, high, 0][..], &body].concat()
}

/// What is answered to these bytes before the connection is closed.
fn exchange(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // It may be closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn a_procedure_of_this_worker_takes_and_gives_bytes_and_text() {
    let appliance = caller().start();
    for (expression, expected) in [
        ("uwsgi.rpc(None, b'hello', b'a', b'b')", "b'hello a,b'"),
        ("uwsgi.rpc('', 'hello', 'a')", "b'hello a'"),
        ("uwsgi.call('hello', bytearray(b'a'))", "b'hello a'"),
        ("len(uwsgi.rpc(None, 'big', '100000'))", "100000"),
        ("uwsgi.rpc(None, 'boom')", "None"),
        ("uwsgi.rpc(None, 'number')", "None"),
        ("uwsgi.rpc(None, 'nope')", "None"),
        ("b'hello' in uwsgi.rpc_list()", "True"),
        ("uwsgi.register_rpc('late', lambda: 'text') and uwsgi.call('late')", "b'text'"),
        ("uwsgi.rpc(None)", "ValueError: unable to call rpc function: it has no name"),
        ("uwsgi.rpc(None, 'hello', 3)", "TypeError: a procedure takes bytes or text, not int"),
    ] {
        assert_eq!(appliance.eval(expression), expected, "{expression}");
    }
    until("the exception is logged", || appliance.log.text().contains("ValueError: boom"));
}

#[test]
fn the_modern_form_says_why_nothing_came_of_a_call() {
    let (appliance, address) = callable(caller());
    let import = "__import__('appliance').rpc";
    for (call, expected) in [
        ("call('hello', 'a')".to_owned(), "b'hello a'"),
        (format!("call('hello', 'a', node='{address}')"), "b'hello a'"),
        ("call('boom')".to_owned(), "ValueError: boom"),
        (
            "call('nope')".to_owned(),
            "RpcError: there is no procedure \"nope\" in this worker; see appliance.rpc.names()",
        ),
        ("call('number')".to_owned(), "RpcError: the procedure \"number\" gave neither bytes nor text"),
        (
            "call('f', node='x')".to_owned(),
            "RpcError: \"x\" is no address; write \"10.0.0.1:3031\", \"[::1]:3031\", \"/run/app.sock\" or \"@name\"",
        ),
        (
            "call('f', node='127.0.0.1:1')".to_owned(),
            "RpcError: cannot connect to 127.0.0.1:1: Connection refused",
        ),
        (
            "call('f', 'x' * 70000, node='127.0.0.1:1')".to_owned(),
            "RpcError: the packet would have more than 65535 bytes, which the uwsgi protocol cannot say",
        ),
    ] {
        assert_eq!(appliance.eval(&format!("{import}.{call}")), expected, "{call}");
    }
    let refused = appliance.eval(&format!("{import}.call('boom', node='{address}')"));
    assert!(refused.contains("has closed the connection without an answer"), "{refused}");
    let awaited = format!("__import__('appliance').wait({import}.acall('hello', 'b', node='{address}'))");
    assert_eq!(appliance.eval(&awaited), "b'hello b'");
}

#[test]
fn another_worker_is_called_and_says_why_it_fails() {
    let appliance = caller().workers(2).start();
    appliance.wait_for_workers();
    for worker in ["1", "2"] {
        let node = format!("worker:{worker}");
        assert_eq!(appliance.eval(&format!("uwsgi.rpc('{node}', 'worker')")), format!("b'{worker}'"));
        assert_eq!(appliance.eval(&format!("len(uwsgi.rpc('{node}', 'big', '70000'))")), "70000");
    }
    let both = "[__import__('appliance').rpc.call('boom', node=f'worker:{3 - uwsgi.worker_id()}')]";
    assert_eq!(appliance.eval(both), "RpcError: the procedure \"boom\" failed: ValueError: boom");
    assert_eq!(appliance.eval("uwsgi.rpc('worker:0', 'hello')"), "None");
    assert_eq!(appliance.eval("uwsgi.rpc('worker:9', 'hello')"), "None");
    let nobody = appliance.eval("[__import__('appliance').rpc.call('hello', node='worker:9')]");
    assert!(nobody.starts_with("RpcError: worker 9 cannot be reached"), "{nobody}");
}

#[test]
fn procedures_run_on_threads_too() {
    let (appliance, address) = callable(caller().set("app.suspend", "thread"));
    assert_eq!(appliance.eval(&format!("uwsgi.rpc('{address}', 'hello', 'a')")), "b'hello a'");
    assert_eq!(appliance.eval(&format!("uwsgi.rpc('{address}', 'napping', '0.01')")), "b'awake'");
    assert_eq!(appliance.eval(&format!("uwsgi.rpc('{address}', 'boom')")), "None");
}

#[test]
fn a_procedure_that_suspends_holds_nobody() {
    let (appliance, address) = callable(caller());
    let mut waiting = TcpStream::connect(&address).unwrap();
    waiting.write_all(&call(&[b"napping", b"30"])).unwrap();
    until("the call is seen", || appliance.tell(&["requests"]).1.contains("napping"));
    assert_eq!(appliance.eval(&format!("uwsgi.rpc('{address}', 'hello')")), "b'hello '");
}

#[test]
fn uwsgi_calls_and_is_called() {
    let uwsgi = Uwsgi::start(&[]);
    let (appliance, address) = callable(caller());
    let sides: [(Side<'_>, String); 2] =
        [(&|text| appliance.eval(text), uwsgi.address.to_string()), (&|text| uwsgi.eval(text), address)];
    for (here, there) in sides {
        let call = |rest: &str| here(&format!("uwsgi.rpc('{there}', {rest})"));
        assert_eq!(call("b'hello', b'a', bytes(range(256))"), call("b'hello', b'a', bytes(range(256))"));
        assert_eq!(call("b'hello', b'a', b'b'"), "b'hello a,b'");
        assert_eq!(call("b'big', b'65535'"), format!("b'{}'", "x".repeat(65_535)));
        assert_eq!(call("b'big', b'200000'"), format!("b'{}'", "x".repeat(200_000)));
        assert!(["None", "b''"].contains(&call("b'boom'").as_str()));
        assert!(["None", "b''"].contains(&call("b'nope'").as_str()));
    }
}

#[test]
fn a_silent_peer_costs_its_caller_a_moment_and_nobody_else_anything() {
    let (_listener, address) = silent();
    let appliance = caller().set("timeouts.remote", "1s").start();
    let mut caller = appliance.client();
    let expression = format!("uwsgi.rpc('{address}', 'hello')");
    let began = Instant::now();
    caller.send(format!(
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{expression}",
        expression.len()
    ));
    assert_eq!(appliance.eval("1"), "1");
    assert_eq!(caller.answer().text(), "None");
    assert!(began.elapsed() >= Duration::from_secs(1));
    until("the log says why", || appliance.log.text().contains("has not answered in time (timeouts.remote)"));
}

#[test]
fn a_name_is_looked_up_beside_the_loop() {
    let (appliance, address) = callable(caller());
    let port = address.split_once(':').unwrap().1;
    assert_eq!(appliance.eval(&format!("uwsgi.rpc('localhost:{port}', 'hello', 'a')")), "b'hello a'");
    assert_eq!(appliance.eval(&format!("uwsgi.rpc('no-such-host.invalid:{port}', 'hello')")), "None");
}

#[test]
fn hostile_bytes_call_nothing() {
    let (appliance, address) = callable(caller().set("timeouts.remote", "1s"));
    let vars = b"\x00\x12\x00\x00\x0a\x00UWSGI_FILE\x04\x00/etc";
    let cache = b"\x6f\x12\x00\x11\x03\x00cmd\x03\x00get\x03\x00key\x01\x00k";
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"[..],
        b"\xad\x00\x00\x00",
        b"\xad\x02\x00\x00\xff\xff",
        b"\xad\xff\xff\x00\x01",
        b"\xad\x03\x00\x02\x01\x00f",
        vars,
        cache,
        b"",
    ] {
        assert_eq!(exchange(&address, bytes), b"", "{bytes:?}");
    }
    assert_eq!(exchange(&address, &call(&[b"hello", b"you"])), b"\xad\x09\x00\x00hello you");
    assert_eq!(appliance.eval("1"), "1");
}

#[test]
fn too_many_calls_and_too_long_results_are_refused() {
    let (appliance, address) = callable(caller().set("rpc.calls", 1).set("limits.remote", "1KiB"));
    assert_eq!(exchange(&address, &call(&[b"big", b"1024"])).len(), 4 + 1024);
    assert_eq!(exchange(&address, &call(&[b"big", b"1025"])), b"");
    let mut waiting = TcpStream::connect(&address).unwrap();
    waiting.write_all(&call(&[b"napping", b"30"])).unwrap();
    until("the call is seen", || appliance.tell(&["requests"]).1.contains("napping"));
    assert_eq!(exchange(&address, &call(&[b"hello"])), b"");
    until("the log says why", || appliance.log.text().contains("rpc.calls is reached"));
}

#[test]
fn a_listener_outlives_workers_and_reloads_and_goes_when_it_is_not_configured() {
    let setup = caller().by_file();
    let port = free_ports(1);
    let socket = setup.dir().path().join("rpc.sock");
    let file =
        |listen: &str| format!("listen = \"127.0.0.1:0\"\nworkers.count = 2\n[rpc]\nlisten = {listen}\n");
    let both = file(&format!("[\"127.0.0.1:{port}\", \"unix:rpc.sock\"]"));
    setup.dir().write("appliance.toml", &both);
    let appliance = setup.start();
    let node = format!("127.0.0.1:{port}");
    let hello = |node: &str| appliance.eval(&format!("uwsgi.rpc('{node}', 'hello', 'a')"));
    assert_eq!(
        (hello(&node), hello(&socket.display().to_string())),
        ("b'hello a'".into(), "b'hello a'".into())
    );
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let (code, _, said) = appliance.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        (hello(&node), hello(&socket.display().to_string())),
        ("b'hello a'".into(), "b'hello a'".into())
    );
    appliance.dir().write("appliance.toml", &file(&format!("[\"{node}\"]")));
    let (code, _, said) = appliance.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!socket.exists());
    assert_eq!(hello(&node), "b'hello a'");
}

#[test]
fn a_workers_own_socket_takes_calls_and_nothing_else_of_this_protocol() {
    let appliance = caller().start();
    let mut client = appliance.worker_client(1);
    client.send(call(&[b"hello", b"you"]));
    assert_eq!(client.rest(), b"\xad\x09\x00\x00hello you");
    let mut client = appliance.worker_client(1);
    client.send(b"\x6f\x12\x00\x11\x03\x00cmd\x03\x00get\x03\x00key\x01\x00k");
    client.finish();
    assert!(client.rest().starts_with(b"HTTP/1.1 400"));
}
