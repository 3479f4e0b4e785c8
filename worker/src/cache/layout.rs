//! Where what lies in the file of a table: its head, the buckets of the hash, a slot for each item, the heap of those that
//! expire, and the chunks of which keys and values are made. Pure. What an item costs is decided here too: exactly the memory
//! that it takes.
use super::map::PAGE;

/// Numbers in the head; the rest of its page are the tallies.
#[derive(Clone, Copy, Debug)]
pub enum Head {
    /// That it is a table, and of which layout.
    Magic,
    /// The secret of the hash, in two parts.
    Secret,
    /// The other one.
    Secret2,
    /// What the hash makes of a known key: two builds might hash differently.
    Proof,
    /// The geometry.
    Buckets,
    /// Slots that there is room for, with the one that is none.
    Slots,
    /// Chunks that there is room for, with the one that is none.
    Chunks,
    /// Words of a chunk.
    ChunkWords,
    /// The number of the table that has taken its place; 0: none has.
    Moved,
    /// Items with this stamp, or an earlier one, are gone.
    Cleared,

    /// From here on on lines of memory that every write changes. Whether a change has begun and not ended.
    Dirty = 16,
    /// The last stamp that was given.
    Stamp,
    /// Changes of the contents.
    Changes,
    /// Items.
    Items,
    /// Their cost.
    Bytes,
    /// Items that were stored or changed.
    Sets,
    /// Items that made room for others.
    Evicted,
    /// Items that were removed because they had expired.
    Expired,
    /// Items that found no room.
    Refused,
    /// Slots that were ever in use, with the one that is none.
    SlotsMade,
    /// Slots whose memory is taken.
    SlotsTaken,
    /// The first of those that are free again.
    SlotsFree,
    /// Chunks that were ever in use, with the one that is none.
    ChunksMade,
    /// Chunks whose memory is taken.
    ChunksTaken,
    /// The first of those that are free again.
    ChunksFree,
    /// How many these are.
    ChunksFreeCount,
    /// The item that was used last.
    Newest,
    /// The one that was not used for longest.
    Oldest,
    /// Items in the heap.
    HeapLength,
}

/// Numbers of a slot.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// Its stamp, and whether it has an item; see `slot.rs`.
    State,
    /// The hash of its key.
    Hash,
    /// Length of the key and of the value.
    Lengths,
    /// When it expires, in milliseconds of the stores' clock; [`NEVER`] otherwise.
    Expires,
    /// The next slot of its bucket.
    Next,
    /// Its first chunk.
    Data,
    /// The item that was used next after it; of a slot that is free: the next one.
    Newer,
    /// The item that was used last before it.
    Older,
    /// The stamp of its last use.
    Used,
    /// Its place in the heap and one more; 0: it is not there.
    Place,
}

/// Never: the moment of an item that does not expire.
pub const NEVER: u64 = 0;
/// The last two letters are the version of the layout.
pub const MAGIC: u64 = u64::from_be_bytes(*b"appcac01");
/// Words of a slot.
pub const SLOT: u64 = Field::Place as u64 + 1;
/// Words of a place in the heap: the moment, and the slot.
pub const PLACE: u64 = 2;
/// Bytes of a word.
pub const WORD: u64 = 8;
/// Where the tallies begin, and how many there are: processes count reads on lines of memory of their own, as far as there
/// are enough.
pub const TALLIES: u64 = 64;
/// How many.
pub const TALLY_COUNT: u64 = 32;
/// Words of a tally; only two are used, which are hits and misses.
pub const TALLY: u64 = 8;
/// A chunk begins with the number of the next one.
const LINK: u64 = 1;
/// Bytes of the shortest chunk and of the longest one. Between them a chunk has about an eighth of what an item has on
/// average when the table is full: few chunks for each, and little that is not used.
const CHUNKS: (u64, u64) = (64, 1024);
/// A bucket for so many items.
const CROWD: u64 = 2;

/// The sizes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Buckets, a power of two.
    pub buckets: u64,
    /// Slots; the first one is none.
    pub slots: u64,
    /// Chunks; the first one is none.
    pub chunks: u64,
    /// Words of a chunk.
    pub chunk_words: u64,
}

impl Geometry {
    /// Room for so many items and bytes, and for one more, which takes the place of another. `longest`: of a key and a value.
    pub fn of(items: u64, size: u64, longest: u64) -> Geometry {
        let chunk = (size / items.max(1) / 8).next_power_of_two().clamp(CHUNKS.0, CHUNKS.1);
        Geometry::with_chunks(items, size, longest, chunk / WORD)
    }

    fn with_chunks(items: u64, size: u64, longest: u64, chunk_words: u64) -> Geometry {
        let one = Geometry { buckets: 1, slots: 1, chunks: 1, chunk_words };
        let items = items.min(size / one.cost(1, 0)).max(1);
        let chunks = size / (chunk_words * WORD) + one.chunks_of(longest / WORD + 2) + 1;
        Geometry { buckets: (items / CROWD).next_power_of_two(), slots: items + 2, chunks, chunk_words }
    }

    /// The sizes of a table that takes the place of this one, and has room for so much too; `None`: this one has.
    pub fn grown(self, items: u64, size: u64, longest: u64) -> Option<Geometry> {
        let as_it_is = Geometry::with_chunks(items, size, longest, self.chunk_words);
        if as_it_is.slots <= self.slots && as_it_is.chunks <= self.chunks {
            return None;
        }
        // Not longer than here: no item takes more there than an eighth of its words for more links, and one chunk.
        let chunk_words = Geometry::of(items, size, longest).chunk_words.min(self.chunk_words);
        let wanted = Geometry::with_chunks(items, size, longest, chunk_words);
        let here = self.chunks * self.chunk_words / chunk_words;
        Some(Geometry {
            buckets: wanted.buckets.max(self.buckets),
            slots: wanted.slots.max(self.slots),
            chunks: wanted.chunks.max(here + here / 7 + self.slots + 2),
            chunk_words,
        })
    }

    /// Whether a table can have these sizes, of whose file the head says so.
    pub fn is_possible(self) -> bool {
        const MOST: u64 = 1 << 40;
        let Geometry { buckets, slots, chunks, chunk_words } = self;
        let range = CHUNKS.0 / WORD..=CHUNKS.1 / WORD;
        buckets.is_power_of_two() && buckets.max(slots).max(chunks) < MOST && range.contains(&chunk_words)
    }

    /// Where the buckets begin; all of these in words.
    pub fn buckets_at(self) -> u64 {
        PAGE / WORD
    }

    /// Where the slots begin.
    pub fn slots_at(self) -> u64 {
        paged(self.buckets_at() + self.buckets)
    }

    /// Where the heap begins.
    pub fn heap_at(self) -> u64 {
        paged(self.slots_at() + self.slots * SLOT)
    }

    /// Where the chunks begin.
    pub fn chunks_at(self) -> u64 {
        paged(self.heap_at() + self.slots * PLACE)
    }

    /// Bytes of all.
    pub fn bytes(self) -> u64 {
        paged(self.chunks_at() + self.chunks * self.chunk_words) * WORD
    }

    /// Words of a chunk that belong to keys and values.
    pub fn payload(self) -> u64 {
        self.chunk_words - LINK
    }

    /// Chunks that so many words take.
    pub fn chunks_of(self, words: u64) -> u64 {
        words.div_ceil(self.payload())
    }

    /// Chunks of an item: a key and a value begin at a word each.
    pub fn chunks_for(self, key: u64, value: u64) -> u64 {
        self.chunks_of(key.div_ceil(WORD) + value.div_ceil(WORD))
    }

    /// Bytes that an item takes.
    pub fn cost(self, key: u64, value: u64) -> u64 {
        (SLOT + PLACE + self.chunks_for(key, value) * self.chunk_words) * WORD
    }
}

fn paged(words: u64) -> u64 {
    words.next_multiple_of(PAGE / WORD)
}

/// Whether an item is over.
pub fn is_expired(expires: u64, now: u64) -> bool {
    expires != NEVER && expires <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_over_in_the_very_moment() {
        assert!(!is_expired(NEVER, u64::MAX));
        assert!(!is_expired(1000, 999));
        assert!(is_expired(1000, 1000));
    }

    #[test]
    fn nothing_lies_where_something_else_does() {
        for (items, size) in
            [(1, 65_536), (10_000, 64 << 20), (1_000_000_000, 1 << 40), (1_000_000_000, 65_536)]
        {
            let all = Geometry::of(items, size, 65_536);
            assert!(all.is_possible(), "{all:?}");
            assert!(TALLIES + TALLY * TALLY_COUNT <= all.buckets_at());
            assert!(Head::HeapLength as u64 <= TALLIES);
            assert!(all.buckets_at() + all.buckets <= all.slots_at());
            assert!(all.slots_at() + all.slots * SLOT <= all.heap_at());
            assert!(all.heap_at() + all.slots * PLACE <= all.chunks_at());
            assert!((all.chunks_at() + all.chunks * all.chunk_words) * WORD <= all.bytes());
            assert!(
                all.slots_at() * WORD <= PAGE * 2 + size / 10,
                "what is taken at once is little: {all:?}"
            );
        }
    }

    #[test]
    fn an_item_costs_what_it_takes() {
        let small = Geometry::of(10_000, 1 << 20, 100);
        assert_eq!(small.chunk_words, 8);
        assert_eq!((small.cost(8, 8), small.cost(8, 48), small.cost(8, 49)), (160, 160, 224));
        let large = Geometry::of(100, 64 << 20, 100);
        assert_eq!(
            (large.chunk_words, large.cost(5, 1008), large.cost(5, 1009)),
            (128, 96 + 1024, 96 + 2048)
        );
    }

    #[test]
    fn a_table_grows_in_all_directions_and_never_shrinks() {
        let table = Geometry::of(1_000, 1 << 20, 1_000);
        assert_eq!(table.grown(1_000, 1 << 20, 1_000), None);
        assert_eq!(table.grown(10, 1 << 16, 10), None);
        let grown = table.grown(10, 1 << 24, 10).unwrap();
        assert!(grown.slots == table.slots && grown.chunks > table.chunks);
        assert!(grown.chunk_words <= table.chunk_words);
        assert!(table.grown(2_000, 1 << 20, 10).unwrap().slots > 2_000);
        assert!(table.grown(1_000, 1 << 20, 1 << 19).is_some());
    }
}
