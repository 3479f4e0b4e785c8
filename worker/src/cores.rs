//! The cores of one worker: which are free, which run, which wait, and the requests that wait for one. Pure bookkeeping,
//! called by the engine; it never enters an application and never switches.
//!
//! ```text
//!          claim            park             wake
//!   Idle ────────► Running ──────► Parked ─────────► Runnable ──┐
//!     ▲               ▲  │ again                        ▲       │ take_runnable
//!     │     release   │  └──────────────────────────────┘       │
//!     └───────────────┴─────────────────────────────────────────┘
//! ```
//! A core may be resumed by a callback that the engine did not start, so `park`, `wake` and `release` are accepted from
//! anywhere and in any order; what comes too late names an old generation and is ignored.
//!
//! Calls that somebody awaits who may hold a core himself have cores of their own, as many again: if they had to wait for a
//! core, requests that hold all of them and await a call each would wait for each other for ever.
use std::collections::VecDeque;

/// One request's claim on a core: its number, and which use of it. A late wake-up can never reach the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoreId {
    /// Number of the core, from 0 (uWSGI `uwsgi.core`).
    pub index: u32,
    generation: u32,
}

impl CoreId {
    /// As one number, for whoever can only hand it back.
    pub fn number(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// What [`CoreId::number`] has given; of any other number, a core that may not exist.
    pub fn of_number(number: u64) -> CoreId {
        CoreId { index: (number >> 32) as u32, generation: number as u32 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Running,
    Parked,
    Runnable,
}

#[derive(Debug)]
struct Core {
    state: State,
    generation: u32,
}

/// A worker's cores, and the requests `R` that wait for one in the order they came.
#[derive(Debug)]
pub struct Cores<R> {
    /// Those of requests, then those of calls.
    cores: Vec<Core>,
    free: Vec<u32>,
    free_for_calls: Vec<u32>,
    runnable: VecDeque<CoreId>,
    waiting: VecDeque<R>,
    waiting_calls: VecDeque<R>,
}

impl<R> Cores<R> {
    /// `count` idle cores, and as many for calls.
    pub fn new(count: u32) -> Self {
        let all = 0..count.saturating_mul(2);
        Cores {
            cores: all.clone().map(|_| Core { state: State::Idle, generation: 0 }).collect(),
            free: (0..count).rev().collect(),
            free_for_calls: (count..all.end).rev().collect(),
            runnable: VecDeque::new(),
            waiting: VecDeque::new(),
            waiting_calls: VecDeque::new(),
        }
    }

    /// Takes a free core, the lowest number first when all are free.
    pub fn claim(&mut self) -> Option<CoreId> {
        let index = self.free.pop()?;
        Some(self.begin(index))
    }

    fn begin(&mut self, index: u32) -> CoreId {
        let core = &mut self.cores[index as usize];
        core.state = State::Running;
        core.generation = core.generation.wrapping_add(1);
        CoreId { index, generation: core.generation }
    }

    /// The request on this core has ended. False if it had before.
    pub fn release(&mut self, id: CoreId) -> bool {
        let Some(core) = self.live(id) else { return false };
        core.state = State::Idle;
        let is_for_calls = id.index as usize >= self.count();
        if is_for_calls { &mut self.free_for_calls } else { &mut self.free }.push(id.index);
        true
    }

    /// The core gives the loop back until somebody wakes it.
    pub fn park(&mut self, id: CoreId) {
        if let Some(core) = self.live(id).filter(|core| core.state == State::Running) {
            core.state = State::Parked;
        }
    }

    /// The core has the loop again, whoever resumed it.
    pub fn run(&mut self, id: CoreId) {
        if let Some(core) = self.live(id) {
            core.state = State::Running;
        }
    }

    /// Puts a parked core on the run queue, once. A core that is running or gone is left alone.
    pub fn wake(&mut self, id: CoreId) {
        if let Some(core) = self.live(id).filter(|core| core.state == State::Parked) {
            core.state = State::Runnable;
            self.runnable.push_back(id);
        }
    }

    /// Gives the loop back for one turn only: parks and wakes at once (uWSGI's `schedule_fix`).
    pub fn again(&mut self, id: CoreId) {
        self.park(id);
        self.wake(id);
    }

    /// The next core to resume; those that were resumed or released meanwhile are passed over.
    pub fn take_runnable(&mut self) -> Option<CoreId> {
        while let Some(id) = self.runnable.pop_front() {
            if let Some(core) = self.live(id).filter(|core| core.state == State::Runnable) {
                core.state = State::Running;
                return Some(id);
            }
        }
        None
    }

    /// How many cores are on the run queue now.
    pub fn runnable(&self) -> usize {
        self.runnable.len()
    }

    /// Whether this claim still holds its core.
    pub fn is_live(&self, id: CoreId) -> bool {
        self.cores
            .get(id.index as usize)
            .is_some_and(|core| core.generation == id.generation && core.state != State::Idle)
    }

    /// Lets a request wait for a core.
    pub fn push_waiting(&mut self, request: R) {
        self.waiting.push_back(request);
    }

    /// Lets a call wait for a core of those that are for calls.
    pub fn push_waiting_call(&mut self, call: R) {
        self.waiting_calls.push_back(call);
    }

    /// The request that has waited longest, with a core for it, if there are both; calls first, for something waits for them.
    pub fn take_waiting(&mut self) -> Option<(CoreId, R)> {
        if !self.waiting_calls.is_empty()
            && let Some(index) = self.free_for_calls.pop()
        {
            let core = self.begin(index);
            return self.waiting_calls.pop_front().map(|call| (core, call));
        }
        if self.waiting.is_empty() {
            return None;
        }
        let core = self.claim()?;
        self.waiting.pop_front().map(|request| (core, request))
    }

    /// Whether [`Cores::take_waiting`] would give something.
    pub fn can_start(&self) -> bool {
        let is_possible = |waiting: &VecDeque<R>, free: &Vec<u32>| !waiting.is_empty() && !free.is_empty();
        is_possible(&self.waiting, &self.free) || is_possible(&self.waiting_calls, &self.free_for_calls)
    }

    /// What waits for a core: the requests in the order they came, then the calls.
    pub fn queue(&self) -> impl Iterator<Item = &R> {
        self.waiting.iter().chain(&self.waiting_calls)
    }

    /// Drops waiting requests that `keep` refuses.
    pub fn retain_waiting(&mut self, keep: impl FnMut(&R) -> bool) {
        self.waiting.retain(keep);
    }

    /// Requests that wait for a core.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Calls that wait for a core.
    pub fn waiting_calls(&self) -> usize {
        self.waiting_calls.len()
    }

    /// Cores that hold a request.
    pub fn busy(&self) -> usize {
        self.count() - self.free.len()
    }

    /// Nothing runs, and nothing waits for a core.
    pub fn is_idle(&self) -> bool {
        let free = self.free.len() + self.free_for_calls.len();
        free == self.cores.len() && self.queue().next().is_none()
    }

    /// Cores for requests.
    pub fn count(&self) -> usize {
        self.cores.len() / 2
    }

    /// All cores, also those for calls: no core has a higher number.
    pub fn all(&self) -> usize {
        self.cores.len()
    }

    fn live(&mut self, id: CoreId) -> Option<&mut Core> {
        let core = self.cores.get_mut(id.index as usize)?;
        (core.generation == id.generation && core.state != State::Idle).then_some(core)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_after_the_last_core_waits_its_turn() {
        let mut cores = Cores::new(1);
        let first = cores.claim().unwrap();
        assert!(cores.claim().is_none());
        cores.push_waiting("a");
        cores.push_waiting("b");
        assert!(cores.take_waiting().is_none() && !cores.can_start());
        assert!(cores.release(first));
        assert!(cores.can_start());
        let (second, request) = cores.take_waiting().unwrap();
        assert_eq!((request, second.index, cores.waiting()), ("a", 0, 1));
        assert!(cores.take_waiting().is_none(), "b still waits");
    }

    #[test]
    fn a_call_waits_for_no_request() {
        let mut cores = Cores::new(1);
        let request = cores.claim().unwrap();
        ["call", "next call"].into_iter().for_each(|call| cores.push_waiting_call(call));
        cores.push_waiting("request");
        assert!(cores.can_start());
        let (core, call) = cores.take_waiting().unwrap();
        assert_eq!((call, core.index, cores.all()), ("call", 1, 2));
        assert_eq!((cores.busy(), cores.count(), cores.waiting_calls()), (1, 1, 1));
        assert!(cores.take_waiting().is_none() && !cores.can_start(), "there is no core left");
        assert!(cores.release(core));
        assert_eq!(cores.take_waiting().map(|(_, call)| call), Some("next call"));
        assert!(cores.release(request));
        assert_eq!(cores.take_waiting().map(|(core, call)| (core.index, call)), Some((0, "request")));
        assert!(!cores.is_idle());
    }

    #[test]
    fn a_late_wake_never_reaches_the_next_request() {
        let mut cores = Cores::<()>::new(1);
        let old = cores.claim().unwrap();
        cores.park(old);
        cores.release(old);
        let new = cores.claim().unwrap();
        cores.park(new);
        cores.wake(old);
        assert_eq!(cores.take_runnable(), None);
        cores.wake(new);
        assert_eq!(cores.take_runnable(), Some(new));
        assert!(!cores.release(old));
        assert!(cores.is_live(new) && !cores.is_live(old));
    }

    #[test]
    fn waking_twice_resumes_once() {
        let mut cores = Cores::<()>::new(2);
        let id = cores.claim().unwrap();
        cores.park(id);
        cores.wake(id);
        cores.wake(id);
        assert_eq!(cores.take_runnable(), Some(id));
        assert_eq!(cores.take_runnable(), None);
    }

    #[test]
    fn a_core_resumed_by_somebody_else_is_not_resumed_again() {
        let mut cores = Cores::<()>::new(1);
        let id = cores.claim().unwrap();
        cores.again(id);
        cores.run(id);
        assert_eq!(cores.take_runnable(), None);
        cores.park(id);
        cores.wake(id);
        assert_eq!(cores.take_runnable(), Some(id));
    }

    #[test]
    fn a_running_core_cannot_be_woken() {
        let mut cores = Cores::<()>::new(1);
        let id = cores.claim().unwrap();
        cores.wake(id);
        assert_eq!((cores.take_runnable(), cores.busy()), (None, 1));
    }

    #[test]
    fn releasing_twice_frees_once() {
        let mut cores = Cores::<()>::new(2);
        let id = cores.claim().unwrap();
        assert!(cores.release(id));
        assert!(!cores.release(id));
        assert_eq!((cores.busy(), cores.count()), (0, 2));
        assert!(cores.claim().is_some() && cores.claim().is_some() && cores.claim().is_none());
    }
}
