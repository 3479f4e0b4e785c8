//! What the master, a template and its workers say to each other: one typed enum, and its form on a socket (one JSON
//! object in one packet). `channel.rs` carries the packets; nothing in here makes a system call. Who sent a report is
//! never part of it: the kernel says so, because a process that runs application code could say anything.
use serde::{Deserialize, Serialize};
use std::process::ExitStatus;

/// Longest text that a report carries, in bytes: a traceback of some 500 frames. What is longer loses its middle.
pub const MAX_TEXT: usize = 64 * 1024;
/// Longest packet in bytes. Escaping may double a text, and the kernel's default socket buffer (208 KiB) must hold it
/// whole.
pub const MAX_PACKET: usize = 160 * 1024;

/// Everything that is said between the master and the processes that host the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Master to template: fork this worker.
    Fork {
        /// From 1; stable across respawns.
        worker: u32,
        /// Which of the processes of this worker id it will be.
        life: u32,
    },
    /// Master to template: exit; your workers stay.
    Quit,
    /// Template: the application is loaded. One line for humans, such as `CPython 3.11.7, greenlet 3.1.1`.
    Loaded {
        /// That line.
        line: String,
    },
    /// Template: the application cannot be loaded; the template exits.
    LoadFailed {
        /// Exit code that says whose fault it is (`abi::EXIT_USAGE` or `abi::EXIT_FAILED`).
        code: i32,
        /// The reason with the way out, and the traceback if there is one.
        text: String,
    },
    /// Worker, as the first thing it does: it lives.
    Forked {
        /// Its number.
        worker: u32,
        /// Generation of the template that forked it.
        generation: u32,
        /// Which of the processes of this worker id it is.
        life: u32,
    },
    /// Template: the kernel refused the fork.
    ForkFailed {
        /// The worker that was asked for.
        worker: u32,
        /// The kernel's reason.
        text: String,
    },
    /// Worker: it is about to accept its first request.
    Ready,
    /// Template: a worker that it forked has gone.
    Exited {
        /// Its number.
        worker: u32,
        /// Its process id.
        pid: i32,
        /// How it ended.
        ended: Ended,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It returned this exit code.
    Code(i32),
    /// A signal of this number ended it.
    Signal(i32),
}

impl Ended {
    /// From what `wait` told.
    pub fn from_status(status: ExitStatus) -> Ended {
        use std::os::unix::process::ExitStatusExt;
        match status.signal() {
            Some(signal) => Ended::Signal(signal),
            None => Ended::Code(status.code().unwrap_or(-1)),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ended::Code(code) => write!(f, "exit code {code}"),
            Ended::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

impl Message {
    /// The packet of this message; its text, if any, is cut to [`MAX_TEXT`], and further if escaping swells it.
    pub fn encode(&self) -> Vec<u8> {
        let mut limit = MAX_TEXT;
        loop {
            let packet =
                serde_json::to_vec(&self.cut_to(limit)).expect("a message has no maps and no foreign types");
            if packet.len() <= MAX_PACKET {
                return packet;
            }
            limit /= 2;
        }
    }

    /// The message of a packet; `None` for anything else, because the sender may run hostile code.
    pub fn decode(packet: &[u8]) -> Option<Message> {
        serde_json::from_slice(packet).ok()
    }

    fn cut_to(&self, limit: usize) -> Message {
        let mut message = self.clone();
        match &mut message {
            Message::Loaded { line: text }
            | Message::LoadFailed { text, .. }
            | Message::ForkFailed { text, .. } => {
                *text = cut_middle(text, limit);
            }
            _ => {}
        }
        message
    }
}

/// Keeps both ends of a long text: a traceback says at its start where it began, and at its end what went wrong.
fn cut_middle(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let boundary =
        |from: usize| (from..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let head = boundary(limit / 4);
    let tail = boundary(text.len() - (limit - limit / 4));
    format!("{}\n[… {} bytes left out …]\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_back_as_it_was() {
        let text = || "line one\nline \"two\" \u{e9}\u{1f600}".to_owned();
        for message in [
            Message::Fork { worker: 3, life: 7 },
            Message::Quit,
            Message::Loaded { line: text() },
            Message::LoadFailed { code: 64, text: text() },
            Message::Forked { worker: 1, generation: 4, life: 9 },
            Message::ForkFailed { worker: 2, text: text() },
            Message::Ready,
            Message::Exited { worker: 7, pid: 4711, ended: Ended::Code(65) },
            Message::Exited { worker: 7, pid: 4711, ended: Ended::Signal(9) },
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn a_text_of_64_kib_passes_whole() {
        let text = "File \"app.py\"\n".repeat(MAX_TEXT / 14);
        let message = Message::LoadFailed { code: 1, text };
        assert_eq!(Message::decode(&message.encode()), Some(message));
    }

    #[test]
    fn a_longer_text_keeps_its_ends() {
        let text = format!("Traceback{}ValueError: \u{e9}", "\u{e9}".repeat(MAX_TEXT));
        let Some(Message::LoadFailed { text, .. }) =
            Message::decode(&Message::LoadFailed { code: 1, text }.encode())
        else {
            panic!("not the message that was sent");
        };
        assert!(text.starts_with("Traceback") && text.ends_with("ValueError: \u{e9}"));
        assert!(text.contains("bytes left out") && text.len() < MAX_TEXT + 64);
    }

    #[test]
    fn a_text_that_swells_when_escaped_still_fits_a_packet() {
        let message = Message::LoadFailed { code: 1, text: "\u{1}".repeat(MAX_TEXT) };
        assert!(message.encode().len() <= MAX_PACKET);
    }

    #[test]
    fn garbage_is_no_message() {
        for packet in [&b""[..], b"{}", b"\"Fork\"", b"{\"fork\":{\"worker\":-1}}", b"\xff\xfe"] {
            assert_eq!(Message::decode(packet), None);
        }
    }
}
