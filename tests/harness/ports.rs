//! Ports for listeners whose number has to be known before they are bound.
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that the kernel gives to clients (32768 and up), above the well-known ones.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// The first of `count` neighbouring ports that nobody listens on. No two tests of this process get the same ones, and
/// another process begins somewhere else.
pub fn free_ports(count: u16) -> u16 {
    let offset = (std::process::id() % 97) as u16 * 190;
    for _ in 0..1000 {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST + (offset + step) % (LAST - FIRST);
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("found no {count} free ports side by side");
}
