//! What the admin endpoint of an appliance under test says.
use super::{Answer, Client, Setup, free_ports};
use serde_json::Value;

/// The endpoint of one appliance.
pub struct Admin(u16);

impl Admin {
    /// Gives the appliance that will be started an admin endpoint.
    pub fn of(setup: Setup) -> (Setup, Admin) {
        let port = free_ports(1);
        (setup.set("admin.listen", format!("127.0.0.1:{port}")), Admin(port))
    }

    /// One `GET` on a connection of its own.
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        Client::tcp(([127, 0, 0, 1], self.0).into()).unwrap().get(target)
    }

    /// `/status`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.get("/status").json()
    }

    /// A number that each worker publishes, such as `busy` or `waiting`, of all together.
    #[track_caller]
    pub fn workers(&self, name: &str) -> u64 {
        self.status()["workers"].as_array().unwrap().iter().filter_map(|worker| worker[name].as_u64()).sum()
    }

    /// A number that the proxy publishes, such as `active`.
    #[track_caller]
    pub fn proxy(&self, name: &str) -> u64 {
        self.status()["proxy"][name].as_u64().unwrap()
    }
}
