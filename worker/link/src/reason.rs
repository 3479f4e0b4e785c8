//! The words with which the access log says why a request has failed, as far as the proxy and a worker's own listener can both
//! fail one so; `docs/operation.md` explains them to users. What only the proxy can say is in its own table.

/// Request line over `limits.request_line`.
pub const REQUEST_LINE_TOO_LONG: &str = "request-line-too-long";
/// Head over `limits.header_bytes`.
pub const HEAD_TOO_LARGE: &str = "head-too-large";
/// More header fields than `limits.headers`.
pub const TOO_MANY_HEADERS: &str = "too-many-headers";
/// Body over `limits.body`, announced or counted.
pub const BODY_TOO_LARGE: &str = "body-too-large";
/// A line of the head ends in LF without CR.
pub const BARE_LINE_FEED: &str = "bare-line-feed";
/// The request line is not `method SP target SP version`.
pub const BAD_REQUEST_LINE: &str = "bad-request-line";
/// A header line is not `name: value`.
pub const BAD_HEADER: &str = "bad-header";
/// A header value goes on in the next line.
pub const FOLDED_HEADER: &str = "folded-header";
/// Neither HTTP/1.0 nor HTTP/1.1.
pub const UNKNOWN_VERSION: &str = "unknown-version";
/// `CONNECT`.
pub const TUNNEL: &str = "tunnel";
/// `Content-Length` is repeated, a list, or not a number.
pub const BAD_LENGTH: &str = "bad-length";
/// `Content-Length` together with `Transfer-Encoding`.
pub const LENGTH_AND_CHUNKED: &str = "length-and-chunked";
/// A transfer coding other than `chunked`.
pub const UNKNOWN_CODING: &str = "unknown-coding";
/// `Transfer-Encoding` is malformed, or `chunked` is repeated or not the last.
pub const BAD_CODING: &str = "bad-coding";
/// `Expect` asks for something other than `100-continue`.
pub const UNKNOWN_EXPECTATION: &str = "unknown-expectation";
/// `Transfer-Encoding` in HTTP/1.0.
pub const CHUNKED_IN_OLD_VERSION: &str = "chunked-in-old-version";
/// No `Host` in HTTP/1.1.
pub const NO_HOST: &str = "no-host";
/// `Host` is repeated or not a host.
pub const BAD_HOST: &str = "bad-host";
/// The chunked body breaks its own framing.
pub const BAD_CHUNK: &str = "bad-chunk";
/// The trailers of a chunked body are too long.
pub const TRAILERS_TOO_LARGE: &str = "trailers-too-large";
/// The head did not arrive within `timeouts.header`.
pub const SLOW_HEAD: &str = "slow-head";
/// The body made no progress for `timeouts.body`, or came more slowly than `limits.body_rate`.
pub const SLOW_BODY: &str = "slow-body";
/// The client closed its connection.
pub const CLIENT_GONE: &str = "client-gone";
/// The client read nothing for `timeouts.write`.
pub const CLIENT_STALLED: &str = "client-stalled";
/// The application took longer than `timeouts.request`, or than it had allowed itself.
pub const REQUEST_TIMEOUT: &str = "request-timeout";
/// The application raised an exception, before its answer or in it.
pub const APP_ERROR: &str = "app-error";
/// The application ended the request without an answer.
pub const APP_CUT: &str = "app-cut";
/// The application's answer was shorter than it had announced.
pub const SHORT_BODY: &str = "short-body";
/// `limits.waiting` requests waited for a core of the worker already.
pub const WORKER_BUSY: &str = "worker-busy";
