//! Reloads that change the configuration: when it is in force, who is replaced for it, and what becomes of it on failure.
use super::*;

/// A fleet that serves, and whose next configuration is this.
fn serving(workers: u32, change: impl FnOnce(&mut Next)) -> Session {
    let mut session = Session::serving(workers);
    let Event::Configured(next) = &mut session.configuration else { unreachable!() };
    change(next);
    session
}

fn new_proxy(workers: u32) -> Session {
    serving(workers, |next| next.replaces_proxy = true)
}

impl Session {
    fn proxy_ready(&mut self, generation: u32) -> Vec<Action> {
        let pid = self.pid(Role::Proxy, generation);
        self.on(Event::Ready { pid })
    }
}

#[test]
fn a_refused_configuration_is_the_reason_of_the_failed_reload() {
    let mut session = Session::serving(1);
    session.configuration = Event::Misconfigured { text: "line 3 is wrong".into() };
    let actions = session.on(Event::Reload);
    let failed = Notice::ReloadFailed { text: "line 3 is wrong".into() };
    assert_eq!(notices(&actions), [&Notice::Reloading, &failed]);
    assert_eq!(deeds(actions), [], "not even a template is started");
    assert_eq!(session.fleet.condition(), Condition::Serving);
}

#[test]
fn the_first_new_worker_that_serves_puts_the_configuration_in_force() {
    let mut session = serving(2, |next| {
        next.plan.graceful = GRACEFUL * 2;
        next.waiting = vec!["security.user".into()];
    });
    assert!(!session.on(Event::Reload).contains(&Action::Adopt));
    assert!(!session.loaded(1).contains(&Action::Adopt));
    session.forked(1, 1);
    let actions = session.ready(1, 1);
    let at = |wanted: &Action| actions.iter().position(|action| action == wanted);
    assert!(at(&Action::Adopt) < at(&Action::Finish(session.worker(1, 0))), "{actions:?}");
    session.forked(2, 1);
    assert!(!session.ready(2, 1).contains(&Action::Adopt), "once is enough");
    assert_eq!(deeds(session.pass(GRACEFUL)), [], "the old ones have the new time");
    session.exited(Role::Worker(1), 0, DONE);
    let actions = session.exited(Role::Worker(2), 0, DONE);
    let waiting = vec!["security.user".to_owned()];
    assert_eq!(notices(&actions), [&Notice::Reloaded { generation: 1, waiting }]);
}

#[test]
fn a_failed_reload_forgets_what_it_has_read() {
    let mut session = serving(1, |next| next.plan.workers = 9);
    session.on(Event::Reload);
    assert!(session.load_failed(1, 1).contains(&Action::Abandon));
    session.exited(Role::Template, 1, DONE);
    session.on(Event::Reload);
    session.loaded(2);
    session.forked(1, 2);
    let actions = session.exited(Role::Worker(1), 2, KILLED);
    assert!(actions.contains(&Action::Abandon) && !actions.contains(&Action::Adopt));
}

#[test]
fn a_new_proxy_opens_before_the_first_worker_and_the_old_one_goes_after_it() {
    let mut session = new_proxy(1);
    session.quick_proxy = false;
    session.on(Event::Reload);
    assert_eq!(deeds(session.loaded(1)), [start(Role::Proxy, 1)]);
    let template = session.pid(Role::Template, 1);
    assert_eq!(deeds(session.proxy_ready(1)), [Action::Fork { template, worker: 1, life: 0 }]);
    session.forked(1, 1);
    let old = session.pid(Role::Proxy, 0);
    assert_eq!(deeds(session.ready(1, 1)), [Action::Finish(old), Action::Finish(session.worker(1, 0))]);
    session.exited(Role::Worker(1), 0, DONE);
    assert_eq!(session.fleet.condition(), Condition::Reloading, "the old proxy finishes its requests");
    session.exited(Role::Proxy, 0, DONE);
    assert_eq!(session.fleet.condition(), Condition::Serving);
    session.pass(SECOND);
    let actions = deeds(session.exited(Role::Proxy, 1, KILLED));
    assert_eq!(actions, [start(Role::Proxy, 1)], "from now on it is the proxy");
}

#[test]
fn a_reload_without_a_reason_keeps_the_proxy() {
    let mut session = new_proxy(1);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    session.ready(1, 1);
    session.exited(Role::Worker(1), 0, DONE);
    session.exited(Role::Proxy, 0, DONE);
    let Event::Configured(next) = &mut session.configuration else { unreachable!() };
    next.replaces_proxy = false;
    session.on(Event::Reload);
    let template = session.pid(Role::Template, 2);
    assert_eq!(deeds(session.loaded(2)), [Action::Fork { template, worker: 1, life: 0 }]);
}

#[test]
fn a_proxy_that_cannot_start_ends_the_reload_and_the_old_one_stays() {
    for too_slow in [false, true] {
        let mut session = new_proxy(1);
        session.quick_proxy = false;
        session.on(Event::Reload);
        session.loaded(1);
        let proxy = session.pid(Role::Proxy, 1);
        if too_slow {
            assert_eq!(deeds(session.pass(BOOT)), [Action::Kill(proxy)]);
        }
        let actions = session.exited(Role::Proxy, 1, KILLED);
        let text = "the new proxy ended before it was ready (SIGKILL); its reason is in the log".to_owned();
        assert_eq!(notices(&actions), [&Notice::ReloadFailed { text }]);
        assert!(actions.contains(&Action::Abandon));
        assert_eq!(deeds(actions), [Action::Quit { template: session.pid(Role::Template, 1) }]);
        session.exited(Role::Template, 1, DONE);
        assert_eq!(session.fleet.condition(), Condition::Serving);
    }
}

#[test]
fn a_worker_that_cannot_start_takes_the_new_proxy_back() {
    let mut session = new_proxy(1);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    let actions = deeds(session.exited(Role::Worker(1), 1, KILLED));
    let (proxy, template) = (session.pid(Role::Proxy, 1), session.pid(Role::Template, 1));
    assert_eq!(actions[1..], [Action::Quit { template }, Action::Finish(proxy)]);
    assert_eq!(deeds(session.on(Event::Reload)), [], "the panel has no place for a third proxy");
    session.exited(Role::Template, 1, DONE);
    assert_eq!(deeds(session.exited(Role::Proxy, 1, DONE)), [start(Role::Template, 2)]);
}

#[test]
fn the_old_proxy_is_replaced_as_ever_while_a_new_one_is_tried() {
    let mut session = new_proxy(1);
    session.on(Event::Reload);
    session.loaded(1);
    let actions = deeds(session.exited(Role::Proxy, 0, KILLED));
    assert_eq!(actions, [start(Role::Proxy, 0)], "the reload may still fail");
}

#[test]
fn another_number_of_workers_becomes_the_target() {
    let mut session = serving(2, |next| (next.plan.workers, next.resizes) = (3, true));
    session.on(Event::Reload);
    session.loaded(1);
    let template = session.pid(Role::Template, 1);
    session.forked(1, 1);
    let actions = deeds(session.ready(1, 1));
    assert!(actions.contains(&Action::Fork { template, worker: 3, life: 0 }), "{actions:?}");
    let mut session = serving(2, |next| (next.plan.workers, next.resizes) = (1, true));
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    let actions = deeds(session.ready(1, 1));
    let finish = [2, 1].map(|id| Action::Finish(session.worker(id, 0)));
    assert_eq!(actions, finish);
    session.exited(Role::Worker(1), 0, DONE);
    let actions = session.exited(Role::Worker(2), 0, DONE);
    assert!(matches!(notices(&actions)[..], [Notice::Reloaded { .. }]), "{actions:?}");
}

#[test]
fn a_number_that_stays_in_the_configuration_stays_as_it_was_set_by_hand() {
    let mut session = serving(2, |next| next.plan.workers = 1);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    let template = session.pid(Role::Template, 1);
    let actions = deeds(session.ready(1, 1));
    assert_eq!(
        actions,
        [Action::Finish(session.worker(1, 0)), Action::Fork { template, worker: 2, life: 0 }]
    );
}

#[test]
fn a_worker_of_the_old_generation_that_is_ready_late_proves_nothing() {
    let mut session = Session::serving(2);
    session.exited(Role::Worker(2), 0, KILLED);
    session.forked(2, 0);
    session.on(Event::Reload);
    session.loaded(1);
    assert_eq!(deeds(session.ready(2, 0)), [], "the new application has not served yet");
    session.forked(1, 1);
    session.ready(1, 1);
    session.forked(2, 1);
    assert_eq!(deeds(session.ready(2, 1)), [Action::Finish(session.worker(2, 0))]);
}

/// A reload whose first worker serves and whose second one cannot live.
fn stuck() -> Session {
    let mut session = Session::serving(2);
    session.on(Event::Reload);
    session.loaded(1);
    session.forked(1, 1);
    session.ready(1, 1);
    session.exited(Role::Worker(1), 0, DONE);
    session.forked(2, 1);
    session.exited(Role::Worker(2), 1, KILLED);
    session
}

#[test]
fn mended_code_does_not_wait_for_code_that_cannot_serve() {
    let mut session = stuck();
    assert_eq!(deeds(session.on(Event::Reload)), [start(Role::Template, 2)]);
    session.loaded(2);
    session.forked(1, 2);
    session.ready(1, 2);
    session.exited(Role::Worker(1), 1, DONE);
    session.forked(2, 2);
    assert_eq!(deeds(session.ready(2, 2)), [Action::Finish(session.worker(2, 0))]);
    let actions = session.exited(Role::Worker(2), 0, DONE);
    assert_eq!(notices(&actions), [&Notice::Reloaded { generation: 2, waiting: Vec::new() }]);
    let old = [0, 1].map(|generation| Action::Quit { template: session.pid(Role::Template, generation) });
    assert_eq!(deeds(actions)[1..], old);
}

#[test]
fn a_reload_that_was_to_mend_another_and_fails_lets_that_one_go_on() {
    let mut session = stuck();
    session.on(Event::Reload);
    session.load_failed(2, 1);
    assert_eq!(session.fleet.condition(), Condition::Reloading);
    session.pass(Backoff::FIRST);
    session.forked(2, 1);
    assert_eq!(deeds(session.ready(2, 1)), [Action::Finish(session.worker(2, 0))]);
    let actions = session.exited(Role::Worker(2), 0, DONE);
    assert_eq!(notices(&actions), [&Notice::Reloaded { generation: 1, waiting: Vec::new() }]);
}

#[test]
fn it_serves_when_a_proxy_and_a_worker_are_ready() {
    let mut session = Session::new(1);
    session.quick_proxy = false;
    session.tick();
    session.loaded(0);
    session.forked(1, 0);
    assert_eq!(session.ready(1, 0), []);
    assert_eq!(session.proxy_ready(0), [Action::Say(Notice::Serving)]);
}
