//! Clients that ask without a pause while a test does something to the appliance.
use super::Appliance;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// More than there are workers, so that all of them always have something to do.
const CLIENTS: u32 = 8;
/// Requests on one connection: both new connections and kept ones are under way at any time.
const REQUESTS_EACH: u32 = 10;

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Clients ask until `action` is over; how many answers they got, and everything that went wrong.
pub fn under_load(appliance: &Appliance, action: impl FnOnce()) -> (u32, Vec<String>) {
    let (stop, served, failures) = (AtomicBool::new(false), AtomicU32::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (stop, served, failures) = (&stop, &served, &failures);
            // Some requests wait in the worker, so that a kill always hits some that have begun.
            let target = if number % 2 == 0 { "/" } else { "/sleep?s=0.01" };
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    let mut client = appliance.client();
                    for _ in 0..REQUESTS_EACH {
                        client.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
                        match client.try_answer() {
                            Ok(answer) if answer.status == 200 => {
                                served.fetch_add(1, Relaxed);
                            }
                            Ok(answer) => {
                                failures.lock().unwrap().push(format!("{} {}", answer.status, answer.text()))
                            }
                            Err(error) => {
                                failures.lock().unwrap().push(error.to_string());
                                break;
                            }
                        }
                    }
                }
            });
        }
        // Also when the action panics, or the clients would go on for ever.
        let _stop = Stop(&stop);
        action();
    });
    (served.into_inner(), failures.into_inner().unwrap())
}
