//! A client in raw bytes: sends what it is given, reads answers as RFC 9112 frames them, and never waits longer than
//! [`DEADLINE`]. It is strict about what it reads and careless about what it sends, as the tests need it.
use super::DEADLINE;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection.
pub struct Client {
    stream: Stream,
    /// Received and not yet part of an answer.
    buffer: Vec<u8>,
    /// Bytes received, also those that have been read.
    received: u64,
    is_ended: bool,
}

/// How an answer said where it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    Length,
    Chunked,
    Close,
    Nothing,
}

/// An answer, complete.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub framing: Framing,
}

impl Answer {
    /// The value of a header field, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

impl Client {
    /// Connects to a port.
    pub fn tcp(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
        stream.set_nodelay(true)?;
        Ok(Client::over(Stream::Tcp(stream)))
    }

    /// Connects to a unix socket.
    pub fn unix(path: &Path) -> io::Result<Client> {
        Ok(Client::over(Stream::Unix(UnixStream::connect(path)?)))
    }

    fn over(stream: Stream) -> Client {
        Client { stream, buffer: Vec::new(), received: 0, is_ended: false }
    }

    /// Address of this end.
    pub fn local(&self) -> SocketAddr {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().unwrap(),
            Stream::Unix(_) => panic!("a unix socket has no port"),
        }
    }

    /// Sends bytes. A server that has refused the request may have closed: that shows in what it answers.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        };
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
    }

    /// `GET` with the next answer.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }

    /// `GET` with further header lines, each with its line end.
    #[track_caller]
    pub fn get_with(&mut self, target: &str, lines: &str) -> Answer {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"));
        self.answer()
    }

    /// `POST` of a body with its length.
    #[track_caller]
    pub fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        let length = body.as_ref().len();
        self.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
        self.send(body);
        self.answer()
    }

    /// `POST` of a body in the chunks given.
    #[track_caller]
    pub fn post_chunks(&mut self, target: &str, chunks: &[&[u8]]) -> Answer {
        self.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"));
        for chunk in chunks {
            self.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        self.send("0\r\n\r\n");
        self.answer()
    }

    /// The next answer.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        match self.try_answer() {
            Ok(answer) => answer,
            Err(error) => panic!("no whole answer: {error}; received {:?}", self.received()),
        }
    }

    /// The answer to a `HEAD` request, which has no body whatever its fields say.
    #[track_caller]
    pub fn answer_to_head(&mut self) -> Answer {
        let deadline = Instant::now() + DEADLINE;
        match self.head(deadline) {
            Ok((status, headers)) => Answer { status, headers, body: Vec::new(), framing: Framing::Nothing },
            Err(error) => panic!("no whole head: {error}; received {:?}", self.received()),
        }
    }

    /// The next answer, or why there is none.
    pub fn try_answer(&mut self) -> io::Result<Answer> {
        let deadline = Instant::now() + DEADLINE;
        let (status, headers) = self.head(deadline)?;
        let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let framing = match (find("transfer-encoding"), find("content-length")) {
            _ if status < 200 || status == 204 || status == 304 => Framing::Nothing,
            (Some(_), _) => Framing::Chunked,
            (None, Some(_)) => Framing::Length,
            (None, None) => Framing::Close,
        };
        let length = find("content-length").and_then(|value| value.parse().ok());
        let body = match framing {
            Framing::Nothing => Vec::new(),
            Framing::Length => self.take(length.ok_or_else(|| wrong("Content-Length"))?, deadline)?,
            Framing::Chunked => self.chunks(deadline)?,
            Framing::Close => self.rest(),
        };
        Ok(Answer { status, headers, body, framing })
    }

    /// The next bytes, so many of them.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.take(count, Instant::now() + DEADLINE)
    }

    /// Everything until the server closes the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + DEADLINE;
        while self.fill(deadline).is_ok() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the server closes the connection within [`DEADLINE`] without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        let ended = self.fill(Instant::now() + DEADLINE);
        self.buffer.is_empty() && ended.is_err_and(|error| error.kind() != io::ErrorKind::TimedOut)
    }

    /// Bytes received since the connection was made.
    pub fn received_so_far(&self) -> u64 {
        self.received
    }

    /// Whether the server was seen to close the connection.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// What has arrived at the end of `pause`, or as soon as something does.
    pub fn arrived_within(&mut self, pause: Duration) -> &[u8] {
        let _ = self.fill(Instant::now() + pause);
        &self.buffer
    }

    fn received(&self) -> String {
        String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(2000)]).into_owned()
    }

    fn head(&mut self, deadline: Instant) -> io::Result<(u16, Vec<(String, String)>)> {
        let first = self.line(deadline)?;
        let mut words = first.split(' ');
        let (version, status) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !version.starts_with("HTTP/1.") {
            return Err(wrong(&first));
        }
        let status = status.parse().map_err(|_| wrong(&first))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line(deadline)?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| wrong(&line))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn chunks(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line(deadline)?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| wrong(&line))?;
            if size == 0 {
                while !self.line(deadline)?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size, deadline)?);
            let end = self.line(deadline)?;
            if !end.is_empty() {
                return Err(wrong(&end));
            }
        }
    }

    /// A line without its CR LF.
    fn line(&mut self, deadline: Instant) -> io::Result<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                break at;
            }
            self.fill(deadline)?;
        };
        let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 2);
        Ok(line)
    }

    fn take(&mut self, size: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        while self.buffer.len() < size {
            self.fill(deadline)?;
        }
        Ok(self.buffer.drain(..size).collect())
    }

    /// Reads once; the end of the stream is an error.
    fn fill(&mut self, deadline: Instant) -> io::Result<()> {
        // A time-out of zero would mean none.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut piece = [0; 64 * 1024];
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut piece)),
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut piece))
            }
        };
        match read {
            Ok(0) => {
                self.is_ended = true;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                self.received += n as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => {
                self.is_ended = true;
                Err(error)
            }
        }
    }
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {text:?}"))
}
