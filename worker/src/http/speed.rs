//! How long one request takes in here, printed for a developer who changes a parser:
//! `cargo test --release -p appliance-worker speed -- --ignored --nocapture`. Nothing is asserted about time.

use super::declared::{self, Declared};
use super::encode;
use super::plan::Answer;
use super::{Limits, Scan, Version, head};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 1_000_000;
const LIMITS: Limits = Limits { request_line: 8192, header_bytes: 65536, headers: 100, body: 16 << 20 };

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &[u8] = b"GET /articles/2024/index.html?page=2&sort=date HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Referer: https://www.example.com/articles/\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=1\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Priority: u=0, i\r\n\r\n";

fn time(what: &str, mut once: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        once();
    }
    println!("{what}: {:.0} ns", start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
}

fn parse(buf: &[u8]) -> usize {
    let head = head::parse(black_box(buf), &LIMITS, &mut Scan::default());
    head.ok().flatten().map_or(0, |head| head.len())
}

fn answer(out: &mut Vec<u8>) {
    out.clear();
    let mut said = Declared::default();
    let headers =
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", "13"), ("Vary", "Cookie")];
    let status = black_box(b"200 OK");
    let code = declared::status(status).unwrap();
    encode::status_line(out, status);
    for (name, value) in black_box(headers) {
        if said.take(name.as_bytes(), value.as_bytes()).unwrap() {
            encode::header(out, name.as_bytes(), value.as_bytes());
        }
    }
    encode::header(out, b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT");
    let facts = Answer {
        version: Version::Http11,
        head_only: false,
        status: code,
        declared: said.length,
        whole: Some(13),
        keep_alive: true,
    };
    encode::framing(out, &facts.plan());
    encode::end_of_head(out);
    out.extend_from_slice(b"Hello, world!");
}

#[test]
#[ignore = "prints times; run it by hand in release mode"]
fn speed() {
    assert_eq!((parse(SMALL), parse(BROWSER)), (SMALL.len(), BROWSER.len()));
    time("parse a small head", || assert_eq!(black_box(parse(SMALL)), SMALL.len()));
    time("parse a browser's head", || assert_eq!(black_box(parse(BROWSER)), BROWSER.len()));
    let head = head::parse(BROWSER, &LIMITS, &mut Scan::default()).unwrap().unwrap();
    time("walk a browser's headers", || {
        black_box(head.headers().map(|(name, value)| name.len() + value.len()).sum::<usize>());
    });
    let mut out = Vec::with_capacity(1024);
    time("encode an answer", || answer(black_box(&mut out)));
}
