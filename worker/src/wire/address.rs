//! Where another server is found: `host:port`, `[::1]:port`, `/unix/socket`, `unix:/unix/socket`, `@abstract`, and the names
//! of remote caches and nodes that are written with one. Pure: names of hosts stay names.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The name of a host, which must be looked up, and a port.
    Name(String, u16),
    /// A unix socket at a path.
    Unix(PathBuf),
    /// A unix socket in Linux's abstract namespace.
    Abstract(String),
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address; write \"10.0.0.1:3031\", \"[::1]:3031\", \"/run/app.sock\" or \"@name\"")]
pub struct NoAddress(String);

impl std::str::FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Address, NoAddress> {
        parse(text).ok_or_else(|| NoAddress(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Address::Unix(path.into()));
    }
    if let Some(name) = text.strip_prefix('@') {
        return (!name.is_empty()).then(|| Address::Abstract(name.to_owned()));
    }
    if let Ok(address) = text.parse() {
        return Some(Address::Tcp(address));
    }
    if let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.starts_with('/')) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_host = !host.is_empty()
            && host.chars().all(is_name)
            && !host.chars().all(|c| c.is_ascii_digit() || c == '.');
        return is_host.then_some(Address::Name(host.to_owned(), port.parse().ok()?));
    }
    text.contains('/').then(|| Address::Unix(text.into()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Name(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => path.display().fmt(f),
            Address::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// Splits `name@address`, as remote caches are called; `None` for the name of a local one.
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        for (text, address) in [
            ("127.0.0.1:3031", tcp("127.0.0.1:3031")),
            ("[::1]:3031", tcp("[::1]:3031")),
            ("cache.example:3031", Address::Name("cache.example".into(), 3031)),
            ("/run/app.sock", Address::Unix("/run/app.sock".into())),
            ("@app", Address::Abstract("app".into())),
            ("run/app.sock", Address::Unix("run/app.sock".into())),
        ] {
            assert_eq!((address.to_string().as_str(), text.parse()), (text, Ok(address)));
        }
        assert_eq!("unix:/run/a".parse(), Ok(Address::Unix("/run/a".into())));
    }

    #[test]
    fn what_is_no_address_is_said_so() {
        for text in
            ["", "host", "@", "unix:", ":80", "host:", "host:port", "host:70000", "300.1.1.1:80", "a b:1"]
        {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} is no address")), "{error}");
        }
    }

    #[test]
    fn the_name_of_a_remote_cache_has_an_address() {
        assert_eq!(split("local"), None);
        assert_eq!(split("kit@127.0.0.1:3031"), Some(("kit", "127.0.0.1:3031")));
        assert_eq!(split("@/run/app.sock"), Some(("", "/run/app.sock")));
        assert_eq!(split("kit@@abstract"), Some(("kit", "@abstract")));
    }
}
