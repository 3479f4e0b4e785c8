//! What can be asked of another server's cache, and what it answers: the dictionaries of modifier 111 with modifier 2 17, as
//! uWSGI writes them. uWSGI says "no" by closing the connection without an answer, and so does whoever uses this. Counters
//! have commands of our own (`inc`, `dec`, `mul`, `div` with an operand in `num`), because uWSGI's clients send them as an
//! update to the operand; a uWSGI server does not know these commands and refuses them by closing, which harms nothing. What is
//! answered to them is the number, in decimal digits.
use super::packet::{self, Body, CACHE, Malformed, TooLong};

/// Modifier 2 of these dictionaries.
pub const DICTIONARY: u8 = 17;

/// What is to be done with a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Add the operand.
    Add,
    /// Subtract it.
    Subtract,
    /// Multiply by it.
    Multiply,
    /// Divide by it; the quotient of a division by 0 is 0.
    Divide,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the item.
    Get,
    /// Say whether there is one.
    Exists,
    /// Remove it.
    Delete,
    /// Remove all.
    Clear,
    /// Write a new item; its value of so many bytes follows the packet.
    Set(u64),
    /// The same, new or not.
    Update(u64),
    /// Count, with an operand.
    Count(Count, i64),
}

/// The words of the commands; those of [`Action::Set`] and of the counters have a number beside.
const COUNTS: [(&str, Count); 4] =
    [("inc", Count::Add), ("dec", Count::Subtract), ("mul", Count::Multiply), ("div", Count::Divide)];

/// What is asked of a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which cache; empty: whichever the server has first.
    pub cache: Vec<u8>,
    /// Which item; empty for [`Action::Clear`].
    pub key: Vec<u8>,
    /// What is to be done.
    pub action: Action,
    /// Seconds that a written item is to live; 0: for ever.
    pub expires: u64,
}

impl Asked {
    /// The packet that asks; the value of a set or an update is sent after it.
    pub fn packet(&self) -> Result<Vec<u8>, TooLong> {
        let mut body = Body::default().var("cmd", self.command().as_bytes());
        if self.action != Action::Clear {
            body = body.var("key", &self.key);
        }
        body = match self.action {
            Action::Set(size) | Action::Update(size) => body.number("size", size),
            Action::Count(_, operand) => body.number("num", operand),
            _ => body,
        };
        if self.expires > 0 {
            body = body.number("expires", self.expires);
        }
        if !self.cache.is_empty() {
            body = body.var("cache", &self.cache);
        }
        body.packet(CACHE, DICTIONARY)
    }

    fn command(&self) -> &'static str {
        match self.action {
            Action::Get => "get",
            Action::Exists => "exists",
            Action::Delete => "del",
            Action::Clear => "clear",
            Action::Set(_) => "set",
            Action::Update(_) => "update",
            Action::Count(how, _) => {
                COUNTS.iter().find(|(_, count)| *count == how).map_or("", |(word, _)| word)
            }
        }
    }

    /// Reads the body of a packet. `Ok(None)`: it asks for something that nobody here knows, or not completely. Of a variable
    /// that is there twice the last counts.
    pub fn read(body: &[u8]) -> Result<Option<Asked>, Malformed> {
        let vars = packet::vars(body)?;
        let find =
            |name: &str| vars.iter().rev().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| *value);
        Ok((|| {
            let count = |how| Some(Action::Count(how, packet::number(find("num")?)?));
            let size = || find("size").and_then(packet::number);
            let action = match find("cmd")? {
                b"get" => Action::Get,
                b"exists" => Action::Exists,
                b"del" => Action::Delete,
                b"clear" => Action::Clear,
                b"set" => Action::Set(size()?),
                b"update" => Action::Update(size()?),
                word => COUNTS
                    .iter()
                    .find(|(known, _)| known.as_bytes() == word)
                    .and_then(|(_, how)| count(*how))?,
            };
            let key = find("key").unwrap_or_default();
            if key.is_empty() && action != Action::Clear {
                return None;
            }
            let expires = find("expires").map_or(Some(0), packet::number)?;
            Some(Asked {
                cache: find("cache").unwrap_or_default().to_vec(),
                key: key.to_vec(),
                action,
                expires,
            })
        })())
    }

    /// Bytes that follow the packet.
    pub fn follows(&self) -> u64 {
        match self.action {
            Action::Set(size) | Action::Update(size) => size,
            _ => 0,
        }
    }
}

/// What is answered; a "no" has no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// There is no such item or cache, or it could not be written.
    No,
    /// It is done, or there is such an item.
    Yes,
    /// The item's value; to whoever has counted, the number in decimal digits.
    Value(Vec<u8>),
}

impl Answered {
    /// The bytes on the wire, after which the connection is closed.
    pub fn bytes(&self) -> Vec<u8> {
        let head = |body: Body| body.packet(CACHE, DICTIONARY).unwrap_or_default();
        let ok = || Body::default().var("status", b"ok");
        match self {
            Answered::No => Vec::new(),
            Answered::Yes => head(ok()),
            Answered::Value(value) => {
                let mut bytes = head(ok().number("size", value.len()));
                bytes.extend_from_slice(value);
                bytes
            }
        }
    }
}

/// Reads the dictionary of an answer: the size of the value that follows, 0 if none does; `None` for a "no".
pub fn read_answer(body: &[u8]) -> Result<Option<u64>, Malformed> {
    let vars = packet::vars(body)?;
    let find =
        |name: &str| vars.iter().rev().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| *value);
    Ok((find("status") == Some(b"ok")).then(|| find("size").and_then(packet::number).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use packet::HEADER;

    fn asked(action: Action) -> Asked {
        Asked { cache: b"c".to_vec(), key: b"k".to_vec(), action, expires: 0 }
    }

    #[test]
    fn every_action_comes_back_as_it_was() {
        let counts = COUNTS.map(|(_, how)| Action::Count(how, -5));
        let plain = [Action::Get, Action::Exists, Action::Delete, Action::Set(7), Action::Update(0)];
        for action in plain.into_iter().chain(counts) {
            for expires in [0, 60] {
                let asked = Asked { expires, ..asked(action) };
                let packet = asked.packet().unwrap();
                assert_eq!(Asked::read(&packet[HEADER..]), Ok(Some(asked)));
            }
        }
        let clear = Asked { cache: Vec::new(), key: Vec::new(), action: Action::Clear, expires: 0 };
        assert_eq!(Asked::read(&clear.packet().unwrap()[HEADER..]), Ok(Some(clear)));
    }

    #[test]
    fn what_uwsgi_sends_is_understood() {
        // A set of uWSGI says its size twice.
        let body = Body::default().var("cmd", b"set").var("key", b"k").number("size", 2).number("expires", 9);
        let packet = body.number("size", 2).var("cache", b"").packet(CACHE, DICTIONARY).unwrap();
        let expected = Asked { cache: Vec::new(), key: b"k".to_vec(), action: Action::Set(2), expires: 9 };
        assert_eq!(Asked::read(&packet[HEADER..]), Ok(Some(expected)));
    }

    #[test]
    fn what_is_not_complete_is_not_done() {
        let empty = Body::default;
        for body in [
            empty(),
            empty().var("cmd", b"get"),
            empty().var("cmd", b"get").var("key", b""),
            empty().var("cmd", b"drop").var("key", b"k"),
            empty().var("cmd", b"set").var("key", b"k"),
            empty().var("cmd", b"set").var("key", b"k").var("size", b"-1"),
            empty().var("cmd", b"set").var("key", b"k").var("size", b"1").var("expires", b"soon"),
            empty().var("cmd", b"inc").var("key", b"k"),
            empty().var("cmd", b"inc").var("key", b"k").var("num", b"9223372036854775808"),
        ] {
            let packet = body.packet(CACHE, DICTIONARY).unwrap();
            assert_eq!(Asked::read(&packet[HEADER..]), Ok(None));
        }
    }

    #[test]
    fn answers_say_what_follows() {
        assert_eq!(read_answer(&Answered::Yes.bytes()[HEADER..]), Ok(Some(0)));
        let value = Answered::Value(b"abc".to_vec()).bytes();
        let (packet, rest) = value.split_at(value.len() - 3);
        assert_eq!((read_answer(&packet[HEADER..]), rest), (Ok(Some(3)), &b"abc"[..]));
        assert_eq!(Answered::No.bytes(), b"");
        let no = Body::default().var("status", b"notfound").packet(CACHE, DICTIONARY).unwrap();
        assert_eq!(read_answer(&no[HEADER..]), Ok(None));
    }
}
