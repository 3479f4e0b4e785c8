//! Threads that ask the loop, with a loop that answers when a test says so.
use super::*;
use crate::cores::Cores;
use crate::inbox::Inbox;
use crate::reactor::Reactor;
use crate::waits::Waits;
use mio::Interest;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn desk() -> (Reactor, Inbox, Desk) {
    let reactor = Reactor::new().unwrap();
    let inbox = Inbox::new(reactor.waker().unwrap());
    let core = Cores::<()>::new(1).claim().unwrap();
    let desk = Desk::new(core, 10, inbox.remote());
    (reactor, inbox, desk)
}

fn body(bytes: &[u8]) -> Order {
    Order::Body { bytes: bytes.to_vec(), last: false }
}

#[test]
fn the_loop_is_told_once_of_what_it_has_not_looked_at() {
    let (_reactor, inbox, desk) = desk();
    desk.post(&mut vec![]);
    assert_eq!(inbox.take(), []);
    desk.post(&mut vec![body(b"abc")]);
    desk.post(&mut vec![body(b"def"), Order::Abort(Cause::Exception)]);
    assert_eq!(inbox.take(), [desk.core()]);
    assert_eq!(desk.state().orders.len(), 3);
}

#[test]
fn what_is_not_sent_takes_room() {
    let (_reactor, _inbox, desk) = desk();
    assert_eq!((desk.room(0), desk.room(4), desk.room(11)), (Some(10), Some(6), Some(0)));
    desk.post(&mut vec![Order::Head { bytes: vec![0; 100], end: false }, body(b"abc")]);
    assert_eq!(desk.room(4), Some(3));
    desk.state().gone = true;
    assert_eq!(desk.room(0), None);
}

#[test]
fn a_wake_that_came_before_is_not_lost_and_ends_one_wait() {
    let (_reactor, _inbox, desk) = desk();
    desk.wake();
    desk.park(None);
    let began = Instant::now();
    desk.park(Some(began + Duration::from_millis(5)));
    assert!(began.elapsed() >= Duration::from_millis(5));
    desk.say_left();
    desk.park(None);
    assert!(desk.take_left() && !desk.take_left());
}

#[test]
fn a_wait_that_is_over_is_forgotten() {
    let (reactor, _inbox, desk) = desk();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let wait = Waits::default().add(&reactor, desk.core(), socket.into(), Interest::READABLE).unwrap();
    desk.add_wait(wait);
    desk.remove_wait(wait);
    assert!(desk.state().waits.is_empty());
}

#[test]
fn what_is_not_there_in_time_is_given_up() {
    let (_reactor, inbox, desk) = desk();
    assert_eq!(desk.until(Some(Instant::now()), |_| Some("never asked")), None);
    assert_eq!(inbox.take(), [desk.core()]);
    assert!(desk.state().attempt.is_none());
}
