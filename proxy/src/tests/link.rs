//! A fake worker's link, translated to the HTTP that the handlers of the tests speak: each stream becomes a connected pair of
//! sockets, with the request's facts as header lines. A handler that closes its end in the middle of an answer is a worker
//! that dies: the whole link is closed. One that does not speak HTTP is a worker that does not speak the link: its first line
//! goes out as it is. One that [`frames`] is the worker itself: what it writes is sent to the byte.
use super::harness::{Board, Handler, Request, read_request};
use appliance_link::frame::{self, END, HEADER, Kind};
use appliance_link::head::{self, ResponseFacts};
use appliance_link::{Frame, Header, Hello, StreamId};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

/// The request's side of a stream.
struct Upload {
    to: UnixStream,
    chunked: bool,
}

/// Says that frames follow.
const FRAMES: &str = "frames";

/// From now on the handler writes frames; the stream of its request.
pub(super) fn frames(request: &Request, to: &mut UnixStream) -> StreamId {
    writeln!(to, "{FRAMES}\r").unwrap();
    request.header("x-stream-id").unwrap().parse().unwrap()
}

/// The frame of an answer's head, without fields.
pub(super) fn answer_head(stream: StreamId, flags: u8, status: u16, length: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out, Kind::Response, stream, flags);
    head::put_response(&mut out, &ResponseFacts { status, length, reason: b"OK", ..Default::default() });
    frame::finish(&mut out, at);
    out
}

/// The frame of a piece of a body.
pub(super) fn data(stream: StreamId, flags: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put(&mut out, Kind::Data, stream, flags, bytes);
    out
}

#[derive(Clone)]
struct Out(Arc<Mutex<UnixStream>>);

impl Out {
    /// Fails when the link has ended, which nobody minds.
    fn put(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = Vec::new();
        write(&mut bytes);
        let _ = self.0.lock().unwrap().write_all(&bytes);
    }

    fn die(&self) {
        let _ = self.0.lock().unwrap().shutdown(Shutdown::Both);
    }
}

/// Serves a link, of which the first byte has been read, until it ends.
pub(super) fn serve(mut stream: UnixStream, index: usize, board: &Arc<Board>, handler: &Handler) {
    let mut received = vec![appliance_link::hello::FIRST_BYTE; appliance_link::hello::SIZE];
    stream.read_exact(&mut received[1..]).unwrap();
    let hello = Hello::parse(&received).unwrap().unwrap();
    stream.write_all(&hello.bytes()).unwrap();
    received.clear();
    let out = Out(Arc::new(Mutex::new(stream.try_clone().unwrap())));
    let mut uploads = HashMap::new();
    let mut space = vec![0; 64 * 1024];
    loop {
        while let Some(header) = Header::parse(&received, 64 * 1024).unwrap() {
            let rest = received.split_off(HEADER + header.length);
            let frame = header.with(received.split_off(HEADER)).unwrap();
            received = rest;
            take(frame, &mut uploads, &out, index, board, handler);
        }
        match stream.read(&mut space) {
            Ok(count @ 1..) => received.extend_from_slice(&space[..count]),
            _ => return,
        }
    }
}

fn take(
    frame: Frame<Vec<u8>>,
    uploads: &mut HashMap<StreamId, Upload>,
    out: &Out,
    index: usize,
    board: &Arc<Board>,
    handler: &Handler,
) {
    match frame {
        Frame::Request { stream, flags, head } => {
            let (to, from) = UnixStream::pair().unwrap();
            let (text, chunked) = text(&head, flags, stream);
            (&to).write_all(text.as_bytes()).unwrap();
            if flags & END == 0 {
                uploads.insert(stream, Upload { to: to.try_clone().unwrap(), chunked });
            }
            let (board, handler) = (board.clone(), handler.clone());
            let entered = out.clone();
            std::thread::spawn(move || {
                let mut from = from;
                let Some(request) = read_request(Vec::new(), &mut from) else { return };
                if flags & frame::ANNOUNCE != 0 {
                    entered.put(|out| frame::put(out, Kind::Entered, stream, 0, b""));
                }
                board.requests[index].fetch_add(1, SeqCst);
                handler(request, &mut from);
            });
            let out = out.clone();
            std::thread::spawn(move || match answer(stream, to, &out) {
                Some(()) => {}
                None => out.die(),
            });
        }
        Frame::Data { stream, end, bytes } => {
            let Some(upload) = uploads.get_mut(&stream) else { return };
            let mut text = Vec::new();
            match upload.chunked {
                true if !bytes.is_empty() => {
                    text = [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat();
                }
                true => {}
                false => text.extend_from_slice(&bytes),
            }
            if end && upload.chunked {
                text.extend_from_slice(b"0\r\n\r\n");
            }
            // A handler that has ended reads no more.
            let _ = upload.to.write_all(&text);
            out.put(|out| frame::put_window(out, stream, bytes.len() as u32));
        }
        Frame::Reset { stream, .. } => {
            if let Some(upload) = uploads.remove(&stream) {
                let _ = upload.to.shutdown(Shutdown::Both);
            }
        }
        Frame::Window { .. } | Frame::Ping { .. } => {}
        other => panic!("a frame that no proxy sends: {other:?}"),
    }
}

/// A request's head as HTTP, and whether its body is chunked.
fn text(payload: &[u8], flags: u8, stream: StreamId) -> (String, bool) {
    let read = head::Request::parse(payload).unwrap();
    let facts = read.facts;
    let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut text = format!("{} {} HTTP/1.1\r\n", string(facts.method), string(facts.target));
    for field in read.fields {
        let (name, value) = field.unwrap();
        text += &format!("{}: {}\r\n", string(name), string(value));
    }
    for (name, value) in [
        ("x-appliance-peer", facts.peer),
        ("x-appliance-scheme", facts.scheme),
        ("x-appliance-server", facts.server),
        ("x-request-id", facts.id),
    ] {
        text += &format!("{name}: {}\r\n", string(value));
    }
    text += &format!("x-stream-id: {stream}\r\n");
    (text + "\r\n", flags & END == 0 && facts.length.is_none())
}

/// Translates an answer; `None`: it was cut.
fn answer(stream: StreamId, from: UnixStream, out: &Out) -> Option<()> {
    let mut from = BufReader::new(from);
    loop {
        let first = read_line(&mut from)?;
        if first == FRAMES {
            let mut space = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut space) {
                out.put(|out| out.extend_from_slice(&space[..count]));
            }
            return Some(());
        }
        let Some(status) = first.strip_prefix("HTTP/1.1 ") else {
            out.put(|out| out.extend_from_slice(first.as_bytes()));
            return Some(());
        };
        let (status, reason) = status.split_once(' ')?;
        let status: u16 = status.parse().unwrap();
        let fields = read_fields(&mut from)?;
        let find = |name: &str| fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        let length: Option<u64> = find("content-length").map(|(_, value)| value.parse().unwrap());
        let chunked = find("transfer-encoding").is_some();
        let core = find("x-appliance-core").and_then(|(_, value)| value.split_once(' '));
        let (core, micros) =
            core.map_or((0, 0), |(core, micros)| (core.parse().unwrap(), micros.parse().unwrap()));
        out.put(|out| {
            let at = frame::begin(out, Kind::Response, stream, 0);
            head::put_response(
                out,
                &ResponseFacts { status, core, micros, length, reason: reason.as_bytes() },
            );
            for (name, value) in &fields {
                if !["content-length", "transfer-encoding", "x-appliance-core"].contains(&name.as_str()) {
                    head::put_field(out, name.as_bytes(), value.as_bytes());
                }
            }
            frame::finish(out, at);
        });
        if status < 200 {
            continue;
        }
        let mut left = length.unwrap_or_default();
        loop {
            let size = if chunked { read_size(&mut from)? } else { left.min(1000) };
            let mut piece = vec![0; size as usize];
            from.read_exact(&mut piece).ok()?;
            if chunked && size > 0 {
                from.read_exact(&mut [0; 2]).ok()?;
            }
            left = left.saturating_sub(size);
            let end = if chunked { size == 0 } else { left == 0 };
            out.put(|out| frame::put(out, Kind::Data, stream, if end { END } else { 0 }, &piece));
            if end {
                return Some(());
            }
        }
    }
}

fn read_fields(from: &mut impl BufRead) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    while let Some((name, value)) = read_line(from)?.split_once(": ") {
        fields.push((name.to_owned(), value.to_owned()));
    }
    Some(fields)
}

fn read_size(from: &mut impl BufRead) -> Option<u64> {
    u64::from_str_radix(&read_line(from)?, 16).ok()
}

fn read_line(from: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    Some(line.strip_suffix("\r\n")?.to_owned())
}
