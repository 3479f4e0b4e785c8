//! The memory of a table: a file that every worker maps, seen as numbers; and a page that tells a process that was forked
//! from the one that made it. Used by `table.rs` and `store.rs`. A file is mapped in its whole length, and takes memory only
//! where it is [reserved](reserve): writing to another part could end the process with a signal when there is none left.
#![expect(unsafe_code, reason = "maps memory, which no safe interface offers")]

use super::word::Word;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// Mapped memory.
#[derive(Debug)]
pub struct Map {
    start: NonNull<Word>,
    bytes: NonZeroUsize,
}

// SAFETY: the mapping lives as long as the value, and everything in it is atomic.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps so many bytes of a file that is at least as long, and that nobody makes shorter.
    pub fn of(file: &File, bytes: u64) -> io::Result<Map> {
        let bytes = length(bytes)?;
        if file.metadata()?.len() < bytes.get() as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is shorter than what lies in it",
            ));
        }
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh shared mapping of a file that is at least so long.
        let start = unsafe { mmap(None, bytes, access, MapFlags::MAP_SHARED, file, 0)? };
        Ok(Map { start: start.cast(), bytes })
    }

    /// A page of this process alone, which a fork empties for the child.
    fn wiped_on_fork() -> io::Result<Map> {
        let bytes = length(PAGE)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh private mapping.
        let start = unsafe { mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE)? };
        let map = Map { start: start.cast(), bytes };
        // SAFETY: this mapping, of which nobody else knows; the advice changes nothing in this process.
        unsafe { madvise(map.start.cast::<c_void>(), bytes.get(), MmapAdvise::MADV_WIPEONFORK)? };
        Ok(map)
    }
}

impl Deref for Map {
    type Target = [Word];

    fn deref(&self) -> &[Word] {
        // SAFETY: the mapping covers so many words, which are valid for any bytes, and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes.get() / size_of::<Word>()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that was made; no reference into it can outlive `self`.
        let _ = unsafe { munmap(self.start.cast::<c_void>(), self.bytes.get()) };
    }
}

fn length(bytes: u64) -> io::Result<NonZeroUsize> {
    let bytes = usize::try_from(bytes).ok().and_then(NonZeroUsize::new);
    bytes.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no memory has such a size"))
}

/// Takes the memory of a part of a file.
pub fn reserve(file: &File, from: u64, bytes: u64) -> nix::Result<()> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match fallocate(file, FallocateFlags::empty(), signed(from), signed(bytes)) {
        // A file system that cannot is not one in memory; its maps grow as they are written.
        Err(Errno::EOPNOTSUPP) => Ok(()),
        taken => taken,
    }
}

/// Tells the process that made it from those that were forked from that.
#[derive(Debug)]
pub struct Mark {
    page: Option<Map>,
    process: u32,
}

impl Mark {
    /// Marks this process.
    pub fn new() -> Mark {
        let page = Map::wiped_on_fork().ok();
        page.iter().flat_map(|page| page.first()).for_each(|word| word.store(1));
        Mark { page, process: std::process::id() }
    }

    /// Whether this is the process that made it.
    pub fn is_here(&self) -> bool {
        match &self.page {
            Some(page) => page.first().is_some_and(|word| word.load() != 0),
            // Kernels that know of no such page are asked.
            None => std::process::id() == self.process,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::Scratch;

    #[test]
    fn two_maps_of_a_file_are_the_same_memory_and_a_short_file_is_refused() {
        let scratch = Scratch::new();
        let open = || {
            let path = scratch.path().join("file");
            File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
        };
        let file = open();
        assert!(Map::of(&file, PAGE).is_err());
        file.set_len(PAGE).unwrap();
        let (here, there) = (Map::of(&file, PAGE).unwrap(), Map::of(&open(), PAGE).unwrap());
        here[511].store(42);
        assert_eq!((there[511].load(), there.len()), (42, 512));
    }

    #[test]
    fn a_process_knows_its_own_mark() {
        assert!(Mark::new().is_here());
        assert!(!Mark { page: None, process: 1 }.is_here());
    }
}
