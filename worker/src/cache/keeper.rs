//! Looks after the caches that outlive the appliance (`persist`): loads them where they are opened first, and writes them
//! now and then and when the worker ends, on a thread of its own. Every worker has such a thread; whichever comes first
//! writes, and the others see that it was done.
use super::store::Cache;
use super::{Refusal, now, snapshot};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a cache that has changed is written: what a power cut, or whoever kills the appliance, can take.
const EVERY: Duration = Duration::from_secs(30);
/// How long the end of a worker waits for another one that is writing.
const END: Duration = Duration::from_secs(10);
/// Pause between two looks whether it has written.
const LOOK: Duration = Duration::from_millis(20);

/// The thread.
#[derive(Debug)]
pub struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts it, for those of `caches` that are to be kept; none: no thread.
    pub fn start(caches: &'static [Cache]) -> io::Result<Option<Keeper>> {
        if !caches.iter().any(|cache| cache.settings().persist.is_some()) {
            return Ok(None);
        }
        let (stop, stopped) = channel();
        let keep = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EVERY) {
                caches.iter().for_each(|cache| save(cache, Duration::ZERO));
            }
            caches.iter().for_each(|cache| save(cache, END));
        };
        let thread = thread::Builder::new().name("cache keeper".to_owned()).spawn(keep)?;
        Ok(Some(Keeper { stop, thread }))
    }

    /// Writes what has changed, and ends it.
    pub fn stop(self) {
        drop(self.stop);
        // Its panic is in the log.
        let _ = self.thread.join();
    }
}

/// Writes a cache if it is to be kept and has changed. Waits so long for another process that does.
pub fn save(cache: &Cache, patience: Duration) {
    let Some(path) = &cache.settings().persist else { return };
    if let Err(error) = try_save(cache, path, patience) {
        complain(cache, path, "the last changes end", &error);
    }
}

fn complain(cache: &Cache, path: &Path, what: &str, error: &io::Error) {
    tracing::error!(
        "cache {}: {} cannot be written, so {what} with the appliance: {error}; see cache.{}.persist, which the workers' \
         user must be able to write beside",
        cache.name(),
        path.display(),
        cache.name()
    );
}

fn try_save(cache: &Cache, path: &Path, patience: Duration) -> io::Result<()> {
    let mut done =
        File::options().read(true).write(true).create(true).truncate(false).open(cache.beside("kept"))?;
    let mut waited = Duration::ZERO;
    while done.try_lock().is_err() {
        if waited >= patience {
            return Ok(());
        }
        thread::sleep(LOOK);
        waited += LOOK;
    }
    // Read before the items: what changes meanwhile is written the next time.
    let change = cache.last_change().map_err(io::Error::other)?;
    // With its place, which a reload may change.
    let change = [&change.to_le_bytes()[..], path.as_os_str().as_bytes()].concat();
    let mut kept = Vec::new();
    done.read_to_end(&mut kept)?;
    if kept == change {
        return Ok(());
    }
    write(cache, path)?;
    done.set_len(0)?;
    done.rewind()?;
    done.write_all(&change)
}

fn write(cache: &Cache, path: &Path) -> io::Result<()> {
    let mut writer = snapshot::Writer::create(path)?;
    let (to_calendar, mut failed) = (offset(), Ok(()));
    let now = now();
    let each = cache.each(|key, value, left| {
        let expires =
            left.map_or(0, |left| now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)));
        if failed.is_ok() {
            failed = writer.item(key, value, snapshot::shifted(expires, to_calendar));
        }
    });
    each.map_err(io::Error::other)?;
    failed?;
    writer.finish()
}

/// Fills a cache that nobody has opened before from its file. The caller is alone with it.
pub fn load(cache: &Cache) -> Result<(), Refusal> {
    // One that is to be kept only since a reload has newer contents than the file, and is marked too.
    let mark = cache.beside("loaded");
    if mark.exists() {
        return Ok(());
    }
    if let Some(path) = &cache.settings().persist {
        load_from(cache, path)?;
        if let Err(error) = snapshot::probe(path) {
            complain(cache, path, "the contents end", &error);
        }
    }
    fs::write(mark, "").map_err(super::table::store)
}

fn load_from(cache: &Cache, path: &Path) -> Result<(), Refusal> {
    let from_calendar = offset().saturating_neg();
    let fill = |key: &[u8], value: &[u8], expires| {
        cache.fill(key, value, snapshot::shifted(expires, from_calendar)).map_err(io::Error::other)
    };
    match snapshot::read(path, fill) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let aside = snapshot::put_aside(path);
            let aside = aside.map_or_else(|error| error.to_string(), |aside| aside.display().to_string());
            tracing::error!(
                "cache {}: {} is broken ({error}); it is put aside as {aside}, and the cache begins empty",
                cache.name(),
                path.display()
            );
        }
        Err(error) => {
            let (path, name) = (path.display(), cache.name());
            return Err(Refusal::Store(format!("{path} cannot be read: {error}; see cache.{name}.persist")));
        }
    }
    Ok(())
}

/// What makes a moment of the stores' clock one of the calendar's.
fn offset() -> i64 {
    let calendar = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    i64::try_from(calendar).unwrap_or(i64::MAX).saturating_sub_unsigned(now())
}
