//! Where an appliance listens for others of its kind and for uWSGI servers (`[rpc]`, `[cache.NAME]`), and whom it admits
//! there. Master and workers both ask here, so that a socket and what is behind it are never mixed up. Pure.
use crate::check::short_enough;
use crate::reader::Reader;
use crate::settings::{Cache, Endpoint, Network, Settings};
use crate::units;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// `[rpc]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rpc {
    /// Where procedures can be called from outside; empty: nowhere.
    pub listen: Vec<Endpoint>,
    /// Who may.
    pub access: Access,
    /// Calls from outside that one worker has under way at the same time.
    pub calls: usize,
}

/// Of `[cache.NAME]`: with whom a cache is shared beyond its appliance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// Where other servers can use it; empty: nowhere.
    pub listen: Vec<Endpoint>,
    /// Who may, there and by `udp`.
    pub access: Access,
    /// Who is told over UDP of what happens to it.
    pub nodes: Vec<SocketAddr>,
    /// Where it hears over UDP of what happens to others.
    pub udp: Option<SocketAddr>,
}

/// Who may use something that listens: always whoever is on this machine, and besides these networks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// The networks.
    pub allow: Vec<Network>,
}

impl Access {
    /// Whether a peer with this address may.
    pub fn admits(&self, peer: IpAddr) -> bool {
        peer.to_canonical().is_loopback() || self.allow.iter().any(|network| network.contains(peer))
    }
}

/// One listening socket and what can be asked for there: whoever listens at the same address shares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Door {
    /// Where.
    pub address: Endpoint,
    /// The key that names it first.
    pub key: String,
    /// Procedures, and who may call them.
    pub rpc: Option<Access>,
    /// Caches by name, and who may use them; the first is the one that is meant where none is named.
    pub caches: Vec<(String, Access)>,
}

/// Every door of these settings, always in the same order.
pub fn doors(settings: &Settings) -> Vec<Door> {
    let mut doors = Vec::new();
    for address in &settings.rpc.listen {
        door(&mut doors, address, "rpc.listen").rpc = Some(settings.rpc.access.clone());
    }
    for cache in &settings.caches {
        for address in &cache.shared.listen {
            let door = door(&mut doors, address, &format!("cache.{}.listen", cache.name));
            door.caches.push((cache.name.clone(), cache.shared.access.clone()));
        }
    }
    doors
}

/// Where a cache hears of others over UDP.
#[derive(Clone, Debug, PartialEq)]
pub struct Ear {
    /// Where.
    pub address: SocketAddr,
    /// Which cache.
    pub cache: String,
    /// Who is believed.
    pub access: Access,
}

/// Every ear of these settings, always in the same order.
pub fn ears(settings: &Settings) -> Vec<Ear> {
    let ear = |cache: &Cache| {
        let (cache, shared) = (cache.name.clone(), &cache.shared);
        Some(Ear { address: shared.udp?, cache, access: shared.access.clone() })
    };
    settings.caches.iter().filter_map(ear).collect()
}

/// The door at an address, new or not.
fn door<'a>(doors: &'a mut Vec<Door>, address: &Endpoint, key: &str) -> &'a mut Door {
    let at = doors.iter().position(|door| door.address == *address).unwrap_or_else(|| {
        doors.push(Door { address: address.clone(), key: key.to_owned(), rpc: None, caches: Vec::new() });
        doors.len() - 1
    });
    &mut doors[at]
}

/// Reads `[rpc]`.
pub(crate) fn rpc(read: &mut Reader) -> Rpc {
    Rpc {
        listen: endpoints(read, "rpc.listen"),
        access: Access { allow: read.texts("rpc.allow", units::network) },
        calls: read.whole("rpc.calls"),
    }
}

/// Reads what concerns others of a cache, whose keys are made by `key`.
pub(crate) fn shared(read: &mut Reader, key: impl Fn(&str) -> String) -> Shared {
    Shared {
        listen: endpoints(read, &key("listen")),
        access: Access { allow: read.texts(&key("allow"), units::network) },
        // The loop that tells them cannot look up names.
        nodes: read.texts(&key("nodes"), |text| text.parse().ok()),
        udp: read.optional_text(&key("udp"), units::tcp),
    }
}

/// The listeners under a key, with absolute paths.
fn endpoints(read: &mut Reader, key: &str) -> Vec<Endpoint> {
    let written = read.written;
    read.texts(key, |text| match units::endpoint(text)? {
        Endpoint::Unix(path) => {
            let path = written.absolute(key, path);
            short_enough(&path, "").is_ok().then_some(Endpoint::Unix(path))
        }
        tcp => Some(tcp),
    })
}

/// Whether only this machine can reach a listener at this address.
pub(crate) fn is_local(address: &Endpoint) -> bool {
    match address {
        Endpoint::Tcp(address) => address.ip().to_canonical().is_loopback(),
        Endpoint::Unix(_) => true,
    }
}
