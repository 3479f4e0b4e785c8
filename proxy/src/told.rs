//! What a worker tells of a request beside its answer: why the answer is not the application's, and what the access log is to
//! say. `framed.rs` and `hop.rs` hand the private fields of an answer's head in, `exchange.rs` keeps them for the log. Pure; it
//! must never keep more than was agreed on, whatever a worker sends.
use crate::error::Failure;
use appliance_link::private::{self, Cause, MOST_VARIABLES};
use bytes::Bytes;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    cause: Option<Cause>,
    /// For the access log, as their fields said them: each can be split.
    pub(crate) variables: Vec<Bytes>,
}

impl Told {
    /// Takes a private field; one that is not known says nothing.
    pub(crate) fn take(&mut self, name: &[u8], value: Bytes) {
        if name.eq_ignore_ascii_case(private::CAUSE.as_bytes()) {
            self.cause = Cause::from_word(&value);
        } else if name.eq_ignore_ascii_case(private::VARIABLE.as_bytes())
            && self.variables.len() < MOST_VARIABLES
            && private::split_variable(&value).is_some()
        {
            self.variables.push(value);
        }
    }

    /// Why the answer is not the application's own, if it is not.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.cause.map(|cause| match cause {
            Cause::Exception => Failure::AppError,
            Cause::Busy => Failure::WorkerBusy,
            Cause::TimedOut => Failure::RequestTimeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_believed_within_bounds() {
        let mut told = Told::default();
        told.take(b"x-appliance-weather", Bytes::from_static(b"fine"));
        told.take(b"x-appliance-variable", Bytes::from_static(b"neither key nor value"));
        told.take(b"x-appliance-variable", Bytes::from(vec![b'='; 100_000]));
        assert_eq!((told.failure(), &told), (None, &Told::default()));
        told.take(b"X-Appliance-Cause", Bytes::from_static(b"exception"));
        for _ in 0..1000 {
            told.take(b"x-appliance-variable", Bytes::from_static(b"user=joe"));
        }
        assert_eq!((told.failure(), told.variables.len()), (Some(Failure::AppError), MOST_VARIABLES));
    }
}
