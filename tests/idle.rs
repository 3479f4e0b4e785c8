//! What connections cost that nobody uses at the moment.
use crate::harness::{Client, Setup};

/// Enough that what the proxy does besides is lost among them, and few enough for an ordinary limit of open files.
const CONNECTIONS: usize = 500;
/// Most bytes of memory for each in the proxy: the task that waits for the next request, and its share of what the allocator
/// takes from the kernel, 2 MiB at a time.
const EACH: u64 = 3 * 1024 + 2 * 1024 * 1024 / CONNECTIONS as u64;

#[test]
fn an_idle_connection_costs_hardly_any_memory() {
    let appliance = Setup::app("bodies:application").set("log.access", false).start();
    let connections = |count| -> Vec<Client> {
        let mut clients: Vec<Client> = (0..count).map(|_| appliance.client()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/fast").text(), "fast");
        }
        clients
    };
    drop(connections(10));
    let proxy = appliance.process("proxy");
    let before = proxy.resident();
    let idle = connections(CONNECTIONS);
    let each = proxy.resident().saturating_sub(before) / idle.len() as u64;
    assert!(each <= EACH, "{each} bytes for each of {CONNECTIONS} connections");
}
