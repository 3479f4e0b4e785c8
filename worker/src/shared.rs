//! Shared memory: a sealed `memfd` that several processes map, seen as one value made of atomics. `board.rs` and `panel.rs`
//! say what lies in it. Whoever reads it must treat what it finds as untrusted numbers.
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

/// What may lie in shared memory.
///
/// # Safety
/// The type has a size, every field of it is an atomic integer, and it is valid for any bytes.
pub unsafe trait Plain {}

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

    /// Makes the memory, all zeros. Its size is sealed, because whoever could shrink it would end everybody who reads it.
    pub fn create(name: &CStr) -> io::Result<Shared<T>> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&fd, i64::try_from(Self::SIZE.get()).unwrap_or(i64::MAX))?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        Shared::open(fd)
    }

    /// Maps what another process made.
    pub fn open(fd: OwnedFd) -> io::Result<Shared<T>> {
        let seals = SealFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GET_SEALS)?);
        let stat = nix::sys::stat::fstat(&fd)?;
        let is_large = u64::try_from(stat.st_size).unwrap_or(0) >= Self::SIZE.get() as u64;
        if !is_large || !seals.contains(SealFlag::F_SEAL_SHRINK) {
            let why = "the shared memory is smaller than what lies in it, or may become so";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Shared::map(fd)
    }

    fn map(fd: OwnedFd) -> io::Result<Shared<T>> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh shared mapping of a file that is at least `SIZE` bytes long and will not shrink.
        let start = unsafe { mmap(None, Self::SIZE, access, MapFlags::MAP_SHARED, &fd, 0)? };
        Ok(Shared { value: start.cast(), fd })
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
