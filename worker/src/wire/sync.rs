//! What a cache tells others in datagrams, so that they follow it: the arrays of modifier 111 as uWSGI sends them for `nodes`
//! (modifier 2 10: an item was written; 11: one was removed), and one of our own (12: all were removed), which uWSGI passes
//! over. Pure. A datagram may be lost, and nobody hears of it.
use super::packet::{self, Body, CACHE, HEADER, Header, TooLong};

const WRITTEN: u8 = 10;
const REMOVED: u8 = 11;
const CLEARED: u8 = 12;
/// The most that UDP carries over IPv4.
const MAX_DATAGRAM: usize = 65_507;

/// Something that happened to a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// An item has this value now.
    Written {
        /// Which item.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
        /// Until when, in seconds since 1970; 0: for ever.
        until: u64,
    },
    /// The item with this key is gone.
    Removed(&'a [u8]),
    /// All are gone.
    Cleared,
}

impl<'a> News<'a> {
    /// The datagram.
    pub fn datagram(&self) -> Result<Vec<u8>, TooLong> {
        let body = Body::default();
        let datagram = match self {
            News::Written { key, value, until } => {
                body.item(key).item(value).item(until.to_string().as_bytes()).packet(CACHE, WRITTEN)
            }
            // uWSGI ignores a removal unless something follows the key.
            News::Removed(key) => body.item(key).item(b"").packet(CACHE, REMOVED),
            News::Cleared => body.item(b"").item(b"").packet(CACHE, CLEARED),
        }?;
        if datagram.len() > MAX_DATAGRAM { Err(TooLong) } else { Ok(datagram) }
    }

    /// Reads a datagram; `None` for anything that is not whole and ours.
    pub fn read(datagram: &'a [u8]) -> Option<News<'a>> {
        let header = Header::read(datagram)?;
        let body = &datagram[HEADER..];
        if header.modifier1 != CACHE || usize::from(header.size) != body.len() {
            return None;
        }
        let items = packet::items(body).ok()?;
        let key = *items.first()?;
        match (header.modifier2, &items[1..]) {
            (CLEARED, _) => Some(News::Cleared),
            (REMOVED, _) if !key.is_empty() => Some(News::Removed(key)),
            (WRITTEN, [value, rest @ ..]) if !key.is_empty() => {
                let until = rest.first().map_or(Some(0), |digits| packet::number(digits))?;
                Some(News::Written { key, value, until })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_come_back_as_they_were() {
        for news in [
            News::Written { key: b"k", value: b"v", until: 0 },
            News::Written { key: b"k", value: &[0xff; 60_000], until: 1_900_000_000 },
            News::Removed(b"k"),
            News::Cleared,
        ] {
            assert_eq!(News::read(&news.datagram().unwrap()), Some(news));
        }
    }

    #[test]
    fn what_uwsgi_sends_is_understood() {
        let removed = b"\x6f\x03\x00\x0b\x01\x00k";
        assert_eq!(News::read(removed), Some(News::Removed(b"k")));
        let written = b"\x6f\x09\x00\x0a\x01\x00k\x01\x00v\x01\x000";
        assert_eq!(News::read(written), Some(News::Written { key: b"k", value: b"v", until: 0 }));
        // So it clears: one removal for each slot, without a key.
        assert_eq!(News::read(b"\x6f\x02\x00\x0b\x00\x00"), None);
    }

    #[test]
    fn hostile_datagrams_are_no_news() {
        let written = News::Written { key: b"key", value: b"value", until: 7 }.datagram().unwrap();
        for end in 0..written.len() {
            assert_eq!(News::read(&written[..end]), None, "{end} bytes");
        }
        for at in 0..written.len() {
            for byte in 0..=u8::MAX {
                let mut datagram = written.clone();
                datagram[at] = byte;
                // It must not panic; a changed text is a text.
                let _ = News::read(&datagram);
            }
        }
        assert_eq!(News::read(b"\x6f\x04\x00\x0a\x00\x00\x00\x00"), None, "an empty key");
        assert_eq!(News::read(b"\x6e\x03\x00\x0b\x01\x00k"), None, "another modifier");
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_not_sent() {
        let news = News::Written { key: b"k", value: &[0; MAX_DATAGRAM], until: 0 };
        assert_eq!(news.datagram(), Err(TooLong));
    }
}
