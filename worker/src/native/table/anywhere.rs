//! How the functions answer that belong to no request, and a few others: on any thread, with a number, and with a sentence where
//! that says too little. A coroutine that calls them needs room on its stack, as for every other function.
#![expect(unsafe_code, reason = "gives text over the C interface")]

use super::{Here, give, require_room};
use nix::errno::Errno;
use std::cell::RefCell;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Why the last of these functions that failed on this thread did so. Nothing waits between that and the question.
    static REASON: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What a function refuses.
#[derive(Debug)]
pub(in crate::native) struct Refused {
    errno: Errno,
    pub(super) why: String,
}

impl Refused {
    /// A number for programs, a sentence for people.
    pub(in crate::native) fn new(errno: Errno, why: impl Into<String>) -> Refused {
        Refused { errno, why: why.into() }
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Refused {
        Refused::new(errno, errno.desc())
    }
}

/// Runs the body of one of these functions: its result as a number, or a negative `errno`.
pub(super) fn answer(act: impl FnOnce() -> Result<i64, Refused>) -> i64 {
    let act = || {
        if let Ok(here) = Here::current() {
            require_room(&here)?;
        }
        act()
    };
    // The panic hook has logged where.
    let panicked = |_| Err(Refused::new(Errno::EIO, "the worker itself panicked in the call"));
    let answered = catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(panicked);
    answered.unwrap_or_else(|Refused { errno, why }| {
        note(&why);
        -i64::from(errno as i32)
    })
}

/// Why something failed on this thread. One that ends may have no place for it any more.
pub(super) fn note(why: &str) {
    let _ = REASON.try_with(|reason| why.clone_into(&mut reason.borrow_mut()));
}

/// What was noted last.
pub(in crate::native) fn take_reason() -> String {
    REASON.with(RefCell::take)
}

pub(super) unsafe extern "C" fn reason(into: *mut c_char, size: usize) -> isize {
    let told = REASON.try_with(|reason| {
        // SAFETY: the caller promises room for `size` bytes.
        let length = unsafe { give(reason.borrow().as_bytes(), into, size) };
        length.unwrap_or_else(|errno| -i64::from(errno as i32)) as isize
    });
    told.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said() -> String {
        let mut room = [0u8; 100];
        // SAFETY: the room is there.
        let length = unsafe { reason(room.as_mut_ptr().cast(), room.len()) };
        String::from_utf8(room[..length as usize].to_vec()).unwrap()
    }

    #[test]
    fn what_was_refused_last_is_told_on_its_own_thread() {
        let refused = answer(|| Err(Refused::new(Errno::ENOSPC, "there is no room")));
        assert_eq!(refused, -i64::from(Errno::ENOSPC as i32));
        assert_eq!(answer(|| Ok(3)), 3);
        assert_eq!(std::thread::spawn(said).join().unwrap(), "");
        assert_eq!(said(), "there is no room");
    }

    #[test]
    fn a_destructor_of_an_ending_thread_is_answered() {
        struct Late;
        impl Drop for Late {
            fn drop(&mut self) {
                let refused = answer(|| Err(Errno::ENOENT.into()));
                assert_eq!((refused, said().as_str()), (-i64::from(Errno::ENOENT as i32), ""));
            }
        }
        thread_local!(static LATE: Late = const { Late });
        let ending = std::thread::spawn(|| {
            // What is used first is destroyed last.
            LATE.with(|_| ());
            answer(|| Err(Errno::EIO.into()));
        });
        ending.join().unwrap();
    }

    #[test]
    fn a_panic_stays_on_this_side() {
        assert_eq!(answer(|| panic!("as the test wants it")), -i64::from(Errno::EIO as i32));
        assert!(said().contains("panicked"));
    }
}
