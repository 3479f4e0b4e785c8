//! Surveys: a control client asks the workers something, and is answered when all of them have, or when the time for it is
//! over. Pure; `lines.rs` below has the sockets, `master/questions.rs` connects the two. A worker's answer is passed on as
//! it came and believed in nothing: which worker said it is known from the line.
use crate::control::{ClientId, Told};
use appliance_worker::report::{Answer, Question};
use std::time::{Duration, Instant};

mod lines;
pub use lines::{Heard, Lines, Said, Seat};

/// How long workers may take. One that is alive answers within a turn of its loop, one that is stuck by its watch thread.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Surveys at once; people and their scripts are few, and what the answers take in memory must have a bound.
const MAX_SURVEYS: usize = 8;
/// Bytes of all answers to one survey together; what comes after is left out.
pub const MAX_ANSWERS: usize = 16 * 1024 * 1024;

/// All that are under way.
#[derive(Debug, Default)]
pub struct Surveys(Vec<Survey>);

#[derive(Debug)]
struct Survey {
    client: ClientId,
    question: Question,
    deadline: Instant,
    replies: Vec<Reply>,
    /// Bytes of the answers so far.
    size: usize,
}

/// One worker's part in a survey.
#[derive(Debug)]
pub struct Reply {
    seat: Seat,
    told: Told,
}

impl Reply {
    /// A worker that has been asked, or could not be, with the sentence that says why.
    pub fn of(seat: Seat, pid: i32, asked: Result<(), String>) -> Reply {
        Reply { seat, told: Told { worker: seat.0, pid, error: asked.err(), ..Told::default() } }
    }

    fn is_open(&self) -> bool {
        self.told.error.is_none() && self.told.requests.is_none() && self.told.stacks.is_none()
    }
}

impl Surveys {
    /// Begins one; a sentence if there are too many.
    pub fn begin(
        &mut self,
        client: ClientId,
        question: Question,
        replies: Vec<Reply>,
        now: Instant,
    ) -> Result<(), String> {
        if self.0.len() >= MAX_SURVEYS {
            return Err(format!("the workers are being asked {MAX_SURVEYS} times already; try again"));
        }
        self.0.push(Survey { client, question, deadline: now + PATIENCE, replies, size: 0 });
        Ok(())
    }

    /// Something came on a worker's line.
    pub fn on_heard(&mut self, seat: Seat, heard: &Heard) {
        for survey in &mut self.0 {
            survey.on_heard(seat, heard);
        }
    }

    /// When the next one is over, whatever is missing.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.iter().map(|survey| survey.deadline).min()
    }

    /// Takes those that are complete or over, and whose answers are still missing in them.
    pub fn finish(&mut self, now: Instant) -> Vec<(ClientId, Vec<Told>, Vec<Seat>)> {
        let is_over =
            |survey: &mut Survey| survey.deadline <= now || !survey.replies.iter().any(Reply::is_open);
        self.0.extract_if(.., is_over).map(Survey::close).collect()
    }
}

impl Survey {
    fn on_heard(&mut self, seat: Seat, heard: &Heard) {
        let Some(reply) = self.replies.iter_mut().find(|reply| reply.seat == seat && reply.is_open()) else {
            return;
        };
        match (heard, self.question) {
            (Err(why), _) => reply.told.error = Some(why.clone()),
            (Ok(Said::Answer(_, size)), _) if self.size + size > MAX_ANSWERS => {
                reply.told.error =
                    Some(format!("left out: all answers together are longer than {MAX_ANSWERS} bytes"));
            }
            (Ok(Said::Answer(Answer::Requests(requests), size)), Question::Requests) => {
                reply.told.requests = Some(requests.clone());
                self.size += size;
            }
            (Ok(Said::Answer(Answer::Stacks(stacks), size)), Question::Stacks) => {
                reply.told.stacks = Some(stacks.clone());
                self.size += size;
            }
            // The answer to somebody else's question, or none.
            (Ok(_), _) => {}
        }
    }

    fn close(self) -> (ClientId, Vec<Told>, Vec<Seat>) {
        let missing = self.replies.iter().filter(|reply| reply.is_open()).map(|reply| reply.seat).collect();
        let tell = |reply: Reply| {
            let is_open = reply.is_open();
            let mut told = reply.told;
            if is_open {
                told.error = Some(format!("no answer within {PATIENCE:?}"));
            }
            told
        };
        (self.client, self.replies.into_iter().map(tell).collect(), missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance_worker::report::{RequestReport, StackReport};

    fn client(n: u64) -> ClientId {
        ClientId::new(n)
    }

    fn asked(seats: &[Seat]) -> Vec<Reply> {
        seats.iter().map(|&seat| Reply::of(seat, 100 + seat.0 as i32, Ok(()))).collect()
    }

    fn requests(id: &str) -> Heard {
        Ok(Said::Answer(
            Answer::Requests(vec![RequestReport { id: id.into(), ..RequestReport::default() }]),
            100,
        ))
    }

    #[test]
    fn it_is_over_when_everybody_has_answered() {
        let now = Instant::now();
        let mut surveys = Surveys::default();
        surveys.begin(client(1), Question::Requests, asked(&[(1, 0), (2, 0)]), now).unwrap();
        surveys.on_heard((1, 0), &requests("a"));
        assert!(surveys.finish(now).is_empty());
        surveys.on_heard((2, 0), &requests("b"));
        let finished = surveys.finish(now);
        let [(who, told, missing)] = &finished[..] else { panic!("{finished:?}") };
        assert_eq!((*who, missing.len()), (client(1), 0));
        let of = |told: &Told| (told.worker, told.pid, told.requests.as_ref().unwrap()[0].id.clone());
        assert_eq!(told.iter().map(of).collect::<Vec<_>>(), [(1, 101, "a".into()), (2, 102, "b".into())]);
        assert_eq!(surveys.next_deadline(), None);
    }

    #[test]
    fn whoever_is_late_broken_or_cannot_be_asked_gets_a_sentence() {
        let now = Instant::now();
        let mut surveys = Surveys::default();
        let mut replies = asked(&[(1, 0), (2, 0)]);
        replies.push(Reply::of((3, 0), 9, Err("it is still starting".into())));
        surveys.begin(client(1), Question::Stacks, replies, now).unwrap();
        surveys.on_heard((2, 0), &Err("it makes no sense".into()));
        surveys.on_heard((1, 0), &requests("not asked here"));
        assert_eq!(surveys.next_deadline(), Some(now + PATIENCE));
        let (_, told, missing) = surveys.finish(now + PATIENCE).remove(0);
        let errors: Vec<String> = told.into_iter().map(|told| told.error.unwrap()).collect();
        assert_eq!(errors, ["no answer within 3s", "it makes no sense", "it is still starting"]);
        assert_eq!(missing, [(1, 0)]);
    }

    #[test]
    fn one_answer_serves_everybody_who_asked() {
        let now = Instant::now();
        let mut surveys = Surveys::default();
        for n in [1, 2] {
            surveys.begin(client(n), Question::Requests, asked(&[(1, 0)]), now).unwrap();
        }
        surveys.on_heard((1, 0), &requests("a"));
        assert_eq!(surveys.finish(now).len(), 2);
    }

    #[test]
    fn neither_their_number_nor_their_answers_grow_without_bound() {
        let now = Instant::now();
        let mut surveys = Surveys::default();
        for n in 0..MAX_SURVEYS as u64 {
            surveys.begin(client(n), Question::Stacks, asked(&[(1, 0), (2, 0)]), now).unwrap();
        }
        assert!(surveys.begin(client(99), Question::Stacks, Vec::new(), now).is_err());
        let long = Ok(Said::Answer(Answer::Stacks(vec![StackReport::default()]), MAX_ANSWERS / 2 + 1));
        surveys.on_heard((1, 0), &long);
        surveys.on_heard((2, 0), &long);
        let (_, told, _) = surveys.finish(now).remove(0);
        assert!(told[0].error.is_none() && told[1].error.as_ref().unwrap().starts_with("left out"));
    }
}
