//! `wsgi.input`: every way to read, with a length and in chunks, smaller and larger than what is read ahead.
use crate::harness::{Appliance, Client, Setup, until};

const LINES: &str = "one\ntwo two\n\nfour";

fn start() -> Appliance {
    Setup::app("inputs:application").set("limits.body_buffer", "4KiB").start()
}

#[test]
fn every_way_to_read_gives_what_pep_3333_says() {
    let appliance = start();
    let chunks: Vec<&[u8]> = LINES.as_bytes().chunks(3).collect();
    for (way, expected) in [
        ("read", r"b'one\ntwo two\n\nfour'"),
        ("read_minus_one", r"b'one\ntwo two\n\nfour'"),
        ("read_none", r"b'one\ntwo two\n\nfour'"),
        ("read_zero", r"(b'', b'one\ntwo two\n\nfour')"),
        ("read_some", r"[b'one\n', b'two ', b'two\n\nfour', b'']"),
        ("readline", r"[b'one\n', b'tw', b'o two\n', b'\n']"),
        ("readlines", r"[b'one\n', b'two two\n', b'\n', b'four']"),
        ("readlines_hint", r"[[b'one\n'], b'two two\n\nfour']"),
        ("iterate", r"[b'one\n', b'two two\n', b'\n', b'four']"),
        ("chunked_read", r"b'one\ntwo two\n\nfour'"),
    ] {
        for mut client in [appliance.client(), appliance.worker_client(1)] {
            let target = format!("/{way}");
            assert_eq!(client.post(&target, LINES).text(), expected, "{way} with a length");
            assert_eq!(client.post_chunks(&target, &chunks).text(), expected, "{way} in chunks");
        }
    }
}

#[test]
fn no_body_reads_as_empty() {
    let appliance = start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        assert_eq!(client.get("/read").text(), "b''");
        assert_eq!(client.post("/iterate", "").text(), "[]");
    }
}

#[test]
fn a_megabyte_arrives_whole() {
    let appliance = start();
    let body = vec![b'x'; 1 << 20];
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        assert_eq!(client.post("/length", &body).text(), "1048576");
        assert_eq!(client.post_chunks("/length", &body.chunks(50_000).collect::<Vec<_>>()).text(), "1048576");
        assert_eq!(client.post("/slowly", &body).text(), "1048576");
    }
}

#[test]
fn a_body_that_nobody_reads_does_not_spoil_the_next_request() {
    let appliance = start();
    let body = vec![b'x'; 100_000];
    for door in 0..2 {
        let connect = || if door == 0 { appliance.client() } else { appliance.worker_client(1) };
        let mut client = connect();
        assert_eq!(client.post("/ignore", &body).text(), "'ignored'");
        // The server may close instead of reading the rest; what it must not do is take the rest for a request.
        client.send("GET /read HTTP/1.1\r\nHost: test\r\n\r\n");
        if let Ok(answer) = client.try_answer() {
            assert_eq!((answer.status, answer.text().as_str()), (200, "b''"));
        }
        assert_eq!(connect().get("/read").text(), "b''");
    }
}

#[test]
fn a_body_that_comes_byte_by_byte_is_whole() {
    let appliance = start();
    let mut client = appliance.client();
    client.send(format!("POST /readlines HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", LINES.len()));
    for byte in LINES.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.answer().text(), r"[b'one\n', b'two two\n', b'\n', b'four']");
}

#[test]
fn a_body_that_is_cut_never_looks_complete() {
    let appliance = start();
    let piece = "x".repeat(10_000);
    for head in ["Content-Length: 20000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4e20\r\n"] {
        let mut client = appliance.worker_client(1);
        client.send(format!("POST /length HTTP/1.1\r\nHost: test\r\n{head}{piece}"));
        client.finish();
        client.rest();
    }
    until("the application has seen two errors", || appliance.output.text().matches("OSError").count() == 2);
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let appliance = Setup::app("inputs:application")
        .set("limits.body", "1000B")
        .set("limits.body_buffer", "1000B")
        .start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        assert_eq!(client.post("/length", vec![b'x'; 1001]).status, 413);
    }
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        assert_eq!(client.post_chunks("/length", &[&[b'x'; 400], &[b'x'; 400], &[b'x'; 400]]).status, 413);
    }
    assert_eq!(appliance.client().post("/length", vec![b'x'; 1000]).text(), "1000");
}

#[test]
fn a_body_that_grows_over_the_limit_while_it_is_read_is_an_error() {
    let appliance = Setup::app("inputs:application")
        .set("limits.body", "1000B")
        .set("limits.body_buffer", "500B")
        .start();
    assert_eq!(appliance.client().post_chunks("/length", &[&[b'x'; 800], &[b'x'; 400]]).status, 413);
    let answer = appliance.worker_client(1).post_chunks("/length", &[&[b'x'; 800], &[b'x'; 400]]);
    assert_ne!(answer.status, 200);
    appliance.output.wait_for("OSError: the request body is too large");
}

/// Numbers that look like chance and are the same each time (xorshift).
struct Lot(u64);

impl Lot {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    /// Lines of any length, of which some end with the body and some do not.
    fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        for _ in 0..self.below(80) {
            let length = [3, 80, 1500][self.below(3)];
            body.extend((0..self.below(length)).map(|at| b'a' + (at % 26) as u8));
            body.extend_from_slice([&b"\n"[..], b"\n\n", b"\r\n", b""][self.below(4)]);
        }
        body
    }

    /// Sends bytes in pieces of any size.
    fn send(&mut self, client: &mut Client, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let most = [1, 50, 5000, 100_000][self.below(4)];
            let (piece, rest) = bytes.split_at((self.below(most) + 1).min(bytes.len()));
            client.send(piece);
            bytes = rest;
        }
    }
}

/// The same body framed with its length, or in chunks of any size.
fn framed(lot: &mut Lot, seed: u64, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /?{seed} HTTP/1.1\r\nHost: test\r\n");
    if seed.is_multiple_of(2) {
        return [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    }
    let mut out = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at((lot.below(3000) + 1).min(rest.len()));
        out.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        rest = after;
    }
    [out, b"0\r\n\r\n".to_vec()].concat()
}

#[test]
fn whatever_is_read_in_whatever_order_is_what_bytesio_would_give() {
    let appliance = Setup::app("oracle:application").set("limits.body_buffer", "4KiB").start();
    for mut client in [appliance.client(), appliance.worker_client(1)] {
        for seed in 1..=60_u64 {
            let mut lot = Lot(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let body = lot.body();
            let request = framed(&mut lot, seed, &body);
            lot.send(&mut client, &request);
            let answer = client.answer();
            assert_eq!(answer.status, 200, "seed {seed}");
            assert!(answer.body == body, "seed {seed}: another body");
        }
    }
}
