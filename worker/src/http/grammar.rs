//! Which bytes may stand where in a message: the character classes of RFC 9110 section 5, as functions. Used by the
//! parsers of requests and by the checks on what applications answer, so that both sides mean the same by "a token".

/// The bytes of a token (RFC 9110 section 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    let punctuation = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < punctuation.len() {
        table[punctuation[i] as usize] = true;
        i += 1;
    }
    table
};

/// Whether `b` may be part of a method or a header name.
pub(super) fn is_token_byte(b: u8) -> bool {
    TOKEN[usize::from(b)]
}

/// Whether `name` is a method or a header name.
pub(crate) fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| is_token_byte(b))
}

/// Whether `b` may be part of a header value: everything but control characters, of which only TAB may.
pub(super) fn is_value_byte(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

/// Whether `value` may be a header value. Looks at every byte without branches, which compiles to vector code.
pub(super) fn is_value(value: &[u8]) -> bool {
    value.iter().fold(true, |fine, &b| fine & is_value_byte(b))
}

/// The elements of a comma-separated list, without the white space around them (RFC 9110 section 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// A number written in decimal digits only: no sign, no space, no overflow of 64 bits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| match b {
        b'0'..=b'9' => n.checked_mul(10)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_no_delimiters() {
        assert!(is_token(b"X-Fancy!#$%&'*+-.^_`|~9"));
        for bad in
            [&b""[..], b"a b", b"a:", b"a\0", b"\xe4", b"(a)", b"a/b", b"\"a\"", b"a,b", b"a;", b"a=b", b"@"]
        {
            assert!(!is_token(bad), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn values_have_no_control_characters_but_tab() {
        for b in 0..=255u8 {
            let fine = b == b'\t' || !b.is_ascii_control();
            assert_eq!(is_value(&[b'a', b, b'z']), fine, "byte {b:#04x}");
        }
    }

    #[test]
    fn a_list_loses_the_space_around_its_elements() {
        let elements: Vec<_> = list(b"close ,\tUpgrade,,a b").collect();
        assert_eq!(elements, [&b"close"[..], b"Upgrade", b"", b"a b"]);
    }

    #[test]
    fn decimals_are_digits_only() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"00000000000000000000000042"), Some(42));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "+1", "-1", "1 ", "0x1", "1,1", "1.0", "٣"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
    }
}
