//! The packet of uWSGI's protocol without any I/O: a header of four bytes (modifier 1, size, modifier 2), and a body that is
//! a dictionary, an array or plain bytes. Both sides of a connection use it, and so do datagrams. Lengths come from whoever
//! is at the other end, so nothing is believed before the bytes are there, and nothing here allocates by them.

/// Modifier 1 of what concerns caches.
pub const CACHE: u8 = 111;
/// Modifier 1 of remote procedure calls.
pub const RPC: u8 = 173;
/// Bytes of a header.
pub const HEADER: usize = 4;
/// The longest body, and the longest item in one: their lengths are 16 bits wide.
pub const MAX_BODY: usize = u16::MAX as usize;
/// Most items of an array: uWSGI counts them in 8 bits, the name of a function among them.
pub const MAX_ITEMS: usize = 255;
/// Most variables of a dictionary; the commands that are known here have six.
const MAX_VARS: usize = 64;

/// What precedes a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whom the packet is for.
    pub modifier1: u8,
    /// Bytes of the body.
    pub size: u16,
    /// What is wanted, or what the body is; each modifier 1 has its own.
    pub modifier2: u8,
}

impl Header {
    /// The header of a packet that begins with `bytes`; `None` while it is not complete.
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let [modifier1, low, high, modifier2] = *bytes.first_chunk::<HEADER>()?;
        Some(Header { modifier1, size: u16::from_le_bytes([low, high]), modifier2 })
    }

    /// Its four bytes.
    pub fn bytes(self) -> [u8; HEADER] {
        let [low, high] = self.size.to_le_bytes();
        [self.modifier1, low, high, self.modifier2]
    }
}

/// Why a body is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length points behind the end.
    #[error("an item is longer than the packet")]
    Cut,
    /// A dictionary has a variable without a name.
    #[error("a variable has no name")]
    Nameless,
    /// There is more than anybody would send.
    #[error("there are too many items")]
    TooMany,
}

/// What was to be sent does not fit a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the packet would have more than {MAX_BODY} bytes, which the uwsgi protocol cannot say")]
pub struct TooLong;

/// A body that is being written.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl Body {
    /// Adds an item of an array.
    pub fn item(mut self, item: &[u8]) -> Body {
        match u16::try_from(item.len()) {
            Ok(length) => {
                self.bytes.extend_from_slice(&length.to_le_bytes());
                self.bytes.extend_from_slice(item);
            }
            Err(_) => self.is_too_long = true,
        }
        self
    }

    /// Adds a variable of a dictionary.
    pub fn var(self, name: &str, value: &[u8]) -> Body {
        self.item(name.as_bytes()).item(value)
    }

    /// Adds a variable that is a number, in decimal digits.
    pub fn number(self, name: &str, value: impl ToString) -> Body {
        self.var(name, value.to_string().as_bytes())
    }

    /// The whole packet.
    pub fn packet(self, modifier1: u8, modifier2: u8) -> Result<Vec<u8>, TooLong> {
        let size = u16::try_from(self.bytes.len()).map_err(|_| TooLong)?;
        if self.is_too_long {
            return Err(TooLong);
        }
        let mut packet = Header { modifier1, size, modifier2 }.bytes().to_vec();
        packet.extend_from_slice(&self.bytes);
        Ok(packet)
    }
}

/// Takes one item off the front of `rest`.
fn take_item<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (length, after) = rest.split_first_chunk::<2>().ok_or(Malformed::Cut)?;
    let (item, after) = after.split_at_checked(u16::from_le_bytes(*length).into()).ok_or(Malformed::Cut)?;
    *rest = after;
    Ok(item)
}

/// The items of an array, empty ones too.
pub fn items(mut body: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut items = Vec::new();
    while !body.is_empty() {
        if items.len() == MAX_ITEMS {
            return Err(Malformed::TooMany);
        }
        items.push(take_item(&mut body)?);
    }
    Ok(items)
}

/// A name and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The names and values of a dictionary, in their order.
pub fn vars(mut body: &[u8]) -> Result<Vec<Pair<'_>>, Malformed> {
    let mut vars = Vec::new();
    while !body.is_empty() {
        if vars.len() == MAX_VARS {
            return Err(Malformed::TooMany);
        }
        let name = take_item(&mut body)?;
        if name.is_empty() {
            return Err(Malformed::Nameless);
        }
        vars.push((name, take_item(&mut body)?));
    }
    Ok(vars)
}

/// The number that decimal digits say; `None` for anything else.
pub fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a generator that always begins with the same seed (xorshift64).
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn a_packet_is_what_uwsgi_writes() {
        let packet = Body::default().var("cmd", b"get").var("key", b"k").packet(CACHE, 17).unwrap();
        assert_eq!(packet, b"\x6f\x12\x00\x11\x03\x00cmd\x03\x00get\x03\x00key\x01\x00k");
        let header = Header::read(&packet).unwrap();
        assert_eq!(header, Header { modifier1: 111, size: 18, modifier2: 17 });
        assert_eq!(vars(&packet[HEADER..]), Ok(vec![(&b"cmd"[..], &b"get"[..]), (b"key", b"k")]));
    }

    #[test]
    fn a_header_is_not_read_before_it_is_there() {
        assert_eq!(Header::read(b"\x6f\x10\x00"), None);
        assert_eq!(Header::read(b""), None);
    }

    #[test]
    fn an_array_comes_back_as_it_was() {
        let packet = Body::default().item(b"f").item(b"").item(&[0xff; 300]).packet(RPC, 0).unwrap();
        assert_eq!(items(&packet[HEADER..]), Ok(vec![&b"f"[..], b"", &[0xff; 300]]));
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let most = vec![b'x'; MAX_BODY - 2];
        assert_eq!(Body::default().item(&most).packet(RPC, 0).unwrap().len(), HEADER + MAX_BODY);
        for body in [
            Body::default().item(&most).item(b""),
            Body::default().item(&vec![b'x'; MAX_BODY + 1]),
            Body::default().item(&vec![b'x'; MAX_BODY + 1]).item(b"short"),
        ] {
            assert_eq!(body.packet(RPC, 0), Err(TooLong));
        }
    }

    #[test]
    fn hostile_bodies_are_refused() {
        let many = b"\x01\x00a\x00\x00".repeat(MAX_VARS + 1);
        for (body, why) in [
            (&b"\x03"[..], Malformed::Cut),
            (b"\x03\x00ab", Malformed::Cut),
            (b"\xff\xff", Malformed::Cut),
            (b"\x01\x00a", Malformed::Cut),
            (b"\x01\x00a\x05\x00b", Malformed::Cut),
            (b"\x00\x00\x01\x00b", Malformed::Nameless),
            (&many, Malformed::TooMany),
        ] {
            assert_eq!(vars(body), Err(why), "{body:?}");
        }
        assert_eq!(items(&b"\x00\x00".repeat(MAX_ITEMS + 1)), Err(Malformed::TooMany));
        assert_eq!(items(b"\x02\x00a"), Err(Malformed::Cut));
        assert_eq!((items(b""), vars(b"")), (Ok(vec![]), Ok(vec![])));
    }

    #[test]
    fn noise_never_yields_more_than_it_holds() {
        for seed in 1..4000 {
            let mut body = noise(seed, (seed % 400) as usize);
            // Lengths that are small are more often plausible.
            body.iter_mut().skip(1).step_by(2).for_each(|byte| *byte &= 1);
            if let Ok(found) = items(&body) {
                let held: usize = found.iter().map(|item| item.len() + 2).sum();
                assert_eq!(held, body.len());
            }
            if let Ok(found) = vars(&body) {
                let held: usize = found.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
                assert_eq!(held, body.len());
            }
        }
    }

    #[test]
    fn a_changed_byte_harms_nothing() {
        let packet = Body::default().var("cmd", b"set").var("key", b"kk").number("size", 12_u64);
        let packet = packet.packet(CACHE, 17).unwrap();
        for at in HEADER..packet.len() {
            for byte in 0..=u8::MAX {
                let mut body = packet[HEADER..].to_vec();
                body[at - HEADER] = byte;
                if let Ok(found) = vars(&body) {
                    assert!(found.len() <= 3 && found.iter().all(|(name, _)| !name.is_empty()));
                }
            }
        }
    }

    #[test]
    fn a_number_is_digits_and_nothing_else() {
        assert_eq!(number::<u64>(b"42"), Some(42));
        assert_eq!(number::<i64>(b"-42"), Some(-42));
        for digits in [&b""[..], b"4 2", b"0x10", b"\xff", b"99999999999999999999"] {
            assert_eq!(number::<u64>(digits), None);
        }
    }
}
