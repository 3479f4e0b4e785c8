//! Who the client is, and what the application is told of it: `X-Forwarded-For`, `-Proto` and `-Host`, believed from
//! trusted peers only (the right-most untrusted hop rule of nginx's realip module). Pure; called once per request by
//! `gateway.rs`. It must never let a header through that the worker, or an application behind it, takes for the proxy's word.
use crate::client::{Client, Peer};
use crate::strict::is_host;
use appliance_config::settings::Network;
use appliance_link::private;
use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The facts about one request's origin, ready to be sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// `<ip>:<port>` of the client as the application sees it (port 0 if another proxy told us), or `unix:`.
    pub(crate) address: HeaderValue,
    /// The same without the port.
    pub(crate) ip: HeaderValue,
    /// `http` or `https`.
    pub(crate) scheme: HeaderValue,
    /// The whole `X-Forwarded-For`: what trusted peers said, then our own peer.
    pub(crate) forwarded_for: HeaderValue,
    /// A `Host` that a trusted peer put in place of its own.
    pub(crate) host: Option<HeaderValue>,
}

/// Whether the `X-Forwarded-*` of `peer` are believed. A unix client is: the socket's permissions decide who can be one.
pub(crate) fn is_trusted(peer: Peer, trusted: &[Network]) -> bool {
    peer.ip().is_none_or(|ip| trusted.iter().any(|network| network.contains(ip)))
}

/// The origin of a request of `client` with these headers.
pub(crate) fn origin(client: &Client, headers: &HeaderMap, trusted: &[Network]) -> Origin {
    let http = HeaderValue::from_static("http");
    if !client.trusted {
        let (address, ip) = (client.address.clone(), client.ip.clone());
        return Origin { address, forwarded_for: ip.clone(), ip, scheme: http, host: None };
    }
    let (address, ip, forwarded_for) = chain(client, headers, trusted);
    let scheme = match last(headers, &X_FORWARDED_PROTO) {
        Some(b"https") => HeaderValue::from_static("https"),
        _ => http,
    };
    let host = last(headers, &X_FORWARDED_HOST)
        .filter(|host| !host.is_empty() && is_host(host))
        .and_then(|host| HeaderValue::from_bytes(host).ok());
    Origin { address, ip, scheme, forwarded_for, host }
}

/// Walks `X-Forwarded-For` from the right to the first hop that is not trusted; the client's address with and without
/// port, and the new header.
fn chain(
    client: &Client,
    headers: &HeaderMap,
    trusted: &[Network],
) -> (HeaderValue, HeaderValue, HeaderValue) {
    let hops =
        || headers.get_all(&X_FORWARDED_FOR).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    let mut nearest = None;
    for hop in hops().map(<[u8]>::trim_ascii).collect::<Vec<_>>().into_iter().rev() {
        let Some(ip) = hop_ip(hop) else { break };
        nearest = Some(ip);
        if !trusted.iter().any(|network| network.contains(ip)) {
            break;
        }
    }
    let (address, ip) = match nearest.map(|ip| Peer::Inet(SocketAddr::new(ip, 0))) {
        Some(hop) => (hop.address_value(), hop.ip_value()),
        None => (client.address.clone(), client.ip.clone()),
    };
    let mut line = Vec::new();
    for hop in hops().map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()).chain([client.ip.as_bytes()]) {
        line.extend_from_slice(if line.is_empty() { b"" } else { b", " });
        line.extend_from_slice(hop);
    }
    let forwarded_for = HeaderValue::try_from(line).unwrap_or_else(|_| client.ip.clone());
    (address, ip, forwarded_for)
}

/// The address of a hop: `192.0.2.1`, `192.0.2.1:1234`, `2001:db8::1` or `[2001:db8::1]:1234`.
fn hop_ip(hop: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(hop).ok()?;
    let plain = || text.parse().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    plain().or_else(bracketed).or_else(with_port).map(|ip: IpAddr| ip.to_canonical())
}

/// The last element of a list header: what the nearest peer added.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let value = headers.get_all(name).iter().next_back()?.as_bytes();
    value.rsplit(|b| *b == b',').next().map(<[u8]>::trim_ascii)
}

/// Whether the client may not send this header: our private ones and `Proxy` (httpoxy) never, names with `_` never because
/// WSGI spells `-` that way, forwarding facts only if it is trusted. Names are lower-case.
pub(crate) fn is_forged(name: &HeaderName, trusted: bool) -> bool {
    let name = name.as_str();
    match name.as_bytes()[0] {
        b'x' if name.starts_with(private::PREFIX) => true,
        b'x' if name.starts_with("x-forwarded-") || name == "x-real-ip" => !trusted,
        b'f' if name == FORWARDED => !trusted,
        b'p' if name == "proxy" => true,
        _ => memchr::memchr(b'_', name.as_bytes()).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[(&str, u8)]) -> Vec<Network> {
        texts.iter().map(|(ip, prefix)| Network { address: ip.parse().unwrap(), prefix: *prefix }).collect()
    }

    /// The origin of a request from `peer` with these headers, where 10.0.0.0/8 is trusted.
    fn from(peer: &str, headers: &[(&'static str, &str)]) -> Origin {
        let trusted = networks(&[("10.0.0.0", 8)]);
        let peer = if peer == "unix:" { Peer::Unix } else { Peer::Inet(peer.parse().unwrap()) };
        let client = Client::new(peer, is_trusted(peer, &trusted), HeaderValue::from_static("s"));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        origin(&client, &map, &trusted)
    }

    #[test]
    fn an_untrusted_peer_is_the_client() {
        let forged =
            [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        let origin = from("192.0.2.9:77", &forged);
        assert_eq!(
            (origin.address, origin.forwarded_for),
            ("192.0.2.9:77".parse().unwrap(), "192.0.2.9".parse().unwrap())
        );
        assert_eq!((origin.scheme, origin.host), ("http".parse().unwrap(), None));
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        let address = |hops: &str| from("10.0.0.1:77", &[("x-forwarded-for", hops)]).address;
        assert_eq!(address("1.1.1.1, 2.2.2.2, 10.0.0.5"), "2.2.2.2:0");
        assert_eq!(address("10.0.0.7, 10.0.0.5"), "10.0.0.7:0", "all trusted: the first");
        assert_eq!(
            address("1.1.1.1, garbage, 10.0.0.5"),
            "10.0.0.5:0",
            "nothing left of garbage is believed"
        );
        assert_eq!(address("[2001:db8::1]:99"), "[2001:db8::1]:0");
        assert_eq!(address("3.3.3.3:99"), "3.3.3.3:0");
        assert_eq!(address(""), "10.0.0.1:77");
    }

    #[test]
    fn the_peer_is_appended_to_what_a_trusted_peer_said() {
        let said = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", " 10.0.0.5 ,")];
        assert_eq!(from("10.0.0.1:77", &said).forwarded_for, "1.1.1.1, 10.0.0.5, 10.0.0.1");
        assert_eq!(from("10.0.0.1:77", &[]).forwarded_for, "10.0.0.1");
    }

    #[test]
    fn scheme_and_host_of_a_trusted_peer_are_used_if_they_are_sane() {
        let origin =
            from("10.0.0.1:77", &[("x-forwarded-proto", "http, https"), ("x-forwarded-host", "a.example:8")]);
        assert_eq!(
            (origin.scheme, origin.host),
            ("https".parse().unwrap(), Some("a.example:8".parse().unwrap()))
        );
        let origin = from("10.0.0.1:77", &[("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a b")]);
        assert_eq!((origin.scheme, origin.host), ("http".parse().unwrap(), None));
    }

    #[test]
    fn unix_and_mapped_peers_have_their_own_spelling() {
        assert_eq!(from("unix:", &[]).address, "unix:");
        assert_eq!(from("unix:", &[("x-forwarded-for", "1.1.1.1")]).address, "1.1.1.1:0");
        assert_eq!(from("[::ffff:192.0.2.9]:77", &[]).forwarded_for, "192.0.2.9");
        assert_eq!(from("[::ffff:10.0.0.1]:77", &[("x-forwarded-for", "1.1.1.1")]).address, "1.1.1.1:0");
    }

    #[test]
    fn forged_names_are_known() {
        let forged = |name: &'static str, trusted| is_forged(&HeaderName::from_static(name), trusted);
        for name in ["x-appliance-peer", "proxy", "x_forwarded_for", "remote_user"] {
            assert!(forged(name, true) && forged(name, false), "{name}");
        }
        for name in ["x-forwarded-for", "x-forwarded-port", "x-real-ip", "forwarded"] {
            assert!(!forged(name, true) && forged(name, false), "{name}");
        }
        for name in ["host", "x-custom", "proxy-status", "from"] {
            assert!(!forged(name, true) && !forged(name, false), "{name}");
        }
    }
}
