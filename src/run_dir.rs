//! The directory of the workers' sockets: the configured one, or a private one for this run. Opened and locked by the
//! master before any socket, removed (if private) when the master ends. Only one master can hold it.
use crate::error::Error;
use crate::lock::{Lock, Locked};
use crate::privileges::Identity;
use nix::unistd::{AccessFlags, Uid, access, mkdtemp};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Mode of the directory: the owner, and a look for the group.
const DIR_MODE: u32 = 0o750;
/// The lock, which names the master that holds it.
const LOCK_FILE: &str = "master.pid";

/// A run directory that is ours for as long as the value lives.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    private: bool,
    lock: Option<Lock>,
}

impl RunDir {
    /// Opens the configured directory, or a private one below `runtime` (`$XDG_RUNTIME_DIR`) or `/tmp`.
    pub fn open(
        configured: Option<&Path>,
        runtime: Option<&Path>,
        identity: Option<&Identity>,
    ) -> Result<RunDir, Error> {
        let private = configured.is_none();
        let path = match configured {
            Some(path) => configured_dir(path, identity)?,
            // A user's runtime directory is closed to the user that the children become.
            None => private_dir(runtime.filter(|dir| identity.is_none() && dir.is_dir()))?,
        };
        let lock = lock(&path)?;
        let dir = RunDir { path, private, lock: Some(lock) };
        if let Some(identity) = identity {
            identity.give(&dir.path).map_err(|error| refused(&dir.path, error))?;
        }
        Ok(dir)
    }

    /// Makes the directory and its lock again if they have been removed, and answers whether they were. An error too if
    /// another master has taken its place meanwhile.
    pub fn restore(&mut self, identity: Option<&Identity>) -> Result<bool, Error> {
        if self.lock.as_ref().is_some_and(Lock::has_name) {
            return Ok(false);
        }
        configured_dir(&self.path, identity)?;
        self.lock = Some(lock(&self.path)?);
        if let Some(identity) = identity {
            identity.give(&self.path).map_err(|error| refused(&self.path, error))?;
        }
        Ok(true)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a worker's socket; the same text for the master that binds it and the proxy that connects to it.
    pub fn socket(&self, worker: u32) -> PathBuf {
        self.path.join(format!("worker-{worker}.sock"))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // The lock file goes first: a folder is removed only when it is empty.
        self.lock = None;
        if self.private {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::RunDir { path: path.to_owned(), why: why.to_string() }
}

fn private_dir(runtime: Option<&Path>) -> Result<PathBuf, Error> {
    let parent = runtime.unwrap_or(Path::new("/tmp"));
    let path = mkdtemp(&parent.join("appliance-XXXXXX")).map_err(|error| refused(parent, error.desc()))?;
    fs::set_permissions(&path, Permissions::from_mode(DIR_MODE)).map_err(|error| refused(&path, error))?;
    Ok(path)
}

fn configured_dir(path: &Path, identity: Option<&Identity>) -> Result<PathBuf, Error> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(|error| refused(path, error))?;
    let found = fs::metadata(path).map_err(|error| refused(path, error))?;
    let owners = [Uid::effective().as_raw(), identity.map_or(0, Identity::uid)];
    if !owners.contains(&found.uid()) {
        return Err(refused(path, format_args!("it belongs to user {}", found.uid())));
    }
    if found.mode() & 0o002 != 0 {
        return Err(refused(path, "everybody may write to it"));
    }
    access(path, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|_| refused(path, "it is not writable"))?;
    Ok(path.to_owned())
}

/// Takes the lock; the file says who has it.
fn lock(dir: &Path) -> Result<Lock, Error> {
    Lock::take(&dir.join(LOCK_FILE)).map_err(|locked| match locked {
        Locked::By(pid) => Error::RunDirTaken { path: dir.to_owned(), pid },
        Locked::Failed(error) => refused(dir, format_args!("{LOCK_FILE}: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        mkdtemp("/tmp/appliance-rundir-XXXXXX").unwrap()
    }

    #[test]
    fn a_private_directory_comes_and_goes() {
        let dir = RunDir::open(None, None, None).unwrap();
        let path = dir.socket(1).parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, DIR_MODE);
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_directory_is_made_and_kept_and_a_second_master_is_told_who_has_it() {
        let parent = scratch();
        let path = parent.join("run/appliance");
        let dir = RunDir::open(Some(&path), None, None).unwrap();
        let error = RunDir::open(Some(&path), None, None).unwrap_err().to_string();
        assert!(
            error.contains(&format!("another appliance runs there (pid {})", std::process::id())),
            "{error}"
        );
        drop(dir);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        RunDir::open(Some(&path), None, None).unwrap();
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again_unless_somebody_else_has_it_now() {
        let parent = scratch();
        let path = parent.join("run");
        let mut dir = RunDir::open(Some(&path), None, None).unwrap();
        assert!(!dir.restore(None).unwrap());
        fs::remove_dir_all(&path).unwrap();
        assert!(dir.restore(None).unwrap() && path.join(LOCK_FILE).exists());
        fs::remove_dir_all(&path).unwrap();
        let other = RunDir::open(Some(&path), None, None).unwrap();
        assert!(dir.restore(None).unwrap_err().to_string().contains("another appliance runs there"));
        drop(dir);
        assert!(path.join(LOCK_FILE).exists(), "that is the other's");
        drop(other);
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let parent = scratch();
        fs::set_permissions(&parent, Permissions::from_mode(0o777)).unwrap();
        let error = RunDir::open(Some(&parent), None, None).unwrap_err().to_string();
        assert!(error.contains("everybody may write to it"), "{error}");
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_file_is_no_directory() {
        let parent = scratch();
        fs::write(parent.join("file"), "").unwrap();
        let error = RunDir::open(Some(&parent.join("file")), None, None).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        fs::remove_dir_all(parent).unwrap();
    }
}
