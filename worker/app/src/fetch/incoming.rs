//! The answer of another server: head, then a body of known length, in chunks, or up to the end of the connection. Works on
//! any [`Read`]; everything it keeps is bounded.
use super::Fetched;
use std::io::{self, ErrorKind, Read};

/// Largest head in bytes (curl `CURL_MAX_HTTP_HEADER` is 100 KiB).
const MOST_HEAD: usize = 64 * 1024;
/// Most header fields of an answer.
const MOST_FIELDS: usize = 100;
/// Bytes of one read.
const READ: usize = 16 * 1024;

/// What is being read.
pub(super) struct Incoming<'a, S> {
    stream: &'a mut S,
    /// Largest body in bytes.
    most: usize,
    /// Received and not used; `used` bytes of it are.
    buffer: Vec<u8>,
    used: usize,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilEnd,
}

struct Head {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    framing: Framing,
    may_keep: bool,
    length: usize,
}

fn broken(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the server's answer is not valid: {why}"))
}

impl<S: Read> Incoming<'_, S> {
    pub(super) fn new(stream: &mut S, most: usize) -> Incoming<'_, S> {
        Incoming { stream, most, buffer: Vec::new(), used: 0 }
    }

    /// Reads the whole answer, and whether the connection may be used again.
    pub(super) fn read(mut self, head_only: bool) -> io::Result<(Fetched, bool)> {
        let head = self.head()?;
        let has_none = head_only || matches!(head.status, 204 | 304);
        let body = match head.framing {
            _ if has_none => Vec::new(),
            Framing::Length(length) => self.exactly(length, Vec::new())?,
            Framing::Chunked => self.chunks()?,
            Framing::UntilEnd => self.rest()?,
        };
        let is_over = has_none || head.framing != Framing::UntilEnd;
        let may_keep = head.may_keep && is_over && self.used == self.buffer.len();
        Ok((Fetched { status: head.status, headers: head.headers, body }, may_keep))
    }

    /// Receives more; false at the end of the connection.
    fn more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..std::mem::take(&mut self.used));
        let before = self.buffer.len();
        self.buffer.resize(before + READ, 0);
        let read = self.stream.read(&mut self.buffer[before..]);
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        read.map(|count| count > 0)
    }

    /// The head of the final answer; interim ones are passed over.
    fn head(&mut self) -> io::Result<Head> {
        let mut is_new = true;
        loop {
            if let Some(head) = parse(&self.buffer[self.used..])? {
                self.used += head.length;
                if head.status >= 200 {
                    return Ok(head);
                }
                if head.status == 101 {
                    return Err(broken("it switches protocols"));
                }
                continue;
            }
            if self.buffer.len() > MOST_HEAD {
                return Err(broken("its head is too long"));
            }
            match self.more() {
                Ok(true) => is_new = false,
                // Nothing at all: it was closed before it saw the request.
                Ok(false) if is_new => return Err(ErrorKind::ConnectionReset.into()),
                Ok(false) => return Err(ErrorKind::UnexpectedEof.into()),
                Err(error) => return Err(error),
            }
        }
    }

    fn check(&self, length: u64) -> io::Result<()> {
        if length > self.most as u64 {
            return Err(broken(&format!("its body is longer than {} bytes", self.most)));
        }
        Ok(())
    }

    /// Appends the next `length` bytes.
    fn exactly(&mut self, length: u64, mut body: Vec<u8>) -> io::Result<Vec<u8>> {
        self.check((body.len() as u64).saturating_add(length))?;
        // It fits, as was just checked.
        let end = body.len() + length as usize;
        while body.len() < end {
            if self.used == self.buffer.len() && !self.more()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let take = (end - body.len()).min(self.buffer.len() - self.used);
            body.extend_from_slice(&self.buffer[self.used..self.used + take]);
            self.used += take;
        }
        Ok(body)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(size).ok().filter(|size| !size.starts_with('+'));
            let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
            match size.ok_or_else(|| broken("the size of a chunk is none"))? {
                0 => break,
                size => body = self.exactly(size, body)?,
            }
            if !self.line()?.is_empty() {
                return Err(broken("a chunk is longer than its size"));
            }
        }
        // Trailers are of no use to anybody here.
        while !self.line()?.is_empty() {}
        Ok(body)
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let unused = &self.buffer[self.used..];
            if let Some(end) = unused.iter().position(|byte| *byte == b'\n') {
                let line = unused[..end].strip_suffix(b"\r").unwrap_or(&unused[..end]).to_vec();
                self.used += end + 1;
                return Ok(line);
            }
            if unused.len() > MOST_HEAD {
                return Err(broken("a line is too long"));
            }
            if !self.more()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            body.extend_from_slice(&self.buffer[self.used..]);
            self.used = self.buffer.len();
            self.check(body.len() as u64)?;
            if !self.more()? {
                return Ok(body);
            }
        }
    }
}

/// The head at the front of `bytes`; `None` if it is not complete.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(broken(&error.to_string())),
    };
    let is = |name: &'static str| move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
    let mut may_keep = response.version == Some(1);
    for connection in response.headers.iter().filter(is("connection")) {
        let mut options = connection.value.split(|byte| *byte == b',');
        may_keep &= !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"));
    }
    let coding = response.headers.iter().filter(is("transfer-encoding")).map(|field| field.value);
    let lengths = response.headers.iter().filter(is("content-length")).map(|field| field.value);
    let framing = framing(coding.collect(), lengths.collect())?;
    let headers =
        response.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    Ok(Some(Head { status: response.code.unwrap_or_default(), headers, framing, may_keep, length }))
}

/// RFC 9112 section 6.3, for answers.
fn framing(codings: Vec<&[u8]>, lengths: Vec<&[u8]>) -> io::Result<Framing> {
    match (&*codings, &*lengths) {
        ([], []) => Ok(Framing::UntilEnd),
        ([coding], []) if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], [length]) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
            length.map(Framing::Length).ok_or_else(|| broken("its length is no number"))
        }
        _ => Err(broken("it is not clear where its body ends")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<(Fetched, bool)> {
        Incoming::new(&mut &bytes[..], 100).read(false)
    }

    fn body(bytes: &[u8]) -> (Vec<u8>, bool) {
        let (fetched, may_keep) = read(bytes).unwrap();
        (fetched.body, may_keep)
    }

    #[test]
    fn bodies_end_where_their_framing_says() {
        let ok = |text: &str| body(format!("HTTP/1.1 200 OK\r\n{text}").as_bytes());
        assert_eq!(ok("Content-Length: 3\r\n\r\nabc"), (b"abc".to_vec(), true));
        assert_eq!(ok("Content-Length: 3\r\n\r\nabcd"), (b"abc".to_vec(), false));
        assert_eq!(ok("Connection: Close\r\nContent-Length: 0\r\n\r\n"), (vec![], false));
        let chunked = "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\n";
        assert_eq!(ok(chunked), (b"abc".to_vec(), true));
        assert_eq!(ok("\r\nabc"), (b"abc".to_vec(), false));
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(read(interim).unwrap().0.status, 204);
    }

    #[test]
    fn what_is_cut_or_unclear_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
