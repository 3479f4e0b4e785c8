//! The accept loop on a listener that the master made. `runtime.rs` starts one per listener and proxy thread. It must never
//! close the listening socket for others: it holds a duplicate, and stops reading from it when the drain begins.
use crate::Occurrence;
use crate::client::{Client, Peer};
use crate::conn::{self, Front};
use crate::drain::DrainWatch;
use crate::forwarded::is_trusted;
use crate::socket::Socket;
use crate::stream::ClientStream;
use appliance_config::settings::Endpoint;
use http::HeaderValue;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

/// Pause after a failed accept, usually for want of descriptors: without it the loop would spin (nginx's
/// `accept_mutex_delay` is 500 ms).
const PAUSE: Duration = Duration::from_millis(100);
/// A warning about the same thing comes at most this often.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A listening socket of this process.
pub(crate) struct Listener {
    socket: Listening,
    /// Its own address, as the worker is told.
    name: HeaderValue,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Takes over a duplicate of a listening, non-blocking descriptor. Must be called within the runtime that will use it.
    pub(crate) fn adopt(fd: &OwnedFd, endpoint: &Endpoint) -> io::Result<Self> {
        let fd = fd.try_clone()?;
        let (socket, peer) = match endpoint {
            Endpoint::Tcp(_) => {
                let tcp = TcpListener::from_std(fd.into())?;
                let address = tcp.local_addr()?;
                (Listening::Tcp(tcp), Peer::Inet(address))
            }
            Endpoint::Unix(_) => (Listening::Unix(UnixListener::from_std(fd.into())?), Peer::Unix),
        };
        Ok(Self { socket, name: peer.address_value() })
    }

    async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match &self.socket {
            Listening::Tcp(tcp) => {
                let (stream, address) = tcp.accept().await?;
                // Answers leave in one write; there is nothing to wait for. Fails only if the client is already gone.
                let _ = stream.set_nodelay(true);
                Ok((Socket::Tcp(stream), Peer::Inet(address)))
            }
            Listening::Unix(unix) => Ok((Socket::Unix(unix.accept().await?.0), Peer::Unix)),
        }
    }
}

/// Accepts until the drain begins. `alive` is dropped by the last task that came from here.
pub(crate) async fn run(
    listener: Listener,
    front: Arc<Front>,
    mut drain: DrainWatch,
    alive: mpsc::Sender<()>,
) {
    let mut crowded = Throttle::default();
    let mut failing = Throttle::default();
    let most = front.shared.settings.limits.connections;
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.begun() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if front.shared.stats.connections.get() >= most as u64 => {
                front.shared.workers.count_in(Occurrence::Refused);
                if crowded.is_due(Instant::now()) {
                    tracing::warn!(
                        limit = most,
                        "new connections are closed at once: limits.connections is reached"
                    );
                }
            }
            Ok((socket, peer)) => {
                front.shared.workers.count_in(Occurrence::Connected);
                let task = connection(socket, peer, &listener.name, &front, &drain);
                let alive = alive.clone();
                tokio::spawn(async move {
                    task.await;
                    drop(alive);
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if failing.is_due(Instant::now()) {
                    tracing::warn!(%error, "cannot accept connections for the moment (is the limit of open files too low?)");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The task of a new connection.
fn connection(
    socket: Socket,
    peer: Peer,
    server: &HeaderValue,
    front: &Arc<Front>,
    drain: &DrainWatch,
) -> impl Future<Output = ()> + Send + use<> {
    let settings = &front.shared.settings;
    let client = Arc::new(Client::new(peer, is_trusted(peer, &settings.proxy.trusted), server.clone()));
    let stream = Box::new(ClientStream::new(socket, client, settings.body_pace(), settings.timeouts.write));
    conn::serve(stream, front.clone(), drain.clone(), front.shared.stats.connections.count())
}

/// Lets one warning through per `WARN_EVERY`.
#[derive(Default)]
struct Throttle {
    last: Option<Instant>,
}

impl Throttle {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_once_a_minute() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        let due = [0, 1, 59, 60, 61, 120].map(|second| throttle.is_due(start + Duration::from_secs(second)));
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
