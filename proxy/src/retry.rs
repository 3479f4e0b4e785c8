//! What may be sent again, and how often: pure. `exchange.rs` reports each mishap of a try; `relay.rs` and `gateway.rs` do
//! what the verdict says.
//! The law: nothing is executed twice unless its method is idempotent (RFC 9110 section 9.2.2), and nothing is sent again
//! once the client has seen a byte of an answer.
use crate::WorkerId;
use crate::error::Failure;
use crate::queue::Ticket;
use std::time::Duration;

/// How a try ended before the answer was complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// The worker's backlog (or this process's descriptor table) is full, or its link takes nothing.
    Full,
    /// No connection for another reason.
    Unconnected,
    /// Connected, but no application can have begun: the worker has refused it, or ended before it said that one would.
    Unread,
    /// The connection ended before the first byte of the answer.
    Died,
    /// The answer had begun.
    Answering,
    /// No answer within `timeouts.response`.
    Silent,
    /// The answer breaks the protocol of the link, or is not HTTP.
    Garbled,
}

/// A request may see this many workers die under it: two killed within a few milliseconds must not fail a GET. After the
/// third it is likely that the request is what kills them, and each takes the requests of others with it.
const DEATHS: u32 = 3;

/// Tries of one request, where there are not more workers than that: those which no application has seen cost only time, and
/// a single worker may be killed twice in a row.
const TRIES: u32 = 6;

/// What to do after a mishap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it again, preferably to another worker.
    Again,
    /// Tell the client.
    GiveUp(Failure),
}

/// What is known of the request when a try ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// RFC 9110: GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    pub(crate) idempotent: bool,
    /// All body bytes read so far can be sent again.
    pub(crate) replayable: bool,
    /// The answer has begun.
    pub(crate) answered: bool,
    /// The worker has had it for so long that it may be what the worker was stuck in.
    pub(crate) suspect: bool,
    /// Number of workers.
    pub(crate) workers: u32,
}

/// The workers that one request has been sent to.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// Workers that failed it, and, until all are full, those with a full backlog.
    pub(crate) tried: Vec<WorkerId>,
    /// Tries that count: a full backlog is a wait, not a try.
    pub(crate) tries: u32,
    /// Workers that died after they had got the request.
    pub(crate) deaths: u32,
    /// The last try ended at a full backlog.
    pub(crate) full: bool,
    /// Its number in the order of arrival, from its first wish for a worker on. Kept by `workers.rs`, as is the next.
    pub(crate) ticket: Option<Ticket>,
    /// How long it has waited for workers.
    pub(crate) waited: Duration,
}

impl Route {
    /// Records the end of a try at `worker` and decides what comes next.
    pub(crate) fn after(&mut self, mishap: Mishap, worker: WorkerId, known: &Known) -> Verdict {
        self.full = mishap == Mishap::Full;
        self.tried.push(worker);
        if !self.full {
            self.tries += 1;
        }
        self.deaths += u32::from(mishap == Mishap::Died);
        let executed_at_most_once = match mishap {
            Mishap::Full | Mishap::Unconnected | Mishap::Unread => true,
            // A request that never lets go of its worker must not be handed from one to the next.
            Mishap::Died => known.idempotent && !known.suspect,
            Mishap::Answering | Mishap::Silent | Mishap::Garbled => false,
        };
        let tries_left = self.full || (self.tries < TRIES.max(1 + known.workers) && self.deaths < DEATHS);
        if executed_at_most_once && tries_left && known.replayable && !known.answered {
            Verdict::Again
        } else {
            Verdict::GiveUp(failure(mishap))
        }
    }
}

fn failure(mishap: Mishap) -> Failure {
    match mishap {
        Mishap::Full => Failure::WorkersFull,
        Mishap::Unconnected => Failure::WorkerUnreachable,
        Mishap::Unread | Mishap::Died => Failure::WorkerDied,
        Mishap::Answering => Failure::AnswerCut,
        Mishap::Silent => Failure::WorkerSilent,
        Mishap::Garbled => Failure::WorkerGarbled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Known =
        Known { idempotent: true, replayable: true, answered: false, suspect: false, workers: 2 };
    const POST: Known = Known { idempotent: false, ..GET };

    fn first(mishap: Mishap, known: &Known) -> Verdict {
        Route::default().after(mishap, 1, known)
    }

    #[test]
    fn what_was_not_read_goes_elsewhere_whatever_the_method() {
        for mishap in [Mishap::Full, Mishap::Unconnected, Mishap::Unread] {
            assert_eq!(first(mishap, &POST), Verdict::Again, "{mishap:?}");
        }
    }

    #[test]
    fn what_may_have_run_goes_elsewhere_only_if_idempotent() {
        assert_eq!(first(Mishap::Died, &GET), Verdict::Again);
        assert_eq!(first(Mishap::Died, &POST), Verdict::GiveUp(Failure::WorkerDied));
        assert_eq!(first(Mishap::Silent, &GET), Verdict::GiveUp(Failure::WorkerSilent));
        assert_eq!(first(Mishap::Garbled, &GET), Verdict::GiveUp(Failure::WorkerGarbled));
        assert_eq!(first(Mishap::Answering, &GET), Verdict::GiveUp(Failure::AnswerCut));
    }

    #[test]
    fn what_may_have_hung_a_worker_does_not_hang_another() {
        let suspect = Known { suspect: true, ..GET };
        assert_eq!(first(Mishap::Died, &suspect), Verdict::GiveUp(Failure::WorkerDied));
        assert_eq!(first(Mishap::Unread, &suspect), Verdict::Again, "no application has seen it");
    }

    #[test]
    fn nothing_is_sent_again_after_an_answer_or_without_its_body() {
        for mishap in [Mishap::Full, Mishap::Unconnected, Mishap::Unread, Mishap::Died] {
            assert_ne!(first(mishap, &Known { answered: true, ..GET }), Verdict::Again, "{mishap:?}");
            assert_ne!(first(mishap, &Known { replayable: false, ..GET }), Verdict::Again, "{mishap:?}");
        }
    }

    #[test]
    fn tries_come_to_an_end() {
        let mut route = Route::default();
        for _ in 1..TRIES {
            assert_eq!(route.after(Mishap::Unread, 1, &POST), Verdict::Again);
            assert_eq!(route.after(Mishap::Full, 2, &POST), Verdict::Again, "a full backlog is no try");
        }
        assert_eq!(route.after(Mishap::Unconnected, 1, &GET), Verdict::GiveUp(Failure::WorkerUnreachable));
        assert_eq!(route.tries, TRIES);
    }

    #[test]
    fn there_are_one_more_tries_than_workers() {
        let (mut route, many) =
            (Route { tries: TRIES, ..Route::default() }, Known { workers: TRIES + 1, ..GET });
        assert_eq!(route.after(Mishap::Unread, 7, &many), Verdict::Again);
        assert_eq!(route.after(Mishap::Unread, 8, &many), Verdict::GiveUp(Failure::WorkerDied));
    }

    #[test]
    fn a_request_that_kills_workers_does_not_get_them_all() {
        let (mut route, many) = (Route::default(), Known { workers: 16, ..GET });
        assert_eq!(route.after(Mishap::Died, 1, &many), Verdict::Again);
        assert_eq!(route.after(Mishap::Died, 2, &many), Verdict::Again);
        assert_eq!(route.after(Mishap::Died, 3, &many), Verdict::GiveUp(Failure::WorkerDied));
    }
}
