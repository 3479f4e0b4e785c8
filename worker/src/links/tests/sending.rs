//! Answers on their way out: what leaves first, how much may wait, and what a stream's end looks like.
use super::*;

const LARGE: usize = 3 * MOST_DATA;

#[test]
fn the_answers_of_a_turn_leave_together() {
    let mut bench = Bench::new();
    for id in 1..4 {
        let core = bench.serve(id);
        bench.send_head(id, core);
        assert_eq!(bench.link.send(id, core, b"hello", true), Sent::All);
        bench.link.finish(id, core, Outcome::Keep);
    }
    assert!(bench.link.socket().received.is_empty() && bench.link.is_to_be_scheduled());
    bench.link.flush();
    let all: Vec<Seen> = (1..4).flat_map(|id| seen(&[(id, "200"), (id, "data 5 end")])).collect();
    assert_eq!(bench.sent(), all);
    assert!(bench.link.streams.is_empty());
}

#[test]
fn an_interim_answer_leaves_at_once_and_only_before_the_head() {
    let mut bench = Bench::new();
    let core = bench.serve(1);
    let mut payload = Vec::new();
    head::put_response(&mut payload, &ResponseFacts { status: 103, ..Default::default() });
    bench.link.send_interim(1, core, &payload);
    assert!(!bench.link.socket().received.is_empty(), "nobody has flushed");
    assert_eq!(bench.sent(), seen(&[(1, "103")]));
    bench.send_head(1, core);
    bench.link.send_interim(1, core, &payload);
    bench.link.finish(1, core, Outcome::Keep);
    bench.link.flush();
    assert_eq!(bench.sent(), seen(&[(1, "200"), (1, "data 0 end")]));
    bench.link.send_interim(1, core, &payload);
    assert!(!bench.link.is_to_be_scheduled(), "the request is over");
}

#[test]
fn frames_are_whole_however_little_the_kernel_takes() {
    for size in (1..40).chain([5000, MOST_DATA, MOST_DATA + HEADER + 1]) {
        let mut bench = Bench::new();
        let (large, small) = (bench.serve(1), bench.serve(2));
        let body = vec![b'x'; LARGE];
        bench.send_head(1, large);
        bench.link.socket().room = size;
        let Sent::Part(mut taken) = bench.link.send(1, large, &body, true) else { panic!("all of it") };
        bench.send_head(2, small);
        bench.link.finish(2, small, Outcome::Keep);
        while taken < LARGE {
            assert_eq!(bench.link.send(1, large, &body[taken..], true), Sent::Part(0), "{taken}");
            // One frame of the stream waits, and has to leave before the next is taken.
            while !bench.link.has_news() {
                bench.give_room(size);
            }
            let news = bench.news();
            assert!(matches!(news[..], [News::Wake(woken)] if woken == large), "{news:?}");
            taken += match bench.link.send(1, large, &body[taken..], true) {
                Sent::All => LARGE - taken,
                Sent::Part(part) => part,
                Sent::Gone => panic!("nobody left"),
            };
        }
        bench.link.finish(1, large, Outcome::Keep);
        let sent = bench.sent();
        let of_large: Vec<&str> =
            sent.iter().filter(|(id, _)| *id == 1).map(|(_, what)| what.as_str()).collect();
        assert_eq!(of_large, ["200", "data 65536", "data 65536", "data 65536 end"], "{size} bytes at once");
        assert!(bench.link.streams.is_empty());
    }
}

#[test]
fn a_small_answer_overtakes_a_large_one() {
    let mut bench = Bench::new();
    let (large, small) = (bench.serve(1), bench.serve(2));
    bench.give_room(100);
    bench.send_head(1, large);
    assert_eq!(bench.link.send(1, large, &vec![b'x'; LARGE], true), Sent::Part(MOST_DATA));
    bench.send_head(2, small);
    bench.link.finish(2, small, Outcome::Keep);
    let expected = [(1, "200"), (1, "data 65536"), (2, "200"), (2, "data 0 end")];
    assert_eq!(bench.sent(), seen(&expected), "only what was half-way out came first");
}

#[test]
fn nothing_overtakes_a_piece_that_waits_in_its_own_stream() {
    let mut bench = Bench::new();
    let core = bench.serve(1);
    bench.send_head(1, core);
    bench.give_room(0);
    assert_eq!(bench.link.send(1, core, &[b'x'; MOST_DATA], false), Sent::All);
    assert_eq!(bench.link.send(1, core, b"small", false), Sent::Part(0));
    bench.link.finish(1, core, Outcome::Keep);
    assert_eq!(bench.sent(), seen(&[(1, "200"), (1, "data 65536"), (1, "data 0 end")]));
    assert!(bench.link.streams.is_empty());
}

#[test]
fn small_pieces_that_wait_are_limited_too() {
    let mut bench = Bench::new();
    let core = bench.serve(1);
    bench.give_room(0);
    let piece = [b'x'; 10_000];
    let mut taken = 0;
    bench.send_head(1, core);
    while bench.link.send(1, core, &piece, false) == Sent::All {
        taken += piece.len();
    }
    assert!(taken <= WRITE_BUFFER && taken + piece.len() > WRITE_BUFFER - 1000, "{taken}");
    bench.give_room(usize::MAX);
    let news = bench.news();
    assert!(matches!(news[..], [News::Wake(woken)] if woken == core), "{news:?}");
}

#[test]
fn no_more_is_sent_than_the_proxy_takes() {
    let mut bench = Bench::with_window(2000);
    let core = bench.serve(1);
    bench.send_head(1, core);
    assert_eq!(bench.link.send(1, core, &[b'x'; 5000], true), Sent::Part(2000));
    assert!(bench.news().is_empty());
    let mut window = Vec::new();
    frame::put_window(&mut window, 1, 3000);
    bench.receive(&window);
    let news = bench.news();
    assert!(matches!(news[..], [News::Wake(woken)] if woken == core), "{news:?}");
    assert_eq!(bench.link.send(1, core, &[b'x'; 3000], true), Sent::All);
    assert_eq!(bench.sent(), seen(&[(1, "200"), (1, "data 2000"), (1, "data 3000 end")]));
}

#[test]
fn what_has_gathered_leaves_in_the_middle_of_a_turn() {
    let mut bench = Bench::new();
    for id in 1..8 {
        let core = bench.serve(id);
        bench.send_head(id, core);
        bench.link.send(id, core, &[b'x'; 12_000], true);
    }
    let received = bench.link.socket().received.len();
    assert!(received > 64 * 1024 && !bench.link.outbox.is_empty(), "{received}");
}

#[test]
fn an_unread_request_is_stopped_behind_its_answer() {
    let mut bench = Bench::new();
    for (id, size, room) in [(1, 5, usize::MAX), (2, MOST_DATA, 0)] {
        bench.receive(&[request(id, 0, None), data(id, 0, BODY_BUFFER)].concat());
        let core = bench.enter(id);
        bench.give_room(room);
        bench.send_head(id, core);
        assert_eq!(bench.link.send(id, core, &vec![b'x'; size], false), Sent::All);
        bench.link.finish(id, core, Outcome::Keep);
        bench.receive(&data(id, 0, WINDOW - BODY_BUFFER));
        let sent = bench.sent();
        let of_answer: Vec<&str> =
            sent.iter().map(|(_, what)| what.as_str()).filter(|what| !what.starts_with("window")).collect();
        assert_eq!(of_answer, ["200", &format!("data {size}"), "data 0 end", "reset Gone"]);
        assert!(bench.link.streams.is_empty());
    }
}

#[test]
fn an_answer_that_is_cut_never_looks_complete() {
    let mut bench = Bench::new();
    let core = bench.serve(1);
    bench.send_head(1, core);
    bench.give_room(0);
    assert_eq!(bench.link.send(1, core, &[b'x'; MOST_DATA], false), Sent::All);
    bench.link.abort(1, core, Cause::Exception);
    bench.link.finish(1, core, Outcome::Cut);
    assert_eq!(bench.sent(), seen(&[(1, "200"), (1, "reset Raised")]));
    let core = bench.serve(2);
    bench.link.finish(2, core, Outcome::Keep);
    assert_eq!(bench.sent(), seen(&[(2, "reset Cut")]), "no answer was begun");
    let core = bench.serve(3);
    bench.send_head(3, core);
    bench.link.finish(3, core, Outcome::Cut);
    assert_eq!(bench.sent(), seen(&[(3, "200"), (3, "reset Cut")]), "nothing failed, but it is too short");
}

#[test]
fn an_answer_that_was_complete_before_its_core_ended_stays_complete() {
    let mut bench = Bench::new();
    bench.receive(&[request(1, 0, None), data(1, 0, BODY_BUFFER)].concat());
    let core = bench.enter(1);
    bench.send_head(1, core);
    bench.link.send(1, core, b"hello", true);
    bench.link.abort(1, core, Cause::Exception);
    assert_eq!(bench.sent(), seen(&[(1, "200"), (1, "data 5 end"), (1, "reset Gone")]));
}

#[test]
fn a_request_too_many_is_answered_by_the_server_itself() {
    let mut bench = Bench::new();
    bench.receive(&[get(1), get(2), request(3, 0, None), data(3, 0, BODY_BUFFER), get(4)].concat());
    bench.link.reject(1, (503, Cause::Busy), "busy", DATE, false);
    bench.link.reject(2, (503, Cause::Busy), "busy", DATE, true);
    bench.link.reject(3, (503, Cause::Busy), "busy", DATE, false);
    bench.link.refuse(4);
    bench.link.flush();
    let bytes = bench.link.socket().received.clone();
    let header = Header::parse(&bytes, MOST_HEAD).unwrap().unwrap();
    let read = Response::parse(&bytes[HEADER..][..header.length]).unwrap();
    assert_eq!((read.facts.length, read.facts.reason), (Some(5), &b"Service Unavailable"[..]));
    assert!(read.fields.map(Result::unwrap).any(|field| field == (b"Retry-After", b"1")));
    let told = Response::parse(&bytes[HEADER..][..header.length]).unwrap().fields.map(Result::unwrap).last();
    assert_eq!(told, Some((&b"x-appliance-cause"[..], &b"busy"[..])));
    let expected = [
        (1, "503"),
        (1, "data 5 end"),
        (2, "503 end"),
        (3, "503"),
        (3, "data 5 end"),
        (3, "reset Gone"),
        (4, "reset Refused"),
    ];
    assert_eq!(bench.sent(), seen(&expected));
    assert!(bench.link.streams.is_empty());
}

#[test]
fn the_proxy_is_told_before_an_application_sees_a_request() {
    let mut bench = Bench::new();
    bench.receive(&request(1, END | ANNOUNCE, None));
    assert!(bench.arrived().announce);
    bench.give_room(0);
    let place = bench.link.put_entered(1);
    bench.give_room(5);
    assert!(!bench.link.has_left(place));
    bench.link.reject(1, (503, Cause::Busy), "something behind it", DATE, false);
    bench.give_room(HEADER - 5);
    assert!(bench.link.has_left(place));
    assert_eq!(bench.sent()[0], (1, "entered".to_owned()));
}
