//! Where keys and values lie: each item has a chain of chunks of one size, so that nothing can fall to pieces, and a chunk that
//! is free serves any item. A key begins with the first word of the first one, and its value with the next whole word. Used
//! by `seek.rs` and `change.rs`.
use super::Refusal;
use super::layout::{Head, WORD};
use super::table::Table;
use super::word::Word;

/// A way along a chain.
#[derive(Debug)]
pub struct Run<'a> {
    table: &'a Table,
    /// What is left of the chunk that it is in.
    here: &'a [Word],
    /// The next one.
    next: u64,
}

impl<'a> Run<'a> {
    /// Begins with a chunk; one that is none has no words.
    pub fn along(table: &'a Table, first: u64) -> Run<'a> {
        Run { table, here: &[], next: first }
    }

    /// The next words, at most so many; none: the chain has ended.
    fn piece(&mut self, most: usize) -> &'a [Word] {
        if self.here.is_empty()
            && let Some([link, words @ ..]) = self.table.chunk(self.next)
        {
            (self.here, self.next) = (words, link.load());
        }
        let (piece, rest) = self.here.split_at(most.min(self.here.len()));
        self.here = rest;
        piece
    }

    /// Whether these bytes come next, in whole words.
    pub fn is(&mut self, bytes: &[u8]) -> bool {
        self.beside(bytes, |word, number| word.load() == number)
    }

    /// Copies what comes next over all of `bytes`; false if it ends too early.
    pub fn copy(&mut self, bytes: &mut [u8]) -> bool {
        let (mut whole, rest) = bytes.as_chunks_mut();
        while !whole.is_empty() {
            let piece = self.piece(whole.len());
            if piece.is_empty() {
                return false;
            }
            let (now, later) = whole.split_at_mut(piece.len());
            piece.iter().zip(now).for_each(|(word, bytes)| *bytes = word.load().to_ne_bytes());
            whole = later;
        }
        if rest.is_empty() {
            return true;
        }
        let last = self.piece(1).first();
        last.map(|word| rest.copy_from_slice(&word.load().to_ne_bytes()[..rest.len()])).is_some()
    }

    /// The word that comes after so many bytes in whole words.
    pub fn word_after(&mut self, bytes: u64) -> Option<&'a Word> {
        let mut left = usize::try_from(bytes.div_ceil(WORD)).ok()?;
        while left > 0 {
            let piece = self.piece(left).len();
            left = left.checked_sub(piece).filter(|_| piece > 0)?;
        }
        self.piece(1).first()
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        self.beside(bytes, |word, number| {
            word.store(number);
            true
        })
    }

    /// Goes along these bytes, as words, and the next words of the chain; false if `each` says so, or the chain ends.
    fn beside(&mut self, bytes: &[u8], each: impl Fn(&Word, u64) -> bool) -> bool {
        let (mut whole, rest) = bytes.as_chunks();
        while !whole.is_empty() {
            let piece = self.piece(whole.len());
            let (now, later) = whole.split_at(piece.len());
            let mut both = piece.iter().zip(now);
            if piece.is_empty() || !both.all(|(word, bytes)| each(word, u64::from_ne_bytes(*bytes))) {
                return false;
            }
            whole = later;
        }
        rest.is_empty() || self.piece(1).first().is_some_and(|word| each(word, packed(rest)))
    }
}

/// Less than eight bytes as a word; zeros follow.
fn packed(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD as usize];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

impl Table {
    /// Writes an item into chunks that nobody uses; answers the first one. The caller has made ready.
    pub fn write_item(&self, key: &[u8], value: &[u8]) -> Result<u64, Refusal> {
        let first = self.take_chunks(self.sizes().chunks_for(key.len() as u64, value.len() as u64))?;
        let mut run = Run::along(self, first);
        if run.write(key) && run.write(value) { Ok(first) } else { Err(self.broken()) }
    }

    fn take_chunks(&self, count: u64) -> Result<u64, Refusal> {
        let mut first = 0;
        let free = self[Head::ChunksFreeCount].load().min(count);
        for _ in free..count {
            let made = self[Head::ChunksMade].load();
            let chunk = self.chunk(made).ok_or_else(|| self.broken())?;
            self[Head::ChunksMade].store(made + 1);
            chunk[0].store(first);
            first = made;
        }
        if free == 0 {
            return Ok(first);
        }
        // Those that are free are a chain already.
        let begin = self[Head::ChunksFree].load();
        let last = self.last_of(begin, free)?;
        self[Head::ChunksFree].store(last.load());
        self.subtract(Head::ChunksFreeCount, free);
        last.store(first);
        Ok(begin)
    }

    /// Gives the chain of an item back.
    pub fn free_chunks(&self, first: u64, count: u64) -> Result<(), Refusal> {
        self.last_of(first, count)?.store(self[Head::ChunksFree].load());
        self[Head::ChunksFree].store(first);
        self.add(Head::ChunksFreeCount, count);
        Ok(())
    }

    /// The link of the last one of a chain of so many.
    fn last_of(&self, first: u64, count: u64) -> Result<&Word, Refusal> {
        if count > self.sizes().chunks {
            return Err(self.broken());
        }
        let mut link = &self.chunk(first).ok_or_else(|| self.broken())?[0];
        for _ in 1..count {
            link = &self.chunk(link.load()).ok_or_else(|| self.broken())?[0];
        }
        Ok(link)
    }
}
