//! A listener for uWSGI's protocol, which the master has opened and all workers accept from, and what a peer may ask for there.
//! Whoever may ask for nothing is turned away before a byte is read.
use super::conn::Rights;
use super::ear::Ear;
use crate::listen::Socket;
use crate::reactor::{self, Reactor, Source};
use appliance_config::Settings;
use appliance_config::remote::{self, Access, Door as Plan};
use appliance_config::settings::Endpoint;
use mio::Interest;
use mio::net::{TcpListener, UnixListener};
use std::io;
use std::net::IpAddr;
use std::os::fd::{OwnedFd, RawFd};

/// See the module.
#[derive(Debug)]
pub struct Door {
    listener: Listener,
    plan: Plan,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Somebody who knocks.
#[derive(Debug)]
pub enum Knock {
    /// May ask.
    Welcome(Socket, Rights),
    /// May not, and is gone already.
    Stranger(IpAddr),
}

/// Takes over the sockets that the master has opened for these settings: first those of doors, then those of ears.
pub fn adopt(sockets: &[RawFd], settings: &Settings) -> io::Result<(Vec<Door>, Vec<Ear>)> {
    // Every one of them is ours from here, used or not.
    let sockets: Vec<OwnedFd> = sockets.iter().map(|fd| reactor::adopt(*fd)).collect::<io::Result<_>>()?;
    let mut sockets = sockets.into_iter();
    let doors = remote::doors(settings).into_iter().zip(sockets.by_ref());
    let doors = doors.map(|(plan, socket)| Door::adopt(socket, plan)).collect::<io::Result<_>>()?;
    let ears = remote::ears(settings).into_iter().zip(sockets);
    let ears = ears.map(|(plan, socket)| Ear::adopt(socket, plan)).collect::<io::Result<_>>()?;
    Ok((doors, ears))
}

impl Door {
    /// Takes over the socket that the master has opened for `plan`.
    pub fn adopt(socket: OwnedFd, plan: Plan) -> io::Result<Door> {
        let listener = match plan.address {
            Endpoint::Tcp(_) => {
                let socket = std::net::TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(socket))
            }
            Endpoint::Unix(_) => {
                let socket = std::os::unix::net::UnixListener::from(socket);
                socket.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(socket))
            }
        };
        Ok(Door { listener, plan })
    }

    /// Registers the listener.
    pub fn watch(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        match &mut self.listener {
            Listener::Tcp(socket) => reactor.watch_for(socket, source, Interest::READABLE),
            Listener::Unix(socket) => reactor.watch_for(socket, source, Interest::READABLE),
        }
    }

    /// Stops watching it; other workers and the master have it too.
    pub fn unwatch(&mut self, reactor: &Reactor) -> io::Result<()> {
        match &mut self.listener {
            Listener::Tcp(socket) => reactor.unwatch(socket),
            Listener::Unix(socket) => reactor.unwatch(socket),
        }
    }

    /// The next who waits; `WouldBlock` when there is nobody.
    pub fn accept(&self) -> io::Result<Knock> {
        match &self.listener {
            // Whoever reaches the file has the permissions for all that is behind it.
            Listener::Unix(socket) => {
                let (stream, _) = socket.accept()?;
                Ok(Knock::Welcome(Socket::Unix(stream), rights(&self.plan, None)))
            }
            Listener::Tcp(socket) => {
                let (stream, peer) = socket.accept()?;
                let rights = rights(&self.plan, Some(peer.ip()));
                if rights.are_none() {
                    return Ok(Knock::Stranger(peer.ip()));
                }
                stream.set_nodelay(true)?;
                Ok(Knock::Welcome(Socket::Tcp(stream), rights))
            }
        }
    }
}

/// What a peer with this address may ask for behind a door; without an address it came over a unix socket.
fn rights(plan: &Plan, peer: Option<IpAddr>) -> Rights {
    let may = |access: &Access| peer.is_none_or(|ip| access.admits(ip));
    Rights {
        rpc: plan.rpc.as_ref().is_some_and(may),
        caches: plan.caches.iter().filter(|(_, access)| may(access)).map(|(name, _)| name.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance_config::settings::Network;

    #[test]
    fn a_peer_may_ask_for_what_admits_its_address() {
        let network = Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 };
        let plan = Plan {
            address: Endpoint::Tcp("0.0.0.0:3031".parse().unwrap()),
            key: "rpc.listen".into(),
            rpc: Some(Access { allow: Vec::new() }),
            caches: vec![
                ("near".into(), Access { allow: vec![] }),
                ("far".into(), Access { allow: vec![network] }),
            ],
        };
        let of = |text: &str| rights(&plan, Some(text.parse().unwrap()));
        assert_eq!(of("10.1.2.3"), Rights { rpc: false, caches: vec!["far".into()] });
        assert!(of("11.1.2.3").are_none());
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(local), Rights { rpc: true, caches: vec!["near".into(), "far".into()] });
        }
        assert!(rights(&plan, None).rpc);
    }
}
