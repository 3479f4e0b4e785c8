//! `config show`: loads again as what it shows, and tells where each value came from.
use super::{Folder, pairs};
use crate::{Request, load};

/// A file in which every key differs from its default.
pub(super) const EVERYTHING: &str = r#"
listen = ["127.0.0.1:0", "unix:web.sock"]
workers = { count = 3, cores = 7, stack = "1MiB", min = 2, max = 9, max_requests = 5, max_memory = "1GiB", max_lifetime = "1h", locks = 4, touch_reload = "reload.me", on_crash_loop = "exit" }
native = { app = "./libfast.so", folder = "static", base_port = 9000, address = "::1" }
timeouts.header = "500ms"
timeouts.body = "2m"
timeouts.write = "90s"
timeouts.keepalive = "1h"
timeouts.connect = "2s"
timeouts.response = "1500ms"
timeouts.request = "3s"
timeouts.queue = "4s"
timeouts.stall = "5s"
timeouts.hang = "6s"
timeouts.boot = "5m"
timeouts.graceful = "24h"
timeouts.drain_delay = "7s"
timeouts.remote = "8s"
limits.request_line = "1KB"
limits.header_bytes = "1000B"
limits.headers = 10
limits.body = "1GiB"
limits.body_rate = "1KiB"
limits.body_buffer = "1MB"
limits.write_buffer = "5000B"
limits.stream_window = "20000B"
limits.waiting = 0
limits.queue = 4
limits.connections = 5
limits.backlog = 6
limits.remote = "1MiB"
websocket = { max_message = "2MiB", ping_interval = "10s", ping_timeout = "9s", compression = true }
proxy = { threads = 2, trusted = ["10.0.0.0/8", "::1"] }
cache.NAME = { items = 8, size = "1MiB", item_size = "1KiB", key_size = "64B", lru = true, expires = "1h", persist = "cache.data", listen = "127.0.0.1:3032", allow = "::1", nodes = "10.0.0.1:7000", udp = "127.0.0.1:7000" }
rpc = { listen = ["0.0.0.0:3031", "unix:rpc.sock"], allow = ["10.0.0.0/8"], calls = 7 }
log = { level = "warn,appliance_proxy=debug", format = "json", access = false }
queue = { slots = 9, slot_size = "4080B" }
admin = { listen = "127.0.0.1:9999", run_dir = "run" }
security = { user = "www-data", group = "33", umask = "77" }

[app]
module = "web:make()"
chdir = "src"
venv = "env"
python = "./py"
pythonpath = "lib"
suspend = "thread"
cancel_on_disconnect = false

[[route]]
path = "/fast"
to = "native"

[[sharedarea]]
size = "1MiB"

[[sharedarea]]
size = "100B"

[[metric]]
name = "shop.orders"
type = "gauge"
help = "Orders that wait."
labels = "kind"
initial = -3

[[metric]]
name = "stock"
type = "counter"
labels = []
initial = 7

[[metric]]
name = "shop-stock"
type = "gauge"
labels = []
initial = 0
alias = "stock"

[app.env]
PLAIN = "a \"quoted\" \\ text\nof two lines # no comment"
"with a dot.and space" = ""

[app.options]
"my.option" = "1"
"#;

#[test]
fn what_is_shown_loads_as_the_same_settings() {
    for file in ["", EVERYTHING] {
        let folder = Folder::new();
        folder.write("src/app.py", "");
        folder.write("env/bin/python", "");
        folder.write("appliance.toml", file);
        let shown = folder.load();
        let elsewhere = Folder::empty();
        elsewhere.write("appliance.toml", &shown.show());
        assert_eq!(elsewhere.load().settings, shown.settings, "{}", shown.show());
    }
}

#[test]
fn every_line_tells_its_source() {
    let folder = Folder::new();
    folder.write(
        "appliance.toml",
        "[workers]\ncores = 7\n[timeouts]\nbody = \"90000ms\"\n[app.env]\nA = \"1\"",
    );
    let request = Request {
        env: pairs(&[("APPLIANCE_LOG__FORMAT", "json"), ("APPLIANCE_APP__ENV__B", "2")]),
        flags: pairs(&[("listen", "[\":81\", \"unix:/run/web.sock\"]")]),
        ..folder.request()
    };
    let shown = load(&request).unwrap().show();
    let expected = [
        "module = \"app\"  # found app.py",
        "# venv is not set",
        "suspend = \"greenlet\"  # default",
        "A = \"1\"  # appliance.toml:6",
        "B = \"2\"  # APPLIANCE_APP__ENV__B",
        "address = \"unix:/run/web.sock\"  # command line",
        "count = 2  # default: \"auto\"",
        "cores = 7  # appliance.toml:2",
        "body = \"90s\"  # appliance.toml:4: \"90000ms\"",
        "response = 0  # default",
        "format = \"json\"  # APPLIANCE_LOG__FORMAT",
        "umask = \"0027\"  # default",
    ];
    for line in expected {
        assert!(shown.lines().any(|shown| shown == line), "no {line:?} in\n{shown}");
    }
}

#[test]
fn every_setting_has_its_line() {
    let folder = Folder::new();
    folder.write("src/app.py", "");
    folder.write("env/bin/python", "");
    folder.write("appliance.toml", EVERYTHING);
    let shown = folder.load().show();
    assert!(!shown.contains("default") && !shown.contains("not set"), "{shown}");
}
