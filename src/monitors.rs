//! Files whose changes raise signals (uWSGI `add_file_monitor`), watched with inotify. Owned by the master. A file that is
//! written is told, and one that is replaced, removed, or comes back; however often in a moment, once. Where the files lie is
//! said by workers: they are watched, never opened.
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// All names are looked up again after this: one may lead to a file that was not there, or, through links, to another one.
const AGAIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Monitors {
    /// Made when the first file is watched.
    inotify: Option<Inotify>,
    files: BTreeMap<String, File>,
    /// When to look them up.
    due: Option<Instant>,
}

#[derive(Debug)]
struct File {
    signals: BTreeSet<u8>,
    /// None while it is not there.
    watch: Option<WatchDescriptor>,
}

fn of_content() -> AddWatchFlags {
    AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE
}

/// Another file may have taken its place. The last link to a file that is still open goes with a change of attributes.
fn of_place() -> AddWatchFlags {
    AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF
}

impl Monitors {
    /// From now on it is these files, each with its signals. An error says why none can be watched.
    pub fn set(&mut self, files: BTreeMap<String, BTreeSet<u8>>, now: Instant) -> Result<(), Errno> {
        if files.is_empty() && self.files.is_empty() {
            return Ok(());
        }
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = match self.inotify.take() {
            Some(inotify) => inotify,
            None => Inotify::init(flags)?,
        };
        let mut before = std::mem::take(&mut self.files);
        for (path, signals) in files {
            let known = before.remove(&path).and_then(|file| file.watch);
            let watch = known.or_else(|| watch(&inotify, &path));
            self.files.insert(path, File { signals, watch });
        }
        for watch in before.into_values().filter_map(|file| file.watch) {
            // Two names of one file have one watch.
            if !self.files.values().any(|file| file.watch == Some(watch)) {
                let _ = inotify.rm_watch(watch);
            }
        }
        self.inotify = Some(inotify);
        self.due = (!self.files.is_empty()).then_some(now + AGAIN);
        Ok(())
    }

    /// Readable when something has happened.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// When to look without that.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The signals of all files that have changed.
    pub fn take(&mut self, now: Instant) -> BTreeSet<u8> {
        let mut told = BTreeSet::new();
        let Some(inotify) = &self.inotify else { return told };
        // What does not fit one read is there in the next turn.
        for event in inotify.read_events().unwrap_or_default() {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                // More has happened than the kernel remembers, so anything may have: also that another file is there now.
                told.extend(self.files.values().flat_map(|file| &file.signals));
                self.due = self.due.map(|_| now);
            }
            let has_moved = event.mask.intersects(of_place() | AddWatchFlags::IN_IGNORED);
            for (path, file) in self.files.iter_mut().filter(|(_, file)| file.watch == Some(event.wd)) {
                told.extend(&file.signals);
                if has_moved {
                    // A name that has moved keeps its watch, and would tell of what it is not any more.
                    let _ = inotify.rm_watch(event.wd);
                    file.watch = watch(inotify, path);
                }
            }
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = Some(now + AGAIN);
            told.extend(self.look_up());
        }
        told
    }

    /// The signals of the names that lead to another file than before.
    fn look_up(&mut self) -> BTreeSet<u8> {
        let mut told = BTreeSet::new();
        let Some(inotify) = &self.inotify else { return told };
        let mut left = Vec::new();
        for (path, file) in &mut self.files {
            let found = watch(inotify, path);
            if found != file.watch {
                told.extend(&file.signals);
                left.extend(std::mem::replace(&mut file.watch, found));
            }
        }
        for watch in left {
            if !self.files.values().any(|file| file.watch == Some(watch)) {
                let _ = inotify.rm_watch(watch);
            }
        }
        told
    }
}

fn watch(inotify: &Inotify, path: &str) -> Option<WatchDescriptor> {
    inotify.add_watch(path, of_content() | of_place()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("monitors-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn file(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn watching(path: &str, now: Instant) -> Monitors {
        let mut monitors = Monitors::default();
        monitors.set(BTreeMap::from([(path.to_owned(), BTreeSet::from([7]))]), now).unwrap();
        monitors
    }

    #[test]
    fn a_file_that_is_written_or_replaced_is_told() {
        let (folder, now) = (Folder::new("written"), Instant::now());
        let (path, other) = (folder.file("watched"), folder.file("other"));
        fs::write(&path, "a").unwrap();
        let mut monitors = watching(&path, now);
        assert!(monitors.take(now).is_empty());
        fs::write(&path, "b").unwrap();
        assert_eq!(monitors.take(now), BTreeSet::from([7]));
        for _ in 0..3 {
            fs::write(&other, "c").unwrap();
            fs::rename(&other, &path).unwrap();
            assert_eq!(monitors.take(now), BTreeSet::from([7]));
            while !monitors.take(now).is_empty() {}
        }
        fs::write(&path, "d").unwrap();
        assert_eq!(monitors.take(now), BTreeSet::from([7]), "the one that is there now is watched");
    }

    #[test]
    fn a_file_that_comes_later_is_found() {
        let (folder, now) = (Folder::new("later"), Instant::now());
        let path = folder.file("watched");
        let mut monitors = watching(&path, now);
        assert_eq!(monitors.next_deadline(), Some(now + AGAIN));
        fs::write(&path, "a").unwrap();
        assert!(monitors.take(now).is_empty());
        assert_eq!(monitors.take(now + AGAIN), BTreeSet::from([7]));
        assert!(monitors.take(now + 2 * AGAIN).is_empty());
    }

    #[test]
    fn more_changes_than_the_kernel_remembers_are_changes_of_everything() {
        let (folder, now) = (Folder::new("flood"), Instant::now());
        let [one, other, late] = ["one", "other", "late"].map(|name| folder.file(name));
        let mut files = [&one, &other].map(|path| fs::File::create(path).unwrap());
        fs::write(&late, "a").unwrap();
        let watched = [(one, 1), (other, 2), (late.clone(), 3)].map(|(path, n)| (path, BTreeSet::from([n])));
        let mut monitors = Monitors::default();
        monitors.set(BTreeMap::from(watched), now).unwrap();
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        for _ in 0..most.trim().parse::<usize>().unwrap() {
            // Equal events that follow each other are one.
            files.iter_mut().for_each(|file| file.write_all(b"!").unwrap());
        }
        fs::write(&late, "b").unwrap();
        let mut told = BTreeSet::new();
        while let found = monitors.take(now)
            && !found.is_empty()
        {
            told.extend(found);
        }
        assert_eq!(told, BTreeSet::from([1, 2, 3]));
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_told() {
        let (folder, now) = (Folder::new("link"), Instant::now());
        let (link, new) = (folder.file("link"), folder.file("new"));
        for name in ["one", "other"] {
            fs::create_dir(folder.file(name)).unwrap();
            fs::write(folder.file(&format!("{name}/watched")), "a").unwrap();
        }
        std::os::unix::fs::symlink("one", &link).unwrap();
        let mut monitors = watching(&format!("{link}/watched"), now);
        std::os::unix::fs::symlink("other", &new).unwrap();
        fs::rename(&new, &link).unwrap();
        assert_eq!(monitors.take(now + AGAIN), BTreeSet::from([7]));
        fs::write(folder.file("one/watched"), "b").unwrap();
        assert!(monitors.take(now + AGAIN).is_empty(), "that is another file now");
        fs::write(folder.file("other/watched"), "b").unwrap();
        assert_eq!(monitors.take(now + AGAIN), BTreeSet::from([7]));
    }

    #[test]
    fn what_is_not_to_be_watched_any_more_is_not_told() {
        let (folder, now) = (Folder::new("ended"), Instant::now());
        let path = folder.file("watched");
        fs::write(&path, "a").unwrap();
        let mut monitors = watching(&path, now);
        monitors.set(BTreeMap::new(), now).unwrap();
        fs::write(&path, "b").unwrap();
        assert!(monitors.take(now).is_empty());
    }
}
