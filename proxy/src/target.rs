//! Targets that are valid here but not for pingora. It keeps them as `http::Uri`, which refuses some of the characters that
//! browsers and scripts send as they are, and it compares hosts by their letters. `conn.rs` gives pingora a plain path with such
//! characters percent-encoded; the worker gets, and the access log names, what the client has sent. Pure; it must never touch
//! a target that pingora keeps as it is.
use crate::strict;
use appliance_link::access;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// What pingora does not get to see of a target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Path and query as they were sent, if pingora has them in another form.
    pub(crate) sent: Option<Bytes>,
    /// The host of a target in absolute form; a `Host` beside it says the same.
    pub(crate) host: Option<HeaderValue>,
}

impl Target {
    /// Keeps what pingora has of it, if that is all there is: it outlives pingora's request.
    pub(crate) fn keep(&mut self, path: &[u8]) {
        self.sent.get_or_insert_with(|| Bytes::copy_from_slice(path));
    }
}

/// Changes the target of a request whose head has passed, and which stands at the front of `head`, into one that pingora keeps.
pub(crate) fn shield(head: &mut BytesMut) -> Target {
    let (method, target) = access::named(head);
    let absolute = strict::absolute(target);
    if absolute.is_none() && is_kept(target) {
        return Target::default();
    }
    let (host, path) = match absolute {
        // Nothing, or a query, may stand directly behind the host.
        Some((host, rest)) if !rest.starts_with(b"/") => (Some(host), [b"/", rest].concat()),
        Some((host, rest)) => (Some(host), rest.to_vec()),
        None => (None, target.to_vec()),
    };
    // A blank line may stand before the request line.
    let blank = head.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let at = blank + method.len() + 1;
    let mut shielded = BytesMut::with_capacity(head.len() + 2 * path.len());
    shielded.extend_from_slice(&head[..at]);
    for byte in &path {
        match byte {
            b'"' | b'<' | b'>' | b'`' => shielded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => shielded.extend_from_slice(&[*byte]),
        }
    }
    shielded.extend_from_slice(&head[at + target.len()..]);
    let host = host.and_then(|host| HeaderValue::from_bytes(host).ok());
    *head = shielded;
    Target { sent: (!is_kept(&path)).then(|| path.into()), host }
}

/// Whether pingora takes all of these characters where they stand.
fn is_kept(target: &[u8]) -> bool {
    let (path, query) = target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()));
    !path.iter().any(|byte| b"<>`".contains(byte)) && !query.iter().any(|byte| b"<>\"".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What pingora gets for a request, and what it does not get to see.
    fn shielded(head: &str) -> (String, Option<String>, Option<String>) {
        let mut bytes = BytesMut::from(head);
        let Target { sent, host } = shield(&mut bytes);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&bytes), sent.map(|sent| text(&sent)), host.map(|host| text(host.as_bytes())))
    }

    #[test]
    fn pingora_keeps_exactly_what_is_not_shielded() {
        for byte in (0x21..0x7f).filter(|byte| *byte != b'#') {
            for start in ["/", "/?"] {
                let target = [start.as_bytes(), &[byte]].concat();
                let kept = http::uri::PathAndQuery::try_from(&target[..]).is_ok();
                assert_eq!(is_kept(&target), kept, "{}", String::from_utf8_lossy(&target));
                let mut head = BytesMut::from(&[b"GET ", &target[..], b" HTTP/1.1\r\n\r\n"].concat()[..]);
                shield(&mut head);
                let target = access::named(&head).1;
                assert!(http::uri::PathAndQuery::try_from(target).is_ok());
            }
        }
    }

    #[test]
    fn the_target_is_kept_as_it_was() {
        let ordinary = "GET /a?b={c} HTTP/1.1\r\nHost: \"<>\r\n\r\nbody";
        assert_eq!(shielded(ordinary), (ordinary.into(), None, None));
        let (head, sent, _) = shielded("\r\nPOST /<a>?\"=`1` HTTP/1.1\r\nX: \"\r\n\r\n<body>");
        assert_eq!(head, "\r\nPOST /%3Ca%3E?%22=%601%60 HTTP/1.1\r\nX: \"\r\n\r\n<body>");
        assert_eq!(sent.as_deref(), Some("/<a>?\"=`1`"));
    }

    #[test]
    fn an_absolute_target_becomes_a_path() {
        let (head, sent, host) = shielded("GET HTTP://A.b:8/c?d HTTP/1.1\r\nHost: a.B:8\r\n\r\n");
        assert_eq!(head, "GET /c?d HTTP/1.1\r\nHost: a.B:8\r\n\r\n");
        assert_eq!((sent, host.as_deref()), (None, Some("A.b:8")));
        let (head, sent, _) = shielded("GET http://a?<> HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((&*head, sent.as_deref()), ("GET /?%3C%3E HTTP/1.1\r\nHost: a\r\n\r\n", Some("/?<>")));
        assert_eq!(shielded("GET http://a HTTP/1.0\r\n\r\n").0, "GET / HTTP/1.0\r\n\r\n");
    }
}
