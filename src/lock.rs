//! A lock file that names the process that holds it. Whoever holds the lock owns the sockets that lie beside it: a
//! killed master's lock is free again, so what it left behind is known to be nobody's. Used by `run_dir.rs` and
//! `control/place.rs`; it never waits.
use nix::libc;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest process id that is read from the file of another: more digits than any has.
const MAX_PID: u64 = 20;

/// A lock that is ours for as long as the value lives.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: File,
}

/// Why a lock is not ours.
#[derive(Debug)]
pub enum Locked {
    /// A living process holds it; its id, as it wrote it.
    By(String),
    /// The file cannot be used.
    Failed(io::Error),
}

impl Lock {
    /// Takes the lock at `path`; its folder is there, and nobody else may write to it.
    pub fn take(path: &Path) -> Result<Lock, Locked> {
        loop {
            let mut file = open(path).map_err(Locked::Failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Locked::By(pid_in(file))),
                Err(TryLockError::Error(error)) => return Err(Locked::Failed(error)),
            }
            // Between our open and our lock, its last holder may have removed it: then it locks nobody out.
            if same_file(&file, path) {
                write_pid(&mut file).map_err(Locked::Failed)?;
                return Ok(Lock { path: path.to_owned(), file });
            }
        }
    }
}

impl Lock {
    /// Whether others find it there: its file has not been removed.
    pub fn has_name(&self) -> bool {
        same_file(&self.file, &self.path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It is still held, so nobody else can put another in its place. What cannot be removed does no harm.
        if self.has_name() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

fn pid_in(file: File) -> String {
    let mut pid = String::new();
    let _ = file.take(MAX_PID).read_to_string(&mut pid);
    pid.trim().to_owned()
}

fn same_file(file: &File, path: &Path) -> bool {
    let inode = |found: fs::Metadata| (found.dev(), found.ino());
    file.metadata().map(inode).ok() == fs::metadata(path).map(inode).ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_until_the_first_lets_go() {
        let dir = nix::unistd::mkdtemp("/tmp/appliance-lock-XXXXXX").unwrap();
        let path = dir.join("lock");
        fs::write(&path, "4711 was killed long ago\n").unwrap();
        let first = Lock::take(&path).unwrap();
        let Locked::By(pid) = Lock::take(&path).unwrap_err() else { panic!("it failed") };
        assert_eq!(pid, std::process::id().to_string());
        drop(first);
        assert!(!path.exists());
        drop(Lock::take(&path).unwrap());
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = nix::unistd::mkdtemp("/tmp/appliance-lock-XXXXXX").unwrap();
        std::os::unix::fs::symlink("/tmp", dir.join("lock")).unwrap();
        assert!(matches!(Lock::take(&dir.join("lock")), Err(Locked::Failed(_))));
        fs::remove_dir_all(dir).unwrap();
    }
}
