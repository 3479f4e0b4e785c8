//! What nobody wrote but the machine shows: the folder, the application in it, its virtual environment. Called by
//! `load.rs` between merging and checking; with it the only file that looks at the disk, and it only asks what exists.
use crate::error::Error;
use crate::written::{Entry, Source, Value, Written};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Files that show an application, in the order in which they are looked for, and the modules they are.
const APPLICATIONS: [(&str, &str); 4] =
    [("app.py", "app"), ("wsgi.py", "wsgi"), ("asgi.py", "asgi"), ("main.py", "main")];

/// Where a virtual environment usually is.
const ENVIRONMENTS: [&str; 2] = [".venv", "venv"];

/// Fills in `app.chdir`, `app.module` and `app.venv` where they are absent, and refuses folders that do not exist.
pub fn discover(written: &mut Written, env: &[(String, String)], problems: &mut Vec<Error>) {
    let chdir = chdir(written, problems);
    module(written, &chdir, problems);
    venv(written, &chdir, env, problems);
}

fn chdir(written: &mut Written, problems: &mut Vec<Error>) -> PathBuf {
    let Some(text) = text(written, "app.chdir") else {
        let folder = written.folder.clone();
        set(written, "app.chdir", folder.display().to_string(), Source::Default);
        return folder;
    };
    let folder = written.absolute("app.chdir", &text);
    if !folder.is_dir() {
        let reason = "is not a folder; create it, or name the folder of the application";
        refuse(written, "app.chdir", reason.to_owned(), problems);
    }
    folder
}

fn module(written: &mut Written, chdir: &Path, problems: &mut Vec<Error>) {
    // A file that could not be read may well name the application.
    let unread = problems.iter().any(|problem| matches!(problem, Error::Read { .. } | Error::Syntax { .. }));
    if written.get("app.module").is_some() || unread || !chdir.is_dir() {
        return;
    }
    match APPLICATIONS.iter().find(|(file, _)| chdir.join(file).is_file()) {
        Some((file, module)) => {
            set(written, "app.module", (*module).to_owned(), Source::Found((*file).to_owned()));
        }
        None => problems.push(Error::NoModule { folder: chdir.display().to_string() }),
    }
}

fn venv(written: &mut Written, chdir: &Path, env: &[(String, String)], problems: &mut Vec<Error>) {
    if let Some(text) = text(written, "app.venv") {
        let folder = written.absolute("app.venv", &text);
        match folder.join("bin/python").metadata() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let reason = "is out of reach: you may not read its bin/python, or what that is a link to; name another";
                refuse(written, "app.venv", reason.to_owned(), problems);
            }
            Err(_) => {
                let create = format!("python3 -m venv {}", folder.display());
                let reason =
                    format!("is not a virtual environment: it has no bin/python; create it with `{create}`");
                refuse(written, "app.venv", reason, problems);
            }
        }
        return;
    }
    let usual = ENVIRONMENTS.iter().map(|name| (chdir.join(name), (*name).to_owned()));
    let active = env.iter().find(|(name, value)| name == "VIRTUAL_ENV" && !value.is_empty());
    let active = active.map(|(name, value)| (PathBuf::from(value), name.clone()));
    match usual.chain(active).find(|(folder, _)| is_venv(folder) || was_venv(folder)) {
        Some((folder, found)) if is_venv(&folder) => {
            set(written, "app.venv", folder.display().to_string(), Source::Found(found));
        }
        // Another Python would be taken, and miss everything that was installed.
        Some((folder, found)) => {
            problems.push(Error::BrokenVenv { folder: folder.display().to_string(), found });
        }
        None => {}
    }
}

/// A link to nowhere, or what an upgrade of the system's Python leaves.
fn was_venv(folder: &Path) -> bool {
    let is_dangling = folder.is_symlink() && !folder.exists();
    is_dangling || folder.join("pyvenv.cfg").exists() || folder.join("bin/python").is_symlink()
}

fn is_venv(folder: &Path) -> bool {
    folder.join("bin/python").exists()
}

/// The text written for a key; anything else is left for `check.rs` to refuse.
fn text(written: &Written, key: &str) -> Option<String> {
    let text = written.get(key).and_then(|entry| entry.value.as_text())?;
    (!text.contains('\0')).then(|| text.to_owned())
}

fn set(written: &mut Written, key: &str, text: String, source: Source) {
    // A value of the wrong type is present, though it is no text.
    written.entries.entry(key.to_owned()).or_insert(Entry { value: Value::Text(text), source });
}

fn refuse(written: &Written, key: &str, reason: String, problems: &mut Vec<Error>) {
    let value = written.get(key).map(|entry| entry.value.to_string()).unwrap_or_default();
    problems.push(Error::Value { place: written.place(key), key: key.to_owned(), value, reason });
}
