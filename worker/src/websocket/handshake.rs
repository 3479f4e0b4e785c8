//! The opening handshake (RFC 6455 section 4.2): what a client offers, and the header fields of the answer that takes it.
//! Pure; `answer::Opening` writes the answer, and whoever hosts the application refuses with what [`Refusal`] says.
use crate::http::head::{Head, Version};
use crate::http::{Framing, grammar};
use tungstenite::handshake::derive_accept_key;

/// Characters of a key: base64 of 16 bytes.
const KEY_LENGTH: usize = 24;
/// The only version of the protocol that there is.
const VERSION: &[u8] = b"13";

/// What a client that wants to speak WebSocket has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// `Sec-WebSocket-Key`.
    pub key: Vec<u8>,
    /// The subprotocols that it speaks, the one it likes best first.
    pub protocols: Vec<String>,
    /// The site whose page has opened the connection; only browsers say so.
    pub origin: Option<String>,
}

/// Why a request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400, or 426 with `Sec-WebSocket-Version: 13`.
    pub status: u16,
    /// For whoever has sent it.
    pub reason: &'static str,
}

impl Refusal {
    const fn bad(reason: &'static str) -> Refusal {
        Refusal { status: 400, reason }
    }

    /// The status as an answer names it.
    pub fn line(&self) -> &'static str {
        if self.status == 426 { "426 Upgrade Required" } else { "400 Bad Request" }
    }

    /// The header fields that go with it.
    pub fn headers(&self) -> &'static [(&'static str, &'static str)] {
        if self.status == 426 { &[("Sec-WebSocket-Version", "13")] } else { &[] }
    }
}

impl Offer {
    /// What this request offers; a refusal if it is no handshake, or not a valid one.
    pub fn of(head: &Head) -> Result<Offer, Refusal> {
        let lists = |name, wanted: &[u8]| {
            values(head, name).flat_map(grammar::list).any(|one| one.eq_ignore_ascii_case(wanted))
        };
        if !head.upgrade() || !lists("upgrade", b"websocket") {
            return Err(Refusal::bad("this is no WebSocket handshake: it needs Upgrade: websocket"));
        }
        if head.method() != "GET" || head.version() != Version::Http11 || head.framing() != Framing::None {
            return Err(Refusal::bad("a WebSocket handshake is a GET request without a body"));
        }
        let mut versions = values(head, "sec-websocket-version");
        if versions.next() != Some(VERSION) || versions.next().is_some() {
            return Err(Refusal { status: 426, reason: "the version of the WebSocket protocol must be 13" });
        }
        let mut keys = values(head, "sec-websocket-key");
        let key = keys.next().filter(|key| is_key(key) && keys.next().is_none());
        let key = key.ok_or(Refusal::bad("Sec-WebSocket-Key is not 16 bytes in base64"))?.to_vec();
        Ok(Offer { key, protocols: protocols(head)?, origin: head.header("origin").map(text) })
    }

    /// The first of the application's subprotocols that the client speaks.
    pub fn choose<'a>(&self, ours: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        ours.into_iter().find(|one| self.protocols.iter().any(|theirs| theirs == one))
    }
}

/// Whether a subprotocol can be called so; anything else would break the answer that names it.
pub fn is_protocol(name: &str) -> bool {
    grammar::is_token(name.as_bytes())
}

/// The header fields of the answer that opens a WebSocket, for this key and this subprotocol.
pub fn fields(key: &[u8], protocol: Option<&str>) -> Vec<(&'static [u8], Vec<u8>)> {
    let mut fields: Vec<(&'static [u8], Vec<u8>)> = vec![
        (b"Upgrade", b"websocket".to_vec()),
        (b"Connection", b"Upgrade".to_vec()),
        (b"Sec-WebSocket-Accept", derive_accept_key(key).into_bytes()),
    ];
    fields
        .extend(protocol.map(|protocol| (&b"Sec-WebSocket-Protocol"[..], protocol.to_owned().into_bytes())));
    fields
}

/// The values of every field of that name.
pub(super) fn values<'a>(head: &'a Head, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    head.headers().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn protocols(head: &Head) -> Result<Vec<String>, Refusal> {
    let mut protocols = Vec::new();
    for one in values(head, "sec-websocket-protocol").flat_map(grammar::list).filter(|one| !one.is_empty()) {
        if !grammar::is_token(one) {
            return Err(Refusal::bad("Sec-WebSocket-Protocol is not a list of names"));
        }
        protocols.push(text(one));
    }
    Ok(protocols)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The base64 of 16 bytes: 22 characters, the last of which carries four zero bits, and `==`.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    key.len() == KEY_LENGTH && key[..KEY_LENGTH - 2].iter().all(is_digit) && key.ends_with(b"==")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Limits, Scan, head};

    const USUAL: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn offer(request: &str) -> Result<Offer, Refusal> {
        let limits = Limits { request_line: 1000, header_bytes: 1000, headers: 20, body: 10 };
        let head = head::parse(request.as_bytes(), &limits, &mut Scan::default()).unwrap().unwrap();
        Offer::of(&head)
    }

    fn with(lines: &str) -> Result<Offer, Refusal> {
        offer(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
    }

    #[test]
    fn a_client_offers_a_key_and_its_subprotocols_in_order() {
        let lines =
            "Sec-WebSocket-Protocol: a, chat\r\nOrigin: https://a.example\r\nSec-WebSocket-Protocol: b\r\n";
        let offer = with(&format!("{USUAL}{lines}")).unwrap();
        assert_eq!(offer.key, b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(offer.protocols, ["a", "chat", "b"]);
        assert_eq!(offer.origin.as_deref(), Some("https://a.example"));
        assert_eq!(offer.choose(["x", "b", "a"]), Some("b"), "the application's order counts");
        assert_eq!(offer.choose(["x"]), None);
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let status = |request: &str| offer(request).unwrap_err().status;
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
        assert_eq!(status(&format!("POST / HTTP/1.1\r\nHost: a\r\n{USUAL}\r\n")), 400);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{USUAL}\r\n")), 400);
        for (old, new, expected) in [
            ("WebSocket\r\n", "h2c\r\n", 400),
            ("Connection: keep-alive, Upgrade\r\n", "", 400),
            ("Version: 13", "Version: 8", 426),
            ("Sec-WebSocket-Version: 13\r\n", "", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhl HNhbXBsZSBub25jZQ==", 400),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Kei", 400),
            ("Version: 13\r\n", "Version: 13\r\nSec-WebSocket-Protocol: a b\r\n", 400),
        ] {
            let lines = USUAL.replace(old, new);
            assert_ne!(lines, USUAL);
            assert_eq!(with(&lines).unwrap_err().status, expected, "{new}");
        }
        assert_eq!(with(&format!("{USUAL}Sec-WebSocket-Version: 8\r\n")).unwrap_err().status, 426);
        let second = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        assert_eq!(with(&format!("{USUAL}{second}")).unwrap_err().status, 400);
    }

    #[test]
    fn the_answer_proves_that_the_key_was_read() {
        let find = |fields: Vec<(&[u8], Vec<u8>)>, name: &[u8]| {
            fields.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
        };
        let fields = |protocol| fields(b"dGhlIHNhbXBsZSBub25jZQ==", protocol);
        let accept = find(fields(None), b"Sec-WebSocket-Accept");
        assert_eq!(accept.unwrap(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(find(fields(None), b"Sec-WebSocket-Protocol"), None);
        assert_eq!(find(fields(Some("chat")), b"Sec-WebSocket-Protocol").unwrap(), b"chat");
    }
}
