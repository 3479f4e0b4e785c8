//! A WebSocket client in raw frames: it sends what it is given, right or wrong, and reads what a server may send.
use crate::harness::Client;
use std::io;

/// Of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// The lines of a handshake beside request line and `Host`.
pub fn handshake() -> String {
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
    )
}

/// A frame of a client; `first` has FIN, the reserved bits and the opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, 0x80, payload.len());
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The same as no client may send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [head(first, 0, payload.len()), payload.to_vec()].concat()
}

fn head(first: u8, masked: u8, length: usize) -> Vec<u8> {
    let (short, long) = match length {
        0..126 => (length as u8, Vec::new()),
        126..65536 => (126, (length as u16).to_be_bytes().to_vec()),
        _ => (127, (length as u64).to_be_bytes().to_vec()),
    };
    [vec![first, masked | short], long].concat()
}

/// The payload of a close frame.
pub fn closing(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// One WebSocket.
pub struct Peer {
    pub client: Client,
    pub subprotocol: Option<String>,
}

impl Peer {
    /// Opens one.
    #[track_caller]
    pub fn open(client: Client, target: &str) -> Peer {
        Peer::open_with(client, target, "")
    }

    /// The same with further header lines, each with its end.
    #[track_caller]
    pub fn open_with(mut client: Client, target: &str, lines: &str) -> Peer {
        let answer = client.get_with(target, &format!("{}{lines}", handshake()));
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        let lower = |name| answer.header(name).map(str::to_lowercase);
        assert_eq!(
            (lower("upgrade").as_deref(), lower("connection").as_deref()),
            (Some("websocket"), Some("upgrade"))
        );
        assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, None));
        let subprotocol = answer.header("sec-websocket-protocol").map(str::to_owned);
        Peer { client, subprotocol }
    }

    pub fn send(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        self.client.send(frame(first, payload.as_ref()));
    }

    /// The next frame: its first byte and its payload.
    pub fn try_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.client.exactly(2)?;
        let length = match head[1] {
            126 => self.client.exactly(2)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
            127 => self.client.exactly(8)?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
            short => short.into(),
        };
        Ok((head[0], self.client.exactly(length)?))
    }

    #[track_caller]
    pub fn frame(&mut self) -> (u8, Vec<u8>) {
        self.try_frame().unwrap()
    }

    /// The next message, which must be text.
    #[track_caller]
    pub fn text(&mut self) -> String {
        let (first, payload) = self.frame();
        assert_eq!(first, TEXT, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// The close frame that comes next, and then the end: its code, 1005 for none, and its reason.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        let (first, payload) = self.frame();
        assert_eq!(first, CLOSE, "{payload:?}");
        let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        (code, String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned())
    }

    /// Closes as a client should; the code of the answer.
    #[track_caller]
    pub fn close(&mut self, code: u16) -> u16 {
        self.send(CLOSE, closing(code, ""));
        let answered = self.closed().0;
        assert!(self.client.is_closed(), "the server closes the connection first (RFC 6455 section 7.1.1)");
        answered
    }
}
