//! The doors: the proxy's public listeners and the admin endpoint's, and those where workers speak the uwsgi protocol
//! (`[rpc]`, `[cache.NAME]`), by the address that the configuration gives them. A reload's next doors share every socket that stays with those in force, so that no connection in its backlog is lost, and
//! open the others before anything changes. A socket is closed, and its file removed, with the last doors that have it.
//! Owned by the master; whether and when they change is decided by `fleet.rs`.
use crate::activation::Inherited;
use crate::error::Error;
use crate::privileges::Identity;
use crate::sockets::{self, Listener};
use appliance_config::settings::Endpoint;
use appliance_config::{Settings, remote};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

/// One listener and the address that was asked for; port 0 has become another in the listener.
#[derive(Clone, Debug)]
struct Door {
    address: Endpoint,
    listener: Rc<Listener>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    /// In the order of `listen`.
    public: Vec<Door>,
    admin: Option<Door>,
    /// For the uwsgi protocol, in the order of [`remote::doors`].
    wire: Vec<Door>,
    /// Where caches hear of each other, in the order of [`remote::ears`].
    ears: Vec<Ear>,
}

/// A bound UDP socket and the address that was asked for.
#[derive(Clone, Debug)]
struct Ear {
    address: SocketAddr,
    socket: Rc<OwnedFd>,
}

impl Doors {
    /// Those that a service manager has opened for `settings`; [`Doors::follow`] opens the others.
    pub fn inherited(settings: &Settings, mut inherited: Inherited) -> Doors {
        let mut door = |key: &str, address: Endpoint| {
            let listener = Rc::new(inherited.claim(key, &address)?);
            Some(Door { address, listener })
        };
        let listen = settings.listen.iter().enumerate();
        let public = listen.filter_map(|(n, listen)| door(&format!("listen[{n}]"), listen.address.clone()));
        let public = public.collect();
        let admin = settings.admin.listen.and_then(|address| door("admin.listen", Endpoint::Tcp(address)));
        inherited.refuse_rest();
        Doors { public, admin, ..Doors::default() }
    }

    /// The doors that `settings` ask for. What is open in `self` under the same address is shared; an error changes
    /// nothing.
    pub fn follow(&self, settings: &Settings, identity: Option<&Identity>) -> Result<Doors, Error> {
        let mut next = Doors::default();
        match next.open(self, settings, identity) {
            Ok(()) => Ok(Doors { ears: self.follow_ears(settings)?, ..next }),
            Err(Error::AddressInUse { address, choose }) => {
                Err(match self.overlapping(&address).or_else(|| next.overlapping(&address)) {
                    Some(ours) => Error::OwnAddress { address, ours },
                    None => Error::AddressInUse { address, choose },
                })
            }
            Err(other) => Err(other),
        }
    }

    /// Opens whatever listens; ears do not, so none of these is in their way.
    fn open(&mut self, old: &Doors, settings: &Settings, identity: Option<&Identity>) -> Result<(), Error> {
        let backlog = settings.limits.backlog;
        let mut left = old.public.clone();
        for listen in &settings.listen {
            let address = listen.address.clone();
            self.public.push(match left.iter().position(|door| door.address == address) {
                Some(at) => left.remove(at),
                None => {
                    let listener = sockets::open_public(&address, backlog, identity)?;
                    Door { address, listener: Rc::new(listener) }
                }
            });
        }
        self.admin = match settings.admin.listen {
            None => None,
            Some(address) => Some(match &old.admin {
                Some(door) if door.address == Endpoint::Tcp(address) => door.clone(),
                _ => {
                    let listener = Rc::new(sockets::open_admin(address, backlog)?);
                    Door { address: Endpoint::Tcp(address), listener }
                }
            }),
        };
        self.wire = old.follow_wire(settings, identity)?;
        Ok(())
    }

    /// Where we listen already, so that nobody can listen on `address`.
    fn overlapping(&self, address: &str) -> Option<SocketAddr> {
        let wanted: SocketAddr = address.parse().ok()?;
        let listeners = self.public.iter().chain(&self.admin).chain(&self.wire).map(|door| &door.listener);
        let bound = listeners.filter_map(|listener| match sockets::address_of(listener.as_fd()) {
            Some(Endpoint::Tcp(address)) => Some(address),
            _ => None,
        });
        bound.into_iter().find(|ours| {
            let is_any = wanted.ip().is_unspecified() || ours.ip().is_unspecified();
            ours.port() == wanted.port() && (is_any || ours.ip() == wanted.ip())
        })
    }

    fn follow_wire(&self, settings: &Settings, identity: Option<&Identity>) -> Result<Vec<Door>, Error> {
        let open = |address: Endpoint| {
            if let Some(door) = self.wire.iter().find(|door| door.address == address) {
                return Ok(door.clone());
            }
            let listener = sockets::open_wire(&address, settings.limits.backlog, identity)?;
            Ok(Door { address, listener: Rc::new(listener) })
        };
        remote::doors(settings).into_iter().map(|door| open(door.address)).collect()
    }

    fn follow_ears(&self, settings: &Settings) -> Result<Vec<Ear>, Error> {
        let open = |address: SocketAddr| {
            if let Some(ear) = self.ears.iter().find(|ear| ear.address == address) {
                return Ok(ear.clone());
            }
            Ok(Ear { address, socket: Rc::new(sockets::open_udp(address)?) })
        };
        remote::ears(settings).into_iter().map(|ear| open(ear.address)).collect()
    }

    /// Where the public ones listen, for humans.
    pub fn urls(&self) -> Vec<String> {
        self.public.iter().map(|door| door.listener.url.clone()).collect()
    }

    /// Second descriptors of the public ones, to hand to a proxy.
    pub fn public(&self) -> io::Result<Vec<OwnedFd>> {
        self.public.iter().map(|door| door.listener.try_clone()).collect()
    }

    /// A second descriptor of the admin endpoint's.
    pub fn admin(&self) -> io::Result<Option<OwnedFd>> {
        self.admin.as_ref().map(|door| door.listener.try_clone()).transpose()
    }

    /// Second descriptors of those for the uwsgi protocol, and then of the ears, to hand to workers.
    pub fn wire(&self) -> io::Result<Vec<OwnedFd>> {
        let doors = self.wire.iter().map(|door| door.listener.try_clone());
        doors.chain(self.ears.iter().map(|ear| ear.socket.try_clone())).collect()
    }

    /// Changes how many connections may wait in each.
    pub fn set_backlog(&self, backlog: u32) {
        for door in self.public.iter().chain(&self.admin).chain(&self.wire) {
            door.listener.set_backlog(backlog);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appliance_config::{Request, load};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};

    /// A folder of its own, which goes with the value.
    struct Site(PathBuf);

    impl Site {
        fn new() -> Site {
            let dir = nix::unistd::mkdtemp("/tmp/appliance-doors-XXXXXX").unwrap();
            std::fs::write(dir.join("app.py"), "").unwrap();
            Site(dir)
        }

        fn settings(&self, listen: &str, admin: Option<&str>) -> Settings {
            let flags = [Some(("listen", listen)), admin.map(|address| ("admin.listen", address))];
            self.load(&flags.into_iter().flatten().collect::<Vec<_>>())
        }

        fn load(&self, flags: &[(&str, &str)]) -> Settings {
            let flags = flags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            load(&Request { dir: self.0.clone(), flags, cpus: 1, ..Request::default() }).unwrap().settings
        }
    }

    /// One that was free a moment ago.
    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    impl Drop for Site {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn answers(path: &Path) -> bool {
        UnixStream::connect(path).is_ok()
    }

    #[test]
    fn what_stays_is_the_same_socket_and_what_goes_is_closed_with_the_last_doors() {
        let site = Site::new();
        let (a, b) = (site.0.join("a.sock"), site.0.join("b.sock"));
        let first = site.settings(r#"["127.0.0.1:0", "unix:a.sock"]"#, Some("127.0.0.1:0"));
        let old = Doors::default().follow(&first, None).unwrap();
        let second = site.settings(r#"["unix:b.sock", "127.0.0.1:0"]"#, Some("127.0.0.1:0"));
        let new = old.follow(&second, None).unwrap();
        assert_eq!(new.urls()[1], old.urls()[0]);
        assert_eq!(new.urls()[0], format!("unix:{}", b.display()));
        let shared = |doors: &Doors| Rc::as_ptr(&doors.admin.as_ref().unwrap().listener);
        assert_eq!(shared(&new), shared(&old));
        assert!(answers(&a) && answers(&b), "both generations are open at once");
        drop(old);
        assert!(!a.exists() && answers(&b));
    }

    #[test]
    fn doors_that_cannot_all_be_opened_open_none() {
        let site = Site::new();
        let old = Doors::default().follow(&site.settings("unix:a.sock", None), None).unwrap();
        let bad = site.settings(r#"["unix:b.sock", "unix:no/such/folder.sock"]"#, None);
        let error = old.follow(&bad, None).unwrap_err();
        assert!(error.to_string().contains("its folder does not exist"), "{error}");
        assert!(!site.0.join("b.sock").exists());
        assert!(answers(&site.0.join("a.sock")));
    }

    #[test]
    fn an_address_that_overlaps_one_of_ours_is_not_said_to_be_another_program_s() {
        let site = Site::new();
        for (first, next) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "[::]")] {
            let old = Doors::default().follow(&site.settings(&format!("{first}:0"), None), None).unwrap();
            let ours = old.urls()[0].strip_prefix("http://").unwrap().to_owned();
            let wanted = format!("{next}:{}", ours.rsplit(':').next().unwrap());
            let error = old.follow(&site.settings(&wanted, None), None).unwrap_err().to_string();
            let says = format!("{wanted}: this appliance itself listens on {ours}; ");
            assert!(error.starts_with(&says) && error.ends_with("stop it and start it again"), "{error}");
            let both = site.settings(r#"["127.0.0.1:0", "unix:w.sock"]"#, Some(&ours));
            let error = old.follow(&both, None).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{ours}: this appliance itself")), "{error}");
        }
    }

    #[test]
    fn two_new_addresses_that_overlap_are_not_said_to_be_another_program_s() {
        let site = Site::new();
        let port = free_port();
        let both = site.settings(&format!(r#"["0.0.0.0:{port}", "[::]:{port}"]"#), None);
        let error = Doors::default().follow(&both, None).unwrap_err().to_string();
        assert!(error.contains(&format!("listens on 0.0.0.0:{port}; leave out one of the two")), "{error}");
    }

    #[test]
    fn a_listener_of_ours_is_not_said_to_be_in_the_way_of_datagrams() {
        let site = Site::new();
        let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = theirs.local_addr().unwrap().to_string();
        let flags =
            [("listen", "unix:w.sock"), ("cache.c.listen", taken.as_str()), ("cache.c.udp", taken.as_str())];
        let error = Doors::default().follow(&site.load(&flags), None).unwrap_err();
        assert!(matches!(error, Error::AddressInUse { .. }), "{error}");
    }

    #[test]
    fn two_listeners_on_any_port_stay_two() {
        let site = Site::new();
        let settings = site.settings(r#"["127.0.0.1:0", "127.0.0.1:0"]"#, None);
        let old = Doors::default().follow(&settings, None).unwrap();
        let new = old.follow(&settings, None).unwrap();
        assert_eq!(new.urls(), old.urls());
        assert_ne!(new.urls()[0], new.urls()[1]);
    }
}
