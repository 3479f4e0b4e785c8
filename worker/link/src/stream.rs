//! One stream as one side sees it: which directions are open, what may come next, and the window of each direction. Every
//! transition is in this file; it is the same for both sides, because each only has to know *us* and *them*.
//!
//! ```text
//!            head          data…          data, end
//!   Waiting ──────► Open ─────────► Open ───────────► Ended        for what is sent, and for what is received
//! ```
//! A reset ends both at once; the owner then drops the `Stream`. What arrives for a stream that is not there any more was on
//! its way before the other side could know, and is ignored.
use crate::frame::StreamId;
use crate::hello::MOST_WINDOW;
use crate::violation::Violation;

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// No final head yet.
    Waiting,
    /// Data may follow.
    Open,
    /// Complete.
    Ended,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Stream {
    id: StreamId,
    inbound: Flow,
    outbound: Flow,
    /// Bytes that they may still send.
    receive_window: u32,
    /// Bytes that we may still send.
    send_window: u32,
    /// What they may send at most ahead of us.
    allowance: u32,
    /// Bytes consumed and not granted again yet.
    consumed: u32,
}

impl Stream {
    /// The proxy's side of a stream, whose `Request` frame is just being sent; `end`: it has no body. `ours` and `theirs` are
    /// the windows of the two hellos.
    pub fn opened(id: StreamId, end: bool, ours: u32, theirs: u32) -> Stream {
        let outbound = if end { Flow::Ended } else { Flow::Open };
        Stream::new(id, Flow::Waiting, outbound, ours, theirs)
    }

    /// The worker's side of a stream, whose `Request` frame has just come; `end`: it has no body.
    pub fn accepted(id: StreamId, end: bool, ours: u32, theirs: u32) -> Stream {
        let inbound = if end { Flow::Ended } else { Flow::Open };
        Stream::new(id, inbound, Flow::Waiting, ours, theirs)
    }

    fn new(id: StreamId, inbound: Flow, outbound: Flow, ours: u32, theirs: u32) -> Stream {
        Stream {
            id,
            inbound,
            outbound,
            receive_window: ours,
            send_window: theirs,
            allowance: ours,
            consumed: 0,
        }
    }

    /// Its name.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The head of an answer has come; `interim`: not the final one.
    pub fn receive_head(&mut self, interim: bool, end: bool) -> Result<(), Violation> {
        match self.inbound {
            Flow::Waiting if interim && end => Err(Violation::OutOfOrder(self.id)),
            Flow::Waiting if interim => Ok(()),
            Flow::Waiting => {
                self.inbound = if end { Flow::Ended } else { Flow::Open };
                Ok(())
            }
            Flow::Open => Err(Violation::OutOfOrder(self.id)),
            Flow::Ended => Err(Violation::AfterEnd(self.id)),
        }
    }

    /// `count` bytes of data have come; `end`: they were the last.
    pub fn receive_data(&mut self, count: usize, end: bool) -> Result<(), Violation> {
        match self.inbound {
            Flow::Open => {}
            Flow::Waiting => return Err(Violation::OutOfOrder(self.id)),
            Flow::Ended => return Err(Violation::AfterEnd(self.id)),
        }
        let count = u32::try_from(count).map_err(|_| Violation::Overrun(self.id))?;
        self.receive_window = self.receive_window.checked_sub(count).ok_or(Violation::Overrun(self.id))?;
        if end {
            self.inbound = Flow::Ended;
        }
        Ok(())
    }

    /// `count` received bytes have been used up. Sometimes the other side is to be told: the credit of a `Window` frame.
    /// Half a window is collected first, so that small bodies cost none, and nothing is granted that nobody will send.
    pub fn consume(&mut self, count: usize) -> Option<u32> {
        self.consumed = self.consumed.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.inbound == Flow::Ended || self.consumed < self.allowance / 2 {
            return None;
        }
        let credit = std::mem::take(&mut self.consumed).min(self.allowance - self.receive_window);
        self.receive_window += credit;
        (credit > 0).then_some(credit)
    }

    /// They have granted more.
    pub fn grant(&mut self, credit: u32) -> Result<(), Violation> {
        let window = self.send_window.checked_add(credit).filter(|window| *window <= 2 * MOST_WINDOW);
        self.send_window = window.ok_or(Violation::WindowOverflow(self.id))?;
        Ok(())
    }

    /// Bytes of data that may be sent now.
    pub fn may_send(&self) -> usize {
        if self.outbound == Flow::Open { self.send_window as usize } else { 0 }
    }

    /// The final head is being sent.
    pub fn send_head(&mut self, end: bool) {
        debug_assert_eq!(self.outbound, Flow::Waiting);
        self.outbound = if end { Flow::Ended } else { Flow::Open };
    }

    /// `count` bytes of data are being sent, at most [`Stream::may_send`]; `end`: they are the last.
    pub fn send_data(&mut self, count: usize, end: bool) {
        debug_assert!(count <= self.may_send());
        self.send_window = self.send_window.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        if end {
            self.outbound = Flow::Ended;
        }
    }

    /// Whether everything that they will ever send has come.
    pub fn has_received_all(&self) -> bool {
        self.inbound == Flow::Ended
    }

    /// Whether the final head has been sent.
    pub fn has_sent_head(&self) -> bool {
        self.outbound != Flow::Waiting
    }

    /// Whether everything that we will ever send has been sent.
    pub fn has_sent_all(&self) -> bool {
        self.outbound == Flow::Ended
    }

    /// Whether both directions are complete: the stream can be forgotten without a reset.
    pub fn is_over(&self) -> bool {
        self.has_received_all() && self.has_sent_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 1000;

    /// The two ends of one stream.
    fn pair(end: bool) -> (Stream, Stream) {
        (Stream::opened(7, end, WINDOW, WINDOW), Stream::accepted(7, end, WINDOW, WINDOW))
    }

    /// Sends `count` bytes from one end to the other.
    fn data(from: &mut Stream, to: &mut Stream, count: usize, end: bool) -> Result<(), Violation> {
        from.send_data(count, end);
        to.receive_data(count, end)
    }

    #[test]
    fn a_request_and_its_answer() {
        let (mut proxy, mut worker) = pair(false);
        data(&mut proxy, &mut worker, 5, true).unwrap();
        assert!(worker.has_received_all() && proxy.has_sent_all() && !proxy.is_over());
        proxy.receive_head(true, false).unwrap();
        worker.send_head(false);
        proxy.receive_head(false, false).unwrap();
        data(&mut worker, &mut proxy, 9, false).unwrap();
        data(&mut worker, &mut proxy, 0, true).unwrap();
        assert!(worker.is_over() && proxy.is_over());
    }

    #[test]
    fn every_disorder_is_a_violation() {
        let (mut proxy, mut worker) = pair(true);
        assert_eq!(worker.receive_data(1, false), Err(Violation::AfterEnd(7)));
        assert_eq!(worker.receive_head(false, false), Err(Violation::AfterEnd(7)));
        assert_eq!(proxy.receive_data(1, false), Err(Violation::OutOfOrder(7)));
        assert_eq!(proxy.receive_head(true, true), Err(Violation::OutOfOrder(7)));
        proxy.receive_head(false, false).unwrap();
        assert_eq!(proxy.receive_head(false, false), Err(Violation::OutOfOrder(7)));
        assert_eq!(proxy.receive_head(true, false), Err(Violation::OutOfOrder(7)));
        proxy.receive_data(0, true).unwrap();
        assert_eq!(proxy.receive_data(0, true), Err(Violation::AfterEnd(7)));
    }

    #[test]
    fn nobody_sends_more_than_the_window() {
        let (mut proxy, mut worker) = pair(false);
        data(&mut proxy, &mut worker, 1000, false).unwrap();
        assert_eq!(proxy.may_send(), 0);
        assert_eq!(worker.clone().receive_data(1, false), Err(Violation::Overrun(7)));
        assert_eq!(worker.consume(499), None, "half a window is collected first");
        let credit = worker.consume(1).unwrap();
        proxy.grant(credit).unwrap();
        assert_eq!((credit, proxy.may_send()), (500, 500));
        data(&mut proxy, &mut worker, 500, true).unwrap();
        assert_eq!(worker.consume(1000), None, "nothing more will come");
    }

    #[test]
    fn a_window_never_grows_beyond_its_size() {
        let (_, mut worker) = pair(false);
        worker.receive_data(600, false).unwrap();
        assert_eq!(worker.consume(5000), Some(600), "more was said to be consumed than had come");
        let (mut proxy, _) = pair(false);
        assert_eq!(proxy.grant(u32::MAX), Err(Violation::WindowOverflow(7)));
    }

    #[test]
    fn only_an_open_direction_may_send() {
        let (proxy, mut worker) = pair(true);
        assert_eq!((proxy.may_send(), worker.may_send()), (0, 0), "no body; no head yet");
        worker.send_head(false);
        assert_eq!(worker.may_send(), 1000);
        worker.send_data(10, true);
        assert_eq!(worker.may_send(), 0);
    }
}
