//! What `appliance status` prints.
use super::*;
use crate::fleet::{Event, Plan};
use crate::mode::Modes;

const LIMITS: Limits =
    Limits { workers: 2, cores: 10, waiting: 100, stall: Duration::from_secs(2), connections: 50, queue: 5 };

/// A fleet of two, of whom worker 1 has been forked and worker 2 has not been seen yet.
fn fleet(now: Instant) -> Fleet {
    let (boot, graceful) = (Duration::from_secs(9), Duration::from_secs(9));
    let plan = Plan { workers: 2, boot, graceful, ..Plan::default() };
    let mut fleet = Fleet::new(plan);
    let pid = Pid::from_raw;
    for event in [
        Event::Tick,
        Event::Started { role: Role::Template, generation: 0, pid: pid(2) },
        Event::Loaded { pid: pid(2), line: String::new() },
        Event::Started { role: Role::Proxy, generation: 0, pid: pid(3) },
        Event::Ready { pid: pid(3) },
        Event::Forked { worker: 1, generation: 0, life: 0, pid: pid(4) },
    ] {
        fleet.on(event, now);
    }
    fleet
}

fn status(fleet: &Fleet, slot: &Slot) -> Status {
    status_with(fleet, slot, &Pulse::default())
}

fn status_with(fleet: &Fleet, slot: &Slot, pulse: &Pulse) -> Status {
    let since = fleet.children()[0].since;
    let now = since + Duration::from_secs(9);
    let sources = Sources { slot: |_, _| slot, pulse: |_| pulse, now, now_ms: 10_000 };
    Status::compose(Master::default(), fleet, LIMITS, sources)
}

#[test]
fn every_worker_is_told_of_whether_it_is_there_or_not() {
    let now = Instant::now();
    let mut fleet = fleet(now);
    let slot = Slot::default();
    let told = status(&fleet, &slot);
    let process = |pid| Process { pid, generation: 0, state: "ready".into(), age: 9 };
    assert_eq!(told.template, [process(2)]);
    assert_eq!(told.proxy, [Proxy { process: process(3), ..Proxy::default() }]);
    let of = |told: &Status| -> Vec<(u32, Option<i32>, String)> {
        told.workers.iter().map(|worker| (worker.id, worker.pid, worker.state.clone())).collect()
    };
    assert_eq!(of(&told), [(1, Some(4), "booting".into()), (2, None, "booting".into())]);
    fleet.on(Event::Ready { pid: Pid::from_raw(4) }, now);
    let template = Pid::from_raw(2);
    fleet.on(Event::ForkFailed { template, worker: 2, text: "no memory".into() }, now);
    assert_eq!(of(&status(&fleet, &slot)), [(1, Some(4), "ready".into()), (2, None, "dead".into())]);
}

#[test]
fn numbers_are_those_of_the_process_and_within_their_limits() {
    let fleet = fleet(Instant::now());
    let slot = Slot::default();
    slot.claim(4, 0, 10);
    slot.busy.store(u32::MAX, Relaxed);
    slot.waiting.store(7, Relaxed);
    slot.requests.store(12, Relaxed);
    let worker = &status(&fleet, &slot).workers[0];
    assert_eq!((worker.cores, worker.waiting, worker.requests), (Cores { busy: 10, total: 10 }, 7, 12));
    slot.pid.store(99, Relaxed);
    let worker = &status(&fleet, &slot).workers[0];
    assert_eq!((worker.cores.busy, worker.requests), (0, 0), "those were its predecessor's");
}

#[test]
fn a_proxy_tells_of_its_queue_and_everybody_when_they_last_had_a_turn() {
    let fleet = fleet(Instant::now());
    let (slot, pulse) = (Slot::default(), Pulse::default());
    let told = status_with(&fleet, &slot, &pulse);
    assert_eq!((told.proxy[0].tick_age_ms, told.workers[0].tick_age_ms), (None, None));
    pulse.claim(3);
    slot.claim(4, 0, 10);
    pulse.queued.store(u32::MAX, Relaxed);
    pulse.connections.store(7, Relaxed);
    pulse.tick_ms.store(9_400, Relaxed);
    slot.tick_ms.store(10_001, Relaxed);
    let told = status_with(&fleet, &slot, &pulse);
    let proxy = &told.proxy[0];
    assert_eq!((proxy.queued, proxy.connections, proxy.tick_age_ms), (5, 7, Some(600)));
    assert_eq!(told.workers[0].tick_age_ms, Some(0));
}

#[test]
fn what_another_release_does_not_tell_counts_as_nothing() {
    let text = r#"{"master":{"pid":5,"more":1},"proxy":[{"pid":6}],"workers":[{"id":1}]}"#;
    let told: Status = serde_json::from_str(text).unwrap();
    assert_eq!((told.master.pid, told.proxy[0].process.pid, told.workers[0].requests), (5, 6, 0));
}

#[test]
fn the_master_says_what_it_is_at() {
    let now = Instant::now();
    let mut fleet = fleet(now);
    let state = |fleet: &Fleet| {
        let later = now + Duration::from_secs(5);
        let mut modes = Modes::default();
        modes.leave(now + Duration::from_secs(2));
        let master = Master::of(Pid::from_raw(1), fleet, modes.current(later), now, later, &[]);
        assert_eq!((master.uptime, &*master.mode, master.mode_seconds), (5, "leaving", Some(3)));
        master.state
    };
    assert_eq!(state(&fleet), "starting");
    fleet.on(Event::Ready { pid: Pid::from_raw(4) }, now);
    assert_eq!(state(&fleet), "serving");
    fleet.on(Event::Reload, now);
    assert_eq!(state(&fleet), "reloading");
    fleet.on(Event::StopNow, now);
    assert_eq!(state(&fleet), "stopping");
}
