//! The master's ends of the lines on which it asks its workers, and on which they tell their news. A worker runs application
//! code, so it may answer late, never, nonsense, or without end: nothing here waits, what is kept of one answer has a bound,
//! and a line is closed on which an answer came that was not asked for. The worker serves on without it.
use appliance_worker::report::{Answer, Assembly, Call, MAX_PACKET, News, Question};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, recv, send};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Whose line it is: a worker's id, and the number of its life.
pub type Seat = (u32, u32);

/// Packets taken from one line in a turn, so that a worker that never stops does not keep the master.
const BATCH: usize = 16;
/// News that one worker may tell in a second; then it is not heard until the next one begins, and keeps them.
const MOST_NEWS: u32 = 500;

/// The lines.
#[derive(Debug)]
pub struct Lines {
    lines: BTreeMap<Seat, Line>,
    packet: Vec<u8>,
}

#[derive(Debug)]
struct Line {
    fd: OwnedFd,
    /// What has been asked and not been answered.
    owed: Vec<Question>,
    assembly: Assembly,
    /// Bytes of the answer that is being put together.
    size: usize,
    /// News since [`Lines::refresh`].
    news: u32,
}

/// What came on a line, or why nothing will any more.
pub type Heard = Result<Said, String>;

/// What a worker said.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// An answer and its size in bytes.
    Answer(Answer, usize),
    /// Something that it was not asked.
    News(News),
}

impl Lines {
    /// No line yet.
    pub fn new() -> Lines {
        Lines { lines: BTreeMap::new(), packet: vec![0; MAX_PACKET] }
    }

    /// A worker is about to be born with the other end.
    pub fn add(&mut self, seat: Seat, fd: OwnedFd) {
        let line = Line { fd, owed: Vec::new(), assembly: Assembly::default(), size: 0, news: 0 };
        self.lines.insert(seat, line);
    }

    /// Closes the lines of those who have gone without a word, or have never come.
    pub fn keep(&mut self, is_there: impl Fn(Seat) -> bool) {
        self.lines.retain(|&seat, _| is_there(seat));
    }

    /// The worker has gone.
    pub fn remove(&mut self, seat: Seat) {
        self.lines.remove(&seat);
    }

    /// Asks, unless the same is asked already: that answer will do. An error is a sentence about the worker.
    pub fn ask(&mut self, seat: Seat, question: Question) -> Result<(), String> {
        let line = self.lines.get_mut(&seat).ok_or("it cannot be asked: its line is closed")?;
        if line.owed.contains(&question) {
            return Ok(());
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(line.fd.as_raw_fd(), &question.encode(), flags) {
            Ok(_) => line.owed.push(question),
            Err(Errno::EAGAIN | Errno::EINTR) => return Err("it takes no questions".to_owned()),
            Err(errno) => {
                self.lines.remove(&seat);
                return Err(format!("it cannot be asked: {}", errno.desc()));
            }
        }
        Ok(())
    }

    /// Passes a signal on; false: its line is full, or there is none.
    pub fn call(&mut self, seat: Seat, call: Call) -> bool {
        let Some(line) = self.lines.get(&seat) else { return false };
        send(line.fd.as_raw_fd(), &call.encode(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).is_ok()
    }

    /// A second has passed: whoever has told too much is heard again.
    pub fn refresh(&mut self) {
        self.lines.values_mut().for_each(|line| line.news = 0);
    }

    /// What to wait for.
    pub fn sources(&self) -> impl Iterator<Item = PollFd<'_>> {
        let heard = self.lines.values().filter(|line| line.news < MOST_NEWS);
        heard.map(|line| PollFd::new(line.fd.as_fd(), PollFlags::POLLIN))
    }

    /// Takes what has come. A line that broke is closed.
    pub fn take_all(&mut self) -> Vec<(Seat, Heard)> {
        let mut heard = Vec::new();
        for (&seat, line) in self.lines.iter_mut().filter(|(_, line)| line.news < MOST_NEWS) {
            heard.extend(line.take(&mut self.packet).map(|heard| (seat, heard)));
        }
        for (seat, _) in heard.iter().filter(|(_, heard)| heard.is_err()) {
            self.lines.remove(seat);
        }
        heard
    }

    /// The time for this answer is over. A worker that has begun one and does not end it would keep the memory of it.
    pub fn close_if_unfinished(&mut self, seat: Seat) {
        if self.lines.get(&seat).is_some_and(|line| line.size > 0) {
            self.lines.remove(&seat);
        }
    }
}

impl Line {
    /// At most one answer or piece of news; the next one is taken in the next turn.
    fn take(&mut self, packet: &mut [u8]) -> Option<Heard> {
        for _ in 0..BATCH {
            let length = match recv(self.fd.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN | Errno::EINTR) => return None,
                Err(errno) => return Some(Err(format!("its line broke: {}", errno.desc()))),
            };
            if let Some(news) = News::decode(&packet[..length]) {
                self.news += 1;
                return Some(news.map(Said::News));
            }
            if self.owed.is_empty() && length > 0 {
                return Some(Err("it answered what it was not asked".to_owned()));
            }
            self.size += length;
            match self.assembly.take(&packet[..length]) {
                Ok(None) => {}
                Ok(Some(answer)) => return Some(self.check(answer)),
                Err(why) => return Some(Err(why)),
            }
        }
        None
    }

    /// Only what is owed is taken.
    fn check(&mut self, answer: Answer) -> Heard {
        let answers = question_of(&answer);
        let owed = self.owed.iter().position(|&question| question == answers);
        self.owed.remove(owed.ok_or("it answered what it was not asked")?);
        Ok(Said::Answer(answer, std::mem::take(&mut self.size)))
    }
}

/// What it is an answer to.
pub fn question_of(answer: &Answer) -> Question {
    match answer {
        Answer::Requests(_) => Question::Requests,
        Answer::Stacks(_) => Question::Stacks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel;
    use appliance_worker::report::MAX_ANSWER;

    const SEAT: Seat = (1, 0);

    fn session() -> (Lines, OwnedFd) {
        let (here, there) = channel::questions().unwrap();
        let mut lines = Lines::new();
        lines.add(SEAT, here);
        (lines, there)
    }

    fn say(worker: &OwnedFd, packet: &[u8]) -> nix::Result<usize> {
        send(worker.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
    }

    fn asked(worker: &OwnedFd) -> Option<Question> {
        let mut packet = [0; 100];
        let length = recv(worker.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT).ok()?;
        Question::decode(&packet[..length])
    }

    #[test]
    fn a_question_goes_out_once_and_its_answer_comes_back() {
        let (mut lines, worker) = session();
        lines.ask(SEAT, Question::Stacks).unwrap();
        lines.ask(SEAT, Question::Stacks).unwrap();
        assert_eq!((asked(&worker), asked(&worker)), (Some(Question::Stacks), None));
        assert_eq!(lines.take_all(), []);
        let answer = Answer::Stacks(Vec::new());
        say(&worker, &answer.encode()[0]).unwrap();
        assert_eq!(lines.take_all(), [(SEAT, Ok(Said::Answer(answer, r#".{"stacks":[]}"#.len())))]);
        lines.ask(SEAT, Question::Stacks).unwrap();
        assert_eq!(asked(&worker), Some(Question::Stacks), "that was another question");
    }

    #[test]
    fn news_come_unasked_and_in_the_middle_of_an_answer() {
        let (mut lines, worker) = session();
        say(&worker, &News::Worn.encode()).unwrap();
        assert_eq!(lines.take_all(), [(SEAT, Ok(Said::News(News::Worn)))]);
        lines.ask(SEAT, Question::Stacks).unwrap();
        say(&worker, b"+{\"stacks\"").unwrap();
        say(&worker, &News::Worn.encode()).unwrap();
        say(&worker, b".:[]}").unwrap();
        assert_eq!(lines.take_all(), [(SEAT, Ok(Said::News(News::Worn)))]);
        assert!(matches!(lines.take_all()[..], [(SEAT, Ok(Said::Answer(..)))]));
    }

    #[test]
    fn a_flood_of_news_is_heard_a_piece_at_a_time_and_has_a_bound() {
        let (mut lines, worker) = session();
        let mut heard = 0;
        while lines.sources().count() > 0 {
            say(&worker, &News::Signal(7).encode()).unwrap();
            heard += lines.take_all().len();
        }
        assert_eq!(heard, MOST_NEWS as usize);
        say(&worker, &News::Signal(8).encode()).unwrap();
        assert_eq!(lines.take_all(), []);
        lines.refresh();
        assert_eq!(lines.take_all(), [(SEAT, Ok(Said::News(News::Signal(8))))]);
    }

    #[test]
    fn a_signal_is_passed_on_as_far_as_the_line_takes_it() {
        let (mut lines, worker) = session();
        let call = Call { number: 7, is_tick: true };
        assert!(lines.call(SEAT, call) && !lines.call((9, 9), call));
        let mut packet = [0; 100];
        let length = recv(worker.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT).unwrap();
        assert_eq!(Call::decode(&packet[..length]), Some(call));
        while lines.call(SEAT, call) {}
    }

    #[test]
    fn a_worker_that_says_nonsense_unasked_is_heard_once() {
        for said in [&b"!{"[..], b".{\"stacks\":[]}", b""] {
            let (mut lines, worker) = session();
            say(&worker, said).unwrap();
            assert!(matches!(lines.take_all()[..], [(SEAT, Err(_))]));
            assert_eq!(lines.sources().count(), 0);
        }
    }

    #[test]
    fn garbage_and_answers_that_nobody_asked_for_close_the_line() {
        for said in [&b"?"[..], b".{}", b".[", b"", &Answer::Requests(Vec::new()).encode()[0]] {
            let (mut lines, worker) = session();
            lines.ask(SEAT, Question::Stacks).unwrap();
            say(&worker, said).unwrap();
            let heard = lines.take_all();
            assert!(matches!(heard[..], [(SEAT, Err(_))]), "{heard:?}");
            assert!(lines.ask(SEAT, Question::Stacks).unwrap_err().contains("its line is closed"));
            assert!(say(&worker, b"?").is_err(), "the master keeps its end");
        }
    }

    #[test]
    fn a_worker_that_has_gone_is_said_to_have_closed_its_line() {
        let (mut lines, worker) = session();
        lines.ask(SEAT, Question::Requests).unwrap();
        drop(worker);
        let heard = lines.take_all();
        let [(SEAT, Err(why))] = &heard[..] else { panic!("{heard:?}") };
        assert!(why.contains("closed its line") || why.contains("its line broke"), "{why}");
        let (mut lines, worker) = session();
        drop(worker);
        assert!(lines.ask(SEAT, Question::Requests).is_err());
    }

    #[test]
    fn a_flood_ends_at_its_bound_and_holds_nobody_up() {
        let (mut lines, worker) = session();
        lines.ask(SEAT, Question::Stacks).unwrap();
        let packet = [&b"+"[..], &[b' '; MAX_PACKET - 1]].concat();
        let mut sent = 0;
        let refusal = loop {
            while say(&worker, &packet).is_ok() {
                sent += packet.len();
            }
            if let Some((_, heard)) = lines.take_all().pop() {
                break heard.unwrap_err();
            }
        };
        assert!(refusal.contains("longer than"), "{refusal}");
        assert!(sent < 2 * MAX_ANSWER, "{sent}");
    }

    #[test]
    fn an_answer_that_was_begun_in_time_and_not_ended_closes_the_line() {
        let (mut lines, worker) = session();
        lines.ask(SEAT, Question::Stacks).unwrap();
        lines.close_if_unfinished(SEAT);
        say(&worker, b"+{").unwrap();
        assert_eq!(lines.take_all(), []);
        assert_eq!(lines.sources().count(), 1, "it may be late as long as it has not begun");
        lines.close_if_unfinished(SEAT);
        assert_eq!(lines.sources().count(), 0);
    }
}
