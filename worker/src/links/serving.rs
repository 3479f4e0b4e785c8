//! What may be done with one stream of a link: the engine lets a core begin with it or refuses it, and the core reads the
//! request's body and sends the answer. Everything of a core names the core too, because the stream's number may have been
//! given to another request since.
use super::exchange::{Exchange, Stage};
use super::{Link, News};
use crate::conn::{BodyRead, Outcome, Sent};
use crate::cores::CoreId;
use crate::http::encode;
use appliance_link::frame::{self, END, Kind};
use appliance_link::head::{self, ResponseFacts};
use appliance_link::private::{self, Cause};
use appliance_link::{Reason, StreamId};
use std::io::{Read, Write};

impl<S: Read + Write> Link<S> {
    /// Says that an application is about to see this request; it may when the place that is returned
    /// [has left](Link::has_left).
    pub fn put_entered(&mut self, id: StreamId) -> u64 {
        frame::put(self.outbox.front(), Kind::Entered, id, 0, &[]);
        self.front_end()
    }

    /// A core begins with a request; whether its client is still there.
    pub fn enter(&mut self, id: StreamId, core: CoreId) -> bool {
        let exchange = self.streams.get_mut(&id);
        exchange.map(|exchange| exchange.stage = Stage::Serving(core)).is_some()
    }

    /// Gives a request back that no core has begun with; the proxy may send it elsewhere.
    pub fn refuse(&mut self, id: StreamId) {
        self.reset(id, Reason::Refused);
    }

    /// Answers a request in the place of an application, with a status and why. No core has begun with it, or the one that has
    /// is not listened to any more. `date` is a ready `Date` value.
    pub fn reject(
        &mut self,
        id: StreamId,
        (status, cause): (u16, Cause),
        sentence: &str,
        date: &[u8],
        head_only: bool,
    ) {
        let front = self.outbox.front();
        // The line feed after the sentence counts.
        let length = Some(sentence.len() as u64 + 1);
        let reason = encode::reason(status).as_bytes();
        let at = frame::begin(front, Kind::Response, id, if head_only { END } else { 0 });
        head::put_response(front, &ResponseFacts { status, length, reason, ..Default::default() });
        encode::simple_headers(status, date).for_each(|(name, value)| head::put_field(front, name, value));
        head::put_field(front, private::CAUSE.as_bytes(), cause.word().as_bytes());
        frame::finish(front, at);
        if let Some(exchange) = self.streams.get_mut(&id) {
            exchange.stream.send_head(head_only);
        }
        if !head_only {
            self.put_data(id, END, &[sentence.as_bytes(), b"\n"].concat());
        }
        self.conclude(id);
    }

    /// The exchange that this core serves on this stream, unless it is over.
    pub(super) fn served(&mut self, id: StreamId, core: CoreId) -> Option<&mut Exchange> {
        self.streams.get_mut(&id).filter(|exchange| exchange.is_served_by(core))
    }

    /// Whether the client can still receive something.
    pub fn is_connected(&self, id: StreamId, core: CoreId) -> bool {
        self.streams.get(&id).is_some_and(|exchange| exchange.is_served_by(core))
    }

    /// Whether all of the request's body has arrived, read or not.
    pub fn is_body_complete(&self, id: StreamId, core: CoreId) -> bool {
        let exchange = self.streams.get(&id).filter(|exchange| exchange.is_served_by(core));
        exchange.is_none_or(|exchange| exchange.stream.has_received_all())
    }

    /// Reads the request's body into `into`, at most `max` bytes.
    pub fn read_body(&mut self, id: StreamId, core: CoreId, into: &mut Vec<u8>, max: usize) -> BodyRead {
        let Some(exchange) = self.served(id, core) else { return BodyRead::GONE };
        let count = exchange.body.len().min(max);
        into.extend_from_slice(&exchange.body[..count]);
        exchange.body.drain(..count);
        let read = match count {
            0 if exchange.stream.has_received_all() => BodyRead::End,
            0 => {
                exchange.wants_body = true;
                BodyRead::Wait
            }
            _ => BodyRead::Data,
        };
        let used = count + std::mem::take(&mut exchange.ahead);
        if let Some(credit) = exchange.stream.consume(used) {
            frame::put_window(self.outbox.front(), id, credit);
        }
        read
    }

    /// Sends the head of the answer, the payload of a `Response` frame; `end`: no body follows.
    pub fn send_head(&mut self, id: StreamId, core: CoreId, payload: &[u8], end: bool) {
        let Some(exchange) = self.served(id, core) else { return };
        exchange.stream.send_head(end);
        let is_over = exchange.stream.is_over();
        frame::put(self.outbox.front(), Kind::Response, id, if end { END } else { 0 }, payload);
        if is_over {
            self.streams.remove(&id);
        }
    }

    /// Sends the head of an interim answer, the payload of a `Response` frame, without waiting for the end of the turn: the
    /// application may not give the loop back soon. After the head of the answer it is dropped.
    pub fn send_interim(&mut self, id: StreamId, core: CoreId, payload: &[u8]) {
        if self.served(id, core).is_some_and(|exchange| !exchange.stream.has_sent_head()) {
            frame::put(self.outbox.front(), Kind::Response, id, 0, payload);
            self.flush();
        }
    }

    /// Sends a piece of the answer's body; `last`: there is no more.
    pub fn send(&mut self, id: StreamId, core: CoreId, data: &[u8], last: bool) -> Sent {
        let mut taken = 0;
        while taken < data.len() {
            let rest = &data[taken..];
            let Some(room) = self.make_room(id, core) else { return Sent::Gone };
            if room == 0 {
                return Sent::Part(taken);
            }
            let count = self.put_piece(id, rest, room, last);
            taken += count;
        }
        Sent::All
    }

    /// Bytes that this stream may send now. If there are none, its core is woken when there are; `None`: it is gone.
    fn make_room(&mut self, id: StreamId, core: CoreId) -> Option<usize> {
        let (most, mut left) = (self.bounds.write_buffer, self.front_left);
        if self.served(id, core)?.in_front(left) >= most && !self.is_blocked {
            self.flush();
            left = self.front_left;
        }
        let exchange = self.served(id, core)?;
        let room = exchange.room(left, most);
        let has_waited = std::mem::replace(&mut exchange.wants_room, room == 0);
        if exchange.in_front(left) >= most && !has_waited {
            self.crowded.push(id);
        }
        Some(room)
    }

    /// The core that waits for room on this stream may go on, if there is some now.
    pub(super) fn wake_if_room(&mut self, id: StreamId) {
        let Some(exchange) = self.streams.get_mut(&id) else { return };
        if let Stage::Serving(core) = exchange.stage
            && exchange.wants_room
            && exchange.room(self.front_left, self.bounds.write_buffer) > 0
        {
            exchange.wants_room = false;
            self.news.push_back(News::Wake(core));
        }
    }

    /// The answer is as complete as it will ever be.
    pub fn finish(&mut self, id: StreamId, core: CoreId, outcome: Outcome) {
        let Some(exchange) = self.served(id, core) else { return };
        let (is_begun, is_sent) = (exchange.stream.has_sent_head(), exchange.stream.has_sent_all());
        if !is_begun || (outcome == Outcome::Cut && !is_sent) {
            return self.reset(id, Reason::Cut);
        }
        if !is_sent {
            self.put_data(id, END, &[]);
        }
        self.conclude(id);
    }

    /// The application has failed, and why: the client must see that the answer will never be complete, unless it is already.
    pub fn abort(&mut self, id: StreamId, core: CoreId, cause: Cause) {
        match self.served(id, core).map(|exchange| exchange.stream.has_sent_all()) {
            Some(true) => self.conclude(id),
            Some(false) => self.reset(id, cause.reason()),
            None => {}
        }
    }

    /// The answer is complete. If the request is not, the proxy is told to send no more of it, but only behind the answer.
    fn conclude(&mut self, id: StreamId) {
        let Some(exchange) = self.streams.get_mut(&id) else { return };
        exchange.stage = Stage::Answered;
        if exchange.in_bulk > 0 {
            let unread = exchange.ahead + std::mem::take(&mut exchange.body).len();
            if let Some(credit) = exchange.stream.consume(unread) {
                frame::put_window(self.outbox.front(), id, credit);
            }
        } else {
            self.forget_answered(id);
        }
    }

    /// The answer has left, or nothing can overtake it any more.
    pub(super) fn forget_answered(&mut self, id: StreamId) {
        if let Some(exchange) = self.streams.remove(&id)
            && !exchange.stream.is_over()
        {
            frame::put_reset(self.outbox.front(), id, Reason::Gone);
        }
    }

    fn reset(&mut self, id: StreamId, reason: Reason) {
        if self.streams.remove(&id).is_some() {
            self.outbox.forget(id);
            frame::put_reset(self.outbox.front(), id, reason);
        }
    }
}
