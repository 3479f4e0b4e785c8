//! What lies in the shared memory of the metrics: two indexes, and the records that they lead to. Plain atomics; a record is
//! written by the one process that took it, before it is published, and only its cells change afterwards.
#![expect(unsafe_code, reason = "says that its layout may be shared")]

use super::index::Index;
use crate::shared::Plain;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Most metrics.
pub const MOST_FAMILIES: u32 = 1024;
/// Most series of all metrics together. Pages that nobody writes cost no memory.
pub const MOST_SERIES: u32 = 8192;
/// The series into which goes what found no room.
pub(super) const SINK: u32 = MOST_SERIES;
/// Most bounds of a histogram's ranges.
pub const MOST_BOUNDS: usize = 24;
/// Bytes for the names and values of a series' labels.
pub(super) const LABEL_BYTES: usize = 240;
/// Bytes for the names of a metric's labels.
pub(super) const NAMES_BYTES: usize = 160;
/// Bytes of a help text; what is longer is cut.
pub(super) const HELP_BYTES: usize = 256;
/// A histogram's ranges, the one without a bound, and the sum.
const CELLS: usize = MOST_BOUNDS + 2;

/// A short text.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Words<const N: usize> {
    length: AtomicU32,
    words: [AtomicU64; N],
}

impl<const N: usize> Words<N> {
    /// Writes what fits.
    pub(super) fn write(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(N * 8)];
        self.length.store(bytes.len() as u32, Relaxed);
        for (word, piece) in self.words.iter().zip(bytes.chunks(8)) {
            word.store(word_of(piece), Relaxed);
        }
    }

    /// Whether it is this text.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        self.length.load(Relaxed) as usize == bytes.len()
            && bytes.len() <= N * 8
            && self
                .words
                .iter()
                .zip(bytes.chunks(8))
                .all(|(word, piece)| word.load(Relaxed) == word_of(piece))
    }

    /// The text, whatever it is.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let length = (self.length.load(Relaxed) as usize).min(N * 8);
        let mut bytes: Vec<u8> =
            self.words.iter().flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    /// The same as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

/// Up to eight bytes; what is missing is zero.
fn word_of(piece: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..piece.len()].copy_from_slice(piece);
    u64::from_le_bytes(word)
}

/// One metric.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct FamilyRecord {
    pub(super) kind: AtomicU32,
    /// Number of the metric that an alias is one of.
    pub(super) target: AtomicU32,
    bounds_used: AtomicU32,
    bounds: [AtomicU64; MOST_BOUNDS],
    pub(super) name: Words<12>,
    pub(super) help: Words<{ HELP_BYTES / 8 }>,
    pub(super) labels: Words<{ NAMES_BYTES / 8 }>,
}

impl FamilyRecord {
    /// At most [`MOST_BOUNDS`].
    pub(super) fn set_bounds(&self, bounds: &[f64]) {
        self.bounds_used.store(bounds.len().min(MOST_BOUNDS) as u32, Relaxed);
        for (cell, bound) in self.bounds.iter().zip(bounds) {
            cell.store(bound.to_bits(), Relaxed);
        }
    }

    /// Whatever they are.
    pub(super) fn bounds(&self) -> Vec<f64> {
        let used = (self.bounds_used.load(Relaxed) as usize).min(MOST_BOUNDS);
        self.bounds[..used].iter().map(|cell| f64::from_bits(cell.load(Relaxed))).collect()
    }
}

/// One series.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct SeriesRecord {
    /// A number in the first one; in a histogram a count for each range, and the sum in the last one.
    pub(super) cells: [AtomicU64; CELLS],
    pub(super) family: AtomicU32,
    pub(super) labels: Words<{ LABEL_BYTES / 8 }>,
}

impl SeriesRecord {
    /// Writes everything; nobody else knows the record yet.
    pub(super) fn claim(&self, family: u32, labels: &[u8], initial: f64) {
        self.cells.iter().for_each(|cell| cell.store(0, Relaxed));
        self.cells[0].store(initial.to_bits(), Relaxed);
        self.labels.write(labels);
        self.family.store(family, Relaxed);
    }

    /// The sum of a histogram's observations.
    pub(super) fn sum(&self) -> &AtomicU64 {
        &self.cells[CELLS - 1]
    }
}

/// The whole of the memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) families_taken: AtomicU32,
    pub(super) series_taken: AtomicU32,
    /// How often there was no room for a series.
    pub(super) refused: AtomicU64,
    pub(super) family_index: Index<{ 2 * MOST_FAMILIES as usize }>,
    pub(super) series_index: Index<{ 2 * MOST_SERIES as usize }>,
    pub(super) families: [FamilyRecord; MOST_FAMILIES as usize],
    /// The last one is the sink.
    pub(super) series: [SeriesRecord; MOST_SERIES as usize + 1],
}

// SAFETY: atomics only, nested in arrays and structures that are valid for any bytes.
unsafe impl Plain for Layout {}
