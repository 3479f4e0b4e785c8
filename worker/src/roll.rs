//! The roll: which request is on which core, whether the loop works or waits, and when the next request is overdue, readable
//! from any thread, also while the loop is stuck in application code. The engine writes it, at a cost of some ten nanoseconds
//! for each request; the watch thread and a host's own threads read it. Nothing in it decides anything.
use crate::app::Request;
use crate::cores::CoreId;
use crate::report::RequestReport;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a target or an id that are kept.
const MOST_TEXT: usize = 256;
/// How long the loop may take to say which requests wait for a core.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is known of one request.
#[derive(Debug)]
struct Brief {
    id: Vec<u8>,
    method: Vec<u8>,
    target: Vec<u8>,
    client: Vec<u8>,
    arrived: Instant,
    entered: Instant,
}

#[derive(Debug)]
struct Entry {
    /// A request is on the core.
    is_live: AtomicBool,
    /// By which its host knows the request.
    mark: AtomicU64,
    /// Kept from request to request, so that its buffers are used again.
    brief: Mutex<Brief>,
}

/// See the module.
#[derive(Debug)]
pub struct Roll {
    entries: Box<[Entry]>,
    /// Requests run on threads: more than one at once.
    has_threads: bool,
    /// Counts the loop's waits for events, begun and ended: even while it waits.
    beat: AtomicU64,
    /// The core that has the loop, counted from 1; 0: none.
    running: AtomicU32,
    /// When the next request is overdue, in microseconds after `base`; 0: never.
    due: AtomicU64,
    base: Instant,
    /// Somebody wants to know which requests wait for a core.
    is_asked: AtomicBool,
    queued: Mutex<Option<Vec<RequestReport>>>,
    bell: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic happens under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MOST_TEXT)]).into_owned()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Brief {
    fn new(now: Instant) -> Brief {
        let [id, method, target, client] = [const { Vec::new() }; 4];
        Brief { id, method, target, client, arrived: now, entered: now }
    }

    fn note(&mut self, request: &Request, entered: Instant) {
        let head = &request.received.head;
        let put = |into: &mut Vec<u8>, bytes: &[u8]| {
            into.clear();
            into.extend_from_slice(&bytes[..bytes.len().min(MOST_TEXT)]);
        };
        put(&mut self.id, head.request_id().unwrap_or_default());
        put(&mut self.method, head.method().as_bytes());
        put(&mut self.target, head.target());
        put(&mut self.client, request.client());
        (self.arrived, self.entered) = (request.arrived, entered);
    }

    fn report(&self, core: Option<u32>, state: &str, now: Instant) -> RequestReport {
        RequestReport {
            id: text(&self.id),
            method: text(&self.method),
            target: text(&self.target),
            client: text(&self.client),
            core,
            age_ms: millis(now.saturating_duration_since(self.arrived)),
            state: state.to_owned(),
        }
    }

    fn describe(&self, core: usize) -> String {
        let id = if self.id.is_empty() { "-".to_owned() } else { text(&self.id) };
        format!("{} {} (core {core}, request {id})", text(&self.method), text(&self.target))
    }
}

impl Roll {
    /// Of a worker with so many cores, which begins to work now. `has_threads`: several requests run at once.
    pub fn new(cores: u32, has_threads: bool, now: Instant) -> Roll {
        let entry = |_| Entry {
            is_live: AtomicBool::new(false),
            mark: AtomicU64::new(0),
            brief: Mutex::new(Brief::new(now)),
        };
        Roll {
            entries: (0..cores).map(entry).collect(),
            has_threads,
            beat: AtomicU64::new(1),
            running: AtomicU32::new(0),
            due: AtomicU64::new(0),
            base: now,
            is_asked: AtomicBool::new(false),
            queued: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    /// The loop begins to wait for events, or has ended that. On its thread only, as all that follows up to
    /// [`Roll::set_mark`].
    pub fn turn_over(&self) {
        self.beat.store(self.beat.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// A core is entered with a request.
    pub fn enter(&self, core: CoreId, request: &Request, now: Instant) {
        let entry = &self.entries[core.index as usize];
        lock(&entry.brief).note(request, now);
        entry.mark.store(0, Relaxed);
        entry.is_live.store(true, Relaxed);
    }

    /// The request on a core has ended.
    pub fn leave(&self, core: CoreId) {
        self.entries[core.index as usize].is_live.store(false, Relaxed);
        if self.running.load(Relaxed) == core.index + 1 {
            self.set_running(None);
        }
    }

    /// A core has the loop now; `None`: the loop has.
    pub fn set_running(&self, core: Option<CoreId>) {
        self.running.store(core.map_or(0, |core| core.index + 1), Relaxed);
    }

    /// When the next request is overdue.
    pub fn set_due(&self, when: Option<Instant>) {
        let micros = |when: Instant| when.saturating_duration_since(self.base).as_micros();
        self.due
            .store(when.map_or(0, |when| u64::try_from(micros(when)).unwrap_or(u64::MAX).max(1)), Relaxed);
    }

    /// Whether [`Roll::requests`] waits for [`Roll::answer`].
    pub fn take_asked(&self) -> bool {
        self.is_asked.load(Relaxed) && self.is_asked.swap(false, Relaxed)
    }

    /// Says which requests wait for a core.
    pub fn answer<'a>(&self, waiting: impl Iterator<Item = &'a Request>, now: Instant) {
        let report = |request: &Request| {
            let mut brief = Brief::new(now);
            brief.note(request, now);
            brief.report(None, "queued", now)
        };
        *lock(&self.queued) = Some(waiting.map(report).collect());
        self.bell.notify_all();
    }

    /// Notes by what the host knows the request on this core, from the thread that serves it.
    pub fn set_mark(&self, core: CoreId, mark: u64) {
        self.entries[core.index as usize].mark.store(mark, Relaxed);
    }

    /// What [`Roll::set_mark`] said, from any thread, as all that follows; 0: nothing yet.
    pub fn mark(&self, core: CoreId) -> u64 {
        self.entries[core.index as usize].mark.load(Relaxed)
    }

    /// The marks of all requests that are on cores, and what the logs call these requests.
    pub fn marks(&self) -> Vec<(u64, String)> {
        let live = self.live().filter(|(_, entry)| entry.mark.load(Relaxed) != 0);
        live.map(|(core, entry)| (entry.mark.load(Relaxed), lock(&entry.brief).describe(core))).collect()
    }

    /// How often the loop has begun or ended to wait for events; even: it waits.
    pub fn beat(&self) -> u64 {
        self.beat.load(Relaxed)
    }

    /// When the next request is overdue.
    pub fn due(&self) -> Option<Instant> {
        Some(self.due.load(Relaxed))
            .filter(|micros| *micros > 0)
            .map(|n| self.base + Duration::from_micros(n))
    }

    /// What the logs call the request on this core, and for how long it has been in the application.
    pub fn describe(&self, core: CoreId, now: Instant) -> (String, Duration) {
        let brief = lock(&self.entries[core.index as usize].brief);
        (brief.describe(core.index as usize), now.saturating_duration_since(brief.entered))
    }

    /// The request that has the loop, as the logs call it.
    pub fn running(&self) -> Option<String> {
        let core = (self.running.load(Relaxed) as usize).checked_sub(1)?;
        self.entries.get(core).map(|entry| lock(&entry.brief).describe(core))
    }

    fn live(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.entries.iter().enumerate().filter(|(_, entry)| entry.is_live.load(Relaxed))
    }

    /// Every request that is on a core or waits for one, the oldest first. `poke` makes the loop look whether it
    /// [is asked](Roll::take_asked); if it does not answer soon, those that wait are left out.
    pub fn requests(&self, poke: impl FnOnce()) -> Vec<RequestReport> {
        *lock(&self.queued) = None;
        self.is_asked.store(true, Relaxed);
        poke();
        let queued = self.bell.wait_timeout_while(lock(&self.queued), PATIENCE, |queued| queued.is_none());
        let mut all = queued.unwrap_or_else(PoisonError::into_inner).0.take().unwrap_or_default();
        let (now, running) = (Instant::now(), self.running.load(Relaxed) as usize);
        all.extend(self.live().map(|(core, entry)| {
            let runs = self.has_threads || running == core + 1;
            let state = if runs { "running" } else { "suspended" };
            lock(&entry.brief).report(u32::try_from(core).ok(), state, now)
        }));
        all.sort_by_key(|report| std::cmp::Reverse(report.age_ms));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::Cores;

    #[test]
    fn requests_are_read_from_another_thread_also_while_the_loop_is_stuck() {
        let now = Instant::now();
        let (roll, mut cores) = (Roll::new(2, false, now), Cores::<()>::new(2));
        let (first, second) = (cores.claim().unwrap(), cores.claim().unwrap());
        for (core, target) in [(first, "/first"), (second, "/second")] {
            roll.enter(core, &Request::example(target, now), now);
        }
        roll.set_running(Some(second));
        let reports = std::thread::scope(|scope| scope.spawn(|| roll.requests(|| {})).join().unwrap());
        let seen: Vec<_> =
            reports.iter().map(|one| (one.target.as_str(), one.core, one.state.as_str())).collect();
        assert_eq!(seen, [("/first", Some(0), "suspended"), ("/second", Some(1), "running")]);
        assert_eq!(roll.running(), Some("GET /second (core 1, request -)".to_owned()));
        roll.leave(first);
        assert_eq!(roll.requests(|| {}).len(), 1);
    }

    #[test]
    fn the_loop_says_which_requests_wait_for_a_core() {
        let now = Instant::now();
        let roll = Roll::new(1, false, now);
        assert!(!roll.take_asked());
        let waiting = [Request::example("/waits", now)];
        let reports = roll.requests(|| {
            assert!(roll.take_asked() && !roll.take_asked());
            roll.answer(waiting.iter(), now);
        });
        assert_eq!((reports[0].target.as_str(), reports[0].core), ("/waits", None));
        assert_eq!(reports[0].state, "queued");
    }

    #[test]
    fn marks_belong_to_the_requests_that_are_there() {
        let now = Instant::now();
        let (roll, mut cores) = (Roll::new(2, false, now), Cores::<()>::new(2));
        let core = cores.claim().unwrap();
        roll.enter(core, &Request::example("/", now), now);
        assert_eq!(roll.marks(), []);
        roll.set_mark(core, 77);
        assert_eq!(roll.marks(), [(77, "GET / (core 0, request -)".to_owned())]);
        roll.leave(core);
        assert_eq!(roll.marks(), []);
    }

    #[test]
    fn the_next_deadline_is_published() {
        let now = Instant::now();
        let roll = Roll::new(1, false, now);
        assert_eq!(roll.due(), None);
        roll.set_due(Some(now + Duration::from_millis(5)));
        assert_eq!(roll.due(), Some(now + Duration::from_millis(5)));
        roll.set_due(None);
        assert_eq!(roll.due(), None);
    }
}
