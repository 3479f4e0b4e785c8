//! `appliance config show`: the effective settings as a file that loads again, each line with its source. Pure.
use crate::form::Form;
use crate::keys::{self, EACH, KEYS};
use crate::load::Loaded;
use crate::settings::{LogFormat, Metric, MetricKind, OnCrashLoop, Route, Settings, Suspend};
use crate::units::{duration_text, size_text};
use crate::written::{Value, Written, key_text};
use std::time::Duration;

impl Loaded {
    /// The effective settings as TOML. Each line ends with a comment that tells the source of its value, and the value
    /// as it was written where that looks different (`count = 2  # default: "auto"`). Contains the values of `app.env`
    /// and `app.options`.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        for key in KEYS {
            if let Some((array, _)) = key.in_array() {
                if table != array {
                    tables(&mut text, array, &self.settings, &self.written);
                }
                table = array;
                continue;
            }
            let (parent, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
            match key.form {
                Form::Variables { .. } => variables(&mut text, key.path, &self.settings, &self.written),
                Form::Listeners => listeners(&mut text, &self.settings, &self.written),
                // All keys of a name at once, at the first of them.
                _ if key.by_name().is_some() => {
                    if parent != table {
                        caches(&mut text, &self.settings, &self.written);
                    }
                }
                _ => {
                    if parent != table {
                        header(&mut text, &format!("[{parent}]"));
                    }
                    match value(&self.settings, key.path) {
                        Some(value) => line(&mut text, name, &value, &self.written, key.path),
                        None => text.push_str(&format!("# {name} is not set\n")),
                    }
                }
            }
            table = parent;
        }
        text
    }
}

fn header(text: &mut String, header: &str) {
    let gap = if text.is_empty() { "" } else { "\n" };
    text.push_str(&format!("{gap}{header}\n"));
}

fn line(text: &mut String, name: &str, value: &Value, written: &Written, path: &str) {
    let place = written.place(path);
    let was = written.get(path).map(|entry| &entry.value).filter(|was| *was != value);
    let was = was.map(|was| format!(": {was}")).unwrap_or_default();
    text.push_str(&format!("{name} = {value}  # {place}{was}\n"));
}

fn variables(text: &mut String, table: &str, settings: &Settings, written: &Written) {
    let variables = variables_of(settings, table);
    if !variables.is_empty() {
        header(text, &format!("[{table}]"));
    }
    for (name, value) in variables {
        line(text, &key_text(name), &Value::text(value), written, &format!("{table}.{name}"));
    }
}

/// What stands in a table of free names.
pub(crate) fn variables_of<'a>(settings: &'a Settings, table: &str) -> &'a [(String, String)] {
    match table {
        "app.env" => &settings.app.env,
        "app.options" => &settings.app.options,
        _ => &[],
    }
}

fn listeners(text: &mut String, settings: &Settings, written: &Written) {
    for (n, listen) in settings.listen.iter().enumerate() {
        header(text, "[[listen]]");
        line(text, "address", &Value::text(&listen.address), written, &format!("listen[{n}].address"));
    }
}

fn caches(text: &mut String, settings: &Settings, written: &Written) {
    for name in settings.caches.iter().map(|cache| &cache.name) {
        header(text, &format!("[cache.{name}]"));
        for key in keys::names_in("cache.NAME") {
            let path = format!("cache.{name}.{key}");
            match value(settings, &path) {
                Some(value) => line(text, key, &value, written, &path),
                None => text.push_str(&format!("# {key} is not set\n")),
            }
        }
    }
}

/// The tables of an array; what is not set is left out.
fn tables(text: &mut String, array: &str, settings: &Settings, written: &Written) {
    for n in 0..length(settings, array) {
        header(text, &format!("[[{array}]]"));
        for (key, (_, name)) in KEYS.iter().filter_map(|key| Some((key, key.in_array()?))) {
            let path = key.path.replacen(EACH, &format!("[{n}]"), 1);
            let Some(value) = value(settings, &path).filter(|_| key.path.starts_with(array)) else {
                continue;
            };
            match written.item(array, n).and_then(|item| item.get(name)) {
                Some(_) => line(text, name, &value, written, &path),
                None => text.push_str(&format!("{name} = {value}  # default\n")),
            }
        }
    }
}

/// How many tables an array has.
pub(crate) fn length(settings: &Settings, array: &str) -> usize {
    match array {
        "metric" => settings.metrics.len(),
        "route" => settings.routes.len(),
        "sharedarea" => settings.areas.len(),
        _ => 0,
    }
}

/// The value of a key as it would be written; the inverse of `check.rs`. In an array of tables the path has a number:
/// `metric[2].name`.
pub(crate) fn value(settings: &Settings, path: &str) -> Option<Value> {
    let (table, name) = path.split_once('.')?;
    if let Some((array, number)) = table.split_once('[') {
        let number: usize = number.trim_end_matches(']').parse().ok()?;
        return match array {
            "metric" => metric(settings.metrics.get(number)?, name),
            "route" => route(settings.routes.get(number)?, name),
            "sharedarea" => Some(size(settings.areas.get(number)?.size as u64)).filter(|_| name == "size"),
            _ => None,
        };
    }
    match table {
        "app" => app(settings, name),
        "workers" => of_workers(settings, name),
        "timeouts" => timeout(settings, name),
        "limits" => limit(settings, name),
        "cache" => cache(settings, name),
        _ => other(settings, path),
    }
}

fn app(settings: &Settings, name: &str) -> Option<Value> {
    let app = &settings.app;
    Some(match name {
        "module" => Value::text(&app.module),
        "chdir" => Value::text(app.chdir.display()),
        "venv" => Value::text(app.venv.as_ref()?.display()),
        "python" => Value::text(&app.python),
        "pythonpath" => Value::List(app.pythonpath.iter().map(|path| Value::text(path.display())).collect()),
        "suspend" => Value::text(match app.suspend {
            Suspend::Greenlet => "greenlet",
            Suspend::Thread => "thread",
        }),
        "cancel_on_disconnect" => Value::Flag(app.cancel_on_disconnect),
        _ => return None,
    })
}

fn timeout(settings: &Settings, name: &str) -> Option<Value> {
    let timeouts = &settings.timeouts;
    let duration = match name {
        "header" => timeouts.header,
        "body" => timeouts.body,
        "write" => timeouts.write,
        "keepalive" => timeouts.keepalive,
        "connect" => timeouts.connect,
        "response" => timeouts.response,
        "request" => timeouts.request,
        "queue" => timeouts.queue,
        "stall" => timeouts.stall,
        "hang" => timeouts.hang,
        "boot" => timeouts.boot,
        "graceful" => timeouts.graceful,
        "drain_delay" => timeouts.drain_delay,
        "remote" => timeouts.remote,
        _ => return None,
    };
    Some(time(duration))
}

fn time(duration: Duration) -> Value {
    if duration == Duration::ZERO { Value::Whole(0) } else { Value::Text(duration_text(duration)) }
}

fn of_workers(settings: &Settings, name: &str) -> Option<Value> {
    let workers = &settings.workers;
    // A bound that was not written is where `count` is.
    let bound = |bound| Some(bound).filter(|bound| *bound != workers.count);
    Some(match name {
        "count" => whole(workers.count.into()),
        "cores" => whole(workers.cores.into()),
        "stack" => size(workers.stack as u64),
        "min" => whole(bound(workers.min)?.into()),
        "max" => whole(bound(workers.max)?.into()),
        "max_requests" => whole(workers.max_requests),
        "max_memory" => size(workers.max_memory?),
        "max_lifetime" => time(workers.max_lifetime),
        "locks" => whole(workers.locks.into()),
        "touch_reload" => {
            Value::List(workers.touch_reload.iter().map(|path| Value::text(path.display())).collect())
        }
        "on_crash_loop" => Value::text(match workers.on_crash_loop {
            OnCrashLoop::Stay => "stay",
            OnCrashLoop::Exit => "exit",
        }),
        _ => return None,
    })
}

fn limit(settings: &Settings, name: &str) -> Option<Value> {
    let limits = &settings.limits;
    Some(match name {
        "request_line" => size(limits.request_line as u64),
        "header_bytes" => size(limits.header_bytes as u64),
        "headers" => whole(limits.headers as u64),
        "body" => size(limits.body),
        "body_rate" => size(limits.body_rate),
        "body_buffer" => size(limits.body_buffer as u64),
        "write_buffer" => size(limits.write_buffer as u64),
        "stream_window" => size(limits.stream_window as u64),
        "waiting" => whole(limits.waiting as u64),
        "queue" => whole(limits.queue as u64),
        "connections" => whole(limits.connections as u64),
        "backlog" => whole(limits.backlog.into()),
        "remote" => size(limits.remote as u64),
        _ => return None,
    })
}

fn cache(settings: &Settings, path: &str) -> Option<Value> {
    let (name, key) = path.split_once('.')?;
    let cache = settings.caches.iter().find(|cache| cache.name == name)?;
    Some(match key {
        "items" => whole(cache.items),
        "size" => size(cache.size),
        "item_size" => size(cache.item_size),
        "key_size" => size(cache.key_size),
        "lru" => Value::Flag(cache.lru),
        "expires" => time(cache.expires),
        "persist" => Value::text(cache.persist.as_ref()?.display()),
        "listen" => Value::List(cache.shared.listen.iter().map(Value::text).collect()),
        "allow" => Value::List(cache.shared.access.allow.iter().map(Value::text).collect()),
        "nodes" => Value::List(cache.shared.nodes.iter().map(Value::text).collect()),
        "udp" => Value::text(cache.shared.udp?),
        _ => return None,
    })
}

fn route(route: &Route, name: &str) -> Option<Value> {
    Some(match name {
        "path" => Value::text(&route.path),
        "to" => Value::text("native"),
        _ => return None,
    })
}

fn metric(metric: &Metric, name: &str) -> Option<Value> {
    Some(match name {
        "name" => Value::text(&metric.name),
        "type" => Value::text(match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        }),
        "help" => Value::text(Some(&metric.help).filter(|help| !help.is_empty())?),
        "labels" => Value::List(metric.labels.iter().map(Value::text).collect()),
        "initial" => Value::Whole(metric.initial),
        "alias" => Value::text(metric.alias.as_ref()?),
        _ => return None,
    })
}

fn other(settings: &Settings, path: &str) -> Option<Value> {
    Some(match path {
        "native.app" => Value::text(settings.native.app.as_ref()?),
        "native.folder" => Value::text(settings.native.folder.as_ref()?.display()),
        "native.base_port" => whole(settings.native.base_port?.into()),
        "native.address" => Value::text(settings.native.address),
        "websocket.max_message" => size(settings.websocket.max_message as u64),
        "websocket.ping_interval" => time(settings.websocket.ping_interval),
        "websocket.ping_timeout" => time(settings.websocket.ping_timeout),
        "queue.slots" => whole(settings.queue.slots.into()),
        "queue.slot_size" => size(settings.queue.slot_size as u64),
        "websocket.compression" => Value::Flag(settings.websocket.compression),
        "proxy.threads" => whole(settings.proxy.threads.into()),
        "proxy.trusted" => Value::List(settings.proxy.trusted.iter().map(Value::text).collect()),
        "rpc.listen" => Value::List(settings.rpc.listen.iter().map(Value::text).collect()),
        "rpc.allow" => Value::List(settings.rpc.access.allow.iter().map(Value::text).collect()),
        "rpc.calls" => whole(settings.rpc.calls as u64),
        "log.level" => Value::text(&settings.log.level),
        "log.format" => Value::text(match settings.log.format {
            LogFormat::Auto => "auto",
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        }),
        "log.access" => Value::Flag(settings.log.access),
        "admin.listen" => Value::text(settings.admin.listen?),
        "admin.run_dir" => Value::text(settings.admin.run_dir.as_ref()?.display()),
        "security.user" => Value::text(settings.security.user.as_ref()?),
        "security.group" => Value::text(settings.security.group.as_ref()?),
        "security.umask" => Value::Text(format!("{:04o}", settings.security.umask)),
        _ => return None,
    })
}

fn size(bytes: u64) -> Value {
    Value::Text(size_text(bytes))
}

fn whole(number: u64) -> Value {
    // Bounded far below by the forms of the keys.
    Value::Whole(i64::try_from(number).unwrap_or(i64::MAX))
}
