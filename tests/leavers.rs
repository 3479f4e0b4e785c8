//! Clients that leave before they have their answer, at every stage of a request: what they held is given back, and nobody
//! else notices.
use crate::bodies::{assert_same, pattern};
use crate::harness::{Admin, Appliance, Client, Setup, until};
use std::time::Duration;

/// Clients that leave in each test.
const LEAVERS: u64 = 40;
/// More than sockets, frames and windows can hold.
const LARGE: usize = 20_000_000;

struct Site {
    appliance: Appliance,
    admin: Admin,
    /// Descriptors of the proxy and of the worker before anybody came.
    descriptors: usize,
}

impl Site {
    fn start(cores: u32) -> Site {
        let (setup, admin) = Admin::of(Setup::app("bodies:application").set("workers.cores", cores));
        let appliance = setup.start();
        appliance.get("/first");
        let mut site = Site { appliance, admin, descriptors: 0 };
        site.wait_until_idle();
        site.descriptors = site.count_descriptors();
        site
    }

    fn count_descriptors(&self) -> usize {
        ["proxy", "worker 1"].iter().map(|role| self.appliance.process(role).descriptors().len()).sum()
    }

    /// Clients that send `bytes` and wait.
    fn clients(&self, bytes: &[u8]) -> Vec<Client> {
        let mut clients: Vec<Client> = (0..LEAVERS).map(|_| self.appliance.client()).collect();
        clients.iter_mut().for_each(|client| client.send(bytes));
        clients
    }

    #[track_caller]
    fn wait_until_idle(&self) {
        until("nothing is being served", || {
            let waiting = self.admin.workers("busy") + self.admin.workers("waiting");
            waiting + self.admin.proxy("active") == 0
        });
    }

    /// Nothing is left of those who have left, and others are served.
    #[track_caller]
    fn assert_unharmed(&self) {
        self.wait_until_idle();
        assert_same(
            &self.appliance.client().post("/echo/pieces", pattern(100_000)).body,
            &pattern(100_000),
            "then",
        );
        self.wait_until_idle();
        // A connection or two may be kept for later, but not one for each leaver.
        until("their descriptors are closed", || self.count_descriptors() <= self.descriptors + 4);
    }

    /// A request that runs until the file exists.
    fn held(&self, file: &str) -> String {
        let path = self.appliance.dir().path().join(file);
        format!("GET /held/whole?until={} HTTP/1.1\r\nHost: test\r\n\r\n", path.display())
    }
}

#[test]
fn leaving_during_an_upload() {
    let site = Site::start(100);
    for begun in [0, 1_000, 100_000, 300_000] {
        let head = "POST /echo/whole HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n";
        let clients = site.clients(&[head.as_bytes(), &pattern(begun)].concat());
        until("the proxy serves all of them", || site.admin.proxy("active") == LEAVERS);
        drop(clients);
        site.assert_unharmed();
    }
}

#[test]
fn leaving_during_an_answer() {
    let site = Site::start(100);
    for form in ["whole", "announced", "pieces", "announced-pieces"] {
        let mut clients =
            site.clients(format!("GET /give/{form}?size={LARGE} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
        for client in &mut clients {
            until("the answer has begun", || !client.arrived_within(Duration::from_millis(100)).is_empty());
        }
        drop(clients);
        site.assert_unharmed();
    }
}

#[test]
fn leaving_while_no_core_is_free() {
    let site = Site::start(1);
    let mut held = site.appliance.client();
    held.send(site.held("release"));
    until("the only core is busy", || site.admin.workers("busy") == 1);
    let clients = site.clients(b"GET /left HTTP/1.1\r\nHost: test\r\n\r\n");
    until("all of them wait", || site.admin.proxy("queued") == LEAVERS);
    drop(clients);
    until("nobody waits any more", || site.admin.proxy("queued") == 0);
    site.appliance.dir().write("release", "");
    assert_eq!(held.answer().status, 200);
    assert_eq!(site.appliance.get("/seen").text(), "3", "an application ran for a client that had left");
    site.assert_unharmed();
}

#[test]
fn leaving_while_the_application_does_not_read() {
    let site = Site::start(100);
    let path = site.appliance.dir().path().join("release");
    let head = format!(
        "POST /held/whole?until={} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n",
        path.display()
    );
    // More than a window, so that the proxy cannot pass all of it on, but not more than the kernel takes from a client.
    let clients = site.clients(&[head.as_bytes(), &pattern(300_000)].concat());
    until("all of them run", || site.admin.workers("busy") == LEAVERS);
    drop(clients);
    until("the proxy has forgotten them", || site.admin.proxy("active") == 0);
    site.appliance.dir().write("release", "");
    site.assert_unharmed();
}

#[test]
fn leaving_with_another_request_behind_the_one_that_runs() {
    let site = Site::start(100);
    let held = site.held("release");
    let clients =
        site.clients([held.as_bytes(), b"GET /left HTTP/1.1\r\nHost: test\r\n\r\n"].concat().as_slice());
    until("all of them run", || site.admin.workers("busy") == LEAVERS);
    drop(clients);
    until("the proxy has forgotten them", || site.admin.proxy("active") == 0);
    site.appliance.dir().write("release", "");
    site.assert_unharmed();
}

#[test]
fn leaving_while_the_application_runs() {
    let site = Site::start(100);
    let clients = site.clients(site.held("release").as_bytes());
    until("all of them run", || site.admin.workers("busy") == LEAVERS);
    drop(clients);
    until("the proxy has forgotten them", || site.admin.proxy("active") == 0);
    assert_eq!(site.appliance.get("/fast").text(), "fast");
    site.appliance.dir().write("release", "");
    site.assert_unharmed();
}
