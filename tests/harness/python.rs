//! The virtual environments that the tests use. `make test` makes them.
use super::root;
use std::fs;
use std::path::PathBuf;

/// The one with everything in it: greenlet, Flask, Django, Tornado.
pub fn default_venv() -> PathBuf {
    let venv = root().join(".venv");
    assert!(venv.join("bin/python").is_file(), "{} is missing; run `make test`", venv.display());
    venv
}

/// The default one, and one for each other CPython that was found.
pub fn venvs() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let is_other = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(".venv-3.") && path.join("bin/python").is_file()
    };
    std::iter::once(default_venv()).chain(entries.filter(is_other)).collect()
}
