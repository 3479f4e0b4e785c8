//! What lies in the store, byte by byte: an item with its head, the keys of the two indexes, and the counts that are kept
//! beside the items. Pure. Read back from memory that every worker can write to, so nothing here trusts a length.

/// Bytes before the value of an item.
pub const HEAD: usize = 16;
/// Never: the moment of an item that does not expire.
pub const NEVER: u64 = 0;
/// Page of the store in bytes.
const PAGE: u64 = 4096;
/// Longest item that shares its page with others; a longer one has pages of its own.
const SHARED_PAGE: u64 = 1900;
/// What an item takes beside its key and its value: heads, and its places in the indexes.
const OVERHEAD: u64 = 96;

/// An item as it lies in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the order of use; a higher one was used later.
    pub stamp: u64,
    /// When it expires, in milliseconds of the store's clock; [`NEVER`] otherwise.
    pub expires: u64,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads it; `None` if it is none.
    pub fn read(bytes: &'a [u8]) -> Option<Record<'a>> {
        let (head, value) = bytes.split_at_checked(HEAD)?;
        Some(Record { stamp: number(head, 0), expires: number(head, 1), value })
    }

    /// Its bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + self.value.len());
        bytes.extend(self.stamp.to_le_bytes());
        bytes.extend(self.expires.to_le_bytes());
        bytes.extend(self.value);
        bytes
    }

    /// Whether it is over.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires != NEVER && self.expires <= now
    }
}

/// Bytes of the store that an item is reckoned to take.
pub fn cost(key: usize, value: usize) -> u64 {
    let (key, value) = (key as u64, value as u64);
    let stored = if key + value > SHARED_PAGE { (value + OVERHEAD).next_multiple_of(PAGE) } else { value };
    // The indexes have the key too.
    OVERHEAD + 2 * key + stored
}

/// Key of an item in the index of expiry, which is in order of time.
pub fn expiry_key(expires: u64, key: &[u8]) -> Vec<u8> {
    [&expires.to_be_bytes(), key].concat()
}

/// The parts of such a key.
pub fn read_expiry_key(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (expires, key) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*expires), key))
}

/// What is counted in the store, by whoever writes to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The last stamp that was given.
    pub stamp: u64,
    /// Cost of all items.
    pub bytes: u64,
    /// Nothing expires before this moment.
    pub soonest: u64,
    /// Items that were stored or changed.
    pub sets: u64,
    /// Items that made room for others.
    pub evicted: u64,
    /// Items that were removed because they had expired.
    pub expired: u64,
    /// Items that found no room.
    pub refused: u64,
}

impl Counts {
    const SIZE: usize = 7 * 8;

    /// Reads them; all zero if they are not there.
    pub fn read(bytes: &[u8]) -> Counts {
        if bytes.len() < Counts::SIZE {
            return Counts { soonest: u64::MAX, ..Counts::default() };
        }
        let at = |n| number(bytes, n);
        Counts {
            stamp: at(0),
            bytes: at(1),
            soonest: at(2),
            sets: at(3),
            evicted: at(4),
            expired: at(5),
            refused: at(6),
        }
    }

    /// Their bytes.
    pub fn write(&self) -> [u8; Counts::SIZE] {
        let fields =
            [self.stamp, self.bytes, self.soonest, self.sets, self.evicted, self.expired, self.refused];
        let mut bytes = [0; Counts::SIZE];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// A stamp that is later than all others.
    pub fn next_stamp(&mut self) -> u64 {
        self.stamp = self.stamp.wrapping_add(1);
        self.stamp
    }
}

/// The `n`th number; what is too short ends in zeros.
fn number(bytes: &[u8], n: usize) -> u64 {
    let mut number = [0; 8];
    if let Some(found) = bytes.get(n * 8..(n + 1) * 8) {
        number.copy_from_slice(found);
    }
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_comes_back_as_it_was() {
        let record = Record { stamp: 7, expires: u64::MAX - 1, value: b"\0value" };
        assert_eq!(Record::read(&record.write()), Some(record));
        assert_eq!(Record::read(&[0; HEAD - 1]), None);
    }

    #[test]
    fn an_item_is_over_in_the_very_moment() {
        let record = |expires| Record { stamp: 0, expires, value: b"" };
        assert!(!record(NEVER).is_expired(u64::MAX));
        assert!(!record(1000).is_expired(999));
        assert!(record(1000).is_expired(1000));
    }

    #[test]
    fn the_index_of_expiry_is_in_order_of_time() {
        assert!(expiry_key(255, b"z") < expiry_key(256, b"a"));
        assert_eq!(read_expiry_key(&expiry_key(256, b"a")), Some((256, &b"a"[..])));
        assert_eq!(read_expiry_key(b"short"), None);
    }

    #[test]
    fn counts_come_back_and_garbage_is_nothing() {
        let counts = Counts { stamp: 1, bytes: 2, soonest: 3, sets: 4, evicted: 5, expired: 6, refused: 7 };
        assert_eq!(Counts::read(&counts.write()), counts);
        assert_eq!(Counts::read(b"?").bytes, 0);
    }

    #[test]
    fn a_long_value_takes_whole_pages() {
        assert!(cost(10, 100) < 300);
        assert!(cost(10, 3000) >= 4096);
        assert!(cost(10, 4096) >= 8192);
    }
}
