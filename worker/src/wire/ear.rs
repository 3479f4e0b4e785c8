//! Where a cache hears over UDP of what happens to others (`[cache.NAME] udp`). The master has opened the socket; the first
//! worker alone listens, so that news are followed in the order they came, and its successor finds what came meanwhile.
use super::sync::News;
use crate::cache::Caches;
use crate::reactor::{Reactor, Source};
use appliance_config::remote::Ear as Plan;
use mio::Interest;
use mio::net::UdpSocket;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;

/// Datagrams that are followed in one turn, so that a flood of them does not keep the loop.
const MOST_PER_TURN: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Ear {
    socket: UdpSocket,
    plan: Plan,
}

impl Ear {
    /// Takes over the socket that the master has opened for `plan`.
    pub fn adopt(socket: OwnedFd, plan: Plan) -> io::Result<Ear> {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Ear { socket: UdpSocket::from_std(socket), plan })
    }

    /// Registers the socket.
    pub fn watch(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        reactor.watch_for(&mut self.socket, source, Interest::READABLE)
    }

    /// Stops watching it; the master and other workers have it too.
    pub fn unwatch(&mut self, reactor: &Reactor) -> io::Result<()> {
        reactor.unwatch(&mut self.socket)
    }

    /// Follows what has come; true if there may be more. Strangers and what nobody understands are passed over.
    pub fn listen(&self, scratch: &mut [u8]) -> bool {
        for _ in 0..MOST_PER_TURN {
            match self.socket.recv_from(scratch) {
                Ok((length, peer)) if self.plan.access.admits(peer.ip()) => self.follow(&scratch[..length]),
                Ok((_, peer)) => {
                    tracing::debug!("a datagram of {peer} is passed over, which no allow admits")
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn follow(&self, datagram: &[u8]) {
        let (Some(news), Some(cache)) = (News::read(datagram), Caches::here().named(&self.plan.cache)) else {
            return;
        };
        if let Err(refusal) = cache.follow(news) {
            cache.log(&refusal);
        }
    }
}
