//! Errands: what must run on a core in the host but is no HTTP request, such as the handler of a signal, a procedure that
//! somebody else calls, or a callable of the host's own. An errand waits for a core in the queue of the requests, or,
//! if requests may be what awaits it, for one of those that are for calls. It is bounded like a request (`timeouts.request`), and
//! finished before the worker ends; it has no connection, so nothing that is sent from it reaches anybody. Whoever has one gives
//! it to [`crate::Engine::run_errand`], or from another thread to [`crate::Remote::run_errand`]; the host gets it in
//! [`crate::Host::start`].
use crate::signals::Ticket;
use std::any::Any;
use std::fmt;

/// Longest name of an errand in bytes, as people see it.
const MOST_NAME: usize = 256;

/// Something to be done on a core.
#[derive(Debug)]
pub enum Errand {
    /// The handlers of this signal are to be called (uWSGI `uwsgi.signal`).
    Signal(Ticket),
    /// A procedure is called from outside of this worker (uWSGI modifier 173).
    Rpc {
        /// Of the procedure.
        name: String,
        /// Its arguments.
        args: Vec<Vec<u8>>,
        /// Where its result goes.
        reply: Reply,
    },
    /// Something of the host's own, which code that may hold a core awaits.
    Host {
        /// One word that says what it is.
        kind: &'static str,
        /// What people call it.
        name: String,
        /// What the host makes of it.
        work: Box<dyn Any + Send>,
    },
}

impl Errand {
    /// What stands where requests have their method.
    pub fn kind(&self) -> &'static str {
        match self {
            Errand::Signal(_) => "SIGNAL",
            Errand::Rpc { .. } => "RPC",
            Errand::Host { kind, .. } => kind,
        }
    }

    /// Whether whoever waits for it may hold a core of this worker, so that it must not wait for one of those.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Errand::Host { .. })
    }

    /// What stands where requests have their target.
    pub fn name(&self) -> String {
        match self {
            Errand::Signal(ticket) => ticket.number().to_string(),
            Errand::Rpc { name, .. } | Errand::Host { name, .. } => {
                let end = (0..=name.len().min(MOST_NAME)).rev().find(|&end| name.is_char_boundary(end));
                name[..end.unwrap_or_default()].to_owned()
            }
        }
    }
}

impl fmt::Display for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// What came of a procedure, or a sentence that says why nothing did.
pub type Replied = Result<Vec<u8>, String>;

/// Takes the result of an errand to whoever waits for it, exactly once: one that is dropped says that the worker has ended.
/// May be used on any thread.
pub struct Reply(Option<Box<dyn FnOnce(Replied) + Send>>);

impl Reply {
    /// `deliver` is called on the thread that has the result and must not wait.
    pub fn new(deliver: impl FnOnce(Replied) + Send + 'static) -> Reply {
        Reply(Some(Box::new(deliver)))
    }

    /// Delivers.
    pub fn send(mut self, replied: Replied) {
        self.deliver(replied);
    }

    fn deliver(&mut self, replied: Replied) {
        if let Some(deliver) = self.0.take() {
            deliver(replied);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.deliver(Err("the worker gave it up before there was a result".to_owned()));
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn whoever_waits_for_a_result_hears_once_also_of_an_errand_that_was_dropped() {
        let (sender, results) = mpsc::channel();
        let reply = |sender: &mpsc::Sender<Replied>| {
            let sender = sender.clone();
            Reply::new(move |replied| sender.send(replied).unwrap())
        };
        reply(&sender).send(Ok(b"result".to_vec()));
        drop(Errand::Rpc { name: "f".to_owned(), args: Vec::new(), reply: reply(&sender) });
        drop(sender);
        let results: Vec<_> = results.iter().collect();
        assert_eq!((results.len(), &results[0]), (2, &Ok(b"result".to_vec())));
        assert!(results[1].is_err());
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        let errand = Errand::Host { kind: "TASK", name: "é".repeat(200), work: Box::new(()) };
        assert_eq!(errand.name().len(), MOST_NAME);
        let errand = Errand::Host { kind: "TASK", name: "f".to_owned(), work: Box::new(()) };
        assert_eq!(errand.to_string(), "TASK f");
    }
}
