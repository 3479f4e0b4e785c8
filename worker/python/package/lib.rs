//! The Python sources that belong to the appliance, as they lie in this folder: the modules `appliance` and
//! `uwsgidecorators`, which the engine library imports from here, and what `pip` needs to install them (and the stand-in of
//! `uwsgi`) elsewhere. Only texts: nothing here runs, or knows Python.
#![forbid(unsafe_code)]

/// One file of the folder.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Where it lies, from the folder on.
    pub path: &'static str,
    /// What is in it.
    pub text: &'static str,
}

macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(File { path: $path, text: include_str!($path) }),*] };
}

/// All of them, by path.
pub const FILES: &[File] = files![
    "_wheel.py",
    "appliance/__init__.py",
    "appliance/_awaitable.py",
    "appliance/_engine.py",
    "appliance/_outside.py",
    "appliance/_outside_cache.py",
    "appliance/_outside_locks.py",
    "appliance/_outside_metrics.py",
    "appliance/_outside_remote.py",
    "appliance/_outside_signals.py",
    "appliance/_outside_websocket.py",
    "appliance/cache.py",
    "appliance/locks.py",
    "appliance/metrics.py",
    "appliance/py.typed",
    "appliance/rpc.py",
    "appliance/signals.py",
    "appliance/websocket.py",
    "pyproject.toml",
    "uwsgi/__init__.py",
    "uwsgi/_cache.py",
    "uwsgi/_metrics.py",
    "uwsgi/_process.py",
    "uwsgi/_queue.py",
    "uwsgi/_request.py",
    "uwsgi/_sharedarea.py",
    "uwsgi/_signals.py",
    "uwsgi/_values.py",
    "uwsgi/_waiting.py",
    "uwsgi/py.typed",
    "uwsgidecorators/__init__.py",
    "uwsgidecorators/py.typed",
];

/// What the server imports from here; its module `uwsgi` is its own.
const SERVED: [&str; 2] = ["appliance/", "uwsgidecorators/"];

impl File {
    /// The name under which the server imports it, and whether it is a package; `None` if it is only for elsewhere.
    pub fn module(&self) -> Option<(String, bool)> {
        if !SERVED.iter().any(|folder| self.path.starts_with(folder)) {
            return None;
        }
        let path = self.path.strip_suffix(".py")?;
        let (path, is_package) = path.strip_suffix("/__init__").map_or((path, false), |path| (path, true));
        Some((path.replace('/', "."), is_package))
    }
}

#[cfg(test)]
mod tests {
    use super::FILES;
    use std::path::Path;

    fn collect(folder: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in folder.read_dir().unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() && name != "__pycache__" && !name.starts_with('.') {
                collect(&path, root, found);
            } else if [".py", "pyproject.toml", "py.typed"].iter().any(|end| name.ends_with(end)) {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_list() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = Vec::new();
        collect(root, root, &mut found);
        found.sort();
        assert_eq!(FILES.iter().map(|file| file.path).collect::<Vec<_>>(), found);
    }

    #[test]
    fn the_version_is_ours() {
        let outside = FILES.iter().find(|file| file.path == "appliance/_outside.py").unwrap();
        assert!(outside.text.contains(&format!("\nversion = \"{}\"\n", env!("CARGO_PKG_VERSION"))));
    }

    #[test]
    fn modules_have_the_names_that_python_gives_them() {
        let named: Vec<_> = FILES.iter().filter_map(|file| file.module()).collect();
        assert!(named.contains(&("appliance".to_owned(), true)));
        assert!(named.contains(&("appliance._engine".to_owned(), false)));
        assert!(named.contains(&("uwsgidecorators".to_owned(), true)));
        assert!(named.iter().all(|(name, _)| !name.starts_with("uwsgi.") && name != "_wheel"));
    }
}
