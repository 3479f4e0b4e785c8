//! The number of workers.
use super::*;

fn finish(session: &Session, workers: &[u32]) -> Vec<Action> {
    workers.iter().map(|&worker| Action::Finish(session.worker(worker, 0))).collect()
}

#[test]
fn more_workers_get_their_places_before_they_are_forked() {
    let mut session = Session::serving_by(Plan { workers: 1, room: 1024, ..Plan::default() });
    let template = session.pid(Role::Template, 0);
    let fork = |worker| Action::Fork { template, worker, life: 0 };
    let actions = deeds(session.on(Event::Scale { workers: 3 }));
    assert_eq!(actions, [Action::Resize { workers: 3 }, fork(2), fork(3)], "beside each other");
    session.forked(2, 0);
    session.ready(2, 0);
    session.forked(3, 0);
    assert_eq!(notices(&session.ready(3, 0)), [&Notice::Scaled { workers: 3 }]);
}

#[test]
fn fewer_workers_finish_first_and_then_their_places_are_closed_from_the_top() {
    let mut session = Session::serving_by(Plan { workers: 3, room: 1024, ..Plan::default() });
    let actions = session.on(Event::Scale { workers: 1 });
    assert_eq!(actions, finish(&session, &[2, 3]));
    assert_eq!(
        session.exited(Role::Worker(2), 0, DONE),
        [Action::MarkDead { worker: 2, life: 0 }],
        "the third is still there"
    );
    assert_eq!(
        session.exited(Role::Worker(3), 0, DONE)[1..],
        [Action::Resize { workers: 1 }, Action::Say(Notice::Scaled { workers: 1 })]
    );
}

#[test]
fn a_number_that_is_there_already_is_told_at_once() {
    let mut session = Session::serving_by(Plan { workers: 2, room: 1024, ..Plan::default() });
    let actions = session.on(Event::Scale { workers: 2 });
    assert_eq!(actions, [Action::Say(Notice::Scaled { workers: 2 })]);
}

#[test]
fn a_number_out_of_bounds_is_refused_with_the_bounds() {
    let refused = |plan: Plan, workers| {
        let actions = Session::serving_by(plan).on(Event::Scale { workers });
        let [Action::Say(Notice::ScaleRefused { why, .. })] = &actions[..] else { panic!("{actions:?}") };
        why.clone()
    };
    let free = Plan { workers: 2, min: 2, max: 2, room: 9, ..Plan::default() };
    assert!(refused(free.clone(), 0).starts_with("there can be 1 to 9 workers here"));
    refused(free, 10);
    let bound = Plan { workers: 2, min: 2, max: 4, room: 9, ..Plan::default() };
    assert!(refused(bound.clone(), 1).starts_with("there can be 2 to 4 workers here"));
    refused(bound, 5);
}

#[test]
fn a_number_that_changes_again_counts_from_where_it_is() {
    let mut session = Session::serving_by(Plan { workers: 2, room: 1024, ..Plan::default() });
    session.on(Event::Scale { workers: 1 });
    let template = session.pid(Role::Template, 0);
    let actions = session.on(Event::Scale { workers: 2 });
    assert_eq!(actions, [Action::Fork { template, worker: 2, life: 1 }], "beside the one that finishes");
    let old = session.worker(2, 0);
    session.forked(2, 0);
    session.ready(2, 0);
    let actions = session.on(Event::Exited { pid: old, forked: None, ended: DONE });
    assert_eq!(notices(&actions), [&Notice::Scaled { workers: 2 }]);
}

#[test]
fn who_waits_for_workers_that_cannot_live_is_told_once() {
    let mut session = Session::serving_by(Plan { workers: 1, room: 1024, ..Plan::default() });
    session.on(Event::Scale { workers: 2 });
    let mut told = Vec::new();
    for _ in 0..=START_ATTEMPTS {
        session.forked(2, 0);
        told.extend(session.exited(Role::Worker(2), 0, Ended::Signal(11)));
        told.extend(session.pass(Backoff::LONGEST));
    }
    let reason = "worker 2 could not start (SIGSEGV); its reason is in the log above".to_owned();
    let held_up = |notice: &&Notice| matches!(notice, Notice::HeldUp { .. });
    assert_eq!(notices(&told).into_iter().filter(held_up).collect::<Vec<_>>(), [&Notice::HeldUp { reason }]);
    session.forked(2, 0);
    assert_eq!(notices(&session.ready(2, 0)), [&Notice::Scaled { workers: 2 }]);
}

#[test]
fn a_worker_that_is_ordered_when_it_is_not_wanted_any_more_is_killed() {
    let mut session = Session::serving_by(Plan { workers: 1, room: 1024, ..Plan::default() });
    session.on(Event::Scale { workers: 2 });
    assert!(session.on(Event::Scale { workers: 1 }).contains(&Action::Resize { workers: 1 }));
    assert_eq!(deeds(session.forked(2, 0)), [Action::Kill(session.worker(2, 0))]);
    assert_eq!(session.exited(Role::Worker(2), 0, KILLED), [], "it never had a place");
}

/// Lets so many seconds pass in which so many of ten cores of each worker are busy.
fn work(session: &mut Session, seconds: u32, busy: u32) -> Vec<Action> {
    let mut actions = Vec::new();
    for tick in 1..=seconds {
        session.now += SECOND;
        let workers = session.fleet.plan.workers;
        let vitals = |worker| Vitals {
            cores: 10,
            busy,
            tick_ms: 1000 * u64::from(tick),
            ..Vitals::of(session.worker(worker, 0))
        };
        let is_there = |worker: &u32| session.pids.contains_key(&(Role::Worker(*worker), 0));
        let all = (1..=workers).filter(is_there).map(vitals).collect();
        actions.extend(session.on(Event::Looked { all, queue: Queue::default() }));
    }
    actions
}

#[test]
fn the_load_moves_the_number_within_its_bounds() {
    let mut session = Session::serving_by(Plan { workers: 1, min: 1, max: 2, room: 1024, ..Plan::default() });
    let actions = work(&mut session, 5, 10);
    assert!(matches!(notices(&actions)[..], [Notice::Scaling { workers: 2, .. }]), "{actions:?}");
    session.forked(2, 0);
    session.ready(2, 0);
    assert_eq!(work(&mut session, 60, 10), [], "there may not be more");
    let actions = work(&mut session, 70, 0);
    assert!(matches!(notices(&actions)[..], [Notice::Scaling { workers: 1, .. }]), "{actions:?}");
    assert!(actions.contains(&Action::Finish(session.worker(2, 0))));
    session.exited(Role::Worker(2), 0, DONE);
    assert_eq!(work(&mut session, 600, 0), [], "nor fewer");
}

#[test]
fn without_bounds_the_load_moves_nothing() {
    let mut session = Session::serving_by(Plan { workers: 1, min: 1, max: 1, room: 1024, ..Plan::default() });
    assert_eq!(work(&mut session, 60, 10), []);
}
