//! What a cache tells others of, and what it does when others tell it: each change leaves as one datagram to every node
//! (`[cache.NAME] nodes`), and nobody waits for it or hears whether it has arrived. What comes from others is not told on, so
//! two caches may follow each other.
use super::layout::NEVER;
use super::{Cache, Mode, Refusal};
use crate::wire::sync::News;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The nodes of one cache. A socket for each, and none of them connected: a node that is away for a while must not turn what
/// is sent to it later into an error.
#[derive(Debug)]
pub struct Mirror {
    nodes: Vec<(UdpSocket, SocketAddr)>,
}

impl Mirror {
    /// Sockets for these nodes.
    pub fn open(nodes: &[SocketAddr]) -> io::Result<Mirror> {
        let open = |node: &SocketAddr| {
            let socket = match node {
                SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
                SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
            }?;
            socket.set_nonblocking(true)?;
            Ok((socket, *node))
        };
        Ok(Mirror { nodes: nodes.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// Whether anybody is told.
    pub fn has_nodes(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// An item was written; `expires` and `now` are of the stores' clock.
    pub fn say_written(&self, key: &[u8], value: &[u8], expires: u64, now: u64) {
        if self.has_nodes() {
            self.say(News::Written { key, value, until: until(expires, now, seconds()) });
        }
    }

    /// Tells every node.
    pub fn say(&self, news: News<'_>) {
        if !self.has_nodes() {
            return;
        }
        let datagram = match news.datagram() {
            Ok(datagram) => datagram,
            Err(why) => return tracing::warn!("a change of a cache cannot be told to its nodes: {why}"),
        };
        for (socket, node) in &self.nodes {
            if let Err(error) = socket.send_to(&datagram, node) {
                tracing::warn!("cannot tell {node} of a change of a cache: {error}");
            }
        }
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Until when an item lives, in seconds since 1970, of which it is `seconds` now; 0: for ever. Rounded up: it never expires
/// elsewhere before it does here.
fn until(expires: u64, now: u64, seconds: u64) -> u64 {
    if expires == NEVER { 0 } else { seconds + expires.saturating_sub(now).div_ceil(1_000) }
}

/// The other way round; `None`: its time is over.
fn life(until: u64, seconds: u64) -> Option<Duration> {
    match until {
        0 => Some(Duration::ZERO),
        _ => until.checked_sub(seconds).filter(|left| *left > 0).map(Duration::from_secs),
    }
}

impl Cache {
    /// Another cache has told us of a change, and this one follows. It is told to nobody.
    pub fn follow(&self, news: News<'_>) -> Result<(), Refusal> {
        match news {
            News::Written { key, value, until } => match life(until, seconds()) {
                Some(life) => self.put_quietly(key, value, Some(life), Mode::Set).map(drop),
                None => self.delete_quietly(key).map(drop),
            },
            News::Removed(key) => self.delete_quietly(key).map(drop),
            News::Cleared => self.clear_quietly(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_is_told_is_never_shorter() {
        assert_eq!(until(NEVER, 5_000, 100), 0);
        assert_eq!(until(6_001, 5_000, 100), 102);
        assert_eq!(life(0, 100), Some(Duration::ZERO));
        assert_eq!(life(102, 100), Some(Duration::from_secs(2)));
        assert_eq!((life(100, 100), life(7, 100)), (None, None));
    }

    #[test]
    fn every_node_is_told() {
        let nodes = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let addresses = nodes.each_ref().map(|node| node.local_addr().unwrap());
        let mirror = Mirror::open(&addresses).unwrap();
        mirror.say(News::Removed(b"key"));
        for node in nodes {
            node.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut datagram = [0; 64];
            let length = node.recv(&mut datagram).unwrap();
            assert_eq!(News::read(&datagram[..length]), Some(News::Removed(b"key")));
        }
    }

    #[test]
    fn nobody_to_tell_costs_nothing() {
        let mirror = Mirror::open(&[]).unwrap();
        mirror.say(News::Cleared);
        assert!(!mirror.has_nodes());
    }
}
