//! Values that are fine alone and impossible together. Called by `check.rs` last. Pure. What only the machine can tell
//! (a port that another program holds) shows when the master binds.
use crate::error::Error;
use crate::remote;
use crate::settings::{Endpoint, MOST_AREAS, NativeApp, Settings};
use crate::units;
use crate::written::Written;
use std::net::SocketAddr;

/// Reports every contradiction among settings, but for those that rest on a refused value.
pub fn conflicts(settings: &Settings, written: &Written, refused: &[String], problems: &mut Vec<Error>) {
    let alone = sizes(settings)
        .into_iter()
        .chain(caches(settings))
        .chain(areas(settings))
        .chain(numbers_of_workers(settings))
        .chain(standstills(settings))
        .chain(native_apps(settings));
    let found = alone.chain(native_ports(settings)).chain(listeners(settings));
    let found = found.chain(metrics(settings)).chain(unguarded(settings));
    for Conflict { key, other, reason } in found {
        // A refused `listen[1]` leaves the other listeners in place, but under other numbers.
        let whole = |key: &str| key.split('[').next().unwrap_or_default().to_owned();
        let rests_on = |bad: &String| whole(bad) == whole(&key) || whole(bad) == whole(&other);
        if !refused.iter().any(rests_on) {
            // One of the two may be a default, which nobody can go and change.
            let culprit = if written.is_default(&key) { &other } else { &key };
            problems.push(Error::Conflict { place: written.place(culprit), key, reason });
        }
    }
}

/// One contradiction between two keys.
struct Conflict {
    key: String,
    other: String,
    reason: String,
}

impl Conflict {
    fn new(key: impl Into<String>, other: impl Into<String>, reason: String) -> Self {
        Conflict { key: key.into(), other: other.into(), reason }
    }
}

/// A part cannot be larger than the whole.
fn sizes(settings: &Settings) -> Vec<Conflict> {
    let limits = &settings.limits;
    let pairs = [
        (
            "limits.request_line",
            limits.request_line as u64,
            "limits.header_bytes",
            limits.header_bytes as u64,
        ),
        ("limits.body_buffer", limits.body_buffer as u64, "limits.body", limits.body),
    ];
    let larger = pairs.into_iter().filter(|(_, part, _, whole)| part > whole);
    larger
        .map(|(key, part, other, whole)| {
            let (part, whole) = (units::size_text(part), units::size_text(whole));
            Conflict::new(
                key,
                other,
                format!("{part} is more than {other}, {whole}; lower the one or raise the other"),
            )
        })
        .collect()
}

/// A value has to fit its cache, and no two caches share a file.
fn caches(settings: &Settings) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (n, cache) in settings.caches.iter().enumerate() {
        let key = |key: &str| format!("cache.{}.{key}", cache.name);
        if cache.item_size > cache.size / 2 {
            let (item, size) = (units::size_text(cache.item_size), units::size_text(cache.size));
            let reason = format!(
                "{item} is more than half of {}, {size}; lower the one or raise the other",
                key("size")
            );
            found.push(Conflict::new(key("item_size"), key("size"), reason));
        }
        let same = settings.caches[..n].iter().find(|other| other.persist == cache.persist);
        if let (Some(path), Some(other)) = (&cache.persist, same) {
            let reason = format!("{} is the file of [cache.{}]; choose another", path.display(), other.name);
            found.push(Conflict::new(key("persist"), format!("cache.{}.persist", other.name), reason));
        }
    }
    found
}

/// Each area has a lock.
fn areas(settings: &Settings) -> Option<Conflict> {
    (settings.areas.len() > MOST_AREAS).then(|| {
        let reason = format!("there are {} of them; write {MOST_AREAS} at most", settings.areas.len());
        Conflict::new("sharedarea", "sharedarea", reason)
    })
}

/// `workers.count` is what it starts with, so it lies between the bounds.
fn numbers_of_workers(settings: &Settings) -> Vec<Conflict> {
    let workers = &settings.workers;
    let pairs = [
        ("workers.min", workers.min, "workers.count", workers.count),
        ("workers.count", workers.count, "workers.max", workers.max),
    ];
    let wrong = pairs.into_iter().filter(|(_, less, _, more)| less > more);
    wrong
        .map(|(key, less, other, more)| {
            let reason = format!("{less} is more than {other}, {more}; lower the one or raise the other");
            Conflict::new(key, other, reason)
        })
        .collect()
}

/// A worker is not killed before it is left out.
fn standstills(settings: &Settings) -> Option<Conflict> {
    let (stall, hang) = (settings.timeouts.stall, settings.timeouts.hang);
    (!hang.is_zero() && stall > hang).then(|| {
        let reason =
            format!("{stall:?} is longer than timeouts.hang, {hang:?}; lower the one or raise the other");
        Conflict::new("timeouts.stall", "timeouts.hang", reason)
    })
}

/// A native application needs a door, and `native:static` a folder.
fn native_apps(settings: &Settings) -> Vec<Conflict> {
    let native = &settings.native;
    let mut found = Vec::new();
    if native.app.is_some() && native.base_port.is_none() && settings.routes.is_empty() {
        let reason = "is served nowhere; write native.base_port, or a [[route]]".to_owned();
        found.push(Conflict::new("native.app", "native.base_port", reason));
    }
    if !settings.routes.is_empty() && native.native().is_none() {
        let reason = "leads to no native application; write native.app".to_owned();
        found.push(Conflict::new("route[0].path", "native.app", reason));
    }
    let files = Some(NativeApp::BuiltIn("static".to_owned()));
    let uses = [("native.app", native.native()), ("app.module", settings.app.native())];
    if let Some((key, _)) = uses.into_iter().find(|(_, app)| *app == files && native.folder.is_none()) {
        let reason = "has no folder to serve; write native.folder = \"static\"".to_owned();
        found.push(Conflict::new(key, "native.folder", reason));
    }
    found
}

/// The workers' own ports have to exist, and to be free of our other listeners.
fn native_ports(settings: &Settings) -> Vec<Conflict> {
    let Some(base) = settings.native.base_port else { return Vec::new() };
    let (base, count) = (u32::from(base), settings.workers.max);
    let last = base + count;
    let Ok(last) = u16::try_from(last) else {
        let reason = format!(
            "worker {count} would listen on port {last}, and ports end at 65535; write at most {}",
            u32::from(u16::MAX).saturating_sub(count)
        );
        return vec![Conflict::new("native.base_port", "workers.max", reason)];
    };
    let taken = tcp_listeners(settings).into_iter().filter_map(|(other, address)| {
        let port = address.port();
        let collides = port <= last && overlap(SocketAddr::new(settings.native.address, port), address);
        let worker = u32::from(port).checked_sub(base).filter(|worker| *worker > 0 && collides)?;
        let reason = format!(
            "worker {worker} would listen on port {port}, taken by {other}, {address}; choose another"
        );
        Some(Conflict::new("native.base_port", other, reason))
    });
    taken.collect()
}

/// Every listener needs an address of its own.
fn listeners(settings: &Settings) -> Vec<Conflict> {
    let mut found = Vec::new();
    let tcp = tcp_listeners(settings);
    for (n, (key, address)) in tcp.iter().enumerate() {
        if let Some((other, taken)) = tcp[..n].iter().find(|(_, taken)| overlap(*taken, *address)) {
            found.push(Conflict::new(
                key,
                other,
                format!("{address} is taken by {other}, {taken}; choose another"),
            ));
        }
    }
    let sockets = settings.listen.iter().map(|listen| &listen.address);
    let sockets: Vec<_> = sockets.enumerate().filter(|(_, at)| matches!(at, Endpoint::Unix(_))).collect();
    for (i, (n, address)) in sockets.iter().enumerate() {
        if let Some((other, _)) = sockets[..i].iter().find(|(_, taken)| taken == address) {
            let reason = format!("{address} is taken by listen[{other}]; choose another");
            found.push(Conflict::new(format!("listen[{n}]"), "listen", reason));
        }
    }
    found
}

/// Every metric has a name of its own, and an alias is another name of a metric that is there.
fn metrics(settings: &Settings) -> Vec<Conflict> {
    let names: Vec<String> = settings.metrics.iter().map(|one| units::metric_identity(&one.name)).collect();
    let mut found = Vec::new();
    for (n, metric) in settings.metrics.iter().enumerate() {
        if let Some(other) = names[..n].iter().position(|name| *name == names[n]) {
            let reason = format!("{} is the name of metric[{other}] already; choose another", metric.name);
            found.push(Conflict::new(format!("metric[{n}].name"), format!("metric[{other}].name"), reason));
        }
        let Some(alias) = &metric.alias else { continue };
        let target = names.iter().position(|name| *name == units::metric_identity(alias));
        let target = target.map(|target| &settings.metrics[target]);
        if target.is_none_or(|target| target.alias.is_some() || !target.labels.is_empty()) {
            let reason = format!(
                "{alias} is no [[metric]] with a value of its own; name one that has neither labels nor an alias"
            );
            found.push(Conflict::new(format!("metric[{n}].alias"), "metric", reason));
        }
    }
    found
}

/// What speaks the uwsgi protocol trusts whoever reaches it, so it is reached from elsewhere only where somebody says by whom.
fn unguarded(settings: &Settings) -> Vec<Conflict> {
    let rpc =
        settings.rpc.listen.iter().map(|at| ("rpc".to_owned(), "listen", at.clone(), &settings.rpc.access));
    let caches = settings.caches.iter().flat_map(|cache| {
        let (table, shared) = (format!("cache.{}", cache.name), &cache.shared);
        let listen = shared.listen.iter().cloned().map(|address| ("listen", address));
        let all = listen.chain(shared.udp.map(|address| ("udp", Endpoint::Tcp(address))));
        all.map(move |(key, address)| (table.clone(), key, address, &shared.access))
    });
    let open = rpc
        .chain(caches)
        .filter(|(_, _, address, access)| !remote::is_local(address) && access.allow.is_empty());
    open.map(|(table, key, address, _)| {
        let allow = format!("{table}.allow");
        let reason = format!(
            "{address} can be reached from other machines; name those that may, in {allow}, or listen on 127.0.0.1 or a \
             unix socket"
        );
        Conflict::new(format!("{table}.{key}"), allow, reason)
    })
    .collect()
}

/// The TCP listeners of the proxy, the admin endpoint, and for the uwsgi protocol, by key; those that leave the port to the
/// kernel cannot collide.
fn tcp_listeners(settings: &Settings) -> Vec<(String, SocketAddr)> {
    let public = settings.listen.iter().enumerate().filter_map(|(n, listen)| match &listen.address {
        Endpoint::Tcp(address) => Some((format!("listen[{n}]"), *address)),
        Endpoint::Unix(_) => None,
    });
    let admin = settings.admin.listen.map(|address| ("admin.listen".to_owned(), address));
    let remote = remote::doors(settings).into_iter().filter_map(|door| match door.address {
        Endpoint::Tcp(address) => Some((door.key, address)),
        Endpoint::Unix(_) => None,
    });
    public.chain(admin).chain(remote).filter(|(_, address)| address.port() != 0).collect()
}

/// Whether the kernel refuses the second of two such listeners.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && same_family && same_ip
}
