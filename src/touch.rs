//! `workers.touch_reload`: paths whose modification time is looked at once a second; one that appears, vanishes or changes
//! asks for a reload. Owned by the master. It looks, and says what differs; what follows is decided by `fleet.rs`.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A person or a script has touched a file; nobody notices a second.
const EVERY: Duration = Duration::from_secs(1);

/// The watched paths as they were last seen.
#[derive(Debug, Default)]
pub struct Touch {
    seen: Vec<(PathBuf, Option<SystemTime>)>,
    due: Option<Instant>,
}

impl Touch {
    /// Watches these paths from now on. What is watched already keeps what was seen of it; whoever is missing is named.
    pub fn watch(&mut self, paths: &[PathBuf], now: Instant) {
        let before = std::mem::take(&mut self.seen);
        for path in paths {
            let known = before.iter().find(|(known, _)| known == path);
            let (path, seen) = known.cloned().unwrap_or_else(|| {
                let seen = modified(path);
                if seen.is_none() {
                    tracing::warn!(
                        path = %path.display(),
                        "workers.touch_reload: there is no such path; a reload follows when it appears"
                    );
                }
                (path.clone(), seen)
            });
            self.seen.push((path, seen));
        }
        self.due = (!self.seen.is_empty()).then_some(now + EVERY);
    }

    /// When to look again; never if nothing is watched.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Looks, if it is time to; the first path that is not as it was.
    pub fn look(&mut self, now: Instant) -> Option<PathBuf> {
        self.look_with(now, modified)
    }

    fn look_with(&mut self, now: Instant, modified: impl Fn(&Path) -> Option<SystemTime>) -> Option<PathBuf> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = Some(now + EVERY);
        let mut touched = None;
        for (path, seen) in &mut self.seen {
            let found = modified(path);
            if found != *seen {
                *seen = found;
                touched = touched.or_else(|| Some(path.clone()));
            }
        }
        touched
    }
}

/// When what lies there was last modified; a link is followed, for a deployment may turn it elsewhere.
fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    #[test]
    fn a_path_that_appears_changes_or_vanishes_is_told_once() {
        let start = Instant::now();
        let mut touch = Touch::default();
        touch.watch(&["/no/such/a".into(), "/no/such/b".into()], start);
        let files: RefCell<BTreeMap<&str, SystemTime>> = RefCell::default();
        let mut second = 0;
        let mut look = || {
            second += 1;
            let modified = |path: &Path| files.borrow().get(path.to_str().unwrap()).copied();
            touch.look_with(start + EVERY * second, modified)
        };
        assert_eq!(look(), None);
        files.borrow_mut().insert("/no/such/b", SystemTime::UNIX_EPOCH);
        assert_eq!(look(), Some("/no/such/b".into()));
        assert_eq!(look(), None);
        files.borrow_mut().insert("/no/such/b", SystemTime::UNIX_EPOCH + EVERY);
        files.borrow_mut().insert("/no/such/a", SystemTime::UNIX_EPOCH);
        assert_eq!(look(), Some("/no/such/a".into()), "two at once are one reason");
        assert_eq!(look(), None);
        files.borrow_mut().remove("/no/such/b");
        assert_eq!(look(), Some("/no/such/b".into()));
    }

    #[test]
    fn it_looks_once_a_second_and_never_if_there_is_nothing_to_watch() {
        let start = Instant::now();
        let mut touch = Touch::default();
        touch.watch(&[], start);
        assert_eq!(touch.next_deadline(), None);
        touch.watch(&["/no/such/a".into()], start);
        assert_eq!(touch.next_deadline(), Some(start + EVERY));
        let there = |_: &Path| Some(SystemTime::UNIX_EPOCH);
        assert_eq!(touch.look_with(start + EVERY / 2, there), None);
        assert_eq!(touch.look_with(start + EVERY, there), Some("/no/such/a".into()));
    }

    #[test]
    fn a_path_that_stays_in_the_configuration_is_not_forgotten() {
        let start = Instant::now();
        let mut touch = Touch::default();
        touch.watch(&["/no/such/a".into()], start);
        touch.look_with(start + EVERY, |_| Some(SystemTime::UNIX_EPOCH));
        touch.watch(&["/no/such/b".into(), "/no/such/a".into()], start);
        let is_there = |path: &Path| path.ends_with("a").then_some(SystemTime::UNIX_EPOCH);
        assert_eq!(touch.look_with(start + EVERY, is_there), None);
    }
}
