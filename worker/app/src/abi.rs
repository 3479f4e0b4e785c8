//! The C interface between a worker and a native application: what a library exports, and the functions it may call. The
//! header `packaging/include/appliance.h` is generated from this file. Only plain types cross the interface; no panic and no
//! exception does, in either direction.
//!
//! Every function but `log` and those of caches and metrics acts on the request whose coroutine calls it. On any other thread it answers
//! `-EPERM`. A function that waits lets the other requests run meanwhile; it answers `-ECANCELED` once the request has been
//! ended (its client has left, it took too long, its answer is complete), and then the application returns as soon as it can.
//!
//! The functions of caches and metrics belong to no request: they may be called on any thread of a worker, and never wait for
//! more than their turn to write. Metrics may be had while the library is loaded, too; caches are opened in the workers.

use std::ffi::{c_char, c_void};

/// Version of this interface. It changes when anything in this file does that an older application would misunderstand;
/// functions that are added at the end of [`ApplianceHost`] do not change it.
pub const APPLIANCE_VERSION: u32 = 1;

/// What [`ApplianceHost::ready`] waits for: something to read, or an end.
pub const APPLIANCE_READ: u32 = 1;
/// What [`ApplianceHost::ready`] waits for: room to write.
pub const APPLIANCE_WRITE: u32 = 2;

/// [`ApplianceHost::text`]: the method, such as `GET`.
pub const APPLIANCE_METHOD: u32 = 0;
/// [`ApplianceHost::text`]: the request target as it was sent, such as `/a%20b?c`.
pub const APPLIANCE_TARGET: u32 = 1;
/// [`ApplianceHost::text`]: the path, still percent-encoded.
pub const APPLIANCE_PATH: u32 = 2;
/// [`ApplianceHost::text`]: what stands after the first `?`; empty if there is none.
pub const APPLIANCE_QUERY: u32 = 3;
/// [`ApplianceHost::text`]: the client's address without a port; empty on a unix socket without a proxy.
pub const APPLIANCE_CLIENT: u32 = 4;
/// [`ApplianceHost::text`]: `http` or `https`, as the client sees it.
pub const APPLIANCE_SCHEME: u32 = 5;
/// [`ApplianceHost::text`]: by what the logs know the request (`X-Request-ID`); may be empty.
pub const APPLIANCE_REQUEST_ID: u32 = 6;

/// [`ApplianceMetric::kind`]: it only grows.
pub const APPLIANCE_COUNTER: u32 = 1;
/// [`ApplianceMetric::kind`]: it goes up and down.
pub const APPLIANCE_GAUGE: u32 = 2;
/// [`ApplianceMetric::kind`]: how many observations there were, in ranges of their size, and their sum.
pub const APPLIANCE_HISTOGRAM: u32 = 3;

/// [`ApplianceHost::metric_change`]: adds to it; a counter takes nothing that is less than 0.
pub const APPLIANCE_ADD: u32 = 1;
/// [`ApplianceHost::metric_change`]: replaces the value of a gauge.
pub const APPLIANCE_SET: u32 = 2;
/// [`ApplianceHost::metric_change`]: replaces the value of a gauge, unless it is more already.
pub const APPLIANCE_MAX: u32 = 3;
/// [`ApplianceHost::metric_change`]: replaces the value of a gauge, unless it is less already.
pub const APPLIANCE_MIN: u32 = 4;
/// [`ApplianceHost::metric_change`]: counts an observation of a histogram.
pub const APPLIANCE_OBSERVE: u32 = 5;

/// What [`ApplianceHost::websocket_receive`] has received, or [`ApplianceHost::websocket_send`] sends: text, which is UTF-8.
pub const APPLIANCE_MESSAGE_TEXT: u32 = 1;
/// What [`ApplianceHost::websocket_receive`] has received, or [`ApplianceHost::websocket_send`] sends: bytes.
pub const APPLIANCE_MESSAGE_BINARY: u32 = 2;

/// Bytes that belong to somebody else, not terminated. What describes a request is valid until the application returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ApplianceText {
    /// The first of them; may be null if there are none.
    pub data: *const c_char,
    /// How many.
    pub length: usize,
}

/// A function that runs in a coroutine or on a thread of its own, with what was handed over for it.
pub type ApplianceRun = Option<unsafe extern "C" fn(data: *mut c_void)>;

/// A function that is shown bytes, which are valid until it returns, with what was handed over for it.
pub type ApplianceShow = Option<unsafe extern "C" fn(data: *mut c_void, text: ApplianceText)>;

/// What a metric is to be. Its texts are UTF-8.
#[repr(C)]
#[derive(Debug)]
pub struct ApplianceMetric {
    /// [`APPLIANCE_COUNTER`], [`APPLIANCE_GAUGE`] or [`APPLIANCE_HISTOGRAM`].
    pub kind: u32,
    /// Its name, such as `shop_orders_total`.
    pub name: ApplianceText,
    /// What it counts or measures.
    pub help: ApplianceText,
    /// Names of its labels; may be null if there are none.
    pub labels: *const ApplianceText,
    /// How many.
    pub label_count: usize,
    /// Upper bounds of a histogram's ranges, ascending, at most 24; may be null if there are none.
    pub bounds: *const f64,
    /// How many.
    pub bound_count: usize,
}

/// A label of a series. Both are UTF-8.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ApplianceLabel {
    /// Its name.
    pub name: ApplianceText,
    /// Its value.
    pub value: ApplianceText,
}

/// The functions that a worker offers. Those that answer a number answer a negative `errno` when they fail.
#[repr(C)]
#[derive(Debug)]
pub struct ApplianceHost {
    /// [`APPLIANCE_VERSION`] of the worker.
    pub version: u32,
    /// Size of this structure in bytes: what lies beyond is not there.
    pub size: u32,
    /// One of the texts of the request.
    pub text: unsafe extern "C" fn(what: u32) -> ApplianceText,
    /// The value of the first header field of that name, in any case of letters; 0, or 1 if there is none.
    pub header: unsafe extern "C" fn(name: ApplianceText, value: *mut ApplianceText) -> i32,
    /// The header field at a place, from 0; 0, or 1 if there are no more.
    pub header_at:
        unsafe extern "C" fn(index: usize, name: *mut ApplianceText, value: *mut ApplianceText) -> i32,
    /// Reads on in the body of the request: how many bytes, 0 at its end. Waits for them.
    pub read: unsafe extern "C" fn(into: *mut c_char, size: usize) -> isize,
    /// Sets the status of the answer, from 200 to 599; it is 200 if nobody does. Only before the first byte is sent.
    pub set_status: unsafe extern "C" fn(status: u16) -> i32,
    /// Adds a header field to the answer. Only before the first byte is sent.
    pub add_header: unsafe extern "C" fn(name: ApplianceText, value: ApplianceText) -> i32,
    /// Adds to the body of the answer. The first 16 KiB are kept until the application returns, so that a small answer leaves
    /// in one piece and with its length. Waits while the client is slower, and while another coroutine of the request writes.
    pub write: unsafe extern "C" fn(data: ApplianceText) -> i32,
    /// Sends what has been kept.
    pub flush: unsafe extern "C" fn() -> i32,
    /// Adds so many bytes of a regular file to the body, from `offset` on, without reading them where the kernel can do that.
    /// The descriptor stays the caller's. `-ENODATA`: the file ends before that. If it fails when something of the answer has
    /// left, the answer is cut.
    pub send_file: unsafe extern "C" fn(fd: i32, offset: u64, count: u64) -> i32,
    /// Says why the request failed, or why the application cannot be loaded; it then returns something other than 0.
    pub fail: unsafe extern "C" fn(why: ApplianceText) -> i32,
    /// Waits so many microseconds; 0 lets the others have one turn.
    pub sleep: unsafe extern "C" fn(micros: u64) -> i32,
    /// Waits until a descriptor is ready ([`APPLIANCE_READ`], [`APPLIANCE_WRITE`], or both), at most so many microseconds
    /// (negative: for ever): 1, or 0 if that time has passed. It may be wrong about readiness, so the caller tries and
    /// waits again.
    pub ready: unsafe extern "C" fn(fd: i32, what: u32, micros: i64) -> i32,
    /// Runs a function in a coroutine of the same request, at once, until it first waits: its number, at least 0. Those that
    /// still run when the application returns are ended. `-EAGAIN`: the request has 4096 already.
    pub spawn: unsafe extern "C" fn(run: ApplianceRun, data: *mut c_void) -> i64,
    /// Waits until that coroutine has returned. `-EDEADLK`: it would never, because it waits for the one that calls this, or is
    /// that one.
    pub join: unsafe extern "C" fn(number: i64) -> i32,
    /// Runs a function on a thread of a pool, where it may block, and waits until it has returned. After `-ECANCELED` it may
    /// still run, after any other failure it will not.
    pub blocking: unsafe extern "C" fn(run: ApplianceRun, data: *mut c_void) -> i32,
    /// Which worker this is, from 1.
    pub worker_id: unsafe extern "C" fn() -> i32,
    /// Writes a line to the log, on any thread: 0 an error, 1 a warning, 2 news, 3 for whoever debugs.
    pub log: unsafe extern "C" fn(level: u32, line: ApplianceText) -> i32,
    /// What the worker publishes of itself, as JSON: into `into`, if there is room, and how long it is.
    pub status: unsafe extern "C" fn(into: *mut c_char, size: usize) -> isize,

    /// Why the last function of a cache or a metric, `set_status` or `add_header` that failed on this thread did so, as a sentence:
    /// into `into`, if there is room, and how long it is. This function and those below are not there in an older worker, as `size` says.
    pub reason: Option<unsafe extern "C" fn(into: *mut c_char, size: usize) -> isize>,
    /// The value of a key: into `into`, if there is room, and how long it is; `-ENODATA` if there is none. Of this and of all
    /// functions of caches: an empty name of a cache means the first one, and `-ENOENT` says that it is not configured.
    pub cache_get: Option<
        unsafe extern "C" fn(
            cache: ApplianceText,
            key: ApplianceText,
            into: *mut c_char,
            size: usize,
        ) -> isize,
    >,
    /// Stores a value, for so many microseconds (0: for ever; negative: as long as the cache's `expires` says). With `add` other
    /// than 0 only if the key has none. 0, or 1 if it was there already.
    pub cache_set: Option<
        unsafe extern "C" fn(
            cache: ApplianceText,
            key: ApplianceText,
            value: ApplianceText,
            micros: i64,
            add: u32,
        ) -> i32,
    >,
    /// Removes a key; 0, or 1 if it was not there.
    pub cache_delete: Option<unsafe extern "C" fn(cache: ApplianceText, key: ApplianceText) -> i32>,
    /// Adds to the number of a key, which begins at 0 and lives for so many microseconds from then on (as in `cache_set`), and
    /// gives it. As a value it has 8 bytes, in the order of the machine.
    pub cache_count: Option<
        unsafe extern "C" fn(
            cache: ApplianceText,
            key: ApplianceText,
            by: i64,
            micros: i64,
            number: *mut i64,
        ) -> i32,
    >,
    /// How many microseconds a key has left, negative if it does not expire; 0, or 1 if it is not there.
    pub cache_life:
        Option<unsafe extern "C" fn(cache: ApplianceText, key: ApplianceText, micros: *mut i64) -> i32>,
    /// Shows every key to a function, in no order that means anything.
    pub cache_keys:
        Option<unsafe extern "C" fn(cache: ApplianceText, show: ApplianceShow, data: *mut c_void) -> i32>,
    /// Removes everything.
    pub cache_clear: Option<unsafe extern "C" fn(cache: ApplianceText) -> i32>,
    /// How full it is and what has happened in it, as JSON: into `into`, if there is room, and how long it is.
    pub cache_stats:
        Option<unsafe extern "C" fn(cache: ApplianceText, into: *mut c_char, size: usize) -> isize>,
    /// The number of the metric with that name, made if there is none; `-EINVAL` if it cannot be had. It stays the same for as
    /// long as the appliance runs.
    pub metric: Option<unsafe extern "C" fn(metric: *const ApplianceMetric) -> i64>,
    /// The number of a metric's series with these labels, made if there is none; without labels, of its only one. What is counted
    /// in a series that found no room is lost. `-EINVAL`: one of the labels cannot have that name.
    pub metric_series:
        Option<unsafe extern "C" fn(metric: i64, labels: *const ApplianceLabel, count: usize) -> i64>,
    /// Changes a series, in one atomic operation: [`APPLIANCE_ADD`] and those after it say how.
    pub metric_change: Option<unsafe extern "C" fn(series: i64, how: u32, value: f64) -> i32>,
    /// What all workers have made of a series: its value, and of a histogram the sum of its observations and how many there were.
    pub metric_value:
        Option<unsafe extern "C" fn(series: i64, value: *mut f64, observations: *mut u64) -> i32>,
    /// What a client that wants a WebSocket offers: the subprotocol at a place, from 0, the one that it likes best first; 0, or
    /// 1 if there are no more. `-EPROTO`: the request is no WebSocket handshake.
    pub websocket_offer: Option<unsafe extern "C" fn(index: usize, protocol: *mut ApplianceText) -> i32>,
    /// Makes the connection of the request a WebSocket, with the header fields that were added and this subprotocol (empty:
    /// none): its number, at least 0. `-EPROTO`: the request is no WebSocket handshake; an application that then returns
    /// something other than 0 and does not say why has its client told so. `-EPIPE`: the client has left.
    pub websocket_accept: Option<unsafe extern "C" fn(protocol: ApplianceText) -> i64>,
    /// Waits for the next message of the request's own WebSocket, at most so many microseconds (negative: for ever):
    /// [`APPLIANCE_MESSAGE_TEXT`] or [`APPLIANCE_MESSAGE_BINARY`], 0 if it is closed, `-ETIMEDOUT` if none has come in time. The
    /// bytes are valid until this is called again in the same request, or the application returns.
    pub websocket_receive: Option<unsafe extern "C" fn(data: *mut ApplianceText, micros: i64) -> i32>,
    /// Sends a message, [`APPLIANCE_MESSAGE_TEXT`] or [`APPLIANCE_MESSAGE_BINARY`], on any native WebSocket of this worker.
    /// Waits while its client is slower. `-EPIPE`: it is closed; `-EILSEQ`: the text is not UTF-8.
    pub websocket_send: Option<unsafe extern "C" fn(socket: i64, kind: u32, data: ApplianceText) -> i32>,
    /// Closes a WebSocket of this worker with a code (1000, 1001, 1003, 1007 to 1014, or 3000 to 4999) and a reason of at most
    /// 123 bytes. One that is not closed when its application returns is closed with 1000, or with 1011 if that has failed.
    pub websocket_close: Option<unsafe extern "C" fn(socket: i64, code: u16, reason: ApplianceText) -> i32>,
    /// How the request's own WebSocket was closed, as far as that was noticed: the code (1005: without one, 1006: it has ended
    /// without being closed) and the reason, if `reason` is not null; 0 if it is open.
    pub websocket_closed: Option<unsafe extern "C" fn(reason: *mut ApplianceText) -> i32>,
}

/// An application. What a library exports under the name `appliance_app` is a function of type [`ApplianceEntry`].
#[repr(C)]
#[derive(Debug)]
pub struct ApplianceApp {
    /// [`APPLIANCE_VERSION`] that it was built with.
    pub version: u32,
    /// Size of this structure in bytes.
    pub size: u32,
    /// Serves one request: 0, or anything else if it failed. Called in a coroutine, many times at once.
    pub handle: Option<unsafe extern "C" fn() -> i32>,
    /// Gets ready, once, when the library has been loaded and no worker is forked yet; may be null, or not there, as `size`
    /// says. 0, or anything else if the application cannot be served. Threads that it starts are not there in the workers.
    pub load: Option<unsafe extern "C" fn() -> i32>,
}

/// Called once, in the process that loads the library, before it forks workers: gives the functions and takes the
/// application. Both live as long as the process. Null: the application cannot work with such a host.
pub type ApplianceEntry = unsafe extern "C" fn(host: *const ApplianceHost) -> *const ApplianceApp;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The C header as this file says it. What is a link in Rust's documentation is a name there.
    fn generated(package: &Path) -> String {
        let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).unwrap();
        let builder = cbindgen::Builder::new().with_config(config).with_src(package.join("src/abi.rs"));
        let mut text = Vec::new();
        builder.generate().unwrap().write(&mut text);
        String::from_utf8(text).unwrap().replace("[`", "`").replace("`]", "`")
    }

    #[test]
    fn the_shipped_header_is_the_generated_one() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let shipped = package.join("../../packaging/include/appliance.h");
        let generated = generated(package);
        if std::env::var_os("UPDATE_HEADER").is_some() {
            std::fs::write(&shipped, &generated).unwrap();
        }
        assert!(
            std::fs::read_to_string(&shipped).unwrap() == generated,
            "packaging/include/appliance.h is not what worker/app/src/abi.rs says; write it anew with \
             UPDATE_HEADER=1 cargo test -p appliance-app the_shipped_header"
        );
    }
}
