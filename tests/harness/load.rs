//! Clients that ask without a pause while a test does something to the appliance.
use super::Appliance;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// More than there are workers, so that all of them always have something to do.
const CLIENTS: usize = 8;
/// Requests on one connection: both new connections and kept ones are under way at any time.
const REQUESTS_EACH: u32 = 10;

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What each second client asks; some requests wait in the worker, so that a kill always hits some that have begun.
const GETS: [&str; 2] =
    ["GET / HTTP/1.1\r\nHost: test\r\n\r\n", "GET /sleep?s=0.01 HTTP/1.1\r\nHost: test\r\n\r\n"];
/// The same with a request that must not be sent twice.
const GETS_AND_POSTS: [&str; 2] =
    [GETS[1], "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello"];

/// Clients ask until `action` is over; how many answers they got, and everything that went wrong.
pub fn under_load(appliance: &Appliance, action: impl FnOnce()) -> (u32, Vec<String>) {
    load(appliance, &GETS, action)
}

/// As [`under_load`], and half of the requests are POSTs: for actions that no request may notice.
pub fn under_posts(appliance: &Appliance, action: impl FnOnce()) -> (u32, Vec<String>) {
    load(appliance, &GETS_AND_POSTS, action)
}

fn load(appliance: &Appliance, requests: &[&str], action: impl FnOnce()) -> (u32, Vec<String>) {
    let (served, failures) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    let connection = |client: usize| {
        let request = requests[client % requests.len()];
        let mut client = appliance.client();
        for _ in 0..REQUESTS_EACH {
            client.send(request);
            match client.try_answer() {
                Ok(answer) if answer.status == 200 => {
                    served.fetch_add(1, Relaxed);
                    if answer.header("connection") == Some("close") {
                        break;
                    }
                }
                Ok(answer) => failures.lock().unwrap().push(format!("{} {}", answer.status, answer.text())),
                Err(error) => {
                    failures.lock().unwrap().push(error.to_string());
                    break;
                }
            }
        }
    };
    meanwhile(CLIENTS, connection, action);
    (served.into_inner(), failures.into_inner().unwrap())
}

/// So many clients, counted from 0, do `each` again and again until `action` is over; what came of it each time.
pub fn meanwhile<T: Send>(clients: usize, each: impl Fn(usize) -> T + Sync, action: impl FnOnce()) -> Vec<T> {
    let stop = AtomicBool::new(false);
    let again = |client| {
        let mut results = Vec::new();
        while !stop.load(Relaxed) {
            results.push(each(client));
        }
        results
    };
    std::thread::scope(|scope| {
        let again = &again;
        let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || again(client))).collect();
        {
            // Also when the action panics, or the clients would go on for ever.
            let _stop = Stop(&stop);
            action();
        }
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}
