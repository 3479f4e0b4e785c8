//! Values that are text in the configuration and more than text in [`Settings`](crate::Settings): durations, sizes,
//! addresses, networks, masks, application names. Each reads with a function that answers `None` for everything else
//! (the sentence for the user is the business of the caller, who knows the key), and writes back to the same text.
use crate::application::{Interface, Target};
use crate::settings::{Endpoint, NativeApp, Network};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Units of time, largest first, in milliseconds.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size, largest first, in bytes. Powers of 1024 are spelled with an `i` (IEC 80000-13), powers of 1000 without.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Reads `"500ms"`, `"30s"`, `"5m"`, `"1h"`; whole numbers only.
pub fn duration(text: &str) -> Option<Duration> {
    quantity(text, &TIMES).map(Duration::from_millis)
}

/// Reads `"512B"`, `"64KiB"`, `"16MiB"`, `"1GiB"`, and the decimal `KB`, `MB`, `GB`; answers bytes.
pub fn size(text: &str) -> Option<u64> {
    quantity(text, &SIZES)
}

/// Writes a duration as [`duration`] reads it, in the largest unit that leaves a whole number.
pub fn duration_text(duration: Duration) -> String {
    // Whole milliseconds by construction, so nothing is lost; u64 milliseconds are 584 million years.
    quantity_text(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &TIMES)
}

/// Writes a size as [`size`] reads it, in the largest unit that leaves a whole number.
pub fn size_text(bytes: u64) -> String {
    quantity_text(bytes, &SIZES)
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn quantity_text(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, scale): &&(&str, u64)| amount >= *scale && amount.is_multiple_of(*scale);
    let (name, scale) = units.iter().find(fits).or(units.last()).copied().unwrap_or(("", 1));
    format!("{}{name}", amount / scale)
}

/// Longest path that fits `sockaddr_un.sun_path` with its final NUL (unix(7)).
pub const UNIX_PATH_BYTES: usize = 107;

/// Reads a listening address (see [`Endpoint`]); `localhost` is 127.0.0.1, and the path of a unix socket may still be
/// relative.
pub fn endpoint(text: &str) -> Option<Endpoint> {
    match text.strip_prefix("unix:") {
        Some(path) if path.is_empty() || path.contains('\0') => None,
        Some(path) => Some(Endpoint::Unix(PathBuf::from(path))),
        None => tcp(text).map(Endpoint::Tcp),
    }
}

/// Reads a TCP address. `:8080` means all IPv4 addresses, as in uWSGI and gunicorn; IPv6 has to be asked for (`[::]:8080`),
/// since many containers have none.
pub fn tcp(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:").or(text.strip_prefix(':')) {
        Some(port) if text.starts_with(':') => Some((Ipv4Addr::UNSPECIFIED, number(port)?).into()),
        Some(port) => Some((Ipv4Addr::LOCALHOST, number(port)?).into()),
        None => text.parse().ok(),
    }
}

/// `str::parse` for integers also takes a sign; a port has none.
fn number(port: &str) -> Option<u16> {
    if port.starts_with('+') { None } else { port.parse().ok() }
}

/// Reads `10.0.0.0/8`, `::1/128`, or a plain address.
pub fn network(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(prefix) => u8::try_from(number(prefix)?).ok().filter(|prefix| *prefix <= bits)?,
        None => bits,
    };
    Some(Network { address, prefix })
}

/// Reads a file mode creation mask: up to four octal digits, at most `0777`.
pub fn mask(text: &str) -> Option<u32> {
    let octal = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    u32::from_str_radix(text, 8).ok().filter(|mask| octal && *mask <= 0o777)
}

/// Reads the name of a Python application that the proxy serves. A name that ends in `.py` is a file, not a module.
pub fn module(text: &str) -> Option<String> {
    let is_served = |target: Target<'_>| target.interface != Some(Interface::Tornado);
    Target::parse(text).is_some_and(is_served).then(|| text.to_owned())
}

/// Reads the name of a Python application of the workers' own listeners: with its interface, so that nobody has to guess.
pub fn native_module(text: &str) -> Option<String> {
    Target::parse(text).is_some_and(|target| target.interface.is_some()).then(|| text.to_owned())
}

/// The native applications that are built in, as in `native:hello`.
pub const BUILT_IN: [&str; 4] = ["hello", "echo", "status", "static"];

/// Reads `native:NAME`, or the path of a shared library, which ends in `.so`.
pub fn native(text: &str) -> Option<NativeApp> {
    match text.strip_prefix("native:") {
        Some(name) => BUILT_IN.contains(&name).then(|| NativeApp::BuiltIn(name.to_owned())),
        None if text.ends_with(".so") => Some(NativeApp::Library(text.into())),
        None => None,
    }
}

/// Reads the path of a route, which is compared with decoded paths; a slash at its end says nothing.
pub fn route(text: &str) -> Option<String> {
    let inner = text.strip_prefix('/')?.trim_end_matches('/');
    let is_fine =
        !inner.contains(['?', '#', '%', '\0']) && !inner.split('/').any(|name| [".", ".."].contains(&name));
    is_fine.then(|| format!("/{inner}"))
}

/// Reads a log level, or levels for targets: `info,appliance_proxy=debug`.
pub fn log_filter(text: &str) -> Option<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let fits = text.split(',').all(|part| {
        let (target, level) = part.split_once('=').unwrap_or(("all", part));
        let named =
            !target.is_empty() && target.chars().all(|c| c.is_ascii_alphanumeric() || "_:-".contains(c));
        named && LEVELS.contains(&level)
    });
    fits.then(|| text.to_owned())
}

/// Reads the name or number of a user or group, as useradd(8) accepts it.
pub fn account(text: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!text.is_empty() && !text.starts_with('-') && text.chars().all(fits)).then(|| text.to_owned())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Longest name of a metric, in bytes.
pub const METRIC_NAME_BYTES: usize = 96;
/// Longest name of a metric's label, in bytes.
pub const LABEL_NAME_BYTES: usize = 48;
/// Beginnings of names that are taken: our own metrics in Prometheus, and uWSGI's built-in ones.
const TAKEN: [&str; 3] = ["appliance", "core", "worker"];

/// Reads the name of a metric of the application's, in Prometheus' letters or uWSGI's.
pub fn metric(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= METRIC_NAME_BYTES;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-:".contains(&byte));
    let is_ours = TAKEN.iter().any(|taken| {
        text.strip_prefix(taken).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_', '-']))
    });
    (fits && is_plain && !is_ours && !text.starts_with(|c: char| c.is_ascii_digit())).then(|| text.to_owned())
}

/// The same name as Prometheus knows it: two names that differ only in dots, dashes and underscores are one.
pub fn metric_identity(name: &str) -> String {
    name.replace(['.', '-'], "_")
}

/// Reads the name of a label; `le` belongs to histograms, and two underscores at the beginning to Prometheus.
pub fn label(text: &str) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= LABEL_NAME_BYTES;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_ours = text == "le" || text.starts_with("__") || text.starts_with(|c: char| c.is_ascii_digit());
    (fits && is_plain && !is_ours).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_whole_number_and_a_unit() {
        let good = [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in good {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "1.5s", "-1s", "+1s", "1 s", "1S", "1d", "30s ", "99999999999999999999s"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        let good =
            [("512B", 512), ("64KiB", 65_536), ("64KB", 64_000), ("16MiB", 16 << 20), ("1GB", 1_000_000_000)];
        for (text, bytes) in good {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "64", "64K", "64kb", "1TiB", "18446744073709551615KiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_written_as_they_are_read() {
        for text in ["1ms", "1500ms", "90s", "2m", "1h", "25h"] {
            assert_eq!(duration(text).map(duration_text).as_deref(), Some(text));
        }
        for text in ["0B", "1023B", "1KiB", "1KB", "1500KB", "16MiB", "3GiB"] {
            assert_eq!(size(text).map(size_text).as_deref(), Some(text));
        }
    }

    #[test]
    fn endpoints_are_tcp_or_unix() {
        let good = [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            (":0", "0.0.0.0:0"),
            ("localhost:80", "127.0.0.1:80"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
        ];
        for (text, means) in good {
            assert_eq!(endpoint(text).map(|endpoint| endpoint.to_string()).as_deref(), Some(means));
        }
        for text in
            ["80", ":", ":+80", "::1:80", "127.0.0.1", "example.org:80", "unix:", "http://127.0.0.1:80"]
        {
            assert_eq!(endpoint(text), None, "{text}");
        }
    }

    #[test]
    fn a_plain_address_is_a_network_of_one() {
        for (text, means) in [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("::1", "::1/128")] {
            assert_eq!(network(text).map(|network| network.to_string()).as_deref(), Some(means));
        }
        for text in ["10.0.0.0/33", "::1/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "/8"] {
            assert_eq!(network(text), None, "{text}");
        }
    }

    #[test]
    fn masks_are_octal() {
        assert_eq!((mask("0027"), mask("77"), mask("0")), (Some(0o027), Some(0o77), Some(0)));
        for text in ["", "8", "1000", "00027", "+27", "0o27"] {
            assert_eq!(mask(text), None, "{text}");
        }
    }

    #[test]
    fn tornado_serves_on_the_workers_own_listeners_only() {
        assert_eq!(module("asgi:web:app").as_deref(), Some("asgi:web:app"));
        assert_eq!(module("tornado:web:make"), None);
        assert_eq!(native_module("tornado:web:make").as_deref(), Some("tornado:web:make"));
        assert_eq!(native_module("web:app"), None);
    }

    #[test]
    fn native_applications_are_built_in_or_libraries() {
        assert_eq!(native("native:echo"), Some(NativeApp::BuiltIn("echo".to_owned())));
        assert_eq!(native("./lib/app.so"), Some(NativeApp::Library("./lib/app.so".into())));
        for text in ["native:", "native:other", "native", "app:app", "app.so.py"] {
            assert_eq!(native(text), None, "{text}");
        }
        assert_eq!(module("native:other"), None, "it is no module of Python either");
    }

    #[test]
    fn routes_are_decoded_paths() {
        for (text, path) in [("/", "/"), ("/fast", "/fast"), ("/a/b/", "/a/b")] {
            assert_eq!(route(text).as_deref(), Some(path));
        }
        for text in ["", "fast", "/a?b", "/a%20b", "/a/../b", "/."] {
            assert_eq!(route(text), None, "{text}");
        }
    }

    #[test]
    fn log_filters_are_levels_for_targets() {
        for text in ["info", "off", "info,appliance_proxy=debug", "a::b=trace,warn"] {
            assert_eq!(log_filter(text).as_deref(), Some(text));
        }
        for text in ["", "inof", "info,", "=info", "a=", "a=b", "a b=info"] {
            assert_eq!(log_filter(text), None, "{text}");
        }
    }

    #[test]
    fn accounts_are_names_or_numbers() {
        assert_eq!(
            (account("www-data"), account("33")),
            (Some("www-data".to_owned()), Some("33".to_owned()))
        );
        for text in ["", "a b", "-a", "a:b", "a/b"] {
            assert_eq!(account(text), None, "{text}");
        }
    }

    #[test]
    fn metrics_have_names_that_prometheus_or_uwsgi_know() {
        for good in ["orders", "kit.hits", "a-b:c_9", "cores", "workers_total"] {
            assert_eq!(metric(good).as_deref(), Some(good));
        }
        for bad in ["", "9a", "a b", "é", "worker.1.requests", "core_x", "appliance_up", "worker"] {
            assert_eq!(metric(bad), None, "{bad}");
        }
        assert_eq!(metric_identity("kit.hits-all"), "kit_hits_all");
        assert_eq!(
            ["kind", "le", "__name__", "1a", "a.b"].map(|name| label(name).is_some()),
            [true, false, false, false, false]
        );
    }
}
