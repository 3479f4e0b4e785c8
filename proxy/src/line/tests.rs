//! Streams of a line without a connection: a test is both the proxy and the worker.
use super::*;

fn line() -> Arc<Line> {
    Line::new(1 << 20, 1 << 20).0
}

/// Lets everything leave; how many bytes that were.
fn drain(line: &Line) -> usize {
    let mut bytes = 0;
    while line.flush(Waker::noop(), |outbox| {
        let (slices, count) = outbox.slices();
        let written = slices[..count].iter().map(|slice| slice.len()).sum();
        bytes += written;
        written
    }) {}
    bytes
}

fn poll_ready(stream: &Stream) -> Poll<usize> {
    stream.poll_ready(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_worker_that_does_not_read_does_not_fill_the_memory() {
    let line = line();
    let head = |out: &mut Vec<u8>| out.extend_from_slice(&[b'h'; 10_000]);
    // Clients that come and go.
    let refusal =
        std::iter::from_fn(|| Some(line.open(0, 10_000, head).err())).take(1000).find_map(|refusal| refusal);
    assert_eq!(refusal, Some(Refusal::Crowded));
    for _ in 0..100_000 {
        line.receive(Frame::Ping { ack: false, token: [7; 8] }).unwrap();
    }
    assert!(drain(&line) < CROWDED + 20_000);
    assert!(line.open(0, 10_000, head).is_ok());
}

#[test]
fn a_stream_waits_in_one_place_until_there_is_room() {
    let line = line();
    let (other, stream) = (line.open(0, 0, |_| {}).unwrap(), line.open(0, 0, |_| {}).unwrap());
    while poll_ready(&other).is_ready() {
        other.send(Bytes::from_static(&[0; 1000]), false);
    }
    assert!((0..100).all(|_| poll_ready(&stream).is_pending()));
    assert_eq!(line.state().blocked.len(), 2);
    drain(&line);
    assert_eq!(line.state().blocked.len(), 0);
    assert_eq!(poll_ready(&stream), Poll::Ready(MOST_DATA));
}

#[test]
fn what_comes_late_for_one_stream_is_not_given_to_another() {
    let line = line();
    let first = line.open(0, 0, |_| {}).unwrap();
    let late = first.id;
    drop(first);
    for _ in 0..10_000 {
        let next = line.open(0, 0, |_| {}).unwrap();
        line.receive(Frame::Reset { stream: late, reason: Reason::Failed }).unwrap();
        assert!(next.poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}

#[test]
fn a_head_that_is_too_long_leaves_no_trace() {
    let line = line();
    let refused = line.open(0, 5, |out| out.extend_from_slice(b"longer")).err();
    assert_eq!((refused, drain(&line)), (Some(Refusal::TooLong), 0));
    line.receive(Frame::GoAway).unwrap();
    assert!(line.is_done());
}

#[test]
fn a_reset_is_not_answered_with_one() {
    let line = line();
    let stream = line.open(0, 0, |_| {}).unwrap();
    drain(&line);
    line.receive(Frame::Reset { stream: stream.id, reason: Reason::Cut }).unwrap();
    assert!(stream.poll_next(&mut Context::from_waker(Waker::noop())).is_ready());
    drop(stream);
    assert_eq!(drain(&line), 0);
}
