//! The codec against hostile bytes: whatever arrives, it is a frame, a violation, or not complete; never a panic, and never
//! a frame that says more than the bytes that carried it.
use crate::frame::{HEADER, Header, MOST_DATA};
use crate::{Frame, Hello, head};

/// Numbers without a pattern, the same in each run (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Reads frames until a violation or the end; how many there were.
fn read_all(mut bytes: &[u8]) -> usize {
    let mut frames = 0;
    while let Ok(Some(header)) = Header::parse(bytes, 4096) {
        let payload = &bytes[HEADER..HEADER + header.length];
        match header.with(payload) {
            Ok(Frame::Request { head, .. }) => {
                if let Ok(read) = head::Request::parse(head) {
                    let told: usize =
                        read.fields.map_while(Result::ok).map(|(name, value)| name.len() + value.len()).sum();
                    assert!(told <= payload.len());
                }
            }
            Ok(Frame::Response { head, .. }) => {
                if let Ok(read) = head::Response::parse(head) {
                    assert!(read.fields.count() <= payload.len());
                }
            }
            Ok(Frame::Data { bytes, .. }) => assert!(bytes.len() <= MOST_DATA),
            Ok(_) => {}
            Err(_) => return frames,
        }
        frames += 1;
        bytes = &bytes[HEADER + header.length..];
    }
    frames
}

#[test]
fn random_bytes_are_read_or_refused() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let size = (random.next() % 200) as usize;
        let bytes = random.bytes(size);
        read_all(&bytes);
        let _ = Hello::parse(&bytes);
        let _ = head::Request::parse(&bytes).map(|read| read.fields.count());
        let _ = head::Response::parse(&bytes).map(|read| read.fields.count());
    }
}

#[test]
fn frames_with_broken_bytes_are_read_or_refused() {
    let mut whole = Vec::new();
    let at = crate::frame::begin(&mut whole, crate::frame::Kind::Request, 5, 0);
    head::put_request(&mut whole, &head::RequestFacts { method: b"GET", target: b"/", ..Default::default() });
    head::put_field(&mut whole, b"host", b"a.example");
    crate::frame::finish(&mut whole, at);
    crate::frame::put_window(&mut whole, 5, 100);
    crate::frame::put(&mut whole, crate::frame::Kind::Data, 5, 1, b"some bytes of a body");
    assert_eq!(read_all(&whole), 3);
    let mut random = Random(0xdead_beef_cafe_f00d);
    for _ in 0..20_000 {
        let mut broken = whole.clone();
        for _ in 0..1 + random.next() % 3 {
            let at = random.next() as usize % broken.len();
            broken[at] = random.next() as u8;
        }
        read_all(&broken);
    }
}
