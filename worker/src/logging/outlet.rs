//! How log lines get to standard error. Whoever reads there (a terminal, a pipe to a collector) may stop reading, and a plain
//! write would then stand still for as long, with all that its thread does. Here lines are lost instead, and how many is said as
//! soon as they are read again. `tracing` writes through it, and so do the access logs of proxy and workers. It must never wait
//! twice for a reader that has stopped.
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// A reader that makes no room for so long has stopped. Much longer than a busy one takes, and shorter than what counts as a
/// standstill of the loop (`timeouts.stall`).
const PATIENCE: Duration = Duration::from_millis(500);
/// Who has stopped is not waited for again before it has taken every line for so long.
const DISTRUST: Duration = Duration::from_secs(10);
/// What a pipe takes as a whole, or not at all (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;
/// When a terminal is asked again that has said that there is room, and then taken nothing.
const SOON: Duration = Duration::from_millis(1);

/// Standard error of this process.
static OUTLET: Mutex<Outlet> = Mutex::new(Outlet::new());

/// Whether lines are for a human.
static IS_HUMAN: AtomicBool = AtomicBool::new(false);

/// Says how lines look from now on.
pub(super) fn set_human(is_human: bool) {
    IS_HUMAN.store(is_human, Relaxed);
}

/// Writes whole lines, or loses them if nobody takes them. A full disk, and a terminal that has gone, lose them too.
pub fn write(lines: &[u8]) {
    // Nothing under this lock panics half-way.
    let mut outlet = OUTLET.lock().unwrap_or_else(PoisonError::into_inner);
    outlet.write(lines, Instant::now(), |piece, until| put(io::stderr().as_fd(), piece, until));
}

/// The same for those who want an [`io::Write`]; what is written at once is whole lines.
pub(super) struct Through;

impl Write for Through {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        write(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes as much of a piece as there is room for before that moment; answers how much that is.
fn put(into: BorrowedFd<'_>, piece: &[u8], until: Instant) -> usize {
    loop {
        // Without waiting, whatever the other processes write to the same pipe or socket. (-1: where the others have ended.)
        match pwritev2(into, &[IoSlice::new(piece)], u64::MAX, ReadWriteFlags::NOWAIT) {
            Ok(count) => return count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if !is_file(into) => {
                if !has_room(into, until) {
                    return 0;
                }
            }
            // Terminals, files and older kernels do not know of that, and a filter of system calls may not let it through.
            Err(_) => return put_plainly(into, piece, until),
        }
    }
}

/// The same by a plain write, which waits where there is less room than it needs: a terminal is opened anew, without waiting.
fn put_plainly(into: BorrowedFd<'_>, piece: &[u8], until: Instant) -> usize {
    // A file has a place where it is written, and needs no room.
    let own = if is_file(into) { None } else { opened_anew(into) };
    let into = own.as_ref().map_or(into, AsFd::as_fd);
    while has_room(into, until) {
        match rustix::io::write(into, piece) {
            Ok(count) => return count,
            Err(Errno::INTR) => {}
            // There is room, but not for a line break, or somebody else writes.
            Err(Errno::AGAIN) if Instant::now() < until => thread::sleep(SOON),
            Err(Errno::AGAIN) => return 0,
            Err(_) => return piece.len(),
        }
    }
    0
}

/// What is open there, as nobody else has opened it, so that only we do not wait; none if it cannot be opened, as a socket.
fn opened_anew(fd: BorrowedFd<'_>) -> Option<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    File::options().write(true).custom_flags(flags.bits()).open(path).ok()
}

fn is_file(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
}

/// Whether something can be written without a wait, or so soon.
fn has_room(into: BorrowedFd<'_>, until: Instant) -> bool {
    loop {
        let timeout = PollTimeout::try_from(until.saturating_duration_since(Instant::now()));
        let mut source = [PollFd::new(into, PollFlags::POLLOUT)];
        match poll(&mut source, timeout.unwrap_or(PollTimeout::ZERO)) {
            Err(nix::errno::Errno::EINTR) => {}
            // What is wrong with it, the write tells.
            Ok(1..) | Err(_) => return true,
            Ok(_) => return false,
        }
    }
}

/// What is known of the reader.
#[derive(Debug)]
struct Outlet {
    /// Lines that have been lost since it was last told.
    lost: usize,
    /// The last line that was written is not whole.
    is_torn: bool,
    lost_at: Option<Instant>,
}

impl Outlet {
    const fn new() -> Outlet {
        Outlet { lost: 0, is_torn: false, lost_at: None }
    }

    /// `put`: writes as much of a piece as there is room for before that moment, and says how much that is.
    fn write(&mut self, lines: &[u8], now: Instant, mut put: impl FnMut(&[u8], Instant) -> usize) {
        let has_stopped = self.lost_at.is_some_and(|at| now.saturating_duration_since(at) < DISTRUST);
        let until = if has_stopped { now } else { now + PATIENCE };
        if self.lost > 0 {
            let end = if self.is_torn { "\n" } else { "" };
            let told = format!("{end}{}", notice(self.lost, IS_HUMAN.load(Relaxed)));
            if put(told.as_bytes(), until) > 0 {
                (self.lost, self.is_torn) = (0, false);
            }
        }
        let mut rest = lines;
        while !rest.is_empty() {
            let piece = &rest[..rest.len().min(PIECE)];
            let taken = if self.lost > 0 { 0 } else { put(piece, until) };
            if taken == 0 {
                let written = &lines[..lines.len() - rest.len()];
                self.is_torn |= !written.is_empty() && !written.ends_with(b"\n");
                self.lost += rest.iter().filter(|byte| **byte == b'\n').count().max(1);
                self.lost_at = Some(now);
                return;
            }
            rest = &rest[taken.min(rest.len())..];
        }
    }
}

/// The line that stands for those that are lost.
fn notice(lost: usize, is_human: bool) -> String {
    let mut at = String::new();
    // Fails only when the memory does.
    let _ = SystemTime.format_time(&mut Writer::new(&mut at));
    let message = "log lines were lost, because nobody took them from standard error";
    if is_human {
        format!("{at}  WARN {lost} {message}\n")
    } else {
        format!("{{\"timestamp\":\"{at}\",\"level\":\"WARN\",\"message\":\"{message}\",\"lines\":{lost}}}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::openpty;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::unix::fs::FileExt;
    use std::sync::mpsc;

    /// Writes where there is room for so many pieces; what arrives.
    fn written(outlet: &mut Outlet, lines: &str, now: Instant, room: usize) -> String {
        let mut taken = Vec::new();
        outlet.write(lines.as_bytes(), now, |piece, until| {
            assert!(until <= now + PATIENCE && piece.len() <= PIECE);
            if taken.len() == room {
                return 0;
            }
            taken.push(String::from_utf8(piece.to_vec()).unwrap());
            piece.len()
        });
        taken.concat()
    }

    #[test]
    fn what_nobody_takes_is_counted_and_told_later() {
        let (mut outlet, now) = (Outlet::new(), Instant::now());
        assert_eq!(written(&mut outlet, "a\n", now, 1), "a\n");
        assert_eq!(written(&mut outlet, "b\nc\n", now, 0), "");
        assert_eq!(written(&mut outlet, "d\n", now, 0), "");
        let told = written(&mut outlet, "e\n", now, 2);
        assert!(told.contains("\"lines\":3}\n") && told.ends_with("\ne\n"), "{told}");
        assert_eq!(written(&mut outlet, "f\n", now, 1), "f\n");
    }

    #[test]
    fn a_line_that_was_torn_does_not_spoil_the_next() {
        let (mut outlet, now) = (Outlet::new(), Instant::now());
        let long = format!("{}\n", "x".repeat(3 * PIECE));
        assert_eq!(written(&mut outlet, &long, now, 2), "x".repeat(2 * PIECE));
        assert_eq!(written(&mut outlet, "a\n", now, 0), "");
        let told = written(&mut outlet, "b\n", now, 2);
        assert!(told.starts_with("\n{") && told.contains("\"lines\":2}\nb\n"), "{told}");
    }

    #[test]
    fn whoever_has_stopped_is_not_waited_for_again_soon() {
        let (mut outlet, now) = (Outlet::new(), Instant::now());
        let waits = |outlet: &mut Outlet, now: Instant| {
            let mut asked = now;
            outlet.write(b"a\n", now, |_, until| {
                asked = until;
                0
            });
            asked - now
        };
        assert_eq!(waits(&mut outlet, now), PATIENCE);
        assert_eq!(waits(&mut outlet, now + DISTRUST / 2), Duration::ZERO);
        assert_eq!(waits(&mut outlet, now + DISTRUST), Duration::ZERO, "it has lost another one since");
        assert_eq!(waits(&mut outlet, now + 2 * DISTRUST), PATIENCE);
    }

    #[test]
    fn a_full_pipe_takes_nothing_and_holds_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let (piece, soon) = ([b'x'; PIECE], Instant::now());
        let most = (0..1000).take_while(|_| put(writer.as_fd(), &piece, soon) == PIECE).count();
        assert!((1..1000).contains(&most), "{most}");
        assert_eq!(put(writer.as_fd(), b"y", soon), 0);
        drop(reader);
        assert_eq!(put(writer.as_fd(), b"y", soon), 1, "nobody will ever take it");
    }

    #[test]
    fn a_terminal_that_nobody_reads_holds_nobody() {
        let terminal = openpty(None, None).unwrap();
        let (line, (done, most)) = (format!("{}\n", "x".repeat(150)), mpsc::channel());
        thread::spawn(move || {
            let has_left = |_: &i32| put(terminal.slave.as_fd(), line.as_bytes(), Instant::now()) > 0;
            done.send((0..10_000).take_while(has_left).count())
        });
        let most = most.recv_timeout(Duration::from_secs(60)).expect("it is written without waiting");
        assert!((1..10_000).contains(&most), "{most}");
    }

    #[test]
    fn files_are_written_to_one_piece_behind_the_other() {
        let file = memfd_create("log", MFdFlags::MFD_CLOEXEC).unwrap();
        for text in ["one\n", "two\n"] {
            assert_eq!(put(file.as_fd(), text.as_bytes(), Instant::now()), 4);
        }
        let mut all = [0; 8];
        File::from(file).read_exact_at(&mut all, 0).unwrap();
        assert_eq!(&all, b"one\ntwo\n");
    }
}
