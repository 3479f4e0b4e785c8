//! What the watch thread sees of native requests: the stacks of coroutines cannot be shown, but what each request waits for
//! can. It is written as the request's mark on the roll, which any thread may read. A mark of ours has its highest bit set,
//! which no address has, so that Python's marks are told from it.
use crate::report::StackReport;
use crate::roll::Roll;
use crate::watch::Watched;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The bit that makes a mark ours.
const NATIVE: u64 = 1 << 63;
const KIND: u32 = 32;

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It runs.
    Nothing,
    /// `sleep`.
    Time,
    /// A descriptor.
    Fd { fd: RawFd, is_read: bool },
    /// The request's body.
    Body,
    /// The client to take what was sent.
    Room,
    /// Another coroutine of the request.
    Coroutine,
    /// A thread of the pool.
    Thread,
    /// A message on its WebSocket.
    Message,
}

impl Wait {
    /// As a mark on the roll.
    pub(super) fn mark(self) -> u64 {
        let (kind, fd) = match self {
            Wait::Nothing => (0, 0),
            Wait::Time => (1, 0),
            Wait::Fd { fd, is_read: true } => (2, fd.cast_unsigned()),
            Wait::Fd { fd, is_read: false } => (3, fd.cast_unsigned()),
            Wait::Body => (4, 0),
            Wait::Room => (5, 0),
            Wait::Coroutine => (6, 0),
            Wait::Thread => (7, 0),
            Wait::Message => (8, 0),
        };
        NATIVE | kind << KIND | u64::from(fd)
    }
}

/// What a mark says; `None`: it is not ours.
fn words(mark: u64) -> Option<String> {
    let fd = mark as u32;
    (mark & NATIVE != 0).then(|| match mark >> KIND & 0xff {
        0 => "running".to_owned(),
        1 => "waits for a time".to_owned(),
        2 => format!("waits to read from descriptor {fd}"),
        3 => format!("waits to write to descriptor {fd}"),
        4 => "waits for the body of its request".to_owned(),
        5 => "waits for its client to take what was sent".to_owned(),
        6 => "waits for a coroutine of its own".to_owned(),
        7 => "waits for a thread of the pool".to_owned(),
        _ => "waits for a message on its WebSocket".to_owned(),
    })
}

/// Where every native request is.
pub fn stack_reports(roll: &Roll) -> Vec<StackReport> {
    let report = |(mark, request): (u64, String)| {
        let state = words(mark)?;
        Some(StackReport { what: "coroutine".to_owned(), request, state, stack: String::new() })
    };
    roll.marks().into_iter().filter_map(report).collect()
}

/// What the watch of a worker needs that hosts native applications only. Machine code cannot be interrupted: what keeps the
/// loop is ended by `timeouts.hang`.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) roll: Arc<Roll>,
}

impl Watched for Watching {
    fn interrupt(&mut self) {}

    fn loop_stack(&mut self) -> String {
        "a place in machine code".to_owned()
    }

    fn stacks(&mut self) -> Vec<StackReport> {
        stack_reports(&self.roll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_what_is_waited_for() {
        assert_eq!(words(Wait::Time.mark()).unwrap(), "waits for a time");
        let wait = Wait::Fd { fd: 12, is_read: false };
        assert_eq!(words(wait.mark()).unwrap(), "waits to write to descriptor 12");
        assert_eq!(words(0x7f00_dead_beef), None, "the address of a greenlet");
    }
}
