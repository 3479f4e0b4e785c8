//! What a worker tells the proxy of a request beside its answer: private fields in the head of the answer, the same ones over
//! the link and over HTTP. An application cannot set them, because a worker refuses such names from it; the proxy takes them
//! out, so that no client sees them. This file knows their names and forms, and how much is said at most.
use crate::Reason;

/// What the names of all private fields begin with, in lower case.
pub const PREFIX: &str = "x-appliance-";
/// The field that says why an answer is not what the application wanted: a word of [`Cause`].
pub const CAUSE: &str = "x-appliance-cause";
/// The field that carries a variable for the access log: `key=value`. There may be [`MOST_VARIABLES`].
pub const VARIABLE: &str = "x-appliance-variable";

/// Variables of one request.
pub const MOST_VARIABLES: usize = 16;
/// Bytes of a variable's key, and of its value; what is longer is cut. nginx's whole log lines end at 4 KiB by default.
const MOST_KEY: usize = 64;
const MOST_VALUE: usize = 256;

/// Why an answer is not the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The application raised an exception, or returned what cannot be sent.
    Exception,
    /// Every core was busy, and `limits.waiting` requests waited already.
    Busy,
    /// It took longer than it may, and was ended.
    TimedOut,
}

impl Cause {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Exception => "exception",
            Cause::Busy => "busy",
            Cause::TimedOut => "timed-out",
        }
    }

    /// The reason with which a stream is reset whose answer has begun and will never be complete.
    pub fn reason(self) -> Reason {
        match self {
            Cause::Exception => Reason::Raised,
            Cause::Busy => Reason::Refused,
            Cause::TimedOut => Reason::TimedOut,
        }
    }

    /// The cause that a word names, if it is a known one.
    pub fn from_word(word: &[u8]) -> Option<Cause> {
        let all = [Cause::Exception, Cause::Busy, Cause::TimedOut];
        all.into_iter().find(|cause| cause.word().as_bytes() == word)
    }
}

/// Whether a field's name is a private one, in any case of letters.
pub fn is_private(name: &[u8]) -> bool {
    let start = name.get(..PREFIX.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
}

/// The value of the field of a variable. A field has no room for control characters: they become `_`, as do `=` and blanks in
/// a key, which a line of the log would show as something else than a key.
pub fn variable(key: &[u8], value: &[u8]) -> Vec<u8> {
    let key = &key[..key.len().min(MOST_KEY)];
    let value = &value[..value.len().min(MOST_VALUE)];
    let mut out = Vec::with_capacity(key.len() + 1 + value.len());
    let is_odd = |byte: u8| byte.is_ascii_control() || matches!(byte, b'=' | b' ');
    out.extend(key.iter().map(|byte| if is_odd(*byte) { b'_' } else { *byte }));
    out.push(b'=');
    out.extend(value.iter().map(|byte| if byte.is_ascii_control() { b'_' } else { *byte }));
    out
}

/// Key and value of a variable, from the value of its field; `None` if it is not one, or a longer one than there may be.
pub fn split_variable(field: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = field.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&field[..at], &field[at + 1..]);
    (key.len() <= MOST_KEY && value.len() <= MOST_VALUE).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_come_back_as_they_were_written() {
        for cause in [Cause::Exception, Cause::Busy, Cause::TimedOut] {
            assert_eq!(Cause::from_word(cause.word().as_bytes()), Some(cause));
        }
        assert_eq!(Cause::from_word(b"weather"), None);
    }

    #[test]
    fn private_names_are_known_in_any_case() {
        for name in [CAUSE, VARIABLE, "X-Appliance-Core", "x-appliance-"] {
            assert!(is_private(name.as_bytes()), "{name}");
        }
        for name in ["", "x-app", "x-appliances", "x-application-id"] {
            assert!(!is_private(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_variable_can_neither_break_its_field_nor_fill_the_log() {
        assert_eq!(split_variable(&variable(b"user", b"a=b")), Some((&b"user"[..], &b"a=b"[..])));
        assert_eq!(variable(b"a=b\r\n x", b"c\r\nd: e\0\x7f"), b"a_b___x=c__d: e__");
        let long = variable(&[b'k'; 1000], &[b'v'; 1000]);
        let (key, value) = split_variable(&long).unwrap();
        assert_eq!((key.len(), value.len()), (MOST_KEY, MOST_VALUE));
        assert_eq!(split_variable(b"no equals sign"), None);
        assert_eq!(split_variable(&[&[b'k'; MOST_KEY + 1][..], b"=v"].concat()), None);
    }
}
