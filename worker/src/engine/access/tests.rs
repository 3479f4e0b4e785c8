//! Why a line says that a request has failed, and what of its answer counts.
use super::*;
use crate::app::Request;
use crate::told::Headline;

/// The line of a request that has just begun, and when that was.
fn line() -> (Line, Instant) {
    let now = Instant::now();
    let request = Request::example("/path", now);
    let mut line = Line::new(request.peer, now);
    line.begin(&request.received, now, now, 0);
    (line, now)
}

/// The same with the head of an answer, which has 100 bytes.
fn answered(status: u16) -> (Line, Instant) {
    let (line, now) = line();
    let after = Duration::ZERO;
    line.told.begin(Headline { status, length: 100, after, cause: None, variables: Vec::new() });
    (line, now)
}

#[test]
fn an_answer_that_is_missing_is_told_from_one_that_is_short() {
    let (line, now) = line();
    assert_eq!(line.reason(Outcome::Cut, None, false, now), Some(reason::APP_CUT));
    assert_eq!(line.status(0, Some(reason::APP_CUT)), 502);
    let (line, now) = answered(200);
    assert_eq!(line.reason(Outcome::Cut, None, false, now), Some(reason::SHORT_BODY));
    assert_eq!(line.status(100, Some(reason::SHORT_BODY)), 200);
    assert_eq!(line.reason(Outcome::Keep, None, false, now), None);
}

#[test]
fn a_client_that_leaves_is_to_blame_for_what_follows() {
    let (mut line, now) = line();
    line.leave(now);
    line.abort(Cause::Exception);
    assert_eq!(line.reason(Outcome::Cut, None, true, now), Some(reason::CLIENT_GONE));
    assert_eq!(line.status(0, Some(reason::CLIENT_GONE)), CLIENT_LEFT);
}

#[test]
fn a_client_that_has_closed_its_side_may_wait_a_moment() {
    let (mut line, now) = answered(200);
    line.leave(now);
    assert_eq!(line.reason(Outcome::Close, None, false, now), None);
    assert_eq!(line.reason(Outcome::Close, None, false, now + LAST_WAIT), Some(reason::CLIENT_GONE));
}

#[test]
fn an_answer_that_we_cut_is_no_client_that_left() {
    let (mut line, now) = answered(200);
    line.abort(Cause::TimedOut);
    assert_eq!(line.reason(Outcome::Cut, None, true, now), Some(reason::REQUEST_TIMEOUT));
    assert_eq!(line.reason(Outcome::Cut, Some(reason::SLOW_BODY), true, now), Some(reason::SLOW_BODY));
}

#[test]
fn only_bytes_of_the_body_count_and_only_if_they_have_left() {
    let (line, _) = answered(200);
    line.told.count(1000);
    assert_eq!([0, 100, 600, 5000].map(|sent| line.body(sent)), [0, 0, 500, 1000]);
    let (socket, _) = answered(101);
    assert_eq!(socket.body(107), 7);
}

#[test]
fn a_request_that_still_runs_says_nothing_in_the_next_ones_line() {
    let (mut line, now) = line();
    let earlier = Arc::clone(&line.told);
    let next = Request::example("/next", now);
    line.begin(&next.received, now, now, 0);
    earlier.count(10);
    assert_eq!((line.told.body(), line.target.as_slice()), (0, &b"/next"[..]));
}
