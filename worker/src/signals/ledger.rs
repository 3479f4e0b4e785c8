//! Signals in a worker: what its application has registered, what it raises, and what comes to it. Usable from any thread. It is
//! made in the template, where applications register at import, and every worker has its copy, which it connects with its
//! master.
//!
//! Nothing here waits for the master: what it does not take now, it is told later ([`Ledger::tend`]), equal signals as one. In
//! a worker the handler of a signal runs once at a time; what comes meanwhile waits, up to a bound, above which equal ones are
//! one. A tick of a timer does not wait behind another one.
use super::Registry;
use crate::bell::Bell;
use crate::errand::Errand;
use crate::inbox::Remote;
use crate::line::Line;
use crate::report::{Call, News};
use crate::suspend::Suspend;
use mio::Interest;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Signals of one number that wait in a worker for those before them.
const MOST_WAITING: u32 = 100;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    registry: Registry,
    /// The master does not know all of it.
    is_news: bool,
    /// Raised, and the master does not know it.
    unsaid: BTreeSet<u8>,
    gates: BTreeMap<u8, Gate>,
    waiters: Vec<Arc<Waiter>>,
    way: Option<(Arc<Line>, Remote)>,
}

/// What there is of a signal in this worker.
#[derive(Debug, Default)]
struct Gate {
    /// An errand for it is on its way, or its handler runs.
    is_busy: bool,
    waiting: u32,
}

/// Somebody waits for a signal.
#[derive(Debug)]
struct Waiter {
    only: Option<u8>,
    bell: Bell,
    got: Mutex<Option<u8>>,
}

impl Waiter {
    fn got(&self) -> MutexGuard<'_, Option<u8>> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A signal that is to be handled, on its way to a core. When it is dropped the next of its number may come; one that was
/// never begun comes again.
#[derive(Debug)]
pub struct Ticket {
    number: u8,
    is_begun: bool,
    ledger: Arc<Ledger>,
}

impl Ticket {
    /// Of the signal.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its handler is about to run.
    pub fn begin(&mut self) {
        self.is_begun = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ledger.on_over(self.number, self.is_begun);
    }
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers something. An error is a sentence, and nothing has changed.
    pub fn register(&self, change: impl FnOnce(&mut Registry) -> Result<(), String>) -> Result<(), String> {
        let mut state = self.state();
        let mut registry = state.registry.clone();
        change(&mut registry)?;
        if registry != state.registry {
            (state.registry, state.is_news) = (registry, true);
            tell(&mut state);
        }
        Ok(())
    }

    /// Whether a signal has a handler in this process.
    pub fn is_registered(&self, number: u8) -> bool {
        self.state().registry.handlers.contains_key(&number)
    }

    /// The first number that nobody uses.
    pub fn free_number(&self) -> Option<u8> {
        let state = self.state();
        (0..=u8::MAX).find(|number| !state.registry.handlers.contains_key(number))
    }

    /// This process is a worker: from now on the master is told what there is, and its loop gets what comes.
    pub fn connect(&self, line: Arc<Line>, remote: Remote) {
        let mut state = self.state();
        state.way = Some((line, remote));
        tell(&mut state);
    }

    /// Raises a signal; false where there is no master to hear it.
    pub fn raise(&self, number: u8) -> bool {
        let mut state = self.state();
        if state.way.is_none() {
            return false;
        }
        tell(&mut state);
        let is_said = state.unsaid.is_empty() && say(&state, &News::Signal(number));
        if !is_said {
            state.unsaid.insert(number);
        }
        true
    }

    /// Tries again what could not be done before. To be called now and then.
    pub fn tend(self: &Arc<Self>) {
        let mut state = self.state();
        tell(&mut state);
        let mut late = Vec::new();
        for (&number, gate) in state.gates.iter_mut().filter(|(_, gate)| !gate.is_busy && gate.waiting > 0) {
            (gate.is_busy, gate.waiting) = (true, gate.waiting - 1);
            late.push(number);
        }
        drop(state);
        late.into_iter().for_each(|number| self.post(number));
    }

    /// The master passes a signal on to this worker.
    pub fn deliver(self: &Arc<Self>, Call { number, is_tick }: Call) {
        let mut state = self.state();
        let is_meant = |waiter: &Arc<Waiter>| waiter.only.is_none_or(|only| only == number);
        for waiter in state.waiters.extract_if(.., |waiter| is_meant(waiter)) {
            *waiter.got() = Some(number);
            waiter.bell.ring();
        }
        if !state.registry.handlers.contains_key(&number) {
            return;
        }
        let gate = state.gates.entry(number).or_default();
        if gate.is_busy {
            let most = if is_tick { 1 } else { MOST_WAITING };
            gate.waiting = gate.waiting.max((gate.waiting + 1).min(most));
            return;
        }
        gate.is_busy = true;
        drop(state);
        self.post(number);
    }

    fn post(self: &Arc<Self>, number: u8) {
        let remote = self.state().way.as_ref().map(|(_, remote)| remote.clone());
        let ticket = Ticket { number, is_begun: false, ledger: Arc::clone(self) };
        // One that is given back is dropped, and comes again.
        let _ = remote.map(|remote| remote.run_errand(Errand::Signal(ticket)));
    }

    fn on_over(self: &Arc<Self>, number: u8, was_begun: bool) {
        let mut state = self.state();
        let gate = state.gates.entry(number).or_default();
        if !was_begun {
            gate.waiting += 1;
        }
        gate.is_busy = was_begun && gate.waiting > 0;
        if gate.is_busy {
            gate.waiting -= 1;
            drop(state);
            self.post(number);
        }
    }

    /// Waits until a signal, or the `only` one that is meant, comes to this worker; its number.
    pub fn wait(&self, only: Option<u8>, suspend: &dyn Suspend) -> io::Result<u8> {
        let waiter = Arc::new(Waiter { only, bell: Bell::new()?, got: Mutex::default() });
        self.state().waiters.push(Arc::clone(&waiter));
        let mut waited = Ok(true);
        while waited.is_ok() {
            if let Some(number) = *waiter.got() {
                return Ok(number);
            }
            waited = suspend.ready(waiter.bell.as_fd().as_raw_fd(), Interest::READABLE, None);
        }
        self.state().waiters.retain(|one| !Arc::ptr_eq(one, &waiter));
        waited.map(|_| 0)
    }
}

/// Tells the master what it does not know, as far as it listens.
fn tell(state: &mut State) {
    if state.way.is_none() {
        return;
    }
    if state.is_news {
        state.is_news = !say(state, &News::Registry(Box::new(state.registry.clone())));
    }
    while let Some(number) = state.unsaid.first().copied().filter(|_| !state.is_news) {
        if !say(state, &News::Signal(number)) {
            return;
        }
        state.unsaid.remove(&number);
    }
}

fn say(state: &State, news: &News) -> bool {
    // A master that is behind is told later; one that is gone, never.
    state.way.as_ref().is_some_and(|(line, _)| line.tell(news).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Inbox;
    use crate::reactor::Reactor;
    use crate::signals::{Target, Timer};
    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
    use std::os::fd::OwnedFd;

    struct Site {
        _reactor: Reactor,
        inbox: Inbox,
        master: OwnedFd,
        ledger: Arc<Ledger>,
    }

    impl Site {
        /// A worker whose application handles signal 7.
        fn new() -> Site {
            let flags = SockFlag::SOCK_CLOEXEC;
            let (master, worker) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
            let reactor = Reactor::new().unwrap();
            let inbox = Inbox::new(reactor.waker().unwrap());
            let ledger = Arc::new(Ledger::default());
            let handled = |registry: &mut Registry| {
                registry.handlers.insert(7, Target::Worker);
                Ok(())
            };
            ledger.register(handled).unwrap();
            ledger.connect(Arc::new(Line::new(worker)), inbox.remote());
            Site { _reactor: reactor, inbox, master, ledger }
        }

        fn heard(&self) -> Option<News> {
            let mut packet = vec![0; 65_536];
            let length = recv(self.master.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT).ok()?;
            News::decode(&packet[..length])?.ok()
        }

        /// Runs what has come to the loop; the numbers of the signals.
        fn run(&self) -> Vec<u8> {
            let run = |errand| {
                let Errand::Signal(mut ticket) = errand else { panic!("{errand:?}") };
                ticket.begin();
                ticket.number()
            };
            self.inbox.take_errands().into_iter().map(run).collect()
        }
    }

    #[test]
    fn the_master_hears_what_was_registered_before_and_after() {
        let site = Site::new();
        let Some(News::Registry(registry)) = site.heard() else { panic!("nothing") };
        assert_eq!(registry.handlers.into_iter().collect::<Vec<_>>(), [(7, Target::Worker)]);
        let timer = Timer { signal: 7, every_ms: 1000, times: 0 };
        site.ledger.register(|registry| registry.add_timer(timer)).unwrap();
        let Some(News::Registry(registry)) = site.heard() else { panic!("nothing") };
        assert_eq!(registry.timers, [timer]);
        site.ledger.register(|registry| registry.add_timer(timer)).unwrap();
        assert!(site.ledger.raise(9));
        assert_eq!(site.heard(), Some(News::Signal(9)), "nothing new was registered");
        assert!(!Ledger::default().raise(9), "there is no master");
    }

    #[test]
    fn what_a_busy_master_does_not_take_is_told_later_and_once() {
        let site = Site::new();
        let mut raised = 0;
        while site.ledger.state().unsaid.is_empty() {
            site.ledger.raise(3);
            raised += 1;
        }
        site.ledger.raise(3);
        site.ledger.raise(4);
        let mut heard = 0;
        while site.heard().is_some() {
            heard += 1;
        }
        assert_eq!(heard, raised, "one of them was the registry, and the last was not taken");
        site.ledger.tend();
        assert_eq!((site.heard(), site.heard()), (Some(News::Signal(3)), Some(News::Signal(4))));
        assert_eq!(site.heard(), None);
    }

    #[test]
    fn a_handler_runs_once_at_a_time_and_as_often_as_it_was_called() {
        let site = Site::new();
        (0..3).for_each(|_| site.ledger.deliver(Call { number: 7, is_tick: false }));
        site.ledger.deliver(Call { number: 8, is_tick: false });
        let runs: Vec<_> = (0..4).map(|_| site.run()).collect();
        assert_eq!(runs, [vec![7], vec![7], vec![7], vec![]], "nothing handles 8");
    }

    #[test]
    fn ticks_do_not_pile_up_and_others_have_a_bound() {
        let site = Site::new();
        (0..9).for_each(|_| site.ledger.deliver(Call { number: 7, is_tick: true }));
        assert_eq!((0..9).map(|_| site.run().len()).sum::<usize>(), 2);
        (0..1000).for_each(|_| site.ledger.deliver(Call { number: 7, is_tick: false }));
        assert_eq!((0..1000).map(|_| site.run().len()).sum::<usize>(), 1 + MOST_WAITING as usize);
    }

    #[test]
    fn one_that_was_given_up_comes_again() {
        let site = Site::new();
        site.ledger.deliver(Call { number: 7, is_tick: false });
        drop(site.inbox.take_errands());
        assert!(site.run().is_empty());
        site.ledger.tend();
        assert_eq!(site.run(), [7]);
        site.ledger.tend();
        assert!(site.run().is_empty());
    }
}
