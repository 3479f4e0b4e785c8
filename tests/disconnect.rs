//! A request whose client leaves is ended where it waits: through the proxy, on a worker's own socket and on the native
//! listener. The application in `apps/leavers.py` notes what becomes of each.
use crate::harness::{Appliance, Client, Setup, free_ports, until};

pub struct Site {
    pub appliance: Appliance,
    native: u16,
}

impl Site {
    pub fn start(setup: Setup) -> Site {
        let native = free_ports(1);
        let appliance = setup.set("native.base_port", native - 1).start();
        Site { appliance, native }
    }

    /// A client at each door.
    pub fn doors(&self) -> [Client; 3] {
        let native = Client::tcp(([127, 0, 0, 1], self.native).into()).unwrap();
        [self.appliance.client(), self.appliance.worker_client(1), native]
    }

    /// What the application has noted since it was last asked.
    fn log(&self) -> Vec<String> {
        self.appliance.worker_client(1).get("/log").text().lines().map(str::to_owned).collect()
    }

    /// Waits until it has noted so many lines, and gives them.
    #[track_caller]
    pub fn noted(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        until("the application has noted it", || {
            lines.extend(self.log());
            lines.len() >= count
        });
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }

    /// Leaves a request that has begun, at each door, and sees that the application notes this.
    #[track_caller]
    pub fn leave(&self, request: &str, expected: &[&str]) {
        for mut client in self.doors() {
            client.send(request);
            let name = request.split(['/', ' ']).nth(2).unwrap();
            assert_eq!(self.noted(1), [format!("{name} began")]);
            drop(client);
            assert_eq!(self.noted(expected.len()), expected, "{request}");
        }
    }
}

fn site() -> Site {
    // Fewer cores than requests that are left, so that each must be given back.
    Site::start(Setup::app("leavers:application").set("workers.cores", 2))
}

pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

#[test]
fn a_request_is_ended_wherever_it_waits() {
    let site = site();
    for name in ["sleeping", "switched", "descriptor"] {
        let ended = format!("{name}: appliance.ClientDisconnected, True");
        site.leave(&get(&format!("/{name}")), &[&ended]);
    }
    let ended = ["awaiting: appliance.ClientDisconnected, True", "the coroutine: cancelled"];
    site.leave(&get("/awaiting"), &ended);
    let upload = "POST /reading HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
    let upload = format!("{upload}{}", "x".repeat(100_000));
    site.leave(&upload, &["reading: builtins.OSError, False"]);
}

#[test]
fn what_it_returned_is_closed() {
    let site = site();
    for target in ["/chunks", "/chunks/without-end"] {
        for mut client in site.doors() {
            client.send(get(target));
            assert_eq!(site.noted(1), ["chunks began"]);
            drop(client);
            let ended = site.noted(2);
            let by = ["chunks: appliance.ClientDisconnected, True", "chunks: builtins.GeneratorExit, False"];
            // Between two pieces the iterable does not run, so it only hears that it is closed.
            assert!(by.iter().any(|by| ended.contains(&(*by).to_owned())), "{ended:?}");
            assert!(ended.contains(&"chunks: closed".to_owned()), "{ended:?}");
        }
    }
}

#[test]
fn whoever_leaves_while_the_end_of_the_answer_is_sent_is_no_error() {
    let site = site();
    site.leave(&get("/writing"), &["writing: builtins.OSError, False"]);
    assert!(!site.appliance.log.text().contains("Traceback"), "{}", site.appliance.log.text());
}

#[test]
fn what_goes_wrong_when_it_is_closed_is_logged() {
    let site = site();
    for (n, mut client) in (1..).zip(site.doors()) {
        client.send(get("/unclosable"));
        assert_eq!(site.noted(1), ["chunks began"]);
        drop(client);
        let message = "ValueError: cannot be closed";
        until("the log has it", || site.appliance.log.text().matches(message).count() == n);
        site.log();
    }
}

#[test]
fn an_application_may_clean_up_and_greenlets_of_its_own_end_too() {
    let site = site();
    let caught = ["caught: appliance.ClientDisconnected, True", "caught: cleaned up"];
    site.leave(&get("/caught"), &caught);
    for mut client in site.doors() {
        client.send(get("/nested"));
        assert_eq!(site.noted(2), ["nested began", "nested, inner began"]);
        drop(client);
        let ended = site.noted(2);
        assert_eq!(ended[0], "nested: appliance.ClientDisconnected, True");
        assert_eq!(ended[1], "nested, inner: greenlet.GreenletExit, True");
    }
    assert!(!site.appliance.log.text().contains("Traceback"), "{}", site.appliance.log.text());
}

#[test]
fn a_client_that_sends_and_leaves_at_once_is_noticed() {
    let site = site();
    for mut client in site.doors() {
        client.send(get("/sleeping"));
        drop(client);
        let expected = ["sleeping began", "sleeping: appliance.ClientDisconnected, True"];
        // One that is gone before its request was read may not be served at all.
        until("it has left no trace, or both", || {
            let noted = site.log();
            noted.is_empty() || noted == expected || noted == expected[..1]
        });
    }
    until("the cores are free", || site.appliance.get("/log").status == 200 && site.log().is_empty());
}

#[test]
fn a_client_that_leaves_with_another_request_sent_is_noticed() {
    let site = site();
    for mut client in site.doors() {
        client.send(get("/sleeping") + &get("/log").repeat(1000));
        assert_eq!(site.noted(1), ["sleeping began"]);
        drop(client);
        assert_eq!(site.noted(1), ["sleeping: appliance.ClientDisconnected, True"]);
    }
}

#[test]
fn whoever_has_the_whole_answer_does_not_disturb_what_follows_it() {
    let site = site();
    for mut client in site.doors() {
        assert_eq!(client.get("/tail").text(), "done");
        drop(client);
        assert_eq!(site.noted(2), ["tail began", "tail: done"]);
    }
}

#[test]
fn what_goes_wrong_behind_the_whole_answer_is_logged() {
    let site = site();
    for (n, mut client) in (1..).zip(site.doors()) {
        assert_eq!(client.get("/failing").text(), "done");
        let message = "FileNotFoundError: what was to be cleaned up";
        until("the log has it", || site.appliance.log.text().matches(message).count() == n);
    }
}

#[test]
fn an_application_may_run_on() {
    let setup = Setup::app("leavers:application").set("app.cancel_on_disconnect", false);
    let site = Site::start(setup.set("workers.cores", 10));
    for (index, mut client) in site.doors().into_iter().enumerate() {
        let file = site.appliance.dir().path().join(index.to_string());
        client.send(get(&format!("/held?{}", file.display())));
        assert_eq!(site.noted(1), ["held began"]);
        drop(client);
        assert_eq!(site.appliance.get("/log").text(), "");
        site.appliance.dir().write(&index.to_string(), "");
        assert_eq!(site.noted(1), ["held: done"]);
    }
}
