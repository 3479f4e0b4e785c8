//! What the other side of a link did wrong. Whoever finds one logs it and closes the link; nothing is repaired, because a
//! peer that breaks the framing once cannot be trusted about the bytes that follow.
use crate::frame::StreamId;

/// A breach of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The first bytes are not a hello.
    #[error("the other side does not speak the link protocol")]
    NotALink,
    /// Another version of this protocol.
    #[error("the other side speaks version {0} of the link protocol, this one version {ours}", ours = crate::hello::VERSION)]
    Version(u8),
    /// A frame of an unknown kind.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// A flag that this kind of frame does not have, or a reserved bit.
    #[error("a {kind} frame with the flags {flags:#04x}")]
    UnknownFlags {
        /// Name of the kind.
        kind: &'static str,
        /// What was found.
        flags: u8,
    },
    /// A payload longer than the kind allows.
    #[error("a {kind} frame of {length} bytes, where {most} are allowed")]
    TooLong {
        /// Name of the kind.
        kind: &'static str,
        /// Bytes announced.
        length: u32,
        /// Bytes allowed.
        most: u32,
    },
    /// A payload of the wrong size or with lengths that do not add up.
    #[error("a malformed {0} frame")]
    Malformed(&'static str),
    /// A kind that only the other side may send, or a frame of the whole link on a stream, or the reverse.
    #[error("a {0} frame in the wrong place")]
    Misplaced(&'static str),
    /// A request on a stream that is in use.
    #[error("stream {0} was opened twice")]
    OpenedTwice(StreamId),
    /// Something after the end of a stream.
    #[error("stream {0} went on after its end")]
    AfterEnd(StreamId),
    /// Data before the head of an answer, or a second final head.
    #[error("stream {0} is out of order")]
    OutOfOrder(StreamId),
    /// More data than the window allowed.
    #[error("stream {0} sent more than its window")]
    Overrun(StreamId),
    /// More window than can be counted.
    #[error("stream {0} was given a window of more than 2^31 bytes")]
    WindowOverflow(StreamId),
}
