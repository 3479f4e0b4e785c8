//! A small HTTP/1.1 client: `http://` only, no redirects, whole bodies. Connections are kept and used again. What arrives is
//! read by `incoming`.
use crate::net::TcpStream;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

mod incoming;
use incoming::Incoming;

/// How long connecting, and each read and write, may take unless [`Fetch::timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest body of an answer in bytes unless [`Fetch::most`] says otherwise.
const MOST_BODY: usize = 16 * 1024 * 1024;
/// Idle connections that are kept for each server.
const MOST_IDLE: usize = 8;
/// They are not used again after this: servers close theirs after 5 s (Node.js) to 75 s (nginx).
const IDLE: Duration = Duration::from_secs(4);
/// Header fields that say where a request goes and where it ends: a second one would contradict the first.
const OURS: [&str; 3] = ["host", "content-length", "transfer-encoding"];

thread_local! {
    /// Idle connections by `host:port`, the latest last. Never borrowed across a wait.
    static KEPT: RefCell<HashMap<String, Vec<(Instant, TcpStream)>>> = RefCell::default();
}

/// `GET` of an `http://` address: the whole answer, whatever its status.
pub fn fetch(url: &str) -> io::Result<Fetched> {
    Fetch::new("GET", url).send()
}

/// A request to another server.
#[derive(Debug)]
pub struct Fetch<'a> {
    method: &'a str,
    url: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
    timeout: Duration,
    most: usize,
}

/// What another server has answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The status.
    pub status: u16,
    /// The header fields in the order they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Fetched {
    /// The first header field of that name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let field = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_slice())
    }
}

impl<'a> Fetch<'a> {
    /// A request without a body.
    pub fn new(method: &'a str, url: &'a str) -> Fetch<'a> {
        Fetch { method, url, headers: Vec::new(), body: b"", timeout: TIMEOUT, most: MOST_BODY }
    }

    /// Adds a header field. `Host` and `Content-Length` are written anyway, and may not be added.
    pub fn header(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Fetch<'a> {
        self.headers.push((name, value.as_ref()));
        self
    }

    /// Sends this body.
    pub fn body(mut self, body: &'a (impl AsRef<[u8]> + ?Sized)) -> Fetch<'a> {
        self.body = body.as_ref();
        self
    }

    /// How long connecting, and each read and write, may take.
    pub fn timeout(mut self, timeout: Duration) -> Fetch<'a> {
        self.timeout = timeout;
        self
    }

    /// Largest body of the answer in bytes; a longer one is an error.
    pub fn most(mut self, most: usize) -> Fetch<'a> {
        self.most = most;
        self
    }

    /// Sends it and waits for the whole answer.
    pub fn send(&self) -> io::Result<Fetched> {
        let about = |error: io::Error| {
            io::Error::new(error.kind(), format!("{} {:?}: {error}", self.method, self.url))
        };
        self.try_send().map_err(about)
    }

    fn try_send(&self) -> io::Result<Fetched> {
        let target = Target::parse(self.url).map_err(wrong)?;
        let message = self.message(&target)?;
        while let Some(stream) = take_kept(&target.authority) {
            // A server may close an idle connection at the moment at which it is used again; nothing was answered then.
            match self.exchange(stream, &message, &target) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset && self.may_repeat() => {}
                other => return other,
            }
        }
        let stream = TcpStream::connect(&target.authority, Some(self.timeout))?;
        stream.set_nodelay(true)?;
        self.exchange(stream, &message, &target)
    }

    fn may_repeat(&self) -> bool {
        ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"].contains(&self.method)
    }

    fn exchange(&self, mut stream: TcpStream, message: &[u8], target: &Target) -> io::Result<Fetched> {
        // One that was kept has those of another request.
        stream.set_read_timeout(Some(self.timeout));
        stream.set_write_timeout(Some(self.timeout));
        stream.write_all(message).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => ErrorKind::ConnectionReset.into(),
            _ => error,
        })?;
        let (fetched, may_keep) = Incoming::new(&mut stream, self.most).read(self.method == "HEAD")?;
        if may_keep {
            keep(&target.authority, stream);
        }
        Ok(fetched)
    }

    /// The bytes of the request.
    fn message(&self, target: &Target) -> io::Result<Vec<u8>> {
        let is_token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        let is_value = |value: &[u8]| value.iter().all(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        let is_sound = |(name, value): &(&str, &[u8])| is_token(name) && is_value(value);
        if !is_token(self.method) || !self.headers.iter().all(is_sound) {
            return Err(wrong("its method or one of its header fields is not valid"));
        }
        let is_ours = |name: &str| OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        if self.headers.iter().any(|(name, _)| is_ours(name)) {
            return Err(wrong(
                "Host, Content-Length and Transfer-Encoding are written by fetch; leave them out",
            ));
        }
        let mut out =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, target.path, target.host).into_bytes();
        for (name, value) in &self.headers {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        if !self.body.is_empty() || ["POST", "PUT", "PATCH"].contains(&self.method) {
            out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body);
        Ok(out)
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why)
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// As in the address.
    host: String,
    /// `host:port`.
    authority: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Target, &'static str> {
        let rest = url.strip_prefix("http://").ok_or("only http:// can be fetched")?;
        let rest = rest.split('#').next().unwrap_or_default();
        if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err("it has a space or a control character in it");
        }
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if host.is_empty() || host.contains('@') {
            return Err("it names no server");
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Target { host: host.to_owned(), authority, path })
    }
}

fn take_kept(authority: &str) -> Option<TcpStream> {
    KEPT.with_borrow_mut(|kept| {
        let idle = kept.get_mut(authority)?;
        let found = std::iter::from_fn(|| idle.pop())
            .find(|(since, stream)| since.elapsed() < IDLE && stream.is_quiet());
        if idle.is_empty() {
            kept.remove(authority);
        }
        found.map(|(_, stream)| stream)
    })
}

fn keep(authority: &str, stream: TcpStream) {
    KEPT.with_borrow_mut(|kept| {
        kept.retain(|_, idle| idle.last().is_some_and(|(since, _)| since.elapsed() < IDLE));
        let idle = kept.entry(authority.to_owned()).or_default();
        idle.push((Instant::now(), stream));
        if idle.len() > MOST_IDLE {
            idle.remove(0);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn addresses_are_taken_apart() {
        let parts = |url: &str| Target::parse(url).map(|target| (target.authority, target.path));
        assert_eq!(parts("http://a"), Ok(("a:80".to_owned(), "/".to_owned())));
        assert_eq!(parts("http://a:81/b?c#d"), Ok(("a:81".to_owned(), "/b?c".to_owned())));
        assert_eq!(parts("http://[::1]?c"), Ok(("[::1]:80".to_owned(), "/?c".to_owned())));
        for url in ["https://a", "http://", "http:///b", "http://u@a/", "http://a/b c", "ftp://a"] {
            assert!(parts(url).is_err(), "{url}");
        }
    }

    /// Reads the head of a request.
    fn head(stream: &mut std::net::TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
    }

    #[test]
    fn a_connection_is_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for body in ["one", "three"] {
                head(&mut stream);
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
            // The third request has no answer.
            head(&mut stream);
            stream
        });
        assert_eq!(fetch(&url).unwrap().body, b"one");
        assert_eq!(fetch(&url).unwrap().body, b"three");
        let began = Instant::now();
        let late = Fetch::new("GET", &url).timeout(Duration::from_millis(20)).send();
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < TIMEOUT, "its own time-out counts, not that of who made the connection");
        server.join().unwrap();
    }

    #[test]
    fn what_would_break_the_request_is_refused() {
        for (name, value) in [("A", "b\r\nC: d"), ("host", "a"), ("Transfer-Encoding", "chunked")] {
            let wrong = Fetch::new("GET", "http://127.0.0.1:1/").header(name, value).send();
            assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn an_error_names_what_was_fetched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        drop(listener);
        let error = fetch(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&format!("GET {url:?}: ")), "{error}");
    }
}
