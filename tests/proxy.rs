//! The proxy as clients and log readers see it: who the client is, what cannot be forged, what is refused, what is logged.
use crate::harness::{Answer, Appliance, Client, Setup, free_ports, until};
use nix::sys::signal::Signal;
use serde_json::Value;

fn start() -> Appliance {
    Setup::app("facts:application").start()
}

#[test]
fn the_application_sees_the_client_s_address() {
    let appliance = start();
    let mut client = appliance.client();
    let environ = client.get("/environ").json();
    assert_eq!(environ["REMOTE_ADDR"], "127.0.0.1");
    assert_eq!(environ["REMOTE_PORT"], client.local().port().to_string());
    assert_eq!((&environ["wsgi.url_scheme"], &environ["HTTP_HOST"]), (&"http".into(), &"test".into()));
}

const FORWARDED: &str =
    "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.example\r\n";

#[test]
fn strangers_cannot_say_for_whom_they_ask() {
    let appliance = start();
    let environ =
        appliance.client().get_with("/environ", &format!("{FORWARDED}Forwarded: for=192.0.2.7\r\n")).json();
    assert_eq!(environ["REMOTE_ADDR"], "127.0.0.1");
    assert_eq!(environ["HTTP_X_FORWARDED_FOR"], "127.0.0.1");
    assert_eq!((&environ["wsgi.url_scheme"], &environ["HTTP_HOST"]), (&"http".into(), &"test".into()));
    assert_eq!(
        (&environ["HTTP_X_FORWARDED_PROTO"], &environ["HTTP_FORWARDED"]),
        (&"http".into(), &Value::Null)
    );
}

#[test]
fn trusted_peers_can() {
    let appliance = Setup::app("facts:application").set("proxy.trusted", r#"["127.0.0.1"]"#).start();
    let environ = appliance.client().get_with("/environ", FORWARDED).json();
    assert_eq!(environ["REMOTE_ADDR"], "192.0.2.7");
    assert_eq!(environ["HTTP_X_FORWARDED_FOR"], "192.0.2.7, 127.0.0.1");
    assert_eq!(
        (&environ["wsgi.url_scheme"], &environ["HTTP_HOST"]),
        (&"https".into(), &"shop.example".into())
    );
}

#[test]
fn private_headers_cannot_be_forged_and_are_not_shown() {
    let appliance = start();
    let lines = "X-Appliance-Peer: 192.0.2.1:99\r\nx-appliance-scheme: https\r\nX-Appliance-Server: evil:1\r\nProxy: evil\r\n\
                 X_Appliance_Peer: 192.0.2.1:99\r\nX-Appliance-Core: 9 9\r\n";
    let answer = appliance.client().get_with("/environ", lines);
    let environ = answer.json();
    assert_eq!((&environ["REMOTE_ADDR"], &environ["wsgi.url_scheme"]), (&"127.0.0.1".into(), &"http".into()));
    assert_eq!(environ["SERVER_NAME"], "127.0.0.1");
    assert!(
        environ.as_object().unwrap().keys().all(|key| !key.contains("APPLIANCE") && key != "HTTP_PROXY"),
        "{environ}"
    );
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("x-appliance-")), "{answer:?}");
}

#[test]
fn the_access_log_says_everything_about_a_request() {
    let appliance = Setup::app("facts:application").workers(2).start();
    let answer = appliance.get("/sleep?s=0.1");
    let id = answer.header("x-request-id").unwrap();
    let line =
        appliance.log.event("the request's id", |event| event["kind"] == "access" && event["id"] == id);
    let facts = answer.json();
    assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/sleep?s=0.1".into()));
    assert_eq!(
        (&line["client"], &line["status"], &line["tries"]),
        (&"127.0.0.1".into(), &200.into(), &1.into())
    );
    assert_eq!((&line["worker"], &line["core"]), (&facts["worker"], &facts["core"]));
    assert_eq!(line["bytes"], answer.body.len());
    let (total, app) = (line["ms"].as_f64().unwrap(), line["app_ms"].as_f64().unwrap());
    assert!(total >= app && app >= 100.0 && total < 5000.0, "{line}");
}

#[test]
fn the_request_id_is_the_application_s_too() {
    let appliance = start();
    let answer = appliance.get("/environ");
    assert_eq!(answer.header("x-request-id"), answer.json()["HTTP_X_REQUEST_ID"].as_str());
}

#[test]
fn the_access_log_can_be_turned_off() {
    let appliance = Setup::app("facts:application").set("log.access", false).start();
    appliance.get("/");
    appliance.signal(Signal::SIGHUP);
    appliance.log.event("the end of the reload", |event| event["message"] == "reloaded");
    assert!(appliance.log.events().iter().all(|event| event["kind"] != "access"));
}

#[test]
fn a_large_answer_streams_through() {
    let appliance = start();
    let answer = appliance.get("/pieces?count=500&size=100000");
    assert_eq!(answer.body.len(), 50_000_000);
    assert!(answer.body.iter().all(|byte| *byte == b'x'));
}

#[test]
fn a_large_upload_streams_through() {
    let appliance = start();
    let body = vec![b'u'; 15 << 20];
    let answer = appliance.client().post("/upload", &body);
    assert_eq!(answer.json()["length"], body.len());
    let chunks: Vec<&[u8]> = body.chunks(1 << 20).collect();
    assert_eq!(appliance.client().post_chunks("/upload", &chunks).json()["length"], body.len());
}

#[test]
fn a_reader_that_is_slow_holds_up_nobody() {
    let appliance = start();
    let mut slow = appliance.client();
    slow.send("GET /pieces?count=500&size=100000 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(appliance.get("/").status, 200);
    assert_eq!(slow.answer().body.len(), 50_000_000);
}

#[test]
fn an_upgrade_that_the_application_does_not_take_is_an_ordinary_request() {
    let appliance = start();
    let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut client = appliance.client();
    let answer = client.get_with("/environ", lines);
    assert_eq!((answer.status, answer.json()["HTTP_UPGRADE"].as_str()), (200, Some("websocket")));
    assert_eq!(appliance.get("/").status, 200);
}

/// Two ready workers, and the port of the admin endpoint.
fn start_with_admin(cores: u32) -> (Appliance, u16) {
    let port = free_ports(1);
    let setup = Setup::app("facts:application").workers(2).set("workers.cores", cores);
    let appliance = setup.set("admin.listen", format!("127.0.0.1:{port}")).start();
    appliance.wait_for_workers();
    (appliance, port)
}

fn ask(admin: u16, target: &str) -> Answer {
    Client::tcp(([127, 0, 0, 1], admin).into()).unwrap().get(target)
}

#[test]
fn requests_go_to_the_worker_with_free_cores() {
    let (appliance, admin) = start_with_admin(1);
    until("both workers are idle", || {
        let status = ask(admin, "/status").json();
        status["workers"].as_array().unwrap().iter().all(|worker| worker["busy"] == 0)
    });
    let (answers, _) = appliance.get_all(&["/sleep?s=0.5", "/sleep?s=0.5"]);
    assert_ne!(answers[0].json()["worker"], answers[1].json()["worker"]);
}

#[test]
fn a_worker_s_own_listener_refuses_what_is_beyond_its_waiting_places_and_the_proxy_holds_it() {
    let appliance = Setup::app("facts:application").set("workers.cores", 1).set("limits.waiting", 0).start();
    let mut busy = appliance.client();
    busy.send("GET /sleep?s=1 HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the worker is busy", || appliance.worker_client(1).get("/").status == 503);
    let answer = appliance.worker_client(1).get("/");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(appliance.get("/").status, 200);
    assert_eq!(busy.answer().status, 200);
}

#[test]
fn the_admin_endpoint_tells_health_readiness_and_status() {
    let (appliance, admin) = start_with_admin(100);
    let status_of = |target: &str| ask(admin, target).status;
    assert_eq!((status_of("/healthz"), status_of("/readyz"), status_of("/nothing")), (200, 200, 404));
    let status = ask(admin, "/status").json();
    assert!(status.to_string().contains(&appliance.process("worker 2").pid.to_string()), "{status}");
}

/// Says `begun` to the log, and answers a little later.
const SLOW: &str = "
import appliance, sys
def application(environ, start_response):
    if environ['REQUEST_METHOD'] == 'POST':
        print('begun', file=sys.stderr, flush=True)
        appliance.sleep(0.3)
    start_response('200 OK', [])
    return [b'ok']
";

#[test]
fn no_head_of_a_client_can_cost_the_others_their_link() {
    let appliance = Setup::code(SLOW).set("proxy.threads", 1).start();
    let mut other = appliance.client();
    other.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    until("the application runs", || appliance.log.text().contains("begun"));
    let mut client = appliance.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(60_000)));
    assert_eq!(client.answer().status, 431);
    assert_eq!(other.answer().status, 200);
}
