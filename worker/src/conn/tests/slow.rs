//! Clients that take their time: how long each of them is waited for.
use super::*;

const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n";

impl Bench {
    /// Sends one byte a second until the connection has no more patience: the answer, and after how many seconds.
    fn trickle(&mut self, bytes: &[u8]) -> (String, u64) {
        for (byte, second) in bytes.iter().zip(1..) {
            self.now += Duration::from_secs(1);
            self.receive(&[*byte]);
            if self.conn.deadline().is_some_and(|deadline| deadline <= self.now) {
                self.tell(|conn, cx| conn.on_deadline(cx));
                return (self.sent(), second);
            }
        }
        panic!("it is waited for all of this");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_has_its_time_in_all() {
    let mut bench = Bench::new();
    let (answer, seconds) = bench.trickle(GET);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // The first byte came after a second.
    assert_eq!(seconds, 11);
}

#[test]
fn the_second_head_of_a_connection_has_no_more_time_than_the_first() {
    let mut bench = Bench::new();
    request(bench.receive(GET));
    bench.finish(true);
    bench.now += Duration::from_secs(70);
    let (answer, seconds) = bench.trickle(GET);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(seconds, 11, "the connection was idle until the first byte");
}

#[test]
fn an_empty_line_before_a_head_gives_no_further_time() {
    let mut bench = Bench::new();
    bench.receive(b"\r\n");
    bench.now += Duration::from_secs(9);
    bench.receive(b"GET");
    bench.later(1);
    assert!(bench.sent().starts_with("HTTP/1.1 408 "));
}

#[test]
fn a_body_that_comes_byte_by_byte_is_given_up_before_a_core_is_taken() {
    let mut bench = Bench::new();
    bench.rules.body_buffer = 10_000;
    bench.receive(POST);
    let (answer, seconds) = bench.trickle(&[b'a'; 9000]);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // Each byte is worth a hundredth of a second.
    assert_eq!(seconds, 61);
}

#[test]
fn a_body_at_the_wanted_rate_may_take_for_ever() {
    let mut bench = Bench::new();
    bench.rules.body_buffer = 10_000;
    bench.receive(POST);
    for _ in 1..90 {
        bench.now += Duration::from_secs(1);
        assert!(is_wait(bench.receive(&[b'a'; 100])));
        assert!(bench.conn.deadline().is_some_and(|deadline| deadline > bench.now));
    }
    bench.now += Duration::from_secs(1);
    assert_eq!(request(bench.receive(&[b'a'; 100])).body.len(), 9000);
}

#[test]
fn a_body_that_a_core_waits_for_is_cut_and_stays_cut() {
    let mut bench = Bench::new();
    request(bench.receive(&[POST, &[b'a'; 16]].concat()));
    assert_eq!(bench.read_body(100).0, BodyRead::Wait);
    let mut seconds = 0;
    while bench.conn.deadline().is_some_and(|deadline| deadline > bench.now) {
        (bench.now, seconds) = (bench.now + Duration::from_secs(1), seconds + 1);
        assert!(matches!(bench.receive(b"a"), Step::Wake));
        assert_eq!(bench.read_body(100).0, BodyRead::Data);
        assert_eq!(bench.read_body(100).0, BodyRead::Wait);
    }
    assert_eq!(seconds, 61);
    assert!(matches!(bench.tell(|conn, cx| conn.on_deadline(cx)), Step::Wake));
    assert_eq!(bench.read_body(100).0, BodyRead::TOO_SLOW);
    bench.receive(&[b'b'; 9000]);
    assert_eq!(bench.read_body(100).0, BodyRead::TOO_SLOW, "what comes now does not make up for it");
}

#[test]
fn time_in_which_the_application_does_not_read_is_its_own() {
    let mut bench = Bench::new();
    request(bench.receive(&[POST, &[b'a'; 16]].concat()));
    for _ in 0..50 {
        assert_eq!(bench.read_body(100).0, BodyRead::Wait);
        assert!(matches!(bench.receive(b"a"), Step::Wake));
        assert_eq!(bench.conn.deadline(), None);
        bench.now += Duration::from_secs(1000);
        assert_eq!(bench.read_body(100).0, BodyRead::Data);
    }
    assert_eq!(bench.read_body(100).0, BodyRead::Wait);
    assert!(matches!(bench.later(60), Step::Wake));
    assert_eq!(bench.read_body(100).0, BodyRead::TOO_SLOW);
}

#[test]
fn a_client_that_reads_but_does_not_send_is_not_waited_for_longer() {
    let mut bench = Bench::new();
    request(bench.receive(&[POST, &[b'a'; 16]].concat()));
    bench.conn.stream().room = 0;
    assert_eq!(bench.tell(|conn, cx| conn.send(&[b'x'; 100], cx)), Sent::All);
    assert_eq!(bench.read_body(100).0, BodyRead::Wait);
    bench.now += Duration::from_secs(30);
    bench.conn.stream().room = 100;
    assert!(is_wait(bench.tell(|conn, cx| conn.on_writable(cx))));
    assert!(matches!(bench.later(30), Step::Wake));
    assert_eq!(bench.read_body(100).0, BodyRead::TOO_SLOW);
    assert_eq!(bench.tell(|conn, cx| conn.send(b"late", cx)), Sent::All, "it can still be told so");
}
