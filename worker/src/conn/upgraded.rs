//! A connection that has become a WebSocket: bytes between the stream and the [`Socket`], and what its core must hear. It goes
//! on without its core, which may have other things to do: pings are answered and the end is noticed at once. Only reading
//! stops, while the application does not ask for what has come, or the peer does not take what is sent.
use super::{Conn, Context, Phase, Step, Stream};
use crate::http::encode;
use crate::websocket::{Closed, Incoming, Message, Posted, Socket, code};
use std::time::Instant;

/// Reads in one turn, so that a peer that never stops sending does not keep the loop.
const READS_PER_TURN: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Upgraded {
    pub socket: Socket,
    /// Our side of the stream has been shut down.
    is_shut: bool,
}

impl<S: Stream> Conn<S> {
    /// Makes the connection a WebSocket, behind the head that says so; the extension is agreed here. False if the client has
    /// left, or there is no request.
    pub fn open_socket(&mut self, head: &[u8], cx: &mut Context<'_>) -> bool {
        if self.gone || !matches!(self.phase, Phase::Busy) {
            return false;
        }
        let deflate = self.offered.take();
        let socket = Socket::new(cx.rules.websocket, deflate, cx.now);
        self.phase = Phase::Socket(Box::new(Upgraded { socket, is_shut: false }));
        (self.wants_body, self.wants_room) = (false, false);
        self.output.extend_from_slice(head.strip_suffix(b"\r\n").unwrap_or(head));
        if let Some(deflate) = deflate {
            encode::header(&mut self.output, b"Sec-WebSocket-Extensions", deflate.field().as_bytes());
        }
        encode::end_of_head(&mut self.output);
        self.leave(cx);
        true
    }

    /// The next message for the core that serves this connection.
    pub fn receive_message(&mut self, cx: &mut Context<'_>) -> Incoming {
        let Phase::Socket(upgraded) = &mut self.phase else { return Incoming::Closed(Closed::gone()) };
        let mut incoming = upgraded.socket.receive();
        if incoming == Incoming::Wait {
            self.read_socket(cx);
            incoming = match &mut self.phase {
                Phase::Socket(upgraded) => upgraded.socket.receive(),
                _ => incoming,
            };
        }
        self.go_on(cx);
        if !matches!(incoming, Incoming::Message(_)) {
            self.leave(cx);
        }
        self.wants_body = incoming == Incoming::Wait;
        incoming
    }

    /// Sends a message, unless more than `write_buffer` bytes wait to leave already.
    pub fn send_message(&mut self, message: &Message, cx: &mut Context<'_>) -> Posted {
        let room = self.unsent() <= cx.rules.write_buffer;
        let Phase::Socket(upgraded) = &mut self.phase else { return Posted::Closed(Closed::gone()) };
        if upgraded.socket.is_open() && !room {
            self.wants_room = true;
            return Posted::Full;
        }
        let sent = upgraded.socket.send(message.clone());
        self.leave(cx);
        sent.map_or_else(Posted::Closed, |()| Posted::Taken)
    }

    /// Sends a ping; it is lost if too much waits to leave already.
    pub fn ping(&mut self, payload: &[u8], cx: &mut Context<'_>) {
        let room = self.unsent() <= cx.rules.write_buffer;
        if let Phase::Socket(upgraded) = &mut self.phase
            && room
        {
            // One that has been closed needs no ping.
            let _ = upgraded.socket.ping(payload);
            self.leave(cx);
        }
    }

    /// Closes the WebSocket; whoever waits for its messages hears of that.
    pub fn close_socket(&mut self, code: u16, reason: &str, cx: &mut Context<'_>) -> Step {
        let Phase::Socket(upgraded) = &mut self.phase else { return Step::Wait };
        upgraded.socket.close(code, reason, cx.now);
        self.socket_step(cx)
    }

    /// Whether it has become a WebSocket.
    pub fn is_socket(&self) -> bool {
        matches!(self.phase, Phase::Socket(_))
    }

    /// Whether messages are there that the core has not asked for.
    pub fn has_message(&self) -> bool {
        matches!(&self.phase, Phase::Socket(upgraded) if upgraded.socket.has_news())
    }

    /// Whether it is to be told to [`advance`](Conn::advance), although no event will say so.
    pub fn needs_turn(&self, write_buffer: usize) -> bool {
        matches!(&self.phase, Phase::Socket(upgraded)
            if upgraded.socket.is_over() && !upgraded.is_shut && (self.gone || self.unsent() == 0)
                || self.unread && !self.ended && self.may_read(&upgraded.socket, write_buffer))
    }

    pub(super) fn socket_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Socket(upgraded) => upgraded.socket.deadline(),
            _ => None,
        }
    }

    pub(super) fn on_socket_deadline(&mut self, cx: &mut Context<'_>) -> Step {
        if let Phase::Socket(upgraded) = &mut self.phase {
            upgraded.socket.on_deadline(cx.now);
        }
        self.socket_step(cx)
    }

    /// The core has ended: what is open is closed, and the connection goes as soon as the peer has said so too.
    pub(super) fn leave_socket(&mut self, cx: &mut Context<'_>) -> Step {
        if let Phase::Socket(upgraded) = &mut self.phase {
            upgraded.socket.abandon(code::NORMAL, cx.now);
        }
        self.socket_step(cx)
    }

    fn may_read(&self, socket: &Socket, write_buffer: usize) -> bool {
        !socket.is_over() && socket.wants_input() && self.unsent() <= write_buffer
    }

    /// Goes on with what has come and was put off, if there is any.
    fn go_on(&mut self, cx: &mut Context<'_>) {
        if let Phase::Socket(upgraded) = &mut self.phase
            && upgraded.socket.go_on(cx.now)
        {
            self.leave(cx);
        }
    }

    /// Reads what the peer has sent, as far as it is wanted now.
    fn read_socket(&mut self, cx: &mut Context<'_>) {
        self.go_on(cx);
        for _ in 0..READS_PER_TURN {
            let Phase::Socket(upgraded) = &self.phase else { return };
            if !self.may_read(&upgraded.socket, cx.rules.write_buffer) {
                return;
            }
            let progress = self.read(cx.scratch, usize::MAX);
            let (is_ended, Phase::Socket(upgraded)) = (self.ended || self.gone, &mut self.phase) else {
                return;
            };
            upgraded.socket.feed(&self.input[self.used..], cx.now);
            self.input.clear();
            self.used = 0;
            if is_ended {
                upgraded.socket.feed_end(cx.now);
            }
            self.leave(cx);
            if !progress {
                break;
            }
        }
        self.trim();
    }

    /// Sends what is to be sent, as far as the kernel takes it.
    fn leave(&mut self, cx: &Context<'_>) {
        if let Phase::Socket(upgraded) = &mut self.phase {
            upgraded.socket.drain_output(&mut self.output);
        }
        let before = self.unsent();
        self.flush();
        match self.unsent() {
            0 => self.deadline = None,
            left if left < before => self.deadline = Some(cx.now + cx.rules.write),
            _ => {
                self.deadline.get_or_insert(cx.now + cx.rules.write);
            }
        }
    }

    /// Something has happened: reads and sends what can be, and says what the core must hear of it.
    pub(super) fn socket_step(&mut self, cx: &mut Context<'_>) -> Step {
        self.leave(cx);
        self.read_socket(cx);
        let Phase::Socket(upgraded) = &mut self.phase else { return Step::Wait };
        if self.gone {
            upgraded.socket.feed_end(cx.now);
        }
        let (is_over, has_news) = (upgraded.socket.is_over(), upgraded.socket.has_news());
        if is_over && upgraded.socket.is_abandoned() {
            return self.close(cx);
        }
        if is_over && !upgraded.is_shut && (self.gone || self.unsent() == 0) {
            self.shut_socket();
        }
        let may_read = self.wants_body && has_news;
        let may_write = self.wants_room && (is_over || self.unsent() <= cx.rules.write_buffer / 2);
        self.wants_body &= !may_read;
        self.wants_room &= !may_write;
        if may_read || may_write {
            Step::Wake
        } else if self.needs_turn(cx.rules.write_buffer) {
            Step::More
        } else {
            Step::Wait
        }
    }

    /// The peer is to see the end, also while the core is still busy with its last messages.
    fn shut_socket(&mut self) {
        if let Phase::Socket(upgraded) = &mut self.phase {
            upgraded.is_shut = true;
        }
        self.gone |= self.stream.shutdown().is_err();
    }
}

#[cfg(test)]
mod tests;
