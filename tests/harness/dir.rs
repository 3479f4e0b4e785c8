//! A folder for one test, removed at its end.
use nix::unistd::mkdtemp;
use std::fs;
use std::path::{Path, PathBuf};

/// See the module.
pub struct Dir(PathBuf);

impl Dir {
    /// Makes one. Its path is short: sockets lie in it, and their paths have 107 bytes at most.
    pub fn new() -> Dir {
        Dir(mkdtemp("/tmp/appliance-test-XXXXXX").unwrap())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and answers its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A folder that cannot be removed is no reason to fail a test that has passed.
        let _ = fs::remove_dir_all(&self.0);
    }
}
