//! From what was written to what it means: one function for each table, in the order of [`Settings`]. Called by
//! `load.rs`. Pure: files and environment were looked at before.
use crate::conflicts::conflicts;
use crate::error::Error;
use crate::keys;
use crate::reader::Reader;
use crate::remote;
use crate::settings::*;
use crate::suggest;
use crate::units;
use crate::written::{Table, Value, Written};
use std::path::{Path, PathBuf};

/// The longest name of a worker's socket in the run directory, with its slash; there are at most 1024 workers.
const WORKER_SOCKET: &str = "/worker-1024.sock";

/// Settings from what was written; worth nothing unless `problems` is still empty afterwards.
pub fn check(written: &Written, cpus: u32, problems: &mut Vec<Error>) -> Settings {
    let mut read = Reader::new(written, problems);
    let settings = Settings {
        app: app(&mut read),
        listen: listen(&mut read),
        workers: workers(&mut read, cpus),
        native: native(&mut read),
        routes: read.each("route", route),
        timeouts: timeouts(&mut read),
        limits: limits(&mut read),
        websocket: WebSocket {
            max_message: read.size("websocket.max_message"),
            ping_interval: read.duration("websocket.ping_interval"),
            ping_timeout: read.duration("websocket.ping_timeout"),
            compression: read.flag("websocket.compression"),
        },
        proxy: Proxy {
            threads: read.whole("proxy.threads"),
            trusted: read.texts("proxy.trusted", units::network),
        },
        caches: caches(&mut read),
        queue: Queue { slots: read.whole("queue.slots"), slot_size: read.size("queue.slot_size") },
        areas: read.each("sharedarea", |read| SharedArea { size: read.size("sharedarea[].size") }),
        rpc: remote::rpc(&mut read),
        log: log(&mut read),
        admin: admin(&mut read),
        metrics: read.each("metric", metric),
        security: Security {
            user: read.optional_text("security.user", units::account),
            group: read.optional_text("security.group", units::account),
            umask: read.text("security.umask", units::mask),
        },
    };
    let refused = std::mem::take(&mut read.refused);
    conflicts(&settings, written, &refused, problems);
    settings
}

fn workers(read: &mut Reader, cpus: u32) -> Workers {
    let (min, max) = (read.optional_whole("workers.min"), read.optional_whole("workers.max"));
    let written = read.written;
    // A machine of other size than its bounds foresee is no mistake of the user's.
    let auto = cpus.clamp(min.unwrap_or(1), max.unwrap_or(u32::MAX).max(1));
    let count = read.whole_or("workers.count", auto);
    let on_crash_loop = match read.word("workers.on_crash_loop") {
        "exit" => OnCrashLoop::Exit,
        _ => OnCrashLoop::Stay,
    };
    Workers {
        count,
        cores: read.whole("workers.cores"),
        stack: read.size("workers.stack"),
        min: min.unwrap_or(count),
        max: max.unwrap_or(count),
        max_requests: read.whole("workers.max_requests"),
        max_memory: read.optional_size("workers.max_memory"),
        max_lifetime: read.duration("workers.max_lifetime"),
        locks: read.whole("workers.locks"),
        touch_reload: read
            .texts("workers.touch_reload", |path| Some(written.absolute("workers.touch_reload", path))),
        on_crash_loop,
    }
}

fn app(read: &mut Reader) -> App {
    let written = read.written;
    let suspend = match read.word("app.suspend") {
        "thread" => Suspend::Thread,
        _ => Suspend::Greenlet,
    };
    let module = |text: &str| match units::native(text) {
        Some(_) => Some(library(written, "app.module", text)),
        None => units::module(text),
    };
    App {
        module: read.optional_text("app.module", module).unwrap_or_default(),
        chdir: read.optional_path("app.chdir").unwrap_or_default(),
        venv: read.optional_path("app.venv"),
        python: read.text("app.python", |name| Some(interpreter(written, name))),
        pythonpath: read.texts("app.pythonpath", |path| Some(written.absolute("app.pythonpath", path))),
        suspend,
        cancel_on_disconnect: read.flag("app.cancel_on_disconnect"),
        env: read.variables("app.env"),
        options: read.variables("app.options"),
    }
}

fn native(read: &mut Reader) -> Native {
    let written = read.written;
    let served = |text: &str| match units::native(text) {
        Some(_) => Some(library(written, "native.app", text)),
        None => units::native_module(text),
    };
    Native {
        app: read.optional_text("native.app", served),
        folder: read.optional_path("native.folder"),
        base_port: read.optional_whole("native.base_port"),
        address: read.text("native.address", |text| text.parse().ok()),
    }
}

/// One `[[route]]`.
fn route(read: &mut Reader) -> Route {
    // There is one place to go as yet.
    read.word("route[].to");
    Route { path: read.needed_text("route[].path", units::route) }
}

/// The path of a library becomes absolute; any other application stays as it is.
fn library(written: &Written, key: &str, text: &str) -> String {
    match units::native(text) {
        Some(NativeApp::Library(path)) => written.absolute(key, path).display().to_string(),
        _ => text.to_owned(),
    }
}

/// A name stays a name, for `PATH`; a path becomes absolute.
fn interpreter(written: &Written, name: &str) -> String {
    if !name.contains('/') {
        return name.to_owned();
    }
    written.absolute("app.python", name).display().to_string()
}

fn listen(read: &mut Reader) -> Vec<Listen> {
    let Some(entry) = read.written.get("listen") else { return Vec::new() };
    let Value::List(items) = &entry.value else {
        return listener(read, "listen", &entry.value).into_iter().collect();
    };
    if items.is_empty() {
        let reason = "leaves nothing to listen on; write at least one address".to_owned();
        read.judge::<()>("listen", &entry.value, Err(reason));
    }
    let items = items.iter().enumerate();
    items.filter_map(|(n, item)| listener(read, &format!("listen[{n}]"), item)).collect()
}

/// One listener: a text, or a table that has an `address`.
fn listener(read: &mut Reader, path: &str, value: &Value) -> Option<Listen> {
    let refusal = || keys::find("listen").map(|key| key.form.refusal()).unwrap_or_default();
    let Value::Table(table) = value else {
        let address = value.as_text().and_then(units::endpoint).ok_or_else(refusal);
        return socket(read, path, value, address);
    };
    if path == "listen" {
        let reason =
            "is not a list; write [[listen]] with double brackets, once for each listener".to_owned();
        return read.judge(path, value, Err(reason));
    }
    unknown_in_listener(read, path, table);
    let Some(address) = table.get("address") else {
        let reason = "has no address; write one, such as address = \"127.0.0.1:8080\"".to_owned();
        return read.judge(path, value, Err(reason));
    };
    let parsed = address.as_text().and_then(units::endpoint).ok_or_else(refusal);
    socket(read, &format!("{path}.address"), address, parsed)
}

/// The path of a unix socket is made absolute, and has to fit the kernel's structure.
fn socket(read: &mut Reader, path: &str, value: &Value, parsed: Result<Endpoint, String>) -> Option<Listen> {
    let address = match read.judge(path, value, parsed)? {
        Endpoint::Unix(socket) => Endpoint::Unix(read.written.absolute("listen", socket)),
        tcp => tcp,
    };
    let fits = match &address {
        Endpoint::Unix(socket) => short_enough(socket, ""),
        Endpoint::Tcp(_) => Ok(()),
    };
    read.judge(path, value, fits)?;
    Some(Listen { address })
}

fn unknown_in_listener(read: &mut Reader, path: &str, table: &Table) {
    for name in table.keys().filter(|name| *name != "address") {
        let key = format!("{path}.{name}");
        let hint = suggest::hint_among("listen", name, &["address"]);
        read.problems.push(Error::Unknown { place: read.written.place(&key), key, kind: "key", hint });
    }
}

/// Whether a socket at this path can be bound: the kernel's `sockaddr_un` holds 107 bytes.
pub(crate) fn short_enough(path: &Path, name: &str) -> Result<(), String> {
    let most = units::UNIX_PATH_BYTES - name.len();
    let length = path.as_os_str().len();
    if length <= most {
        return Ok(());
    }
    Err(format!("is {length} bytes long as an absolute path; choose a folder that makes it at most {most}"))
}

fn timeouts(read: &mut Reader) -> Timeouts {
    Timeouts {
        header: read.duration("timeouts.header"),
        body: read.duration("timeouts.body"),
        write: read.duration("timeouts.write"),
        keepalive: read.duration("timeouts.keepalive"),
        connect: read.duration("timeouts.connect"),
        response: read.duration("timeouts.response"),
        request: read.duration("timeouts.request"),
        queue: read.duration("timeouts.queue"),
        stall: read.duration("timeouts.stall"),
        hang: read.duration("timeouts.hang"),
        boot: read.duration("timeouts.boot"),
        graceful: read.duration("timeouts.graceful"),
        drain_delay: read.duration("timeouts.drain_delay"),
        remote: read.duration("timeouts.remote"),
    }
}

fn limits(read: &mut Reader) -> Limits {
    Limits {
        request_line: read.size("limits.request_line"),
        header_bytes: read.size("limits.header_bytes"),
        headers: read.whole("limits.headers"),
        body: read.size("limits.body"),
        body_rate: read.size("limits.body_rate"),
        body_buffer: read.size("limits.body_buffer"),
        write_buffer: read.size("limits.write_buffer"),
        stream_window: read.size("limits.stream_window"),
        waiting: read.whole("limits.waiting"),
        queue: read.whole("limits.queue"),
        connections: read.whole("limits.connections"),
        backlog: read.whole("limits.backlog"),
        remote: read.size("limits.remote"),
    }
}

/// Longest name of a cache in bytes: it is the name of a folder too.
const CACHE_NAME: usize = 64;

fn caches(read: &mut Reader) -> Vec<Cache> {
    read.names("cache").into_iter().map(|name| cache(read, name)).collect()
}

fn cache(read: &mut Reader, name: String) -> Cache {
    let key = |key: &str| format!("cache.{name}.{key}");
    let good = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if name.len() > CACHE_NAME || !name.chars().all(good) {
        let reason = "is not a name of a cache; write at most 64 letters, digits, \"_\" and \"-\"";
        read.judge::<()>(&format!("cache.{name}"), &Value::text(&name), Err(reason.to_owned()));
    }
    Cache {
        items: read.whole(&key("items")),
        size: read.size(&key("size")),
        item_size: read.size(&key("item_size")),
        key_size: read.size(&key("key_size")),
        lru: read.flag(&key("lru")),
        expires: read.duration(&key("expires")),
        persist: read.optional_path(&key("persist")),
        shared: remote::shared(read, key),
        name,
    }
}

fn log(read: &mut Reader) -> Log {
    let format = match read.word("log.format") {
        "human" => LogFormat::Human,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    Log { level: read.text("log.level", units::log_filter), format, access: read.flag("log.access") }
}

fn admin(read: &mut Reader) -> Admin {
    let listen = read.optional_text("admin.listen", units::tcp);
    Admin { listen, run_dir: read_run_dir(read) }
}

/// One `[[metric]]`.
fn metric(read: &mut Reader) -> Metric {
    Metric {
        name: read.needed_text("metric[].name", units::metric),
        kind: match read.word("metric[].type") {
            "gauge" => MetricKind::Gauge,
            _ => MetricKind::Counter,
        },
        help: read.optional_text("metric[].help", |text| Some(text.to_owned())).unwrap_or_default(),
        labels: read.texts("metric[].labels", units::label),
        initial: read.whole("metric[].initial"),
        alias: read.optional_text("metric[].alias", units::metric),
    }
}

/// `admin.run_dir` alone.
pub fn run_dir(written: &Written, problems: &mut Vec<Error>) -> Option<PathBuf> {
    read_run_dir(&mut Reader::new(written, problems))
}

fn read_run_dir(read: &mut Reader) -> Option<PathBuf> {
    let run_dir = read.optional_path("admin.run_dir")?;
    let entry = read.written.get("admin.run_dir")?;
    read.judge("admin.run_dir", &entry.value, short_enough(&run_dir, WORKER_SOCKET));
    Some(run_dir)
}
