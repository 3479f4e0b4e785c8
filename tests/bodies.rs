//! Bodies of awkward sizes on their way through the proxy, in both directions and in every form: each arrives as it was
//! sent, and the connection serves the next request.
use crate::harness::{Appliance, Framing, Setup};

/// Around nothing, the sizes of buffers, frames and windows, and well beyond.
const SIZES: [usize; 15] = [
    0, 1, 4095, 4097, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 131_073, 262_143, 262_144, 262_145,
    1_000_000,
];
/// How the application answers: with or without `Content-Length`, at once or from a generator.
const FORMS: [&str; 4] = ["whole", "announced", "pieces", "announced-pieces"];

fn start() -> Appliance {
    Setup::app("bodies:application").start()
}

/// What `bodies.py` gives.
pub fn pattern(size: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(size).collect()
}

/// A megabyte is no message: says where two bodies part.
#[track_caller]
pub fn assert_same(got: &[u8], expected: &[u8], what: &str) {
    let same = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
    assert!(
        got.len() == expected.len() && same == got.len(),
        "{what}: {} bytes instead of {}, the same up to {same}",
        got.len(),
        expected.len()
    );
}

#[test]
fn bodies_come_back_as_they_were_sent() {
    assert_they_come_back(&start());
}

/// Sends bodies of all sizes, and compares what comes back in all forms.
pub fn assert_they_come_back(appliance: &Appliance) {
    let mut client = appliance.client();
    for size in SIZES {
        let body = pattern(size);
        for form in FORMS {
            let target = format!("/echo/{form}");
            let answer = client.post(&target, &body);
            assert_same(&answer.body, &body, &format!("{size} bytes with a length, {form}"));
            let chunks: Vec<&[u8]> = body.chunks(10_007).collect();
            let answer = client.post_chunks(&target, &chunks);
            assert_same(&answer.body, &body, &format!("{size} bytes in chunks, {form}"));
        }
    }
}

#[test]
fn answers_arrive_as_they_were_given() {
    let appliance = start();
    let mut client = appliance.client();
    for size in SIZES {
        for form in FORMS {
            let answer = client.get(&format!("/give/{form}?size={size}"));
            assert_same(&answer.body, &pattern(size), &format!("{size} bytes, {form}"));
            // What is empty or has one piece has a length without being asked.
            let is_chunked = form == "pieces" && size > 0;
            let expected = if is_chunked { Framing::Chunked } else { Framing::Length };
            assert_eq!(answer.framing, expected, "{size} bytes, {form}");
        }
    }
}

#[test]
fn an_old_client_gets_every_body_too() {
    let appliance = start();
    for size in SIZES {
        for form in FORMS {
            let mut client = appliance.client();
            client.send(format!("GET /give/{form}?size={size} HTTP/1.0\r\n\r\n"));
            let answer = client.answer();
            let what = format!("{size} bytes, {form}, HTTP/1.0");
            assert_same(&answer.body, &pattern(size), &what);
            assert_ne!(answer.framing, Framing::Chunked, "{what}");
            assert!(client.is_closed(), "{what}");
        }
        let mut client = appliance.client();
        client.send(format!("POST /echo/whole HTTP/1.0\r\nContent-Length: {size}\r\n\r\n"));
        client.send(pattern(size));
        assert_same(&client.answer().body, &pattern(size), &format!("echo of {size} bytes, HTTP/1.0"));
    }
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let appliance = start();
    let mut client = appliance.client();
    for form in FORMS {
        for size in [0, 1, 65_537] {
            client.send(format!("HEAD /give/{form}?size={size} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let answer = client.answer_to_head();
            if form.starts_with("announced") {
                let length = answer.header("content-length");
                assert_eq!(length, Some(size.to_string().as_str()), "{size} bytes, {form}");
            }
            for status in [204, 304] {
                let answer = client.get(&format!("/give/{form}?size={size}&status={status}"));
                assert_eq!(
                    (answer.status, answer.framing),
                    (status, Framing::Nothing),
                    "{size} bytes, {form}"
                );
            }
            // Whatever had followed a head would be read as this answer.
            assert_eq!(client.get("/next").text(), "next", "{size} bytes, {form}");
        }
    }
}

#[test]
fn a_client_that_waits_to_be_told_is_told_once() {
    let appliance = start();
    for size in [1, 65_537, 1_000_000] {
        let body = pattern(size);
        let chunk = [format!("{size:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
        let length = format!("Content-Length: {size}");
        for (line, bytes) in [(length.as_str(), &body), ("Transfer-Encoding: chunked", &chunk)] {
            let mut client = appliance.client();
            client.send("POST /echo/whole HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n");
            client.send(format!("{line}\r\n\r\n"));
            assert_eq!(client.answer().status, 100, "{size} bytes, {line}");
            client.send(bytes);
            assert_same(&client.answer().body, &body, &format!("{size} bytes after 100, {line}"));
            assert_eq!(client.get("/next").text(), "next", "the connection is used on");
        }
    }
}

#[test]
fn many_bodies_at_once_are_not_mixed_up() {
    let appliance = start();
    std::thread::scope(|scope| {
        for number in 0..16_usize {
            let appliance = &appliance;
            scope.spawn(move || {
                let mut client = appliance.client();
                for round in 0..10 {
                    let size = SIZES[(number + round) % SIZES.len()];
                    // Of each client's own, so that a piece of another's shows.
                    let body: Vec<u8> =
                        pattern(size).iter().map(|byte| byte.wrapping_add(number as u8)).collect();
                    let answer = client.post(&format!("/echo/{}", FORMS[round % FORMS.len()]), &body);
                    assert_same(&answer.body, &body, &format!("client {number}, {size} bytes"));
                }
            });
        }
    });
}
