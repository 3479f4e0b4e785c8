use super::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::RawFd;
use std::thread;

/// Waits as a thread does, and looks after the bell as the loop does.
struct Thread<'a>(&'a Locks);

impl Suspend for Thread<'_> {
    fn ready(&self, fd: RawFd, _: Interest, deadline: Option<Instant>) -> io::Result<bool> {
        let pause = deadline.map_or(LOOK_AGAIN, |when| when.saturating_duration_since(Instant::now()));
        crate::reactor::with_fd(fd, |fd| {
            let mut sources = [PollFd::new(fd, PollFlags::POLLIN)];
            let pause = PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX);
            Ok(poll(&mut sources, pause)? > 0)
        })
    }

    fn sleep_until(&self, when: Instant) -> io::Result<()> {
        self.0.on_bell();
        thread::sleep(when.saturating_duration_since(Instant::now()));
        Ok(())
    }
}

/// Two workers.
fn two() -> [Arc<Locks>; 2] {
    let (table, bell) = (Table::create().unwrap(), Bell::new().unwrap());
    [1, 2].map(|worker| {
        let copies = (table.fd().try_clone_to_owned(), bell.as_fd().try_clone_to_owned());
        Arc::new(Locks::open(copies.0.unwrap(), copies.1.unwrap(), Holder::new(worker, 0), 8).unwrap())
    })
}

fn core() -> Owner {
    Owner::Core(crate::cores::Cores::<()>::new(1).claim().unwrap())
}

#[test]
fn only_configured_numbers_are_locks() {
    let [locks, _] = two();
    assert!(locks.numbered(0).is_some() && locks.numbered(8).is_some());
    assert!(
        locks.numbered(-1).is_none() && locks.numbered(9).is_none() && locks.numbered(i64::MAX).is_none()
    );
}

#[test]
fn what_another_worker_holds_cannot_be_unlocked_and_what_nobody_holds_may() {
    let [here, there] = two();
    let place = Place::number(0);
    assert!(here.try_lock(place, Owner::Other) && !there.try_lock(place, Owner::Other));
    assert!(there.is_locked(place));
    assert!(matches!(there.unlock(place), Err(Failed::Foreign(1))));
    here.unlock(place).unwrap();
    here.unlock(place).unwrap();
    assert!(there.try_lock(place, Owner::Other));
}

#[test]
fn a_process_that_was_forked_from_a_worker_is_not_that_worker() {
    let [here, _] = two();
    assert!(here.require_own().is_ok());
    let child = Locks { process: here.process + 1, ..Arc::into_inner(here).unwrap() };
    assert!(matches!(child.require_own(), Err(Failed::Forked)));
}

#[test]
fn a_request_that_would_wait_for_itself_is_told_so() {
    let [here, _] = two();
    let (place, owner) = (Place::number(0), core());
    assert!(here.lock(place, owner, &Thread(&here), None).unwrap());
    assert!(matches!(here.lock(place, owner, &Thread(&here), None), Err(Failed::Held)));
}

#[test]
fn what_a_request_holds_at_its_end_is_freed() {
    let [here, there] = two();
    let Owner::Core(id) = core() else { unreachable!() };
    assert_eq!(here.release_all_of(id), 0);
    assert!(
        here.try_lock(Place::number(1), Owner::Core(id)) && here.try_lock(Place::number(2), Owner::Other)
    );
    assert_eq!(here.release_all_of(id), 1);
    assert!(
        there.try_lock(Place::number(1), Owner::Other) && !there.try_lock(Place::number(2), Owner::Other)
    );
}

#[test]
fn a_wait_has_an_end_and_the_next_one_is_called() {
    let [here, there] = two();
    let place = Place::number(0);
    assert!(there.try_lock(place, Owner::Other));
    let late = Instant::now() + Duration::from_millis(5);
    assert!(!here.lock(place, Owner::Other, &Thread(&here), Some(late)).unwrap());
    assert!(here.state().waiting.is_empty());
    there.unlock(place).unwrap();
    assert!(here.lock(place, Owner::Other, &Thread(&here), Some(late)).unwrap());
}

#[test]
fn there_is_never_more_than_one_holder_and_nobody_is_forgotten() {
    let workers = two();
    let (place, inside) = (Place::number(0), AtomicUsize::new(0));
    let began = Instant::now();
    thread::scope(|scope| {
        for worker in &workers {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        assert!(worker.lock(place, Owner::Other, &Thread(worker), None).unwrap());
                        assert_eq!(inside.fetch_add(1, Relaxed), 0, "two hold it");
                        thread::yield_now();
                        inside.fetch_sub(1, Relaxed);
                        worker.unlock(place).unwrap();
                        // As their loops do when the bell rings.
                        workers.iter().for_each(|worker| worker.on_bell());
                    }
                });
            }
        }
    });
    assert!(workers.iter().all(|worker| !worker.is_locked(place) && worker.state().waiting.is_empty()));
    assert!(began.elapsed() < Duration::from_secs(60), "they waited for the bell in vain");
}
