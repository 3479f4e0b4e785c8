//! A request for a WebSocket, on a connection of its own to its worker: if the worker takes it, the connection becomes a tunnel,
//! which outlives the request; any other answer is passed on as the answer to any request is.
use super::{Relay, Trouble, gone};
use crate::error::Failure;
use crate::hop::{self, Hop};
use crate::retry::Mishap;
use crate::tunnel::Opened;
use bytes::Bytes;
use http::StatusCode;
use pingora::http::ResponseHeader;

impl Relay<'_> {
    /// One try at the worker at which the request has its seat.
    pub(super) async fn attempt_upgrade(&mut self) -> Result<(), Trouble> {
        let shared = &self.gateway.shared;
        let socket = shared.workers.socket(self.exchange.worker);
        let hop = Hop::open(socket, shared.settings.timeouts.connect, self.head()?);
        let mut hop = self.watched(hop).await?;
        loop {
            let mut answer = self.watched(hop.next_head()).await?;
            self.exchange.app = hop::take_facts(&mut answer, &mut self.exchange.told).or(self.exchange.app);
            if answer.status == StatusCode::SWITCHING_PROTOCOLS {
                return self.open_tunnel(hop, &mut answer);
            }
            if !answer.status.is_informational() {
                return self.pass_on(hop, answer).await;
            }
            self.session.as_mut().write_response_header(answer).await?;
        }
    }

    fn head(&self) -> pingora::Result<pingora::http::RequestHeader> {
        let exchange = &self.exchange;
        hop::head(self.session.req_header(), exchange.origin(), &exchange.client, &exchange.id)
    }

    /// What comes from the worker, unless the client leaves first.
    async fn watched<T>(&self, coming: impl Future<Output = Result<T, Mishap>>) -> Result<T, Trouble> {
        tokio::select! {
            biased;
            come = coming => come.map_err(Trouble::Worker),
            () = gone(self.session) => Err(Trouble::Request(Failure::ClientGone)),
        }
    }

    /// Makes a tunnel of the two connections. The client gets the head from it, as soon as pingora has let go of the stream.
    fn open_tunnel(&mut self, hop: Hop, answer: &mut ResponseHeader) -> Result<(), Trouble> {
        let (worker, first) = hop.into_raw().map_err(Trouble::Worker)?;
        self.begin_final(answer)?;
        // pingora gives back only what is kept alive.
        self.session.as_mut().set_keepalive(Some(0));
        self.exchange.opened = Some(Opened::new(answer, &first, worker));
        Ok(())
    }

    async fn pass_on(&mut self, mut hop: Hop, mut answer: Box<ResponseHeader>) -> Result<(), Trouble> {
        if !hop::has_end(&self.session.req_header().method, &answer) {
            return Err(Trouble::Worker(Mishap::Garbled));
        }
        self.begin_final(&mut answer)?;
        self.session.as_mut().write_response_header(answer).await?;
        while let Some(piece) = self.watched(hop.next_piece()).await? {
            self.session.as_mut().write_response_body(piece, false).await?;
        }
        Ok(self.session.as_mut().write_response_body(Bytes::new(), true).await?)
    }
}
