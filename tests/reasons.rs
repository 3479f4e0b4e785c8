//! Why a request ended, as the access log says it: the client, a limit, a deadline, the application or a worker. A failure
//! that the application answers itself is none of them.
use crate::harness::{Admin, Appliance, Setup, until};

/// One function for each way to end.
const ENDINGS: &str = "endings:application";

fn site(change: impl FnOnce(Setup) -> Setup) -> (Appliance, Admin) {
    let (setup, admin) = Admin::of(Setup::app(ENDINGS));
    (change(setup).start(), admin)
}

/// Status and reason of its line.
#[track_caller]
fn ended(appliance: &Appliance, path: &str) -> (u64, String) {
    let line = appliance.log.access(path);
    (line["status"].as_u64().unwrap(), line["reason"].as_str().unwrap_or("none").to_owned())
}

#[test]
fn an_application_s_failure_is_told_from_its_own_answer() {
    let (appliance, admin) = site(|setup| setup);
    let mut ends = Vec::new();
    for path in ["/raises", "/raises_late", "/too_short", "/says_nothing", "/own_failure", "/forges"] {
        let mut client = appliance.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        let said = String::from_utf8_lossy(&client.rest()).to_ascii_lowercase();
        assert!(!said.contains("x-appliance-"), "{said}");
        ends.push(ended(&appliance, path));
        let seen = appliance.get(&format!("/seen?{}", &path[1..])).text();
        assert_eq!(seen, "1", "{path} was executed more than once");
    }
    let expected = [
        (500, "app-error"),
        (200, "app-error"),
        (200, "short-body"),
        (502, "app-cut"),
        (500, "none"),
        (500, "app-error"),
    ];
    assert_eq!(ends, expected.map(|(status, reason)| (status, reason.to_owned())));
    assert_eq!(admin.proxy("errors"), 5, "every one but the application's own answer");
}

#[test]
fn a_worker_that_dies_is_told_from_an_application_that_fails() {
    let (appliance, _) = site(|setup| setup.workers(2));
    assert_eq!(appliance.client().post("/dies", "x").status, 502);
    assert_eq!(ended(&appliance, "/dies"), (502, "worker-died".to_owned()));
}

#[test]
fn a_client_that_leaves_is_the_reason() {
    let (appliance, admin) = site(|setup| setup);
    let mut client = appliance.client();
    client.send("GET /sleeps HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it runs", || admin.workers("busy") == 1);
    drop(client);
    assert_eq!(ended(&appliance, "/sleeps"), (499, "client-gone".to_owned()));
}

#[test]
fn deadlines_and_limits_are_named_with_the_time_they_took() {
    let (appliance, _) = site(|setup| {
        setup
            .set("timeouts.response", "300ms")
            .set("timeouts.header", "200ms")
            .set("limits.body", "1KiB")
            .set("limits.body_buffer", "1KiB")
    });
    assert_eq!(appliance.client().get("/sleeps").status, 504);
    assert_eq!(ended(&appliance, "/sleeps"), (504, "worker-silent".to_owned()));
    assert!(appliance.log.access("/sleeps")["ms"].as_f64().unwrap() >= 290.0);
    assert_eq!(appliance.client().post("/seen?large", [b'x'; 2000]).status, 413);
    assert_eq!(ended(&appliance, "/seen?large"), (413, "body-too-large".to_owned()));
    let mut client = appliance.client();
    client.send("GET /slow HTTP/1.1\r\nHost: ");
    assert_eq!(client.answer().status, 408);
    assert_eq!(ended(&appliance, "/slow"), (408, "slow-head".to_owned()));
    assert!(appliance.log.access("/slow")["ms"].as_f64().unwrap() >= 190.0);
}

#[test]
fn variables_of_the_application_are_logged_and_nobody_else_sees_them() {
    let (appliance, _) = site(|setup| setup);
    let answer = appliance.client().get("/notes");
    let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(
        names.contains(&"x-app") && !names.iter().any(|name| name.starts_with("x-appliance")),
        "{names:?}"
    );
    let expected = serde_json::json!({"user": "jo\u{eb}l \"__x", "cart": "3"});
    assert_eq!(appliance.log.access("/notes")["vars"], expected);
    assert_eq!(appliance.client().get("/notes_and_raises").status, 500);
    assert_eq!(appliance.log.access("/notes_and_raises")["vars"], serde_json::json!({"user": "joe"}));
    assert_eq!(appliance.log.access("/notes_and_raises")["reason"], "app-error");
    let direct = String::from_utf8_lossy(&{
        let mut client = appliance.worker_client(1);
        client.send("GET /notes HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        client.rest()
    })
    .to_ascii_lowercase();
    assert!(direct.contains("x-app: 1") && !direct.contains("x-appliance"), "{direct}");
}

#[test]
fn an_answer_to_an_upgrade_tells_as_much() {
    let (appliance, _) = site(|setup| setup);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(appliance.client().get_with("/notes_and_raises", upgrade).status, 500);
    let line = appliance.log.access("/notes_and_raises");
    assert_eq!((&line["reason"], &line["vars"]["user"]), (&"app-error".into(), &"joe".into()), "{line}");
}
