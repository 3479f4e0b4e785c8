//! The first bytes of each side: they tell a link from HTTP at the first byte, name the version, and say how much the
//! sender is ready to take on each stream before it grants more.
use crate::violation::Violation;

/// The first byte of a link. No HTTP request begins with it.
pub const FIRST_BYTE: u8 = 0;
/// The version of the protocol that this crate speaks.
pub const VERSION: u8 = 1;
/// Bytes of a hello.
pub const SIZE: usize = 16;

const MAGIC: [u8; 10] = *b"\0appliance";
/// Smallest window: below it every stream would crawl.
const LEAST_WINDOW: u32 = 1024;
/// Largest window, so that sums fit into 32 bits with a sign.
pub const MOST_WINDOW: u32 = 1 << 30;

/// What a side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Bytes of data that the sender of this hello takes on each stream before it has granted more.
    pub window: u32,
}

impl Hello {
    /// A hello with a window as near to `window` bytes as the protocol allows.
    pub fn new(window: usize) -> Hello {
        let window = u32::try_from(window).unwrap_or(MOST_WINDOW);
        Hello { window: window.clamp(LEAST_WINDOW, MOST_WINDOW) }
    }

    /// As bytes.
    pub fn bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[..10].copy_from_slice(&MAGIC);
        bytes[10] = VERSION;
        bytes[12..].copy_from_slice(&self.window.to_le_bytes());
        bytes
    }

    /// Reads the hello at the front of `received`; `Ok(None)`: it is not complete, but nothing is wrong with it so far.
    pub fn parse(received: &[u8]) -> Result<Option<Hello>, Violation> {
        let known = received.len().min(MAGIC.len());
        if received[..known] != MAGIC[..known] {
            return Err(Violation::NotALink);
        }
        if let Some(&version) = received.get(10)
            && version != VERSION
        {
            return Err(Violation::Version(version));
        }
        let Some(&[zero, a, b, c, d]) = received.get(11..SIZE) else { return Ok(None) };
        let window = u32::from_le_bytes([a, b, c, d]);
        if zero != 0 || !(LEAST_WINDOW..=MOST_WINDOW).contains(&window) {
            return Err(Violation::Malformed("Hello"));
        }
        Ok(Some(Hello { window }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_read_when_it_is_complete_and_no_earlier() {
        let bytes = Hello::new(256 * 1024).bytes();
        for end in 0..SIZE {
            assert_eq!(Hello::parse(&bytes[..end]), Ok(None), "{end} bytes");
        }
        assert_eq!(Hello::parse(&bytes), Ok(Some(Hello { window: 256 * 1024 })));
        assert_eq!(bytes[0], FIRST_BYTE);
    }

    #[test]
    fn strangers_are_told_apart_as_early_as_possible() {
        assert_eq!(Hello::parse(b"G"), Err(Violation::NotALink));
        assert_eq!(Hello::parse(b"\0b"), Err(Violation::NotALink));
        let mut other = Hello::new(4096).bytes();
        other[10] = 2;
        assert_eq!(Hello::parse(&other[..11]), Err(Violation::Version(2)));
        let mut none = Hello::new(4096).bytes();
        none[12..].copy_from_slice(&[0; 4]);
        assert_eq!(Hello::parse(&none), Err(Violation::Malformed("Hello")));
    }

    #[test]
    fn windows_stay_within_what_can_be_counted() {
        assert_eq!(Hello::new(0).window, LEAST_WINDOW);
        assert_eq!(Hello::new(usize::MAX).window, MOST_WINDOW);
    }
}
