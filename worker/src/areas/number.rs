//! Whole numbers of the machine's own byte order in shared memory: at once where they are aligned, byte by byte under a lock of
//! the caller's where they are not.
use super::copy;
use crate::shared::at;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

/// How large a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// A byte.
    W8,
    /// Two bytes.
    W16,
    /// Four bytes.
    W32,
    /// Eight bytes.
    W64,
}

impl Width {
    /// Its bytes.
    pub fn bytes(self) -> usize {
        match self {
            Width::W8 => 1,
            Width::W16 => 2,
            Width::W32 => 4,
            Width::W64 => 8,
        }
    }
}

/// The number that is all of `piece`; `None`: it is not aligned.
pub fn load(piece: &[AtomicU8], width: Width) -> Option<i64> {
    Some(match width {
        Width::W8 => i64::from(at::<AtomicU8>(piece, 0)?.load(SeqCst).cast_signed()),
        Width::W16 => i64::from(at::<AtomicU16>(piece, 0)?.load(SeqCst).cast_signed()),
        Width::W32 => i64::from(at::<AtomicU32>(piece, 0)?.load(SeqCst).cast_signed()),
        Width::W64 => at::<AtomicU64>(piece, 0)?.load(SeqCst).cast_signed(),
    })
}

/// Writes it likewise.
pub fn store(piece: &[AtomicU8], width: Width, value: i64) -> Option<()> {
    match width {
        Width::W8 => at::<AtomicU8>(piece, 0)?.store(value as u8, SeqCst),
        Width::W16 => at::<AtomicU16>(piece, 0)?.store(value as u16, SeqCst),
        Width::W32 => at::<AtomicU32>(piece, 0)?.store(value as u32, SeqCst),
        Width::W64 => at::<AtomicU64>(piece, 0)?.store(value as u64, SeqCst),
    }
    Some(())
}

/// Adds to it likewise; it wraps.
pub fn add(piece: &[AtomicU8], width: Width, amount: i64) -> Option<()> {
    match width {
        Width::W8 => drop(at::<AtomicU8>(piece, 0)?.fetch_add(amount as u8, SeqCst)),
        Width::W16 => drop(at::<AtomicU16>(piece, 0)?.fetch_add(amount as u16, SeqCst)),
        Width::W32 => drop(at::<AtomicU32>(piece, 0)?.fetch_add(amount as u32, SeqCst)),
        Width::W64 => drop(at::<AtomicU64>(piece, 0)?.fetch_add(amount as u64, SeqCst)),
    }
    Some(())
}

/// The number that is all of `piece`, of 1 to 8 bytes, wherever it lies.
pub fn read(piece: &[AtomicU8]) -> i64 {
    let bytes = copy::out(piece);
    let mut wide = [0; 8];
    let unused = 8 - bytes.len().min(8);
    let start = if cfg!(target_endian = "little") { unused } else { 0 };
    wide.iter_mut().skip(start).zip(&bytes).for_each(|(to, from)| *to = *from);
    // It stands at the top of the word now, and is brought down with its sign.
    i64::from_ne_bytes(wide) >> (8 * unused.min(7))
}

/// Writes it likewise.
pub fn write(piece: &[AtomicU8], value: i64) {
    let bytes = value.to_ne_bytes();
    let unused = 8 - piece.len().min(8);
    copy::into(piece, if cfg!(target_endian = "little") { &bytes } else { &bytes[unused..] });
}
