//! The request target and the host: which forms are allowed, and where path and query lie in them (RFC 9112 section
//! 3.2, RFC 3986 section 3.2.2). Everything is left as it was sent: nothing is decoded or normalised here, because the
//! application must see what the client wrote.

use super::grammar::decimal;
use super::refusal::Refusal;
use appliance_link::reason;
use memchr::memchr;
use std::net::Ipv6Addr;

/// The parts of a request target.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Host and port of an absolute-form target.
    pub authority: Option<&'a [u8]>,
    /// What stands before `?`; empty if an absolute form ends at its authority.
    pub path: &'a [u8],
    /// What stands after the first `?`.
    pub query: &'a [u8],
}

/// Reads the target of a request for `method`. `CONNECT` is refused with 501: an origin server has no tunnels.
pub(super) fn read<'a>(method: &str, target: &'a [u8]) -> Result<Target<'a>, Refusal> {
    if method == "CONNECT" {
        return Err(Refusal::new(
            501,
            reason::TUNNEL,
            "CONNECT is not supported: this server is not a proxy",
        ));
    }
    if !target.is_ascii() {
        return Err(Refusal::bad(
            reason::BAD_REQUEST_LINE,
            "the request target contains a character that is not allowed",
        ));
    }
    if memchr(b'#', target).is_some() {
        return Err(Refusal::bad(reason::BAD_REQUEST_LINE, "the request target contains a fragment"));
    }
    match target {
        [b'/', ..] => Ok(split(None, target)),
        b"*" if method == "OPTIONS" => Ok(split(None, target)),
        b"*" => Err(Refusal::bad(reason::BAD_REQUEST_LINE, "the target * is for OPTIONS only")),
        _ => absolute(target),
    }
}

/// `http://host:port/path?query`.
fn absolute(target: &[u8]) -> Result<Target<'_>, Refusal> {
    const MALFORMED: Refusal = Refusal::bad(
        reason::BAD_REQUEST_LINE,
        "the request target is neither a path nor an http or https URL",
    );
    let colon = memchr(b':', target).ok_or(MALFORMED)?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(MALFORMED);
    }
    let rest = rest.strip_prefix(b"://").ok_or(MALFORMED)?;
    let end = rest.iter().position(|&b| b == b'/' || b == b'?').unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if !is_host(authority) {
        return Err(Refusal::bad(reason::BAD_HOST, "the URL in the request line has an invalid host"));
    }
    Ok(split(Some(authority), rest))
}

/// Parts what follows the authority, if there is one, at the first `?`.
pub(super) fn split<'a>(authority: Option<&'a [u8]>, rest: &'a [u8]) -> Target<'a> {
    let mark = memchr(b'?', rest).unwrap_or(rest.len());
    Target { authority, path: &rest[..mark], query: &rest[rest.len().min(mark + 1)..] }
}

/// Whether `host` is a name or an address with an optional port. Stricter than RFC 3986: no user, no percent-encoding
/// and none of `!$&'()*+,;=`, which no host name has, but which joined or forged `Host` headers do.
pub(super) fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', ..] => match memchr(b']', host) {
            Some(end) => host.split_at(end + 1),
            None => return false,
        },
        _ => host.split_at(memchr(b':', host).unwrap_or(host.len())),
    };
    is_name(name) && is_port(port)
}

fn is_name(name: &[u8]) -> bool {
    match name {
        [b'[', address @ .., b']'] => {
            let text = std::str::from_utf8(address);
            text.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        _ => {
            let fine = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
            !name.is_empty() && name.iter().all(fine)
        }
    }
}

/// `:8080`, nothing, or a colon with no number, which RFC 3986 allows.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => decimal(digits).is_some_and(|n| n <= u64::from(u16::MAX)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts<'a>(method: &str, target: &'a str) -> (Option<&'a str>, &'a str, &'a str) {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap();
        let found = read(method, target.as_bytes()).unwrap();
        (found.authority.map(text), text(found.path), text(found.query))
    }

    #[test]
    fn a_target_falls_into_authority_path_and_query() {
        assert_eq!(parts("GET", "/"), (None, "/", ""));
        assert_eq!(parts("GET", "/a%2Fb?c=d?e"), (None, "/a%2Fb", "c=d?e"));
        assert_eq!(parts("GET", "//a:b@c/"), (None, "//a:b@c/", ""));
        assert_eq!(parts("GET", "/?"), (None, "/", ""));
        assert_eq!(parts("OPTIONS", "*"), (None, "*", ""));
        assert_eq!(parts("GET", "http://a:80/b?c"), (Some("a:80"), "/b", "c"));
        assert_eq!(parts("GET", "HTTPS://[::1]"), (Some("[::1]"), "", ""));
        assert_eq!(parts("GET", "http://a?b/c"), (Some("a"), "", "b/c"));
    }

    #[test]
    fn other_targets_are_refused() {
        for bad in [
            "a",
            "*",
            "**",
            "/#a",
            "/\u{e4}",
            "http:/a/",
            "http://",
            "http:///a",
            "ftp://a/",
            "a:80",
            "http://u@a/",
        ] {
            assert_eq!(read("GET", bad.as_bytes()).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(read("CONNECT", b"a:443").unwrap_err().status, 501);
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in [
            "a",
            "a.example:8080",
            "127.0.0.1",
            "[::1]",
            "[::ffff:1.2.3.4]:80",
            "a_b.local",
            "xn--4ca.de",
            "a:",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        let bad = "|a b|a,b|u@a|a/b|a:b|a:65536|a:80:80|[::1|::1|[]|[a]|[::1]x|[a:b]|[::1.2.3]|[:::]|[::1]]|a%41|:80|\u{e4}|a\tb|a?|a#|[fe80::1%25eth0]";
        for bad in bad.split('|') {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }
}
