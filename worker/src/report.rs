//! What the master may ask a worker about its requests, what it answers, and what it says unasked: plain values, and their
//! form on the line between the two (a socket that keeps the bounds of packets). Pure. What a worker says comes from a process
//! that runs application code, so whoever reads it must believe nothing and show it to humans only.
use crate::signals::Registry;
use serde::{Deserialize, Serialize};

/// Longest packet on the line in bytes.
pub const MAX_PACKET: usize = 64 * 1024;
/// Longest answer in bytes, in all its packets.
pub const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// First byte of a packet that others follow, and of the last one.
const MORE: u8 = b'+';
const LAST: u8 = b'.';
/// First byte of a packet that nobody asked for.
const UNASKED: u8 = b'!';

/// What the master asks; one packet of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which requests are there?
    Requests,
    /// Where is each greenlet, task and thread?
    Stacks,
}

/// A signal that the master passes on to a worker; one packet of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Call {
    /// Its number.
    pub number: u8,
    /// It comes from a timer or the like, and one that waits is enough.
    pub is_tick: bool,
}

/// What the worker answers; JSON in one or more packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Every request that holds a core or waits for one, the oldest first.
    Requests(Vec<RequestReport>),
    /// Every greenlet, task and thread.
    Stacks(Vec<StackReport>),
}

/// What the worker says unasked; one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// It has finished as many requests as it was made for ([`crate::wear::limit`]).
    Worn,
    /// Its application raises a signal.
    Signal(u8),
    /// All that its application has registered for signals, in place of what it said before.
    Registry(Box<Registry>),
}

/// One request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestReport {
    /// Its id, as in the access log; empty if it has none.
    pub id: String,
    /// Its method.
    pub method: String,
    /// Its target; what is longer than 256 bytes is cut.
    pub target: String,
    /// Address of the client.
    pub client: String,
    /// The core that it holds; none while it waits for one.
    pub core: Option<u32>,
    /// Milliseconds since it arrived.
    pub age_ms: u64,
    /// `queued`, `running` or `suspended`.
    pub state: String,
}

/// One stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackReport {
    /// `greenlet`, `task` or `thread`, and its name where it has one.
    pub what: String,
    /// The request that it serves, as `GET /path (core 3, request 1f2e…)`; empty: none.
    pub request: String,
    /// `running`, or what it waits for, as far as is known.
    pub state: String,
    /// The frames as a traceback shows them, the innermost last.
    pub stack: String,
}

impl Question {
    /// Its packet.
    pub fn encode(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("a question is a word")
    }

    /// The question of a packet; `None` for anything else.
    pub fn decode(packet: &[u8]) -> Option<Question> {
        serde_json::from_slice(packet).ok()
    }
}

impl Call {
    /// Its packet.
    pub fn encode(self) -> Vec<u8> {
        serde_json::to_vec(&self).expect("a signal is two plain values")
    }

    /// The signal of a packet; `None` for anything else.
    pub fn decode(packet: &[u8]) -> Option<Call> {
        serde_json::from_slice(packet).ok()
    }
}

impl Answer {
    /// Its packets.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        let text = serde_json::to_vec(self).expect("an answer has no maps and no foreign types");
        let pieces = text.chunks(MAX_PACKET - 1);
        let last = pieces.len().saturating_sub(1);
        let packet = |(n, piece): (usize, &[u8])| [&[if n == last { LAST } else { MORE }], piece].concat();
        pieces.enumerate().map(packet).collect()
    }
}

impl News {
    /// Its packet.
    pub fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_vec(self).expect("news have no maps and no foreign types");
        [&[UNASKED][..], &text].concat()
    }

    /// What a packet says that is no part of an answer; `None` for one that is.
    pub fn decode(packet: &[u8]) -> Option<Result<News, String>> {
        let (&mark, text) = packet.split_first()?;
        let news =
            || serde_json::from_slice(text).map_err(|error| format!("its news make no sense: {error}"));
        (mark == UNASKED).then(news)
    }
}

/// Puts the packets of one answer together.
#[derive(Debug, Default)]
pub struct Assembly(Vec<u8>);

impl Assembly {
    /// Takes the next packet. `Ok(None)`: more are to come. An error is a sentence; the line is of no use any more.
    pub fn take(&mut self, packet: &[u8]) -> Result<Option<Answer>, String> {
        let Some((&mark, piece)) = packet.split_first() else {
            return Err("the worker has closed its line".to_owned());
        };
        if self.0.len() + piece.len() > MAX_ANSWER {
            return Err(format!("the worker's answer is longer than {MAX_ANSWER} bytes"));
        }
        self.0.extend_from_slice(piece);
        match mark {
            MORE => Ok(None),
            LAST => {
                let text = std::mem::take(&mut self.0);
                let answer = serde_json::from_slice(&text);
                answer.map(Some).map_err(|error| format!("the worker's answer makes no sense: {error}"))
            }
            _ => Err("the worker's answer makes no sense".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_comes_in_packets() {
        let stack = StackReport { stack: "x\n\"é".repeat(50_000), ..StackReport::default() };
        let answer = Answer::Stacks(vec![stack]);
        let packets = answer.encode();
        assert!(packets.len() > 2 && packets.iter().all(|packet| packet.len() <= MAX_PACKET));
        let mut assembly = Assembly::default();
        let taken: Vec<_> = packets.iter().map(|packet| assembly.take(packet).unwrap()).collect();
        assert!(taken[..taken.len() - 1].iter().all(Option::is_none));
        assert_eq!(taken.last(), Some(&Some(answer)));
    }

    #[test]
    fn every_question_comes_back() {
        for question in [Question::Requests, Question::Stacks] {
            assert_eq!(Question::decode(&question.encode()), Some(question));
        }
        assert_eq!(Question::decode(b"?"), None);
        let call = Call { number: 7, is_tick: true };
        assert_eq!((Call::decode(&call.encode()), Question::decode(&call.encode())), (Some(call), None));
    }

    #[test]
    fn news_are_told_from_answers() {
        assert_eq!(News::decode(&News::Worn.encode()), Some(Ok(News::Worn)));
        assert!(matches!(News::decode(b"!{"), Some(Err(_))));
        assert_eq!(News::decode(b".{}"), None);
    }

    #[test]
    fn a_worker_cannot_fill_the_masters_memory() {
        let mut assembly = Assembly::default();
        let packet = [&[MORE][..], &[b' '; MAX_PACKET - 1]].concat();
        let refused = (0..=MAX_ANSWER / (MAX_PACKET - 1)).find_map(|_| assembly.take(&packet).err());
        assert!(refused.is_some_and(|text| text.contains("longer than")));
        for packet in [&b""[..], b"x", b".{"] {
            assert!(Assembly::default().take(packet).is_err());
        }
    }
}
