//! How a request is received before a core takes it: the head, then the body or its beginning. Each step says whether it
//! has come further; `advance` repeats them.
use super::{Arrival, Conn, Context, Phase, Rules, Stream};
use crate::app::Received;
use crate::http::body::Decoder;
use crate::http::{Refusal, encode, head};
use crate::websocket::Deflate;

impl<S: Stream> Conn<S> {
    pub(super) fn parse(&mut self, cx: &Context<'_>) -> Result<bool, Refusal> {
        let input = &self.input[self.used..];
        if input.is_empty() {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.in_head, true) {
            self.deadline = Some(cx.now + cx.rules.header);
            self.account.begun = cx.now;
        }
        let Some(head) = head::parse(input, &cx.rules.head, &mut self.scan)? else { return Ok(false) };
        self.in_head = false;
        self.account.begun = cx.now;
        self.consume(head.len());
        self.decoder = Decoder::new(head.framing(), cx.rules.head.body);
        if head.expect_continue() && !self.decoder.is_done() && self.unused() == 0 {
            self.output.extend_from_slice(encode::CONTINUE);
            self.flush();
        }
        self.arrival = Arrival::default();
        self.deadline = (!self.decoder.is_done()).then(|| self.arrival.wait(&cx.rules.body, cx.now));
        self.phase = Phase::Body(Box::new(Received { head, body: Vec::new(), complete: false }));
        Ok(true)
    }

    pub(super) fn buffer_body(&mut self, cx: &Context<'_>) -> Result<bool, Refusal> {
        let Phase::Body(received) = &mut self.phase else { return Ok(false) };
        let body = &mut received.body;
        let room = cx.rules.body_buffer.saturating_sub(body.len());
        if self.decoder.is_done() || room == 0 {
            return Ok(false);
        }
        let progress = self.decoder.decode(&self.input[self.used..], body, room)?;
        self.consume(progress.consumed);
        if progress.consumed > 0 {
            self.arrival.receive(progress.consumed);
            self.deadline = Some(self.arrival.wait(&cx.rules.body, cx.now));
        }
        Ok(progress.consumed > 0)
    }

    pub(super) fn take_ready(&mut self, cx: &Context<'_>) -> Option<Box<Received>> {
        let Phase::Body(received) = &mut self.phase else { return None };
        received.complete = self.decoder.is_done();
        if !received.complete && received.body.len() < cx.rules.body_buffer {
            return None;
        }
        let Phase::Body(received) = std::mem::replace(&mut self.phase, Phase::Busy) else { return None };
        self.deadline = None;
        self.arrival.pause(cx.now);
        let may_compress = received.head.upgrade() && cx.rules.websocket.compression;
        self.offered = may_compress.then(|| Deflate::offered(&received.head)).flatten();
        Some(received)
    }

    /// Reads and forgets what is left of a body that has arrived anyway; false if the rest is still to come.
    pub(super) fn skip_body(&mut self, rules: &Rules) -> bool {
        let mut discarded = Vec::new();
        while !self.decoder.is_done() {
            match self.decoder.decode(&self.input[self.used..], &mut discarded, rules.body_buffer) {
                Ok(progress) if progress.consumed > 0 => self.consume(progress.consumed),
                _ => return false,
            }
            discarded.clear();
        }
        !self.ended || self.unused() > 0
    }
}
