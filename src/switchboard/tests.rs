use super::*;
use appliance_worker::signals::Timer;
use std::time::Duration;

const WALL: Wall = Wall { minute: 0, local: 0, rest: Duration::from_secs(60) };

/// The process of a worker in a generation that serves and has little to do.
fn place(worker: u32, generation: u32) -> Place {
    Place { seat: (worker, generation), generation, is_ready: true, load: -10 }
}

fn handling(handlers: &[(u8, Target)]) -> Registry {
    Registry { handlers: handlers.iter().copied().collect(), ..Registry::default() }
}

/// A master of two workers, whose application handles these.
struct Session {
    board: Switchboard,
    places: Vec<Place>,
    now: Instant,
}

impl Session {
    fn new(handlers: &[(u8, Target)]) -> Session {
        let mut session = Session {
            board: Switchboard::default(),
            places: vec![place(1, 0), place(2, 0)],
            now: Instant::now(),
        };
        session.turn();
        for worker in [1, 2] {
            assert!(session.board.on_registry((worker, 0), &handling(handlers)));
        }
        session
    }

    /// One turn of the master's; which worker got which signals.
    fn turn(&mut self) -> Vec<(u32, u8)> {
        self.board.set_places(&self.places, self.now);
        self.board.turn(2, self.now, WALL);
        let mut sent = Vec::new();
        for seat in self.board.called() {
            while let Some(call) = self.board.next_for(seat) {
                sent.push((seat.0, call.number));
                self.board.on_sent(seat);
            }
        }
        sent
    }

    fn raise(&mut self, number: u8) -> Vec<(u32, u8)> {
        self.board.raise(number);
        self.turn()
    }
}

#[test]
fn each_target_gets_what_is_meant_for_it() {
    let mut session = Session::new(&[
        (1, Target::Worker),
        (2, Target::Workers),
        (3, Target::One(2)),
        (4, Target::ActiveWorkers),
        (5, Target::One(9)),
    ]);
    assert_eq!(session.raise(2), [(1, 2), (2, 2)]);
    assert_eq!(session.raise(3), [(2, 3)]);
    assert_eq!(session.raise(4), [(1, 4), (2, 4)]);
    assert_eq!(
        (session.raise(1), session.raise(1), session.raise(1)),
        (vec![(1, 1)], vec![(2, 1)], vec![(1, 1)])
    );
    assert_eq!((session.raise(5), session.raise(77)), (vec![], vec![]), "nobody is there, or handles it");
}

#[test]
fn whoever_has_a_core_to_spare_comes_first() {
    let mut session = Session::new(&[(1, Target::Worker)]);
    session.places[0].load = 3;
    assert_eq!((session.raise(1), session.raise(1)), (vec![(2, 1)], vec![(2, 1)]));
    session.places[1].load = 4;
    assert_eq!(session.raise(1), [(1, 1)]);
}

#[test]
fn what_nobody_is_there_for_is_kept_for_the_successor() {
    let mut session = Session::new(&[(1, Target::Worker), (2, Target::Workers), (4, Target::ActiveWorkers)]);
    session.places[1].is_ready = false;
    assert_eq!(session.raise(2), [(1, 2)]);
    assert_eq!(session.raise(4), [(1, 4)]);
    session.places.clear();
    assert_eq!((session.raise(1), session.raise(2), session.raise(2)), (vec![], vec![], vec![]));
    session.places = vec![Place { seat: (2, 1), ..place(2, 0) }];
    assert!(session.board.on_registry((2, 1), &handling(&[(1, Target::Worker), (2, Target::Workers)])));
    assert_eq!(session.turn(), [(2, 1), (2, 2)]);
    assert_eq!(session.turn(), []);
}

#[test]
fn what_was_not_sent_to_somebody_who_died_goes_elsewhere() {
    let mut session = Session::new(&[(1, Target::Worker)]);
    session.board.set_places(&session.places, session.now);
    session.board.raise(1);
    session.board.turn(2, session.now, WALL);
    assert_eq!(session.board.called(), [(1, 0)]);
    session.places.remove(0);
    assert_eq!(session.turn(), [(2, 1)]);
}

#[test]
fn a_flood_has_a_bound_and_ticks_do_not_pile_up() {
    let mut session = Session::new(&[(1, Target::One(1)), (2, Target::One(1))]);
    session.board.set_places(&session.places, session.now);
    for n in 0..100_000 {
        session.board.raise(1 + n as u8 % 2);
        session.board.tick(1);
    }
    session.board.turn(2, session.now, WALL);
    assert!(session.turn().len() <= MOST_QUEUED + 2);
}

#[test]
fn the_generation_that_serves_has_the_say() {
    let mut session = Session::new(&[(1, Target::Workers), (2, Target::Workers)]);
    session.places.push(Place { is_ready: false, ..place(1, 1) });
    session.turn();
    assert!(session.board.on_registry((1, 1), &handling(&[(1, Target::One(1))])));
    assert_eq!(session.raise(1), [(1, 1), (2, 1)], "it does not serve yet");
    session.places[0].is_ready = false;
    session.places[2].is_ready = true;
    assert_eq!((session.raise(1), session.raise(2)), (vec![(1, 1)], vec![]));
    session.places.truncate(2);
    session.places[0].is_ready = true;
    assert_eq!(session.raise(2), [(1, 2), (2, 2)], "the reload was taken back");
}

#[test]
fn timers_fire_once_however_many_workers_have_registered_them() {
    let mut session = Session::new(&[(1, Target::Worker)]);
    let timer = Timer { signal: 1, every_ms: 1000, times: 0 };
    for worker in [1, 2] {
        let registry = Registry { timers: vec![timer], ..handling(&[(1, Target::Worker)]) };
        assert!(session.board.on_registry((worker, 0), &registry));
    }
    assert_eq!(session.turn(), []);
    session.now += Duration::from_secs(1);
    assert_eq!((session.turn().len(), session.turn().len()), (1, 0));
    assert_eq!(session.board.next_deadline(session.now, WALL), Some(session.now + Duration::from_secs(1)));
}

#[test]
fn nonsense_is_refused() {
    let mut session = Session::new(&[]);
    let timers = vec![Timer { signal: 1, every_ms: 0, times: 0 }];
    assert!(!session.board.on_registry((1, 0), &Registry { timers, ..Registry::default() }));
    assert!(session.board.on_registry((1, 7), &Registry::default()), "it may come later");
    session.places[0].seat = (1, 8);
    session.turn();
    assert!(session.board.early.is_empty(), "or never");
}
