//! Black-box tests: each starts the real `appliance` in a folder of its own and speaks to it in raw bytes, as clients,
//! operators and the kernel do. They know nothing of the crates; what they may use is in `harness`. Run them with
//! `make test` or `cargo test` after `cargo build --workspace`: the binary loads the engine library that lies beside it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod areas;
mod asgi;
mod bodies;
mod cache;
mod cli;
mod config_reload;
mod control;
mod crowd;
mod deaths;
mod disconnect;
mod django;
mod doors;
mod examples;
mod faults;
mod files;
mod frameworks;
mod health;
mod hints;
mod idle;
mod leavers;
mod link;
mod locks;
mod loop_;
mod malformed;
mod metrics;
mod native;
mod native_apps;
mod processes;
mod proxy;
mod python_package;
mod questions;
mod queue;
mod reasons;
mod regressions;
mod reload;
mod remote;
mod request_calls;
mod request_timeout;
mod rpc;
mod scaling;
mod signals;
mod slow_bodies;
mod slow_peers;
mod soak;
mod stalls;
mod start;
mod stop;
mod stopped;
mod stuck;
mod syscalls;
mod systemd;
mod threads;
mod timeouts;
mod top;
mod validated;
mod verbs;
mod waiting;
mod websockets;
mod wsgi;
mod wsgi_input;
mod wsgi_mistakes;
