//! Tests of the crate as its users see it: a folder, an environment and flags go in; settings, sentences or a listing
//! come out. Tests of single parts stand beside them.
use crate::{Loaded, Request, load};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

mod broken;
mod change;
mod documents;
mod layers;
mod show;

/// A fresh folder, removed on drop.
struct Folder(PathBuf);

impl Folder {
    /// A folder with an `app.py`, so that no module has to be named.
    fn new() -> Self {
        let folder = Folder::empty();
        folder.write("app.py", "");
        folder
    }

    fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("appliance-config-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Writes a file, with the folders above it.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// What is loaded in this folder, on a machine with two CPUs.
    fn request(&self) -> Request {
        Request { dir: self.0.clone(), cpus: 2, ..Request::default() }
    }

    /// Loads this folder's `appliance.toml` alone.
    fn load(&self) -> Loaded {
        load(&self.request()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Pairs as `Request` wants them.
fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
