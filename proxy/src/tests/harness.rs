//! A proxy in this process, fake workers on unix sockets, and a client that speaks raw bytes. Everything has a deadline.
use super::link;
use crate::{Load, Mode, Occurrence, Pulse, Style, Upstreams, WorkerId, runtime};
use appliance_config::Settings;
use appliance_config::settings::{Endpoint, Limits, Listen, Log, Timeouts};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Longest wait of any test.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A directory that vanishes with its owner.
pub(super) struct Dir(pub(super) PathBuf);

impl Dir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("appliance-proxy-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One request as a fake worker got it.
pub(super) struct Request {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The value of a header that occurs once; `None` if it is missing.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// What a fake worker does with a request; false: it closes the connection.
pub(super) type Handler = Arc<dyn Fn(Request, &mut UnixStream) -> bool + Send + Sync>;

/// Answers every request with its head and body, so that a test sees what arrived.
pub(super) fn echo() -> Handler {
    Arc::new(|request, stream| {
        let text = [request.head.as_bytes(), &request.body].concat();
        let head =
            format!("HTTP/1.1 200 OK\r\nx-appliance-core: 3 1500\r\ncontent-length: {}\r\n\r\n", text.len());
        stream.write_all(&[head.as_bytes(), &text].concat()).is_ok()
    })
}

/// Answers every request with these bytes.
pub(super) fn says(text: &'static str) -> Handler {
    Arc::new(move |_, stream| stream.write_all(text.as_bytes()).is_ok())
}

/// The board of the fake workers.
pub(super) struct Board {
    sockets: Vec<PathBuf>,
    pub(super) loads: Mutex<Vec<Load>>,
    pub(super) mode: Mutex<Mode>,
    /// How many workers there are at the moment.
    pub(super) count: AtomicU32,
    pub(super) pulse: Mutex<Pulse>,
    /// What has been counted.
    pub(super) counted: Mutex<Vec<Occurrence>>,
    /// Requests and connections that each worker has got.
    pub(super) requests: Vec<AtomicUsize>,
    pub(super) connections: Vec<AtomicUsize>,
}

impl Upstreams for Board {
    fn count(&self) -> u32 {
        self.count.load(SeqCst)
    }

    fn capacity(&self) -> u32 {
        self.sockets.len() as u32
    }

    fn socket(&self, worker: WorkerId) -> &Path {
        &self.sockets[worker as usize - 1]
    }

    fn load(&self, worker: WorkerId) -> Load {
        self.loads.lock().unwrap()[worker as usize - 1]
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    fn retry_after(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn publish(&self, pulse: &Pulse) {
        *self.pulse.lock().unwrap() = *pulse;
    }

    fn count_in(&self, what: Occurrence) {
        self.counted.lock().unwrap().push(what);
    }

    fn log_style(&self, log: &Log) -> Option<Style> {
        log.access.then_some(Style::Json)
    }

    fn write_log(&self, _lines: &[u8]) {}

    fn has_served(&self) -> bool {
        true
    }

    fn metrics(&self, pulse: &Pulse) -> String {
        format!("connections {}\n", pulse.connections)
    }
}

/// A running proxy with its fake workers.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) board: Arc<Board>,
    pub(super) dir: Dir,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<u64>>,
}

impl Proxy {
    /// With these workers, all ready, one core each.
    pub(super) fn start(handlers: Vec<Handler>) -> Self {
        Self::with(handlers, |_| {})
    }

    /// With changed settings.
    pub(super) fn with(handlers: Vec<Handler>, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = Dir::new();
        let board = Arc::new(Board {
            sockets: (1..=handlers.len()).map(|id| dir.0.join(format!("worker-{id}.sock"))).collect(),
            loads: Mutex::new(vec![
                Load {
                    ready: true,
                    stalled: false,
                    instance: 1,
                    cores: 1,
                    busy: 0,
                    waiting: 0
                };
                handlers.len()
            ]),
            mode: Mutex::default(),
            count: AtomicU32::new(handlers.len() as u32),
            pulse: Mutex::default(),
            counted: Mutex::default(),
            requests: handlers.iter().map(|_| AtomicUsize::new(0)).collect(),
            connections: handlers.iter().map(|_| AtomicUsize::new(0)).collect(),
        });
        for (index, handler) in handlers.into_iter().enumerate() {
            let listener = UnixListener::bind(&board.sockets[index]).unwrap();
            let board = board.clone();
            std::thread::spawn(move || worker(&listener, index, &board, &handler));
        }
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(dir.0.join("public.sock")).unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, admin_address) = (public.local_addr().unwrap(), admin.local_addr().unwrap());
        public.set_nonblocking(true).unwrap();
        unix.set_nonblocking(true).unwrap();
        let mut settings = settings();
        settings.listen = [Endpoint::Tcp(address), Endpoint::Unix(dir.0.join("public.sock"))]
            .map(|address| Listen { address })
            .to_vec();
        change(&mut settings);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let upstreams: Arc<dyn Upstreams> = board.clone();
        let serve = move || {
            let stop = || {
                Ok(async {
                    let _ = stopped.await;
                })
            };
            let listeners = vec![public.into(), unix.into()];
            let ready = || ready.send(()).unwrap();
            runtime::serve(&settings, listeners, Some(admin), &upstreams, ready, stop).unwrap()
        };
        let served = Some(std::thread::spawn(serve));
        is_ready.recv_timeout(PATIENCE).unwrap();
        Self { address, admin: admin_address, board, dir, stop: Some(stop), served }
    }

    pub(super) fn client(&self) -> Client<TcpStream> {
        Client::to(self.address)
    }

    pub(super) fn unix_client(&self) -> Client<UnixStream> {
        let stream = UnixStream::connect(self.dir.0.join("public.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream, received: Vec::new() }
    }

    /// One request on a connection of its own, to the end of the connection.
    pub(super) fn ask(&self, request: &str) -> String {
        let mut client = self.client();
        client.send(request);
        client.rest()
    }

    pub(super) fn requests(&self, worker: usize) -> usize {
        self.board.requests[worker - 1].load(SeqCst)
    }

    /// As SIGTERM does.
    pub(super) fn begin_drain(&mut self) {
        drop(self.stop.take());
    }

    /// The number of requests that were cut.
    pub(super) fn ended(&mut self) -> u64 {
        self.served.take().unwrap().join().unwrap()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.served.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.begin_drain();
        if let Some(served) = self.served.take() {
            let _ = served.join();
        }
    }
}

/// A client connection.
pub(super) struct Client<S> {
    pub(super) stream: S,
    received: Vec<u8>,
}

impl Client<TcpStream> {
    pub(super) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// Says that nothing more is sent.
    pub(super) fn close_writing(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(super) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Everything up to and with `end`.
    pub(super) fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|bytes| bytes == end.as_bytes()) {
                let rest = self.received.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.received, rest)).unwrap();
            }
            assert!(self.more().unwrap() > 0, "closed after {:?}", String::from_utf8_lossy(&self.received));
        }
    }

    /// Everything until the connection is closed.
    pub(super) fn rest(&mut self) -> String {
        while self.more().unwrap() > 0 {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    /// A whole answer with `Content-Length`: head and body.
    pub(super) fn answer(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n");
        let length: usize = header(&head, "content-length").unwrap().parse().unwrap();
        while self.received.len() < length {
            assert!(self.more().unwrap() > 0);
        }
        let rest = self.received.split_off(length);
        (head, String::from_utf8(std::mem::replace(&mut self.received, rest)).unwrap())
    }

    pub(super) fn more(&mut self) -> std::io::Result<usize> {
        let mut space = [0; 4096];
        let count = self.stream.read(&mut space)?;
        self.received.extend_from_slice(&space[..count]);
        Ok(count)
    }
}

/// The value of a header that occurs at most once in `head`.
pub(super) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    });
    let value = values.next();
    assert_eq!(values.next(), None, "{name} occurs twice in {head}");
    value
}

/// Waits for a condition.
pub(super) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::yield_now();
    }
}

/// Serves one fake worker's socket: links, and HTTP.
pub(super) fn worker(listener: &UnixListener, index: usize, board: &Arc<Board>, handler: &Handler) {
    for stream in listener.incoming() {
        let (board, handler, mut stream) = (board.clone(), handler.clone(), stream.unwrap());
        std::thread::spawn(move || {
            let mut first = vec![0];
            if stream.read_exact(&mut first).is_err() {
                return;
            }
            board.connections[index].fetch_add(1, SeqCst);
            if first[0] == appliance_link::hello::FIRST_BYTE {
                return link::serve(stream, index, &board, &handler);
            }
            while let Some(request) = read_request(std::mem::take(&mut first), &mut stream) {
                board.requests[index].fetch_add(1, SeqCst);
                if !handler(request, &mut stream) {
                    return;
                }
            }
        });
    }
}

/// Head and, if it has a length, body of the next request, which begins with `head`. A chunked body is left to the handler.
pub(super) fn read_request(mut head: Vec<u8>, stream: &mut UnixStream) -> Option<Request> {
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut body = vec![0; header(&head, "content-length").map_or(0, |length| length.parse().unwrap())];
    if header(&head, "x-stream").is_none() {
        stream.read_exact(&mut body).ok()?;
    }
    Some(Request { head, body })
}

/// What the configuration says by itself; but short of nothing, and impatient in nothing.
pub(crate) fn settings() -> Settings {
    let flags = [("app.module", "m"), ("log.format", "json")];
    let request = appliance_config::Request {
        dir: "/".into(),
        flags: flags.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
        cpus: 1,
        ..appliance_config::Request::default()
    };
    let mut settings = appliance_config::load(&request).unwrap().settings;
    let second = Duration::from_secs(1);
    settings.listen.clear();
    settings.timeouts = Timeouts {
        header: 5 * second,
        body: 5 * second,
        write: 5 * second,
        keepalive: 5 * second,
        connect: 5 * second,
        response: 5 * second,
        queue: 5 * second,
        ..settings.timeouts
    };
    settings.limits = Limits {
        request_line: 1000,
        header_bytes: 8000,
        headers: 50,
        body: 1_000_000,
        body_rate: 1000,
        body_buffer: 1000,
        write_buffer: 1000,
        stream_window: 256 * 1024,
        waiting: 10,
        queue: 100,
        connections: 100,
        ..settings.limits
    };
    settings.proxy.threads = 2;
    settings.log.access = false;
    settings
}
