//! `X-Request-ID`: 128 bits, unlike in practice, made without a syscall per request. They tell log lines apart and are no
//! secret; nothing may ever rely on them being hard to guess.
use http::HeaderValue;
use http::header::HeaderName;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a trusted peer, in bytes.
const LONGEST: usize = 128;

/// The source of ids of one process.
pub(crate) struct RequestIds {
    seed: [u64; 2],
    count: AtomicU64,
}

impl RequestIds {
    /// Every process makes its own, after its fork. The standard library's random keys alone would not do: a forked
    /// proxy inherits those of its parent, and so would its successor.
    pub(crate) fn new() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = |half: u8| RandomState::new().hash_one((half, std::process::id(), since));
        Self { seed: [seed(0), seed(1)], count: AtomicU64::new(0) }
    }

    /// A new id: 32 hexadecimal digits.
    pub(crate) fn make(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Relaxed);
        let mut digits = [0; 32];
        for (half, seed) in digits.chunks_exact_mut(16).zip(self.seed) {
            let mut bits = mix(seed.wrapping_add(count));
            for digit in half {
                *digit = b"0123456789abcdef"[(bits & 15) as usize];
                bits >>= 4;
            }
        }
        HeaderValue::from_bytes(&digits).expect("hexadecimal digits are a header value")
    }
}

/// Whether an id that came from outside may be kept: 1 to 128 of `[A-Za-z0-9._-]`, harmless in any log or file name.
pub(crate) fn is_acceptable(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
}

/// The finalizer of splitmix64 (Vigna 2015): neighbouring numbers get unlike bits, no two get the same.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ() {
        let (ids, other) = (RequestIds::new(), RequestIds::new());
        let made: HashSet<_> = (0..1000).flat_map(|_| [ids.make(), other.make()]).collect();
        assert_eq!(made.len(), 2000);
        assert!(made.iter().all(|id| id.len() == 32 && is_acceptable(id.as_bytes())));
    }

    #[test]
    fn only_harmless_ids_are_kept() {
        assert!(is_acceptable(b"a") && is_acceptable(&[b'x'; 128]) && is_acceptable(b"A-b_c.9"));
        for id in [&b""[..], &[b'x'; 129], b"a b", b"a\n", b"a/b", "ä".as_bytes()] {
            assert!(!is_acceptable(id));
        }
    }
}
