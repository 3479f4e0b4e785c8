//! How long the proxy waits for a client's request body: a pause ends it, and so does a client that sends on but is too slow
//! on the whole (`timeouts.body`, `limits.body_rate`). `stream.rs` asks for each read of the body. Only time in which somebody
//! waits counts, so a client is not blamed for a worker that takes nothing.
use crate::error::Failure;
use appliance_config::settings::Pace;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
pub(crate) struct Patience {
    pace: Pace,
    /// Bytes of this body that have come.
    received: u64,
    /// What was spent on waiting for them.
    waited: Duration,
    /// Since when the next ones are waited for.
    since: Option<Instant>,
    /// Exists from the first wait of a body to its end. It is never set for too late, because the end of patience only moves
    /// on; when it fires too early it is set anew. Most waits are so short that they cost no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, received: 0, waited: Duration::ZERO, since: None, timer: None }
    }

    /// Begins a body, of which so many bytes have come.
    pub(crate) fn begin(&mut self, received: u64) {
        *self = Self { received, ..Self::new(self.pace) };
    }

    /// Nobody waits for the body, until the next read of it.
    pub(crate) fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// Passes the result of a read through: the number of bytes. Fails it when the client has taken too long.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        read: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(read) = read {
            self.pause();
            self.received += read.as_ref().map_or(0, |count| *count as u64);
            return Poll::Ready(read);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let end = since + self.pace.patience(self.received, self.waited);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= end {
                return Poll::Ready(Err(io::Error::other(Failure::SlowBody)));
            }
            timer.as_mut().reset(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::{sleep, timeout};

    const PACE: Pace = Pace { grace: Duration::from_secs(10), rate: 100 };

    /// Waits for a client that sends `piece` bytes after each `pause`; how long it may go on, `None`: for ever.
    async fn end_of(pause: Duration, piece: usize) -> Option<Duration> {
        let (mut patience, begun) = (Patience::new(PACE), Instant::now());
        patience.begin(0);
        for _ in 0..1000 {
            let mut next = Box::pin(sleep(pause));
            let read = poll_fn(|cx| {
                let read = next.as_mut().poll(cx).map(|()| Ok(piece));
                patience.poll(cx, read)
            });
            if read.await.is_err() {
                return Some(begun.elapsed());
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_may_pause_and_be_slow_but_not_both_for_ever() {
        let (second, seconds) = (Duration::from_secs(1), Duration::from_secs);
        assert_eq!(end_of(11 * second, 1_000_000).await.map(|end| end.as_secs()), Some(10), "a pause");
        assert_eq!(end_of(second, 100).await, None, "as fast as it must be");
        // 10 bytes a second earn a tenth of the time that they take.
        let end = end_of(second, 10).await.unwrap();
        assert!(end > seconds(10) && end < seconds(13), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn only_time_spent_on_waiting_counts() {
        let mut patience = Patience::new(PACE);
        patience.begin(0);
        // What the client has sent is taken now and then; nobody listens in between.
        for _ in 0..3 {
            let taken = poll_fn(|cx| patience.poll(cx, Poll::Ready(Ok(1)))).await;
            assert_eq!(taken.ok(), Some(1));
            sleep(100 * PACE.grace).await;
        }
        let wait = poll_fn(|cx| patience.poll(cx, Poll::Pending));
        assert!(timeout(PACE.grace / 2, wait).await.is_err(), "it is patient");
        // An answer leaves meanwhile.
        patience.pause();
        sleep(100 * PACE.grace).await;
        let begun = Instant::now();
        assert!(poll_fn(|cx| patience.poll(cx, Poll::Pending)).await.is_err());
        assert_eq!(begun.elapsed().as_secs(), PACE.grace.as_secs() / 2);
    }
}
