//! `native:static`: the files of one folder. The folder is opened when the application is loaded, and every path is looked up
//! below it by the kernel (`openat2` with `RESOLVE_BENEATH`), so that neither `..` nor a link leads out of it. Names that begin
//! with a dot are not there, but for `.well-known` (RFC 8615). A file `x.br` or `x.gz` beside `x`, not older than it, is sent
//! in its place to whoever accepts that. What a request may have of a file is decided by `conditions`.
use appliance_app::{Request, Response, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open as open_path, openat2};
use nix::sys::stat::Mode;
use std::fs::{File, Metadata};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

mod conditions;
mod paths;
use conditions::{Asked, Grant, Version, decide};
use paths::Place;

/// What is served.
static FOLDER: OnceLock<OwnedFd> = OnceLock::new();

/// The end of the year 9999, since 1970.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// What a folder is shown as.
const INDEX: &str = "index.html";

/// Opens the folder before the workers are forked.
pub(super) fn open(folder: &Path) -> Result<(), String> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open_path(folder, flags, Mode::empty());
    let opened = opened.map_err(|error| {
        format!("native.folder {}: {}; create it, or name another", folder.display(), error.desc())
    })?;
    // Whoever comes second has opened the same one.
    FOLDER.get_or_init(|| opened);
    Ok(())
}

/// A file that can be sent.
struct Found {
    file: File,
    facts: Metadata,
}

/// Opens what lies at a path below the folder, without waiting for whatever it may be.
fn find(path: &str) -> Result<Found, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file: File = openat2(FOLDER.get().ok_or(Errno::ENOENT)?, path, how)?.into();
    let facts = file.metadata().map_err(|_| Errno::EIO)?;
    Ok(Found { file, facts })
}

impl Found {
    fn version(&self) -> Version {
        let nanos = i128::from(self.facts.mtime()) * 1_000_000_000 + i128::from(self.facts.mtime_nsec());
        Version {
            tag: format!("\"{nanos:x}-{:x}\"", self.facts.len()),
            modified: sayable(self.facts.modified().unwrap_or(SystemTime::UNIX_EPOCH)),
            length: self.facts.len(),
        }
    }
}

/// The nearest time that a date of HTTP can say: its year has four digits, and `httpdate` begins with 1970.
fn sayable(time: SystemTime) -> SystemTime {
    time.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LATEST)
}

/// Serves one request.
pub(super) fn serve(request: &mut Request, response: &mut Response) -> Result<()> {
    if !["GET", "HEAD"].contains(&request.method()) {
        response.header("Allow", "GET, HEAD")?;
        return say(response, 405, "only GET and HEAD are possible here");
    }
    let Some(Place { path, is_folder }) = paths::place(request.path()) else {
        return say(response, 404, "there is no such file");
    };
    let found = match find(if path.is_empty() { "." } else { &path }) {
        Ok(found) if found.facts.is_dir() && !is_folder => return send_to_folder(request, response),
        Ok(found) if found.facts.is_dir() => {
            let path = if path.is_empty() { INDEX.to_owned() } else { format!("{path}/{INDEX}") };
            find(&path).map(|found| (path, found))
        }
        Ok(_) if is_folder => Err(Errno::ENOTDIR),
        Ok(found) => Ok((path, found)),
        Err(error) => Err(error),
    };
    match found {
        Ok((path, found)) if found.facts.is_file() => send(request, response, &path, found),
        Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EXDEV | Errno::ELOOP | Errno::ENAMETOOLONG) => {
            say(response, 404, "there is no such file")
        }
        Err(Errno::EACCES | Errno::EPERM) => say(response, 403, "this file may not be read"),
        Err(error) => Err(format!("a file cannot be opened: {}", error.desc()).into()),
    }
}

fn say(response: &mut Response, status: u16, sentence: &str) -> Result<()> {
    response.status(status)?;
    response.header("Content-Type", "text/plain; charset=utf-8")?;
    Ok(response.write_all(format!("{sentence}\n").as_bytes())?)
}

/// A folder has a slash at its end, so that relative links in its page lead into it.
fn send_to_folder(request: &Request, response: &mut Response) -> Result<()> {
    // One slash: two would name another server.
    let path = String::from_utf8_lossy(request.path());
    let mut target = format!("/{}/", path.trim_matches('/'));
    if !request.query().is_empty() {
        target = format!("{target}?{}", String::from_utf8_lossy(request.query()));
    }
    response.header("Location", target)?;
    say(response, 301, "this is a folder")
}

/// Chooses a variant of a file and sends what the request may have of it.
fn send(request: &Request, response: &mut Response, path: &str, plain: Found) -> Result<()> {
    let accepts = request.header("Accept-Encoding").unwrap_or_default();
    let mut variants = Vec::new();
    for (coding, ending) in [("br", ".br"), ("gzip", ".gz")] {
        let found = find(&format!("{path}{ending}")).ok();
        variants.extend(found.filter(|found| stands_for(found, &plain)).map(|found| (coding, found)));
    }
    if !variants.is_empty() {
        response.header("Vary", "Accept-Encoding")?;
    }
    let chosen = variants.into_iter().find(|(coding, _)| paths::accepts(accepts, coding));
    let (coding, found) = chosen.map_or((None, plain), |(coding, found)| (Some(coding), found));
    let version = found.version();
    response.header("ETag", &version.tag)?;
    response.header("Last-Modified", httpdate::fmt_http_date(version.modified))?;
    response.header("Accept-Ranges", "bytes")?;
    // A range is for GET only (RFC 9110 section 14.2).
    let may_ask = |name: &str| name != "Range" || request.method() == "GET";
    let header = |name: &str| request.header(name).filter(|_| may_ask(name));
    let grant = decide(&Asked::of(header), &version);
    if matches!(grant, Grant::Whole | Grant::Part { .. }) {
        response.header("Content-Type", paths::kind(path))?;
        coding.map_or(Ok(()), |coding| response.header("Content-Encoding", coding))?;
    }
    give(request, response, &found.file, grant, version.length)
}

/// Whether a file that is compressed stands for another one.
fn stands_for(found: &Found, plain: &Found) -> bool {
    let is_newer = found.facts.modified().ok() >= plain.facts.modified().ok();
    found.facts.is_file() && is_newer
}

fn give(request: &Request, response: &mut Response, file: &File, grant: Grant, length: u64) -> Result<()> {
    let (start, count) = match grant {
        Grant::Unchanged => return Ok(response.status(304)?),
        Grant::Failed => return say(response, 412, "the file has changed"),
        Grant::Unsatisfiable => {
            response.header("Content-Range", format!("bytes */{length}"))?;
            return say(response, 416, "the file is shorter");
        }
        Grant::Whole => (0, length),
        Grant::Part { first, last } => {
            response.status(206)?;
            response.header("Content-Range", format!("bytes {first}-{last}/{length}"))?;
            (first, last - first + 1)
        }
    };
    response.header("Content-Length", count.to_string())?;
    if request.method() == "HEAD" {
        return Ok(());
    }
    Ok(response.send_file(file, start, count)?)
}
