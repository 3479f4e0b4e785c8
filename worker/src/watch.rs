//! The watch: a thread beside the loop that sees what the loop cannot see of itself. It interrupts a request that is overdue and
//! keeps the loop, says in the log when the loop stands still and where, and answers the master's questions also then. It
//! reads the [`Roll`] and never touches the engine; what only the host can do is behind [`Watched`]. Started in a worker after
//! the fork, ended before the process ends.
use crate::inbox::Remote;
use crate::report::{Answer, Call, MAX_PACKET, Question, StackReport};
use crate::roll::Roll;
use crate::signals::Ledger;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::sys::socket::{MsgFlags, recv, send};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

mod observer;
use observer::{Finding, Observer, Seen};

/// What the watch needs of a host. Called on the watch's thread only, which must never wait there for what the loop may hold,
/// but for a moment.
pub trait Watched: Send {
    /// Has the host look, on the loop's thread and in the middle of whatever runs there, whether that is overdue.
    fn interrupt(&mut self);

    /// The stack of the loop's thread, as text for the log.
    fn loop_stack(&mut self) -> String;

    /// Where every request, task and thread is.
    fn stacks(&mut self) -> Vec<StackReport>;
}

/// What is watched, and for what.
#[derive(Debug)]
pub struct Post {
    /// The worker's number.
    pub worker: u32,
    /// What the engine says of itself.
    pub roll: Arc<Roll>,
    /// Makes the loop look around.
    pub remote: Remote,
    /// What comes to it.
    pub ledger: Arc<Ledger>,
    /// The worker's end of the line on which the master asks.
    pub questions: OwnedFd,
    /// The loop may stand still for so long (`timeouts.stall`); `None`: for ever.
    pub stall: Option<Duration>,
    /// The limit that every request has; `None`: there is none.
    pub limit: Option<Duration>,
}

/// The thread, as whoever started it sees it.
#[derive(Debug)]
pub struct Watch {
    /// Closed to end it.
    end: UnixStream,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts it.
    pub fn start(post: Post, host: impl Watched + 'static) -> io::Result<Watch> {
        let (end, ended) = UnixStream::pair()?;
        let now = Instant::now();
        let observer = Observer::new(post.stall, post.limit, now);
        let unsent = VecDeque::new();
        let mut watcher = Watcher { post, host, ended, observer, unsent, is_asked: true };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            // Signals are the loop's: system calls of the application must be interrupted by them, not ours.
            let _ = SigSet::all().thread_block();
            watcher.watch();
        })?;
        Ok(Watch { end, thread })
    }

    /// Ends it and waits for that. Not while holding what the host's own lock protects.
    pub fn stop(self) {
        drop(self.end);
        if self.thread.join().is_err() {
            tracing::error!("the watch thread has failed");
        }
    }
}

struct Watcher<H> {
    post: Post,
    host: H,
    ended: UnixStream,
    observer: Observer,
    /// Answers that the master has not taken yet. It asks the same again only when it has the answer.
    unsent: VecDeque<Vec<u8>>,
    /// The master may still ask.
    is_asked: bool,
}

impl<H: Watched> Watcher<H> {
    fn watch(&mut self) {
        while let Some(has_question) = self.wait() {
            if has_question {
                self.is_asked =
                    self.answer().and_then(|is_asked| self.send().map(|()| is_asked)).unwrap_or(false);
            }
            let seen = Seen { beat: self.post.roll.beat(), due: self.post.roll.due() };
            self.post.ledger.tend();
            for finding in self.observer.look(seen, Instant::now()) {
                self.act(finding);
            }
        }
    }

    /// Waits for a question, for room for an answer, or until it is time to look; `None`: the worker ends.
    fn wait(&self) -> Option<bool> {
        let pause = self.observer.pause(self.post.roll.due(), Instant::now());
        // A millisecond too long is better than many turns that are too short.
        let pause = PollTimeout::try_from(pause + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut sources = vec![PollFd::new(self.ended.as_fd(), PollFlags::POLLIN)];
        if self.is_asked {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, !self.unsent.is_empty());
            sources.push(PollFd::new(self.post.questions.as_fd(), events));
        }
        match poll(&mut sources, pause) {
            Ok(_) | Err(Errno::EINTR) => {
                let mut ready = sources.iter().map(|source| source.any().unwrap_or(false));
                let has_ended = ready.next().unwrap_or(false);
                (!has_ended).then(|| ready.next().unwrap_or(false))
            }
            Err(error) => {
                tracing::error!(worker = self.post.worker, %error, "the watch thread cannot wait and ends");
                None
            }
        }
    }

    fn act(&mut self, finding: Finding) {
        let (worker, running) = (self.post.worker, self.post.roll.running());
        let running = running.map_or_else(|| "outside of requests".to_owned(), |who| format!("in {who}"));
        match finding {
            Finding::Overdue => self.host.interrupt(),
            Finding::Stalled(time) => {
                let (time, stack) = (time.as_secs_f64(), self.host.loop_stack());
                tracing::warn!(
                    worker,
                    "the loop has stood still for {time:.1} s, {running}: its other requests wait. It is at\n{stack}"
                );
            }
            Finding::GoesOn(time) => {
                tracing::warn!(
                    worker,
                    "the loop goes on after it has stood still for {:.1} s",
                    time.as_secs_f64()
                );
            }
        }
    }

    /// Answers a question; false: there will be no more.
    fn answer(&mut self) -> Result<bool, Errno> {
        let mut packet = [0; 256];
        let length = match recv(self.post.questions.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Ok(false),
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(true),
            Err(error) => return Err(error),
        };
        let answer = match Question::decode(&packet[..length]) {
            Some(Question::Requests) => Answer::Requests(self.post.roll.requests(|| {
                // A loop that cannot be woken does not answer.
                let _ = self.post.remote.poke();
            })),
            Some(Question::Stacks) => Answer::Stacks(self.host.stacks()),
            None => {
                // Anything else is a newer master's, and gets no answer.
                if let Some(call) = Call::decode(&packet[..length]) {
                    self.post.ledger.deliver(call);
                }
                return Ok(true);
            }
        };
        self.unsent.extend(answer.encode());
        Ok(true)
    }

    /// Sends of the answers what the master takes now.
    fn send(&mut self) -> Result<(), Errno> {
        while let Some(packet) = self.unsent.front() {
            debug_assert!(packet.len() <= MAX_PACKET);
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match send(self.post.questions.as_raw_fd(), packet, flags) {
                Ok(_) => drop(self.unsent.pop_front()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
