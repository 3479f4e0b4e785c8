//! Shared memory: a sealed `memfd` that several processes map, seen as one value made of atomics, or, where the configuration
//! says how large it is, as bytes. `board.rs`, `panel.rs` and `areas.rs` say what lies in it. Whoever reads it must treat what it
//! finds as untrusted numbers.
#![expect(unsafe_code, reason = "maps shared memory, which no safe interface offers")]

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;
use std::ffi::{CStr, c_void};
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// What may lie in shared memory.
///
/// # Safety
/// The type has a size, every field of it is an atomic integer, and it is valid for any bytes.
pub unsafe trait Plain {}

// SAFETY: atomic integers themselves.
unsafe impl Plain for AtomicU8 {}
// SAFETY: likewise.
unsafe impl Plain for AtomicU16 {}
// SAFETY: likewise.
unsafe impl Plain for AtomicU32 {}
// SAFETY: likewise.
unsafe impl Plain for AtomicU64 {}

/// Makes memory of so many bytes, all zeros. Its size is sealed, because whoever could shrink it would end everybody who reads it.
pub fn create_sealed(name: &CStr, size: NonZeroUsize) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(&fd, i64::try_from(size.get()).unwrap_or(i64::MAX))?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(fd)
}

/// An error unless so many bytes are there, and stay there.
fn require_sealed(fd: &OwnedFd, size: NonZeroUsize) -> io::Result<()> {
    let seals = SealFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GET_SEALS)?);
    let stat = nix::sys::stat::fstat(fd)?;
    let is_large = u64::try_from(stat.st_size).unwrap_or(0) >= size.get() as u64;
    if !is_large || !seals.contains(SealFlag::F_SEAL_SHRINK) {
        let why = "the shared memory is smaller than what lies in it, or may become so";
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(())
}

fn map_start(fd: &OwnedFd, size: NonZeroUsize) -> io::Result<NonNull<c_void>> {
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a fresh shared mapping of a file that is at least `size` bytes long and will not shrink.
    Ok(unsafe { mmap(None, size, access, MapFlags::MAP_SHARED, fd, 0)? })
}

/// Maps what [`create_sealed`] made, until the process ends: applications keep pointers into it.
pub fn map_for_good(fd: &OwnedFd, size: NonZeroUsize) -> io::Result<&'static [AtomicU8]> {
    require_sealed(fd, size)?;
    let start = map_start(fd, size)?;
    // SAFETY: the mapping has `size` bytes and is never taken away; any byte is a valid atomic one.
    Ok(unsafe { std::slice::from_raw_parts(start.cast::<AtomicU8>().as_ptr(), size.get()) })
}

/// The `T` that begins at an offset; `None` if it does not lie within the bytes, or not where a `T` may begin.
pub fn at<T: Plain>(bytes: &[AtomicU8], offset: usize) -> Option<&T> {
    let end = offset.checked_add(size_of::<T>())?;
    let start = bytes.get(offset..end)?.as_ptr().cast::<T>();
    // SAFETY: so many bytes lie there for as long as `bytes`, any of them make a `T`, and all access is atomic.
    start.is_aligned().then(|| unsafe { &*start })
}

/// Bytes as far as they make whole words, with those before the first and after the last one.
pub fn words(bytes: &[AtomicU8]) -> (&[AtomicU8], &[AtomicU64], &[AtomicU8]) {
    // SAFETY: any eight bytes are a valid atomic word, and all access is atomic.
    unsafe { bytes.align_to::<AtomicU64>() }
}

/// A `T` that other processes see too.
#[derive(Debug)]
pub struct Shared<T: Plain> {
    value: NonNull<T>,
    fd: OwnedFd,
}

// SAFETY: the mapping lives as long as the value, and everything in it is atomic.
unsafe impl<T: Plain> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Shared<T> {}

impl<T: Plain> Shared<T> {
    const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<T>()).expect("what is shared has a size");

    /// Makes the memory, all zeros.
    pub fn create(name: &CStr) -> io::Result<Shared<T>> {
        Shared::open(create_sealed(name, Self::SIZE)?)
    }

    /// Maps what another process made.
    pub fn open(fd: OwnedFd) -> io::Result<Shared<T>> {
        require_sealed(&fd, Self::SIZE)?;
        Shared::map(fd)
    }

    fn map(fd: OwnedFd) -> io::Result<Shared<T>> {
        Ok(Shared { value: map_start(&fd, Self::SIZE)?.cast(), fd })
    }

    /// Maps a file that processes which trust each other share: whoever makes it shorter ends the others.
    pub fn in_file(file: File) -> io::Result<Shared<T>> {
        if file.metadata()?.len() < Self::SIZE.get() as u64 {
            file.set_len(Self::SIZE.get() as u64)?;
        }
        Shared::map(file.into())
    }

    /// The memfd, to hand to another process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<T: Plain> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping covers a `T`, which is valid for any bytes, and lives as long as `self`.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Plain> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `open`; no reference into it can outlive `self`.
        let _ = unsafe { munmap(self.value.cast::<c_void>(), Self::SIZE.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[repr(C)]
    struct Pair([AtomicU64; 2]);

    // SAFETY: two atomics.
    unsafe impl Plain for Pair {}

    #[test]
    fn two_mappings_see_the_same() {
        let here = Shared::<Pair>::create(c"test").unwrap();
        let there = Shared::<Pair>::open(here.fd().try_clone_to_owned().unwrap()).unwrap();
        here.0[1].store(42, Relaxed);
        assert_eq!(there.0[1].load(Relaxed), 42);
    }

    #[test]
    fn values_lie_where_they_fit_and_nowhere_else() {
        let size = NonZeroUsize::new(24).unwrap();
        let bytes = map_for_good(&create_sealed(c"test", size).unwrap(), size).unwrap();
        at::<AtomicU64>(bytes, 8).unwrap().store(u64::MAX, Relaxed);
        assert_eq!((bytes[7].load(Relaxed), bytes[8].load(Relaxed)), (0, 255));
        let is_there = |offset| at::<AtomicU64>(bytes, offset).is_some();
        assert_eq!([0, 16, 17, 4, 24, usize::MAX].map(is_there), [true, true, false, false, false, false]);
        let (before, middle, after) = words(&bytes[5..17]);
        assert_eq!((before.len(), middle.len(), after.len()), (3, 1, 1));
    }

    #[test]
    fn nobody_can_take_it_from_the_others() {
        let shared = Shared::<Pair>::create(c"test").unwrap();
        assert!(ftruncate(shared.fd(), 0).is_err());
    }

    #[test]
    fn what_is_too_small_or_may_shrink_is_refused() {
        let fd = memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&fd, 4096).unwrap();
        assert!(Shared::<Pair>::open(fd).is_err(), "it is not sealed");
        let small = memfd_create(c"test", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        fcntl(&small, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
        assert!(Shared::<Pair>::open(small).is_err());
    }
}
