//! Whole conversations, cut everywhere: however the bytes of a client arrive, and however little of an answer it takes at
//! once, the application sees the same requests and the client gets the same answers.
use super::*;
use crate::http::corpus::{Dice, messages};
use crate::http::encode::CONTINUE;

/// Cases up to this size are cut at every place, and those up to the smaller one at every pair of places.
const LARGEST: usize = 1000;
const SMALLEST: usize = 75;

/// What an application saw of a request.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    line: String,
    body: Vec<u8>,
    /// Why there was no more of the body.
    cut: Option<&'static str>,
}

/// What came of a conversation.
#[derive(Debug, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    sent: Vec<u8>,
}

/// A connection with an application that reads every body to its end, and then says what it was.
struct Conversation {
    bench: Bench,
    /// Bytes that the client takes at once.
    takes: usize,
    seen: Vec<Seen>,
    running: Option<Running>,
    is_over: bool,
}

struct Running {
    keep_alive: bool,
    seen: Seen,
    is_read: bool,
    /// What is left of the answer.
    answer: Vec<u8>,
}

impl Conversation {
    fn new(body_buffer: usize, takes: usize) -> Conversation {
        let mut bench = Bench::new();
        bench.rules.body_buffer = body_buffer;
        bench.rules.write_buffer = 50;
        bench.conn.stream().room = takes;
        Conversation { bench, takes, seen: Vec::new(), running: None, is_over: false }
    }

    fn follow(&mut self, step: Step) {
        match step {
            Step::Wait => {}
            Step::Run(received) => {
                assert!(self.running.is_none(), "two requests at once");
                let Received { head, body, complete } = *received;
                let line = format!("{} {}", head.method(), head.target().escape_ascii());
                let keep_alive = head.keep_alive();
                let seen = Seen { line, body, cut: None };
                self.running = Some(Running { keep_alive, seen, is_read: complete, answer: Vec::new() });
                self.run();
            }
            Step::Wake | Step::Left => self.run(),
            Step::More => {
                let step = self.bench.tell(|conn, cx| conn.advance(cx));
                self.follow(step);
            }
            Step::Drop => self.is_over = true,
            Step::Link | Step::Wire => panic!("a stranger speaks another protocol"),
        }
    }

    /// The application goes on until it must wait.
    fn run(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        while !running.is_read {
            match self.bench.tell(|conn, cx| conn.read_body(&mut running.seen.body, 10, cx)) {
                BodyRead::Data => continue,
                BodyRead::Wait => return self.running = Some(running),
                BodyRead::End => {}
                BodyRead::Cut(why) => (running.seen.cut, running.keep_alive) = (Some(why), false),
            }
            running.is_read = true;
        }
        if running.answer.is_empty() {
            running.answer = format!("{:?}\n", running.seen).into_bytes();
            self.seen.push(running.seen.clone());
        }
        match self.bench.tell(|conn, cx| conn.send(&running.answer, cx)) {
            Sent::Part(count) => {
                running.answer.drain(..count);
                self.running = Some(running);
            }
            sent => {
                assert_eq!(sent, Sent::All);
                let step = self.bench.finish(running.keep_alive);
                self.follow(step);
            }
        }
    }

    /// The client takes what there is, a little at a time.
    fn take(&mut self) {
        while !self.is_over && self.bench.conn.unsent() > 0 {
            self.bench.conn.stream().room = self.takes;
            let step = self.bench.tell(|conn, cx| conn.on_writable(cx));
            self.follow(step);
        }
        self.bench.conn.stream().room = self.takes;
    }

    /// Receives the pieces, and then the end.
    fn hold<'a>(mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            if self.is_over {
                break;
            }
            let step = self.bench.receive(piece);
            self.follow(step);
            self.take();
        }
        if !self.is_over {
            let step = self.bench.end();
            self.follow(step);
            self.take();
        }
        assert!(self.is_over && self.running.is_none(), "the connection has not come to its end");
        let sent = std::mem::take(&mut self.bench.conn.stream().received);
        Outcome { seen: self.seen, sent: without_continue(&sent) }
    }
}

/// Whether a client is asked for a body depends on whether it has come already.
fn without_continue(mut sent: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    while let Some(at) = memchr::memmem::find(sent, CONTINUE) {
        rest.extend_from_slice(&sent[..at]);
        sent = &sent[at + CONTINUE.len()..];
    }
    rest.extend_from_slice(sent);
    rest
}

/// Every body is complete, or refused, before an application sees the request.
const ALL: usize = 20_000;

fn outcome<'a>(takes: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    Conversation::new(ALL, takes).hold(pieces)
}

fn cases() -> Vec<Vec<u8>> {
    let mut cases = [messages("valid"), messages("invalid"), messages("cut")].concat();
    cases.retain(|sent| sent.len() <= LARGEST);
    assert!(cases.len() > 200);
    cases
}

#[test]
fn a_conversation_is_the_same_cut_at_every_place() {
    for sent in cases() {
        let whole = outcome(usize::MAX, [&sent[..]]);
        assert_eq!(outcome(1, sent.chunks(1)), whole, "byte by byte: {}", sent.escape_ascii());
        for at in 1..sent.len() {
            let (first, second) = sent.split_at(at);
            assert_eq!(
                outcome(at % 9 + 1, [first, second]),
                whole,
                "{} | {}",
                first.escape_ascii(),
                second.escape_ascii()
            );
        }
    }
}

#[test]
fn a_short_conversation_is_the_same_cut_at_every_two_places() {
    for sent in cases().into_iter().filter(|sent| sent.len() <= SMALLEST) {
        let whole = outcome(usize::MAX, [&sent[..]]);
        for (first, second) in
            (1..sent.len()).flat_map(|first| (first..sent.len()).map(move |second| (first, second)))
        {
            let pieces = [&sent[..first], &sent[first..second], &sent[second..]];
            assert_eq!(
                outcome(second % 30 + 1, pieces),
                whole,
                "{} at {first} and {second}",
                sent.escape_ascii()
            );
        }
    }
}

#[test]
fn damaged_and_pipelined_conversations_are_the_same_however_they_are_cut() {
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let cases = cases();
    for _ in 0..5_000 {
        let mut sent: Vec<u8> =
            (0..dice.below(1..4)).flat_map(|_| cases[dice.below(0..cases.len())].clone()).collect();
        if dice.below(0..2) == 0 {
            dice.damage(&mut sent);
        }
        let whole = outcome(usize::MAX, [&sent[..]]);
        let mut rest = &sent[..];
        let pieces: Vec<&[u8]> = std::iter::from_fn(|| {
            let (piece, after) = rest.split_at(rest.len().min(dice.below(1..80)));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
        .collect();
        assert_eq!(outcome(dice.below(1..200), pieces), whole, "{}", sent.escape_ascii());
    }
}

/// What was seen of a request whose body is there before the application begins cannot differ when it reads on by itself;
/// only where a broken body is noticed may: before the application begins, or while it reads.
#[test]
fn an_application_that_reads_on_sees_what_one_sees_that_gets_all_at_once() {
    for sent in cases() {
        let whole = outcome(usize::MAX, [&sent[..]]);
        for (body_buffer, size) in [(1, 1), (1, 1000), (5, 3), (16, 64)] {
            let read_on = Conversation::new(body_buffer, 7).hold(sent.chunks(size));
            let (complete, broken): (Vec<_>, Vec<_>) =
                read_on.seen.into_iter().partition(|seen| seen.cut.is_none());
            assert_eq!(complete, whole.seen, "{}", sent.escape_ascii());
            assert!(broken.len() <= 1, "{broken:?} of {}", sent.escape_ascii());
        }
    }
}
