//! Forks, and what a new process must do before it is itself: close what is the master's, take its signals back, tie
//! its life to the master's, wear its title. The only file that forks. Called by the master for its proxy and
//! templates, by a template for its workers. It decides nothing: who is forked when is `fleet.rs`.
#![expect(
    unsafe_code,
    reason = "fork, signal handlers, SIGIO on a pipe and the process title have no safe interface"
)]
#![expect(clippy::disallowed_methods, reason = "this is the file that forks")]
use crate::message::Ended;
use crate::privileges::Identity;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, getppid, pipe2};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;
use std::sync::OnceLock;

/// Exit code of a child that panicked; Rust's own number for it.
const EXIT_PANIC: i32 = 101;
/// `F_SETSIG` of Linux's `asm-generic/fcntl.h`, the same on every architecture; the libc crate lacks it.
const F_SETSIG: libc::c_int = 10;

/// Forks and lives `child` in the new process, which ends with the code it returns. What `child` owns is dropped in
/// the caller at once, so descriptors can be moved into the closure. The new process never returns into the caller's
/// frames.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the master and the template are single-threaded here (see `require_one_thread`; a template warns of
    // threads that the application started), so no lock can be held by a thread that the child does not have.
    match unsafe { nix::unistd::fork()? } {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(EXIT_PANIC);
            // SAFETY: ends the process without running the exit handlers and destructors of the one it was copied
            // from.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Makes sure that the master hears of its children's ends, even if it was started by a program that ignores SIGCHLD.
pub fn expect_children() -> io::Result<()> {
    // SAFETY: sets a default, which involves no handler.
    unsafe {
        sigaction(Signal::SIGCHLD, &SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()))?
    };
    Ok(prctl::set_child_subreaper(true)?)
}

/// Fails unless the calling process has exactly one thread: a fork would copy the locks of the others, but not the
/// threads.
pub fn require_one_thread() -> io::Result<()> {
    match threads()?.len() {
        1 => Ok(()),
        n => Err(io::Error::other(format!("this process has {n} threads and must not fork"))),
    }
}

/// Names of the threads of this process, the main thread's first.
pub fn threads() -> io::Result<Vec<String>> {
    let mut ids: Vec<u32> = std::fs::read_dir("/proc/self/task")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    let name = |id: &u32| std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
    Ok(ids.iter().map(|id| name(id).trim_end().to_owned()).collect())
}

/// Called in the child, right after the master's fork: the first steps of the proxy and of a template.
pub fn leave_master(
    master: Pid,
    tie: Tie,
    keep: &[BorrowedFd<'_>],
    identity: Option<&Identity>,
    title: &str,
) -> io::Result<Tie> {
    take_signals_back()?;
    close_masters(&[keep, &[tie.as_fd()]].concat())?;
    let tie = tie.tighten()?;
    if let Some(identity) = identity {
        identity.assume()?;
    }
    // After the change of user, which would undo it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != master {
        return Err(io::Error::other("the master went away"));
    }
    set_title(title);
    Ok(tie)
}

/// Closes everything that the master opened, but for `keep`. What the user's shell or service manager handed down
/// stays: it is not close-on-exec, all that is ours is.
fn close_masters(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > libc::STDERR_FILENO && keep.iter().all(|kept| kept.as_raw_fd() != fd))
        .collect();
    close(open.into_iter().filter(|&fd| {
        // SAFETY: a number just read from our own table; if it is stale by now, fcntl fails.
        let flags = fcntl(unsafe { BorrowedFd::borrow_raw(fd) }, FcntlArg::F_GETFD);
        flags.is_ok_and(|bits| FdFlag::from_bits_truncate(bits).contains(FdFlag::FD_CLOEXEC))
    }));
    Ok(())
}

/// Closes descriptors of which a forked child only has the number: their owners live on in the frames it was copied
/// from and are never dropped.
pub fn close(descriptors: impl IntoIterator<Item = RawFd>) {
    for fd in descriptors {
        let _ = nix::unistd::close(fd);
    }
}

/// The disposition that children start from: the defaults, whatever the master was started with. SIGPIPE stays
/// ignored, as Rust and Python want it. SIGINT and SIGHUP come from the terminal to the whole group, and the master
/// decides what they mean: a handler that does nothing is not inherited by a program that the application starts,
/// "ignore" would be.
fn take_signals_back() -> io::Result<()> {
    extern "C" fn leave_it_to_the_master(_: libc::c_int) {}
    let nothing = SigHandler::Handler(leave_it_to_the_master);
    let default = SigHandler::SigDfl;
    for (signal, handler) in [
        (Signal::SIGINT, nothing),
        (Signal::SIGHUP, nothing),
        (Signal::SIGTERM, default),
        (Signal::SIGQUIT, default),
        (Signal::SIGUSR1, default),
        (Signal::SIGUSR2, default),
        (Signal::SIGCHLD, default),
    ] {
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing, so it is async-signal-safe.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// The master's half of the pipe on which nothing is ever written. When its last copy goes, every tied process is
/// killed.
#[derive(Debug)]
pub struct Lifeline {
    _end: OwnedFd,
}

/// The children's half of the lifeline.
#[derive(Debug)]
pub struct Tie(OwnedFd);

/// Makes the pipe; processes that run as `identity` must be able to open their half anew.
pub fn lifeline(identity: Option<&Identity>) -> io::Result<(Lifeline, Tie)> {
    let (tie, end) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    if let Some(identity) = identity {
        identity.give_descriptor(&tie)?;
    }
    Ok((Lifeline { _end: end }, Tie(tie)))
}

impl Tie {
    /// Ties this process: from now on the kernel kills it when the master's half closes, even if it is stuck in
    /// foreign code. The owner of a SIGIO belongs to the open file, not to the descriptor, so each process opens the
    /// pipe anew.
    pub fn tighten(self) -> io::Result<Tie> {
        let own = OwnedFd::from(File::open(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?);
        let raw = own.as_raw_fd();
        // SAFETY: plain fcntl calls on a descriptor that `own` keeps open; nix does not offer these two commands.
        let armed = unsafe {
            libc::fcntl(raw, libc::F_SETOWN, libc::getpid()) == 0
                && libc::fcntl(raw, F_SETSIG, libc::SIGKILL) == 0
        };
        if !armed {
            return Err(io::Error::last_os_error());
        }
        fcntl(&own, FcntlArg::F_SETFL(OFlag::O_ASYNC | OFlag::O_NONBLOCK))?;
        let tie = Tie(own);
        if tie.is_cut() {
            return Err(io::Error::other("the master went away"));
        }
        Ok(tie)
    }

    /// Whether the master has gone.
    pub fn is_cut(&self) -> bool {
        matches!(nix::unistd::read(&self.0, &mut [0]), Ok(0))
    }

    /// A second descriptor, to hand to a child.
    pub fn try_clone(&self) -> io::Result<Tie> {
        Ok(Tie(self.0.try_clone()?))
    }
}

impl AsFd for Tie {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes the end of one child (`None`: of any) if one has ended. The raw call, because a process may also die of a
/// signal that has no name in nix (the real-time ones), and whoever was reaped must be known.
pub fn reap(pid: Option<Pid>) -> Option<(Pid, Ended)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let reaped = unsafe { libc::waitpid(pid.map_or(-1, Pid::as_raw), &raw mut status, libc::WNOHANG) };
    (reaped > 0).then(|| (Pid::from_raw(reaped), Ended::from_status(ExitStatus::from_raw(status))))
}

/// A descriptor that becomes readable when the process ends. Unlike SIGCHLD it takes no handler or mask that the
/// application could change, or that its own children would inherit. Linux 5.3.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = RawFd::try_from(fd).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where `ps` reads the command line of this process: the strings of argv and, right behind them, of the environment.
static TITLE_AREA: OnceLock<Option<(usize, usize)>> = OnceLock::new();

/// Makes `ps` show `title`. The master calls this first, while it has one thread: the environment moves out of the
/// way then.
pub fn set_title(title: &str) {
    if let Ok(name) = std::ffi::CString::new(title) {
        let _ = prctl::set_name(&name);
    }
    let Some((start, len)) = *TITLE_AREA.get_or_init(|| {
        let area = title_area(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
        move_environment();
        Some(area)
    }) else {
        return;
    };
    let shown = title.len().min(len - 1);
    // SAFETY: the kernel names these `len` bytes as this process's own argument and environment strings. The
    // environment has moved, nobody reads the arguments again, and the area is never empty (it holds at least the
    // program's name).
    unsafe {
        let area = std::ptr::with_exposed_provenance_mut::<u8>(start);
        std::ptr::copy_nonoverlapping(title.as_ptr(), area, shown);
        std::ptr::write_bytes(area.add(shown), 0, len - shown);
    }
}

/// Start and length of the title area, from the fields arg_start, arg_end, env_start and env_end (48 to 51) of
/// `/proc/self/stat`; without the environment where it does not follow the arguments.
fn title_area(stat: &str) -> Option<(usize, usize)> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields =
        after_name.split_ascii_whitespace().skip(45).map_while(|field| field.parse::<usize>().ok());
    let (arg_start, arg_end) = (fields.next()?, fields.next()?);
    let (env_start, env_end) = (fields.next()?, fields.next()?);
    let end = if env_start == arg_end { env_end } else { arg_end };
    (arg_start > 0 && end > arg_start).then_some((arg_start, end - arg_start))
}

/// Takes a variable out of the environment, which children would inherit. The master calls this while it has one thread.
pub fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    // SAFETY: one thread.
    unsafe { std::env::remove_var(name) };
    Some(value)
}

/// First descriptor that a service manager passes on (`SD_LISTEN_FDS_START`).
const FIRST_INHERITED: RawFd = 3;

/// Takes over `count` descriptors that a service manager has passed on; from now on they are ours, and close with an exec.
/// Each comes with its number. Called once, by the master, before it opens anything.
pub fn inherited(count: usize) -> impl Iterator<Item = (RawFd, Result<OwnedFd, String>)> {
    (FIRST_INHERITED..).take(count).map(|number| {
        // SAFETY: it is only borrowed for the call; a number that is not open makes the call fail.
        let set = fcntl(unsafe { BorrowedFd::borrow_raw(number) }, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        // SAFETY: it is open, and nobody else in this process knows of it: it was opened before the process began.
        let fd = set.map(|_| unsafe { OwnedFd::from_raw_fd(number) });
        (number, fd.map_err(|_| "it is not open".to_owned()))
    })
}

fn move_environment() {
    for (name, value) in std::env::vars_os() {
        // SAFETY: one thread. Setting a variable to its own value makes the C library copy it to the heap.
        unsafe { std::env::set_var(name, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_area_spans_arguments_and_environment() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let stat = |fields: &[String]| format!("1 (a name) with) parens) {}", fields.join(" "));
        let mut adjacent = fields.clone();
        adjacent[45..49].clone_from_slice(&["1000", "1010", "1010", "1500"].map(str::to_owned));
        assert_eq!(title_area(&stat(&adjacent)), Some((1000, 500)));
        let mut apart = fields;
        apart[45..49].clone_from_slice(&["1000", "1010", "2000", "2500"].map(str::to_owned));
        assert_eq!(title_area(&stat(&apart)), Some((1000, 10)));
        assert_eq!(title_area("1 (x) S 1 1"), None);
        assert_eq!(title_area(""), None);
    }

    #[test]
    fn a_tie_is_cut_when_the_master_closes_its_end() {
        let (end, tie) = lifeline(None).unwrap();
        assert!(!tie.is_cut());
        drop(end);
        assert!(tie.is_cut());
    }

    #[test]
    fn what_a_child_inherits_is_closed_on_exec() {
        let (end, tie) = lifeline(None).unwrap();
        let pidfd = pidfd_open(Pid::this()).unwrap();
        for fd in [end._end.as_fd(), tie.as_fd(), pidfd.as_fd()] {
            let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
            assert!(FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
        }
    }
}
