//! Until when the request on each core must have ended: by `timeouts.request`, and by what it has allowed itself
//! (`uwsgi.set_user_harakiri`). A deadline that has passed is due once and then again after a pause, because an application may
//! swallow what it is told. Pure bookkeeping, called by the engine, which keeps the only timer.
use crate::cores::CoreId;
use std::time::{Duration, Instant};

/// A request that goes on although it was told to end is told again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The limits of one request.
#[derive(Clone, Copy, Debug)]
struct Limits {
    core: CoreId,
    general: Option<Instant>,
    own: Option<Instant>,
}

impl Limits {
    fn nearest(&self) -> Option<Instant> {
        self.general.into_iter().chain(self.own).min()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Deadlines(Vec<Option<Limits>>);

impl Deadlines {
    /// No deadlines, for so many cores.
    pub fn new(cores: u32) -> Deadlines {
        Deadlines(vec![None; cores as usize])
    }

    /// The limit that every request has, for the one that was just given this core.
    pub fn set(&mut self, core: CoreId, general: Instant) {
        self.0[core.index as usize] = Some(Limits { core, general: Some(general), own: None });
    }

    /// The limit that a request has set for itself, beside the other; `None` takes it back.
    pub fn set_own(&mut self, core: CoreId, own: Option<Instant>) {
        match &mut self.0[core.index as usize] {
            Some(limits) if limits.core == core => limits.own = own,
            place => *place = own.map(|_| Limits { core, general: None, own }),
        }
    }

    /// The request has ended.
    pub fn forget(&mut self, core: CoreId) {
        self.0[core.index as usize] = None;
    }

    /// The nearest deadline of all.
    pub fn nearest(&self) -> Option<Instant> {
        self.0.iter().flatten().filter_map(Limits::nearest).min()
    }

    /// The cores whose deadline has passed.
    pub fn due(&self, now: Instant) -> Vec<CoreId> {
        let is_due = |limits: &&Limits| limits.nearest().is_some_and(|when| when <= now);
        self.0.iter().flatten().filter(is_due).map(|limits| limits.core).collect()
    }

    /// Whether the deadline of this core has passed; if so, it is due again after a pause.
    pub fn take_due(&mut self, core: CoreId, now: Instant) -> bool {
        let limits = self.0[core.index as usize].as_mut().filter(|limits| limits.core == core);
        let Some(limits) = limits else { return false };
        let mut is_due = false;
        for when in limits.general.iter_mut().chain(&mut limits.own).filter(|when| **when <= now) {
            *when = now + AGAIN;
            is_due = true;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cores::Cores;

    fn three() -> (Deadlines, Instant, [CoreId; 3]) {
        let mut cores = Cores::<()>::new(3);
        (Deadlines::new(3), Instant::now(), std::array::from_fn(|_| cores.claim().unwrap()))
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_request_is_due_by_itself_and_again_after_a_pause() {
        let (mut deadlines, t, [a, b, c]) = three();
        deadlines.set(a, t + after(2));
        deadlines.set(b, t + after(3));
        assert_eq!((deadlines.nearest(), deadlines.due(t)), (Some(t + after(2)), Vec::new()));
        assert_eq!(deadlines.due(t + after(2)), [a]);
        assert!(deadlines.take_due(a, t + after(2)) && !deadlines.take_due(a, t + after(2)));
        assert!(!deadlines.take_due(b, t + after(2)) && !deadlines.take_due(c, t + after(2)));
        assert_eq!(deadlines.due(t + after(3)), [a, b]);
        deadlines.forget(a);
        assert_eq!(deadlines.due(t + after(3)), [b]);
    }

    #[test]
    fn a_limit_of_its_own_stands_beside_the_general_one() {
        let (mut deadlines, t, [a, b, _]) = three();
        deadlines.set(a, t + after(5));
        deadlines.set_own(a, Some(t + after(9)));
        assert_eq!(deadlines.nearest(), Some(t + after(5)), "it cannot be longer");
        deadlines.set_own(a, Some(t + after(1)));
        deadlines.set_own(b, Some(t + after(2)));
        assert_eq!(deadlines.due(t + after(2)), [a, b]);
        deadlines.set_own(a, None);
        deadlines.set_own(b, None);
        assert_eq!((deadlines.due(t + after(2)), deadlines.nearest()), (Vec::new(), Some(t + after(5))));
    }

    #[test]
    fn what_was_set_for_the_request_before_is_not_the_next_ones() {
        let mut cores = Cores::<()>::new(1);
        let (mut deadlines, t) = (Deadlines::new(1), Instant::now());
        let old = cores.claim().unwrap();
        deadlines.set(old, t);
        cores.release(old);
        let new = cores.claim().unwrap();
        assert!(!deadlines.take_due(new, t));
        deadlines.set_own(new, None);
        assert_eq!(deadlines.nearest(), None);
    }
}
