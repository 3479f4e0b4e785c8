//! How an answer is framed, and whether its connection goes on: a pure decision, taken once per answer, just before its
//! head is sent (RFC 9112 sections 6.3 and 9.3; RFC 9110 sections 8.6, 15.2, 15.3.5 and 15.4.5). Called by `conn`;
//! `encode` writes what was decided.

use super::head::Version;

/// What is known about an answer when its head has to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Version of the request.
    pub version: Version,
    /// The request was a `HEAD`.
    pub head_only: bool,
    /// Status code.
    pub status: u16,
    /// `Content-Length` that the application declared, in bytes.
    pub declared: Option<u64>,
    /// Length of the whole body in bytes, if the application is already through with it.
    pub whole: Option<u64>,
    /// The client wants the connection to go on, the application did not ask to close it, and this worker stays.
    pub keep_alive: bool,
}

/// What follows the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing, whatever the application produces. A length is announced all the same where it stands for the body that
    /// a `GET` would have got.
    None {
        /// Announced `Content-Length` in bytes.
        announced: Option<u64>,
    },
    /// Exactly so many bytes.
    Length(u64),
    /// Chunks, of which the last is empty.
    Chunked,
    /// Everything until the connection closes.
    UntilClose,
}

/// The decision about one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Framing of the body.
    pub body: Body,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// Whether the client must be told that it may: HTTP/1.0 assumes that it may not.
    pub(super) announce_keep_alive: bool,
}

impl Plan {
    /// The `Content-Length` that the client is told, in bytes.
    pub fn length(&self) -> Option<u64> {
        match self.body {
            Body::Length(length) => Some(length),
            Body::None { announced } => announced,
            Body::Chunked | Body::UntilClose => None,
        }
    }
}

impl Answer {
    /// Decides. A declared length wins over a counted one, so that an answer that is cut short shows as cut.
    pub fn plan(&self) -> Plan {
        let body = match (self.status, self.declared.or(self.whole)) {
            (100..=199 | 204, _) => Body::None { announced: None },
            // What was counted is not what a GET would have got: the application may have left the body out.
            (304, _) => Body::None { announced: self.declared },
            // The same holds for an empty body. One that is not empty is what a GET would have got.
            _ if self.head_only => Body::None { announced: self.declared.or(self.whole.filter(|n| *n > 0)) },
            (_, Some(n)) => Body::Length(n),
            (_, None) if self.version == Version::Http11 => Body::Chunked,
            (_, None) => Body::UntilClose,
        };
        // An interim answer ends nothing; what its connection becomes is said by the final one.
        let interim = matches!(self.status, 100..=199);
        let keep_alive = interim || (self.keep_alive && body != Body::UntilClose);
        Plan { body, keep_alive, announce_keep_alive: keep_alive && self.version == Version::Http10 }
    }
}

/// Counts the bytes of a body against its declared length, so that neither too many nor too few go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    declared: u64,
    sent: u64,
}

impl Length {
    /// Nothing sent yet of `declared` bytes.
    pub fn new(declared: u64) -> Length {
        Length { declared, sent: 0 }
    }

    /// Counts `n` bytes that the application wants to send, and says how many of them still may go.
    pub fn take(&mut self, n: usize) -> usize {
        let left = usize::try_from(self.missing()).unwrap_or(usize::MAX);
        let taken = n.min(left);
        self.sent += taken as u64;
        taken
    }

    /// Bytes that are still owed. If the application ends before they are 0, the connection must be closed.
    pub fn missing(&self) -> u64 {
        self.declared - self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Version::{Http10, Http11};

    const ANSWER: Answer = Answer {
        version: Http11,
        head_only: false,
        status: 200,
        declared: None,
        whole: None,
        keep_alive: true,
    };

    fn decided(answer: Answer) -> (Body, bool) {
        let plan = answer.plan();
        (plan.body, plan.keep_alive)
    }

    #[test]
    fn a_body_of_known_length_has_that_length() {
        assert_eq!(decided(Answer { declared: Some(5), ..ANSWER }), (Body::Length(5), true));
        assert_eq!(decided(Answer { whole: Some(0), ..ANSWER }), (Body::Length(0), true));
        assert_eq!(decided(Answer { declared: Some(5), whole: Some(4), ..ANSWER }), (Body::Length(5), true));
        let old = Answer { version: Http10, whole: Some(7), ..ANSWER };
        assert_eq!(decided(old), (Body::Length(7), true));
        assert!(old.plan().announce_keep_alive);
        assert!(!Answer { whole: Some(7), ..ANSWER }.plan().announce_keep_alive);
    }

    #[test]
    fn a_body_of_unknown_length_is_chunked_or_ends_the_connection() {
        assert_eq!(decided(ANSWER), (Body::Chunked, true));
        assert_eq!(decided(Answer { keep_alive: false, ..ANSWER }), (Body::Chunked, false));
        assert_eq!(decided(Answer { version: Http10, ..ANSWER }), (Body::UntilClose, false));
        assert!(!Answer { version: Http10, ..ANSWER }.plan().announce_keep_alive);
    }

    #[test]
    fn some_answers_have_no_body() {
        let none = |announced| (Body::None { announced }, true);
        assert_eq!(decided(Answer { status: 204, declared: Some(5), whole: Some(5), ..ANSWER }), none(None));
        assert_eq!(
            decided(Answer { status: 304, declared: Some(5), whole: Some(0), ..ANSWER }),
            none(Some(5))
        );
        assert_eq!(decided(Answer { status: 304, whole: Some(0), ..ANSWER }), none(None));
        assert_eq!(decided(Answer { head_only: true, declared: Some(9), ..ANSWER }), none(Some(9)));
        assert_eq!(decided(Answer { head_only: true, whole: Some(0), ..ANSWER }), none(None));
        assert_eq!(decided(Answer { head_only: true, whole: Some(7), ..ANSWER }), none(Some(7)));
        assert_eq!(decided(Answer { head_only: true, version: Http10, ..ANSWER }), none(None));
        assert_eq!(decided(Answer { status: 101, keep_alive: false, ..ANSWER }), none(None));
    }

    #[test]
    fn a_length_lets_no_byte_too_many_through_and_knows_what_is_missing() {
        let mut length = Length::new(10);
        assert_eq!((length.take(4), length.missing()), (4, 6));
        assert_eq!((length.take(7), length.missing()), (6, 0));
        assert_eq!((length.take(1), length.missing()), (0, 0));
        assert_eq!(Length::new(u64::MAX).take(usize::MAX), usize::MAX);
    }
}
