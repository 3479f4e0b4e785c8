//! The folder in which the workers keep the caches: on a file system in memory, shared by all workers of all generations,
//! and gone when the appliance ends. Made by the master before the first template that needs it. The master never opens what
//! lies in it.
use crate::error::Error;
use crate::lock::Lock;
use crate::privileges::Identity;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{Uid, mkdtemp};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Its name in the run directory.
const NAME: &str = "caches";
/// Where there is memory, if not in the run directory.
const SHARED_MEMORY: &str = "/dev/shm";
/// Its name there; what follows tells one appliance from another.
const PREFIX: &str = "appliance-caches-";
/// The lock there, which names the master that holds it.
const LOCK_FILE: &str = "master.pid";

/// The folder, as long as the value lives.
#[derive(Debug)]
pub struct CacheDir {
    /// What is removed in the end.
    whole: PathBuf,
    path: PathBuf,
    /// In the run directory there is the one of that.
    _lock: Option<Lock>,
}

impl CacheDir {
    /// Makes it, and removes what killed masters have left. `run_dir` is ours.
    pub fn make(run_dir: &Path, identity: Option<&Identity>) -> Result<CacheDir, Error> {
        CacheDir::place(run_dir, Path::new(SHARED_MEMORY), identity)
            .map_err(Error::system("make a folder for the caches"))
    }

    fn place(run_dir: &Path, memory: &Path, identity: Option<&Identity>) -> io::Result<CacheDir> {
        sweep(memory);
        if !is_in_memory(run_dir) && is_in_memory(memory) {
            let whole = mkdtemp(&memory.join(format!("{PREFIX}XXXXXX")))?;
            let lock =
                Lock::take(&whole.join(LOCK_FILE)).map_err(|_| io::Error::from(ErrorKind::WouldBlock))?;
            // The children may look for what is theirs.
            fs::set_permissions(&whole, std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
            let path = whole.join(NAME);
            return CacheDir { whole, path, _lock: Some(lock) }.fill(identity);
        }
        if !is_in_memory(run_dir) {
            tracing::warn!(
                "the caches lie on a disk, in {}, and are slower there: neither it nor {} is a file system in memory",
                run_dir.display(),
                memory.display()
            );
        }
        let path = run_dir.join(NAME);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        CacheDir { whole: path.clone(), path, _lock: None }.fill(identity)
    }

    fn fill(self, identity: Option<&Identity>) -> io::Result<CacheDir> {
        DirBuilder::new().mode(0o700).create(&self.path)?;
        if let Some(identity) = identity {
            identity.give(&self.path)?;
        }
        Ok(self)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for CacheDir {
    fn drop(&mut self) {
        // Whoever comes next removes what could not be removed now.
        let _ = fs::remove_dir_all(&self.whole);
    }
}

fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

/// Removes the folders of masters of ours that do not live any more.
fn sweep(memory: &Path) {
    let Ok(entries) = fs::read_dir(memory) else { return };
    for entry in entries.flatten() {
        let is_ours =
            entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == Uid::effective().as_raw());
        let path = entry.path();
        if !is_ours || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // Whoever is just making one has no lock in it yet.
        let lock = path.join(LOCK_FILE);
        if lock.exists() && Lock::take(&lock).is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(parent: &str) -> PathBuf {
        mkdtemp(&Path::new(parent).join("appliance-cachedir-XXXXXX")).unwrap()
    }

    #[test]
    fn it_is_made_in_memory_and_removed_with_all_that_lies_in_it() {
        let (run_dir, memory) = (scratch("/tmp"), scratch(SHARED_MEMORY));
        let dir = CacheDir::place(&run_dir, &memory, None).unwrap();
        let path = dir.path().to_owned();
        assert!(path.starts_with(if is_in_memory(&run_dir) { &run_dir } else { &memory }));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::create_dir(path.join("sessions")).unwrap();
        drop(dir);
        assert!(!path.exists());
        assert_eq!(fs::read_dir(&memory).unwrap().count(), 0);
        fs::remove_dir(memory).unwrap();
        fs::remove_dir(run_dir).unwrap();
    }

    #[test]
    fn what_a_killed_master_has_left_is_removed_and_what_a_living_one_has_is_not() {
        let memory = scratch(SHARED_MEMORY);
        let [dead, alive] = ["dead", "alive"].map(|name| memory.join(format!("{PREFIX}{name}")));
        for path in [&dead, &alive] {
            fs::create_dir_all(path.join(NAME).join("sessions")).unwrap();
        }
        fs::write(dead.join(LOCK_FILE), "1").unwrap();
        let lock = Lock::take(&alive.join(LOCK_FILE)).unwrap();
        sweep(&memory);
        assert!(!dead.exists() && alive.join(NAME).exists());
        drop(lock);
        fs::remove_dir_all(memory).unwrap();
    }

    #[test]
    fn in_the_run_directory_it_begins_anew() {
        let run_dir = scratch(SHARED_MEMORY);
        fs::create_dir_all(run_dir.join(NAME).join("old")).unwrap();
        let dir = CacheDir::place(&run_dir, Path::new("/nonexistent"), None).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(dir);
        fs::remove_dir(run_dir).unwrap();
    }
}
