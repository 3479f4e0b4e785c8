//! Copies between shared memory and our own: word by word as far as words lie there, so that a number that lies where the machine
//! can reach it at once is never seen half.
use crate::shared::words;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// The bytes as they are now.
pub fn out(from: &[AtomicU8]) -> Vec<u8> {
    let (before, middle, after) = words(from);
    let mut bytes = Vec::with_capacity(from.len());
    bytes.extend(before.iter().map(|byte| byte.load(Relaxed)));
    middle.iter().for_each(|word| bytes.extend_from_slice(&word.load(Relaxed).to_ne_bytes()));
    bytes.extend(after.iter().map(|byte| byte.load(Relaxed)));
    bytes
}

/// Writes `data` to the beginning of `to`; what does not fit is left out.
pub fn into(to: &[AtomicU8], data: &[u8]) {
    let to = &to[..to.len().min(data.len())];
    let (before, middle, after) = words(to);
    let (first, rest) = data.split_at(before.len());
    let (whole, last) = rest.split_at(size_of_val(middle).min(rest.len()));
    bytes_into(before, first);
    for (word, bytes) in middle.iter().zip(whole.chunks_exact(size_of::<AtomicU64>())) {
        // The chunk has the size of a word.
        word.store(u64::from_ne_bytes(bytes.try_into().unwrap_or_default()), Relaxed);
    }
    bytes_into(after, last);
}

fn bytes_into(to: &[AtomicU8], data: &[u8]) {
    to.iter().zip(data).for_each(|(byte, value)| byte.store(*value, Relaxed));
}
