//! What an answer tells the access log of this worker about itself: written once with its head, and counted with its body, by
//! whoever makes the answer, on the loop's thread or on another one; read by the engine when the request ends. It exists only
//! for a request of which a line will be written here. Nothing in it decides anything.
use crate::answer::Cause;
use bytes::Bytes;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub struct Told {
    head: OnceLock<Headline>,
    body: AtomicU64,
}

/// What is known with the head of an answer.
#[derive(Debug)]
pub struct Headline {
    /// The status code.
    pub status: u16,
    /// Bytes of the head.
    pub length: u64,
    /// From the request's arrival to this head.
    pub after: Duration,
    /// Why it is not the application's answer, if it is not.
    pub cause: Option<Cause>,
    /// The application's variables, as [`appliance_link::private::variable`] writes them.
    pub variables: Vec<Bytes>,
}

impl Told {
    /// The head is written. A request has one answer: what is said of another one is forgotten.
    pub fn begin(&self, headline: Headline) {
        let _ = self.head.set(headline);
    }

    /// So many bytes of the body are about to be sent. Called by one thread only.
    pub fn count(&self, bytes: u64) {
        self.body.store(self.body.load(Relaxed) + bytes, Relaxed);
    }

    /// What the head says; `None`: there is none yet.
    pub fn headline(&self) -> Option<&Headline> {
        self.head.get()
    }

    /// Bytes of the body so far.
    pub fn body(&self) -> u64 {
        self.body.load(Relaxed)
    }

    /// Makes it ready for the next request.
    pub fn clear(&mut self) {
        self.head.take();
        *self.body.get_mut() = 0;
    }
}
