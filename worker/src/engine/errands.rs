//! What comes to the loop from other threads than its own, and what runs on a core without having come over a connection.
use super::{Engine, Place};
use crate::app::Request;
use crate::errand::Errand;

impl Engine {
    /// Lets an errand wait for a core, behind the requests that wait already, or for one of those that are for calls. It is
    /// given back if there are too many (`limits.waiting`).
    pub fn run_errand(&self, errand: Errand) -> Result<(), Errand> {
        let mut cores = self.cores.borrow_mut();
        let is_call = errand.is_awaited();
        let (waiting, free) = match is_call {
            true => (cores.waiting_calls(), cores.count()),
            false => (cores.waiting(), cores.count() - cores.busy()),
        };
        if waiting >= self.boot.waiting + free {
            return Err(errand);
        }
        let request = Request::of_errand(errand, self.now.get(), Place::NOWHERE);
        if is_call {
            cores.push_waiting_call(request)
        } else {
            cores.push_waiting(request)
        }
        drop(cores);
        self.publish_cores();
        Ok(())
    }

    /// Another thread has left something: cores to wake, errands, or the question which requests wait.
    pub(super) fn look_into_inbox(&self) {
        self.inbox.take().into_iter().for_each(|core| self.wake(core));
        self.take_errands();
        self.send_results();
        if self.roll.take_asked() {
            self.roll.answer(self.cores.borrow().queue(), self.now.get());
        }
    }

    fn take_errands(&self) {
        for errand in self.inbox.take_errands() {
            let Err(errand) = self.run_errand(errand) else { continue };
            // A signal comes again.
            if !matches!(errand, Errand::Signal(_)) {
                tracing::warn!(
                    worker = self.boot.worker_id,
                    "{errand} is given up: every core is busy and limits.waiting is reached"
                );
            }
        }
    }
}
