//! Clients that want little and are many: connections that are idle after an answer, and heads that arrive byte by byte. They
//! take no core and keep nobody waiting, through the proxy and on a worker's own listener. What they cost is measured by
//! `benches/idle.py`.
use crate::harness::{Admin, Client, DOORS, Door, Doors, Setup, until};

/// With the slow ones, few enough for the 1024 descriptors that a process often may have.
const IDLE: usize = 300;
const SLOW: usize = 100;
const BUSY: usize = 20;
const REQUESTS_EACH: usize = 10;

/// Connections that have been answered once.
fn idle_clients(doors: &Doors, door: Door) -> Vec<Client> {
    let served = |mut client: Client| {
        assert_eq!(client.get("/").status, 200);
        client
    };
    (0..IDLE).map(|_| served(doors.client(door))).collect()
}

/// Connections on which a head has begun.
fn slow_clients(doors: &Doors, door: Door) -> Vec<Client> {
    let begun = |mut client: Client| {
        client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Slow: ");
        client
    };
    (0..SLOW).map(|_| begun(doors.client(door))).collect()
}

#[test]
fn idle_and_slow_clients_take_no_core_and_hold_up_nobody() {
    let setup = Setup::app("facts:application").set("workers.cores", 4).set("timeouts.header", "1m");
    let (setup, admin) = Admin::of(setup);
    let doors = Doors::open(setup);
    for door in DOORS {
        let mut idle = idle_clients(&doors, door);
        let mut slow = slow_clients(&doors, door);
        for _ in 0..REQUESTS_EACH {
            let mut busy: Vec<Client> = (0..BUSY).map(|_| doors.client(door)).collect();
            for client in &mut busy {
                client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            }
            slow.iter_mut().for_each(|client| client.send("x"));
            assert!(busy.iter_mut().all(|client| client.answer().status == 200), "{door:?}");
            until("no core is taken", || (admin.workers("busy"), admin.workers("waiting")) == (0, 0));
        }
        for client in &mut slow {
            client.send("\r\n\r\n");
            assert_eq!(client.answer().status, 200, "{door:?}: a head that took its time");
        }
        assert!(idle.iter_mut().all(|client| client.get("/").status == 200), "{door:?}: after a pause");
    }
}
