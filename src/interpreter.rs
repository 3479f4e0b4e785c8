//! The Python that the configuration names: asks it what it is and where its shared library lies, and refuses with a
//! sentence what cannot host applications. Called by the template before anything of Python is in its memory. Nothing
//! is loaded here.
use crate::error::Error;
use crate::privileges;
use appliance_config::settings::{App, Suspend};
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Oldest CPython that the engine library's stable ABI (abi3-py310) speaks to.
const OLDEST: (u32, u32) = (3, 10);

/// What the interpreter is asked; one JSON object is the answer. Runs on Python 2 too, so that it can be refused
/// politely.
const QUESTION: &str = r#"
import json, platform, sys, sysconfig
try:
    import greenlet
    have, why = getattr(greenlet, "__version__", "?"), ""
except Exception as error:
    have, why = None, str(error)
ask = sysconfig.get_config_var
print(json.dumps({
    "implementation": platform.python_implementation(), "version": list(sys.version_info[:3]),
    "executable": sys.executable, "free_threaded": bool(ask("Py_GIL_DISABLED")),
    "libdir": ask("LIBDIR") or "", "base": getattr(sys, "base_prefix", sys.prefix),
    "names": [name for name in (ask("INSTSONAME"), ask("LDLIBRARY")) if name],
    "greenlet": have, "greenlet_error": why,
}))
"#;

/// An interpreter's answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    implementation: String,
    version: (u32, u32, u32),
    executable: String,
    free_threaded: bool,
    libdir: PathBuf,
    base: PathBuf,
    names: Vec<String>,
    greenlet: Option<String>,
    greenlet_error: String,
}

/// What the template needs to know of the interpreter that it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// Its shared library.
    pub library: PathBuf,
    /// Its `bin` directory; CPython finds its own files, and a venv's `pyvenv.cfg`, from the first `python3` on PATH.
    pub bin: PathBuf,
}

/// Finds the interpreter of `app`.
pub fn find(app: &App) -> Result<Python, Error> {
    let program = match &app.venv {
        Some(venv) => venv_python(venv)?,
        None => app.python.clone().into(),
    };
    let answer = ask(&program)?;
    judge(&answer, &program, app.suspend, Path::is_file)
}

fn venv_python(venv: &Path) -> Result<OsString, Error> {
    let python = venv.join("bin/python");
    match python.metadata() {
        Ok(found) if found.is_file() => Ok(python.into()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let what = format!("app.venv {}: bin/python, or what that is a link to,", venv.display());
            Err(Error::OutOfReach { what, user: privileges::current() })
        }
        _ => Err(Error::NoVenv(venv.to_owned())),
    }
}

/// Runs the interpreter. Not in the application's folder: its modules must not be taken for the standard library's.
fn ask(program: &OsStr) -> Result<Answer, Error> {
    let no = |why: String| Error::NoInterpreter { name: program.to_string_lossy().into_owned(), why };
    let output = Command::new(program)
        .args(["-c", QUESTION])
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| no(not_startable(&error)))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        no(format!(
            "it does not answer like Python ({}): {}",
            output.status,
            said.lines().last().unwrap_or("").trim()
        ))
    })
}

fn not_startable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not found".to_owned(),
        io::ErrorKind::PermissionDenied => "may not be executed".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether this interpreter will do, and where its library is. `is_file` looks into the file system.
fn judge(
    answer: &Answer,
    asked: &OsStr,
    suspend: Suspend,
    is_file: impl Fn(&Path) -> bool,
) -> Result<Python, Error> {
    // What was asked, if it is a path: the user knows it by that name.
    let asked = asked.to_string_lossy();
    let python = if asked.contains('/') { asked.into_owned() } else { answer.executable.clone() };
    let (major, minor, patch) = answer.version;
    let wrong = |why: String| Error::WrongInterpreter { python: python.clone(), why };
    if answer.implementation != "CPython" {
        return Err(wrong(format!("is {}, which cannot be embedded here", answer.implementation)));
    }
    if (major, minor) < OLDEST {
        return Err(wrong(format!("is Python {major}.{minor}.{patch}, which is too old")));
    }
    if answer.free_threaded {
        return Err(wrong("is a free-threaded build, which has no stable ABI".into()));
    }
    let Some(library) = library_paths(answer).into_iter().find(|path| is_file(path)) else {
        let version = format!("{major}.{minor}");
        return Err(Error::NoLibpython { python, library: format!("libpython{version}.so"), version });
    };
    if suspend == Suspend::Greenlet && answer.greenlet.is_none() {
        return Err(Error::NoGreenlet { python, why: answer.greenlet_error.clone() });
    }
    let bin = Path::new(&answer.executable).parent().unwrap_or(Path::new("/usr/bin")).to_owned();
    Ok(Python { library, bin })
}

/// Where the shared library may be, the likeliest first. Some distributions name only the static one in their answer.
fn library_paths(answer: &Answer) -> Vec<PathBuf> {
    let (major, minor, _) = answer.version;
    let usual = [format!("libpython{major}.{minor}.so.1.0"), format!("libpython{major}.{minor}.so")];
    let names: Vec<&String> = answer.names.iter().chain(&usual).filter(|name| name.contains(".so")).collect();
    let dirs = [answer.libdir.clone(), answer.base.join("lib")];
    dirs.iter().flat_map(|dir| names.iter().map(move |name| dir.join(name))).collect()
}

/// PATH with `bin` before everything else, unless the first `python3` on it is there anyway.
pub fn path_with(bin: &Path, path: &OsStr, is_file: impl Fn(&Path) -> bool) -> OsString {
    let first = std::env::split_paths(path).find(|dir| is_file(&dir.join("python3")));
    if first.as_deref() == Some(bin) {
        return path.to_owned();
    }
    let dirs = std::iter::once(bin.to_owned()).chain(std::env::split_paths(path));
    // `bin` came out of a PATH or a sys.executable; one with a colon in it cannot be on a PATH.
    std::env::join_paths(dirs).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        serde_json::from_str(
            r#"{"implementation": "CPython", "version": [3, 11, 7], "executable": "/opt/py/bin/python3.11",
                "free_threaded": false, "libdir": "/opt/py/lib", "base": "/opt/base",
                "names": ["libpython3.11.so.1.0", "libpython3.11.a"], "greenlet": "3.1.1", "greenlet_error": ""}"#,
        )
        .unwrap()
    }

    fn judged(answer: &Answer, files: &[&str]) -> Result<Python, Error> {
        judge(answer, OsStr::new("python3"), Suspend::Greenlet, |path| {
            files.iter().any(|file| path == Path::new(file))
        })
    }

    fn refusal(answer: &Answer) -> String {
        let error = judged(answer, &["/opt/py/lib/libpython3.11.so.1.0"]).unwrap_err();
        assert_eq!(error.exit_code(), 64);
        error.to_string()
    }

    #[test]
    fn the_library_is_looked_for_where_the_interpreter_says_and_below_its_base() {
        for file in [
            "/opt/py/lib/libpython3.11.so.1.0",
            "/opt/py/lib/libpython3.11.so",
            "/opt/base/lib/libpython3.11.so.1.0",
        ] {
            let python = judged(&answer(), &[file]).unwrap();
            assert_eq!((python.library, python.bin), (file.into(), "/opt/py/bin".into()));
        }
    }

    #[test]
    fn a_static_python_is_told_which_package_to_install() {
        let error = judged(&answer(), &["/opt/py/lib/libpython3.11.a"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("apt install libpython3.11;") && text.contains("--enable-shared"), "{text}");
        assert_eq!(error.exit_code(), 64);
    }

    #[test]
    fn other_interpreters_are_named() {
        let text = refusal(&Answer { implementation: "PyPy".into(), ..answer() });
        assert!(text.starts_with("/opt/py/bin/python3.11: is PyPy"), "{text}");
        let text = refusal(&Answer { version: (3, 9, 18), ..answer() });
        assert!(text.contains("is Python 3.9.18, which is too old; use CPython 3.10 or newer"), "{text}");
        let text = refusal(&Answer { free_threaded: true, ..answer() });
        assert!(text.contains("free-threaded"), "{text}");
    }

    #[test]
    fn a_missing_greenlet_comes_with_the_command_that_installs_it() {
        let bare = Answer { greenlet: None, greenlet_error: "No module named 'greenlet'".into(), ..answer() };
        let text = refusal(&bare);
        assert!(text.contains("`/opt/py/bin/python3.11 -m pip install greenlet`"), "{text}");
        assert!(judge(&bare, OsStr::new("python3"), Suspend::Thread, |_| true).is_ok(), "threads need none");
    }

    #[test]
    fn the_user_reads_the_path_that_he_configured() {
        let old = Answer { version: (3, 8, 0), ..answer() };
        let error = judge(&old, OsStr::new("/srv/venv/bin/python"), Suspend::Greenlet, |_| true).unwrap_err();
        assert!(error.to_string().starts_with("/srv/venv/bin/python: is Python 3.8.0"), "{error}");
    }

    #[test]
    fn a_venv_without_python_and_a_missing_interpreter_are_named() {
        let error = venv_python(Path::new("/nowhere/venv")).unwrap_err();
        assert!(
            error.to_string().starts_with("app.venv /nowhere/venv: there is no bin/python in it"),
            "{error}"
        );
        let error = ask(OsStr::new("/nowhere/python")).unwrap_err();
        assert!(error.to_string().starts_with("python `/nowhere/python`: not found; install"), "{error}");
        let error = ask(OsStr::new("/bin/cat")).unwrap_err();
        assert!(error.to_string().contains("does not answer like Python"), "{error}");
    }

    #[test]
    fn path_changes_only_when_it_leads_to_another_python() {
        let has_python = |path: &Path| path == Path::new("/usr/bin/python3");
        let path = OsStr::new("/usr/local/bin:/usr/bin");
        assert_eq!(path_with(Path::new("/usr/bin"), path, has_python), path);
        assert_eq!(
            path_with(Path::new("/srv/venv/bin"), path, has_python),
            "/srv/venv/bin:/usr/local/bin:/usr/bin"
        );
    }
}
