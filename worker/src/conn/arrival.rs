//! How a request body arrives in time, as far as its client can help it: time counts only while we wait for the client,
//! never while the application has not asked for more. Called by the connection, which knows who waits for whom.
use appliance_config::settings::Pace;
use std::time::{Duration, Instant};

/// The arrival of one body; `Default` is its beginning.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// Bytes so far, as they were sent.
    received: u64,
    /// How long we have waited for the client in all, but for the wait that goes on.
    waited: Duration,
    /// Since when we have been waiting.
    waiting: Option<Instant>,
}

impl Arrival {
    /// From now on we wait for the client, if we have not before. Until when the next piece must be here.
    pub(super) fn wait(&mut self, pace: &Pace, now: Instant) -> Instant {
        self.pause(now);
        self.waiting = Some(now);
        now + pace.patience(self.received, self.waited)
    }

    /// We do not wait for the client any more: it has done what it had to.
    pub(super) fn pause(&mut self, now: Instant) {
        if let Some(since) = self.waiting.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }

    /// So many bytes have come.
    pub(super) fn receive(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_in_which_we_wait_is_counted() {
        let pace = Pace { grace: Duration::from_secs(10), rate: 100 };
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut arrival = Arrival::default();
        assert_eq!(arrival.wait(&pace, at(0)), at(10));
        assert_eq!(arrival.wait(&pace, at(4)), at(10), "to ask again changes nothing");
        arrival.pause(at(6));
        assert_eq!(arrival.wait(&pace, at(1000)), at(1004), "four seconds are left, whenever they begin");
        arrival.receive(300);
        assert_eq!(arrival.wait(&pace, at(1001)), at(1007), "300 bytes are worth three seconds");
    }
}
