//! Where the control socket lies, for the master that opens it and for the client that looks for it. With
//! `admin.run_dir`: `control.sock` in it. Without, the run directory has a new name each time, so there is a well-known
//! one: `appliance-<uid>/<name of the configuration>.sock` in `$XDG_RUNTIME_DIR`, `/run/user/<uid>` or `/tmp`. That
//! folder is used only if it is a folder of ours that nobody else may enter.
use crate::lock::{Lock, Locked};
use nix::unistd::Uid;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Name of the socket in a configured run directory.
const SOCKET: &str = "control.sock";
/// Another master that ends may remove the folder between our making it and our using it; not for ever.
const ATTEMPTS: u32 = 10;

/// Who looks for the well-known folder, and where.
#[derive(Clone, Debug)]
pub struct Viewer {
    /// The effective user.
    pub uid: Uid,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
}

impl Viewer {
    /// This process.
    pub fn this() -> Viewer {
        Viewer { uid: Uid::effective(), runtime: std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) }
    }

    /// The folders that may hold the well-known one, the best first. One of another user is none: `su` keeps
    /// `$XDG_RUNTIME_DIR`.
    fn bases(&self) -> impl Iterator<Item = PathBuf> {
        let uid = self.uid.as_raw();
        let own = move |base: &PathBuf| fs::metadata(base).is_ok_and(|found| found.uid() == uid);
        let runtime = self.runtime.clone().into_iter().chain([PathBuf::from(format!("/run/user/{uid}"))]);
        runtime.filter(own).chain([PathBuf::from("/tmp")])
    }

    fn folder(&self, base: &Path) -> PathBuf {
        base.join(format!("appliance-{}", self.uid))
    }
}

/// The socket of a configured run directory.
pub fn in_run_dir(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET)
}

/// The well-known sockets at which the master of `origin` may be, the likeliest first.
pub fn candidates(viewer: &Viewer, origin: &Path) -> Vec<PathBuf> {
    let folders = viewer.bases().map(|base| viewer.folder(&base));
    let usable = folders.filter(|folder| require_own(folder, viewer.uid).is_ok());
    usable.map(|folder| folder.join(name_of(origin) + ".sock")).collect()
}

/// A well-known name that is ours for as long as the value lives.
#[derive(Debug)]
pub struct Seat {
    folder: PathBuf,
    /// Where to put the socket.
    pub socket: PathBuf,
    uid: Uid,
    lock: Option<Lock>,
}

impl Seat {
    /// Takes the well-known name of `origin`, or says why it cannot be had.
    pub fn take(viewer: &Viewer, origin: &Path) -> Result<Seat, String> {
        let base = viewer.bases().next().expect("/tmp is always among them");
        let folder = viewer.folder(&base);
        let socket = folder.join(name_of(origin) + ".sock");
        let lock = occupy(&folder, &socket, viewer.uid)?;
        Ok(Seat { folder, socket, uid: viewer.uid, lock: Some(lock) })
    }

    /// Makes the folder and what says whose the name is again if somebody has removed them, unless the name is another
    /// master's by now.
    pub fn restore(&mut self) -> Result<(), String> {
        if !self.lock.as_ref().is_some_and(Lock::has_name) {
            self.lock = Some(occupy(&self.folder, &self.socket, self.uid)?);
        }
        Ok(())
    }
}

/// Makes the folder, and takes the lock beside `socket` in it.
fn occupy(folder: &Path, socket: &Path, uid: Uid) -> Result<Lock, String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    for _ in 0..ATTEMPTS {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        match require_own(folder, uid).and_then(|()| {
            Lock::take(&socket.with_extension("pid")).map_err(|locked| match locked {
                Locked::By(pid) => io::Error::other(format!("the appliance with pid {pid} has it")),
                Locked::Failed(error) => error,
            })
        }) {
            Ok(lock) => return Ok(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(format!("{}: it is removed again and again", folder.display()))
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.lock = None;
        // It goes with the last master of this user.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Fails unless `folder` is a folder, not a link to one, that belongs to `uid` and is closed to everybody else.
fn require_own(folder: &Path, uid: Uid) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != uid.as_raw() || found.mode() & 0o077 != 0 {
        let why = format!("it is not a folder of user {uid} with mode 0700; remove it");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    Ok(())
}

/// A configuration's name: its path, whatever links lead to it, as a number (FNV-1a, 64 bits), because the path of a
/// socket has 107 bytes at most. The number must not change between releases.
fn name_of(origin: &Path) -> String {
    let path = fs::canonicalize(origin).unwrap_or_else(|_| origin.to_owned());
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A viewer with a runtime directory of its own, which goes with the value.
    struct Home(Viewer);

    impl Home {
        fn new() -> Home {
            let runtime = nix::unistd::mkdtemp("/tmp/appliance-place-XXXXXX").unwrap();
            Home(Viewer { uid: Uid::effective(), runtime: Some(runtime) })
        }

        fn runtime(&self) -> &Path {
            self.0.runtime.as_deref().unwrap()
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.runtime());
        }
    }

    #[test]
    fn master_and_client_of_a_configuration_meet_and_leave_nothing() {
        let home = Home::new();
        let seat = Seat::take(&home.0, Path::new("/srv/a/appliance.toml")).unwrap();
        assert!(seat.socket.starts_with(home.runtime()));
        assert_eq!(candidates(&home.0, Path::new("/srv/a/appliance.toml"))[0], seat.socket);
        assert_ne!(candidates(&home.0, Path::new("/srv/b/appliance.toml"))[0], seat.socket);
        drop(seat);
        assert_eq!(fs::read_dir(home.runtime()).unwrap().count(), 0);
    }

    #[test]
    fn a_second_master_of_the_same_configuration_is_told_who_is_there() {
        let home = Home::new();
        let origin = Path::new("/srv/a");
        let first = Seat::take(&home.0, origin).unwrap();
        let error = Seat::take(&home.0, origin).unwrap_err();
        assert!(error.contains(&format!("the appliance with pid {} has it", std::process::id())), "{error}");
        let other = Seat::take(&home.0, Path::new("/srv/b")).unwrap();
        drop(first);
        assert!(other.socket.parent().unwrap().exists(), "the other still needs it");
    }

    #[test]
    fn a_name_that_was_removed_is_taken_again_unless_somebody_else_has_it_now() {
        let home = Home::new();
        let origin = Path::new("/srv/a");
        let mut seat = Seat::take(&home.0, origin).unwrap();
        fs::remove_dir_all(home.0.folder(home.runtime())).unwrap();
        seat.restore().unwrap();
        assert!(Seat::take(&home.0, origin).is_err(), "it is taken");
        fs::remove_dir_all(home.0.folder(home.runtime())).unwrap();
        let other = Seat::take(&home.0, origin).unwrap();
        assert!(seat.restore().unwrap_err().contains("has it"));
        drop(seat);
        assert!(other.socket.with_extension("pid").exists(), "that is the other's");
    }

    #[test]
    fn a_folder_that_others_could_have_made_is_not_used() {
        let home = Home::new();
        let folder = home.0.folder(home.runtime());
        symlink("/tmp", &folder).unwrap();
        assert!(Seat::take(&home.0, Path::new("/srv")).unwrap_err().contains("it is not a folder of user"));
        assert!(!candidates(&home.0, Path::new("/srv")).iter().any(|path| path.starts_with(&folder)));
        fs::remove_file(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Seat::take(&home.0, Path::new("/srv")).is_err());
    }

    #[test]
    fn links_to_a_configuration_are_the_configuration() {
        let home = Home::new();
        let (real, link) = (home.runtime().join("real"), home.runtime().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(name_of(&real), name_of(&link));
        assert_eq!(name_of(Path::new("/no/such/a")), "dd312ce4bf4b3bc5");
    }
}
