//! The table of keys: everything that can be written in `appliance.toml`, with its default. The loader takes the
//! defaults from here, the checks the accepted forms, errors the suggestions; tests hold `docs/configuration.md` and
//! `packaging/appliance.toml` against it. What a key does is decided elsewhere; nothing here looks at a value.
use crate::change::Need::{self, Listener, Live, Proxy, Restart, Rolling};
use crate::form::Form;

/// Stands in a path for a name that the user chooses: `cache.NAME.items` is a key of each `[cache.…]`.
pub const NAME: &str = "NAME";

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its full path, such as `workers.count`; [`NAME`] in it stands for any name, [`EACH`] for each table of an array.
    pub path: &'static str,
    /// Its default as written in TOML; `None`: not set.
    pub default: Option<&'static str>,
    /// What may be written.
    pub form: Form,
    /// What it takes until a changed value is in force.
    pub needs: &'static [Need],
    /// What it means, in one sentence.
    pub means: &'static str,
    /// What it is called in uWSGI, nginx or gunicorn; empty where they have none.
    pub like: &'static str,
}

/// What follows the name of an array of tables in a path: `metric[].name` is a key of each `[[metric]]`. A list is replaced as a
/// whole, so these keys have no place of their own in the layers, and their defaults count where a table does not say otherwise.
pub const EACH: &str = "[]";

impl Key {
    /// The table of tables whose names the user chooses, and the rest: `cache` and `items`. `None` for a key of one table.
    pub fn by_name(&self) -> Option<(&'static str, &'static str)> {
        let (table, rest) = self.path.split_once(NAME)?;
        Some((table.strip_suffix('.')?, rest.strip_prefix('.')?))
    }

    /// The array of tables that it belongs to (`metric`), and its name in there.
    pub fn in_array(&self) -> Option<(&'static str, &'static str)> {
        let (table, name) = self.path.rsplit_once('.')?;
        Some((table.strip_suffix(EACH)?, name))
    }
}

/// The names of all arrays of tables, such as `metric`.
pub fn arrays() -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS.iter().filter_map(|key| Some(key.in_array()?.0)).collect();
    names.dedup();
    names
}

/// The key at a path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| below(key.path, path) == Some(""))
}

/// What of a key's path lies below a table; the root is `""`.
fn below(key: &'static str, table: &str) -> Option<&'static str> {
    let names = table.split('.').filter(|_| !table.is_empty());
    let mut rest = Some(key);
    for name in names {
        let (first, others) = rest.map(|rest| rest.split_once('.').unwrap_or((rest, "")))?;
        rest = (first == name || first == NAME && !name.is_empty()).then_some(others);
    }
    rest
}

/// Names directly below a table, in order of the table; the root is `""`.
pub fn names_in(table: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for rest in KEYS.iter().filter_map(|key| below(key.path, table)).filter(|rest| !rest.is_empty()) {
        let name = rest.split('.').next().unwrap_or(rest);
        let name = name.strip_suffix(EACH).unwrap_or(name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

const fn whole(what: &'static str, least: i64, most: i64) -> Form {
    Form::Whole { what, least, most, auto: false }
}

const fn size(least: &'static str, most: &'static str) -> Form {
    Form::Size { least, most }
}

const fn text(what: &'static str, write: &'static str) -> Form {
    Form::Text { what, write }
}

/// Metrics are doubles, which are exact so far.
const MOST_EXACT: i64 = 1 << 53;
const FOLDER: Form = text("a path", r#"the path of a folder in quotes, such as "/srv/app""#);
const ADDRESSES: Form = Form::Texts {
    what: "an address",
    write: r#"a list of addresses such as ["127.0.0.1:3031", "unix:/run/app.sock"]"#,
};
const NETWORKS: Form =
    Form::Texts { what: "an address or a network", write: r#"a list such as ["10.0.0.0/8", "::1"]"# };
const TIME: Form = Form::Duration { zero: false };

/// The master's own business.
const LIVE: &[Need] = &[Live];
/// Read by template and workers only.
const ROLLING: &[Need] = &[Rolling];
/// Read by the proxy only.
const PROXY: &[Need] = &[Proxy];
/// Read by both sides of the link.
const BOTH: &[Need] = &[Rolling, Proxy];
/// Read by everybody.
const ALL: &[Need] = &[Live, Rolling, Proxy];
const LISTENER: &[Need] = &[Listener];
/// What the master has done with it at its start cannot be done again.
const RESTART: &[Need] = &[Restart];

/// Rows of `path: default, form, needs, like`; the doc comment of a row is the meaning.
macro_rules! keys {
    ($( $(#[doc = $means:literal])+ $path:literal: $default:expr, $form:expr, $needs:expr, $like:literal; )*) => {
        /// Every key, table by table.
        pub const KEYS: &[Key] = &[
            $( Key { path: $path, default: $default, form: $form, needs: $needs, means: concat!($($means),+), like: $like }, )*
        ];
    };
}

keys! {
    /// The application as `module:callable`, WSGI or ASGI, or a native one; found when the folder has `app.py`, `wsgi.py`, `asgi.py` or `main.py`.
    "app.module": None, text("an application", r#""module:callable", such as "app:app" (no ".py"), or a native one: "native:hello", "native:echo", "native:status", "native:static", or the path of a library such as "./libapp.so""#), ROLLING, "uWSGI `module`";
    /// Working directory and first entry of `sys.path`; otherwise the folder of the file, else the current one.
    "app.chdir": None, FOLDER, ROLLING, "uWSGI `chdir`";
    /// Virtual environment; otherwise `.venv` or `venv` in `chdir`, else `$VIRTUAL_ENV`.
    "app.venv": None, text("a path", r#"the folder of a virtual environment in quotes, such as ".venv""#), ROLLING, "uWSGI `virtualenv`";
    /// Interpreter to host when there is no virtual environment: a name on `PATH`, or a path.
    "app.python": Some(r#""python3""#), text("an interpreter", r#"a name or a path in quotes, such as "python3.13""#), ROLLING, "";
    /// Further folders for `sys.path`, after `chdir`.
    "app.pythonpath": Some("[]"), Form::Texts { what: "a path", write: r#"a list of folders, such as ["lib", "/srv/shared"]"# }, ROLLING, "uWSGI `pythonpath`";
    /// How a request waits: in a greenlet on the loop, or, for code that blocks, in a thread of its own.
    "app.suspend": Some(r#""greenlet""#), Form::Word { what: "a suspend engine", words: &["greenlet", "thread"] }, ROLLING, "uWSGI `greenlet`, `threads`";
    /// Whether a request ends with `appliance.ClientDisconnected` when its client leaves; otherwise it runs on.
    "app.cancel_on_disconnect": Some("true"), Form::Flag, ROLLING, "nginx `proxy_ignore_client_abort` (the opposite)";
    /// Environment variables for the application, set before it is imported.
    "app.env": Some("{}"), Form::Variables { table: "[app.env]" }, ROLLING, "uWSGI `env`";
    /// Options of your own, which the application reads in `uwsgi.opt`.
    "app.options": Some("{}"), Form::Variables { table: "[app.options]" }, ROLLING, "uWSGI `set`";

    /// Public addresses of the proxy; as tables, `[[listen]]` with `address = "…"` each.
    "listen": Some(r#""127.0.0.1:8080""#), Form::Listeners, LISTENER, "uWSGI `http-socket`, nginx `listen`";

    /// Worker processes; `"auto"` is one for each usable CPU.
    "workers.count": Some(r#""auto""#), Form::Whole { what: "a number of workers", least: 1, most: 1024, auto: true }, LIVE, "uWSGI `workers`, nginx `worker_processes`";
    /// Requests that one worker runs at the same time.
    "workers.cores": Some("100"), whole("a number of cores", 1, 100_000), BOTH, "uWSGI `async`, `tornado`";
    /// Stack of each native request; memory is taken only for what is used of it.
    "workers.stack": Some(r#""256KiB""#), size("64KiB", "64MiB"), ROLLING, "uWSGI `ugreen-stacksize`";
    /// Fewest workers that are left when there is little to do; otherwise always `count`.
    "workers.min": None, whole("a number of workers", 1, 1024), LIVE, "uWSGI `cheaper`";
    /// Most workers that are started when there is much to do; otherwise always `count`.
    "workers.max": None, whole("a number of workers", 1, 1024), LIVE, "uWSGI `workers` with `cheaper`";
    /// A worker is replaced after so many requests, give or take a tenth; `0`: never.
    "workers.max_requests": Some("0"), whole("a number of requests", 0, 1_000_000_000), LIVE, "uWSGI and gunicorn `max-requests`";
    /// A worker that uses more memory of its own (PSS) is replaced; otherwise never.
    "workers.max_memory": None, size("1MiB", "1024GiB"), LIVE, "uWSGI `reload-on-rss`";
    /// A worker that is older is replaced; `0`: never.
    "workers.max_lifetime": Some("0"), Form::Duration { zero: true }, LIVE, "uWSGI `max-worker-lifetime`";
    /// Locks that all workers share, beside lock 0: their numbers go up to this one.
    "workers.locks": Some("8"), whole("a number of locks", 0, 1000), ROLLING, "uWSGI `locks`";
    /// Files and folders whose modification time is watched: a change reloads.
    "workers.touch_reload": Some("[]"), Form::Texts { what: "a path", write: r#"a list of paths, such as ["reload.me"]"# }, LIVE, "uWSGI `touch-reload`";
    /// What follows when workers crash again and again: `"stay"` up and answer 503, or `"exit"` for whoever restarts containers.
    "workers.on_crash_loop": Some(r#""stay""#), Form::Word { what: "what to do", words: &["stay", "exit"] }, LIVE, "";

    /// What is served there, and, if it is a native application, by routes to `native`; otherwise `app.module` is.
    "native.app": None, text("an application of this listener", r#""native:hello", "native:echo", "native:status", "native:static", the path of a library such as "./libapp.so", "asgi:module:callable" or "tornado:module:callable""#), ROLLING, "uWSGI Tornado: an `Application` after `@postfork`";
    /// Folder in which `native:static` looks up the whole path of a request.
    "native.folder": None, text("a path", r#"the path of a folder in quotes, such as "static""#), ROLLING, "uWSGI `static-map2`, nginx `root`";
    /// Each worker also serves the application itself on `base_port + worker_id`.
    "native.base_port": None, whole("a port", 1, 65_534), ROLLING, "uWSGI Tornado: listen after `@postfork`";
    /// Address of these listeners; a client of theirs by-passes the proxy and its checks.
    "native.address": Some(r#""127.0.0.1""#), text("an IP address", r#"an address without a port, such as "127.0.0.1" or "::1""#), ROLLING, "";

    /// Requests whose path is this one, or lies below it, leave the application to another one in the same workers.
    "route[].path": None, text("a path", r#"a path that begins with "/" and is not percent-encoded, such as "/fast""#), ROLLING, "uWSGI `route`, nginx `location`";
    /// Where they go: `"native"` is the application of `native.app`.
    "route[].to": Some(r#""native""#), Form::Word { what: "where a route may lead", words: &["native"] }, ROLLING, "";

    /// From the first byte of a request head to its last.
    "timeouts.header": Some(r#""10s""#), TIME, BOTH, "nginx `client_header_timeout`";
    /// Longest pause while a request body arrives.
    "timeouts.body": Some(r#""60s""#), TIME, BOTH, "nginx `client_body_timeout`, uWSGI `socket-timeout`";
    /// Longest pause while a response leaves.
    "timeouts.write": Some(r#""60s""#), TIME, BOTH, "nginx `send_timeout`";
    /// How long an idle connection is kept.
    "timeouts.keepalive": Some(r#""75s""#), TIME, BOTH, "nginx `keepalive_timeout`";
    /// How long the proxy tries to connect to a worker.
    "timeouts.connect": Some(r#""1s""#), TIME, PROXY, "nginx `proxy_connect_timeout`";
    /// Longest silence of a worker that owes a response; `0`: none.
    "timeouts.response": Some("0"), Form::Duration { zero: true }, PROXY, "nginx `proxy_read_timeout`";
    /// How long one request may take; then it alone is ended, with 504; `0`: no limit.
    "timeouts.request": Some("0"), Form::Duration { zero: true }, ROLLING, "uWSGI `harakiri`";
    /// How long a request may wait for a worker in the proxy (else 503).
    "timeouts.queue": Some(r#""10s""#), TIME, PROXY, "haproxy `timeout queue`";
    /// A worker whose loop stands still so long gets no new requests, and its stack is logged; `0`: never.
    "timeouts.stall": Some(r#""2s""#), Form::Duration { zero: true }, ALL, "";
    /// A worker whose loop stands still so long is killed and replaced; `0`: never.
    "timeouts.hang": Some(r#""30s""#), Form::Duration { zero: true }, LIVE, "gunicorn `timeout`";
    /// From the load of the application to the first ready worker.
    "timeouts.boot": Some(r#""60s""#), TIME, LIVE, "";
    /// From the signal to stop until what still runs is cut.
    "timeouts.graceful": Some(r#""30s""#), TIME, &[Live, Proxy], "gunicorn `graceful_timeout`, nginx `worker_shutdown_timeout`";
    /// How long it serves on after the signal to stop, while `/readyz` says 503, so that balancers look elsewhere; `0`: not at all.
    "timeouts.drain_delay": Some("0"), Form::Duration { zero: true }, LIVE, "Kubernetes `preStop` with `sleep`";
    /// How long a question to another server's cache or procedure may take in all, from the connection to the last byte.
    "timeouts.remote": Some(r#""30s""#), TIME, ROLLING, "uWSGI `socket-timeout`";

    /// Request line, with method and version (else 414).
    "limits.request_line": Some(r#""8KiB""#), size("64B", "1MiB"), BOTH, "nginx `large_client_header_buffers`, uWSGI `buffer-size`";
    /// The whole request head (else 431).
    "limits.header_bytes": Some(r#""64KiB""#), size("256B", "16MiB"), BOTH, "nginx `large_client_header_buffers`, uWSGI `buffer-size`";
    /// Header fields of a request (else 431).
    "limits.headers": Some("100"), whole("a number of header fields", 1, 10_000), BOTH, "nginx `max_headers`, gunicorn `limit_request_fields`";
    /// Request body (else 413).
    "limits.body": Some(r#""16MiB""#), size("1B", "1024GiB"), BOTH, "nginx `client_max_body_size`, uWSGI `limit-post`";
    /// Bytes a second that a request body must arrive with on average, beyond the time that `timeouts.body` gives (else 408).
    "limits.body_rate": Some(r#""512B""#), size("1B", "1GiB"), BOTH, "Apache `RequestReadTimeout … MinRate`";
    /// Part of a request body that is read before a core is taken.
    "limits.body_buffer": Some(r#""64KiB""#), size("1B", "1GiB"), ROLLING, "nginx `client_body_buffer_size`, uWSGI `post-buffering`";
    /// Unsent bytes of a response above which its producer waits.
    "limits.write_buffer": Some(r#""64KiB""#), size("4KiB", "1GiB"), ROLLING, "nginx `proxy_buffers`";
    /// Bytes of one body that may be under way between proxy and worker, each way; a larger `body_buffer` counts instead.
    "limits.stream_window": Some(r#""256KiB""#), size("16KiB", "1GiB"), BOTH, "HTTP/2 `SETTINGS_INITIAL_WINDOW_SIZE`";
    /// Requests that may wait for a core in one worker (else 503).
    "limits.waiting": Some("1000"), whole("a number of requests", 0, 1_000_000), BOTH, "nginx Plus `queue`";
    /// Requests that may wait for a worker in the proxy (else 503).
    "limits.queue": Some("1000"), whole("a number of requests", 0, 1_000_000), PROXY, "haproxy `maxqueue`";
    /// Client connections of the whole proxy; more are closed at once.
    "limits.connections": Some("10000"), whole("a number of connections", 1, 1_000_000), PROXY, "nginx `worker_connections`";
    /// Listen backlog of every socket; the kernel caps it at `net.core.somaxconn`.
    "limits.backlog": Some("1024"), whole("a backlog", 1, 65_535), &[Live, Rolling], "uWSGI `listen`, nginx `backlog`";
    /// Longest value or result that is taken from another server, or given to one.
    "limits.remote": Some(r#""16MiB""#), size("1KiB", "1GiB"), ROLLING, "";

    /// Bytes of one message, in however many fragments (else it is closed with 1009).
    "websocket.max_message": Some(r#""1MiB""#), size("125B", "1GiB"), ROLLING, "uWSGI `websockets-max-size`";
    /// A client that has been silent for so long is pinged; `0`: never.
    "websocket.ping_interval": Some(r#""30s""#), Form::Duration { zero: true }, ROLLING, "uWSGI `websockets-ping-freq`";
    /// A client that stays silent for so long after a ping is given up.
    "websocket.ping_timeout": Some(r#""20s""#), TIME, ROLLING, "uWSGI `websockets-pong-tolerance`";
    /// Whether messages are compressed (`permessage-deflate`) where the client offers it.
    "websocket.compression": Some("false"), Form::Flag, ROLLING, "";

    /// Threads of the proxy, each with a loop of its own.
    "proxy.threads": Some("1"), whole("a number of threads", 1, 256), PROXY, "nginx `worker_processes`";
    /// Peers whose `X-Forwarded-*` headers are believed.
    "proxy.trusted": Some("[]"), NETWORKS, PROXY, "nginx `set_real_ip_from`, gunicorn `forwarded_allow_ips`";

    /// Most items.
    "cache.NAME.items": Some("10000"), whole("a number of items", 1, 1_000_000_000), ROLLING, "uWSGI `cache2` `items`";
    /// Most bytes of all items together, with what each takes to store.
    "cache.NAME.size": Some(r#""64MiB""#), size("64KiB", "1024GiB"), ROLLING, "uWSGI `cache2` `blocks`";
    /// Largest value.
    "cache.NAME.item_size": Some(r#""64KiB""#), size("8B", "1GiB"), ROLLING, "uWSGI `cache2` `blocksize`";
    /// Longest key.
    "cache.NAME.key_size": Some(r#""1KiB""#), size("1B", "1KiB"), ROLLING, "uWSGI `cache2` `keysize`";
    /// Whether the items that were not used for longest make room when it is full; otherwise what is new is refused.
    "cache.NAME.lru": Some("false"), Form::Flag, ROLLING, "uWSGI `cache2` `purge_lru`";
    /// How long items live that are stored without a time of their own; `0`: for ever.
    "cache.NAME.expires": Some("0"), Form::Duration { zero: true }, ROLLING, "";
    /// File in which the contents outlive the appliance; otherwise they end with it.
    "cache.NAME.persist": None, text("a path", r#"the path of a file in quotes, such as "/var/lib/app/cache""#), ROLLING, "uWSGI `cache2` `store`";
    /// Where other servers can use it, over the uwsgi protocol; otherwise nowhere.
    "cache.NAME.listen": Some("[]"), ADDRESSES, ROLLING, "uWSGI `socket`";
    /// Networks that may use it besides this machine itself, by `listen` and by `udp`.
    "cache.NAME.allow": Some("[]"), NETWORKS, ROLLING, "";
    /// Caches of other servers that are told over UDP of all that is written here and removed.
    "cache.NAME.nodes": Some("[]"), Form::Texts { what: "an address", write: r#"a list of addresses such as ["10.0.0.2:7000"]"# }, ROLLING, "uWSGI `cache2` `nodes`";
    /// Where it hears over UDP of what others write and remove; otherwise it does not listen.
    "cache.NAME.udp": None, text("a UDP address", r#"an address and a port, such as "127.0.0.1:7000""#), ROLLING, "uWSGI `cache2` `udp`";

    /// Messages that the queue of all workers holds; `0`: there is no queue.
    "queue.slots": Some("0"), whole("a number of slots", 0, 1_000_000), RESTART, "uWSGI `queue`";
    /// Longest message.
    "queue.slot_size": Some(r#""8KiB""#), size("1B", "16MiB"), RESTART, "uWSGI `queue-blocksize`";

    /// Bytes of an area of memory that all workers share; the first `[[sharedarea]]` is number 0.
    "sharedarea[].size": Some(r#""4KiB""#), size("1B", "64GiB"), RESTART, "uWSGI `sharedarea`";

    /// Where procedures can be called from outside, over the uwsgi protocol; otherwise nowhere.
    "rpc.listen": Some("[]"), ADDRESSES, ROLLING, "uWSGI `socket`";
    /// Networks that may call besides this machine itself.
    "rpc.allow": Some("[]"), NETWORKS, ROLLING, "";
    /// Calls from outside that one worker has under way; one more is refused.
    "rpc.calls": Some("100"), whole("a number of calls", 1, 100_000), ROLLING, "";

    /// Least important lines to log, for all or for single targets.
    "log.level": Some(r#""info""#), text("a log level", r#""error", "warn", "info", "debug", "trace" or "off", or levels for targets such as "info,appliance_proxy=debug""#), ALL, "nginx `error_log`";
    /// For humans, as JSON, or whichever suits a terminal or its absence.
    "log.format": Some(r#""auto""#), Form::Word { what: "a log format", words: &["auto", "human", "json"] }, RESTART, "uWSGI `log-format`, nginx `log_format`";
    /// One line for each request.
    "log.access": Some("true"), Form::Flag, BOTH, "nginx `access_log`, uWSGI `disable-logging`";

    /// Read-only HTTP endpoint for probes and status; otherwise off.
    "admin.listen": None, text("a TCP address", r#"an address and a port, such as "127.0.0.1:9090""#), LISTENER, "uWSGI `stats`, nginx `stub_status`";
    /// Folder for the workers' sockets and the control socket; otherwise a fresh private one for each run.
    "admin.run_dir": None, FOLDER, RESTART, "";

    /// Name of a metric of the application's; a dot or a dash in it is an underscore in Prometheus.
    "metric[].name": None, text("the name of a metric", r#"letters, digits, "_", ".", "-" and ":", such as "shop.orders"; not "appliance…", "core…" or "worker…""#), ROLLING, "uWSGI `metric`";
    /// Whether it only grows, or goes up and down.
    "metric[].type": Some(r#""counter""#), Form::Word { what: "a type of metric", words: &["counter", "gauge"] }, ROLLING, "uWSGI `metric type=`";
    /// What it counts or measures, for those who read `/metrics`.
    "metric[].help": None, text("a text", r#"a sentence in quotes, such as "Orders that were paid.""#), ROLLING, "uWSGI `metric-help`";
    /// Names of its labels; without labels it has one value.
    "metric[].labels": Some("[]"), Form::Texts { what: "the name of a label", write: r#"a list of names, such as ["kind"]"# }, ROLLING, "";
    /// Value with which it begins, if it has no labels.
    "metric[].initial": Some("0"), whole("a value", -MOST_EXACT, MOST_EXACT), ROLLING, "uWSGI `metric initial_value=`";
    /// The metric whose value this one shows, if it is only another name.
    "metric[].alias": None, text("the name of a metric", r#"the name of another [[metric]] in quotes, such as "shop.orders""#), ROLLING, "uWSGI `metric alias=`";

    /// User of proxy and workers when started by root.
    "security.user": None, text("a user", r#"a name or a number in quotes, such as "www-data""#), RESTART, "uWSGI `uid`, nginx `user`";
    /// Group likewise; otherwise the user's own.
    "security.group": None, text("a group", r#"a name or a number in quotes, such as "www-data""#), RESTART, "uWSGI `gid`, nginx `user`";
    /// File mode creation mask of all processes.
    "security.umask": Some(r#""0027""#), text("a file mode mask", r#"octal digits in quotes, from "0000" to "0777""#), RESTART, "uWSGI `umask`";
}
