//! What the proxy says of the client of a request: over the link beside the header fields, and where a request asks for another
//! protocol, and so comes as HTTP/1.1, in private header fields that are believed of nobody else. Read by whoever tells an
//! application or an operator who the client is. Pure.
use crate::Request;
use crate::answer::PEER_HEADER;

/// Where a request comes from, in the words of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The client: `<ip>:<port>`, or `unix:`.
    pub peer: &'a [u8],
    /// `http` or `https`, as the client sees it.
    pub scheme: &'a [u8],
    /// The proxy's listener, as `peer` is written.
    pub server: Option<&'a [u8]>,
}

impl Request {
    /// What the proxy says of the client; `None`: the request came to this worker by itself.
    pub fn origin(&self) -> Option<Origin<'_>> {
        let head = &self.received.head;
        if let Some(facts) = head.facts() {
            return Some(Origin { peer: facts.peer, scheme: facts.scheme, server: Some(facts.server) });
        }
        if !self.peer.trusted {
            return None;
        }
        Some(Origin {
            peer: head.header(PEER_HEADER)?,
            scheme: head.header("x-appliance-scheme").unwrap_or(b"http"),
            server: head.header("x-appliance-server"),
        })
    }

    /// The client's address without a port, whoever knows it; empty on a unix socket.
    pub fn client(&self) -> &[u8] {
        match self.origin() {
            Some(origin) => split_address(origin.peer).map_or(b"", |(address, _)| address),
            None => self.peer.address.as_bytes(),
        }
    }
}

/// Address and port as the proxy writes them; `None`: a unix socket, which has neither.
pub fn split_address(value: &[u8]) -> Option<(&[u8], &[u8])> {
    if value == b"unix:" {
        return None;
    }
    let (address, number) = match value.iter().rposition(|&byte| byte == b':') {
        Some(colon) => (&value[..colon], &value[colon + 1..]),
        None => (value, &b""[..]),
    };
    let address = address.strip_prefix(b"[").and_then(|inner| inner.strip_suffix(b"]")).unwrap_or(address);
    Some((address, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    /// A request with the private header fields, from somebody who is the proxy or not.
    fn upgrade(trusted: bool) -> Request {
        let fields = "HTTP/1.1\r\nX-Appliance-Peer: [::1]:99\r\nX-Appliance-Scheme: https";
        let mut request = Request::example(&format!("/ {fields}\r\nX-Line:"), Instant::now());
        Arc::get_mut(&mut request.peer).unwrap().trusted = trusted;
        request
    }

    #[test]
    fn the_proxy_is_believed_on_a_connection_of_its_own() {
        let request = upgrade(true);
        let origin = Origin { peer: b"[::1]:99", scheme: b"https", server: None };
        assert_eq!((request.origin(), request.client()), (Some(origin), &b"::1"[..]));
    }

    #[test]
    fn nobody_else_is() {
        let request = upgrade(false);
        assert_eq!((request.origin(), request.client()), (None, &b"192.0.2.1"[..]));
    }

    #[test]
    fn addresses_are_split_from_their_ports() {
        let split = |value: &'static str| split_address(value.as_bytes());
        assert_eq!(split("192.0.2.1:99"), Some((&b"192.0.2.1"[..], &b"99"[..])));
        assert_eq!(split("[::1]:99"), Some((&b"::1"[..], &b"99"[..])));
        assert_eq!(split("unix:"), None);
    }
}
