//! Standstills, recycling, crash loops and the time of leave.
use super::*;

const HANG: Duration = Duration::from_secs(5);

impl Session {
    /// Lets so many seconds pass, in each of which the master looks at processes that publish what `vitals` says.
    fn watch(&mut self, seconds: u32, vitals: impl Fn(&Session, u64) -> Vec<Vitals>) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..seconds {
            self.now += SECOND;
            let all = vitals(self, self.seconds() * 1000);
            actions.extend(self.on(Event::Looked { all, queue: Queue::default() }));
        }
        actions
    }

    /// Seconds since the beginning.
    fn seconds(&self) -> u64 {
        (self.now - self.began).as_secs()
    }

    fn vitals(&self, worker: u32, tick_ms: u64) -> Vitals {
        Vitals { tick_ms, ..Vitals::of(self.worker(worker, 0)) }
    }
}

// ---- standstills ----

#[test]
fn a_worker_that_stands_still_is_killed_and_replaced() {
    let mut session = Session::serving_by(Plan { workers: 2, hang: HANG, ..Plan::default() });
    let sick = session.worker(1, 0);
    let look = |session: &Session, tick| vec![session.vitals(1, 7), session.vitals(2, tick)];
    assert_eq!(session.watch(5, look), [], "the first look has seen nothing yet");
    let actions = session.watch(1, look);
    assert_eq!(notices(&actions), [&Notice::Hung { role: Role::Worker(1), pid: sick, stood: HANG }]);
    assert_eq!(deeds(actions), [Action::Kill(sick)]);
    let template = session.pid(Role::Template, 0);
    assert!(deeds(session.exited(Role::Worker(1), 0, KILLED)).contains(&Action::Fork {
        template,
        worker: 1,
        life: 0
    }));
}

#[test]
fn a_machine_that_slept_kills_nobody() {
    let mut session = Session::serving_by(Plan { workers: 1, hang: HANG, ..Plan::default() });
    session.watch(3, |session, tick| vec![session.vitals(1, tick)]);
    session.now += Duration::from_secs(24 * 3600);
    assert_eq!(session.watch(3, |session, _| vec![session.vitals(1, 7)]), []);
}

#[test]
fn time_in_which_everybody_slept_is_nobodys() {
    let mut session = Session::serving(2);
    session.on(Event::Reload);
    session.now += 2 * BOOT;
    assert_eq!(deeds(session.tick()), [], "the template goes on loading");
    session.loaded(1);
    session.forked(1, 1);
    session.ready(1, 1);
    session.now += 2 * GRACEFUL;
    assert_eq!(deeds(session.tick()), [], "the old worker goes on finishing, and the order stands");
    assert!(deeds(session.pass(GRACEFUL)).contains(&Action::Kill(session.worker(1, 0))));
}

#[test]
fn a_proxy_that_stands_still_is_killed_but_has_time_to_start() {
    let mut session = Session::serving_by(Plan { workers: 1, hang: HANG, ..Plan::default() });
    let pid = session.pid(Role::Proxy, 0);
    let proxy = |tick_ms| move |_: &Session, _| vec![Vitals { tick_ms, ..Vitals::of(pid) }];
    assert_eq!(session.watch(30, proxy(0)), []);
    assert_eq!(deeds(session.watch(6, proxy(9000))), [Action::Kill(pid)]);
    assert_eq!(deeds(session.exited(Role::Proxy, 0, KILLED)), [start(Role::Proxy, 0)]);
}

#[test]
fn a_proxy_that_never_has_a_turn_is_killed_when_it_had_time_to_start() {
    let mut session = Session::serving_by(Plan { workers: 1, hang: HANG, ..Plan::default() });
    let pid = session.pid(Role::Proxy, 0);
    let actions = deeds(session.watch(62, |_, _| vec![Vitals::of(pid)]));
    assert_eq!(actions, [Action::Kill(pid)]);
}

#[test]
fn with_no_limit_nobody_stands_still_too_long() {
    let mut session = Session::serving(1);
    assert_eq!(session.watch(100, |session, _| vec![session.vitals(1, 7)]), []);
}

// ---- recycling ----

/// Vitals of workers that have finished so many requests.
fn after(requests: u64, workers: &'static [u32]) -> impl Fn(&Session, u64) -> Vec<Vitals> {
    move |session, tick| {
        workers.iter().map(|&worker| Vitals { requests, ..session.vitals(worker, tick) }).collect()
    }
}

#[test]
fn a_worker_that_has_done_its_requests_serves_until_its_successor_does() {
    let mut session = Session::serving_by(Plan { workers: 2, max_requests: 100, ..Plan::default() });
    let template = session.pid(Role::Template, 0);
    let old = session.worker(1, 0);
    assert_eq!(session.watch(1, after(80, &[1, 2])), []);
    let actions = session.watch(1, after(120, &[1, 2]));
    assert_eq!(
        notices(&actions),
        [&Notice::Retiring { role: Role::Worker(1), pid: old, why: Worn::Requests(120) }]
    );
    assert_eq!(actions[1..], [Action::Fork { template, worker: 1, life: 1 }], "the other place on the board");
    session.forked(1, 0);
    assert_eq!(session.watch(3, after(120, &[2])), [], "one at a time");
    assert_eq!(deeds(session.ready(1, 0)), [Action::Finish(old)]);
    assert_eq!(session.watch(3, after(120, &[2])), [], "until the old one has gone");
    session.on(Event::Exited { pid: old, forked: None, ended: DONE });
    assert!(session.watch(1, after(120, &[2])).contains(&Action::Fork { template, worker: 2, life: 1 }));
}

#[test]
fn a_worker_that_says_it_is_worn_is_replaced_at_once() {
    let mut session = Session::serving_by(Plan { workers: 2, max_requests: 100, ..Plan::default() });
    let [one, two] = [1, 2].map(|worker| session.worker(worker, 0));
    assert_eq!(
        session.on(Event::Worn { pid: one, requests: 50 }),
        [],
        "what it has published says otherwise"
    );
    let actions = session.on(Event::Worn { pid: one, requests: 120 });
    assert!(
        matches!(notices(&actions)[..], [Notice::Retiring { why: Worn::Requests(120), .. }]),
        "{actions:?}"
    );
    assert_eq!(session.on(Event::Worn { pid: two, requests: 120 }), [], "one at a time");
    assert_eq!(session.on(Event::Worn { pid: Pid::from_raw(1), requests: 120 }), [], "nobody");
}

#[test]
fn a_worker_whose_successor_cannot_boot_serves_on() {
    let mut session = Session::serving_by(Plan { workers: 1, max_lifetime: 2 * SECOND, ..Plan::default() });
    let old = session.worker(1, 0);
    session.watch(1, after(0, &[1]));
    for _ in 0..8 {
        session.forked(1, 0);
        let actions = deeds(session.exited(Role::Worker(1), 0, Ended::Code(abi::EXIT_BOOT)));
        assert!(!actions.contains(&Action::Finish(old)), "{actions:?}");
        session.pass(Backoff::LONGEST);
    }
    assert_eq!(session.fleet.condition(), Condition::Serving);
    session.forked(1, 0);
    assert_eq!(deeds(session.ready(1, 0)), [Action::Finish(old)]);
}

#[test]
fn memory_age_and_a_lost_socket_are_reasons_too() {
    let plan = Plan { workers: 1, max_memory: Some(1000), max_lifetime: 9000 * SECOND, ..Plan::default() };
    let mut session = Session::serving_by(plan);
    let why = |actions: Vec<Action>| match notices(&actions)[..] {
        [Notice::Retiring { why, .. }] => Some(*why),
        _ => None,
    };
    let fat = |memory| move |session: &Session, tick| vec![Vitals { memory, ..session.vitals(1, tick) }];
    assert_eq!(why(session.watch(1, fat(Some(1000)))), None);
    assert_eq!(why(session.watch(1, fat(Some(1001)))), Some(Worn::Memory(1001)));
    replace(&mut session);
    assert_eq!(why(session.watch(1, fat(None))), None, "the successor has not been measured");
    session.on(Event::SocketRenewed { worker: 1 });
    assert_eq!(why(session.watch(1, fat(None))), Some(Worn::Socket));
    replace(&mut session);
    session.now += 9000 * SECOND;
    assert!(matches!(why(session.watch(1, fat(None))), Some(Worn::Age(_))));
}

/// The successor of worker 1 comes, and the old one goes.
fn replace(session: &mut Session) {
    let pid = session.worker(1, 0);
    session.forked(1, 0);
    session.ready(1, 0);
    session.on(Event::Exited { pid, forked: None, ended: DONE });
}

#[test]
fn nobody_is_recycled_during_a_reload() {
    let mut session = Session::serving_by(Plan { workers: 1, max_requests: 10, ..Plan::default() });
    session.on(Event::Reload);
    assert_eq!(session.watch(2, after(120, &[1])), []);
}

#[test]
fn a_reload_that_comes_while_a_successor_boots_waits_for_a_place_on_the_board() {
    let mut session = Session::serving_by(Plan { workers: 1, max_requests: 10, ..Plan::default() });
    let old = session.worker(1, 0);
    session.watch(1, after(120, &[1]));
    session.forked(1, 0);
    session.on(Event::Reload);
    assert_eq!(deeds(session.loaded(1)), [], "both places are taken");
    assert_eq!(deeds(session.ready(1, 0)), [Action::Finish(old)]);
    let template = session.pid(Role::Template, 1);
    let actions = session.on(Event::Exited { pid: old, forked: None, ended: DONE });
    assert!(actions.contains(&Action::Fork { template, worker: 1, life: 2 }), "{actions:?}");
}

// ---- crash loops ----

/// Worker 1 boots and dies, so many times, each after the longest wait.
fn crash(session: &mut Session, times: u32) -> Vec<Action> {
    let mut actions = session.exited(Role::Worker(1), 0, KILLED);
    for _ in 0..times {
        session.forked(1, 0);
        actions.extend(session.exited(Role::Worker(1), 0, Ended::Code(abi::EXIT_BOOT)));
        session.pass(Backoff::LONGEST);
    }
    actions
}

#[test]
fn workers_that_crash_again_and_again_are_a_crash_loop_until_one_serves() {
    let mut session = Session::serving(1);
    let actions = crash(&mut session, 4);
    assert!(!notices(&actions).iter().any(|notice| matches!(notice, Notice::CrashLoop { .. })));
    session.forked(1, 0);
    let actions = session.exited(Role::Worker(1), 0, Ended::Code(abi::EXIT_BOOT));
    assert!(notices(&actions).iter().any(|notice| matches!(notice, Notice::CrashLoop { .. })), "{actions:?}");
    assert_eq!(session.fleet.condition(), Condition::CrashLoop);
    let (reason, wait) = session.fleet.crash_loop(session.now).unwrap();
    assert!(reason.contains("worker 1 could not start"), "{reason}");
    assert_eq!(wait, 16 * Backoff::FIRST);
    session.pass(Backoff::LONGEST);
    session.forked(1, 0);
    assert!(notices(&session.ready(1, 0)).contains(&&Notice::Recovered));
    assert_eq!(
        (session.fleet.condition(), session.fleet.crash_loop(session.now)),
        (Condition::Serving, None)
    );
}

#[test]
fn while_somebody_serves_there_is_no_crash_loop() {
    let mut session = Session::serving(2);
    crash(&mut session, 9);
    assert_eq!(session.fleet.condition(), Condition::Serving);
}

#[test]
fn who_is_replaced_at_once_is_no_part_of_a_crash_loop() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    session.forked(1, 0);
    session.ready(1, 0);
    session.exited(Role::Template, 0, KILLED);
    for _ in 0..4 {
        session.load_failed(0, 1);
        session.exited(Role::Template, 0, Ended::Code(1));
        session.pass(SECOND);
    }
    session.pass(SECOND);
    session.loaded(0);
    let actions = session.exited(Role::Worker(1), 0, KILLED);
    assert!(actions.iter().any(|action| matches!(action, Action::Fork { worker: 1, .. })), "{actions:?}");
    assert_eq!(session.fleet.condition(), Condition::Serving);
}

#[test]
fn a_template_that_cannot_load_any_more_is_a_crash_loop_with_its_traceback() {
    let mut session = Session::serving(1);
    session.exited(Role::Worker(1), 0, KILLED);
    session.exited(Role::Template, 0, KILLED);
    for _ in 0..5 {
        session.load_failed(0, 1);
        session.exited(Role::Template, 0, Ended::Code(1));
        session.pass(Backoff::LONGEST);
    }
    assert_eq!(session.fleet.crash_loop(session.now).map(|(reason, _)| reason), Some("no module"));
}

#[test]
fn a_reload_with_good_code_ends_a_crash_loop_at_once() {
    let mut session = Session::serving(1);
    crash(&mut session, 5);
    session.forked(1, 0);
    session.exited(Role::Worker(1), 0, KILLED);
    assert_eq!(session.fleet.condition(), Condition::CrashLoop);
    session.on(Event::Reload);
    let template = session.pid(Role::Template, 1);
    assert_eq!(deeds(session.loaded(1)), [Action::Fork { template, worker: 1, life: 0 }], "no back-off");
    session.forked(1, 1);
    assert!(notices(&session.ready(1, 1)).contains(&&Notice::Recovered));
}

#[test]
fn a_crash_loop_may_end_the_appliance_with_an_error() {
    let mut session = Session::serving_by(Plan { workers: 1, exit_on_crash_loop: true, ..Plan::default() });
    let actions = crash(&mut session, 5);
    assert!(
        matches!(notices(&actions).last(), Some(Notice::Failed { text }) if text.contains("no worker can live"))
    );
    session.exited(Role::Proxy, 0, KILLED);
    assert_eq!(deeds(session.exited(Role::Template, 0, KILLED)), [Action::Exit(abi::EXIT_FAILED)]);
}

// ---- the time of leave ----

#[test]
fn it_serves_on_before_it_stops() {
    let delay = 10 * SECOND;
    let mut session = Session::serving_by(Plan { workers: 1, drain_delay: delay, ..Plan::default() });
    let actions = session.on(Event::Stop);
    assert_eq!(actions, [Action::Say(Notice::Leaving { delay })]);
    assert_eq!(session.fleet.condition(), Condition::Stopping);
    assert_eq!(session.fleet.next_deadline(session.now), Some(session.now + delay));
    assert_eq!(deeds(session.on(Event::Reload)), [], "it is too late for that");
    let template = session.pid(Role::Template, 0);
    let actions = deeds(session.exited(Role::Worker(1), 0, KILLED));
    assert!(actions.contains(&Action::Fork { template, worker: 1, life: 0 }), "it is still replaced");
    assert_eq!(deeds(session.pass(delay)), [Action::Finish(session.pid(Role::Proxy, 0))]);
}

#[test]
fn a_second_signal_in_the_time_of_leave_stops_now() {
    let mut session = Session::serving_by(Plan { workers: 1, drain_delay: 10 * SECOND, ..Plan::default() });
    session.on(Event::Stop);
    session.now += SECOND;
    let actions = session.on(Event::Stop);
    assert_eq!(notices(&actions), [&Notice::Stopping, &Notice::StopNow]);
}
